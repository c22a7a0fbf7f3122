/** One session from its first sound to its last word: a source of sound, a connection, and what they report. */

import { Connection } from "./connection.js";
import { usable } from "./expected.js";
import { nameOf } from "./export.js";
import { Microphone, reasonOf } from "./microphone.js";
import { replay } from "./replay.js";
import { speakerBounds } from "./speaker-count.js";
import { amount } from "./words.js";

/**
 * Seconds of sound kept while the network stalls or is away: longer than a server waits for its clients. Beyond it the
 * oldest is left out, and the page says so.
 */
const KEPT = 180;
const BYTES_PER_SAMPLE = 2;
/** A title of so many characters does a server take. */
const LONGEST_TITLE = 200;

/**
 * @typedef {import("./choices.js").Choices} Choices
 * @typedef {import("./microphone.js").Sound} Sound
 */

export class Session {
  #dispatch;
  #heard;
  /** @type {Microphone | null} */
  #microphone = null;
  /** @type {Connection | null} */
  #connection = null;
  /** How large the recording is; 0 where it is the microphone. */
  #file_bytes = 0;
  /** Nothing that the microphone hears is taken. */
  #isPaused = false;
  #released = new AbortController();

  /**
   * @param {(message: {type: string, [field: string]: any}) => void} dispatch told everything that happens
   * @param {(levels: number[]) => void} heard given the loudness of each 50 ms of the microphone
   */
  constructor(dispatch, heard) {
    this.#dispatch = dispatch;
    this.#heard = heard;
  }

