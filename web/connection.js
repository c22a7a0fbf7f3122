/** One session's socket: sends audio within the server's window, and hands on what the server says. */

import { subprotocols } from "./access.js";

/** The longest frame sent: well under the server's limit of 1 MiB. */
const FRAME_BYTES = 256 * 1024;

/**
 * @typedef {object} ConnectionEvents
 * @property {(message: {type: string, [field: string]: any}) => void} received
 * @property {() => void} closed  the socket is gone, and this side did not ask for it
 */

export class Connection {
  #socket;
  #events;
  /** @type {Uint8Array<ArrayBuffer>[]} */
  #queue = [];
  #queued_bytes = 0;
  #sent_bytes = 0;
  #acked_bytes = 0;
  /** Zero until `ready` says how much may be on its way. */
  #window_bytes = 0;
  #stopping = false;
  #stopSent = false;
  /** @type {(() => void)[]} */
  #waiting = [];

  /**
   * Open a session.
   *
   * @param {Record<string, unknown>} start the fields of `start`
   * @param {ConnectionEvents} events
   */
  constructor(start, events) {
    this.#events = events;
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    this.#socket = new WebSocket(`${scheme}//${location.host}/v1/stream`, subprotocols());
    this.#socket.onopen = () => this.#socket.send(JSON.stringify({ type: "start", ...start }));
    this.#socket.onmessage = ({ data }) => this.#received(data);
    this.#socket.onclose = () => {
      this.#letGo();
      events.closed();
    };
  }

  /** Bytes that wait because the server has not acknowledged enough of what it was sent. */
  get queued_bytes() {
    return this.#queued_bytes;
  }

  /** Send audio as soon as the window allows. @param {Uint8Array<ArrayBuffer>} bytes */
  send(bytes) {
    this.#queue.push(bytes);
    this.#queued_bytes += bytes.byteLength;
    this.#pump();
  }

  /** Resolves when nothing waits any more: all is sent, or the socket is gone. @returns {Promise<void>} */
  sent() {
    if (this.#queue.length === 0) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Leave out the oldest audio that waits, until at most `limit_bytes` do. @param {number} limit_bytes */
  dropOldest(limit_bytes) {
    let dropped_bytes = 0;
    while (this.#queued_bytes > limit_bytes) dropped_bytes += this.#shift().byteLength;
    return dropped_bytes;
  }

  /** Say that no more audio follows, after all that waits. The socket stays open for the last words. */
  stop() {
    this.#stopping = true;
    this.#pump();
  }

  /** Close without another word to or from the server. Safe to call twice. */
  close() {
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
    this.#letGo();
  }

  /** @param {string} text */
  #received(text) {
    const message = JSON.parse(text);
    if (message.type === "ready") {
      this.#window_bytes = message.max_unacked_bytes;
      this.#acked_bytes = this.#sent_bytes = message.received_bytes;
    } else if (message.type === "ack") {
      this.#acked_bytes = message.bytes;
    }
    this.#pump();
    this.#events.received(message);
  }

  #pump() {
    if (this.#window_bytes === 0 || this.#socket.readyState !== WebSocket.OPEN) return;
    while (this.#queue.length > 0) {
      const room_bytes = this.#window_bytes - (this.#sent_bytes - this.#acked_bytes);
      const [head] = this.#queue;
      // Where a piece must be cut, it is cut between samples, so that the rest may still be dropped.
      const fits_bytes = Math.min(room_bytes, FRAME_BYTES) & ~1;
      if (fits_bytes <= 0) return;
      this.#shift();
      if (head.byteLength > fits_bytes) this.#unshift(head.subarray(fits_bytes));
      const frame = head.subarray(0, fits_bytes);
      this.#socket.send(frame);
      this.#sent_bytes += frame.byteLength;
    }
    for (const resolve of this.#waiting.splice(0)) resolve();
    if (this.#stopping && !this.#stopSent) {
      this.#stopSent = true;
      this.#socket.send(JSON.stringify({ type: "stop" }));
    }
  }

  #shift() {
    const head = /** @type {Uint8Array<ArrayBuffer>} */ (this.#queue.shift());
    this.#queued_bytes -= head.byteLength;
    return head;
  }

  /** @param {Uint8Array<ArrayBuffer>} bytes */
  #unshift(bytes) {
    this.#queue.unshift(bytes);
    this.#queued_bytes += bytes.byteLength;
  }

  #letGo() {
    this.#queue = [];
    this.#queued_bytes = 0;
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}
