/**
 * One session's connection: sends audio within the server's window, and hands on what the server says. Where its socket is
 * lost it comes back by itself and takes the session up again: audio is held until the server has it on disk.
 */

import { subprotocols } from "./access.js";
import { streamAt } from "./addresses.js";

/** The longest frame sent: well under the server's limit of 1 MiB. */
const FRAME_BYTES = 256 * 1024;
/** How long to wait before the first try to come back, and the most that it grows to. */
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 10_000;
/** A server acknowledges every second: where it says nothing for so long although it was sent sound, nobody is there. */
const SILENCE_MS = 15_000;
/** The same for a file, which is acknowledged as it is worked off, and for a full pass that waits for another's turn. */
const LONG_SILENCE_MS = 60_000;
const LOOK_MS = 2_000;
/** So often somebody says that they are here, in the time after which the server would let them go. */
const KEEPALIVES = 3;
/** A socket that is lost sooner was as good as none: the pauses go on growing. */
const STABLE_MS = 5_000;
/** After an error with one of these codes the session goes on over another socket. As `live_asr/client/resuming.py`. */
const RESUMABLE = new Set([
  "loading",
  "server_full",
  "internal",
  "storage_full",
  "shutting_down",
  "start_timeout",
  "slow_client",
  "overrun",
]);
/** What a session is refused with that the server has no more, or not as far as this side has heard it. */
const UNKNOWN = new Set(["session_unknown", "bad_message"]);

/**
 * @typedef {Uint8Array<ArrayBuffer>} Bytes
 *
 * @typedef {{type: string, [field: string]: any}} Message
 *
 * @typedef {object} ConnectionEvents
 * @property {(message: Message) => void} received
 * @property {() => void} interrupted  the socket is gone; this side tries to come back
 * @property {() => void} resumed  it is back, and what was missed follows
 * @property {(lost_bytes: number) => void} damaged  the server no longer has so much of what it had acknowledged
 * @property {(untaken: Bytes[], taken_bytes: number) => void} cut  the server has ended the session by itself: it has the
 *   first `taken_bytes` of the audio, and takes none of what follows, which is `untaken`
 * @property {(untaken: Bytes[], taken_bytes: number) => boolean} gone  the server no longer has the session, of which it had
 *   acknowledged `taken_bytes`; true where somebody else sees to `untaken`, and nothing more is to be told
 * @property {() => void} closed  the socket is gone for good, and this side did not ask for it
 *
 * @typedef {object} Held  what there is of a session already, or of one that is to be opened
 * @property {{session: string, token: string, last_seq: number} | null} resume  whom to take up; null for a new session
 * @property {number} position  where `pieces` begin in the session's audio
 * @property {Bytes[]} pieces  audio that the server may not have
 */

export class Connection {
  /** @type {WebSocket | null} */
  #socket = null;
  #start;
  #events;
  /** What waits to be sent. @type {Bytes[]} */
  #queue = [];
  #queued_bytes = 0;
  /** What was sent and is not acknowledged; the first begins at `#acked_bytes` or before. @type {Bytes[]} */
  #unacked = [];
  #unacked_bytes = 0;
  #sent_bytes = 0;
  #acked_bytes = 0;
  /** What this socket's `ready` said; null before it. @type {import("./messages.js").Ready | null} */
  #greeting = null;
  /** How much may be on its way; zero until all that was missed is here. */
  #window_bytes = 0;
  #stopping = false;
  #stopSent = false;
  /** What the session goes on with, once it was changed. @type {Record<string, unknown> | null} */
  #settings = null;
  #settingsSent = false;
  /** When the server was last told that somebody is here, and how often it wants to hear that. */
  #stayedAt = 0;
  #keepalive_ms = Infinity;
  /** Whether the talk is to be paused, where the server has not said so yet. @type {boolean | null} */
  #pauseWanted = null;
  #pauseSent = false;
  /** Whether the server has the talk for paused. */
  #isPaused = false;
  /** No more audio is taken: `stopped` has come. */
  #hasEnded = false;
  /** Whom to take up; null before the first `ready`. @type {{session: string, token: string} | null} */
  #session = null;
  #lastSeq = 0;
  /** Where it goes on, if elsewhere. @type {string | undefined} */
  #resumeUrl;
  /** Nothing follows: `final` has come, or an error that ends the session. */
  #isOver = false;
  /** The server's last error, while it is not known whether the session survives it. @type {Message | null} */
  #trouble = null;
  #pause_ms = FIRST_PAUSE_MS;
  #timer = 0;
  #heardAt = 0;
  /** When the session was opened over this socket; null while it is not. @type {number | null} */
  #readyAt = null;
  /** The server has no such session. */
  #isGone = false;
  /** Somebody has greeted this side. */
  #isKnown = false;
  /** A session that cannot be opened now is opened later. */
  #isPatient;
  #looking;
  /** @type {(() => void)[]} */
  #waiting = [];
  #comeBackNow = () => (this.#session || this.#isPatient) && !this.#socket && this.#open();

