/**
 * What the page knows, and how each message changes it.
 *
 * `reduce` is pure: no clock, no document, no socket. Messages of the server keep their wire names; what happens on the
 * page itself is a message too, in the past tense and with the prefix `page.`, so that neither can be taken for the other.
 *
 * @typedef {import("./messages.js").Word} Word
 *
 * @typedef {"idle" | "insecure" | "unsupported" | "asking" | "denied" | "no_device" | "device_busy" | "connecting" |
 *   "live" | "finishing" | "done" | "full" | "lost" | "failed"} Phase
 *
 * @typedef {object} Utterance
 * @property {number} utterance  its number in the session
 * @property {Word[]} words  committed words, in order
 * @property {boolean} complete  nothing more will be added
 * @property {string | null} language  ISO 639-1 code, once known
 *
 * @typedef {object} Transcript  what is saved
 * @property {string} name  of its files, without extension
 * @property {Utterance[]} utterances
 * @property {Record<string, string>} links  where the server has it, by format
 *
 * @typedef {object} State  `utterances`, `tail`, `links` and `name` stay those of the session before until the next one is
 *   `ready`: a start that fails takes nothing away
 * @property {Phase} phase
 * @property {"microphone" | "file" | null} source
 * @property {{id: string, model: string, languages: string[] | null} | null} session
 * @property {Utterance[]} utterances
 * @property {Word[]} tail  words that may still change, or were never confirmed because the session broke off
 * @property {string} name  of the transcript's files, without extension
 * @property {string} nextName  the same for the session that is being started
 * @property {Transcript | null} previous  the transcript that this one replaced
 * @property {boolean} speaking  the server hears speech now
 * @property {{received: number, committed: number, seconds: number} | null} lag
 * @property {number} captured  seconds of sound taken from the microphone
 * @property {number} quiet  seconds since the microphone last gave any sound
 * @property {number} unanswered  seconds of sound since the server last said anything
 * @property {number} dropped  seconds of sound that had to be left out because the network was too slow
 * @property {{name: string, size: number, fraction: number} | null} file
 * @property {number} acked  bytes of audio that the server has on disk
 * @property {boolean} complete  the server has sent `stopped`: every word is here
 * @property {{stage: string, fraction: number} | null} progress  of the full pass
 * @property {number | null} duration  seconds of audio in the whole session, once known
 * @property {Record<string, string>} links  where the transcript can be fetched, by format
 * @property {{code: string, message: string, hint: string, fromServer: boolean} | null} error
 * @property {number} retryIn  seconds until a full server is asked again
 * @property {{code: string, message: string}[]} notices
 */

import { textOf, turnsOf, withMark, withoutMark } from "./turns.js";

/** Sound below this root mean square (full scale is 1) counts as none: about -52 dBFS, above the noise of a muted input. */
export const AUDIBLE = 0.0025;

const FORMATS = ["vtt", "srt", "txt", "json"];
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
  tail: [],
  speaking: false,
  lag: null,
  captured: 0,
  quiet: 0,
  unanswered: 0,
  dropped: 0,
  file: null,
  acked: 0,
  complete: false,
  progress: null,
  duration: null,
  links: {},
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
  if (Object.hasOwn(FROM_SERVER, message.type)) return FROM_SERVER[message.type](heard, message);
  return heard;
}

/** @typedef {(state: State, message: any) => State} Step */

