/**
 * A talk in more than one session: where a server could not go on with one, another follows it, and both are read as one
 * transcript. What a later session says is moved behind what the earlier ones said: its utterances count on, its times go
 * on, and its speakers are others, since their voices are not known any more.
 *
 * @typedef {import("../client/connection.js").Message} Message
 * @typedef {import("../client/messages.js").Word} Word
 * @typedef {import("../client/messages.js").Final} Final
 * @typedef {import("../client/messages.js").FinalSegment} FinalSegment
 * @typedef {import("../client/messages.js").FinalSpeaker} FinalSpeaker
 * @typedef {import("./state.js").Utterance} Utterance
 *
 * @typedef {object} Place  what came before a session in its talk
 * @property {number} utterances
 * @property {number} seconds  of sound
 * @property {number} speakers  who were told apart live
 *
 * @typedef {Place & {address: string, finals?: number}} Part  `address` of its session; `finals`: how many speakers the
 *   full passes before it found
 */

import { turnsOf } from "./turns.js";

/** @type {Place} */
export const BEGINNING = { utterances: 0, seconds: 0, speakers: 0 };

/** One session's place in its talk, and how far it has come. */
export class Placed {
  #utterances;
  #speakers;

  /** @param {Place} place */
  constructor(place) {
    this.place = place;
    this.#utterances = place.utterances;
    this.#speakers = place.speakers;
  }

  /** What the session says, as the talk's. @param {Message} message @returns {Message} */
  of(message) {
    const moved = moveMessage(message, this.place);
    this.#utterances = Math.max(this.#utterances, (moved.utterance ?? -1) + 1);
    for (const label of [moved.speaker, ...(moved.words ?? []).map((/** @type {Word} */ word) => word.speaker)]) {
      this.#speakers = Math.max(this.#speakers, numberOf(label));
    }
    return moved;
  }

