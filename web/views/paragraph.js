/**
 * One turn on the screen: when, who, and the words. What has not changed is not touched, so that nothing moves that need
 * not: a label that comes late colours the words where they stand.
 */

import { colorOf, shownName } from "../state/speakers.js";
import { textOf } from "../state/turns.js";
import { SPEAKERS, clock } from "../state/words.js";
import { make, setText } from "./elements.js";

/**
 * @typedef {import("../client/messages.js").Word} Word
 * @typedef {import("../state/speakers.js").Cast} Cast
 * @typedef {{speaker: string | null, words: Word[]}} Run  words in a row whose speaker is the same or not known yet
 */

export class Paragraph {
  element = make("p", "turn");
  text = make("span", "text");
  #time = make("time", "time");
  #isNameable;
  /** @type {HTMLElement | null} */
  #name = null;
  /** @type {Word[]} */
  #words = [];
  /** @type {{span: HTMLElement, speaker: string | null}[]} */
  #runs = [];

  /** @param {boolean} isNameable whether its name can be pressed, to type another */
  constructor(isNameable) {
    this.#isNameable = isNameable;
    this.element.dir = "auto"; // as the words run: the name has a direction of its own
    this.element.append(this.#time, this.text);
  }

  /** The element with the name; null where none stands here. */
  get name() {
    return this.#name;
  }

  /** @param {number} seconds since the session's first sample */
  set start(seconds) {
    setText(this.#time, clock(seconds));
  }

  /**
   * @param {{speaker: string | null, words: Word[]}} turn
   * @param {boolean} isNamed whether the name stands above the words
   * @param {Cast} cast
   */
  show({ speaker, words }, isNamed, cast) {
    this.start = words[0].start;
    paint(this.element, speaker, cast);
    this.#showName(isNamed ? speaker : null, cast);
    const isContinued = this.#words.every((word, at) => word === words[at]);
    if (isContinued) this.#append(words.slice(this.#words.length));
    else this.#replace(words);
    this.#words = words;
    for (const { span, speaker } of this.#runs) paint(span, speaker, cast);
  }

  /** @param {string | null} speaker @param {Cast} cast */
  #showName(speaker, cast) {
    if (speaker === null) {
      this.#name?.remove();
      this.#name = null;
      return;
    }
    if (!this.#name) {
      this.#name = this.#isNameable ? nameButton() : make("b", "speaker");
      this.#name.append(document.createElement("bdi"));
      this.#time.after(this.#name);
    }
    setText(/** @type {HTMLElement} */ (this.#name.firstElementChild), shownName(speaker, cast));
    this.#name.dataset.label = speaker;
  }

  /** @param {Word[]} words */
  #append(words) {
    for (const run of runsOf(words)) {
      const span = make("span", "committed new");
      span.textContent = textOf(run.words);
      this.#add(span, run.speaker);
    }
  }

  /** @param {Word[]} words */
  #replace(words) {
    const runs = runsOf(words);
    for (const { span } of this.#runs.splice(runs.length)) span.remove();
    runs.forEach(({ speaker, words }, at) => {
      if (at === this.#runs.length) this.#add(make("span", "committed"), speaker);
      setText(this.#runs[at].span, textOf(words));
      this.#runs[at].speaker = speaker;
    });
  }

  /** The tail, where there is one, stays behind. @param {HTMLElement} span @param {string | null} speaker */
  #add(span, speaker) {
    const last = this.#runs.at(-1);
    if (last) last.span.after(span);
    else this.text.prepend(span);
    this.#runs.push({ span, speaker });
  }
}

/** The button with a speaker's name, which naming.js makes an input of. @returns {HTMLButtonElement} */
export function nameButton() {
  const button = document.createElement("button");
  button.className = "speaker";
  button.type = "button";
  button.title = SPEAKERS.rename;
  button.tabIndex = -1; // one name is enough to stop at; arrow keys go on from there
  return button;
}

/** Give an element the colour of a speaker; none where nobody is known. @param {HTMLElement} element @param {string | null} speaker @param {Cast} cast */
export function paint(element, speaker, cast) {
  const color = speaker === null ? undefined : String(colorOf(speaker, cast));
  if (element.dataset.voice === color) return;
  if (color === undefined) delete element.dataset.voice;
  else element.dataset.voice = color;
}

/** @param {Word[]} words @returns {Run[]} */
function runsOf(words) {
  /** @type {Run[]} */
  const runs = [];
  for (const word of words) {
    const speaker = word.speaker ?? null;
    const run = runs.at(-1);
    if (run?.speaker === speaker) run.words.push(word);
    else runs.push({ speaker, words: [word] });
  }
  return runs;
}
