/** Captions as elements: committed words stay where they are, the tail follows them. Text enters as text only. */

import { tagOf } from "./languages.js";
import { leadingMark, textOf, turnsOf } from "./turns.js";
import { clock } from "./words.js";

/**
 * @typedef {import("./state.js").Utterance} Utterance
 * @typedef {import("./messages.js").Word} Word
 */

export class Captions {
  #container;
  #last;
  /** What is on the screen, by utterance. @type {Map<number, {utterance: Utterance, element: HTMLElement}>} */
  #shown = new Map();
  #tail = make("span", "uncommitted");
  #tailSpace = document.createTextNode("");
  #tailWords = make("span", "tail");
  /** Holds the tail where no utterance is open for it. */
  #pending = make("div", "utterance");
  #pendingTurn = turnElement(null, 0);

  /**
   * @param {HTMLElement} container
   * @param {{last?: number}} options `last`: show only so many utterances, always whole ones, so that lines never
   *   break anew while one reads them
   */
  constructor(container, { last = Infinity } = {}) {
    this.#container = container;
    this.#last = last;
    this.#pending.append(this.#pendingTurn.paragraph);
    this.#tail.append(this.#tailSpace, this.#tailWords);
  }

  /** @param {Utterance[]} utterances @param {Word[]} tail @param {boolean} isTailLost nobody will confirm it any more */
  render(utterances, tail, isTailLost) {
    this.#tailWords.classList.toggle("lost", isTailLost);
    const wanted = utterances.slice(-this.#last);
    const numbers = new Set(wanted.map((utterance) => utterance.utterance));
    for (const [number, { element }] of this.#shown) {
      if (numbers.has(number)) continue;
      element.remove();
      this.#shown.delete(number);
    }
    for (const utterance of wanted) this.#show(utterance);
    this.#showTail(wanted.at(-1), tail);
  }

  /** @param {Utterance} utterance */
  #show(utterance) {
    const shown = this.#shown.get(utterance.utterance);
    if (shown?.utterance === utterance) return;
    if (shown && isContinued(shown.utterance, utterance)) {
      this.#append(shown.element, utterance.words.slice(shown.utterance.words.length));
      shown.element.lang = languageTag(utterance);
      shown.utterance = utterance;
      return;
    }
    const element = make("div", "utterance");
    element.lang = languageTag(utterance);
    element.append(...turnsOf(utterance.words).map(turnWithWords));
    if (shown) shown.element.replaceWith(element);
    else this.#container.append(element);
    this.#shown.set(utterance.utterance, { utterance, element });
  }

  /** @param {HTMLElement} element @param {Word[]} words */
  #append(element, words) {
    if (words.length === 0) return;
    const text = /** @type {HTMLElement} */ (element.querySelector(".turn:last-child .text"));
    const span = committed(words);
    if (this.#tail.parentElement === text) this.#tail.before(span);
    else text.append(span);
  }

  /** @param {Utterance | undefined} last @param {Word[]} tail */
  #showTail(last, tail) {
    const open = last && !last.complete ? this.#shown.get(last.utterance) : undefined;
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
      this.#pendingTurn.time.textContent = clock(tail[0].start);
      // An utterance rendered since may have come to stand after it.
      if (this.#container.lastElementChild !== this.#pending) this.#container.append(this.#pending);
    }
    const home = open?.element.querySelector(".turn:last-child .text") ?? this.#pendingTurn.text;
    if (this.#tail.parentElement !== home) home.append(this.#tail);
  }
}

/**
 * Whether `now` is `before` with words added at the end by a speaker already shown, so that nothing on the screen moves.
 *
 * @param {Utterance} before
 * @param {Utterance} now
 */
function isContinued(before, now) {
  return (
    before.words.every((word, at) => word === now.words[at]) &&
    turnsOf(before.words).length === turnsOf(now.words).length &&
    turnsOf(before.words).at(-1)?.speaker === turnsOf(now.words).at(-1)?.speaker
  );
}

/** @param {{speaker: string | null, words: Word[]}} turn */
function turnWithWords({ speaker, words }) {
  const { paragraph, text } = turnElement(speaker, words[0].start);
  text.append(committed(words));
  return paragraph;
}

/** @param {string | null} speaker @param {number} start seconds */
function turnElement(speaker, start) {
  const paragraph = make("p", "turn");
  const time = make("time", "time");
  const text = make("span", "text");
  time.textContent = clock(start);
  text.dir = "auto";
  paragraph.append(time);
  if (speaker) {
    const name = make("b", "speaker");
    name.textContent = speaker;
    paragraph.append(name);
  }
  paragraph.append(text);
  return { paragraph, time, text };
}

/** @param {Word[]} words */
function committed(words) {
  const span = make("span", "committed");
  span.textContent = textOf(words);
  return span;
}

/** @param {Utterance} utterance */
function languageTag(utterance) {
  return utterance.language ? tagOf(utterance.language) : "";
}

/** @param {string} tag @param {string} className */
function make(tag, className) {
  const element = document.createElement(tag);
  element.className = className;
  return element;
}
