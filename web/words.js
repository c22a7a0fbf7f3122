/** What the page says in each state: every state has words, and says what to do next. */

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
      "Browsers allow a microphone only on https:// addresses and on localhost. Open this page at one of those. " +
      "You can still transcribe recordings here.",
    tone: "bad",
  }),
  unsupported: () => ({
    title: "Browser too old",
    detail: "This browser doesn't let a page process sound. Update it, or use a current Firefox, Chrome, Edge or Safari.",
    tone: "bad",
  }),
  asking: () => ({
    title: "Asking for permission",
    detail: "Your browser is asking whether this page may use the microphone. Choose “Allow”.",
    tone: "busy",
  }),
  denied: () => ({
    title: "Microphone blocked",
    detail:
      "This page isn't allowed to use the microphone. Allow it with the icon next to the address (and in your system's privacy " +
      "settings), then press Start.",
    tone: "bad",
  }),
  no_device: () => ({
    title: "No microphone found",
    detail: "Plug one in or switch it on, then press Start. You can transcribe recordings without one.",
    tone: "bad",
  }),
  device_busy: () => ({
    title: "Microphone not available",
    detail: "Another program may be using it. Close that program or choose another microphone, then press Start.",
    tone: "bad",
  }),
  connecting: (state) => ({
    title: "Connecting",
    detail: state.source === "file" ? "Getting ready for the recording." : "You can start speaking: nothing is lost.",
    tone: "busy",
  }),
  live: (state) => (state.source === "file" ? replaying() : state.paused ? paused() : listening(state)),
  finishing: (state) => ({ title: "Finishing", detail: finishing(state), tone: "busy" }),
  done: (state) => ({
    title: loss(state) ? "Done, with gaps" : "Done",
    detail: summary(state),
    tone: loss(state) ? "bad" : "good",
  }),
  full: (state) => ({
    title: "Server full",
    detail: `The server is at capacity. Trying again ${state.retryIn ? `in ${state.retryIn} s` : "now"}.`,
    tone: "busy",
    cause: state.error?.message,
  }),
  lost: (state) =>
    state.session
      ? {
          title: "Connection lost",
          detail: "What you have read stays here to copy or save. Check the network, then press Start: that begins a new transcript.",
          tone: "bad",
        }
      : {
          title: "Can't reach the server",
          detail: "Nothing is answering at this address. Check that live-asr is running, then press Start.",
          tone: "bad",
        },
  failed: (state) => ({
    title: state.error?.code === "shutting_down" ? "Server restarting" : "That didn't work",
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
  recognition: "Transcribing again, with the whole recording to go by",
};

/** What a reader is told of the server's errors, by code. @type {Record<string, string>} */
const FAILURES = {
  not_audio: "This file has no sound that can be read. Choose an audio or video file in a common format.",
  shutting_down: "The server is restarting. Press Start in a moment.",
  unauthorized: "This server requires a token. Open the address you were given: it ends in #token=…",
  origin_not_allowed: "This server doesn't accept connections from this address. Open the page at the server's own address.",
  language_unsupported: "The server's model doesn't know this language. Choose another, or “Detect language”.",
  task_unsupported: "The server's model can't translate. In Settings, choose captions in the language spoken.",
  storage_full: "The server's disk is full, so it can't accept any more sound. Please let its operator know.",
  slow_client: "Your network was too slow for the captions. Check it, then press Start.",
  overrun: "Your network was too slow to send the sound. Check it, then press Start.",
  start_timeout: "The connection took too long. Press Start to try again.",
  session_erased: "This session was erased on the server. What you have read stays here to copy or save.",
  resumed_elsewhere: "This session is now running in another window.",
  internal: "Something went wrong on the server. Press Start to try again.",
};
const FAILURE = "The server ended the captions. Press Start to try again.";

/** Say in what state the page is. @param {State} state @returns {Words} */
export function wordsFor(state) {
  return state.isReconnecting ? reconnecting(state) : WORDS[state.phase](state);
}

/** Say what the microphone hears; empty while none is open. @param {State} state @returns {string} */
export function hearing(state) {
  if (state.paused) return "Not listening";
  if (state.source !== "microphone" || (state.phase !== "live" && state.phase !== "connecting")) return "";
  if (state.isMicrophoneLost || state.isAsleep) return "No sound";
  if (state.quiet >= QUIET_AFTER) return "No sound";
  if (state.speaking) return "Hearing speech";
  return state.captured > 0 && state.quiet < 1 ? "Hearing sound" : "Listening";
}

/** Say how long ago the newest confirmed word was spoken; empty where that means nothing. @param {State} state @returns {string} */
export function behind(state) {
  if (!state.lag || state.phase !== "live" || state.source === "file" || state.isReconnecting || state.paused) return "";
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
  return `${Math.floor(fraction * 100)}%`;
}

/** @param {State} state @returns {Words} */
function reconnecting(state) {
  const { phase, source, dropped, paused } = state;
  const isHeard = phase === "live" && source === "microphone" && !paused;
  const what = isHeard ? "Keep speaking: the sound is kept here until the server is back." : "It will pick up where it left off.";
  const loss = "This page can keep an hour of sound, and that much is waiting.";
  const detail =
    deaf(state) || (dropped > 0 ? `${loss} ${amount(dropped)} since then had to be left out.` : `Nothing is lost. ${what}`);
  return { title: "Reconnecting", detail, tone: "busy" };
}

/** Why nothing can be heard; empty where that is not so. @param {State} state */
function deaf({ isMicrophoneLost, isAsleep }) {
  if (isMicrophoneLost) return "The microphone is gone: plug it in again or choose another.";
  return isAsleep ? "The browser has put the sound to sleep: click anywhere to go on." : "";
}

/** @returns {Words} */
function paused() {
  return { title: "Paused", detail: "Nothing you say is sent. Press Resume to go on.", tone: "calm" };
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
    return `The server hasn't answered for ${Math.floor(state.unanswered)} s. The sound is kept and will be sent.`;
  if (state.quiet >= QUIET_AFTER)
    return `No sound for ${Math.floor(state.quiet)} s. Is the microphone muted, or is the wrong one selected?`;
  return loss(state);
}

/** What is missing of the sound; empty where nothing is. @param {State} state */
function loss({ dropped, file }) {
  const missing = Math.ceil(100 * (file?.missing ?? 0));
  if (missing > 0)
    return `The connection was down for too long: the last ${missing}% of the recording had to be left out.`;
  if (dropped > 0)
    return `The connection was down for too long, or too slow: ${amount(dropped)} of sound had to be left out.`;
  return "";
}

/** @param {State} state */
function finishing(state) {
  return [loss(state), state.complete ? pass(state) : "Finishing the last words."].filter(Boolean).join(" ");
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
  if (words === 0) return loss(state) || "No words were recognised. Was there speech, and is the right language selected?";
  const speakers = state.cast.speakers.length;
  const counted = words === 1 ? "1 word" : `${words.toLocaleString("en")} words`;
  const by = speakers > 1 ? ` by ${speakers} speakers` : "";
  const sum = `${counted}${by} in ${clock(elapsed(state))}.`;
  return [sum, loss(state), unheard(state), shortfall(state), "Copy or save them, or start again."].filter(Boolean).join(" ");
}

/** For how long nothing could be heard. @param {State} state */
function unheard({ unheard }) {
  return unheard >= UNHEARD ? `The microphone was off for ${amount(unheard)} of it.` : "";
}

/** What the full pass did not give. @param {State} state */
function shortfall({ isSettled, labels }) {
  if (!isSettled) return "The connection ended before the full pass finished: this is what was heard live.";
  return labels === "live" ? "The full pass failed: the speakers are as heard live." : "";
}

/** What a hall reads beside the captions, by phase: not what the presenter is told. @type {Partial<Record<import("./state.js").Phase, string>>} */
const HALL = {
  asking: "The captions will start in a moment.",
  connecting: "The captions will start in a moment.",
  full: "The captions will start in a moment.",
  lost: "The captions have stopped.",
  failed: "The captions have stopped.",
};

/** Say to a hall how the captions stand; empty where it has only to read. @param {State} state @returns {string} */
export function hallWords(state) {
  if (state.paused) return TALK.paused;
  if (state.isReconnecting) return "The captions will be back in a moment.";
  return HALL[state.phase] ?? "";
}

/** Interrupting a talk, and ending it. */
export const TALK = {
  paused: "Paused",
  pause: "Pause",
  resume: "Resume",
  askTitle: "Stop the captions?",
  ask: "The transcript ends here for you and your audience. To carry on after a break, pause instead.",
  askPaused: "The transcript ends here for you and your audience.",
  keepGoing: "Keep going",
  stop: "Stop",
};

/** What cannot be changed while somebody is live. */
export const LOCKED = "You can change this once the captions have stopped.";

/** Single-key shortcuts. */
export const SHORTCUTS = {
  title: "Keyboard shortcuts",
  open: "Keyboard shortcuts…",
  enabled: "Use single-key shortcuts",
  about:
    "On the stage, press and hold a key. Everywhere, press and hold keys that presentation remotes send, such as Space. " +
    "A short press does nothing, so a remote cannot interrupt your talk. Esc leaves the stage.",
  change: (/** @type {string} */ action, /** @type {string} */ key) => `${action}: ${key}. Change the key`,
  press: "Press a key…",
  none: "None",
  clear: "Turn off",
  clearOf: (/** @type {string} */ action) => `Turn off the shortcut for: ${action}`,
  defaults: "Restore defaults",
  close: "Close",
  taken: (/** @type {string} */ key, /** @type {string} */ action) => `${key} is taken: ${action}. Press another key, or Esc.`,
  unusable: "That key can't be used. Press a letter, a number or a symbol, or Esc.",
  set: (/** @type {string} */ action, /** @type {string} */ key) => `${action}: ${key}`,
  off: (/** @type {string} */ action) => `${action}: no shortcut`,
  hint: (/** @type {string} */ title, /** @type {string} */ key, /** @type {boolean} */ mustHold) =>
    key ? `${title} (${mustHold ? "hold " : ""}${key})` : title,
  space: "Space",
  actions: {
    talk: "Start or stop",
    pause: "Pause or resume",
    stage: "Stage view",
    larger: "Larger text on the stage",
    smaller: "Smaller text on the stage",
    live: "Jump to live",
    copy: "Copy the text",
    help: "Show the shortcuts",
  },
};

/** Words to expect: what is typed, and lists of them. */
export const EXPECTED = {
  count: (/** @type {number} */ count, /** @type {number} */ most) => `${count} of ${most} words and names`,
  tooMany: (/** @type {number} */ count, /** @type {number} */ most) =>
    `${count} entries: the first ${most} are used. Remove ${count - most}.`,
  tooLong: (/** @type {string} */ entry, /** @type {number} */ length, /** @type {number} */ most) =>
    `“${entry}” has ${length} characters, more than ${most}, and is left out. Shorten it.`,
  tooLongs: (/** @type {number} */ count, /** @type {number} */ most) =>
    `${count} entries have more than ${most} characters and are left out. Shorten them.`,
  lists: "Saved lists",
  choose: "Choose a saved list",
  none: "No saved lists yet",
  name: "Name of the list",
  save: "Save list",
  remove: "Delete list",
  load: "Load from a file",
  nameMissing: "Give the list a name first.",
  empty: "There are no words to save yet.",
  saved: (/** @type {string} */ name, /** @type {number} */ count) => `Saved “${name}” (${count}).`,
  removed: (/** @type {string} */ name) => `Deleted “${name}”.`,
  loaded: (/** @type {string} */ file, /** @type {number} */ count) =>
    count === 1 ? `1 new entry from “${file}”.` : `${count} new entries from “${file}”.`,
  notText: (/** @type {string} */ file) => `“${file}” is not a text file. Choose a .txt file with one entry per line, or a .csv file.`,
  tooLarge: (/** @type {string} */ file) => `“${file}” is too large for a word list.`,
  notKept: "This browser doesn't let the page store anything: the list lasts until you leave the page.",
};

/** How many people speak. */
export const SPEAKERS = {
  title: "Number of speakers, if known",
  least: "At least",
  most: "At most",
  contradiction: "“At least” is more than “At most”: both are ignored.",
  outOfRange: (/** @type {number} */ most) => `Enter a whole number from 1 to ${most}, or leave it empty.`,
};

/** Several recordings dropped at once. @param {string} taken @param {string[]} ignored names of files */
export function onlyOneTaken(taken, ignored) {
  const others = ignored.length === 1 ? `“${ignored[0]}” is ignored` : `${ignored.length} others are ignored`;
  return `One recording at a time: “${taken}” is being transcribed, ${others}.`;
}

/** What is said about files that are saved. */
export const SAVING = {
  savedHere: "The server isn't answering: this page's own copy was saved.",
  notSaved: "The server does not answer, and only the server can make a document. Save it as text, or try again.",
  savedLive: "Saved the live captions: the final text is still being made.",
};

/** What the page of past sessions says. */
export const PAST = {
  untitled: "Untitled",
  searching: "Searching …",
  none: "Nothing has been recorded yet.",
  notFound: "No session has all of these words in its title, its names or its text.",
  unreachable: "The server does not answer. Try again in a moment.",
  unauthorized: "This server asks for a token. Open the address that the operator gave you: it ends in #token=…",
  gone: "There is no such session. It may have been erased.",
  readOnly: "These captions were made in another browser or program: here they can be read and saved, not changed.",
  goesOn: "This session is not over yet: it can be corrected once its final text is there.",
  failed: "This session ended early: this is what was heard.",
  empty: "Nothing was said in this session.",
  changedElsewhere: "Somebody else has changed this transcript. It has been loaded again: make your change once more.",
  notKept: "The server could not keep this. Try again.",
  saved: "Saved.",
  takenBack: "The corrections have been taken back.",
  /** @type {Record<string, string>} */
  revisions: { 0: "Live captions", 1: "Final text", 2: "Corrected text" },
  /** @type {Record<string, string>} */
  states: { open: "live", streaming: "live", draining: "finishing", finalizing: "finishing", failed: "ended early" },
  /** @param {number} count */
  speakers: (count) => (count === 1 ? "1 speaker" : `${count} speakers`),
  /** @param {string} time */
  playFrom: (time) => `Play from ${time}`,
  /** @param {string} time */
  correctLine: (time) => `Correct the line at ${time}`,
  /** @param {string} name */
  whoSays: (name) => `${name}: change who says this`,
  nobody: "Unknown speaker",
  anotherSpeaker: "Another speaker",
  leaveAll: "Leave them as they are",
  /** @param {string} name */
  nameOf: (name) => `Name of ${name}`,
  /** @param {string} name */
  allOf: (name) => `All lines of ${name} are said by`,
  /** @param {string} title */
  erase: (title) => `Erase “${title}”?`,
  eraseAbout: "Its text and its audio are erased from the server and cannot be brought back.",
  eraseYes: "Erase",
  takeBack: "Take all corrections back?",
  takeBackAbout: "The final text is shown again as it was. What was corrected by hand is lost.",
  takeBackYes: "Take them back",
};

/** The audience's page. */
export const AUDIENCE = {
  untitled: "Live captions",
  reading: "Text",
  readingHint: "Text size and colours",
  size: "Text size",
  smaller: "Smaller",
  larger: "Larger",
  theme: "Colours",
  auto: "Same as this device",
  light: "Light",
  dark: "Dark",
  save: "Save",
  saveHint: "Save the transcript",
  txt: "Text",
  vtt: "WebVTT captions",
  srt: "SubRip subtitles",
  file: "captions",
};

/** The editor of how overlay and stage look. */
export const LOOK = {
  title: "Overlay and stage",
  about: "Choose how captions look over a video or on a screen of their own. The link below carries your choices.",
  preview: "Preview",
  link: "Link",
  linkAbout: "Open it as a browser source in OBS or on the hall's screen, or paste one here to change it.",
  placeholder: "Paste the link to an overlay or a stage",
  noLink: "This is not a link. It starts with http:// or https://.",
  copy: "Copy the link",
  copied: "Copied",
  notCopied: "Not copied",
  open: "Open",
  reset: "Reset to defaults",
  ownFont: "Same as the page",
  /** @type {Record<string, string>} */
  fields: {
    kind: "Made for",
    clear: "Clear after silence, seconds (0: never)",
    size: "Text size, %",
    lines: "Lines (0: as many as fit)",
    font: "Font",
    color: "Text colour",
    background: "Background colour",
    opacity: "Background opacity, %",
    position: "Position",
    align: "Alignment",
    width: "Width at most, %",
    upper: "All capitals",
    names: "Speaker names",
  },
  /** @type {Record<string, string>} */
  values: {
    overlay: "Overlay over a video",
    stage: "Stage, a screen of its own",
    top: "Top",
    middle: "Middle",
    bottom: "Bottom",
    start: "Where lines begin",
    center: "Centre",
    end: "Where lines end",
  },
  sample: [
    "Good evening, and welcome to all of you.",
    "Thank you! It is a pleasure to be here again, and to see the hall so full.",
    "Before we begin, a word about the captions that you are reading now.",
  ],
  /** @param {{name: string, value: string, isKnown: boolean}} problem @param {"overlay" | "stage"} kind */
  problem: ({ name, value, isKnown }, kind) =>
    isKnown
      ? `“${name}=${value}” is not valid, so the default is used. ${LOOK.allowed(name, kind)}`
      : `“${name}” is not a setting, so it has no effect.`,
  /** What a parameter may be. @param {string} name @param {"overlay" | "stage"} kind */
  allowed: (name, kind) => {
    if (Object.hasOwn(RANGES, name)) return `Use a number from ${RANGES[name].join(" to ")}.`;
    if (Object.hasOwn(VALUES, name)) return `Use ${VALUES[name].join(", ")}.`;
    if (typeof DEFAULTS[kind][/** @type {"upper"} */ (name)] === "boolean") return "Use 1 or 0.";
    return name === "font" ? "Use the name of a font." : "Use six hexadecimal digits, such as ffcc00.";
  },
};

/** The panel to share a session. */
export const SHARE = {
  title: "Title for the audience",
  titleHint: "What the audience reads above the captions",
  titleNotKept: "The server could not keep the title. Try again in a moment.",
  customise: "Overlay and stage settings",
  customiseHint: "Size, colours, font, position and when lines are cleared",
};
