/** Words to expect, as they are typed or lie in a file, and what of them a server takes. */

/** So many words to expect, each of so many characters, does a server take. */
export const MOST_WORDS = 200;
export const LONGEST_WORD = 100;

/** What is typed, as entries. @param {string} text @returns {string[]} */
export function entriesOf(text) {
  return text
    .split(/[\n\r,;]/)
    .map((entry) => entry.trim())
    .filter(Boolean);
}

/** Characters as the server counts them. @param {string} entry */
export function lengthOf(entry) {
  return [...entry].length;
}

/** Of what is typed, what the server takes: words that are short enough, as many as there may be. @param {string} text */
export function usable(text) {
  return entriesOf(text)
    .filter((entry) => lengthOf(entry) <= LONGEST_WORD)
    .slice(0, MOST_WORDS);
}

/**
 * The entries of a file: each line of a text, each cell of a CSV, where commas within quotes are no separators. An entry
 * must hold none in the end, since what is typed has them between entries.
 *
 * @param {string} text
 * @param {boolean} isCsv
 * @returns {string[]}
 */
export function entriesOfFile(text, isCsv) {
  if (!isCsv) return entriesOf(text);
  const cells = text.matchAll(/"((?:[^"]|"")*)"|[^",;\t\r\n]+/g);
  return [...cells]
    .map(([cell, quoted]) => (quoted === undefined ? cell : quoted.replaceAll('""', '"')))
    .map((cell) => cell.replace(/[\s,;]+/g, " ").trim())
    .filter(Boolean);
}

/** A file's text, as UTF-8 or UTF-16 with a mark, else as Western Windows writes it; null where it is none. @param {ArrayBuffer} bytes */
export function textOf(bytes) {
  const [first, second] = new Uint8Array(bytes);
  const wide = first === 0xff && second === 0xfe ? "utf-16le" : first === 0xfe && second === 0xff ? "utf-16be" : null;
  if (wide) return new TextDecoder(wide).decode(bytes);
  if (new Uint8Array(bytes).includes(0)) return null;
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return new TextDecoder("windows-1252").decode(bytes);
  }
}
