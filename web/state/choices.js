/**
 * What the reader chose, remembered in this browser.
 *
 * @typedef {object} Choices
 * @property {string} deviceId  microphone; empty for the system's default
 * @property {string} language  Whisper's code; empty to detect it
 * @property {"transcribe" | "translate"} task
 * @property {string} vocabulary  words to expect, separated by commas or lines
 * @property {boolean} noiseSuppression
 * @property {boolean} echoCancellation
 * @property {boolean} diarize  tell speakers apart
 * @property {boolean} announce  read captions out to screen readers
 * @property {number} stageSize  size of the letters in the stage view; 1 is normal
 * @property {string} minSpeakers  how many people speak at least; empty where that is not known
 * @property {string} maxSpeakers  the same at most
 * @property {Partial<import("../views/shortcuts.js").Chosen>} shortcuts
 */

const KEY = "live-asr.choices";
/** As `min_speakers` and `max_speakers` of the protocol. */
export const MOST_SPEAKERS = 32;

/** @type {Choices} */
const DEFAULTS = {
  deviceId: "",
  language: "",
  task: "transcribe",
  vocabulary: "",
  noiseSuppression: false,
  echoCancellation: false,
  diarize: true,
  announce: true,
  stageSize: 1,
  minSpeakers: "",
  maxSpeakers: "",
  shortcuts: {},
};

/** The choices of the last visit, with defaults for what was never chosen. @returns {Choices} */
export function rememberedChoices() {
  try {
    return { ...DEFAULTS, ...JSON.parse(localStorage.getItem(KEY) ?? "{}") };
  } catch {
    return { ...DEFAULTS }; // storage may be forbidden, or hold what an older page wrote
  }
}

/** @param {Choices} choices */
export function rememberChoices(choices) {
  try {
    localStorage.setItem(KEY, JSON.stringify(choices));
  } catch {
    // A browser that forbids storage forgets the choices with the page; nothing else is lost.
  }
}

/**
 * The fields of `start` that say how many people speak; none where nothing usable is said.
 *
 * @param {string} least
 * @param {string} most
 * @returns {{min_speakers?: number, max_speakers?: number}}
 */
export function speakerBounds(least, most) {
  const [low, high] = [speakersIn(least), speakersIn(most)];
  if (low !== null && high !== null && low > high) return {};
  return { ...(low !== null && { min_speakers: low }), ...(high !== null && { max_speakers: high }) };
}

/** How many speakers are meant; null where no such number is typed. @param {string} text @returns {number | null} */
export function speakersIn(text) {
  const number = Number(text);
  return text !== "" && Number.isInteger(number) && number >= 1 && number <= MOST_SPEAKERS ? number : null;
}
