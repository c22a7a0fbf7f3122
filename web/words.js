/** What the page says in each state: every state has words, and says what to do next. */

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

/** What is said of a talk on its way, each once. */
export const NOTICES = {
  taken_up_elsewhere: "This talk goes on in another tab, or is over.",
  not_kept: "This browser has no room to keep the sound: do not close this page before the server has all of it.",
  session_followed:
    "The server had ended the session: the captions go on in a new one. Those who read along need its link: share it again.",
  audio_lost: (/** @type {number} */ duration) =>
    `The server has lost ${amount(duration)} of the sound that it had already. ` +
    "What you have read stays; the recording goes on without it.",
  unheard: (/** @type {number} */ duration) =>
    `The microphone was off for ${amount(duration)}: what was said in that time is not in the captions.`,
  microphone_found: (/** @type {string} */ name) => (name ? `Listening again, to “${name}”.` : "Listening again."),
};

/** @typedef {{title: string, detail: string, goOn: string, end: string, erase: string, reallyErase: string}} Offer */

/** @type {Record<import("./state.js").Phase, (state: State) => Words>} */
const WORDS = {
  idle: () => ({ title: "Ready", detail: "", tone: "calm" }),
  insecure: () => ({
    title: "Not a secure address",
    detail:
      "Browsers lend a microphone only to https:// addresses and to localhost. Open this page through one of them. " +
      "Recordings can be replayed from here all the same.",
    tone: "bad",
  }),
  unsupported: () => ({
    title: "Browser too old",
    detail: "This browser cannot hand sound to a page. Update it, or use a current Firefox, Chrome, Edge or Safari.",
    tone: "bad",
  }),
  asking: () => ({
    title: "Asking permission",
    detail: "Your browser asks whether this page may listen. Choose “Allow”.",
    tone: "busy",
  }),
  denied: () => ({
    title: "Microphone blocked",
    detail:
      "This page may not use the microphone. Allow it with the icon beside the address (and in your system's privacy " +
      "settings), then start again.",
    tone: "bad",
  }),
  no_device: () => ({
    title: "No microphone found",
    detail: "Plug one in or switch it on, then start again. Recordings can be replayed without one.",
    tone: "bad",
  }),
  device_busy: () => ({
    title: "Microphone not available",
    detail: "Another program may be holding it. Close that, or choose another microphone, then start again.",
    tone: "bad",
  }),
  connecting: (state) => ({
    title: "Connecting",
    detail: state.source === "file" ? "Opening a session for the recording." : "You can speak already: nothing is lost.",
    tone: "busy",
  }),
  live: (state) => (state.source === "file" ? replaying() : listening(state)),
  finishing: (state) => ({ title: "Finishing", detail: finishing(state), tone: "busy" }),
  done: (state) => ({
    title: loss(state) ? "Done, in part" : "Done",
    detail: summary(state),
    tone: loss(state) ? "bad" : "good",
  }),
  full: (state) => ({
    title: "Server full",
    detail: `All places are taken. Trying again ${state.retryIn ? `in ${state.retryIn} s` : "now"}.`,
    tone: "busy",
    cause: state.error?.message,
  }),
  lost: (state) =>
    state.session
      ? {
          title: "Connection lost",
          detail: "What you have read stays here, to be copied or saved. Check the network, then start again: that begins a new transcript.",
          tone: "bad",
        }
      : {
          title: "Server not reachable",
          detail: "Nothing answers at this address. Check that live-asr is running, then start again.",
          tone: "bad",
        },
  failed: (state) => ({
    title: state.error?.code === "shutting_down" ? "Server restarting" : "That did not work",
    detail: failure(state),
    tone: "bad",
    cause: cause(state),
  }),
};

/** What the full pass does, by stage. @type {Record<string, string>} */
const STAGES = {
  segmentation: "Finding out who spoke: where each turn begins and ends",
  embeddings: "Finding out who spoke: what each voice sounds like",
  clustering: "Finding out who spoke: which voices are the same",
  recognition: "Writing the words once more, with all of it heard",
};