  /**
   * Open a session.
   *
   * @param {Record<string, unknown>} start the fields of `start`
   * @param {ConnectionEvents} events
   * @param {Held | null} held where something goes on: a server that is away is waited for from the beginning
   */
  constructor(start, events, held = null) {
    this.#start = start;
    this.#events = events;
    this.#isPatient = held !== null;
    if (held) this.#takeUp(held);
    this.#looking = setInterval(() => this.#look(), LOOK_MS);
    addEventListener("online", this.#comeBackNow);
    this.#open();
  }

  /** Bytes that the server has not acknowledged, sent or not. */
  get held_bytes() {
    return this.#unacked_bytes + this.#queued_bytes;
  }

  /** The first audio that is held, and where it begins; null where none is. @returns {{piece: Bytes | null, position: number}} */
  get firstHeld() {
    return { piece: this.#unacked[0] ?? this.#queue[0] ?? null, position: this.#sent_bytes - this.#unacked_bytes };
  }

  /** Send audio as soon as the window allows. @param {Bytes} bytes */
  send(bytes) {
    this.#queue.push(bytes);
    this.#queued_bytes += bytes.byteLength;
    this.#pump();
  }

  /** Resolves when nothing waits any more: all is sent, or the session is over. @returns {Promise<void>} */
  sent() {
    if (this.#queue.length === 0) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Go on with other settings, behind all audio so far. @param {Record<string, unknown>} settings of `update` */
  update(settings) {
    this.#settings = settings;
    this.#settingsSent = false;
    this.#pump();
  }

  /** Pause behind all audio so far, or go on before all that follows. @param {boolean} paused */
  pause(paused) {
    this.#pauseWanted = paused;
    this.#pauseSent = false;
    this.#pump();
  }

  /** Say that no more audio follows, after all that waits. The socket stays open for the last words. */
  stop() {
    this.#stopping = true;
    this.#pump();
  }

  /** Close without another word to or from the server. Safe to call twice. */
  close() {
    this.#letGo();
    this.#drop();
  }

  /** @param {Held} held */
  #takeUp({ resume, position, pieces }) {
    if (!resume) {
      this.#queue = [...pieces];
      this.#queued_bytes = sizeOf(pieces);
      return;
    }
    this.#session = { session: resume.session, token: resume.token };
    this.#lastSeq = resume.last_seq;
    this.#unacked = [...pieces];
    this.#unacked_bytes = sizeOf(pieces);
    this.#sent_bytes = position + this.#unacked_bytes;
    this.#acked_bytes = position;
  }

  #open() {
    clearTimeout(this.#timer);
    const socket = new WebSocket(streamAt(this.#resumeUrl), subprotocols());
    this.#socket = socket;
    this.#heardAt = performance.now();
    const resume = this.#session && { ...this.#session, last_seq: this.#lastSeq };
    socket.onopen = () => socket.send(JSON.stringify({ type: "start", ...(resume ? { resume } : this.#start) }));
    socket.onmessage = ({ data }) => this.#received(data);
    socket.onclose = ({ code }) => this.#lost(code);
  }

  /** Hear nothing more from this socket, and close it. */
  #drop() {
    const socket = this.#socket;
    this.#socket = null;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }

  /** @param {number} code that the socket was closed with */
  #lost(code) {
    this.#drop();
    this.#greeting = null;
    this.#window_bytes = 0;
    if (this.#readyAt !== null && performance.now() - this.#readyAt > STABLE_MS) this.#pause_ms = FIRST_PAUSE_MS;
    this.#readyAt = null;
    if (!(this.#session || this.#isPatient) || this.#isOver || code === 1000) {
      const [untaken, taken_bytes] = [this.#heldFrom(this.#acked_bytes), this.#acked_bytes];
      this.#letGo();
      if (this.#isGone && this.#events.gone(untaken, taken_bytes)) return;
      if (this.#trouble) this.#events.received(this.#trouble);
      this.#events.closed();
      return;
    }
    this.#events.interrupted();
    // Less some chance: the clients of a server that restarts shall not come back as one.
    this.#timer = setTimeout(() => this.#open(), this.#pause_ms * (0.5 + Math.random() / 2));
    this.#pause_ms = Math.min(2 * this.#pause_ms, LONGEST_PAUSE_MS);
  }

  /** A connection may be dead without a word: then nothing is acknowledged. */
  #look() {
    if (!this.#socket) return;
    const isOpening = this.#window_bytes === 0;
    const isWaiting = !this.#hasEnded && this.#sent_bytes > this.#acked_bytes;
    const isDueSoon = isOpening || (isWaiting && this.#start.pace !== "fast");
    const isDue = isDueSoon || isWaiting || this.#stopSent || this.#hasEnded;
    if (!isOpening && !this.#hasEnded) this.#stay(this.#socket);
    // Silence counts from when something was waited for: in a pause the server may rightly say nothing.
    if (!isDue) this.#heardAt = performance.now();
    const silence_ms = performance.now() - this.#heardAt;
    if (isDue && silence_ms > (isDueSoon ? SILENCE_MS : LONG_SILENCE_MS)) this.#lost(1006);
  }

  /** Say that somebody is here, where the server would otherwise end a talk that is paused. @param {WebSocket} socket */
  #stay(socket) {
    const now = performance.now();
    if (now - this.#stayedAt < this.#keepalive_ms || socket.readyState !== WebSocket.OPEN) return;
    this.#stayedAt = now;
    socket.send(JSON.stringify({ type: "keepalive" }));
  }

  /** @param {string} text */
  #received(text) {
    const message = JSON.parse(text);
    this.#heardAt = performance.now();
    if (message.type === "ready") {
      this.#ready(message);
      return;
    }
    if (message.type === "ack") this.#acknowledged(message.bytes);
    if (message.type === "paused") {
      this.#isPaused = message.paused;
      if (message.paused === this.#pauseWanted) this.#pauseWanted = null;
    }
    if (message.type === "final") this.#isOver = true;
    if (message.type === "stopped" || message.type === "final") this.#end(this.#stopSent);
    if (message.type === "notice" && message.code === "audio_dropped") {
      this.#end(false); // who reads is told in seconds, not in bytes
      return;
    }
    if (message.type === "error" && (this.#session || this.#isPatient)) {
      if (RESUMABLE.has(message.code)) {
        this.#trouble = message;
        return; // the close that follows is one to come back from
      }
      this.#isOver = true;
      this.#isGone = this.#session !== null && !this.#greeting && UNKNOWN.has(message.code);
      if (message.code === "session_unknown") return; // the close says enough, or what went wrong before
      if (this.#isGone) {
        this.#trouble ??= message; // of interest only where nobody goes on
        return;
      }
    }
    this.#lastSeq = Math.max(this.#lastSeq, message.seq ?? 0);
    this.#goOn();
    this.#events.received(message);
  }

  /** @param {import("./messages.js").Ready} message */
  #ready(message) {
    const isResumed = this.#isKnown;
    this.#isKnown = true;
    this.#session = { session: message.session, token: message.token };
    this.#resumeUrl = message.resume_url;
    this.#readyAt = this.#stayedAt = performance.now();
    this.#keepalive_ms = message.idle_timeout ? (1000 * message.idle_timeout) / KEEPALIVES : Infinity;
    this.#trouble = null;
    this.#greeting = message;
    this.#stopSent = false;
    this.#settingsSent = this.#pauseSent = false; // whether they had arrived is not known; said twice they do no harm
    if (isResumed) this.#events.resumed();
    else this.#events.received(message);
    this.#goOn();
  }

  /** Send on, once all that was missed is here: that the session has ended may be part of it. */
  #goOn() {
    const ready = this.#greeting;
    if (ready && this.#window_bytes === 0 && this.#lastSeq >= ready.last_seq) {
      if (!this.#hasEnded) this.#goOnFrom(ready.received_bytes);
      this.#window_bytes = ready.max_unacked_bytes;
    }
    this.#pump();
  }

  /** Send again, before all that waits, what the server has not received. @param {number} received_bytes */
  #goOnFrom(received_bytes) {
    // What it has received and not yet put on disk stays here too.
    let has_bytes = received_bytes - (this.#sent_bytes - this.#unacked_bytes);
    const lost_bytes = Math.max(0, -has_bytes);
    const held = this.#unacked.splice(0);
    this.#unacked_bytes = 0;
    // After half a sample all that follows would be noise.
    const again = lost_bytes & 1 ? [new Uint8Array(1)] : [];
    for (const piece of held) {
      const here_bytes = Math.min(Math.max(has_bytes, 0), piece.byteLength);
      has_bytes -= piece.byteLength;
      if (here_bytes > 0) this.#hold(piece.subarray(0, here_bytes));
      if (here_bytes < piece.byteLength) again.push(piece.subarray(here_bytes));
    }
    // What another page had sent before it was closed, and could not keep: silence, should it be wanted again.
    if (has_bytes > 0) this.#hold(new Uint8Array(has_bytes));
    this.#queue.unshift(...again);
    this.#queued_bytes += sizeOf(again);
    this.#sent_bytes = received_bytes;
    this.#acked_bytes = Math.min(this.#acked_bytes, received_bytes);
    if (lost_bytes > 0) this.#events.damaged(lost_bytes);
  }

  /** No more audio is taken: where this side has not asked for that, some is missing. @param {boolean} wasAsked */
  #end(wasAsked) {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    const taken_bytes = Math.max(this.#greeting?.received_bytes ?? 0, this.#acked_bytes);
    const untaken = this.#heldFrom(taken_bytes);
    const lost_bytes = this.firstHeld.position - taken_bytes;
    this.#forget();
    if (wasAsked) return;
    if (lost_bytes > 0) this.#events.damaged(lost_bytes);
    this.#events.cut(untaken, taken_bytes);
  }

  /** The audio from this position on, as far as it is here, from a whole sample. @param {number} position_bytes */
  #heldFrom(position_bytes) {
    let before_bytes = position_bytes - (this.#sent_bytes - this.#unacked_bytes);
    before_bytes += before_bytes & 1;
    /** @type {Bytes[]} */
    const pieces = [];
    for (const piece of this.#unacked) {
      const past_bytes = Math.min(Math.max(before_bytes, 0), piece.byteLength);
      before_bytes -= piece.byteLength;
      if (past_bytes < piece.byteLength) pieces.push(piece.subarray(past_bytes));
    }
    return [...pieces, ...this.#queue];
  }

  /** Let go of what the server has on disk. @param {number} position_bytes */
  #acknowledged(position_bytes) {
    this.#acked_bytes = Math.max(this.#acked_bytes, position_bytes);
    let surplus_bytes = this.#unacked_bytes - Math.max(0, this.#sent_bytes - position_bytes);
    while (surplus_bytes > 0 && this.#unacked.length > 0) {
      const [head] = this.#unacked;
      const done_bytes = Math.min(surplus_bytes, head.byteLength);
      if (done_bytes === head.byteLength) this.#unacked.shift();
      else this.#unacked[0] = head.subarray(done_bytes);
      this.#unacked_bytes -= done_bytes;
      surplus_bytes -= done_bytes;
    }
  }

  #pump() {
    const socket = this.#socket;
    if (this.#window_bytes === 0 || this.#hasEnded || socket?.readyState !== WebSocket.OPEN) return;
    if (this.#pauseWanted === false) this.#sayPause(socket);
    while (this.#queue.length > 0) {
      const room_bytes = this.#window_bytes - (this.#sent_bytes - this.#acked_bytes);
      const [head] = this.#queue;
      // Where a piece must be cut, it is cut between samples, so that the rest may still be dropped. A piece that was cut
      // by an acknowledgement may hold an odd number of bytes.
      const limit_bytes = Math.min(room_bytes, FRAME_BYTES);
      const fits_bytes = head.byteLength <= limit_bytes ? head.byteLength : limit_bytes & ~1;
      if (fits_bytes <= 0) return;
      this.#shift();
      if (head.byteLength > fits_bytes) this.#unshift(head.subarray(fits_bytes));
      const frame = head.subarray(0, fits_bytes);
      socket.send(frame);
      this.#hold(frame);
      this.#sent_bytes += frame.byteLength;
    }
    for (const resolve of this.#waiting.splice(0)) resolve();
    if (this.#settings && !this.#settingsSent && !this.#stopSent) {
      this.#settingsSent = true;
      socket.send(JSON.stringify({ type: "update", ...this.#settings }));
    }
    if (this.#pauseWanted) this.#sayPause(socket);
    if (this.#stopping && !this.#stopSent) {
      this.#stopSent = true;
      socket.send(JSON.stringify({ type: "stop" }));
    }
  }

  /** @param {WebSocket} socket */
  #sayPause(socket) {
    if (this.#pauseSent || this.#stopSent) return;
    this.#pauseSent = true;
    socket.send(JSON.stringify({ type: "pause", paused: this.#pauseWanted }));
  }

  /** Keep what the server has, until it is on its disk. @param {Bytes} piece */
  #hold(piece) {
    this.#unacked.push(piece);
    this.#unacked_bytes += piece.byteLength;
  }

  #shift() {
    const head = /** @type {Bytes} */ (this.#queue.shift());
    this.#queued_bytes -= head.byteLength;
    return head;
  }

  /** @param {Bytes} bytes */
  #unshift(bytes) {
    this.#queue.unshift(bytes);
    this.#queued_bytes += bytes.byteLength;
  }

  #letGo() {
    this.#isOver = true;
    clearTimeout(this.#timer);
    clearInterval(this.#looking);
    removeEventListener("online", this.#comeBackNow);
    this.#forget();
  }

  /** Hold no audio any more, sent or not. */
  #forget() {
    this.#queue = [];
    this.#queued_bytes = 0;
    this.#unacked = [];
    this.#unacked_bytes = 0;
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}

/** @param {Bytes[]} pieces */
function sizeOf(pieces) {
  return pieces.reduce((sum, { byteLength }) => sum + byteLength, 0);
}
