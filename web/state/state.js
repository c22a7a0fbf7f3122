/**
 * What the page knows, and how each message changes it.
 *
 * `reduce` is pure: no clock, no document, no socket. Messages of the server keep their wire names; what happens on the
 * page itself is a message too, in the past tense and with the prefix `page.`, so that neither can be taken for the other.
 *
 * @typedef {import("../client/messages.js").Word} Word
 * @typedef {import("./speakers.js").Cast} Cast
 * @typedef {import("./final.js").Final} Final
 * @typedef {import("./parts.js").Part} Part
 *
 * @typedef {"idle" | "insecure" | "unsupported" | "asking" | "denied" | "no_device" | "device_busy" | "connecting" |
 *   "live" | "finishing" | "done" | "full" | "lost" | "failed"} Phase
 *
 * @typedef {object} Utterance
 * @property {number} utterance  its number in the session
 * @property {number} [part]  of an utterance too long for one paragraph: which, counted from 0
 * @property {Word[]} words  committed words, in order
 * @property {boolean} complete  nothing more will be added
 * @property {string | null} language  ISO 639-1 code, once known
 *
 * @typedef {object} Transcript  what is saved
 * @property {string} name  of its files, without extension
 * @property {Utterance[]} utterances
 * @property {Record<string, string>} links  where the server has it, by format
 * @property {string} address  of its session
 * @property {Cast} cast  who its labels stand for
 * @property {number} revision  0 for the live one
 *
 * @typedef {object} State  what can be read (`Readable`) stays that of the session before until the next one is `ready`: a
 *   start that fails takes nothing away
 * @property {Phase} phase
 * @property {"microphone" | "file" | null} source
 * @property {{id: string, model: string, languages: string[] | null} | null} session
 * @property {Utterance[]} utterances  as committed while live
 * @property {Final | null} final  the full pass's result, once it is there
 * @property {boolean} isLiveShown  the reader wants the live captions in place of the full pass's result
 * @property {"full" | "live" | null} labels  where the speakers of `final` come from
 * @property {boolean} isSettled  `final` has come
 * @property {Cast} cast
 * @property {Word[]} tail  words that may still change, or were never confirmed because the session broke off
 * @property {string} title  what the presenter calls the session; empty without one
 * @property {string} name  of the transcript's files, without extension
 * @property {string} nextName  the same for the session that is being started
 * @property {Transcript | null} previous  the transcript that this one replaced
 * @property {boolean} speaking  the server hears speech now
 * @property {boolean} paused  nobody is heard until the talk goes on
 * @property {boolean} isPauseOurs  this page has paused or gone on, so that the server's word comes after the fact
 * @property {boolean} isReconnecting  the connection is lost and is being made again
 * @property {{received: number, committed: number, seconds: number} | null} lag
 * @property {number} captured  seconds of sound taken from the microphone
 * @property {number} quiet  seconds since the microphone last gave any sound
 * @property {number} unanswered  seconds of sound since the server last said anything
 * @property {number} dropped  seconds of sound that had to be left out because the network was too slow, or away
 * @property {number} unheard  seconds in which the microphone, or the page, was away
 * @property {boolean} isMicrophoneLost  it was unplugged, and is waited for
 * @property {boolean} isAsleep  the browser gives no sound, though there is a microphone
 * @property {Part[]} parts  the sessions of this talk: more than one where a server could not go on with it
 * @property {{name: string, size: number, fraction: number, missing?: number} | null} file  `missing`: the share not taken
 * @property {number} acked  bytes of audio that the server has on disk
 * @property {boolean} complete  the server has sent `stopped`: every word is here
 * @property {{stage: string, fraction: number} | null} progress  of the full pass
 * @property {number | null} duration  seconds of audio in the whole session, once known
 * @property {Record<string, string>} links  where the transcript can be fetched, by format
 * @property {string} address  of the session whose transcript it is; empty before the first
 * @property {{code: string, message: string, hint: string, fromServer: boolean} | null} error
 * @property {number} retryIn  seconds until a full server is asked again
 * @property {{code: string, message: string}[]} notices
 *
 * @typedef {Pick<State, "utterances" | "tail" | "final" | "isLiveShown" | "labels" | "isSettled" | "cast" | "links" |
 *   "address" | "name" | "previous" | "parts">} Readable
 */

