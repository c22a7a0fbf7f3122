/** The dialog that shows the single-key shortcuts, changes them and switches them off. */

import { SHORTCUTS } from "../state/words.js";
import { make } from "./elements.js";
import { ACTIONS, isUsable, keyOfEvent, nameOfKey } from "./shortcuts.js";

/**
 * @typedef {import("./shortcuts.js").Action} Action
 * @typedef {import("./shortcuts.js").Shortcuts} Shortcuts
 */

export class ShortcutsDialog {
  #shortcuts;
  #dialog = /** @type {HTMLDialogElement} */ (make("dialog", "shortcuts"));
  #tick = document.createElement("input");
  #rows = make("div", "shortcut-rows");
  #said = make("p", "shortcut-said");
  /** Whose key is being chosen. @type {Action | null} */
  #choosing = null;

  /** @param {Shortcuts} shortcuts */
  constructor(shortcuts) {
    this.#shortcuts = shortcuts;
    this.#build();
    this.#tick.addEventListener("change", () => {
      shortcuts.switch(this.#tick.checked);
      this.#render();
    });
    this.#dialog.addEventListener("keydown", (event) => this.#pressed(event));
    this.#dialog.addEventListener("close", () => this.#choose(null));
    this.#rows.addEventListener("focusout", () => this.#choosing && this.#choose(null));
  }

  open() {
    if (this.#dialog.open) return;
    this.#said.textContent = "";
    this.#render();
    this.#dialog.showModal();
  }

  #build() {
    const title = make("h2", "");
    const about = make("p", "shortcut-about");
    const label = make("label", "tick");
    const ends = make("div", "answers");
    title.id = "shortcuts-title";
    title.textContent = SHORTCUTS.title;
    about.textContent = SHORTCUTS.about;
    this.#tick.type = "checkbox";
    this.#tick.autofocus = true;
    label.append(this.#tick, ` ${SHORTCUTS.enabled}`);
    this.#said.role = "status";
    ends.append(
      button(SHORTCUTS.defaults, "answer", () => {
        this.#shortcuts.restore();
        this.#render();
      }),
      button(SHORTCUTS.close, "answer", () => this.#dialog.close()),
    );
    this.#dialog.setAttribute("aria-labelledby", title.id);
    this.#dialog.append(title, about, label, this.#rows, this.#said, ends);
    document.body.append(this.#dialog);
  }

  #render() {
    this.#tick.checked = this.#shortcuts.isOn;
    this.#rows.replaceChildren(...ACTIONS.map((action) => this.#row(action)));
  }

  /** @param {Action} action */
  #row(action) {
    const row = make("div", "shortcut");
    const name = make("span", "");
    const what = SHORTCUTS.actions[action];
    const key = nameOfKey(this.#shortcuts.keyOf(action));
    const change = button(key || SHORTCUTS.none, "shortcut-key", () => this.#choose(action));
    const clear = button(SHORTCUTS.clear, "shortcut-clear", () => this.#set(action, ""));
    name.textContent = what;
    change.dataset.action = action;
    change.ariaLabel = SHORTCUTS.change(what, key || SHORTCUTS.none);
    clear.ariaLabel = SHORTCUTS.clearOf(what);
    change.disabled = !this.#shortcuts.isOn;
    clear.disabled = !this.#shortcuts.isOn || key === "";
    row.append(name, change, clear);
    return row;
  }

  /** Let the next key be this one's. @param {Action | null} action */
  #choose(action) {
    const before = this.#choosing;
    this.#choosing = null;
    if (before) this.#keyButton(before).textContent = nameOfKey(this.#shortcuts.keyOf(before)) || SHORTCUTS.none;
    this.#choosing = action;
    if (!action) return;
    this.#keyButton(action).focus();
    this.#keyButton(action).textContent = this.#said.textContent = SHORTCUTS.press;
  }

  /** @param {Action} action @param {string} key */
  #set(action, key) {
    const what = SHORTCUTS.actions[action];
    this.#choosing = null;
    this.#shortcuts.change(action, key);
    this.#render();
    this.#said.textContent = key ? SHORTCUTS.set(what, nameOfKey(key)) : SHORTCUTS.off(what);
    this.#keyButton(action).focus();
  }

  /** @param {KeyboardEvent} event */
  #pressed(event) {
    const action = this.#choosing;
    if (!action || event.key === "Tab" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (["Shift", "CapsLock", "AltGraph", "Dead", "Process"].includes(event.key)) return;
    event.preventDefault();
    event.stopPropagation();
    if (event.key === "Escape") {
      this.#said.textContent = "";
      return this.#choose(null);
    }
    const key = keyOfEvent(event);
    const other = this.#shortcuts.actionOf(key);
    if (!isUsable(key)) this.#said.textContent = SHORTCUTS.unusable;
    else if (other && other !== action)
      this.#said.textContent = SHORTCUTS.taken(nameOfKey(key), SHORTCUTS.actions[other]);
    else this.#set(action, key);
  }

  /** @param {Action} action @returns {HTMLButtonElement} */
  #keyButton(action) {
    return /** @type {HTMLButtonElement} */ (this.#rows.querySelector(`[data-action=${action}]`));
  }
}

/** @param {string} text @param {string} className @param {() => void} pressed */
function button(text, className, pressed) {
  const element = /** @type {HTMLButtonElement} */ (make("button", className));
  element.type = "button";
  element.textContent = text;
  element.addEventListener("click", pressed);
  return element;
}
