/** The languages that Whisper knows, with names in the page's language. */

import { locale, words } from "./locale.js";

/** Whisper's codes. ISO 639-1 but for `haw`, `yue`, and `jw`, which the standard calls `jv`. */
const CODES = (
  "af am ar as az ba be bg bn bo br bs ca cs cy da de el en es et eu fa fi fo fr gl gu ha haw he hi hr ht hu hy id is it " +
  "ja jw ka kk km kn ko la lb ln lo lt lv mg mi mk ml mn mr ms mt my ne nl nn no oc pa pl ps pt ro ru sa sd si sk sl sn " +
  "so sq sr su sv sw ta te tg th tk tl tr tt uk ur uz vi yi yo yue zh"
).split(" ");

/** Names of languages for which browsers may have none, by Whisper's code. @type {Record<string, string>} */
const RARELY_NAMED = words.LANGUAGES;
/** Made once: it takes a browser longer than it takes to draw the captions. */
const NAMES = new Intl.DisplayNames([locale, "en"], { type: "language", fallback: "none" });

/**
 * The tag that the web uses for one of Whisper's codes.
 *
 * @param {string} code
 */
export function tagOf(code) {
  return code === "jw" ? "jv" : code;
}

/** The name of a language in the page's own; else the code itself. @param {string} code Whisper's */
export function nameOf(code) {
  return NAMES.of(tagOf(code)) ?? RARELY_NAMED[code] ?? code;
}

/** All languages, sorted by name. @returns {{code: string, name: string}[]} */
export function languages() {
  const collator = new Intl.Collator([locale, "en"]);
  return CODES.map((code) => ({ code, name: nameOf(code) })).sort((a, b) => collator.compare(a.name, b.name));
}