import { finalOf } from "./final.js";
import { BEGINNING, joined } from "./parts.js";
import { NOBODY, renamed, shownName } from "./speakers.js";
import { isFullParagraph, labelBefore, textOf, turnsOf, withMark, withoutMark } from "./turns.js";

/** Sound below this root mean square (full scale is 1) counts as none: about -52 dBFS, above the noise of a muted input. */
export const AUDIBLE = 0.0025;

const FORMATS = ["vtt", "srt", "txt", "json", "docx"];
const NOTICES_KEPT = 3;
const RETRY_AFTER_DEFAULT = 10;

/** Phases in which sound may be on its way. @type {ReadonlySet<Phase>} */
const ACTIVE = new Set(/** @type {Phase[]} */ (["asking", "connecting", "live"]));

/** @type {State} */
const INITIAL = {
  phase: "idle",
  source: null,
  session: null,
  utterances: [],
  final: null,
  isLiveShown: false,
  labels: null,
  isSettled: false,
  cast: NOBODY,
  tail: [],
  speaking: false,
  paused: false,
  isPauseOurs: false,
  isReconnecting: false,
  lag: null,
  captured: 0,
  quiet: 0,
  unanswered: 0,
  dropped: 0,
  unheard: 0,
  isMicrophoneLost: false,
  isAsleep: false,
  parts: [],
  file: null,
  acked: 0,
  complete: false,
  progress: null,
  duration: null,
  links: {},
  address: "",
  title: "",
  name: "",
  nextName: "",
  previous: null,
  error: null,
  retryIn: 0,
  notices: [],
};

/** The state of a page that has just been opened. @returns {State} */
export function initialState() {
  return INITIAL;
}

/**
 * The state after `message`. A message of an unknown type changes nothing, so that a newer server does no harm.
 *
 * @param {State} state
 * @param {{type: string, [field: string]: any}} message
 * @returns {State}
 */
export function reduce(state, message) {
  if (Object.hasOwn(FROM_PAGE, message.type)) return FROM_PAGE[message.type](state, message);
  const heard = state.unanswered === 0 ? state : { ...state, unanswered: 0 };
  return Object.hasOwn(FROM_SERVER, message.type) ? FROM_SERVER[message.type](heard, message) : heard;
}

/** @typedef {(state: State, message: any) => State} Step */