/** What a reader is told of the server's errors, by code. @type {Record<string, string>} */
const FAILURES = {
  not_audio: "This file holds no sound that can be read. Choose a recording: audio or video of any usual kind.",
  shutting_down: "The server is restarting. Press Start in a moment.",
  unauthorized: "This server asks for a token. Open the address that the operator gave you: it ends in #token=…",
  origin_not_allowed: "This server takes no captions from this address. Open the page at the server's own address.",
  language_unsupported: "The server's model does not know this language. Choose another, or “Detect language”.",
  task_unsupported: "The server's model cannot translate. Choose captions in the language spoken, in Settings.",
  storage_full: "The server's disk is full, so it takes no more sound. Tell who runs it.",
  slow_client: "The network was too slow to bring the captions here. Check it, then press Start.",
  overrun: "The network was too slow for the sound. Check it, then press Start.",
  start_timeout: "The connection took too long. Press Start to try again.",
  session_erased: "Somebody erased this session on the server. What you have read stays here, to be copied or saved.",
  resumed_elsewhere: "Another window has taken this session up: it goes on there.",
  internal: "Something broke on the server. Press Start to try again.",
};
const FAILURE = "The server ended the captions. Press Start to try again.";

/** Say in what state the page is. @param {State} state @returns {Words} */
export function wordsFor(state) {
  return state.isReconnecting ? reconnecting(state) : WORDS[state.phase](state);
}

/** Say what the microphone hears; empty while none is open. @param {State} state @returns {string} */
export function hearing(state) {
  if (state.source !== "microphone" || (state.phase !== "live" && state.phase !== "connecting")) return "";
  if (state.isMicrophoneLost || state.isAsleep) return "No sound";
  if (state.quiet >= QUIET_AFTER) return "No sound";
  if (state.speaking) return "Hearing speech";
  return state.captured > 0 && state.quiet < 1 ? "Hearing sound" : "Listening";
}

/** Say how long ago the newest confirmed word was spoken; empty where that means nothing. @param {State} state @returns {string} */
export function behind(state) {
  if (!state.lag || state.phase !== "live" || state.source === "file" || state.isReconnecting) return "";
  return `${Math.max(0, state.lag.seconds).toFixed(1)} s`;
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
  return duration < 59.5 ? `${Math.round(duration)} s` : clock(Math.round(duration));
}

/** A length of time in a sentence, with tenths where they are few. @param {number} duration seconds */
export function amount(duration) {
  if (duration < 9.95) return `${duration.toFixed(1)} s`;
  const whole = Math.round(duration);
  if (whole < 60) return `${whole} s`;
  return whole % 60 ? `${Math.floor(whole / 60)} min ${whole % 60} s` : `${whole / 60} min`;
}

/** What is offered where a talk is kept that no page goes on with. @param {import("./keeping.js").About} about @returns {Offer} */
export function offerOf({ begun, held_bytes, rate_hz }) {
  const date = new Date(begun);
  const isToday = date.toDateString() === new Date().toDateString();
  const time = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  const when = isToday ? time : `${date.toLocaleDateString([], { day: "numeric", month: "long" })}, ${time}`;
  const waiting = held_bytes / (2 * rate_hz);
  return {
    title: `Your talk from ${when} is still open.`,
    detail: waiting >= 1 ? `${amount(waiting)} of its sound are kept here and may not have reached the server yet.` : "",
    goOn: "Go on",
    end: "End it",
    erase: waiting >= 1 ? "Delete" : "",
    reallyErase: `Delete ${amount(waiting)} of sound that the server may not have? This cannot be undone.`,
  };
}

/** @param {number} fraction 0 to 1 */
export function percent(fraction) {
  return `${Math.floor(fraction * 100)} %`;
}

