/** Words to expect: checked where they are typed, kept in lists by name, and loaded from files. */

import { locale } from "../state/locale.js";
import { LONGEST_WORD, MOST_WORDS, entriesOf, entriesOfFile, lengthOf, textOf } from "../state/vocabulary.js";
import { EXPECTED } from "../state/words.js";
import { make } from "./elements.js";

/** A file of more bytes is no list of words. */
const LARGEST_FILE_BYTES = 1024 * 1024;
/** Characters of a word that is too long, as it is shown. */
const SHOWN = 24;
const KEY = "live-asr.lists";

export class Expected {
  #field;
  #count = make("small", "count");
  #problem = make("small", "problem");
  #said = make("small", "said");
  #lists = document.createElement("select");
  #name = document.createElement("input");
  #remove;
  #file = document.createElement("input");
  /** Lists by name. @type {Record<string, string>} */
  #kept = rememberedLists();

  /** @param {HTMLTextAreaElement} field where they are typed @param {HTMLElement} tools gets what belongs to it */
  constructor(field, tools) {
    this.#field = field;
    this.#remove = button(EXPECTED.remove, () => this.#removeList());
    this.#count.id = "vocabulary-count";
    this.#problem.id = "vocabulary-problem";
    this.#problem.role = this.#said.role = "status";
    field.setAttribute("aria-describedby", `vocabulary-about ${this.#count.id} ${this.#problem.id}`);
    this.#lists.id = "vocabulary-lists";
    this.#lists.ariaLabel = EXPECTED.lists;
    this.#name.id = "vocabulary-name";
    this.#name.ariaLabel = this.#name.placeholder = EXPECTED.name;
    this.#name.maxLength = 60;
    this.#file.type = "file";
    this.#file.id = "vocabulary-file";
    this.#file.accept = ".txt,.csv,text/plain,text/csv";
    this.#file.ariaLabel = EXPECTED.load;
    this.#file.hidden = true;
    tools.append(
      this.#count,
      this.#problem,
      this.#lists,
      this.#remove,
      this.#name,
      button(EXPECTED.save, () => this.#save()),
      button(EXPECTED.load, () => this.#file.click()),
      this.#file,
      this.#said,
    );
    this.#wire();
    this.#showLists("");
    this.#check();
  }

  #wire() {
    this.#field.addEventListener("input", () => this.#check());
    this.#field.addEventListener("change", () => this.#check());
    this.#lists.addEventListener("change", () => {
      const name = this.#lists.value;
      this.#remove.disabled = name === "";
      if (name === "") return;
      this.#name.value = name;
      this.#said.textContent = "";
      this.#set(this.#kept[name]);
    });
    this.#file.addEventListener("change", () => {
      const file = this.#file.files?.[0];
      if (file) this.#load(file);
      this.#file.value = ""; // so that the same file can be chosen again
    });
  }

  /** Say at the field what is wrong with what stands in it. */
  #check() {
    const entries = entriesOf(this.#field.value);
    const long = entries.filter((entry) => lengthOf(entry) > LONGEST_WORD);
    const fitting = entries.length - long.length;
    const problems = [
      long.length === 1 &&
        EXPECTED.tooLong(`${[...long[0]].slice(0, SHOWN).join("")}…`, lengthOf(long[0]), LONGEST_WORD),
      long.length > 1 && EXPECTED.tooLongs(long.length, LONGEST_WORD),
      fitting > MOST_WORDS && EXPECTED.tooMany(fitting, MOST_WORDS),
    ];
    const problem = problems.filter(Boolean).join(" ");
    this.#count.textContent = EXPECTED.count(entries.length, MOST_WORDS);
    if (this.#problem.textContent !== problem) this.#problem.textContent = problem;
    this.#field.ariaInvalid = String(problem !== "");
  }

  /** Have another text there, as if it had been typed. @param {string} text */
  #set(text) {
    this.#field.value = text;
    this.#field.dispatchEvent(new Event("change"));
  }

  #save() {
    const name = this.#name.value.trim();
    const entries = entriesOf(this.#field.value);
    if (name === "") {
      this.#said.textContent = EXPECTED.nameMissing;
      return this.#name.focus();
    }
    if (entries.length === 0) {
      this.#said.textContent = EXPECTED.empty;
      return this.#field.focus();
    }
    this.#kept = { ...this.#kept, [name]: entries.join("\n") };
    this.#keep(EXPECTED.saved(name, entries.length));
    this.#showLists(name);
  }

  #removeList() {
    const { [this.#lists.value]: _, ...others } = this.#kept;
    const name = this.#lists.value;
    this.#kept = others;
    this.#keep(EXPECTED.removed(name));
    this.#showLists("");
    this.#lists.focus();
  }

  /** @param {string} said  where it could be kept */
  #keep(said) {
    try {
      localStorage.setItem(KEY, JSON.stringify(this.#kept));
      this.#said.textContent = said;
    } catch {
      this.#said.textContent = EXPECTED.notKept;
    }
  }

  /** @param {string} chosen */
  #showLists(chosen) {
    const names = Object.keys(this.#kept).sort((a, b) => a.localeCompare(b, locale));
    const first = names.length > 0 ? EXPECTED.choose : EXPECTED.none;
    this.#lists.replaceChildren(new Option(first, ""), ...names.map((name) => new Option(name, name)));
    this.#lists.value = chosen;
    this.#lists.disabled = names.length === 0;
    this.#remove.disabled = chosen === "";
  }

  /** Add what a file holds and the field does not. @param {File} file */
  async #load(file) {
    if (file.size > LARGEST_FILE_BYTES) {
      this.#said.textContent = EXPECTED.tooLarge(file.name);
      return;
    }
    const text = textOf(await file.arrayBuffer());
    if (text === null) {
      this.#said.textContent = EXPECTED.notText(file.name);
      return;
    }
    const before = entriesOf(this.#field.value);
    const all = new Set([...before, ...entriesOfFile(text, /\.csv$/i.test(file.name) || file.type === "text/csv")]);
    this.#said.textContent = EXPECTED.loaded(file.name, all.size - new Set(before).size);
    this.#set([...all].join("\n"));
  }
}

/** @returns {Record<string, string>} */
function rememberedLists() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    return Object.fromEntries(Object.entries(kept).filter(([, text]) => typeof text === "string"));
  } catch {
    return {}; // storage may be forbidden, or hold what an older page wrote
  }
}

/** @param {string} text @param {() => void} pressed */
function button(text, pressed) {
  const element = /** @type {HTMLButtonElement} */ (make("button", "tool"));
  element.type = "button";
  element.textContent = text;
  element.addEventListener("click", pressed);
  return element;
}
