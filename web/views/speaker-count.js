/** How many people speak, where that is known: two numbers, checked where they are typed. */

import { MOST_SPEAKERS, speakersIn } from "../state/choices.js";
import { SPEAKERS } from "../state/words.js";
import { make } from "./elements.js";

/** @typedef {import("../state/choices.js").Choices} Choices */

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
    input.max = String(MOST_SPEAKERS);
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
      !input.validity.valid || (input.value !== "" && speakersIn(input.value) === null);
    const isContradiction = Number(least.value || 1) > Number(most.value || MOST_SPEAKERS);
    for (const input of [least, most]) input.ariaInvalid = String(isWrong(input) || isContradiction);
    this.#problem.textContent =
      isWrong(least) || isWrong(most) ? SPEAKERS.outOfRange(MOST_SPEAKERS) : isContradiction ? SPEAKERS.contradiction : "";
  }
}
