/** One past session, open: read, heard, corrected, saved. */

import { audioAddress, correct, entitle, erase, file, info, name, takeBack, text } from "../client/archive.js";
import { colorOf, renamed, shownName } from "../state/speakers.js";
import { PAST, clock } from "../state/words.js";
import { askSure, askWhoSays, editLine } from "./editing.js";
import { find, make } from "./elements.js";
import { aboutOf, sentenceOf } from "./history.js";

/**
 * @typedef {import("../client/archive.js").Info} Info
 * @typedef {import("../client/archive.js").Text} Text
 * @typedef {import("../client/messages.js").FinalSegment} Segment
 * @typedef {import("../state/speakers.js").Cast} Cast
 */

export class Opened {
  #session = "";
  /** @type {Info | null} */
  #info = null;
  /** @type {Text | null} */
  #text = null;
  /** Which revision is wanted; null for the best one. @type {number | null} */
  #revision = null;
  #events;
  /** Words in order of time, for the player. @type {{start: number, element: HTMLElement}[]} */
  #words = [];
  /** @type {HTMLElement | null} */
  #heard = null;

  /**
   * @param {object} events
   * @param {() => void} events.changed the list is not what it was
   * @param {() => void} events.erased
   */
  constructor(events) {
    this.#events = events;
    find("title").addEventListener("change", () => this.#entitle());
    find("title").addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => this.#titleKey(event));
    find("revision").addEventListener("change", () => {
      this.#revision = Number(find("revision").value) === this.#info?.revision ? null : Number(find("revision").value);
      this.#load();
    });
    find("export-menu").addEventListener("click", (/** @type {Event} */ event) => this.#export(event));
    find("erase").addEventListener("click", () => this.#erase());
    find("take-back").addEventListener("click", () => this.#takeBack());
    find("lines").addEventListener("click", (/** @type {Event} */ event) => this.#clicked(event));
    find("lines").addEventListener("dblclick", (/** @type {Event} */ event) => this.#edit(lineAt(event.target)));
    find("player").addEventListener("timeupdate", () => this.#showHeard());
  }

  /** Open a session; an empty one closes it. @param {string} session */
  async open(session) {
    this.#session = session;
    this.#revision = null;
    this.#info = this.#text = null;
    find("player").removeAttribute("src");
    find("player").hidden = true;
    say("");
    find("opened").hidden = session === "";
    if (session) await this.#load();
  }

  /** Whether texts and names may be changed now. */
  get #isChangeable() {
    const isOver = this.#info?.state === "done" || this.#info?.state === "failed";
    return Boolean(this.#info?.may_change && isOver && this.#revision === null);
  }

  /** @returns {Cast} */
  get #cast() {
    return { names: this.#text?.names ?? {}, speakers: this.#info?.speakers ?? [] };
  }

  async #load() {
    const session = this.#session;
    try {
      const [told, said] = await Promise.all([info(session), text(session, this.#revision)]);
      if (session !== this.#session) return;
      this.#info = told;
      this.#text = said;
    } catch (error) {
      if (session !== this.#session) return;
      find("lines").replaceChildren();
      say(sentenceOf(error));
      return;
    }
    this.#renderHeader();
    this.#renderLines();
  }

  #renderHeader() {
    const told = /** @type {Info} */ (this.#info);
    find("title").value = told.title ?? "";
    find("title").readOnly = !told.may_change;
    document.title = `${told.title ?? PAST.untitled} · live-asr`;
    find("about").textContent = [aboutOf(told), told.speakers.length && PAST.speakers(told.speakers.length)]
      .filter(Boolean)
      .join(" · ");
    renderRevisions(told, this.#text?.revision ?? 0);
    find("erase").hidden = !told.may_change;
    find("take-back").hidden = !this.#isChangeable || told.revision < 2;
    const hint = hintOf(told, this.#text?.segments.length ?? 0);
    find("hint").textContent = hint;
    find("hint").hidden = hint === "";
    const address = audioAddress(told);
    find("player").hidden = address === "";
    if (address && find("player").getAttribute("src") !== address) find("player").src = address;
    document.body.classList.toggle("can-hear", address !== "");
  }

  #renderLines() {
    const { segments } = /** @type {Text} */ (this.#text);
    this.#words = [];
    this.#heard = null;
    let before = /** @type {string | null | undefined} */ (undefined);
    find("lines").replaceChildren(
      ...segments.map((segment, at) => {
        const line = this.#lineOf(segment, at, segment.speaker !== before);
        before = segment.speaker;
        return line;
      }),
    );
    this.#words.sort((a, b) => a.start - b.start);
  }

  /** @param {Segment} segment @param {number} at @param {boolean} isFirst of its speaker's */
  #lineOf(segment, at, isFirst) {
    const cast = this.#cast;
    const line = make("li", "line");
    line.dataset.at = String(at);
    if (segment.speaker !== null) line.dataset.voice = String(colorOf(segment.speaker, cast));
    const time = clock(segment.start);
    line.append(this.#timeOf(time, segment.start));
    const isChangeable = this.#isChangeable;
    const shown = segment.speaker === null ? PAST.nobody : shownName(segment.speaker, cast);
    const speaker = isChangeable ? button("line-speaker", shown, PAST.whoSays(shown)) : make("span", "line-speaker");
    speaker.textContent = shown;
    speaker.classList.toggle("repeated", !isFirst);
    if (segment.speaker !== null || isChangeable) line.append(speaker);
    const said = make("p", "line-text");
    said.dir = "auto";
    for (const word of segment.words ?? []) {
      const element = make("span", "word");
      element.textContent = word.text;
      element.dataset.start = String(word.start);
      this.#words.push({ start: word.start, element });
      said.append(element);
    }
    line.append(said);
    if (isChangeable) line.append(button("line-edit", "✎", PAST.correctLine(time)));
    return line;
  }

  /** @param {string} time @param {number} start */
  #timeOf(time, start) {
    if (!this.#info?.audio) {
      const shown = make("span", "line-time");
      shown.textContent = time;
      return shown;
    }
    const play = button("line-time", time, PAST.playFrom(time));
    play.dataset.start = String(start);
    return play;
  }

  /** @param {Event} event */
  #clicked(event) {
    const target = event.target instanceof Element ? event.target : null;
    const line = lineAt(target);
    if (!target || !line) return;
    if (target.closest(".line-edit")) this.#edit(line);
    else if (target.closest("button.line-speaker")) this.#askWhoSays(line);
    else {
      const start = /** @type {HTMLElement | null} */ (target.closest("[data-start]"))?.dataset.start;
      if (start !== undefined && this.#info?.audio) this.#play(Number(start));
    }
  }

  /** @param {number} start seconds */
  #play(start) {
    const player = find("player");
    player.currentTime = start;
    player.play().catch(() => {}); // the browser says in the player why it does not
  }

  /** Mark the word that is heard. */
  #showHeard() {
    const now = find("player").currentTime;
    let [first, end] = [0, this.#words.length];
    while (first < end) {
      const middle = (first + end) >> 1;
      if (this.#words[middle].start <= now + 0.01) first = middle + 1;
      else end = middle;
    }
    const heard = this.#words[first - 1]?.element ?? null;
    if (heard === this.#heard) return;
    this.#heard?.removeAttribute("aria-current");
    this.#heard = heard;
    if (heard) heard.ariaCurrent = "true";
  }

  /** @param {HTMLElement | null} line */
  #edit(line) {
    if (!line || !this.#isChangeable) return;
    const at = Number(line.dataset.at);
    const segment = this.#text?.segments[at];
    const shown = /** @type {HTMLElement | null} */ (line.querySelector(".line-text"));
    if (!segment || !shown || shown.hidden) return;
    getSelection()?.removeAllRanges();
    editLine(shown, segment.text, PAST.correctLine(clock(segment.start)), (typed, isByKey) => {
      if (typed !== null) this.#correct([{ segment: at, text: typed }], at, ".line-edit");
      else if (isByKey) focusIn(at, ".line-edit");
    });
  }

  /** @param {HTMLElement} line */
  async #askWhoSays(line) {
    const at = Number(line.dataset.at);
    const segment = this.#text?.segments[at];
    if (!segment || !this.#isChangeable) return;
    const heard = this.#text?.segments.flatMap(({ speaker }) => (speaker === null ? [] : [speaker])) ?? [];
    const labels = [...new Set([...this.#cast.speakers.map(({ label }) => label), ...heard])];
    const answer = await askWhoSays(at, segment, labels, this.#cast);
    if (answer?.name !== undefined && answer.name !== null && segment.speaker !== null) {
      const names = renamed({ ...this.#cast, names: this.#info?.names ?? {} }, segment.speaker, answer.name);
      await this.#keep(() => name(this.#session, names), false);
    }
    if (answer && answer.edits.length > 0) await this.#correct(answer.edits, at, ".line-speaker");
    else if (answer?.name !== null) focusIn(at, ".line-speaker");
  }

  /** @param {import("../client/archive.js").Edit[]} edits @param {number} at @param {string} part gets the focus back */
  async #correct(edits, at, part) {
    const tag = this.#text?.tag ?? "";
    await this.#keep(() => correct(this.#session, tag, edits), true);
    focusIn(at, part);
  }

  async #entitle() {
    const title = find("title").value.trim();
    if (title === (this.#info?.title ?? "")) return;
    await this.#keep(() => entitle(this.#session, title), true);
  }

  /** @param {KeyboardEvent} event */
  #titleKey(event) {
    if (event.key === "Escape") find("title").value = this.#info?.title ?? "";
    if (event.key === "Enter" || event.key === "Escape") find("title").blur();
  }

  async #takeBack() {
    if (!(await askSure(PAST.takeBack, PAST.takeBackAbout, PAST.takeBackYes))) return;
    await this.#keep(() => takeBack(this.#session, this.#text?.tag ?? ""), true, PAST.takenBack);
  }

  async #erase() {
    const title = this.#info?.title ?? PAST.untitled;
    if (!(await askSure(PAST.erase(title), PAST.eraseAbout, PAST.eraseYes))) return;
    try {
      await erase(this.#session);
    } catch (error) {
      say(sentenceOf(error));
      return;
    }
    this.#events.erased();
  }

  /**
   * Have the server keep something, and show what there is then, also where it did not.
   *
   * @param {() => Promise<void>} change
   * @param {boolean} isListed the list shows it, too
   * @param {string} done
   */
  async #keep(change, isListed, done = PAST.saved) {
    try {
      await change();
      say(done);
      if (isListed) this.#events.changed();
    } catch (error) {
      say(sentenceOf(error));
    }
    await this.#load();
  }

  /** @param {Event} event */
  async #export(event) {
    const item = event.target instanceof Element ? event.target.closest("button") : null;
    if (!item) return;
    const format = item.dataset.format ?? "txt";
    find("export-menu").hidePopover();
    try {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(await file(this.#session, format, this.#revision));
      link.download = `${fileName(this.#info)}.${format}`;
      link.click();
      URL.revokeObjectURL(link.href);
    } catch (error) {
      say(sentenceOf(error));
    }
  }
}

/** @param {string} sentence */
function say(sentence) {
  find("message").textContent = sentence;
}

/** @param {Info} told @param {number} lines */
function hintOf({ may_change, state }, lines) {
  if (state === "failed") return PAST.failed;
  if (state !== "done") return PAST.goesOn;
  if (lines === 0) return PAST.empty;
  return may_change ? "" : PAST.readOnly;
}

/** @param {Info} told @param {number} shown */
function renderRevisions({ revision: best, state }, shown) {
  // What failed has no final text, but what was heard of it may be corrected.
  const revisions = [2, 1, 0].filter((one) => one <= best && !(one === 1 && state === "failed"));
  const options = revisions.map((revision) => {
    const option = document.createElement("option");
    option.value = String(revision);
    option.textContent = PAST.revisions[revision];
    return option;
  });
  find("revision").replaceChildren(...options);
  find("revision").value = String(shown);
  find("revision").disabled = best === 0;
}

/** What a file of this session is called. @param {Info | null} told */
function fileName(told) {
  const bare = (told?.title ?? "").replace(/[\u0000-\u001f<>:"/\\|?*]+/g, " ").trim();
  return bare || `captions-${(told?.created ?? "").slice(0, 16).replace("T", "-").replaceAll(":", "")}`;
}

/** @param {EventTarget | null} target @returns {HTMLElement | null} */
function lineAt(target) {
  return target instanceof Element ? target.closest(".line") : null;
}

/** @param {number} at which line @param {string} part */
function focusIn(at, part) {
  find("lines").querySelector(`.line[data-at="${at}"] ${part}`)?.focus({ preventScroll: true });
}

/** @param {string} className @param {string} text @param {string} label */
function button(className, text, label) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = className;
  made.textContent = text;
  made.ariaLabel = label;
  made.title = label;
  return made;
}
