/**
 * A transcript as a file, made from the words that the page holds. The server's files are better (its cues break where
 * a reader would pause); these are for when it cannot be reached.
 *
 * @typedef {import("./state.js").Transcript} Transcript
 * @typedef {import("./state.js").Utterance} Utterance
 * @typedef {import("../client/messages.js").Word} Word
 * @typedef {import("./speakers.js").Cast} Cast
 * @typedef {{speaker: string | null, words: Word[]}} Turn
 */

import { NOBODY, shownName } from "./speakers.js";
import { labelBefore, textOf, turnsOf } from "./turns.js";

/** What a reader can take in at once: seconds, and characters on two lines. */
const LONGEST_CUE = 7;
const CUE_CHARACTERS = 84;
const LINE_CHARACTERS = 42;

/**
 * File name extension → the transcript in that format. Names and numbers stand in place of labels where people read, as on
 * the page and in the server's files.
 *
 * @type {Record<string, (transcript: Transcript) => string>}
 */
export const EXPORTS = {
  txt: (transcript) => turnsIn(named(transcript)).map(paragraph).join("\n"),
  vtt: (transcript) => ["WEBVTT\n", ...cuesOf(named(transcript)).map(vttCue)].join("\n"),
  srt: (transcript) => cuesOf(named(transcript)).map(srtCue).join("\n"),
  json: (transcript) => JSON.stringify(record(transcript), null, 2) + "\n",
  rttm: (transcript) => turnsIn(transcript).map((turn) => rttmLine(turn, transcript)).join(""),
};

/** The name of what is said from this moment on. @param {Date} begun @returns {string} */
export function nameOf(begun) {
  const two = (/** @type {number} */ part) => String(part).padStart(2, "0");
  const [month, day, hour, minute] = [begun.getMonth() + 1, begun.getDate(), begun.getHours(), begun.getMinutes()];
  return `captions-${begun.getFullYear()}-${two(month)}-${two(day)}-${two(hour)}${two(minute)}`;
}

/** @param {Transcript} transcript @returns {Turn[]} */
function turnsIn({ utterances }) {
  return utterances.flatMap(({ words }) => turnsOf(words));
}

/** The transcript with names or numbers in place of labels, as on the page. @param {Transcript} transcript @returns {Transcript} */
function named({ cast = NOBODY, utterances, ...others }) {
  const byName = (/** @type {Word} */ word) =>
    word.speaker ? { ...word, speaker: shownName(word.speaker, cast) } : word;
  return { ...others, cast, utterances: utterances.map((one) => ({ ...one, words: one.words.map(byName) })) };
}

/** Whole turns where they are short, else pieces of them. @param {Transcript} transcript @returns {Turn[]} */
function cuesOf(transcript) {
  return turnsIn(transcript).flatMap(({ speaker, words }) => pieces(words).map((piece) => ({ speaker, words: piece })));
}

/** @param {Turn} turn */
function paragraph({ speaker, words }) {
  return `${labelBefore(speaker, textOf(words))}${textOf(words).trim()}\n`;
}

/** @param {Word[]} words @returns {Word[][]} */
function pieces(words) {
  /** @type {Word[][]} */
  const pieces = [];
  for (const word of words) {
    const piece = pieces.at(-1);
    const fits =
      piece && word.end - piece[0].start <= LONGEST_CUE && textOf([...piece, word]).trim().length <= CUE_CHARACTERS;
    // A word without a leading space belongs to the one before it.
    if (piece && (fits || !/^\s/.test(word.text))) piece.push(word);
    else pieces.push([word]);
  }
  return pieces;
}

/** @param {Turn} cue */
function vttCue(cue) {
  const escape = (/** @type {string} */ text) =>
    text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  const voice = cue.speaker ? `<v ${escape(cue.speaker)}>` : "";
  return `${timing(cue, ".")}\n${voice}${escape(lines(cue))}\n`;
}

/** @param {Turn} cue @param {number} at */
function srtCue(cue, at) {
  const label = labelBefore(cue.speaker, textOf(cue.words));
  return `${at + 1}\n${timing(cue, ",")}\n${label}${lines(cue).replaceAll("-->", "→")}\n`;
}

/** @param {Turn} cue @param {string} point between seconds and milliseconds */
function timing({ words }, point) {
  const [start_ms, end_ms] = [words[0].start, words[words.length - 1].end].map((time) => Math.round(time * 1000));
  // Parsers refuse a cue that lasts no time at all.
  return `${clock(start_ms, point)} --> ${clock(Math.max(end_ms, start_ms + 40), point)}`;
}

/** @param {number} time_ms @param {string} point */
function clock(time_ms, point) {
  return new Date(time_ms).toISOString().slice(11, 23).replace(".", point);
}

/** One line, or two broken near the middle. @param {Turn} cue */
function lines({ words }) {
  const text = textOf(words).trim().replace(/\s+/g, " ");
  if (text.length <= LINE_CHARACTERS) return text;
  const middle = text.length / 2;
  const spaces = [...text.matchAll(/ /g)].map(({ index }) => index);
  if (spaces.length === 0) return text;
  const at = spaces.reduce((best, space) => (Math.abs(space - middle) < Math.abs(best - middle) ? space : best));
  return `${text.slice(0, at)}\n${text.slice(at + 1)}`;
}

/** @param {Turn} turn @param {Transcript} transcript */
function rttmLine({ speaker, words }, { address = "", name }) {
  if (!speaker) return "";
  const file = address.split("/").at(-1) || name.replace(/\s+/g, "_");
  const [start, end] = [words[0].start, words[words.length - 1].end];
  return `SPEAKER ${file} 1 ${start.toFixed(3)} ${(end - start).toFixed(3)} <NA> <NA> ${speaker} <NA> <NA>\n`;
}

/** Under the names that the server's own file has. @param {Transcript} transcript */
function record(transcript) {
  const { utterances, cast = NOBODY, revision = 0 } = transcript;
  const segments = turnsIn(transcript).map(({ speaker, words }) => ({
    start: words[0].start,
    end: words[words.length - 1].end,
    speaker,
    text: textOf(words).trim(),
    words,
  }));
  return {
    revision,
    language: utterances.findLast(({ language }) => language)?.language ?? null,
    duration: segments.at(-1)?.end ?? 0,
    text: textOf(utterances.flatMap(({ words }) => words)).trim(),
    segments,
    speakers: cast.speakers,
    names: cast.names,
  };
}
