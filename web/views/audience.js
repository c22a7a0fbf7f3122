/** What readers in the audience may choose: the size of the text, light or dark, and a file to take home. */

import { hasWords, transcriptOf } from "../state/state.js";
import { AUDIENCE } from "../state/words.js";
import { find, setText } from "./elements.js";
import { save } from "./saving.js";

/**
 * @typedef {import("../state/state.js").State} State
 * @typedef {"auto" | "light" | "dark"} Theme
 */

const KEY = "live-asr.reading";
/** The size of the text, in percent: least, most, and a step. */
const [SMALLEST, LARGEST, STEP] = [60, 300, 20];
const NORMAL = 100;
/** The dark sheet's medium under each theme. @type {Record<Theme, string>} */
const MEDIA = { auto: "(prefers-color-scheme: dark)", light: "not all", dark: "all" };
/** @type {Record<Theme, string>} */
const SCHEMES = { auto: "light dark", light: "light", dark: "dark" };

/**
 * Wire the tools of the audience's page.
 *
 * @param {(change: () => void) => void} reflow runs what changes the layout, and keeps what is read in its place
 * @param {() => State} current
 * @param {Record<string, string>} headers that let the page fetch the transcript
 */
export function wireReading(reflow, current, headers) {
  const chosen = remembered();
  const apply = () => {
    document.documentElement.style.setProperty("--reading-size", String(chosen.size / NORMAL));
    setText(find("size"), `${chosen.size} %`);
    find("smaller").disabled = chosen.size <= SMALLEST;
    find("larger").disabled = chosen.size >= LARGEST;
    showTheme(chosen.theme);
  };
  const choose = (/** @type {Partial<typeof chosen>} */ change) => {
    Object.assign(chosen, change);
    remember(chosen);
    reflow(apply);
  };
  find("smaller").addEventListener("click", () => choose({ size: Math.max(SMALLEST, chosen.size - STEP) }));
  find("larger").addEventListener("click", () => choose({ size: Math.min(LARGEST, chosen.size + STEP) }));
  find("theme").value = chosen.theme;
  find("theme").addEventListener("change", () => choose({ theme: find("theme").value }));
  find("save-menu").addEventListener("click", (/** @type {MouseEvent} */ event) => {
    const button = event.target instanceof Element ? event.target.closest("button") : null;
    if (!button?.dataset.format) return;
    find("save-menu").hidePopover();
    const transcript = { ...transcriptOf(current()), name: fileName(current().title) };
    save(transcript, button.dataset.format, false, headers);
  });
  apply();
}

/** Show what the session is called, and whether there is anything to save. @param {State} state */
export function showReading(state) {
  setText(find("title"), state.title || AUDIENCE.untitled);
  document.title = state.title || AUDIENCE.untitled;
  find("save").disabled = !hasWords(state);
}

/** @param {Theme} theme */
function showTheme(theme) {
  find("dark").media = MEDIA[theme];
  document.documentElement.style.colorScheme = SCHEMES[theme];
}

/** A name for files. @param {string} title */
function fileName(title) {
  return title.replace(/[\\/:*?"<>|\p{Cc}]+/gu, " ").trim() || AUDIENCE.file;
}

/** @returns {{size: number, theme: Theme}} */
function remembered() {
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

/** @param {{size: number, theme: Theme}} chosen */
function remember(chosen) {
  try {
    localStorage.setItem(KEY, JSON.stringify(chosen));
  } catch {
    // A browser that forbids storage forgets them with the page; nothing else is lost.
  }
}
