/**
 * How overlay and stage look: the parameters of their links, read and written. What cannot be meant falls back to the
 * default, and is told to whoever asks: the editor does, a hall never sees it.
 *
 * @typedef {"overlay" | "stage"} Kind
 *
 * @typedef {object} Look
 * @property {number} clear  seconds after the last word until the lines are cleared; 0 for never
 * @property {number} size  of the letters, in percent
 * @property {number} lines  how many are shown; 0 for as many as there is room for
 * @property {string} font  a family's name; empty for the page's own
 * @property {string} color  of the text, as #rrggbb
 * @property {string} background  as #rrggbb
 * @property {number} opacity  of the background, in percent
 * @property {"top" | "middle" | "bottom"} position
 * @property {"start" | "center" | "end"} align
 * @property {number} width  of the lines at most, in percent of the window
 * @property {boolean} upper  in capitals
 * @property {boolean} names  who speaks is named
 *
 * @typedef {{name: string, value: string, isKnown: boolean}} Problem  a parameter that was not taken
 */

/** What holds where a link says nothing. @type {Record<Kind, Look>} */
export const DEFAULTS = {
  overlay: {
    clear: 8,
    size: 100,
    lines: 3,
    font: "",
    color: "#ffffff",
    background: "#000000",
    opacity: 78,
    position: "bottom",
    align: "center",
    width: 100,
    upper: false,
    names: true,
  },
  stage: {
    clear: 20, // whoever reads a wall of text looks up less often than a viewer of a picture
    size: 100,
    lines: 0,
    font: "",
    color: "#ffffff",
    background: "#000000",
    opacity: 100,
    position: "bottom",
    align: "start",
    width: 100,
    upper: false,
    names: true,
  },
};

/** The least and the most of each number. @type {Record<string, [number, number]>} */
export const RANGES = { clear: [0, 3600], size: [25, 400], lines: [0, 12], opacity: [0, 100], width: [20, 100] };

/** What each of these may be. @type {Record<string, string[]>} */
export const VALUES = { position: ["top", "middle", "bottom"], align: ["start", "center", "end"] };

/** Families that every browser has in some form; CSS writes them without quotes. */
export const GENERIC_FONTS = ["serif", "sans-serif", "monospace", "system-ui", "ui-rounded"];

/** Parameters of a link that say which page it is, and in which language. */
const NOT_OF_A_LOOK = new Set(["overlay", "stage", "lang"]);
/** Keeps a family's name from being anything else in CSS. */
const FONT = /^[\p{L}\p{M}\p{N} _-]{1,60}$/u;
const FLAGS = new Map([
  ["", true],
  ["1", true],
  ["true", true],
  ["on", true],
  ["0", false],
  ["false", false],
  ["off", false],
]);

/**
 * Read the look out of a link's parameters.
 *
 * @param {URLSearchParams} parameters
 * @param {Kind} kind
 * @returns {{look: Look, problems: Problem[]}}
 */
export function readLook(parameters, kind) {
  /** @type {Record<string, any>} */
  const look = { ...DEFAULTS[kind] };
  /** @type {Problem[]} */
  const problems = [];
  for (const [name, value] of parameters) {
    if (NOT_OF_A_LOOK.has(name)) continue;
    const isKnown = Object.hasOwn(look, name);
    const read = isKnown ? valueOf(name, value.trim()) : undefined;
    if (read === undefined) problems.push({ name, value, isKnown });
    else look[name] = read;
  }
  return { look: /** @type {Look} */ (look), problems };
}

/**
 * The link to a session's overlay or stage in this look; it says no more than what differs from the defaults.
 *
 * @param {string} link to any page of the session's audience
 * @param {Kind} kind
 * @param {Look} look
 */
export function writeLook(link, kind, look) {
  const url = new URL(link);
  const tongue = url.searchParams.get("lang");
  url.pathname = url.pathname.replace(/\/overlay\/([^/]+)$/, "/watch/$1"); // which would be an overlay whatever else it says
  url.search = "";
  url.searchParams.set(kind, "1");
  if (tongue) url.searchParams.set("lang", tongue);
  for (const [name, value] of Object.entries(look)) {
    if (value === /** @type {any} */ (DEFAULTS[kind])[name]) continue;
    url.searchParams.set(name, typeof value === "boolean" ? String(Number(value)) : String(value).replace("#", ""));
  }
  return url.href;
}

/** Which page a link's address leads to; null for the audience's own. @param {URL | Location} address @returns {Kind | null} */
export function kindOf({ pathname, search }) {
  const parameters = new URLSearchParams(search);
  if (parameters.has("overlay") || pathname.split("/").includes("overlay")) return "overlay";
  return parameters.has("stage") ? "stage" : null;
}

/** Give an element of class `overlay` or `stage` this look. @param {HTMLElement} element @param {Look} look */
export function wear(element, look) {
  const { size, lines, font, color, background, opacity, position, align, width, upper, names } = look;
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(background.slice(at, at + 2), 16));
  const properties = {
    size: String(size / 100),
    lines: lines ? String(lines) : "",
    font: font && !GENERIC_FONTS.includes(font) ? `"${font}"` : font,
    color,
    background: `rgb(${red} ${green} ${blue} / ${opacity}%)`,
    ground: background,
    width: `${width}%`,
  };
  for (const [name, value] of Object.entries(properties)) element.style.setProperty(`--look-${name}`, value);
  Object.assign(element.dataset, { position, align, upper: String(upper), names: String(names) });
  element.dataset.lines = lines ? "some" : "all";
}

/** @param {string} name @param {string} value @returns {string | number | boolean | undefined} undefined for what cannot be meant */
function valueOf(name, value) {
  if (Object.hasOwn(RANGES, name)) {
    const [least, most] = RANGES[name];
    const number = Number(value);
    const isMeant = /^\d+(\.\d+)?$/.test(value) && number >= least && number <= most;
    return isMeant && (name !== "lines" || Number.isInteger(number)) ? number : undefined;
  }
  if (Object.hasOwn(VALUES, name)) return VALUES[name].includes(value) ? value : undefined;
  if (name === "font") return FONT.test(value) ? value : undefined;
  if (name === "upper" || name === "names") return FLAGS.get(value.toLowerCase());
  return colorOf(value);
}

/** A colour as #rrggbb, from three or six hexadecimal digits. @param {string} value */
function colorOf(value) {
  const digits = /^#?([0-9a-f]{3}|[0-9a-f]{6})$/i.exec(value)?.[1].toLowerCase();
  if (digits === undefined) return undefined;
  return `#${digits.length === 3 ? [...digits].map((digit) => digit + digit).join("") : digits}`;
}
