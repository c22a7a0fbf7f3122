/** The last lines of what is said, for a hall or over a picture: gone some seconds after the last word. */

import { Captions } from "./captions.js";

/** @typedef {import("../state/state.js").State} State */

/** Utterances that are held at least: what a reader in a hall can still take in. */
const LEAST_UTTERANCES = 3;

export class LastLines {
  #captions;
  #clear_ms;
  /** @type {State | null} */
  #state = null;
  /** What was cleared: so many utterances, so many words of the last of them, and this tail. */
  #cleared = { utterances: 0, words: 0, tail: "" };
  /** The newest words, told from those before. */
  #newest = "";
  #timer = 0;

  /**
   * @param {HTMLElement} container
   * @param {Pick<import("../state/look.js").Look, "clear" | "lines">} look
   */
  constructor(container, { clear, lines }) {
    this.#captions = new Captions(container, { last: Math.max(LEAST_UTTERANCES, lines) });
    this.#clear_ms = clear * 1000;
  }

  /**
   * Show the last words of this state, as they were said live: another text of them, once all is over, would come like
   * something new.
   *
   * @param {State} state
   */
  render(state) {
    const before = this.#state;
    this.#state = { ...state, isLiveShown: true };
    if (before && state.utterances.length < before.utterances.length) {
      this.#cleared = { utterances: 0, words: 0, tail: "" }; // another session
    }
    const newest = `${state.utterances.length} ${state.utterances.at(-1)?.words.length ?? 0} ${textOfTail(state)}`;
    if (newest !== this.#newest) {
      this.#newest = newest;
      clearTimeout(this.#timer);
      if (this.#clear_ms) this.#timer = setTimeout(() => this.#clear(), this.#clear_ms);
    }
    this.#show();
  }

  #clear() {
    if (!this.#state) return;
    const { utterances } = this.#state;
    this.#cleared = {
      utterances: utterances.length,
      words: utterances.at(-1)?.words.length ?? 0,
      tail: textOfTail(this.#state),
    };
    this.#show();
  }

  #show() {
    if (this.#state) this.#captions.render(this.#rest(this.#state));
  }

  /** What of a state is not cleared. @param {State} state @returns {State} */
  #rest(state) {
    const { utterances: count, words, tail } = this.#cleared;
    if (count === 0 && tail === "") return state;
    const [open, ...later] = state.utterances.slice(Math.max(0, count - 1));
    const rest = open && count > 0 ? { ...open, words: open.words.slice(words) } : open;
    const utterances = rest && rest.words.length > 0 ? [rest, ...later] : later;
    return { ...state, utterances, tail: tail && textOfTail(state) === tail ? [] : state.tail };
  }
}

/** @param {State} state */
function textOfTail({ tail }) {
  return tail.map(({ text }) => text).join("");
}
