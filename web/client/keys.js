/**
 * The keys of the sessions that were opened in this browser: what lets them be named, corrected and erased afterwards. The
 * server gives each with `ready`; an audience has none.
 */

import { authorization } from "./access.js";

const KEY = "live-asr.keys";
/** The oldest ones are forgotten: a session without its key can still be read. */
const MOST_KEYS = 500;

/** Remember the key of a session. @param {string} session @param {string} key */
export function keepKey(session, key) {
  const others = remembered().filter(([other]) => other !== session);
  try {
    localStorage.setItem(KEY, JSON.stringify([...others, [session, key]].slice(-MOST_KEYS)));
  } catch {
    // Storage is forbidden or full: this session can be changed by the server's token alone.
  }
}

/** Forget the key of a session that is gone. @param {string} session */
export function forgetKey(session) {
  try {
    localStorage.setItem(KEY, JSON.stringify(remembered().filter(([other]) => other !== session)));
  } catch {
    // A key that opens nothing does no harm.
  }
}

/** The header that lets a session be changed; none without its key and the server's token. @param {string} session @returns {Record<string, string>} */
export function permission(session) {
  const key = remembered().find(([other]) => other === session)?.[1];
  return { ...(key && { authorization: `Bearer ${key}` }), ...authorization() };
}

/** @returns {[session: string, key: string][]} */
function remembered() {
  try {
    const keys = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(keys) ? keys.filter(Array.isArray) : [];
  } catch {
    return []; // storage may be forbidden, or hold what another page wrote
  }
}
