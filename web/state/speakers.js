/**
 * Who a label stands for: a name that was typed in, else a number; and one of a few colours. Live labels are `S1`, `S2` …,
 * those of the full pass `SPEAKER_00`, `SPEAKER_01` …
 *
 * @typedef {import("../client/messages.js").FinalSpeaker} FinalSpeaker
 *
 * @typedef {object} Cast
 * @property {Record<string, string>} names  typed in, by label; never empty ones
 * @property {FinalSpeaker[]} speakers  of the full pass, in order of first appearance; none before it
 */

import { words } from "./locale.js";

/** How many colours there are. Further speakers share them: the name beside the words tells them apart. */
export const COLORS = 8;

/** @type {Cast} */
export const NOBODY = { names: {}, speakers: [] };

/** Final speakers → the colour of each. @type {WeakMap<FinalSpeaker[], Map<string, number>>} */
const COLORS_OF = new WeakMap();

/**
 * The name typed for a speaker; empty without one. A name typed for a live label is that of the final speaker that it
 * became, unless that one has its own; and the other way round.
 *
 * @param {string} label
 * @param {Cast} cast
 */
export function typedName(label, { names, speakers }) {
  const named = [label, ...relatives(label, speakers)].find((other) => Object.hasOwn(names, other));
  return named === undefined ? "" : names[named];
}

/** The name that is shown for a speaker. @param {string} label @param {Cast} cast */
export function shownName(label, cast) {
  const number = numberOf(label);
  return typedName(label, cast) || (number === null ? label : words.SPEAKERS.number(number + 1));
}

/**
 * The colour of a speaker, as a number below `COLORS`. A final speaker keeps the colour of the live label that it was.
 *
 * @param {string} label
 * @param {Cast} cast
 */
export function colorOf(label, { speakers }) {
  let colors = COLORS_OF.get(speakers);
  if (!colors) COLORS_OF.set(speakers, (colors = allotted(speakers)));
  return colors.get(label) ?? (numberOf(label) ?? 0) % COLORS;
}

/**
 * The names after `name` was typed for `label`; an empty one takes the name away, wherever it came from.
 *
 * @param {Cast} cast
 * @param {string} label
 * @param {string} name
 * @returns {Record<string, string>}
 */
export function renamed({ names, speakers }, label, name) {
  const gone = name ? [] : [label, ...relatives(label, speakers)];
  const others = Object.entries(names).filter(([other]) => !gone.includes(other));
  return { ...Object.fromEntries(others), ...(name && { [label]: name }) };
}

/** The labels that the same person bore before or after the full pass. @param {string} label @param {FinalSpeaker[]} speakers */
function relatives(label, speakers) {
  const own = speakers.find((speaker) => speaker.label === label);
  return own ? own.live_labels : speakers.filter(({ live_labels }) => live_labels.includes(label)).map((one) => one.label);
}

/** Counted from 0; null for a label without a number. @param {string} label */
function numberOf(label) {
  const digits = /\d+$/.exec(label)?.[0];
  if (digits === undefined) return null;
  return /^S\d+$/.test(label) ? Math.max(0, Number(digits) - 1) : Number(digits);
}

/** @param {FinalSpeaker[]} speakers @returns {Map<string, number>} */
function allotted(speakers) {
  /** @type {Map<string, number>} */
  const colors = new Map();
  const taken = new Set();
  const take = (/** @type {string} */ label, /** @type {number} */ color) => {
    colors.set(label, color);
    taken.add(color);
  };
  for (const { label, live_labels } of speakers) {
    const color = live_labels.map((live) => (numberOf(live) ?? 0) % COLORS).find((one) => !taken.has(one));
    if (color !== undefined) take(label, color);
  }
  for (const { label } of speakers.filter(({ label }) => !colors.has(label))) {
    let color = colors.size % COLORS;
    for (let tried = 0; taken.has(color) && tried < COLORS; tried++) color = (color + 1) % COLORS;
    take(label, color);
  }
  return colors;
}
