/** What readers in the audience may choose: the size of the text, light or dark, and a file to take home. */

import { hasWords, transcriptOf } from "../state/state.js";
import { AUDIENCE } from "../state/words.js";
import { find, setText } from "./elements.js";
import { LARGEST, SMALLEST, remember, remembered, showChosen } from "./reading.js";
import { save } from "./saving.js";

/** @typedef {import("../state/state.js").State} State */

/** A step of the text's size, in percent. */
const STEP = 20;

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
    showChosen(chosen);
    setText(find("size"), `${chosen.size} %`);
    find("smaller").disabled = chosen.size <= SMALLEST;
    find("larger").disabled = chosen.size >= LARGEST;
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

/** A name for files. @param {string} title */
function fileName(title) {
  return title.replace(/[\\/:*?"<>|\p{Cc}]+/gu, " ").trim() || AUDIENCE.file;
}
