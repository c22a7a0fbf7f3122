/** Who spoke when, and for how long: a lane for each speaker, with turns that lead to their words. */

import { shownName } from "../state/speakers.js";
import { SPEAKERS, clock, rounded, seconds } from "../state/words.js";
import { make, setText } from "./elements.js";
import { nameButton, paint } from "./paragraph.js";

/**
 * @typedef {import("../state/final.js").Final} Final
 * @typedef {import("../state/final.js").Talk} Talk
 * @typedef {import("../state/speakers.js").Cast} Cast
 * @typedef {{label: string, start: number, end: number, row: number, button: HTMLButtonElement}} Turn
 */

/** Turns that the arrow keys go to, from the one that has the focus. @type {Record<string, (turns: Turn[], at: number) => Turn | undefined>} */
const STEPS = {
  ArrowLeft: (turns, at) => turns[at - 1],
  ArrowRight: (turns, at) => turns[at + 1],
  Home: (turns) => turns[0],
  End: (turns) => turns[turns.length - 1],
  ArrowUp: (turns, at) => nearestTo(turns[at].start, turns.filter(({ row }) => row === turns[at].row - 1)),
  ArrowDown: (turns, at) => nearestTo(turns[at].start, turns.filter(({ row }) => row === turns[at].row + 1)),
};

export class Timeline {
  #lanes;
  #readout;
  #chosen;
  /** @type {Final | null} */
  #final = null;
  /** @type {Cast | null} */
  #cast = null;
  /** In order of time. @type {Turn[]} */
  #turns = [];
  /** @type {{label: string, row: HTMLElement, name: HTMLElement, lane: HTMLElement}[]} */
  #rows = [];
  /** Seconds from one end of a lane to the other. */
  #whole = 0;

  /**
   * @param {HTMLElement} lanes gets a row for each speaker
   * @param {HTMLElement} readout says in words what is pointed at
   * @param {(turn: {label: string, start: number}, isByKey: boolean) => void} chosen
   */
  constructor(lanes, readout, chosen) {
    this.#lanes = lanes;
    this.#readout = readout;
    this.#chosen = chosen;
    lanes.addEventListener("click", (event) => this.#clicked(event));
    lanes.addEventListener("keydown", (event) => this.#keyPressed(event));
    lanes.addEventListener("focusin", ({ target }) => this.#pointedAt(this.#turnOf(target)));
    lanes.addEventListener("pointermove", (event) => this.#pointedAt(this.#nearest(event)));
    lanes.addEventListener("pointerleave", () => this.#pointedAt(this.#turnOf(document.activeElement)));
  }

  /** @param {Final} final @param {Cast} cast */
  render(final, cast) {
    if (this.#final !== final) this.#build(final);
    if (this.#final !== final || this.#cast !== cast) this.#showNames(cast);
    this.#final = final;
    this.#cast = cast;
  }

  /** @param {Final} final */
  #build({ talks, duration }) {
    this.#whole = talks.flatMap(({ turns }) => turns).reduce((latest, { end }) => Math.max(latest, end), duration);
    this.#turns = [];
    this.#rows = talks.map((talk, at) => this.#row(talk, at));
    this.#turns.sort((a, b) => a.start - b.start);
    // All names are one stop of the Tab key, and all turns another.
    for (const stop of [this.#rows[0]?.name, this.#turns[0]?.button]) if (stop) stop.tabIndex = 0;
    this.#lanes.replaceChildren(...this.#rows.map(({ row }) => row));
  }

  /** @param {Talk} talk @param {number} at */
  #row({ label, duration, share, turns }, at) {
    const row = make("div", "talk");
    const name = nameButton();
    const lane = make("div", "lane");
    const amount = make("span", "amount");
    const part = make("span", "share");
    name.dataset.label = label;
    lane.role = "group";
    lane.dataset.label = label;
    lane.append(...turns.map((turn) => this.#turn(label, turn, at)));
    part.textContent = rounded(share);
    amount.append(`${seconds(duration)} `, part);
    row.append(name, lane, amount);
    return { label, row, name, lane };
  }

  /** @param {string} label @param {{start: number, end: number}} turn @param {number} row */
  #turn(label, { start, end }, row) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "span";
    button.tabIndex = -1;
    button.style.left = `${(100 * start) / this.#whole}%`;
    button.style.width = `${(100 * (end - start)) / this.#whole}%`;
    this.#turns.push({ label, start, end, row, button });
    return button;
  }

  /** @param {Cast} cast */
  #showNames(cast) {
    for (const { label, row, name, lane } of this.#rows) {
      paint(row, label, cast);
      setText(name, shownName(label, cast));
      lane.ariaLabel = SPEAKERS.turnsOf(shownName(label, cast));
    }
    for (const turn of this.#turns) turn.button.ariaLabel = sentence(turn, cast);
    this.#pointedAt(null);
  }

  /** @param {MouseEvent} event */
  #clicked(event) {
    const isByKey = event.detail === 0;
    const turn = isByKey ? this.#turnOf(event.target) : this.#nearest(event);
    if (turn) this.#chosen(turn, isByKey);
  }

  /** @param {KeyboardEvent} event */
  #keyPressed(event) {
    const turn = this.#turnOf(event.target);
    if (!turn || !Object.hasOwn(STEPS, event.key)) return;
    event.preventDefault();
    event.stopPropagation();
    const next = STEPS[event.key](this.#turns, this.#turns.indexOf(turn));
    if (!next) return;
    turn.button.tabIndex = -1;
    next.button.tabIndex = 0;
    next.button.focus();
  }

  /** The turn of a lane that is nearest to the pointer: turns of a second are too narrow to hit. @param {MouseEvent} event */
  #nearest({ target, clientX }) {
    const lane = target instanceof Element ? /** @type {HTMLElement | null} */ (target.closest(".lane")) : null;
    if (!lane) return null;
    const { left, width } = lane.getBoundingClientRect();
    const own = this.#turns.filter(({ label }) => label === lane.dataset.label);
    return nearestTo(((clientX - left) / width) * this.#whole, own) ?? null;
  }

  /** @param {EventTarget | null} target @returns {Turn | null} */
  #turnOf(target) {
    return this.#turns.find(({ button }) => button === target) ?? null;
  }

  /** @param {Turn | null} turn */
  #pointedAt(turn) {
    setText(this.#readout, turn && this.#cast ? sentence(turn, this.#cast) : "");
  }
}

/** @param {Turn} turn @param {Cast} cast */
function sentence({ label, start, end }, cast) {
  return SPEAKERS.turn(shownName(label, cast), clock(start), clock(end));
}

/** @param {number} time seconds @param {Turn[]} turns @returns {Turn | undefined} */
function nearestTo(time, turns) {
  const distance = (/** @type {Turn} */ { start, end }) => Math.max(0, start - time, time - end);
  /** @type {Turn | undefined} */
  let nearest;
  for (const turn of turns) if (!nearest || distance(turn) < distance(nearest)) nearest = turn;
  return nearest;
}