  /** The place of a session that follows after so many seconds of this one's sound. @param {number} duration @returns {Place} */
  after(duration) {
    return { utterances: this.#utterances, seconds: this.place.seconds + duration, speakers: this.#speakers };
  }
}

/**
 * The results of a talk's sessions as one.
 *
 * @param {(Final | null)[]} finals null where a session has none: what was heard live stands
 * @param {Part[]} parts the same sessions
 * @param {Utterance[]} utterances as committed while live
 * @returns {{final: Final, parts: Part[]}} `parts` with how many speakers came before each
 */
export function joined(finals, parts, utterances) {
  /** @type {FinalSegment[]} */
  const segments = [];
  /** @type {FinalSpeaker[]} */
  const speakers = [];
  const placed = parts.map((part, at) => {
    const before = speakers.length;
    const own = finals[at] ? moveFinal(finals[at], part, before) : liveFinal(ownOf(utterances, parts, at), before);
    segments.push(...own.segments);
    speakers.push(...own.speakers);
    return { ...part, finals: before };
  });
  const last = finals.at(-1);
  const isFull = finals.every((final) => final?.labels === "full");
  return {
    parts: placed,
    final: {
      ...{ type: "final", seq: 0, segments, speakers, links: {} },
      revision: Math.max(1, ...finals.map((final) => final?.revision ?? 0)),
      duration: (parts.at(-1)?.seconds ?? 0) + (last?.duration ?? 0),
      language: finals.find((final) => final?.language)?.language ?? null,
      text: segments.map(({ text }) => text).join(" "),
      labels: speakers.length === 0 ? null : isFull ? "full" : "live",
    },
  };
}

/**
 * The names of a talk's speakers, by session, under the labels that each has there.
 *
 * @param {Record<string, string>} names
 * @param {Part[]} parts
 * @returns {{address: string, names: Record<string, string>}[]}
 */
export function namesByPart(names, parts) {
  return parts.map(({ address, speakers, finals = 0 }, at) => {
    const next = parts[at + 1];
    /** @type {[string, string][]} */
    const own = [];
    for (const [label, name] of Object.entries(names)) {
      const isLive = /^S\d+$/.test(label);
      const number = numberOf(label) - (isLive ? 0 : -1); // S1 and SPEAKER_00 are the first
      const first = isLive ? speakers : finals;
      const end = next ? (isLive ? next.speakers : (next.finals ?? Infinity)) : Infinity;
      if (number > first && number <= end) own.push([moveLabel(label, -first) ?? label, name]);
    }
    return { address, names: Object.fromEntries(own) };
  });
}

/** @param {Message} message @param {Place} place @returns {Message} */
function moveMessage(message, { utterances, seconds, speakers }) {
  if (utterances === 0 && seconds === 0 && speakers === 0) return message;
  const moved = { ...message };
  for (const field of ["start", "end", "from", "to", "time", "duration"]) {
    if (typeof moved[field] === "number") moved[field] += seconds;
  }
  if (typeof moved.utterance === "number") moved.utterance += utterances;
  if (moved.speaker) moved.speaker = moveLabel(moved.speaker, speakers);
  if (moved.words) moved.words = moved.words.map((/** @type {Word} */ word) => moveWord(word, seconds, speakers));
  return moved;
}

/** @param {Word} word @param {number} seconds @param {number} speakers @returns {Word} */
function moveWord(word, seconds, speakers) {
  const { start, end, speaker } = word;
  return { ...word, start: start + seconds, end: end + seconds, speaker: moveLabel(speaker, speakers) };
}

/** @param {Final} final @param {Place} place @param {number} before speakers of the sessions before */
function moveFinal({ segments = [], speakers = [] }, { seconds, speakers: lives }, before) {
  return {
    segments: segments.map((segment) => ({
      ...segment,
      ...{ start: segment.start + seconds, end: segment.end + seconds, speaker: moveLabel(segment.speaker, before) ?? null },
      words: segment.words?.map((word) => moveWord(word, seconds, before)),
    })),
    speakers: speakers.map((speaker) => ({
      ...speaker,
      label: moveLabel(speaker.label, before) ?? speaker.label,
      live_labels: speaker.live_labels.map((label) => moveLabel(label, lives) ?? label),
    })),
  };
}

/** What was heard live, in the form of a result. @param {Utterance[]} utterances @param {number} before speakers before */
function liveFinal(utterances, before) {
  /** @type {Map<string, FinalSpeaker>} */
  const speakers = new Map();
  const segments = utterances
    .flatMap(({ words }) => turnsOf(words))
    .map((turn) => {
      const [start, end] = [turn.words[0].start, turn.words[turn.words.length - 1].end];
      const label = turn.speaker && finalLabel(before + [...speakers.keys(), turn.speaker].indexOf(turn.speaker));
      if (turn.speaker && label) {
        const own = speakers.get(turn.speaker) ?? { label, live_labels: [turn.speaker], duration: 0, turns: 0 };
        speakers.set(turn.speaker, { ...own, duration: own.duration + end - start, turns: own.turns + 1 });
      }
      const words = turn.words.map((word) => ({ ...word, speaker: label }));
      return { start, end, speaker: label, text: words.map(({ text }) => text).join("").trim(), words };
    });
  return { segments, speakers: [...speakers.values()] };
}

/** @param {Utterance[]} utterances @param {Part[]} parts @param {number} at */
function ownOf(utterances, parts, at) {
  const [first, end] = [parts[at].utterances, parts[at + 1]?.utterances ?? Infinity];
  return utterances.filter(({ utterance }) => first <= utterance && utterance < end);
}

/** @param {number} number from 0 */
function finalLabel(number) {
  return `SPEAKER_${String(number).padStart(2, "0")}`;
}

/** `S1` → `S3` and `SPEAKER_00` → `SPEAKER_02` by 2. @param {string | null | undefined} label @param {number} by */
function moveLabel(label, by) {
  return label?.replace(/\d+$/, (digits) => String(Number(digits) + by).padStart(digits.length, "0"));
}

/** The number in a label; 0 without one. @param {string | null | undefined} label */
function numberOf(label) {
  return Number(/\d+$/.exec(label ?? "")?.[0] ?? 0);
}