/** @type {Record<string, Step>} */
const FROM_SERVER = {
  ready(state, message) {
    const recognizer = message.models?.recognizer ?? {};
    const session = { id: message.session, model: recognizer.name ?? "", languages: recognizer.languages ?? null };
    const address = addressOf(session.id);
    const phase = state.phase === "connecting" ? "live" : state.phase;
    const parts = withPart(message.isContinued ? state.parts : [], { address, ...BEGINNING, ...message.place });
    if (parts.length > 1) return { ...state, session, phase, isReconnecting: false, links: {}, address, parts };
    const own = message.isContinued ? state : { ...state, ...readable(INITIAL), previous: earlier(state) };
    return {
      ...own,
      ...{ session, phase, parts, isReconnecting: false },
      links: Object.fromEntries(FORMATS.map((format) => [format, `${address}/transcript.${format}`])),
      address,
      name: state.nextName,
    };
  },

  ack(state, message) {
    return withProgress({ ...state, acked: message.bytes });
  },

  speech(state, message) {
    return { ...state, speaking: message.state === "started" };
  },

  partial(state, message) {
    return { ...state, tail: message.words?.length ? message.words : tailOf(message) };
  },

  commit(state, message) {
    const utterances = appended(state.utterances, message.utterance, message.words);
    // The last `partial` still holds the words that have just been committed; showing both would double them.
    const committedUntil = message.words.at(-1)?.end ?? 0;
    const tail = state.tail.filter((word) => middleOf(word) > committedUntil);
    return withSpeakers({ ...state, utterances, tail }, message.words.some(isLabelled));
  },

  label(state, { from, to, speaker }) {
    const isMeant = (/** @type {Word} */ word) => from <= middleOf(word) && middleOf(word) <= to;
    // Labels are late by seconds: what lies before them, an hour it may be, is not gone through.
    const before = state.utterances.findLastIndex(({ words }) => words.length > 0 && middleOf(words[words.length - 1]) < from);
    const later = state.utterances.slice(before + 1).map((utterance) => relabelled(utterance, isMeant, speaker));
    return withSpeakers({ ...state, utterances: state.utterances.slice(0, before + 1).concat(later) }, true);
  },

  utterance(state, { utterance: number, language = null, speaker = null }) {
    const isMeant = (/** @type {Word} */ word) => speaker !== null && !isLabelled(word);
    const before = state.utterances.findLastIndex(({ utterance }) => utterance < number);
    const later = state.utterances.slice(before + 1).map((utterance) =>
      utterance.utterance === number
        ? { ...relabelled(utterance, isMeant, speaker), complete: true, language }
        : utterance,
    );
    const utterances = state.utterances.slice(0, before + 1).concat(later);
    return withSpeakers({ ...state, utterances }, speaker !== null);
  },

  /** The talk is paused, or goes on: viewers, and a page that was reloaded, are told. */
  paused(state, { paused }) {
    return state.isPauseOurs ? state : { ...state, paused, speaking: false };
  },

  lag(state, { received, committed, seconds }) {
    return withProgress({ ...state, lag: { received, committed, seconds } });
  },

  stopped(state, message) {
    const file = state.file && { ...state.file, fraction: 1 };
    return { ...state, phase: "finishing", complete: true, tail: [], speaking: false, paused: false, duration: message.duration, file };
  },

  progress(state, { stage, fraction }) {
    return { ...state, progress: { stage, fraction } };
  },

  final(state, message) {
    const { speakers = [], labels = null, duration } = message;
    const { rttm, ...others } = { ...state.links, ...message.links };
    return {
      ...ended(state, "done"),
      complete: true,
      tail: [],
      duration,
      links: speakers.length > 0 && rttm ? { ...others, rttm } : others,
      final: finalOf(message),
      isSettled: true,
      labels,
      cast: { ...state.cast, speakers },
    };
  },

  /** All names that the presenter typed: viewers are told. */
  names(state, { names }) {
    return { ...state, cast: { ...state.cast, names } };
  },

  /** What the presenter calls the session: viewers are told. */
  title: (state, { title }) => ({ ...state, title }),

  notice(state, { code, message }) {
    return noted(state, code, message);
  },

  error(state, { code, message, hint = "", retry_after }) {
    const full = code === "server_full";
    return {
      ...ended(state, full ? "full" : "failed"),
      error: { code, message, hint, fromServer: true },
      retryIn: full ? Math.max(1, Math.ceil(retry_after ?? RETRY_AFTER_DEFAULT)) : 0,
    };
  },
};

