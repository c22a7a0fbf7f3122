/** One session from its first sound to its last word: a source of sound, a connection, and what they report. */

import { Connection } from "../client/connection.js";
import { Keeper } from "../client/keeping.js";
import { Microphone, reasonOf } from "../client/microphone.js";
import { replay } from "../client/replay.js";
import { resultOf } from "../client/results.js";
import { speakerBounds } from "./choices.js";
import { nameOf } from "./export.js";
import { BEGINNING, Placed } from "./parts.js";
import { usable } from "./vocabulary.js";
import { NOTICES } from "./words.js";

/** Seconds of sound kept while the network stalls or is away. What comes beyond it is left out, and the page says so. */
const KEPT = 3600;
/** Seconds without sound from which on they are told of: fewer where it is known that there was none. */
const MISSED = 1;
const MISSED_AWAY = 0.1;
/** How long to wait before another try to open a microphone that went away: not all browsers tell of one that comes. */
const REOPEN_MS = 3_000;
const BYTES_PER_SAMPLE = 2;
/** A title of so many characters does a server take. */
const LONGEST_TITLE = 200;

/**
 * @typedef {import("./choices.js").Choices} Choices
 * @typedef {import("../client/microphone.js").Sound} Sound
 */

export class Session {
  #dispatch;
  #heard;
  /** @type {Microphone | null} */
  #microphone = null;
  /** @type {Connection | null} */
  #connection = null;
  /** What is kept of the talk; null for a recording, which nobody can read on after the page. @type {Keeper | null} */
  #keeper = null;
  /** The talk's sessions, the last of them open. @type {import("../client/keeping.js").KeptPart[]} */
  #parts = [];
  #placed = new Placed(BEGINNING);
  /** It goes on with what another session, or another page, began. */
  #isContinued = false;
  /** Another page began it: the server has heard of it, whether or not it still knows it. */
  #isTakenUp = false;
  #isStopping = false;
  /** How far the words are final, in seconds of the open session. */
  #committed = 0;
  /** Until when all was heard, milliseconds of the clock; 0 before there is a microphone. */
  #heardAt = 0;
  /** The page, the microphone or its sound was away before what comes next. */
  #wasAway = false;
  #dropped = 0;
  #unheard = 0;
  #rate_hz = 0;
  /** @type {Record<string, unknown>} */
  #start = {};
  /** What the reader chose, now. @type {Choices | null} */
  #choices = null;
  #isUnplugged = false;
  #devicesChanged = () => this.#comeBackToMicrophone();
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
    const name = nameOf(new Date());
    this.#dispatch({ type: "page.permission_asked", name });
    const microphone = await this.#openMicrophone(choices);
    if (!microphone) return;
    this.#useMicrophone(microphone, choices);
    this.#rate_hz = microphone.rate_hz;
    const start = { ...spoken(choices), audio: { encoding: "pcm_s16le", sample_rate: this.#rate_hz, channels: 1 } };
    this.#keep(Keeper.begin({ name, rate_hz: this.#rate_hz, start }));
    this.#connect(start);
  }

  /**
   * Go on with a talk that another page began: what is kept of it is sent first, then the microphone.
   *
   * @param {import("../client/keeping.js").Kept} kept
   * @param {Choices} choices
   * @param {boolean} isToEnd  only what is kept, and then no more
   */
  async goOn({ keeper, about, pieces, messages }, choices, isToEnd) {
    this.#keep(keeper);
    this.#isContinued = this.#isTakenUp = this.#wasAway = true;
    this.#parts = about.parts;
    [this.#heardAt, this.#committed] = [about.heardAt, about.committed];
    [this.#dropped, this.#unheard, this.#rate_hz, this.#start] = [about.dropped, about.unheard, about.rate_hz, about.start];
    const { name, dropped, unheard, names } = about;
    const paused = about.paused && !isToEnd;
    const captured = about.captured_bytes / (BYTES_PER_SAMPLE * about.rate_hz);
    this.#dispatch({ type: "page.talk_taken_up", name, captured, dropped, unheard, names, paused, isToEnd });
    messages.forEach((own, at) => this.#lookBack(own, about.parts[at]));
    if (!about.isOpen) this.#placed = new Placed(about.place);
    const open = about.isOpen ? about.parts[about.parts.length - 1] : null;
    const last_seq = messages[messages.length - 1].at(-1)?.seq ?? 0;
    if (about.position < 0 && pieces.length > 0) pieces[0] = pieces[0].subarray(-about.position);
    this.#connect(this.#start, {
      resume: open && { session: open.session, token: open.token, last_seq },
      position: Math.max(0, about.position),
      pieces,
    });
    if (about.settings) this.#connection?.update(about.settings);
    if (paused) {
      this.#isPaused = true;
      this.#connection?.pause(true); // a session that is new, or gets the rest of the sound, is not paused yet
    }
    if (isToEnd) {
      await this.stop();
      return;
    }
    const microphone = await this.#openMicrophone(choices, this.#rate_hz);
    if (microphone) this.#useMicrophone(microphone, choices);
    else this.leave();
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
        message: NOTICES.file_unreadable(file.name),
        hint: NOTICES.file_unreadable_hint,
      });
      this.abandon();
    }
  }

  /** Listen to another microphone without ending the session. @param {Choices} choices */
  async changeMicrophone(choices) {
    try {
      await this.#microphone?.change(choices);
      this.#pluggedIn();
    } catch {
      if (this.#isUnplugged) return;
      this.#notice("microphone_unchanged", NOTICES.microphone_unchanged);
    }
  }

  /** Go on with another language, or other words to expect. @param {Choices} choices */
  changeWords(choices) {
    const { language, vocabulary } = spoken(choices);
    const settings = { language: language ?? "auto", vocabulary };
    this.#keeper?.note({ settings });
    this.#connection?.update(settings);
  }

  /** Keep the names that were typed. @param {Record<string, string>} names */
  keepNames(names) {
    this.#keeper?.note({ names });
  }

  /** Send nothing that is said until the talk goes on. Safe to call twice. @param {boolean} paused */
  async pause(paused) {
    this.#dispatch({ type: "page.pause_requested", paused });
    // What was said before the press counts, what was said before going on does not.
    await this.#microphone?.flush();
    this.#keeper?.note({ paused });
    this.#isPaused = paused;
    this.#connection?.pause(paused);
  }

  /** Take no more sound, wait for the last words. Safe to call twice. */
  async stop() {
    this.#isStopping = true;
    this.#dispatch({ type: "page.stop_requested" });
    this.#released.abort();
    await this.#microphone?.close();
    this.#connection?.stop();
  }

  /** Release the microphone: nothing takes sound any more, but the socket may go on. */
  release() {
    this.#released.abort();
    navigator.mediaDevices?.removeEventListener("devicechange", this.#devicesChanged);
    return this.#microphone?.close();
  }

  /**
   * End at once and report nothing more. What is kept of a talk stays kept. Safe to call twice.
   *
   * @returns {Promise<void>} resolves once it can be taken up
   */
  async abandon() {
    this.#dispatch = () => {};
    this.release();
    this.#connection?.close();
    await this.#keeper?.close();
  }

  /** The page goes away: what was sent of a recording shall be finished as if stopped; a talk can be gone on with. */
  leave() {
    if (!this.#keeper) this.#connection?.stop();
    return this.abandon();
  }

  /** @param {Microphone} microphone @param {Choices} choices */
  #useMicrophone(microphone, choices) {
    this.#microphone = microphone;
    this.#choices = choices;
    this.#heardAt ||= Date.now(); // from now on the reader may speak
    navigator.mediaDevices.addEventListener("devicechange", this.#devicesChanged);
    this.#dispatch({ type: "page.microphone_opened" });
  }

  /** @param {Choices} choices @param {number} [rate_hz] @returns {Promise<Microphone | null>} */
  async #openMicrophone(choices, rate_hz) {
    const events = {
      captured: (/** @type {Sound} */ sound) => this.#captured(sound),
      unplugged: () => this.#unplugged(),
      slept: (/** @type {boolean} */ isAsleep) => this.#slept(isAsleep),
    };
    let microphone;
    try {
      microphone = await openOrDefault(choices, events, rate_hz);
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

  /** @param {Keeper} keeper */
  #keep(keeper) {
    this.#keeper = keeper;
    keeper.notKept = () => this.#notice("not_kept", NOTICES.not_kept);
  }

  /**
   * @param {Record<string, unknown>} start
   * @param {import("../client/connection.js").Held | null} [held]
   */
  #connect(start, held = null) {
    this.#start = start;
    const ifCurrent = (/** @type {() => void} */ act) => this.#connection === connection && act();
    const connection = new Connection(
      start,
      {
        received: (message) => ifCurrent(() => this.#received(message)),
        interrupted: () => ifCurrent(() => this.#dispatch({ type: "page.connection_interrupted" })),
        resumed: () => ifCurrent(() => this.#dispatch({ type: "page.connection_resumed" })),
        damaged: (lost_bytes) => ifCurrent(() => this.#damaged(lost_bytes)),
        cut: (untaken, taken_bytes) => ifCurrent(() => this.#cut(untaken, taken_bytes)),
        gone: (untaken, taken_bytes) => this.#connection === connection && this.#gone(untaken, taken_bytes),
        closed: () => ifCurrent(() => this.#closed()),
      },
      held,
    );
    this.#connection = connection;
    return connection;
  }

  /** @param {import("../client/connection.js").Message} message */
  #received(message) {
    if (message.type === "ready") this.#opened(message);
    else if (message.type === "final" && this.#parts.length > 1) this.#conclude(message);
    else this.#dispatch(this.#placed.of(message));
    if (message.type === "ack") this.#letGo();
    if (message.type === "lag") this.#keeper?.note({ committed: (this.#committed = message.committed) });
    // After `stopped` the server has everything; who erased a session wants nobody to go on with it.
    if (message.type === "stopped" || message.code === "session_erased") this.#keeper?.erase();
    else if (message.type === "error") this.#keeper?.close();
    else if (message.seq > 0 && message.type !== "final") this.#keeper?.keepMessage(this.#parts.length - 1, message);
  }

  /** @param {import("../client/connection.js").Message} ready */
  #opened(ready) {
    const { session, token } = ready;
    const { place } = this.#placed;
    if (this.#parts.at(-1)?.session !== session) this.#parts = [...this.#parts, { session, token, place }];
    this.#keeper?.note({ parts: this.#parts, isOpen: true });
    this.#dispatch({ ...ready, place, isContinued: this.#isContinued });
  }

  /** What a session of the talk said before this page was opened. @param {import("../client/connection.js").Message[]} messages @param {import("../client/keeping.js").KeptPart | undefined} part */
  #lookBack(messages, part) {
    if (!part) return;
    this.#placed = new Placed(part.place);
    this.#dispatch({ type: "page.part_found", session: part.session, place: part.place });
    for (const message of messages) this.#dispatch(this.#placed.of(message));
  }

  /** All sessions of the talk are over: their results become one. @param {import("../client/connection.js").Message} last */
  async #conclude(last) {
    const earlier = this.#parts.slice(0, -1).map(resultOf);
    this.#dispatch({ type: "page.concluded", finals: [...(await Promise.all(earlier)), last] });
  }

  /** The socket is gone for good. A talk that is not complete is kept. */
  #closed() {
    this.#keeper?.close();
    this.#dispatch({ type: "page.connection_closed" });
  }

  #letGo() {
    const { piece, position } = /** @type {Connection} */ (this.#connection).firstHeld;
    this.#keeper?.letGoBefore(piece, position);
  }

  /** @param {Sound} sound */
  #captured({ bytes, duration, levels, heardAt }) {
    if (this.#isPaused) {
      this.#heardAt = heardAt; // what is said now is not missed
      return;
    }
    this.#heard(levels);
    this.#dispatch({ type: "page.sound_captured", duration, level: Math.max(...levels) });
    if (!this.#connection) return;
    const missed = (heardAt - this.#heardAt) / 1000 - duration;
    if (this.#heardAt > 0 && missed >= (this.#wasAway ? MISSED_AWAY : MISSED)) this.#missed(missed);
    this.#wasAway = false;
    this.#heardAt = heardAt;
    if (this.#connection.held_bytes >= KEPT * this.#rate_hz * BYTES_PER_SAMPLE) {
      this.#drop(duration);
      return;
    }
    this.#keeper?.keepSound(bytes, heardAt);
    this.#connection.send(bytes);
  }

  /** Sound has no place any more. @param {number} duration seconds */
  #drop(duration) {
    this.#dropped += duration;
    this.#keeper?.note({ dropped: this.#dropped });
    this.#dispatch({ type: "page.sound_dropped", duration });
  }

  /** Nothing could be heard for a while. @param {number} duration seconds */
  #missed(duration) {
    this.#unheard += duration;
    this.#keeper?.note({ unheard: this.#unheard });
    this.#dispatch({ type: "page.sound_missed", duration });
    this.#notice("unheard", NOTICES.unheard(duration));
  }

  /** The server no longer has all that it had. @param {number} lost_bytes */
  #damaged(lost_bytes) {
    const message = this.#keeper
      ? NOTICES.audio_lost(this.#secondsOf(lost_bytes))
      : NOTICES.recording_lost;
    this.#notice("audio_lost", message);
  }

  /**
   * The server waited for this page no longer, and takes no more sound.
   *
   * @param {import("../client/connection.js").Bytes[]} untaken
   * @param {number} taken_bytes
   */
  #cut(untaken, taken_bytes) {
    if (this.#keeper) {
      if (!this.#isStopping || untaken.length > 0) this.#follow(untaken, taken_bytes);
      return;
    }
    // What has not been read of a recording is missing too, unless nobody wants it.
    const isUnread = !this.#released.signal.aborted;
    const untaken_bytes = untaken.reduce((sum, { byteLength }) => sum + byteLength, 0);
    const missing_bytes = isUnread ? this.#file_bytes - taken_bytes : untaken_bytes;
    if (missing_bytes <= 0) return;
    this.#dispatch({ type: "page.file_cut", share: missing_bytes / this.#file_bytes });
    this.#notice("ended_while_away", NOTICES.ended_while_away);
  }

  /**
   * The server knows no such session any more. One that it never took any sound of is not tried again: it would be lost
   * likewise.
   *
   * @param {import("../client/connection.js").Bytes[]} untaken
   * @param {number} taken_bytes
   * @returns {boolean} whether another session follows it
   */
  #gone(untaken, taken_bytes) {
    if (!this.#keeper || !(taken_bytes > 0 || this.#isTakenUp)) return false;
    if (this.#isStopping && untaken.length === 0) {
      this.#keeper.erase(); // nothing is left to go on with
      return false;
    }
    this.#isTakenUp = false;
    const lost = Math.max(0, this.#secondsOf(taken_bytes) - this.#committed);
    this.#follow(untaken, taken_bytes);
    if (lost >= MISSED) this.#notice("audio_lost", NOTICES.audio_lost(lost));
    return true;
  }

  /**
   * Go on in another session, behind the words that there are, with the sound that this one did not take.
   *
   * @param {import("../client/connection.js").Bytes[]} untaken
   * @param {number} taken_bytes
   */
  #follow(untaken, taken_bytes) {
    this.#connection?.close();
    const place = this.#placed.after(this.#secondsOf(taken_bytes));
    this.#placed = new Placed(place);
    this.#isContinued = true;
    this.#committed = 0;
    this.#dispatch({ type: "page.session_followed" });
    const { language, vocabulary } = this.#choices ? spoken(this.#choices) : this.#start;
    const start = { ...this.#start, language, vocabulary, metadata: { follows: this.#parts.at(-1)?.session ?? "" } };
    this.#keeper?.note({ start, settings: null, place, isOpen: false, committed: 0 });
    this.#keeper?.letGoBefore(untaken[0] ?? null, 0);
    const connection = this.#connect(start, { resume: null, position: 0, pieces: untaken });
    if (this.#isStopping) connection.stop();
    this.#notice("session_followed", NOTICES.session_followed);
  }

  /** @param {boolean} isAsleep */
  #slept(isAsleep) {
    this.#wasAway ||= !isAsleep;
    this.#dispatch({ type: "page.sound_slept", isAsleep });
  }

  /** The microphone went away: it is waited for, or another takes its place. */
  #unplugged() {
    this.#isUnplugged = true;
    this.#dispatch({ type: "page.microphone_lost" });
    this.#comeBackToMicrophone();
  }

  /** Open the microphone that was chosen, if it is not the one in use; where it is not there, any, if there is none in use. */
  async #comeBackToMicrophone() {
    const [microphone, choices] = [this.#microphone, this.#choices];
    if (!microphone || !choices || this.#released.signal.aborted) return;
    const isOther = choices.deviceId !== "" && microphone.deviceId !== choices.deviceId;
    if (!this.#isUnplugged && !isOther) return;
    try {
      await microphone.change(choices);
    } catch (error) {
      if (!this.#isUnplugged) return; // another one is in use, and does
      try {
        if (choices.deviceId === "") throw error;
        await microphone.change({ ...choices, deviceId: "" });
      } catch (other) {
        // To ask again and again who was refused would pester the reader.
        if (reasonOf(other) !== "denied") setTimeout(() => this.#isUnplugged && this.#comeBackToMicrophone(), REOPEN_MS);
        return;
      }
    }
    this.#pluggedIn();
  }

  /** There is a microphone again. */
  #pluggedIn() {
    if (!this.#isUnplugged) return;
    this.#isUnplugged = false;
    this.#wasAway = true;
    this.#dispatch({ type: "page.microphone_found" });
    this.#notice("microphone_found", NOTICES.microphone_found(this.#microphone?.label ?? ""));
  }

  /** @param {string} code @param {string} message */
  #notice(code, message) {
    this.#dispatch({ type: "page.noticed", code, message });
  }

  /** How long a piece of the microphone's sound is. @param {number} size_bytes */
  #secondsOf(size_bytes) {
    return size_bytes / (this.#rate_hz * BYTES_PER_SAMPLE);
  }
}

/**
 * Open the chosen microphone; where it is not there today, the system's default.
 *
 * @param {Choices} choices
 * @param {import("../client/microphone.js").MicrophoneEvents} events
 * @param {number} [rate_hz]
 */
async function openOrDefault(choices, events, rate_hz) {
  try {
    return await Microphone.open(choices, events, rate_hz);
  } catch (error) {
    if (choices.deviceId === "" || reasonOf(error) !== "no_device") throw error;
    return Microphone.open({ ...choices, deviceId: "" }, events, rate_hz);
  }
}

/** What a recording is called among past sessions; names of files may hold what is no text. @param {File} file */
function titleOf({ name }) {
  const text = new TextDecoder().decode(new TextEncoder().encode(name.replace(/(?<=.)\.[^.]*$/, "")));
  return [...text].slice(0, LONGEST_TITLE).join("");
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
