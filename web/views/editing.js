/**
 * Correcting a transcript where it stands: the text of a line, and who says it.
 *
 * @typedef {import("../client/archive.js").Edit} Edit
 * @typedef {import("../client/messages.js").FinalSegment} Segment
 * @typedef {import("../state/speakers.js").Cast} Cast
 */

import { shownName, typedName } from "../state/speakers.js";
import { PAST } from "../state/words.js";
import { find } from "./elements.js";

/** The longest line that the server takes. */
const LONGEST = 5000;

/**
 * Let the text of a line be typed over. Enter keeps it, and so does leaving it; Escape does not.
 *
 * @param {HTMLElement} shown what stands there
 * @param {string} text
 * @param {string} label of the field
 * @param {(text: string | null, isByKey: boolean) => void} ended with what is to be kept; null where nothing is
 */
export function editLine(shown, text, label, ended) {
  const field = document.createElement("textarea");
  field.className = "line-field";
  field.value = text;
  field.ariaLabel = label;
  field.maxLength = LONGEST;
  field.dir = "auto";
  field.enterKeyHint = "done";
  field.rows = 1;
  const fit = () => {
    field.style.height = "auto";
    field.style.height = `${field.scrollHeight}px`;
  };
  let isOver = false;
  const end = (/** @type {boolean} */ isKept, /** @type {boolean} */ isByKey) => {
    if (isOver) return;
    isOver = true;
    const typed = field.value.trim().replace(/\s+/g, " ");
    shown.hidden = false;
    field.remove();
    ended(isKept && typed !== text ? typed : null, isByKey);
  };
  field.addEventListener("input", fit);
  field.addEventListener("keydown", (event) => {
    if (event.isComposing || (event.key !== "Enter" && event.key !== "Escape")) return;
    event.preventDefault();
    end(event.key === "Enter", true);
  });
  field.addEventListener("blur", () => end(true, false));
  shown.after(field);
  shown.hidden = true;
  fit();
  field.focus();
}

/**
 * Ask who says a line, how that speaker is called, and whether another one is the same. Resolves to the changes of the text,
 * and the name where that is another one; to null where nothing is to be changed.
 *
 * @param {number} at which line
 * @param {Segment} segment
 * @param {string[]} labels all speakers
 * @param {Cast} cast
 * @returns {Promise<{edits: Edit[], name: string | null} | null>}
 */
export function askWhoSays(at, segment, labels, cast) {
  const label = segment.speaker;
  const dialog = find("speaker-dialog");
  const next = nextLabel(labels);
  find("speaker-line").textContent = segment.text;
  const others = labels.filter((other) => other !== label);
  fill(find("line-speaker"), [
    ...(label === null ? [["", PAST.nobody]] : []),
    ...labels.map((one) => [one, shownName(one, cast)]),
    [next, PAST.anotherSpeaker],
  ]);
  find("line-speaker").value = label ?? "";
  const shown = label === null ? "" : shownName(label, cast);
  find("speaker-name-label").hidden = label === null;
  find("speaker-name-word").textContent = PAST.nameOf(shown);
  find("speaker-name").placeholder = shown;
  find("speaker-name").value = label === null ? "" : typedName(label, cast);
  find("merge-label").hidden = label === null || others.length === 0;
  find("merge-word").textContent = PAST.allOf(shown);
  fill(find("merge-into"), [["", PAST.leaveAll], ...others.map((one) => [one, shownName(one, cast)])]);
  // No button of the form: Enter in a field would press the first one.
  find("speaker-cancel").onclick = () => dialog.close("");
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "save" ? wanted(at, label, cast) : null), {
      once: true,
    });
  });
}

/** Ask whether something shall be done that cannot be undone. @param {string} question @param {string} about @param {string} yes @returns {Promise<boolean>} */
export function askSure(question, about, yes) {
  const dialog = find("sure-dialog");
  find("sure-title").textContent = question;
  find("sure-about").textContent = about;
  find("sure-yes").textContent = yes;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

/** @param {number} at @param {string | null} label @param {Cast} cast @returns {{edits: Edit[], name: string | null}} */
function wanted(at, label, cast) {
  const [speaker, into] = [find("line-speaker").value, find("merge-into").value];
  const name = find("speaker-name").value.trim().replace(/\s+/g, " ");
  /** @type {Edit[]} */
  const edits = [];
  if (speaker && speaker !== label) edits.push({ segment: at, speaker });
  if (label !== null && into) edits.push({ speaker: label, into });
  return { edits, name: label !== null && name !== typedName(label, cast) ? name : null };
}

/** The label of one speaker more. @param {string[]} labels */
function nextLabel(labels) {
  const numbers = labels.map((label) => {
    const [, kind, digits] = /^(S|SPEAKER_)(\d+)$/.exec(label) ?? [];
    return digits === undefined ? -1 : Number(digits) - (kind === "S" ? 1 : 0);
  });
  return `SPEAKER_${String(Math.max(-1, ...numbers) + 1).padStart(2, "0")}`;
}

/** @param {HTMLSelectElement} select @param {string[][]} choices */
function fill(select, choices) {
  select.replaceChildren(
    ...choices.map(([value, text]) => {
      const option = document.createElement("option");
      option.value = value;
      option.textContent = text;
      return option;
    }),
  );
}
