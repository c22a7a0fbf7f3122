/**
 * Single-key shortcuts: which there are, by which keys, and which of them must be held.
 *
 * A presentation remote is a keyboard: its buttons send Space, arrows, Enter, B or F5, to whatever page is in front. So those
 * keys do nothing when they are just pressed, and on the stage no key does but Escape. Keys can be changed and switched off,
 * as people who speak to their computer need it (WCAG 2.1.4).
 */

import { SHORTCUTS } from "../state/words.js";

/** How long a key is held that must be. */
const HOLD_MS = 800;

/** What remotes send. */
const OF_REMOTES = new Set([
  " ",
  "Enter",
  "PageUp",
  "PageDown",
  "ArrowUp",
  "ArrowDown",
  "ArrowLeft",
  "ArrowRight",
  "b",
  ".",
  "F5",
]);

/** The keys of a new browser, by what they do; an empty one where there is none. */
const DEFAULTS = {
  talk: " ",
  pause: "p",
  stage: "f",
  larger: "+",
  smaller: "-",
  live: "End",
  copy: "c",
  help: "?",
};

/** Keys of more than one character that can be chosen. */
const NAMED = new Set(["End", "Home", "PageUp", "PageDown", "Insert"]);

/**
 * @typedef {keyof typeof DEFAULTS} Action
 *
 * @typedef {object} Chosen  what is remembered
 * @property {boolean} on  whether there are shortcuts at all
 * @property {Partial<Record<Action, string>>} keys  those that were changed
 */

export const ACTIONS = /** @type {Action[]} */ (Object.keys(DEFAULTS));

export class Shortcuts {
  #acts;
  #isOnStage;
  #isLive;
  #chosen;
  #changed;
  /** The key that is held down, and what it does in the end. @type {{code: string, act: () => void} | null} */
  #held = null;
  #timer = 0;

  /**
   * @param {Record<Action, () => void>} acts
   * @param {object} page
   * @param {() => boolean} page.isOnStage
   * @param {() => boolean} page.isLive
   * @param {Partial<Chosen> | undefined} chosen  as it was remembered
   * @param {(chosen: Chosen) => void} changed  called with what is to be remembered
   */
  constructor(acts, { isOnStage, isLive }, chosen, changed) {
    this.#acts = acts;
    this.#isOnStage = isOnStage;
    this.#isLive = isLive;
    this.#chosen = { on: chosen?.on ?? true, keys: { ...chosen?.keys } };
    this.#changed = changed;
    addEventListener("keydown", (event) => this.#pressed(event));
    addEventListener("keyup", ({ code }) => code === this.#held?.code && this.#letGo());
    addEventListener("blur", () => this.#letGo());
  }

  get isOn() {
    return this.#chosen.on;
  }

  /** @param {boolean} on */
  switch(on) {
    this.#chosen.on = on;
    this.#changed(this.#chosen);
  }

  /** The key for this; empty where there is none. @param {Action} action @returns {string} */
  keyOf(action) {
    return this.#chosen.keys[action] ?? DEFAULTS[action];
  }

  /** What is done by this key. @param {string} key @returns {Action | undefined} */
  actionOf(key) {
    return ACTIONS.find((action) => this.keyOf(action) === key);
  }

  /** @param {Action} action @param {string} key empty for none */
  change(action, key) {
    this.#chosen.keys[action] = key;
    this.#changed(this.#chosen);
  }

  restore() {
    this.#chosen = { on: true, keys: {} };
    this.#changed(this.#chosen);
  }

  /** What a button's tooltip says. @param {string} title @param {Action} action */
  hint(title, action) {
    const key = this.isOn ? this.keyOf(action) : "";
    return SHORTCUTS.hint(title, nameOfKey(key), OF_REMOTES.has(key));
  }

  /** @param {KeyboardEvent} event */
  #pressed(event) {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const target = /** @type {Element} */ (event.target);
    const isOnStage = this.#isOnStage();
    const key = keyOfEvent(event);
    // A remote that begins a slide show must not load the page again under a talk.
    if (key === "F5" && (isOnStage || this.#isLive())) event.preventDefault();
    if (document.querySelector("dialog[open]") || target.closest("input, select, textarea")) return;
    if (event.repeat) {
      if (event.code === this.#held?.code || (isOnStage && OF_REMOTES.has(key))) event.preventDefault();
      return;
    }
    this.#letGo();
    const act = this.#actOf(key, target, isOnStage);
    // Nothing on the stage is pressed or scrolled by a remote. Escape and Tab are for people.
    if (isOnStage && (act || OF_REMOTES.has(key))) event.preventDefault();
    if (!act) return;
    if (!isOnStage && !OF_REMOTES.has(key)) return act();
    event.preventDefault();
    this.#held = { code: event.code, act };
    this.#timer = setTimeout(() => this.#heldLongEnough(), HOLD_MS);
  }

  /** What this key does here, at once or when it is held. @param {string} key @param {Element} target @param {boolean} isOnStage */
  #actOf(key, target, isOnStage) {
    if (key === " " || key === "Enter") {
      const button = target.closest("button");
      if (isOnStage && button) return () => button.click();
      // What has the focus has its own use for them, the captions too: they scroll.
      if (target.closest("button, a, summary, [popover], [tabindex='0']")) return null;
    }
    const action = this.isOn ? this.actionOf(key) : undefined;
    if (!action || (isOnStage && !ON_STAGE.has(action))) return null;
    return this.#acts[action];
  }

  #heldLongEnough() {
    const held = this.#held;
    this.#held = null;
    held?.act();
  }

  #letGo() {
    clearTimeout(this.#timer);
    this.#held = null;
  }
}

/** What can be done there: a talk is neither begun nor ended before the eyes of a hall. @type {ReadonlySet<Action>} */
const ON_STAGE = new Set(/** @type {Action[]} */ (["pause", "stage", "larger", "smaller"]));

/** The key that an event is about: letters without regard to case, both keys that plus is on. @param {KeyboardEvent} event */
export function keyOfEvent({ key }) {
  if (key === "=") return "+";
  return key.length === 1 ? key.toLowerCase() : key;
}

/** Whether a key can be chosen. @param {string} key */
export function isUsable(key) {
  return [...key].length === 1 || NAMED.has(key);
}

/** @param {string} key as it stands in a sentence */
export function nameOfKey(key) {
  if (key === " ") return SHORTCUTS.space;
  return key === "-" ? "−" : key.length === 1 ? key.toUpperCase() : key;
}
