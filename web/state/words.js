/** What the page says in each state, in its language: every state has words, and says what to do next. */

import { locale, words } from "./locale.js";
import { DEFAULTS, RANGES, VALUES } from "./look.js";
import { wordCount } from "./state.js";

/** @typedef {import("./state.js").State} State */
/** @typedef {{title: string, detail: string, tone: "calm" | "busy" | "live" | "good" | "bad", cause?: string}} Words
 *   `cause` is what the server itself said: for who runs it, not for who reads */

/** Seconds without any sound before the page says so. */
const QUIET_AFTER = 4;
/** Seconds without a word from the server before the page says so. */
const UNANSWERED_AFTER = 6;
/** Seconds that could not be heard, from which on the sum is said in the end. */
const UNHEARD = 0.1;

const { STATUS, PASS, HEARING, HALL, OFFER, TIME } = words;
/** @type {Record<string, string>} */
const FAILURES = words.FAILURES;
export const { TALK, PAGE, SHARE, SHORTCUTS, EXPECTED, SPEAKERS, PAST, PAST_PAGE, FORMATS, AUDIENCE, PILL, EMPTY } = words;

const whole = new Intl.NumberFormat(locale);
const tenths = new Intl.NumberFormat(locale, { minimumFractionDigits: 1, maximumFractionDigits: 1, useGrouping: false });
const percents = new Intl.NumberFormat(locale, { style: "percent" });

/** What is said of a talk on its way, each once. */
export const NOTICES = {
  ...words.NOTICES,
  audio_lost: (/** @type {number} */ duration) => words.NOTICES.audio_lost(amount(duration)),
  unheard: (/** @type {number} */ duration) => words.NOTICES.unheard(amount(duration)),
};

/** @typedef {{title: string, detail: string, goOn: string, end: string, erase: string, reallyErase: string}} Offer */

/** @type {Record<import("./state.js").Phase, (state: State) => Words>} */
const WORDS = {
  idle: () => ({ title: STATUS.idle, detail: "", tone: "calm" }),
  insecure: () => ({ title: STATUS.insecure, detail: STATUS.insecureDetail, tone: "bad" }),
  unsupported: () => ({ title: STATUS.unsupported, detail: STATUS.unsupportedDetail, tone: "bad" }),
  asking: () => ({ title: STATUS.asking, detail: STATUS.askingDetail, tone: "busy" }),
  denied: () => ({ title: STATUS.denied, detail: STATUS.deniedDetail, tone: "bad" }),
  no_device: () => ({ title: STATUS.noDevice, detail: STATUS.noDeviceDetail, tone: "bad" }),
  device_busy: () => ({ title: STATUS.deviceBusy, detail: STATUS.deviceBusyDetail, tone: "bad" }),
  connecting: (state) => ({
    title: STATUS.connecting,
    detail: state.source === "file" ? STATUS.connectingFile : STATUS.connectingDetail,
    tone: "busy",
  }),
  live: (state) => (state.source === "file" ? replaying() : state.paused ? paused() : listening(state)),
  finishing: (state) => ({ title: STATUS.finishing, detail: finishing(state), tone: "busy" }),
  done: (state) => ({
    title: loss(state) ? STATUS.doneWithGaps : STATUS.done,
    detail: summary(state),
    tone: loss(state) ? "bad" : "good",
  }),
  full: (state) => ({
    title: STATUS.full,
    detail: STATUS.fullDetail(state.retryIn ?? 0),
    tone: "busy",
    cause: state.error?.message,
  }),
  lost: (state) =>
    state.session
      ? { title: STATUS.lost, detail: STATUS.lostDetail, tone: "bad" }
      : { title: STATUS.unreachable, detail: STATUS.unreachableDetail, tone: "bad" },
  failed: (state) => ({
    title: state.error?.code === "shutting_down" ? STATUS.restarting : STATUS.failed,
    detail: failure(state),
    tone: "bad",
    cause: cause(state),
  }),
};

/** Say in what state the page is. @param {State} state @returns {Words} */
export function wordsFor(state) {
  return state.isReconnecting ? reconnecting(state) : WORDS[state.phase](state);
}

/** Say what the microphone hears; empty while none is open. @param {State} state @returns {string} */
export function hearing(state) {
  if (state.paused) return HEARING.paused;
  if (state.source !== "microphone" || (state.phase !== "live" && state.phase !== "connecting")) return "";
  if (state.isMicrophoneLost || state.isAsleep) return HEARING.none;
  if (state.quiet >= QUIET_AFTER) return HEARING.none;
  if (state.speaking) return HEARING.speech;
  return state.captured > 0 && state.quiet < 1 ? HEARING.sound : HEARING.listening;
}

