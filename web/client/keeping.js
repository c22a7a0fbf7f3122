/**
 * What this browser keeps of a talk until the server has all of it: the sound that is not acknowledged, what opens its
 * sessions again, and what was said. A page that was reloaded, or a browser that crashed, goes on from there.
 *
 * It lives in IndexedDB. Where there is none, as in some private windows, everything works but that: the page itself still
 * holds the sound until it is closed.
 *
 * @typedef {import("./connection.js").Bytes} Bytes
 * @typedef {import("./connection.js").Message} Message
 *
 * @typedef {object} KeptPart  one session of a talk; a talk has more than one where a server could not go on with it
 * @property {string} session
 * @property {string} token  takes the session up
 * @property {import("../state/parts.js").Place} place  where it begins in the talk
 *
 * @typedef {object} About  what is known of a talk
 * @property {string} id
 * @property {number} begun  milliseconds of the clock
 * @property {string} name  of its files, without extension
 * @property {number} rate_hz  of its sound
 * @property {Record<string, unknown>} start  the fields of `start`
 * @property {Record<string, unknown> | null} settings  what was changed since
 * @property {boolean} paused  nothing that is said is taken until the talk goes on
 * @property {KeptPart[]} parts  in order; none before the first `ready`
 * @property {import("../state/parts.js").Place} place  of the session that is open, or is to be opened
 * @property {boolean} isOpen  that session is the last of `parts`
 * @property {number} position  in that session's bytes: where the first kept piece begins; negative where its beginning
 *   belongs to the session before
 * @property {number} held_bytes  how much sound is kept
 * @property {number} captured_bytes  how much sound there was
 * @property {number} heardAt  when the last of it was heard, milliseconds of the clock; 0 before the first
 * @property {number} committed  how far the open session's words are final, in seconds
 * @property {number} dropped  seconds of sound that could not be kept
 * @property {number} unheard  seconds in which nothing could be heard
 * @property {Record<string, string>} names  of speakers
 *
 * @typedef {object} Kept  a talk that was taken up
 * @property {Keeper} keeper
 * @property {About} about
 * @property {Bytes[]} pieces  sound from `about.position` on
 * @property {Message[][]} messages  kept messages of each session
 */

const DATABASE = "live-asr";
const LOCK = "live-asr.talk.";
const STORES = ["talks", "sound", "messages"];
/** How long to wait before another try to write, where the browser has no room. */
const RETRY_MS = 2_000;
/** How long to wait for another tab to let go of a talk: one that looks whether it is free has it for an instant, too. */
const FREE_MS = 2_000;
/** A talk whose sound the server has, all of it, is offered for so long: by then its session is over. */
const OFFERED_MS = 3_600_000;

/** @type {Promise<IDBDatabase | null> | null} */
let opened = null;

/** One talk: what happens to it is written as it happens, in order, without anybody having to wait. */
export class Keeper {
  /** @type {About} */
  #about;
  /** What is not written yet: sound by its number, and messages. @type {Map<number, Bytes>} */
  #sound = new Map();
  /** @type {{part: number, message: Message}[]} */
  #messages = [];
  /** The numbers of pieces, by what holds their bytes. @type {WeakMap<ArrayBufferLike, number>} */
  #numbers = new WeakMap();
  /** How large they are. @type {Map<number, number>} */
  #sizes = new Map();
  #next = 0;
  /** Pieces below this number are let go of. */
  #first = 0;
  #isDue = false;
  /** @type {Promise<void> | null} */
  #writing = null;
  #isOver = false;
  #isTold = false;
  /** It was begun by this page. */
  #isNew = false;
  #release;
  /** Called once where the browser takes no more. */
  notKept = () => {};

  /**
   * @param {About} about
   * @param {Promise<(() => void) | null>} held resolves to what gives the talk free for other tabs
   */
  constructor(about, held) {
    this.#about = about;
    this.#release = held;
  }

  /**
   * Begin to keep a talk.
   *
   * @param {{name: string, rate_hz: number, start: Record<string, unknown>}} talk
   */
  static begin({ name, rate_hz, start }) {
    const id = crypto.randomUUID();
    const about = {
      ...{ id, name, rate_hz, start, begun: Date.now(), settings: null, paused: false, parts: [], isOpen: false, position: 0 },
      ...{ held_bytes: 0, captured_bytes: 0, heardAt: 0, committed: 0, dropped: 0, unheard: 0, names: {} },
      place: { utterances: 0, seconds: 0, speakers: 0 },
    };
    const keeper = new Keeper(about, hold(id));
    keeper.#isNew = true;
    return keeper;
  }

