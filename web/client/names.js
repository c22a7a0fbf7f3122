/** The names that were typed in, kept by the server with the session. */

import { at } from "./addresses.js";
import { permission } from "./keys.js";

/** How long the server may take. */
const ANSWER_MS = 8_000;

export class Names {
  /** What the server has: by the address of a session, whether it took the latest names. @type {Map<string, Promise<boolean>>} */
  #kept = new Map();

  /**
   * Have the server keep these names, all of them; resolves to whether it does. One call after the other reaches it, so
   * that the latest names stay.
   *
   * @param {string} address of the session
   * @param {Record<string, string>} names
   */
  keep(address, names) {
    const kept = this.areKept(address).then(() => put(`${address}/names`, names));
    this.#kept.set(address, kept);
    return kept;
  }

  /** Whether the server has all names that were typed, once that is known. @param {string} address @returns {Promise<boolean>} */
  areKept(address) {
    return this.#kept.get(address) ?? Promise.resolve(true);
  }
}

/** @param {string} address of a session's names */
function sessionOf(address) {
  return decodeURIComponent(address.split("/").at(-2) ?? "");
}

/** @param {string} address @param {Record<string, string>} names @returns {Promise<boolean>} */
async function put(address, names) {
  try {
    const response = await fetch(at(address), {
      method: "PUT",
      headers: { ...permission(sessionOf(address)), "content-type": "application/json" },
      body: JSON.stringify(names),
      signal: AbortSignal.timeout(ANSWER_MS),
    });
    return response.ok;
  } catch {
    return false; // out of reach: the names stay on the page
  }
}
