/** The languages that Whisper knows, with names in the reader's own language. */

/** Whisper's codes. ISO 639-1 but for `haw`, `yue`, and `jw`, which the standard calls `jv`. */
const CODES = (
  "af am ar as az ba be bg bn bo br bs ca cs cy da de el en es et eu fa fi fo fr gl gu ha haw he hi hr ht hu hy id is it " +
  "ja jw ka kk km kn ko la lb ln lo lt lv mg mi mk ml mn mr ms mt my ne nl nn no oc pa pl ps pt ro ru sa sd si sk sl sn " +
  "so sq sr su sv sw ta te tg th tk tl tr tt uk ur uz vi yi yo yue zh"
).split(" ");

/** Names of languages for which browsers may have none in any language. @type {Record<string, string>} */
const RARELY_NAMED = {
  ba: "Bashkir",
  bo: "Tibetan",
  br: "Breton",
  fo: "Faroese",
  ht: "Haitian Creole",
  haw: "Hawaiian",
  jw: "Javanese",
  lb: "Luxembourgish",
  ln: "Lingala",
  mg: "Malagasy",
  mi: "Māori",
  nn: "Norwegian Nynorsk",
  oc: "Occitan",
  sa: "Sanskrit",
  sn: "Shona",
  su: "Sundanese",
  tg: "Tajik",
  tk: "Turkmen",
  tt: "Tatar",
  yi: "Yiddish",
  yue: "Cantonese",
};

/** Locales → what knows the names of languages in the first of them that has one. @type {Map<string, Intl.DisplayNames>} */
const NAMES = new Map();

/**
 * The tag that the web uses for one of Whisper's codes.
 *
 * @param {string} code
 */
export function tagOf(code) {
  return code === "jw" ? "jv" : code;
}

/**
 * The name of a language in the reader's own; in English where the browser has none; else the code itself.
 *
 * @param {string} code Whisper's
 * @param {readonly string[]} locales the reader's, best first
 */
export function nameOf(code, locales = navigator.languages) {
  return namesIn([...locales, "en"]).of(tagOf(code)) ?? RARELY_NAMED[code] ?? code;
}

/** Made once: it takes a browser longer than it takes to draw the captions. @param {string[]} locales */
function namesIn(locales) {
  const key = locales.join();
  let names = NAMES.get(key);
  if (!names) NAMES.set(key, (names = new Intl.DisplayNames(locales, { type: "language", fallback: "none" })));
  return names;
}

/**
 * All languages, sorted by name.
 *
 * @param {readonly string[]} locales the reader's, best first
 * @returns {{code: string, name: string}[]}
 */
export function languages(locales) {
  const collator = new Intl.Collator([...locales, "en"]);
  return CODES.map((code) => ({ code, name: nameOf(code, locales) })).sort((a, b) =>
    collator.compare(a.name, b.name),
  );
}