/** Say how long ago the newest confirmed word was spoken; empty where that means nothing. @param {State} state @returns {string} */
export function behind(state) {
  if (!state.lag || state.phase !== "live" || state.source === "file" || state.isReconnecting || state.paused) return "";
  return TIME.seconds(tenths.format(Math.max(0, state.lag.seconds)));
}

/** The clock: for a recording being worked on, how much is done of what has arrived. @param {State} state @returns {string} */
export function timeShown(state) {
  if (state.source !== "file" || state.duration !== null || !state.lag) return clock(elapsed(state));
  return `${clock(state.lag.committed)} / ${clock(elapsed(state))}`;
}

/** Seconds of audio so far: what the microphone gave, or what was heard of a file. @param {State} state */
export function elapsed(state) {
  return state.duration ?? (state.source === "file" ? (state.lag?.received ?? 0) : state.captured);
}

/** Seconds as m:ss or h:mm:ss. @param {number} seconds */
export function clock(seconds) {
  const whole = Math.floor(seconds);
  const pad = (/** @type {number} */ part) => String(part).padStart(2, "0");
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return h ? `${h}:${pad(m)}:${pad(s)}` : `${m}:${pad(s)}`;
}

/** A length of time, short. @param {number} duration seconds */
export function seconds(duration) {
  return duration < 59.5 ? TIME.seconds(whole.format(Math.round(duration))) : clock(Math.round(duration));
}

/** A length of time in a sentence, with tenths where they are few. @param {number} duration seconds */
export function amount(duration) {
  if (duration < 9.95) return TIME.seconds(tenths.format(duration));
  const rounded = Math.round(duration);
  if (rounded < 60) return TIME.seconds(whole.format(rounded));
  return rounded % 60 ? TIME.both(Math.floor(rounded / 60), rounded % 60) : TIME.minutes(rounded / 60);
}

/** What is offered where a talk is kept that no page goes on with. @param {import("../client/keeping.js").About} about @returns {Offer} */
export function offerOf({ begun, held_bytes, rate_hz }) {
  const date = new Date(begun);
  const isToday = date.toDateString() === new Date().toDateString();
  const time = date.toLocaleTimeString(locale, { hour: "2-digit", minute: "2-digit" });
  const day = date.toLocaleDateString(locale, { day: "numeric", month: "long" });
  const waiting = held_bytes / (2 * rate_hz);
  return {
    title: OFFER.title(isToday ? time : OFFER.dayAndTime(day, time)),
    detail: waiting >= 1 ? OFFER.detail(amount(waiting)) : "",
    goOn: OFFER.goOn,
    end: OFFER.end,
    erase: waiting >= 1 ? OFFER.erase : "",
    reallyErase: OFFER.reallyErase(amount(waiting)),
  };
}

/** A share of something. @param {number} fraction 0 to 1 */
export function rounded(fraction) {
  return percents.format(fraction);
}

/** How far something is: never all before it is over. @param {number} fraction 0 to 1 */
export function percent(fraction) {
  return percents.format(Math.floor(fraction * 100) / 100);
}

/** @param {State} state @returns {Words} */
function reconnecting(state) {
  const { phase, source, dropped, paused } = state;
  const isHeard = phase === "live" && source === "microphone" && !paused;
  const kept = isHeard ? STATUS.keepSpeaking : STATUS.picksUp;
  return {
    title: STATUS.reconnecting,
    detail: deaf(state) || (dropped > 0 ? STATUS.leftOut(amount(dropped)) : kept),
    tone: "busy",
  };
}

/** Why nothing can be heard; empty where that is not so. @param {State} state */
function deaf({ isMicrophoneLost, isAsleep }) {
  if (isMicrophoneLost) return STATUS.microphoneGone;
  return isAsleep ? STATUS.asleep : "";
}

/** @returns {Words} */
function paused() {
  return { title: STATUS.paused, detail: STATUS.pausedDetail, tone: "calm" };
}

/** @param {State} state @returns {Words} */
function listening(state) {
  return { title: STATUS.live, detail: trouble(state), tone: "live" };
}

/** @param {State} state */
function failure({ error, source }) {
  if (!error) return "";
  if (!error.fromServer) return `${error.message} ${error.hint}`;
  if (error.code === "not_audio" && source !== "file") return FAILURES.other;
  return Object.hasOwn(FAILURES, error.code) ? FAILURES[error.code] : FAILURES.other;
}

