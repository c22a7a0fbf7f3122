/** Captions as elements: committed words stay where they are, the tail follows them. Text enters as text only. */

import { tagOf } from "../state/languages.js";
import { isTailLost, shownRevision, shownUtterances } from "../state/state.js";
import { leadingMark, textOf, turnsOf } from "../state/turns.js";
import { make } from "./elements.js";
import { Paragraph } from "./paragraph.js";

/**
 * @typedef {import("../state/state.js").State} State
 * @typedef {import("../state/state.js").Utterance} Utterance
 * @typedef {import("../client/messages.js").Word} Word
 * @typedef {import("../state/speakers.js").Cast} Cast
 * @typedef {{speaker: string | null, words: Word[]}} Turn
 *
 * @typedef {object} Shown  an utterance on the screen
 * @property {HTMLElement} element
 * @property {Paragraph[]} paragraphs
 * @property {Utterance | null} utterance
 * @property {Turn[]} turns
 * @property {string | null} before  who spoke before it
 * @property {string | null} after  who speaks at its end
 * @property {Cast | null} cast
 */

/** So many utterances are a stretch. */
const STRETCH_UTTERANCES = 40;
/** Seconds by which times in messages may be rounded. */
const ROUNDING = 0.002;

export class Captions {
  #container;
  #last;
  #isNameable;
  /** What is on the screen, by the key of its utterance. @type {Map<string, Shown>} */
  #shown = new Map();
  /** The same in order, as it was rendered last. @type {Utterance[]} */
  #utterances = [];
  /** @type {Cast | null} */
  #cast = null;
  /** @type {HTMLElement | null} */
  #newestName = null;
  /** @type {HTMLElement | null} */
  #stretch = null;
  #revision = 0;
  #tail = make("span", "uncommitted");
  #tailSpace = document.createTextNode("");
  #tailWords = make("span", "tail");
  /** Holds the tail where no utterance is open for it. */
  #pending = make("div", "utterance");
  #pendingTurn = new Paragraph(false);

  /**
   * @param {HTMLElement} container
   * @param {{last?: number, isNameable?: boolean}} options `last`: show only so many utterances, always whole ones, so
   *   that lines never break anew while one reads them; `isNameable`: names can be pressed
   */
  constructor(container, { last = Infinity, isNameable = false } = {}) {
    this.#container = container;
    this.#last = last;
    this.#isNameable = isNameable;
    this.#pending.append(this.#pendingTurn.element);
    this.#tail.append(this.#tailSpace, this.#tailWords);
  }

