/** Talks that are kept in this browser and that no page goes on with: each is offered, to go on with it or to end it. */

import { offerOf } from "../state/words.js";
import { make } from "./elements.js";

/** @typedef {import("../client/keeping.js").About} About */

export class Offers {
  #container;
  #events;
  #isHidden = false;

  /**
   * @param {HTMLElement} container
   * @param {object} events
   * @param {(id: string) => void} events.goOn
   * @param {(id: string) => void} events.end
   * @param {(id: string) => void} events.erased the reader wants what is kept to be deleted
   */
  constructor(container, events) {
    this.#container = container;
    this.#events = events;
  }

  /** @param {About[]} talks */
  show(talks) {
    const shown = [...this.#container.children].map((child) => /** @type {HTMLElement} */ (child).dataset.talk);
    const isSame = shown.length === talks.length && talks.every(({ id }, at) => id === shown[at]);
    if (!isSame) this.#container.replaceChildren(...talks.map((about) => this.#offer(about))); // else a focus would be lost
    this.#apply();
  }

  /** Talks are not offered while another one goes on. @param {boolean} isHidden */
  hide(isHidden) {
    this.#isHidden = isHidden;
    this.#apply();
  }

  #apply() {
    this.#container.hidden = this.#isHidden || this.#container.childElementCount === 0;
  }

  /** @param {About} about */
  #offer(about) {
    const { id } = about;
    const { title, detail, goOn, end, erase, reallyErase } = offerOf(about);
    const element = make("div", "offer");
    const text = make("p", "offer-text");
    const strong = document.createElement("strong");
    element.dataset.talk = id;
    strong.textContent = title;
    text.append(strong, detail && ` ${detail}`);
    element.append(
      text,
      button(goOn, "offer-main", () => this.#events.goOn(id)),
      button(end, "tool", () => this.#events.end(id)),
    );
    if (erase) element.append(button(erase, "tool", () => confirm(reallyErase) && this.#events.erased(id)));
    return element;
  }
}

/** @param {string} label @param {string} className @param {() => void} act */
function button(label, className, act) {
  const element = document.createElement("button");
  element.type = "button";
  element.className = className;
  element.textContent = label;
  element.addEventListener("click", act);
  return element;
}