/** @param {State} state */
function cause({ error }) {
  return error?.fromServer ? [error.message, error.hint].filter(Boolean).join(" ") : "";
}

/** @param {State} state */
function trouble(state) {
  if (deaf(state)) return deaf(state);
  if (state.unanswered >= UNANSWERED_AFTER) return STATUS.unanswered(Math.floor(state.unanswered));
  if (state.quiet >= QUIET_AFTER) return STATUS.quiet(Math.floor(state.quiet));
  return loss(state);
}

/** What is missing of the sound; empty where nothing is. @param {State} state */
function loss({ dropped, file }) {
  const missing = Math.ceil(100 * (file?.missing ?? 0));
  if (missing > 0) return STATUS.fileCut(percents.format(missing / 100));
  if (dropped > 0) return STATUS.soundCut(amount(dropped));
  return "";
}

/** @param {State} state */
function finishing(state) {
  return [loss(state), state.complete ? pass(state) : STATUS.finishingDetail].filter(Boolean).join(" ");
}

/** @returns {Words} */
function replaying() {
  return { title: STATUS.transcribing, detail: "", tone: "live" };
}

/** What of the full pass has words of its own. */
const STAGES = new Set(["segmentation", "embeddings", "clustering", "recognition"]);

/** What the full pass is doing. @param {State} state */
function pass({ progress, links }) {
  const purpose = links.rttm ? PASS.who : PASS.again;
  if (!progress) return PASS.waiting(purpose);
  const { stage, fraction } = progress;
  if (stage === "loading") return PASS.loading(purpose);
  return PASS.progress(STAGES.has(stage) ? PASS[/** @type {"clustering"} */ (stage)] : purpose, percent(fraction));
}

/** @param {State} state */
function summary(state) {
  const count = wordCount(state);
  if (count === 0) return loss(state) || STATUS.nothingSaid;
  const sum = STATUS.summary(count, whole.format(count), state.cast.speakers.length, clock(elapsed(state)));
  return [sum, loss(state), unheard(state), shortfall(state), STATUS.whatNow].filter(Boolean).join(" ");
}

/** For how long nothing could be heard. @param {State} state */
function unheard({ unheard }) {
  return unheard >= UNHEARD ? STATUS.unheard(amount(unheard)) : "";
}

/** What the full pass did not give. @param {State} state */
function shortfall({ isSettled, labels }) {
  if (!isSettled) return STATUS.unsettled;
  return labels === "live" ? STATUS.passFailed : "";
}

/** What a hall reads beside the captions, by phase: not what the presenter is told. @type {Partial<Record<import("./state.js").Phase, string>>} */
const IN_THE_HALL = {
  asking: HALL.soon,
  connecting: HALL.soon,
  full: HALL.soon,
  lost: HALL.stopped,
  failed: HALL.stopped,
};

/** Say to a hall how the captions stand; empty where it has only to read. @param {State} state @returns {string} */
export function hallWords(state) {
  if (state.paused) return TALK.paused;
  if (state.isReconnecting) return HALL.back;
  return IN_THE_HALL[state.phase] ?? "";
}

/** Several recordings dropped at once. @param {string} taken @param {string[]} ignored names of files */
export function onlyOneTaken(taken, ignored) {
  const { one_recording, one_of_many } = words.NOTICES;
  return ignored.length === 1 ? one_recording(taken, ignored[0]) : one_of_many(taken, ignored.length);
}

/** The editor of how overlay and stage look. */
export const LOOK = {
  ...words.LOOK,
  /** @param {{name: string, value: string, isKnown: boolean}} problem @param {"overlay" | "stage"} kind */
  problem: ({ name, value, isKnown }, kind) =>
    isKnown ? words.LOOK.invalid(name, value, allowed(name, kind)) : words.LOOK.unknown(name),
};

/** What a parameter may be. @param {string} name @param {"overlay" | "stage"} kind */
function allowed(name, kind) {
  const { number, oneOf, flag, fontName, digits } = words.LOOK;
  if (Object.hasOwn(RANGES, name)) return number(String(RANGES[name][0]), String(RANGES[name][1]));
  if (Object.hasOwn(VALUES, name)) return oneOf(VALUES[name].join(", "));
  if (typeof DEFAULTS[kind][/** @type {"upper"} */ (name)] === "boolean") return flag;
  return name === "font" ? fontName : digits;
}
