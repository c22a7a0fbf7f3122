/**
 * One viewer's line to the server: comes back by itself, and goes on where it was.
 *
 * Server-Sent Events, read from a plain request and not by an `EventSource`: that one tells neither why it was refused nor
 * that the line has gone silent, and would carry the token in its address.
 */

import { at } from "./addresses.js";

/** How long to wait before the next try, and the most that it grows to. */
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 20_000;
/** A line that is lost sooner, and brought nothing new, was as good as none: the pauses go on growing. */
const STABLE_MS = 5_000;
/** How long the server may take to answer at all: a connection that the browser had kept may be dead. */
const ANSWER_MS = 8_000;
/** The server says every 15 s at least that it is there: a line that is silent for so long is dead. */
const SILENCE_MS = 35_000;

/**
 * @typedef {"connecting" | "open" | "reconnecting" | "over" | "unknown" | "unauthorized"} Line
 *
 * @typedef {object} WatchingEvents
 * @property {(message: {type: string, [field: string]: any}) => void} received
 * @property {(line: Line) => void} changed
 */

/** What the server's refusals mean; after any other one tries again. @type {Record<number, Line>} */
const REFUSALS = { 204: "over", 401: "unauthorized", 404: "unknown" };

export class Watching {
  #address;
  #token;
  #events;
  #lastId = "";
  #pause_ms = FIRST_PAUSE_MS;
  /** When the server answered; infinite while it has not. */
  #openedAt = Infinity;
  /** Counts down to the next try; 0 while there is a line. */
  #timer = 0;
  #isOver = false;

  /**
   * @param {string} session
   * @param {string} token empty where the server asks for none
   * @param {WatchingEvents} events
   */
  constructor(session, token, events) {
    this.#address = at(`/v1/sessions/${encodeURIComponent(session)}/events`);
    this.#token = token;
    this.#events = events;
    addEventListener("online", () => this.#timer && this.#open());
    this.#open();
  }

  async #open() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    const line = new AbortController();
    try {
      await this.#read(line);
    } catch {
      // The server is not there, or the line broke or went silent: it will be back.
    }
    line.abort();
    if (!this.#isOver) this.#lost();
  }

  /** Hand on what the server says, until the line ends. @param {AbortController} line */
  async #read(line) {
    let silence = 0;
    const waitFor = (/** @type {number} */ most_ms) => {
      clearTimeout(silence);
      silence = setTimeout(() => line.abort(), most_ms);
    };
    waitFor(ANSWER_MS);
    try {
      const headers = {
        ...(this.#token && { authorization: `Bearer ${this.#token}` }),
        ...(this.#lastId && { "last-event-id": this.#lastId }),
      };
      const response = await fetch(this.#address, { headers, cache: "no-store", signal: line.signal });
      if (Object.hasOwn(REFUSALS, response.status)) return this.#end(REFUSALS[response.status]);
      if (!response.ok || !response.body) return;
      this.#openedAt = performance.now();
      this.#events.changed("open");
      waitFor(SILENCE_MS);
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      while (!this.#isOver) {
        const { done, value = "" } = await reader.read();
        if (done) return;
        waitFor(SILENCE_MS);
        const events = (rest + value).split("\n\n");
        rest = events.pop() ?? "";
        for (const event of events) this.#received(event);
      }
    } finally {
      clearTimeout(silence);
    }
  }

  /** @param {string} event its lines, of which one may be an `id` and one `data` */
  #received(event) {
    const field = (/** @type {string} */ name) =>
      event.split("\n").find((line) => line.startsWith(name))?.slice(name.length) ?? "";
    if (field("id: ")) {
      this.#lastId = field("id: ");
      this.#pause_ms = FIRST_PAUSE_MS; // the record grows; the speakers' names come every time
    }
    if (!field("data: ")) return; // the server is there, and no more
    const message = JSON.parse(field("data: "));
    this.#events.received(message);
    if (message.type === "final" || message.type === "error") this.#end("over");
  }

  /** @param {Line} line */
  #end(line) {
    this.#isOver = true;
    this.#events.changed(line);
  }

  #lost() {
    this.#events.changed("reconnecting");
    if (performance.now() - this.#openedAt > STABLE_MS) this.#pause_ms = FIRST_PAUSE_MS;
    this.#openedAt = Infinity;
    const wait_ms = this.#pause_ms * (0.5 + Math.random() / 2); // a hall must not come back as one
    this.#pause_ms = Math.min(2 * this.#pause_ms, LONGEST_PAUSE_MS);
    this.#timer = setTimeout(() => this.#open(), wait_ms);
  }
}
