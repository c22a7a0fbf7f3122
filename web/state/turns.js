/**
 * Words in order: as text, and split into turns.
 *
 * @typedef {import("../client/messages.js").Word} Word
 */

/** Words as text, with the space before the first. @param {Word[]} words */
export function textOf(words) {
  return words.map((word) => word.text).join("");
}

/**
 * Split words where the speaker changes. A word whose speaker is not known yet stays with its neighbours: it would
 * otherwise jump to a paragraph of its own and back.
 *
 * @param {Word[]} words
 * @returns {{speaker: string | null, words: Word[]}[]}
 */
export function turnsOf(words) {
  /** @type {{speaker: string | null, words: Word[]}[]} */
  const turns = [];
  for (const word of words) {
    const turn = turns.at(-1);
    const speaker = word.speaker ?? null;
    if (turn && (speaker === null || turn.speaker === null || turn.speaker === speaker)) {
      turn.words.push(word);
      turn.speaker ??= speaker;
    } else if (turn) {
      turns[turns.length - 1] = { ...turn, words: withMark(turn.words, word) };
      const rest = withoutMark([word]);
      if (rest.length > 0) turns.push({ speaker, words: rest });
    } else {
      turns.push({ speaker, words: [word] });
    }
  }
  return turns;
}

/** Letters that run to the left: Hebrew, Arabic and their kin. */
const TO_THE_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u;

/**
 * What names a speaker before a text. A line runs as its first letter does: where the name runs the other way it is
 * isolated, so that it does not turn the line.
 *
 * @param {string | null} speaker @param {string} text
 */
export function labelBefore(speaker, text) {
  if (!speaker) return "";
  const [own, its] = [speaker, text].map(isToTheLeft);
  return own === null || its === null || own === its ? `${speaker}: ` : `\u2068${speaker}\u2069: `;
}

/** Whether a text runs to the left, going by its first letter; null without one. @param {string} text */
function isToTheLeft(text) {
  const letter = /\p{L}/u.exec(text)?.[0];
  return letter === undefined ? null : TO_THE_LEFT.test(letter);
}

/** A paragraph ends with a sentence after so many words; with any word after more; with any part of one after most. */
const [LONG, LONGER, LONGEST] = [60, 150, 400];

/** Whether `words` are a paragraph that `next` begins another one after. @param {Word[]} words @param {Word | undefined} next */
export function isFullParagraph(words, next) {
  if (words.length < LONG || !next) return false;
  if (words.length >= LONGEST) return true;
  const { text } = words[words.length - 1];
  if (/[。！？]["”’」』]*$/.test(text)) return true; // of scripts that write no spaces
  return /^\s/.test(next.text) && (words.length >= LONGER || /[.!?…؟।]["”’»)]*$/.test(text));
}

/**
 * The closing marks at the start of a word that belong to the word before it, such as the comma of ", being". The server
 * may find a mark only after it has committed the word before.
 *
 * @param {string} text
 */
export function leadingMark(text) {
  return /^\s*([.,!?;:…、。，！？；：]+)(?=\s|$)/.exec(text)?.[0] ?? "";
}

/** `words`, ending with the mark that leads `next`. @param {Word[]} words @param {Word | undefined} next */
export function withMark(words, next) {
  const mark = leadingMark(next?.text ?? "").trim();
  const last = words.at(-1);
  return mark && last ? [...words.slice(0, -1), { ...last, text: last.text + mark }] : words;
}

/** `words` without a mark before them. @param {Word[]} words */
export function withoutMark(words) {
  const mark = leadingMark(words[0]?.text ?? "");
  if (!mark) return words;
  const text = words[0].text.slice(mark.length);
  return text ? [{ ...words[0], text }, ...words.slice(1)] : words.slice(1);
}
