/**
 * What the server keeps of sessions, asked for and changed over HTTP. Addresses are relative: the page may lie behind a path.
 *
 * @typedef {object} Entry  a session in the list
 * @property {string} session
 * @property {string} state
 * @property {string} created  ISO 8601
 * @property {number | null} duration  seconds
 * @property {string | null} language
 * @property {string | null} title
 * @property {number} revision
 * @property {string | null} [excerpt]
 *
 * @typedef {Entry & {speakers: import("../state/speakers.js").FinalSpeaker[], names: Record<string, string>, may_change: boolean,
 *   audio: string | null}} Info
 *
 * @typedef {object} Text
 * @property {number} revision
 * @property {Record<string, string>} names
 * @property {import("./messages.js").FinalSegment[]} segments
 * @property {string} tag  of this state of it, for who wants to change it
 *
 * @typedef {{segment: number, text: string} | {segment: number, speaker: string} | {speaker: string, into: string}} Edit
 */

import { authorization } from "./access.js";
import { at } from "./addresses.js";
import { forgetKey, permission } from "./keys.js";

/** How long the server may take. */
const ANSWER_MS = 20_000;
const PAGE = 30;

/** Why the server did not do what was asked: its HTTP status, 0 where it did not answer; and its own sentence. */
export class Refused extends Error {
  /** @param {number} status @param {string} detail */
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/**
 * The newest sessions in which all words of `query` are found, from behind `before` on.
 *
 * @param {string} query
 * @param {string | null} before
 * @returns {Promise<{sessions: Entry[], next: string | null}>}
 */
export async function list(query, before) {
  const wanted = new URLSearchParams({ limit: String(PAGE), q: query, ...(before && { before }) });
  return (await ask("", `v1/sessions?${wanted}`)).json();
}

/** @param {string} session @returns {Promise<Info>} */
export async function info(session) {
  return (await ask(session, addressOf(session))).json();
}

/** @param {string} session @param {number | null} revision null for the best one @returns {Promise<Text>} */
export async function text(session, revision) {
  const response = await ask(session, addressOf(session, `/transcript.json${asked(revision)}`));
  return { ...(await response.json()), tag: response.headers.get("etag") ?? "" };
}

/** A transcript as a file. @param {string} session @param {string} format @param {number | null} revision */
export async function file(session, format, revision) {
  return (await ask(session, addressOf(session, `/transcript.${format}${asked(revision)}`))).blob();
}

/** @param {string} session @param {string} title */
export async function entitle(session, title) {
  await ask(session, addressOf(session), "PATCH", { title });
}

/** @param {string} session @param {Record<string, string>} names all of them */
export async function name(session, names) {
  await ask(session, addressOf(session, "/names"), "PUT", names);
}

/** Change the text that has this tag. @param {string} session @param {string} tag @param {Edit[]} edits */
export async function correct(session, tag, edits) {
  await ask(session, addressOf(session, "/corrections"), "POST", { edits }, { "if-match": tag });
}

/** @param {string} session @param {string} tag */
export async function takeBack(session, tag) {
  await ask(session, addressOf(session, "/corrections"), "DELETE", undefined, { "if-match": tag });
}

/** @param {string} session */
export async function erase(session) {
  await ask(session, addressOf(session), "DELETE");
  forgetKey(session);
}

/** Where a player finds the audio of a session. @param {Info} info */
export function audioAddress({ audio }) {
  return audio === null ? "" : audio.replace(/^\/(?=v1\/)/, "");
}

/** @param {number | null} revision */
function asked(revision) {
  return revision === null ? "" : `?revision=${revision}`;
}

/** @param {string} session @param {string} [rest] */
function addressOf(session, rest = "") {
  return `v1/sessions/${encodeURIComponent(session)}${rest}`;
}

/**
 * @param {string} session whose key is presented; empty for none
 * @param {string} address
 * @param {string} method
 * @param {unknown} [body]
 * @param {Record<string, string>} [headers]
 */
async function ask(session, address, method = "GET", body, headers = {}) {
  let response;
  try {
    response = await fetch(at(address), {
      method,
      headers: {
        ...(session ? permission(session) : authorization()),
        ...(body !== undefined && { "content-type": "application/json" }),
        ...headers,
      },
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      signal: AbortSignal.timeout(ANSWER_MS),
    });
  } catch {
    throw new Refused(0, "");
  }
  if (response.ok) return response;
  const { detail = "" } = await response.json().catch(() => ({}));
  throw new Refused(response.status, typeof detail === "string" ? detail : "");
}
