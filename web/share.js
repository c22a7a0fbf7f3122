/** The link under which an audience reads along, and its picture for phones. */

import { authorization } from "./access.js";
import { find } from "./elements.js";

/** How long the server may take. */
const ANSWER_MS = 8_000;
/** Names under which a computer reaches itself, and nobody else does. */
const OWN_MACHINE = /(^|\.)localhost$|^127\.|^\[::1\]$/;

/** Show the link to a session in the panel. @param {string} address of the session */
export async function showShare(address) {
  const code = find("share-code");
  const problem = find("share-problem");
  find("share-here").hidden = !OWN_MACHINE.test(location.hostname);
  code.hidden = true;
  problem.hidden = true;
  find("share-link").value = "";
  try {
    const { watch } = await (await ask(address)).json();
    const link = new URL(watch, location.origin);
    find("share-link").value = find("share-open").href = link.href;
    const overlay = new URL(link);
    overlay.searchParams.set("overlay", "1");
    find("share-overlay").href = overlay.href;
    const svg = await (await ask(`${address}/qr.svg?origin=${encodeURIComponent(location.origin)}`)).text();
    // Read with the token and handed over as it is: a picture's own request could not carry one.
    code.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svg)}`;
    code.hidden = false;
  } catch {
    problem.textContent = "The server isn't answering. Open this panel again in a moment.";
    problem.hidden = false;
  }
}

/** @param {string} address */
async function ask(address) {
  const response = await fetch(address, { headers: authorization(), signal: AbortSignal.timeout(ANSWER_MS) });
  if (!response.ok) throw new Error(String(response.status));
  return response;
}