/** @param {State} state @returns {Words} */
function reconnecting(state) {
  const { phase, source, dropped } = state;
  const isHeard = phase === "live" && source === "microphone";
  const what = isHeard ? "Go on speaking: it is kept here until the server is back." : "It goes on where it was.";
  const loss = "As much sound waits here as this page can keep, an hour of it.";
  const detail =
    deaf(state) || (dropped > 0 ? `${loss} ${amount(dropped)} since then had to be left out.` : `Nothing is lost. ${what}`);
  return { title: "Reconnecting", detail, tone: "busy" };
}

/** Why nothing can be heard; empty where that is not so. @param {State} state */
function deaf({ isMicrophoneLost, isAsleep }) {
  if (isMicrophoneLost) return "The microphone is gone: plug it in again or choose another.";
  return isAsleep ? "The browser has put the sound to sleep: click anywhere to go on." : "";
}

/** @param {State} state @returns {Words} */
function listening(state) {
  return { title: "Live", detail: trouble(state), tone: "live" };
}

/** @param {State} state */
function failure({ error, source }) {
  if (!error) return "";
  if (!error.fromServer) return `${error.message} ${error.hint}`;
  if (error.code === "not_audio" && source !== "file") return FAILURE;
  return Object.hasOwn(FAILURES, error.code) ? FAILURES[error.code] : FAILURE;
}

/** @param {State} state */
function cause({ error }) {
  return error?.fromServer ? [error.message, error.hint].filter(Boolean).join(" ") : "";
}

/** @param {State} state */
function trouble(state) {
  if (deaf(state)) return deaf(state);
  if (state.unanswered >= UNANSWERED_AFTER)
    return `No answer from the server for ${Math.floor(state.unanswered)} s. The sound is kept and will be sent.`;
  if (state.quiet >= QUIET_AFTER)
    return `No sound for ${Math.floor(state.quiet)} s. Is the microphone muted, or is another one meant?`;
  return loss(state);
}

/** What is missing of the sound; empty where nothing is. @param {State} state */
function loss({ dropped, file }) {
  const missing = Math.ceil(100 * (file?.missing ?? 0));
  if (missing > 0)
    return `The connection was away for too long: the last ${missing} % of the recording had to be left out.`;
  if (dropped > 0)
    return `The connection was away for too long, or too slow: ${amount(dropped)} of sound had to be left out.`;
  return "";
}

/** @param {State} state */
function finishing(state) {
  return [loss(state), state.complete ? pass(state) : "Writing the last words."].filter(Boolean).join(" ");
}

/** @returns {Words} */
function replaying() {
  return { title: "Transcribing", detail: "", tone: "live" };
}

/** What the full pass is doing. @param {State} state */
function pass({ progress, links }) {
  const purpose = links.rttm ? "Finding out who spoke" : "Going over it once more";
  if (!progress) return `${purpose}.`;
  if (progress.stage === "loading") return `${purpose}: getting ready.`;
  const stage = Object.hasOwn(STAGES, progress.stage) ? STAGES[progress.stage] : purpose;
  return `${stage}, ${percent(progress.fraction)}.`;
}

/** @param {State} state */
function summary(state) {
  const words = wordCount(state);
  if (words === 0) return loss(state) || "No words were recognised. Is it speech, and in the chosen language?";
  const speakers = state.cast.speakers.length;
  const counted = words === 1 ? "1 word" : `${words.toLocaleString("en")} words`;
  const by = speakers > 1 ? ` by ${speakers} speakers` : "";
  const sum = `${counted}${by} in ${clock(elapsed(state))}.`;
  return [sum, loss(state), unheard(state), shortfall(state), "Copy or save them, or start anew."].filter(Boolean).join(" ");
}

/** For how long nothing could be heard. @param {State} state */
function unheard({ unheard }) {
  return unheard >= UNHEARD ? `The microphone was off for ${amount(unheard)} of it.` : "";
}

/** What the full pass did not give. @param {State} state */
function shortfall({ isSettled, labels }) {
  if (!isSettled) return "The connection ended before the full pass did: this is what was heard live.";
  return labels === "live" ? "Speakers as heard live: the full pass failed." : "";
}
