/** The list of past sessions: searched, page after page, newest first. */

import { Refused, list } from "../client/archive.js";
import { locale } from "../state/locale.js";
import { PAST, clock } from "../state/words.js";
import { find, make } from "./elements.js";

/** @typedef {import("../client/archive.js").Entry} Entry */

/** How long nothing is typed before it is searched for. */
const PAUSE_MS = 250;

export class History {
  /** Behind which session the next page begins; null where there is none. @type {string | null} */
  #next = null;
  /** Counts what was asked: an answer that comes late is nobody's any more. */
  #asked = 0;
  #timer = 0;
  #opened = "";

  constructor() {
    find("search-form").addEventListener("submit", (/** @type {Event} */ event) => {
      event.preventDefault();
      this.refresh();
    });
    find("search").addEventListener("input", () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.refresh(), PAUSE_MS);
    });
    find("more").addEventListener("click", () => this.#load(this.#next));
  }

  /** Ask for the first page again. */
  async refresh() {
    clearTimeout(this.#timer);
    await this.#load(null);
  }

  /** Show which session is open. @param {string} session empty for none */
  show(session) {
    this.#opened = session;
    this.#markOpened();
  }

  /** @param {string | null} before */
  async #load(before) {
    const asked = ++this.#asked;
    const query = find("search").value.trim();
    find("index-state").textContent = query ? PAST.searching : "";
    try {
      const { sessions, next } = await list(query, before);
      if (asked !== this.#asked) return;
      const entries = sessions.map((entry) => entryOf(entry, query));
      if (before === null) find("entries").replaceChildren(...entries);
      else find("entries").append(...entries);
      this.#next = next;
      const isEmpty = find("entries").children.length === 0;
      find("index-state").textContent = isEmpty ? (query ? PAST.notFound : PAST.none) : "";
      this.#markOpened();
    } catch (error) {
      if (asked !== this.#asked) return;
      find("index-state").textContent = sentenceOf(error);
    }
    find("more").hidden = this.#next === null;
  }

  #markOpened() {
    for (const link of find("entries").querySelectorAll("a")) {
      link.ariaCurrent = link.dataset.session === this.#opened ? "true" : null;
    }
  }
}

/** Why something was not done, for people. @param {unknown} error */
export function sentenceOf(error) {
  if (!(error instanceof Refused)) throw error;
  if (error.status === 0) return PAST.unreachable;
  if (error.status === 401) return PAST.unauthorized;
  if (error.status === 404) return PAST.gone;
  if (error.status === 412) return PAST.changedElsewhere;
  return error.message || PAST.notKept;
}

/** When a session was, how long, and how it stands. @param {Entry} entry */
export function aboutOf({ created, duration, state }) {
  const begun = new Date(created).toLocaleString(locale, { dateStyle: "medium", timeStyle: "short" });
  const length = duration === null ? "" : clock(duration);
  return [begun, length, Object.hasOwn(PAST.states, state) ? PAST.states[state] : ""].filter(Boolean).join(" · ");
}

/** @param {Entry} entry @param {string} query */
function entryOf(entry, query) {
  const item = document.createElement("li");
  const link = document.createElement("a");
  link.className = "entry";
  link.href = `past?session=${encodeURIComponent(entry.session)}`;
  link.dataset.session = entry.session;
  const title = make("b", "entry-title");
  title.dir = "auto";
  title.textContent = entry.title ?? PAST.untitled;
  title.classList.toggle("untitled", entry.title === null);
  const about = make("span", "entry-about");
  about.textContent = aboutOf(entry);
  const excerpt = make("span", "entry-excerpt");
  excerpt.dir = "auto";
  excerpt.append(...marked(entry.excerpt ?? "", query));
  link.append(title, about, excerpt);
  item.append(link);
  return item;
}

/** A text with what was searched for marked in it. @param {string} text @param {string} query @returns {Node[]} */
function marked(text, query) {
  const words = query.split(/\s+/).filter(Boolean);
  if (words.length === 0) return [document.createTextNode(text)];
  const pattern = new RegExp(words.map((word) => word.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&")).join("|"), "giu");
  /** @type {Node[]} */
  const nodes = [];
  let at = 0;
  for (const { index, 0: hit } of text.matchAll(pattern)) {
    const mark = document.createElement("mark");
    mark.textContent = hit;
    nodes.push(document.createTextNode(text.slice(at, index)), mark);
    at = index + hit.length;
  }
  return [...nodes, document.createTextNode(text.slice(at))];
}
