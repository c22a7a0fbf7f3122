/** Hands finished utterances to screen readers: single words would never let them finish. */

import { shownName } from "../state/speakers.js";
import { textOf } from "../state/turns.js";
import { make } from "./elements.js";

/** Utterances that stay in the region, so that it does not grow for hours. */
const KEPT = 5;

/**
 * @typedef {import("../state/state.js").Utterance} Utterance
 * @typedef {import("../state/speakers.js").Cast} Cast
 */

export class Announcer {
  #region;
  /** Place of the first utterance that was not read out yet. */
  #next = 0;
  /** Who spoke last of what was read out. @type {string | null} */
  #speaker = null;

  /** @param {HTMLElement} region a live region */
  constructor(region) {
    this.#region = region;
  }

  /** Begin with another session. */
  restart() {
    this.#next = 0;
    this.#speaker = null;
  }

  /** Take these as read. @param {Utterance[]} utterances */
  skip(utterances) {
    this.#next = Math.max(this.#next, utterances.length);
  }

  /** Read out what is complete and was not read yet. @param {Utterance[]} utterances @param {Cast} cast */
  announce(utterances, cast) {
    for (let at = this.#next; at < utterances.length; at++) {
      const { complete, words } = utterances[at];
      if (!complete) continue;
      this.#next = at + 1;
      const line = make("p", "");
      const speaker = words.find((word) => word.speaker)?.speaker ?? this.#speaker;
      const name = speaker && speaker !== this.#speaker ? `${shownName(speaker, cast)}: ` : "";
      this.#speaker = speaker;
      line.textContent = name + textOf(words).trim();
      this.#region.append(line);
    }
    while (this.#region.childElementCount > KEPT) this.#region.firstElementChild?.remove();
  }
}