/** @type {Record<string, Step>} */
const FROM_PAGE = {
  /** The browser lacks something. `reason` is the phase that says what. */
  "page.found_wanting": (state, { reason }) => ({ ...state, phase: reason }),

  /** `name` is for the files of what will be said. */
  "page.permission_asked": (state, { name = "captions" }) => ({
    ...begun(state),
    phase: "asking",
    source: "microphone",
    nextName: name,
  }),

  "page.microphone_opened": (state) =>
    state.phase === "asking" ? { ...state, phase: state.session ? "live" : "connecting" } : state,

  /** Another page began this talk, and this one goes on with it, or sees to its end: what is known of the talk. */
  "page.talk_taken_up": (state, { name, captured, dropped, unheard, names, paused, isToEnd }) => ({
    ...begun(state),
    ...readable(INITIAL),
    phase: isToEnd ? "connecting" : "asking",
    ...{ source: "microphone", name, nextName: name, captured, dropped, unheard },
    ...{ paused, isPauseOurs: true }, // what the server said of it comes after the fact
    previous: earlier(state),
    cast: { ...NOBODY, names },
  }),

  /** One of its sessions: what was said there follows. */
  "page.part_found"(state, { session, place }) {
    const address = addressOf(session);
    const previous = state.previous?.address === address ? null : state.previous; // it is the one that is read
    return { ...state, address, previous, parts: withPart(state.parts, { address, ...place }) };
  },

  /** The server could not go on with the session: another one follows, and its words stand behind those that there are. */
  "page.session_followed": (state) => ({
    ...state,
    tail: [],
    utterances: state.utterances.map((one) => (one.complete ? one : { ...one, complete: true })),
    isReconnecting: true,
    speaking: false,
  }),

  /** All sessions of the talk are over. `finals` has the result of each; null where one has none. */
  "page.concluded"(state, { finals }) {
    const { final, parts } = joined(finals, state.parts, state.utterances);
    return { ...FROM_SERVER.final(state, final), parts };
  },

  "page.microphone_lost": (state) => ({ ...state, isMicrophoneLost: true, speaking: false }),
  "page.microphone_found": (state) => ({ ...state, isMicrophoneLost: false }),
  "page.sound_slept": (state, { isAsleep }) => ({ ...state, isAsleep }),

  /** `reason` is the phase that says why. */
  "page.microphone_failed": (state, { reason }) => ended(state, reason),

  "page.file_chosen": (state, { name, size }) => ({
    ...begun(state),
    phase: "connecting",
    source: "file",
    nextName: name.replace(/(?<=.)\.[^.]*$/, ""),
    file: { name, size, fraction: 0 },
  }),

  /** A batch of sound left the microphone: `duration` in seconds, `level` its root mean square. */
  "page.sound_captured": (state, { duration, level }) => ({
    ...state,
    captured: state.captured + duration,
    quiet: level >= AUDIBLE ? 0 : state.quiet + duration,
    unanswered: state.phase === "live" && !state.isReconnecting ? state.unanswered + duration : 0,
  }),

  "page.sound_dropped": (state, { duration }) => ({ ...state, dropped: state.dropped + duration }),
  "page.sound_missed": (state, { duration }) => ({ ...state, unheard: state.unheard + duration }),
  "page.file_cut": (state, { share }) => ({ ...state, file: state.file && { ...state.file, missing: share } }),

  /** The presenter interrupts the talk, or goes on with it. */
  "page.pause_requested"(state, { paused }) {
    if (!canPause(state)) return state;
    return { ...state, paused, isPauseOurs: true, speaking: false, quiet: 0, unanswered: 0 };
  },

  "page.stop_requested"(state) {
    if (state.phase === "asking") return ended(state, "idle");
    return ACTIVE.has(state.phase) ? { ...state, phase: "finishing", speaking: false, paused: false } : state;
  },

  "page.waiting_cancelled": (state) => (state.phase === "full" ? { ...state, phase: "idle" } : state),

  /** The socket is gone; another one is on its way, and sound is held until then. */
  "page.connection_interrupted": (state) => ({ ...state, isReconnecting: true, speaking: false }),

  "page.connection_resumed": (state) => ({ ...state, isReconnecting: false, unanswered: 0 }),

  /** The socket is gone for good. After `stopped` nothing is missing; a refusal has said more already. */
  "page.connection_closed"(state) {
    if (state.phase !== "finishing" && !ACTIVE.has(state.phase)) return state;
    return ended(state, state.complete ? "done" : "lost");
  },

  /** Something on this side went wrong: `message` and `hint` are sentences. */
  "page.failed": (state, { code, message, hint }) => ({
    ...ended(state, "failed"),
    error: { code, message, hint, fromServer: false },
  }),

  /** Somebody typed a name for a speaker; an empty one takes it away. */
  "page.speaker_named": (state, { label, name }) => ({
    ...state,
    cast: { ...state.cast, names: renamed(state.cast, label, name) },
  }),

  "page.live_shown": (state, { isLiveShown }) => ({ ...state, isLiveShown }),

  /** What this tab held before it was reloaded: maybe kept by an older page, which knew of no speakers. */
  "page.transcript_found": (state, { transcript }) => ({
    ...state,
    previous: { address: "", cast: NOBODY, revision: 0, ...transcript },
  }),

  "page.second_passed": (state) => ({ ...state, retryIn: Math.max(0, state.retryIn - 1) }),

  "page.noticed": (state, { code, message }) => noted(state, code, message),

  "page.notice_dismissed": (state, { code }) => ({
    ...state,
    notices: state.notices.filter((notice) => notice.code !== code),
  }),
};