/** @type {Record<string, Step>} */
const FROM_SERVER = {
  ready(state, message) {
    const recognizer = message.models?.recognizer ?? {};
    const session = { id: message.session, model: recognizer.name ?? "", languages: recognizer.languages ?? null };
    return {
      ...state,
      session,
      phase: state.phase === "connecting" ? "live" : state.phase,
      previous: state.utterances.length > 0 ? transcriptOf(state) : state.previous,
      utterances: [],
      tail: [],
      links: linksOf(session.id),
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
    return { ...state, tail: message.words ?? [] };
  },

  commit(state, message) {
    const utterances = appended(state.utterances, message.utterance, message.words);
    // The last `partial` still holds the words that have just been committed; showing both would double them.
    const committedUntil = message.words.at(-1)?.end ?? 0;
    const tail = state.tail.filter((word) => (word.start + word.end) / 2 > committedUntil);
    return { ...state, utterances, tail };
  },

  label(state, message) {
    const utterances = state.utterances.map((utterance) => relabelled(utterance, message));
    return { ...state, utterances };
  },

  utterance(state, message) {
    const utterances = state.utterances.map((utterance) =>
      utterance.utterance === message.utterance
        ? { ...utterance, complete: true, language: message.language ?? null }
        : utterance,
    );
    return { ...state, utterances };
  },

  lag(state, { received, committed, seconds }) {
    return withProgress({ ...state, lag: { received, committed, seconds } });
  },

  stopped(state, message) {
    const file = state.file && { ...state.file, fraction: 1 };
    return { ...state, phase: "finishing", complete: true, tail: [], speaking: false, duration: message.duration, file };
  },

  progress(state, { stage, fraction }) {
    return { ...state, progress: { stage, fraction } };
  },

  final(state, message) {
    const links = { ...state.links, ...message.links };
    return { ...state, phase: "done", complete: true, tail: [], progress: null, duration: message.duration, links };
  },

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

  "page.microphone_opened": (state) => (state.phase === "asking" ? { ...state, phase: "connecting" } : state),

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
    unanswered: state.phase === "live" ? state.unanswered + duration : 0,
  }),

  "page.sound_dropped": (state, { duration }) => ({ ...state, dropped: state.dropped + duration }),

  "page.stop_requested"(state) {
    if (state.phase === "asking") return ended(state, "idle");
    return ACTIVE.has(state.phase) ? { ...state, phase: "finishing", speaking: false } : state;
  },

  "page.waiting_cancelled": (state) => (state.phase === "full" ? { ...state, phase: "idle" } : state),

  /** The socket is gone. After `stopped` nothing is missing; a refusal has said more already. */
  "page.connection_closed"(state) {
    if (state.phase !== "finishing" && !ACTIVE.has(state.phase)) return state;
    return ended(state, state.complete ? "done" : "lost");
  },

  /** Something on this side went wrong: `message` and `hint` are sentences. */
  "page.failed": (state, { code, message, hint }) => ({
    ...ended(state, "failed"),
    error: { code, message, hint, fromServer: false },
  }),

  /** What this tab held before it was reloaded. */
  "page.transcript_found": (state, { transcript }) => ({ ...state, previous: transcript }),

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

/** What can be saved of this state. @param {State} state @returns {Transcript} */
export function transcriptOf({ name, utterances, links }) {
  return { name, utterances, links };
}

/** How many words are committed. @param {State} state */
export function wordCount(state) {
  return state.utterances.reduce((count, utterance) => count + utterance.words.length, 0);
}

/** The committed transcript, one paragraph for each turn. @param {Pick<State, "utterances">} state @returns {string} */
export function plainText(state) {
  return state.utterances
    .flatMap((utterance) => turnsOf(utterance.words))
    .map((turn) => (turn.speaker ? `${turn.speaker}: ` : "") + textOf(turn.words).trim())
    .join("\n");
}

/** A session is about to begin: everything is new but what can be read. @param {State} state @returns {State} */
function begun({ utterances, tail, links, name, previous }) {
  return { ...INITIAL, utterances, tail, links, name, previous };
}

/** Stop everything that moves, keep what was read. @param {State} state @param {Phase} phase @returns {State} */
function ended(state, phase) {
  return { ...state, phase, speaking: false, quiet: 0, unanswered: 0, progress: null };
}

/** @param {State} state @param {string} code @param {string} message @returns {State} */
function noted(state, code, message) {
  const others = state.notices.filter((notice) => notice.code !== code);
  return { ...state, notices: [...others, { code, message }].slice(-NOTICES_KEPT) };
}

/** @param {Utterance[]} utterances @param {number} number @param {Word[]} words @returns {Utterance[]} */
function appended(utterances, number, words) {
  const last = utterances.at(-1);
  if (last?.utterance === number) return [...utterances.slice(0, -1), { ...last, words: [...last.words, ...words] }];
  const before = last ? withMark(last.words, words[0]) : [];
  const earlier = last && before !== last.words ? [...utterances.slice(0, -1), { ...last, words: before }] : utterances;
  const own = withoutMark(words);
  return own.length > 0 ? [...earlier, { utterance: number, words: own, complete: false, language: null }] : earlier;
}

/** @param {Utterance} utterance @param {{from: number, to: number, speaker: string}} label @returns {Utterance} */
function relabelled(utterance, { from, to, speaker }) {
  const isMeant = (/** @type {Word} */ word) => word.start >= from && word.end <= to && word.speaker !== speaker;
  if (!utterance.words.some(isMeant)) return utterance;
  return { ...utterance, words: utterance.words.map((word) => (isMeant(word) ? { ...word, speaker } : word)) };
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

/** @param {string} session @returns {Record<string, string>} */
function linksOf(session) {
  const base = `/v1/sessions/${encodeURIComponent(session)}/transcript.`;
  return Object.fromEntries(FORMATS.map((format) => [format, base + format]));
}
