/** One viewer's line to the server: comes back by itself, and goes on where it was. */

/** How long to wait before the next try, and the most that it grows to. */
const FIRST_BACKOFF_MS = 1_000;
const LONGEST_BACKOFF_MS = 20_000;

/**
 * @typedef {"connecting" | "open" | "reconnecting" | "over" | "unknown" | "unauthorized"} Line
 *
 * @typedef {object} WatchingEvents
 * @property {(message: {type: string, [field: string]: any}) => void} received
 * @property {(line: Line) => void} changed
 */

export class Watching {
  #address;
  #token;
  #events;
  /** @type {EventSource | null} */
  #source = null;
  #lastId = "";
  #backoff_ms = FIRST_BACKOFF_MS;

  /**
   * @param {string} session
   * @param {string} token empty where the server asks for none
   * @param {WatchingEvents} events
   */
  constructor(session, token, events) {
    this.#address = `/v1/sessions/${encodeURIComponent(session)}/events`;
    this.#token = token;
    this.#events = events;
    this.#open();
  }

  #url() {
    const query = new URLSearchParams();
    if (this.#token) query.set("token", this.#token); // EventSource cannot set headers
    if (this.#lastId) query.set("last_event_id", this.#lastId);
    return query.size > 0 ? `${this.#address}?${query}` : this.#address;
  }

  #open() {
    const source = new EventSource(this.#url());
    this.#source = source;
    source.onopen = () => {
      this.#backoff_ms = FIRST_BACKOFF_MS;
      this.#events.changed("open");
    };
    source.onmessage = ({ data, lastEventId }) => {
      this.#lastId = lastEventId || this.#lastId;
      this.#received(JSON.parse(data));
    };
    source.onerror = () => this.#lost();
  }

  /** @param {{type: string, [field: string]: any}} message */
  #received(message) {
    this.#events.received(message);
    if (message.type === "final" || message.type === "error") this.#end("over");
  }

  /** @param {Line} line */
  #end(line) {
    this.#source?.close();
    this.#source = null;
    this.#events.changed(line);
  }

  #lost() {
    this.#source?.close();
    this.#source = null;
    this.#events.changed("reconnecting");
    const wait_ms = this.#backoff_ms * (0.5 + Math.random() / 2); // a hall must not come back as one
    this.#backoff_ms = Math.min(2 * this.#backoff_ms, LONGEST_BACKOFF_MS);
    setTimeout(() => this.#comeBack(), wait_ms);
  }

  /** Ask first: an `EventSource` does not tell why it was refused. */
  async #comeBack() {
    const asked = new AbortController();
    let status = 0;
    try {
      status = (await fetch(this.#url(), { signal: asked.signal })).status;
    } catch {
      // The server is not there; it will be.
    }
    asked.abort();
    if (status === 200) this.#open();
    else if (status === 204) this.#end("over");
    else if (status === 404) this.#end("unknown");
    else if (status === 401) this.#end("unauthorized");
    else this.#lost();
  }
}