/** Whether sound is being taken or sent. @param {State} state */
export function isActive(state) {
  return ACTIVE.has(state.phase);
}

/** Whether there is a talk that can be interrupted: somebody is live. @param {State} state */
export function canPause({ phase, source }) {
  return phase === "live" && source === "microphone";
}

/** Whether the last words are waited for while the server is away. @param {State} state */
export function canGiveUp({ phase, isReconnecting }) {
  return phase === "finishing" && isReconnecting;
}

/** Whether leaving the page now would lose words. @param {State} state */
export function wouldLoseWords(state) {
  return isActive(state) || (state.phase === "finishing" && !state.complete);
}

/** Whether the tail will never be confirmed: its session is over. @param {State} state */
export function isTailLost(state) {
  return state.tail.length > 0 && state.phase !== "live" && state.phase !== "finishing";
}

/** The language that is being spoken, once the server has found out; null before. @param {State} state */
export function detectedLanguage({ phase, utterances }) {
  if (phase !== "live" && phase !== "finishing") return null;
  return utterances.findLast(({ language }) => language)?.language ?? null;
}

/** What can be saved of this state: the best that there is. @param {State} state @returns {Transcript} */
export function transcriptOf({ name, utterances, final, links, address, cast }) {
  return {
    ...{ name, links, address, cast },
    utterances: final?.utterances ?? utterances,
    revision: final?.revision ?? 0,
  };
}

/** Whether a final text is on its way, and what there is to save is what was heard live. @param {State} state */
export function isFinalAwaited({ phase, final }) {
  return phase === "finishing" && !final;
}

/** What can be saved of the live captions. @param {State} state @returns {Transcript} */
export function liveTranscriptOf(state) {
  const { name, utterances, links, address, cast } = state;
  const live = Object.entries(links).map(([format, link]) => [format, `${link}?revision=0`]);
  return { name: `${name}-live`, utterances, links: Object.fromEntries(live), address, cast, revision: 0 };
}

/** Which text is on the screen: that of the full pass, or 0 for the live one. @param {State} state */
export function shownRevision({ final, isLiveShown }) {
  return final && !isLiveShown ? final.revision : 0;
}

/** The paragraphs that are on the screen. @param {State} state @returns {Utterance[]} */
export function shownUtterances({ utterances, final, isLiveShown }) {
  return final && !isLiveShown ? final.utterances : utterances;
}

/** Whether there is a word at all. @param {State} state */
export function hasWords({ utterances, final }) {
  return (final?.utterances ?? utterances).some(({ words }) => words.length > 0);
}

/** How many words there are. @param {State} state */
export function wordCount({ utterances, final }) {
  return (final?.utterances ?? utterances).reduce((count, utterance) => count + utterance.words.length, 0);
}

/** What is on the screen as text, one paragraph for each turn. @param {State} state @returns {string} */
export function plainText(state) {
  return shownUtterances(state)
    .flatMap((utterance) => turnsOf(utterance.words))
    .map(({ speaker, words }) => {
      const text = textOf(words).trim();
      return labelBefore(speaker && shownName(speaker, state.cast), text) + text;
    })
    .join("\n");
}

/** A session is about to begin: everything is new but what can be read. @param {State} state @returns {State} */
function begun(state) {
  return { ...INITIAL, ...readable(state) };
}

/** @param {State} state @returns {Readable} */
function readable({ utterances, tail, final, isLiveShown, labels, isSettled, cast, links, address, name, previous, parts }) {
  return { utterances, tail, final, isLiveShown, labels, isSettled, cast, links, address, name, previous, parts };
}

