/**
 * The page's language: its address says which (`?lang=de`), else what was chosen in this browser, else what the browser's
 * reader prefers; English where there is no table for any of them.
 */

/** What every language's table holds. @typedef {typeof import("../words/en.js").default} Table */

/** The languages there are, each in its own words. @type {Record<string, string>} */
export const TONGUES = { en: "English", de: "Deutsch", es: "Español", fr: "Français", vi: "Tiếng Việt" };

const KEY = "live-asr.language";

/** The language that was chosen in this browser; empty for the browser's own. */
export function chosenTongue() {
  try {
    return localStorage.getItem(KEY) ?? "";
  } catch {
    return ""; // storage may be forbidden
  }
}

/** Show this page, and others from now on, in another language. @param {string} tongue empty for the browser's own */
export function chooseTongue(tongue) {
  try {
    localStorage.setItem(KEY, tongue);
  } catch {
    // A browser that forbids storage keeps to its own language.
  }
  const address = new URL(location.href);
  address.searchParams.delete("lang");
  if (address.href === location.href) location.reload();
  else location.replace(address);
}

/** @param {string} tag as in BCP 47 @returns {string} the language without its region */
function bare(tag) {
  return tag.toLowerCase().split(/[-_]/)[0];
}

/** @param {string} tongue @returns {Promise<{tongue: string, table: Table}>} */
async function load(tongue) {
  try {
    return { tongue, table: (await import(`../words/${tongue}.js`)).default };
  } catch (error) {
    if (tongue === "en") throw error;
    return load("en"); // out of reach: better the page in English than none
  }
}

const asked = [new URLSearchParams(location.search).get("lang") ?? "", chosenTongue(), ...navigator.languages];
const { tongue, table } = await load(asked.map(bare).find((one) => Object.hasOwn(TONGUES, one)) ?? "en");

/** All words of the page. */
export const words = table;
/** For `Intl`: as the reader's own region writes numbers and times, where the page is in the reader's language. */
export const locale = navigator.languages.find((tag) => bare(tag) === tongue) ?? tongue;

document.documentElement.lang = tongue;
// The style sheet's only words.
document.documentElement.style.setProperty("--not-confirmed", JSON.stringify(table.PAGE.notConfirmed));
