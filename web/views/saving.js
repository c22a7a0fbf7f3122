/** Saves a transcript as a file: the server's version while it answers, else one from the words that the page holds. */

import { authorization } from "../client/access.js";
import { at } from "../client/addresses.js";
import { EXPORTS } from "../state/export.js";

/** @typedef {import("../state/state.js").Transcript} Transcript */

/** How long the server may take before the page helps itself. */
const ANSWER_MS = 8_000;

const KEY = "live-asr.transcript";

/**
 * Save `transcript` as a file of this format; resolves to whether it is the server's version. Where the server does not
 * answer, it is one that the page makes, if it can make that format.
 *
 * @param {Transcript} transcript
 * @param {string} format
 * @param {boolean} isOwn the server does not have all of it
 * @param {Record<string, string>} headers that let the page fetch it
 * @returns {Promise<boolean>}
 */
export async function save(transcript, format, isOwn, headers = authorization()) {
  const fetched = isOwn && canBeMade(format) ? null : await fetchFile(transcript.links[format], headers);
  if (!fetched && !canBeMade(format)) return false;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(fetched ?? new Blob([EXPORTS[format](transcript)], { type: "text/plain" }));
  link.download = `${transcript.name}.${format}`;
  link.click();
  URL.revokeObjectURL(link.href);
  return fetched !== null;
}

/** Whether the page itself can make a file of this format. @param {string} format */
export function canBeMade(format) {
  return Object.hasOwn(EXPORTS, format);
}

/** The transcript that this tab held before it was reloaded; null without one. @returns {Transcript | null} */
export function keptTranscript() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY) ?? "null");
  } catch {
    return null; // storage may be forbidden, or hold what an older page wrote
  }
}

/** Keep `transcript` for this tab, until it is closed. @param {Transcript} transcript */
export function keepTranscript(transcript) {
  try {
    sessionStorage.setItem(KEY, JSON.stringify(transcript));
  } catch {
    // Storage is forbidden or full: the server still has the transcript.
  }
}

/** @param {string | undefined} address @param {Record<string, string>} headers @returns {Promise<Blob | null>} */
async function fetchFile(address, headers) {
  if (!address) return null;
  try {
    const response = await fetch(at(address), { headers, signal: AbortSignal.timeout(ANSWER_MS) });
    return response.ok ? await response.blob() : null;
  } catch {
    return null;
  }
}
