/** Typing a name where the name stands: a press on it makes it an input, Enter or leaving keeps it, Escape does not. */

import { SPEAKERS } from "../state/words.js";

/** Container → its name at which the Tab key stops. @type {WeakMap<HTMLElement, HTMLElement>} */
const STOPS = new WeakMap();
/** The longest name that the server keeps. */
const LONGEST = 80;

/**
 * @typedef {object} NamingEvents
 * @property {(label: string) => string} typed  the name that was typed for this label; empty without one
 * @property {(label: string, name: string) => void} named
 * @property {() => void} [began]  somebody types
 * @property {() => void} [ended]
 */

/**
 * Let the names in `container` (buttons of class `speaker`) be typed over, now and whenever more come. They are one stop
 * of the Tab key together; arrow keys go from one to the next.
 *
 * @param {HTMLElement} container
 * @param {NamingEvents} events
 */
export function nameSpeakersIn(container, events) {
  container.addEventListener("click", (event) => {
    const button = nameAt(event.target);
    if (button) typeOver(button, events);
  });
  container.addEventListener("focusin", (event) => {
    const button = nameAt(event.target);
    if (button) stopAt(container, button);
  });
  container.addEventListener("keydown", (event) => {
    const button = nameAt(event.target);
    const steps = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!button || !steps) return;
    event.preventDefault();
    const names = [...namesIn(container)];
    names[names.indexOf(button) + steps]?.focus();
  });
}

/**
 * Call after names have come or gone: the Tab key stops at the newest, unless one has the focus.
 *
 * @param {HTMLElement} container @param {HTMLElement | null} newest
 */
export function namesChanged(container, newest) {
  if (newest && !nameAt(document.activeElement)) stopAt(container, newest);
}

/** @param {HTMLButtonElement} button @param {NamingEvents} events */
function typeOver(button, { typed, named, began, ended }) {
  const label = button.dataset.label ?? "";
  const before = typed(label);
  const input = document.createElement("input");
  input.className = "naming";
  input.value = before;
  input.placeholder = button.textContent ?? "";
  input.ariaLabel = SPEAKERS.nameOf(button.textContent ?? "");
  input.maxLength = LONGEST;
  input.autocomplete = "off";
  input.spellcheck = false;
  input.enterKeyHint = "done";
  let isOver = false;
  const end = (/** @type {{isKept: boolean, isByKey: boolean}} */ { isKept, isByKey }) => {
    if (isOver) return;
    isOver = true;
    const name = input.value.trim().replace(/\s+/g, " ");
    button.hidden = false;
    if (isByKey) button.focus({ preventScroll: true });
    input.remove();
    if (isKept && name !== before) named(label, name);
    ended?.();
  };
  input.addEventListener("keydown", (event) => {
    if (event.isComposing || (event.key !== "Enter" && event.key !== "Escape")) return;
    event.preventDefault();
    event.stopPropagation();
    end({ isKept: event.key === "Enter", isByKey: true });
  });
  input.addEventListener("blur", () => end({ isKept: true, isByKey: false }));
  began?.();
  button.after(input);
  button.hidden = true;
  input.focus({ preventScroll: true });
  input.select();
}

/** @param {HTMLElement} container @param {HTMLElement} button */
function stopAt(container, button) {
  const known = STOPS.get(container);
  // Looked for where it went with its element: through an hour of captions that takes long.
  const before = known?.isConnected ? known : /** @type {HTMLElement | null} */ (container.querySelector(".speaker[tabindex='0']"));
  if (before !== button && before) before.tabIndex = -1;
  button.tabIndex = 0;
  STOPS.set(container, button);
}

/** @param {HTMLElement} container */
function namesIn(container) {
  return /** @type {HTMLCollectionOf<HTMLButtonElement>} */ (container.getElementsByClassName("speaker"));
}

/** @param {EventTarget | null} target @returns {HTMLButtonElement | null} */
function nameAt(target) {
  return target instanceof Element ? target.closest("button.speaker") : null;
}