/** The transcript that another one takes the place of. @param {State} state */
function earlier(state) {
  return wordCount(state) > 0 ? transcriptOf(state) : state.previous;
}

/** @param {string} session */
function addressOf(session) {
  return `/v1/sessions/${encodeURIComponent(session)}`;
}

/** @param {Part[]} parts @param {Part} part @returns {Part[]} */
function withPart(parts, part) {
  return [...parts.filter(({ address }) => address !== part.address), part];
}

const AWAKE = { isMicrophoneLost: false, isAsleep: false };

/** Stop everything that moves, keep what was read. @param {State} state @param {Phase} phase @returns {State} */
function ended(state, phase) {
  return { ...state, phase, speaking: false, paused: false, isReconnecting: false, quiet: 0, unanswered: 0, progress: null, ...AWAKE };
}

/** @param {State} state @param {string} code @param {string} message @returns {State} */
function noted(state, code, message) {
  const others = state.notices.filter((notice) => notice.code !== code);
  return { ...state, notices: [...others, { code, message }].slice(-NOTICES_KEPT) };
}

/** @param {Utterance[]} utterances @param {number} number @param {Word[]} words @returns {Utterance[]} */
function appended(utterances, number, words) {
  const last = utterances.at(-1);
  if (last?.utterance === number && !isFullParagraph(last.words, words[0])) {
    return utterances.slice(0, -1).concat({ ...last, words: [...last.words, ...words] });
  }
  const before = last ? withMark(last.words, words[0]) : [];
  const earlier = last && before !== last.words ? utterances.slice(0, -1).concat({ ...last, words: before }) : utterances;
  const own = withoutMark(words);
  if (own.length === 0) return earlier;
  if (last?.utterance !== number) return earlier.concat({ utterance: number, words: own, complete: false, language: null });
  // Somebody talks for minutes without a pause: a paragraph must stay one that can be read, and be laid out quickly.
  const { part = 0, language } = last;
  const done = { ...earlier[earlier.length - 1], complete: true };
  return earlier.slice(0, -1).concat(done, { utterance: number, part: part + 1, words: own, complete: false, language });
}

/** @param {Utterance} utterance @param {(word: Word) => boolean} isMeant @param {string | null} speaker @returns {Utterance} */
function relabelled(utterance, isMeant, speaker) {
  const isWrong = (/** @type {Word} */ word) => word.speaker !== speaker && isMeant(word);
  if (!utterance.words.some(isWrong)) return utterance;
  return { ...utterance, words: utterance.words.map((word) => (isWrong(word) ? { ...word, speaker } : word)) };
}

/** Once a speaker is known there is a list of turns to fetch. @param {State} state @param {boolean} isKnown @returns {State} */
function withSpeakers(state, isKnown) {
  if (!isKnown || !state.address || state.links.rttm || state.parts.length > 1) return state; // no server has all of it
  return { ...state, links: { ...state.links, rttm: `${state.address}/transcript.rttm` } };
}

/** A tail as viewers get it, without its words. @param {any} partial @returns {Word[]} */
function tailOf({ text, start, end }) {
  return text ? [{ text, start, end, probability: 1, speaker: null }] : [];
}

/** @param {Word} word */
function isLabelled(word) {
  return (word.speaker ?? null) !== null;
}

/** @param {Word} word @returns {number} seconds */
function middleOf(word) {
  return (word.start + word.end) / 2;
}

/**
 * How much of a file is done: what share of its bytes has arrived, times what share of the audio in them is committed.
 * Never goes back.
 *
 * @param {State} state
 * @returns {State}
 */
function withProgress(state) {
  if (!state.file) return state;
  const arrived = state.file.size ? Math.min(1, state.acked / state.file.size) : 0;
  const done = state.lag && state.lag.received > 0 ? Math.min(1, state.lag.committed / state.lag.received) : 0;
  const fraction = Math.max(state.file.fraction, arrived * done);
  return fraction === state.file.fraction ? state : { ...state, file: { ...state.file, fraction } };
}
