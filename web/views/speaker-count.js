/** How many people speak, where that is known: two numbers, checked where they are typed. */

import { make } from "./elements.js";
import { SPEAKERS } from "./words.js";

/** As `min_speakers` and `max_speakers` of the protocol. */
const MOST = 32;

/** @typedef {import("./choices.js").Choices} Choices */

/**
 * The fields of `start` that say so; none where nothing usable is said.
 *
 * @param {string} least
 * @param {string} most
 * @returns {{min_speakers?: number, max_speakers?: number}}
 */
export function speakerBounds(least, most) {
  const [low, high] = [numberOf(least), numberOf(most)];
  if (low !== null && high !== null && low > high) return {};
  return { ...(low !== null && { min_speakers: low }), ...(high !== null && { max_speakers: high }) };
}

export class SpeakerCount {
  #least;
  #most;
  #problem = make("small", "problem");

  /**
   * @param {HTMLFieldSetElement} fieldset
   * @param {Choices} choices
   * @param {(chosen: Partial<Choices>) => void} choose
   */
  constructor(fieldset, choices, choose) {
    const title = document.createElement("legend");
    title.textContent = SPEAKERS.title;
    this.#problem.id = "speaker-count-problem";
    this.#problem.role = "status";
    fieldset.append(title);
    this.#least = this.#field(fieldset, SPEAKERS.least, "min-speakers", choices.minSpeakers);
    this.#most = this.#field(fieldset, SPEAKERS.most, "max-speakers", choices.maxSpeakers);
    fieldset.append(this.#problem);
    fieldset.addEventListener("input", () => {
      choose({ minSpeakers: this.#least.value, maxSpeakers: this.#most.value });
      this.#check();
    });
    this.#check();
  }

  /** @param {HTMLElement} fieldset @param {string} name @param {string} id @param {string} value */
  #field(fieldset, name, id, value) {
    const label = make("label", "");
    const input = document.createElement("input");
    input.type = "number";
    input.id = id;
    input.min = "1";
    input.max = String(MOST);
    input.value = value;
    input.dataset.locks = "";
    input.setAttribute("aria-describedby", `${this.#problem.id} speakers-locked`);
    label.append(`${name} `, input);
    fieldset.append(label);
    return input;
  }

  #check() {
    const [least, most] = [this.#least, this.#most];
    const isWrong = (/** @type {HTMLInputElement} */ input) =>
      !input.validity.valid || (input.value !== "" && numberOf(input.value) === null);
    const isContradiction = Number(least.value || 1) > Number(most.value || MOST);
    for (const input of [least, most]) input.ariaInvalid = String(isWrong(input) || isContradiction);
    this.#problem.textContent =
      isWrong(least) || isWrong(most) ? SPEAKERS.outOfRange(MOST) : isContradiction ? SPEAKERS.contradiction : "";
  }
}

/** @param {string} text @returns {number | null} */
function numberOf(text) {
  const number = Number(text);
  return text !== "" && Number.isInteger(number) && number >= 1 && number <= MOST ? number : null;
}