  /**
   * Show the words of this state. What has not changed since the last time is not looked at: an hour into a talk an
   * update must cost no more than in its first minute.
   *
   * @param {State} state
   */
  render(state) {
    const { tail, cast } = state;
    const revision = shownRevision(state);
    this.#tailWords.classList.toggle("lost", isTailLost(state));
    const wanted = shownUtterances(state).slice(-this.#last);
    const from = revision === this.#revision && cast === this.#cast ? commonLength(wanted, this.#utterances) : 0;
    const changed = wanted.slice(from);
    // Of another revision nothing is kept.
    const kept = new Set(revision === this.#revision ? changed.map(keyOf) : []);
    for (const key of this.#utterances.slice(from).map(keyOf)) {
      if (kept.has(key)) continue;
      remove(/** @type {Shown} */ (this.#shown.get(key)).element);
      this.#shown.delete(key);
    }
    this.#revision = revision;
    this.#cast = cast;
    this.#utterances = wanted;
    let speaker = from > 0 ? (this.#shown.get(keyOf(wanted[from - 1]))?.after ?? null) : null;
    for (const utterance of changed) speaker = this.#show(utterance, speaker, cast);
    this.#newestName = this.#nameIn(changed) ?? (this.#newestName?.isConnected ? this.#newestName : this.#nameIn(wanted));
    this.#showTail(wanted.at(-1), tail);
  }

  /** The name that stands last on the screen; null where there is none. @returns {HTMLElement | null} */
  get newestName() {
    return this.#newestName;
  }

  /**
   * The paragraph in which `speaker` says what is said at `time`, or else comes nearest to it.
   *
   * @param {number} time seconds
   * @param {string | null} speaker null for anyone; likewise where nobody of this label is on the screen
   * @returns {HTMLElement | null}
   */
  paragraphAt(time, speaker) {
    const all = [...this.#shown.values()].flatMap(({ turns, paragraphs }) =>
      turns.map((turn, at) => ({ ...turn, element: paragraphs[at].element })),
    );
    const own = all.filter((turn) => turn.speaker === speaker);
    const distance = (/** @type {Turn} */ { words }) =>
      Math.max(0, words[0].start - time, time - words[words.length - 1].end + ROUNDING);
    /** @type {(typeof all)[number] | null} */
    let nearest = null;
    for (const turn of own.length > 0 ? own : all) {
      if (!nearest || distance(turn) < distance(nearest)) nearest = turn;
    }
    return nearest?.element ?? null;
  }

  /** When that is said whose paragraph reaches below `top`, a position in the window; null where none does. @param {number} top */
  timeAt(top) {
    for (const { element, turns, paragraphs } of this.#shown.values()) {
      if (element.getBoundingClientRect().bottom <= top) continue;
      const at = paragraphs.findIndex((paragraph) => paragraph.element.getBoundingClientRect().bottom > top);
      return turns[Math.max(0, at)].words[0].start;
    }
    return null;
  }

  /**
   * @param {Utterance} utterance
   * @param {string | null} before who spoke before it
   * @param {Cast} cast
   * @returns {string | null} who speaks at its end
   */
  #show(utterance, before, cast) {
    const shown = this.#shown.get(keyOf(utterance)) ?? this.#add(utterance);
    if (shown.utterance !== utterance || shown.before !== before || shown.cast !== cast) {
      if (shown.utterance !== utterance) shown.turns = turnsOf(utterance.words);
      this.#showTurns(shown, before, cast);
      shown.element.lang = utterance.language ? tagOf(utterance.language) : "";
      const after = shown.turns.findLast(({ speaker }) => speaker)?.speaker ?? before;
      Object.assign(shown, { utterance, before, after, cast });
    }
    return shown.after;
  }

  /** The last name that stands in these. @param {Utterance[]} utterances @returns {HTMLElement | null} */
  #nameIn(utterances) {
    for (let at = utterances.length - 1; at >= 0; at--) {
      const named = this.#shown.get(keyOf(utterances[at]))?.paragraphs.findLast(({ name }) => name);
      if (named) return named.name;
    }
    return null;
  }

  /** @param {Utterance} utterance @returns {Shown} */
  #add(utterance) {
    const element = make("div", "utterance");
    this.#home().append(element);
    const shown = { element, paragraphs: [], utterance: null, turns: [], before: null, after: null, cast: null };
    this.#shown.set(keyOf(utterance), shown);
    return shown;
  }

  /** Where the next utterance belongs: in stretches, of which the browser lays out but the last one again. */
  #home() {
    if (this.#last !== Infinity) return this.#container;
    if (!this.#stretch?.isConnected || this.#stretch.childElementCount >= STRETCH_UTTERANCES) {
      this.#stretch = make("div", "stretch");
      this.#container.append(this.#stretch);
    }
    return this.#stretch;
  }

  /** @param {Shown} shown @param {string | null} before @param {Cast} cast */
  #showTurns({ element, turns, paragraphs }, before, cast) {
    for (const { element } of paragraphs.splice(turns.length)) remove(element);
    let speaker = before;
    turns.forEach((turn, at) => {
      if (at === paragraphs.length) {
        paragraphs.push(new Paragraph(this.#isNameable));
        element.append(paragraphs[at].element);
      }
      // The name stands at each change of speaker: again and again it would stand in the way.
      paragraphs[at].show(turn, turn.speaker !== null && turn.speaker !== speaker, cast);
      speaker = turn.speaker ?? speaker;
    });
  }

  /** @param {Utterance | undefined} last @param {Word[]} tail */
  #showTail(last, tail) {
    const open = last && !last.complete ? this.#shown.get(keyOf(last)) : undefined;
    // No paragraph begins with a comma: it belongs to the word before.
    const text = open ? textOf(tail) : textOf(tail).slice(leadingMark(textOf(tail)).length);
    if (this.#tail.textContent !== text) {
      // The space before the first word stands outside of what is underlined.
      this.#tailWords.textContent = text.trimStart();
      this.#tailSpace.data = text.slice(0, text.length - text.trimStart().length);
    }
    if (open || tail.length === 0) {
      this.#pending.remove();
    } else {
      this.#pendingTurn.start = tail[0].start;
      // An utterance rendered since may have come to stand after it.
      if (this.#container.lastElementChild !== this.#pending) this.#container.append(this.#pending);
    }
    const home = open?.paragraphs.at(-1)?.text ?? this.#pendingTurn.text;
    if (this.#tail.parentElement !== home) home.append(this.#tail);
  }
}

/** Tells an utterance, or a part of one, from all others. @param {Utterance} utterance */
function keyOf({ utterance, part = 0 }) {
  return `${utterance}.${part}`;
}

/** How many utterances two lists begin with in common. @param {Utterance[]} one @param {Utterance[]} other */
function commonLength(one, other) {
  let length = 0;
  while (length < one.length && one[length] === other[length]) length++;
  return length;
}

/** Take an element away; a name that is being typed in it counts as typed. @param {HTMLElement} element */
function remove(element) {
  /** @type {HTMLElement | null} */ (element.querySelector(".naming"))?.blur();
  const stretch = element.closest(".stretch");
  element.remove();
  if (stretch?.childElementCount === 0) stretch.remove();
}
