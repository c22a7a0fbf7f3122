/**
 * What somebody in the audience chose for reading, remembered in their browser. A script of the page by itself: light does not
 * flash up in a dark hall while the words of the page are on their way.
 *
 * @typedef {"auto" | "light" | "dark"} Theme
 * @typedef {{size: number, theme: Theme}} Reading
 */

import { here } from "../client/addresses.js";
import { kindOf } from "../state/look.js";

const KEY = "live-asr.reading";
/** The size of the text, in percent. */
export const [SMALLEST, LARGEST] = [60, 300];
const NORMAL = 100;
/** The dark sheet's medium under each theme. @type {Record<Theme, string>} */
const MEDIA = { auto: "(prefers-color-scheme: dark)", light: "not all", dark: "all" };
/** @type {Record<Theme, string>} */
const SCHEMES = { auto: "light dark", light: "light", dark: "dark" };

/** @param {Reading} chosen */
export function showChosen({ size, theme }) {
  /** @type {HTMLLinkElement} */ (document.getElementById("dark")).media = MEDIA[theme];
  document.documentElement.style.colorScheme = SCHEMES[theme];
  document.documentElement.style.setProperty("--reading-size", String(size / NORMAL));
}

/** @returns {Reading} */
export function remembered() {
  let kept = {};
  try {
    kept = JSON.parse(localStorage.getItem(KEY) ?? "{}");
  } catch {
    // storage may be forbidden, or hold what another page wrote
  }
  const { size, theme } = /** @type {any} */ (kept);
  return {
    size: Number.isInteger(size) ? Math.min(LARGEST, Math.max(SMALLEST, size)) : NORMAL,
    theme: Object.hasOwn(MEDIA, theme) ? theme : "auto",
  };
}

/** @param {Reading} chosen */
export function remember(chosen) {
  try {
    localStorage.setItem(KEY, JSON.stringify(chosen));
  } catch {
    // A browser that forbids storage forgets them with the page; nothing else is lost.
  }
}

// Overlay and stage look as their links say.
if (!kindOf({ pathname: here(), search: location.search })) showChosen(remembered());