  /**
   * Take up a talk; null where another tab has it, or it is over.
   *
   * @param {string} id
   * @returns {Promise<Kept | null>}
   */
  static async takeUp(id) {
    const release = await hold(id, FREE_MS);
    if (!release) return null;
    const database = await theDatabase();
    /** @type {About | undefined} */
    const about = database && (await answer(database.transaction("talks").objectStore("talks").get(id)));
    if (!database || !about) {
      release();
      return null;
    }
    const reading = database.transaction(["sound", "messages"]);
    const [numbers, pieces, messages] = await Promise.all([
      answer(reading.objectStore("sound").getAllKeys(range(id))),
      answer(reading.objectStore("sound").getAll(range(id))),
      answer(reading.objectStore("messages").getAll(range(id))),
    ]);
    const keeper = new Keeper(about, Promise.resolve(release));
    keeper.#has(numbers.map((/** @type {[string, number]} */ [, number]) => number), pieces);
    const count = Math.max(about.parts.length, 1);
    return {
      keeper,
      about: structuredClone(about),
      pieces,
      messages: Array.from({ length: count }, (_, part) =>
        messages.filter((/** @type {any} */ kept) => kept.part === part).map((/** @type {any} */ kept) => kept.message),
      ),
    };
  }

  /** @param {number[]} numbers @param {Bytes[]} pieces */
  #has(numbers, pieces) {
    numbers.forEach((number, at) => {
      this.#numbers.set(pieces[at].buffer, number);
      this.#sizes.set(number, pieces[at].byteLength);
    });
    this.#first = numbers[0] ?? 0;
    this.#next = (numbers.at(-1) ?? -1) + 1;
  }

  /** Keep a piece of sound. @param {Bytes} bytes a whole buffer @param {number} heardAt milliseconds of the clock */
  keepSound(bytes, heardAt) {
    const number = this.#next++;
    this.#numbers.set(bytes.buffer, number);
    this.#sizes.set(number, bytes.byteLength);
    this.#sound.set(number, bytes);
    this.#about.held_bytes += bytes.byteLength;
    this.#about.captured_bytes += bytes.byteLength;
    this.#about.heardAt = heardAt;
    this.#write();
  }

  /**
   * Let go of what lies before `piece`, which begins at `position` of the session's bytes; of everything for null.
   *
   * @param {Bytes | null} piece
   * @param {number} position
   */
  letGoBefore(piece, position) {
    const first = piece ? this.#numbers.get(piece.buffer) : this.#next;
    if (first === undefined) return; // a filler: nobody needs it again
    for (let number = this.#first; number < first; number++) {
      this.#about.held_bytes -= this.#sizes.get(number) ?? 0;
      this.#sizes.delete(number);
      this.#sound.delete(number);
    }
    this.#first = Math.max(this.#first, first);
    this.#about.position = position - (piece?.byteOffset ?? 0);
    this.#write();
  }

  /** Keep what was said. @param {number} part of the talk, counted from 0 @param {Message} message with a `seq` */
  keepMessage(part, message) {
    this.#messages.push({ part, message });
    this.#write();
  }

  /** Take note of what is known of the talk. @param {Partial<About>} fields */
  note(fields) {
    Object.assign(this.#about, fields);
    this.#write();
  }

  /** The server has everything: keep nothing any more. Safe to call twice. */
  async erase() {
    if (this.#isOver) return;
    this.#isOver = true;
    await eraseTalk(this.#about.id);
    (await this.#release)?.();
  }

  /** Keep the talk as it is, for whoever takes it up, unless no server ever heard of it. Safe to call twice. */
  async close() {
    if (this.#isOver) return;
    if (this.#isNew && this.#about.parts.length === 0) {
      await this.erase();
      return;
    }
    await this.#write();
    this.#isOver = true;
    (await this.#release)?.();
  }

  /** @returns {Promise<void>} resolves once all is written, or cannot be */
  #write() {
    this.#isDue = true;
    return (this.#writing ??= this.#writeAll().finally(() => (this.#writing = null)));
  }

  /** Write what there is until nothing is left, or the browser refuses it. */
  async #writeAll() {
    while (this.#isDue && !this.#isOver) {
      this.#isDue = false;
      const sound = [...this.#sound];
      const messages = [...this.#messages];
      const database = await theDatabase();
      if (!database) {
        this.#sound.clear();
        this.#messages = [];
        return;
      }
      try {
        await this.#put(database, sound, messages);
        for (const [number] of sound) this.#sound.delete(number);
        this.#messages.splice(0, messages.length);
      } catch {
        // No room, or the database was taken away: what is not written waits here, as long as the page lives.
        this.#tell();
        setTimeout(() => this.#write(), RETRY_MS);
        return;
      }
    }
  }

  /**
   * @param {IDBDatabase} database
   * @param {[number, Bytes][]} sound
   * @param {{part: number, message: Message}[]} messages
   */
  #put(database, sound, messages) {
    const { id } = this.#about;
    const writing = database.transaction(STORES, "readwrite", { durability: "relaxed" });
    writing.objectStore("talks").put(this.#about);
    const pieces = writing.objectStore("sound");
    if (this.#first > 0) pieces.delete(IDBKeyRange.bound([id], [id, this.#first], false, true));
    for (const [number, bytes] of sound) if (number >= this.#first) pieces.put(bytes, [id, number]);
    const said = writing.objectStore("messages");
    for (const { part, message } of messages) said.put({ part, message }, [id, part, message.seq]);
    return finished(writing);
  }

  #tell() {
    if (this.#isTold) return;
    this.#isTold = true;
    this.notKept();
  }
}

/**
 * The talks that are kept, and that no tab has.
 *
 * @param {() => void} changed called when a tab that has one lets go of it
 * @returns {Promise<About[]>}
 */
export async function keptTalks(changed) {
  const database = await theDatabase();
  if (!database) return [];
  /** @type {About[]} */
  const all = await answer(database.transaction("talks").objectStore("talks").getAll());
  const { held = [] } = (await navigator.locks?.query()) ?? {};
  /** @type {About[]} */
  const free = [];
  for (const about of all) {
    if (held.some(({ name }) => name === LOCK + about.id)) whenFree(about.id, changed);
    else if (about.held_bytes === 0 && Date.now() - about.heardAt > OFFERED_MS) await eraseTalk(about.id);
    else free.push(about);
  }
  return free.sort((a, b) => a.begun - b.begun);
}

/** Keep nothing of a talk any more; true where no other tab has it. @param {string} id */
export async function discard(id) {
  const release = await hold(id, FREE_MS);
  if (!release) return false;
  await eraseTalk(id);
  release();
  return true;
}

/** @param {string} id */
async function eraseTalk(id) {
  const database = await theDatabase();
  if (!database) return;
  const erasing = database.transaction(STORES, "readwrite");
  erasing.objectStore("talks").delete(id);
  erasing.objectStore("sound").delete(range(id));
  erasing.objectStore("messages").delete(range(id));
  await finished(erasing).catch(() => {}); // it is offered once more, which does no harm
}

/**
 * Take a talk for this tab alone; null where another one has it. Browsers without locks are trusted to have one tab.
 *
 * @param {string} id
 * @param {number} [patience_ms]  of a talk that another tab may have
 * @returns {Promise<(() => void) | null>} gives it free
 */
function hold(id, patience_ms) {
  if (!navigator.locks) return Promise.resolve(() => {});
  return new Promise((resolve) => {
    const holding = () => new Promise((release) => resolve(() => release(null)));
    const options = patience_ms ? { signal: AbortSignal.timeout(patience_ms) } : {};
    navigator.locks.request(LOCK + id, options, holding).catch(() => resolve(null));
  });
}

/** @type {Set<string>} */
const awaited = new Set();

/** Call `free` when the tab that has this talk lets go of it, or dies. @param {string} id @param {() => void} free */
function whenFree(id, free) {
  if (awaited.has(id)) return;
  awaited.add(id);
  navigator.locks
    .request(LOCK + id, { mode: "shared" }, () => awaited.delete(id))
    .then(free)
    .catch(() => {});
}

/** Everything that begins with this id. @param {string} id */
function range(id) {
  return IDBKeyRange.bound([id], [id, []]);
}

/** @returns {Promise<IDBDatabase | null>} null where the browser has none */
function theDatabase() {
  return (opened ??= open());
}

/** @returns {Promise<IDBDatabase | null>} */
function open() {
  return new Promise((resolve) => {
    try {
      const request = indexedDB.open(DATABASE, 1);
      request.onupgradeneeded = () => {
        request.result.createObjectStore("talks", { keyPath: "id" });
        request.result.createObjectStore("sound");
        request.result.createObjectStore("messages");
      };
      request.onsuccess = () => {
        const database = request.result;
        database.onclose = () => (opened = null);
        database.onversionchange = () => {
          database.close();
          opened = null;
        };
        resolve(database);
      };
      request.onerror = () => resolve(null);
    } catch {
      resolve(null); // forbidden
    }
  });
}

/** @param {IDBRequest} request @returns {Promise<any>} */
function answer(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** @param {IDBTransaction} transaction @returns {Promise<void>} */
function finished(transaction) {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = transaction.onerror = () => reject(transaction.error);
  });
}
