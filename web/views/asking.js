/** Asks before a talk is ended: an accidental click must not take the captions from a hall. */

import { TALK } from "../state/words.js";
import { make } from "./elements.js";

export class Asking {
  #dialog = /** @type {HTMLDialogElement} */ (make("dialog", "asking"));
  #about = make("p", "");
  #pause = button(TALK.pause, "pause");

  /** @param {{stop: () => void, pause: () => void}} answers what to do; nothing is done where the talk is to go on */
  constructor({ stop, pause }) {
    const title = make("h2", "");
    const answers = make("div", "answers");
    const goOn = button(TALK.keepGoing, "");
    title.id = "asking-title";
    this.#about.id = "asking-about";
    title.textContent = TALK.askTitle;
    goOn.autofocus = true; // what a stray Enter presses
    answers.append(goOn, this.#pause, button(TALK.stop, "stop"));
    this.#dialog.setAttribute("aria-labelledby", title.id);
    this.#dialog.setAttribute("aria-describedby", this.#about.id);
    this.#dialog.append(title, this.#about, answers);
    document.body.append(this.#dialog);
    answers.addEventListener("click", ({ target }) => {
      if (target instanceof HTMLButtonElement) this.#dialog.close(target.value);
    });
    this.#dialog.addEventListener("close", () => {
      const answer = this.#dialog.returnValue;
      this.#dialog.returnValue = "";
      if (answer === "stop") stop();
      if (answer === "pause") pause();
    });
  }

  /** @param {boolean} isPaused the talk is paused already */
  open(isPaused) {
    if (this.#dialog.open) return;
    this.#about.textContent = isPaused ? TALK.askPaused : TALK.ask;
    this.#pause.hidden = isPaused;
    this.#dialog.showModal();
  }

  /** There is nothing to ask any more. */
  close() {
    this.#dialog.close("");
  }
}

/** @param {string} text @param {string} value */
function button(text, value) {
  const element = /** @type {HTMLButtonElement} */ (make("button", value === "stop" ? "answer ending" : "answer"));
  element.type = "button";
  element.value = value;
  element.textContent = text;
  return element;
}
