/**
 * The full pass's result as the page shows it: paragraphs to read, and who spoke when.
 *
 * @typedef {import("../client/messages.js").Word} Word
 * @typedef {import("../client/messages.js").Final} FinalMessage
 * @typedef {import("../client/messages.js").FinalSegment} FinalSegment
 * @typedef {import("../client/messages.js").FinalSpeaker} FinalSpeaker
 * @typedef {import("./state.js").Utterance} Utterance
 *
 * @typedef {object} Final
 * @property {number} revision
 * @property {number} duration  seconds of audio
 * @property {Utterance[]} utterances  paragraphs
 * @property {Talk[]} talks  one for each speaker, in order of first appearance
 *
 * @typedef {object} Talk  what one speaker had of the whole
 * @property {string} label
 * @property {number} duration  seconds
 * @property {number} share  of what all speakers talked, 0 to 1
 * @property {{start: number, end: number}[]} turns  in seconds, in order
 */

import { withMark, withoutMark } from "./turns.js";

/** A paragraph ends where the speaker pauses for so long, in seconds, or with a sentence after so many words. */
const PAUSE = 2;
const PARAGRAPH_WORDS = 60;
/** Turns closer to each other than this are one on the timeline: seconds, and a share of the whole. */
const [GAP, GAP_SHARE] = [0.5, 1 / 400];

/**
 * What `final` says; null where it holds no words, so that those heard live stay.
 *
 * @param {FinalMessage} message
 * @returns {Final | null}
 */
export function finalOf({ revision, duration, language = null, segments = [], speakers = [] }) {
  const utterances = paragraphs(segments, language);
  return utterances.length > 0 ? { revision, duration, utterances, talks: talks(segments, speakers, duration) } : null;
}

/** @param {FinalSegment[]} segments @param {string | null} language @returns {Utterance[]} */
function paragraphs(segments, language) {
  /** @type {Word[][]} */
  const paragraphs = [];
  for (const word of segments.flatMap(wordsOf)) {
    const words = paragraphs.at(-1);
    if (words && !isParagraphOver(words, word)) {
      words.push(word);
      continue;
    }
    // A mark at the start of a turn belongs to the word before it.
    if (words) paragraphs[paragraphs.length - 1] = withMark(words, word);
    const rest = words ? withoutMark([word]) : [word];
    if (rest.length > 0) paragraphs.push(rest);
  }
  return paragraphs.map((words, utterance) => ({ utterance, words, complete: true, language }));
}

/** @param {FinalSegment} segment @returns {Word[]} */
function wordsOf({ start, end, speaker, text, words = [] }) {
  if (words.length === 0) return text.trim() ? [{ text: ` ${text.trim()}`, start, end, speaker }] : [];
  return words.map((word) => ({ ...word, speaker: speaker ?? word.speaker ?? null }));
}

/** @param {Word[]} words @param {Word} next */
function isParagraphOver(words, next) {
  const last = words[words.length - 1];
  if (last.speaker && next.speaker && last.speaker !== next.speaker) return true;
  if (!/^\s/.test(next.text)) return false; // a part of the word before it
  return next.start - last.end >= PAUSE || (words.length >= PARAGRAPH_WORDS && /[.!?…。！？]["”’»)]*$/.test(last.text));
}

/** @param {FinalSegment[]} segments @param {FinalSpeaker[]} speakers @param {number} duration @returns {Talk[]} */
function talks(segments, speakers, duration) {
  const gap = Math.max(GAP, duration * GAP_SHARE);
  const own = speakers.map(({ label, duration }) => ({
    label,
    duration,
    turns: joined(segments.filter(({ speaker }) => speaker === label), gap),
  }));
  const whole = own.reduce((sum, { duration }) => sum + duration, 0);
  return own.map((talk) => ({ ...talk, share: whole > 0 ? talk.duration / whole : 0 }));
}

/** @param {{start: number, end: number}[]} segments @param {number} gap seconds */
function joined(segments, gap) {
  /** @type {{start: number, end: number}[]} */
  const turns = [];
  for (const { start, end } of [...segments].sort((a, b) => a.start - b.start)) {
    const last = turns.at(-1);
    if (last && start - last.end < gap) last.end = Math.max(last.end, end);
    else turns.push({ start, end });
  }
  return turns;
}