  /** Caption the microphone. @param {Choices} choices */
  async listen(choices) {
    this.#dispatch({ type: "page.permission_asked", name: nameOf(new Date()) });
    const microphone = await this.#openMicrophone(choices);
    if (!microphone) return;
    this.#microphone = microphone;
    this.#dispatch({ type: "page.microphone_opened" });
    this.#connect({
      ...spoken(choices),
      audio: { encoding: "pcm_s16le", sample_rate: microphone.rate_hz, channels: 1 },
    });
  }

  /** Caption a recording. @param {File} file @param {Choices} choices */
  async replay(file, choices) {
    this.#dispatch({ type: "page.file_chosen", name: file.name, size: file.size });
    this.#file_bytes = file.size;
    const start = { ...spoken(choices), audio: { encoding: "container" }, pace: "fast", title: titleOf(file) };
    const connection = this.#connect(start);
    try {
      await replay(file, connection, this.#released.signal);
    } catch {
      this.#dispatch({
        type: "page.failed",
        code: "file_unreadable",
        message: `“${file.name}” cannot be read.`,
        hint: "It may have been moved, or its drive taken away. Choose it again.",
      });
      this.abandon();
    }
  }

  /** Listen to another microphone without ending the session. @param {Choices} choices */
  async changeMicrophone(choices) {
    try {
      await this.#microphone?.change(choices);
    } catch {
      const message = "The other microphone could not be opened; listening to the same one as before.";
      this.#dispatch({ type: "page.noticed", code: "microphone_unchanged", message });
    }
  }

  /** Go on with another language, or other words to expect. @param {Choices} choices */
  changeWords(choices) {
    const { language, vocabulary } = spoken(choices);
    this.#connection?.update({ language: language ?? "auto", vocabulary });
  }

  /** Send nothing that is said until the talk goes on. Safe to call twice. @param {boolean} paused */
  async pause(paused) {
    this.#dispatch({ type: "page.pause_requested", paused });
    // What was said before the press counts, what was said before going on does not.
    await this.#microphone?.flush();
    this.#isPaused = paused;
    this.#connection?.pause(paused);
  }

  /** Take no more sound, wait for the last words. Safe to call twice. */
  async stop() {
    this.#dispatch({ type: "page.stop_requested" });
    this.#released.abort();
    await this.#microphone?.close();
    this.#connection?.stop();
  }

  /** Release the microphone: nothing takes sound any more, but the socket may go on. */
  release() {
    this.#released.abort();
    return this.#microphone?.close();
  }

  /** End at once and report nothing more. Safe to call twice. */
  abandon() {
    this.#dispatch = () => {};
    this.release();
    this.#connection?.close();
  }

  /** The page goes away: what was sent shall be finished as if stopped. */
  leave() {
    this.#connection?.stop();
    this.abandon();
  }

  /** @param {Choices} choices @returns {Promise<Microphone | null>} */
  async #openMicrophone(choices) {
    const events = {
      captured: (/** @type {Sound} */ sound) => this.#captured(sound),
      unplugged: () => this.#unplugged(),
    };
    let microphone;
    try {
      microphone = await openOrDefault(choices, events);
    } catch (error) {
      if (!this.#released.signal.aborted) {
        this.#dispatch({ type: "page.microphone_failed", reason: reasonOf(error) });
      }
      return null;
    }
    if (!this.#released.signal.aborted) return microphone;
    await microphone.close();
    return null;
  }

  /** @param {Record<string, unknown>} start */
  #connect(start) {
    const connection = new Connection(start, {
      received: (message) => this.#dispatch(message),
      interrupted: () => this.#dispatch({ type: "page.connection_interrupted" }),
      resumed: () => this.#dispatch({ type: "page.connection_resumed" }),
      damaged: (lost_bytes) => this.#damaged(lost_bytes),
      cut: (untaken_bytes, taken_bytes) => this.#cut(untaken_bytes, taken_bytes),
      closed: () => this.#dispatch({ type: "page.connection_closed" }),
    });
    this.#connection = connection;
    return connection;
  }

  /** @param {Sound} sound */
  #captured({ bytes, duration, levels }) {
    if (this.#isPaused) return;
    this.#heard(levels);
    this.#dispatch({ type: "page.sound_captured", duration, level: Math.max(...levels) });
    if (!this.#connection || !this.#microphone) return;
    this.#connection.send(bytes);
    const dropped_bytes = this.#connection.dropOldest(KEPT * this.#microphone.rate_hz * BYTES_PER_SAMPLE);
    if (dropped_bytes > 0) {
      this.#dispatch({ type: "page.sound_dropped", duration: secondsOf(dropped_bytes, this.#microphone) });
    }
  }

  /** The server no longer has all that it had. @param {number} lost_bytes */
  #damaged(lost_bytes) {
    const message = this.#microphone
      ? `The server has lost ${amount(secondsOf(lost_bytes, this.#microphone))} of the sound that it had already. ` +
        "What you have read stays; the recording goes on without it."
      : "The server has lost some of the recording that it had already. Add it again afterwards to have all of it.";
    this.#dispatch({ type: "page.noticed", code: "audio_lost", message });
  }

  /**
   * The server waited for this page no longer, and takes no more sound.
   *
   * @param {number} untaken_bytes
   * @param {number} taken_bytes
   */
  #cut(untaken_bytes, taken_bytes) {
    // What has not been read of a recording is missing too, unless nobody wants it.
    const isUnread = this.#file_bytes > 0 && !this.#released.signal.aborted;
    const missing_bytes = isUnread ? this.#file_bytes - taken_bytes : untaken_bytes;
    if (missing_bytes <= 0) return;
    if (this.#microphone) {
      this.#dispatch({ type: "page.sound_dropped", duration: secondsOf(missing_bytes, this.#microphone) });
    } else {
      this.#dispatch({ type: "page.file_cut", share: missing_bytes / this.#file_bytes });
    }
    const message = "The connection was away for longer than the server waits: it has ended the session.";
    this.#dispatch({ type: "page.noticed", code: "ended_while_away", message });
  }

  #unplugged() {
    const message = "The microphone was unplugged. What it heard is being finished.";
    this.#dispatch({ type: "page.noticed", code: "unplugged", message });
    this.stop();
  }
}

/**
 * Open the chosen microphone; where it is not there today, the system's default.
 *
 * @param {Choices} choices
 * @param {import("./microphone.js").MicrophoneEvents} events
 */
async function openOrDefault(choices, events) {
  try {
    return await Microphone.open(choices, events);
  } catch (error) {
    if (choices.deviceId === "" || reasonOf(error) !== "no_device") throw error;
    return Microphone.open({ ...choices, deviceId: "" }, events);
  }
}

/** What a recording is called among past sessions; names of files may hold what is no text. @param {File} file */
function titleOf({ name }) {
  const text = new TextDecoder().decode(new TextEncoder().encode(name.replace(/(?<=.)\.[^.]*$/, "")));
  return [...text].slice(0, LONGEST_TITLE).join("");
}

/** How long a piece of the microphone's sound is. @param {number} size_bytes @param {Microphone} microphone */
function secondsOf(size_bytes, microphone) {
  return size_bytes / (microphone.rate_hz * BYTES_PER_SAMPLE);
}

/** The fields of `start` that say what is spoken. @param {Choices} choices */
function spoken({ language, task, vocabulary, diarize, minSpeakers, maxSpeakers }) {
  return {
    language: language || null,
    task,
    diarize,
    ...(diarize && speakerBounds(minSpeakers, maxSpeakers)),
    vocabulary: usable(vocabulary),
  };
}
