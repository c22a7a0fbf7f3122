/** The link under which an audience reads along, and its picture for phones. */

import { authorization } from "../client/access.js";
import { at } from "../client/addresses.js";
import { permission } from "../client/keys.js";
import { SHARE } from "../state/words.js";
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
  find("share-panel").dataset.known = "false"; // without a link there is nothing to copy or to open
  find("share-revoke").hidden = true;
  try {
    const { watch, title } = await (await ask(address)).json();
    find("share-title").value = title ?? "";
    find("share-title").onchange = () => entitle(address);
    const link = new URL(at(watch));
    find("share-link").value = find("share-open").href = link.href;
    find("share-panel").dataset.known = "true";
    offerToRevoke(address, link);
    const overlay = new URL(link);
    overlay.searchParams.set("overlay", "1");
    find("share-overlay").href = overlay.href;
    const editor = new URL(at("/web/look.html"));
    editor.hash = new URLSearchParams({ link: link.href }).toString();
    find("share-look").href = editor.href;
    const svg = await (await ask(`${address}/qr.svg?origin=${encodeURIComponent(location.origin)}`)).text();
    // Read with the token and handed over as it is: a picture's own request could not carry one.
    code.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svg)}`;
    code.hidden = false;
  } catch {
    problem.textContent = SHARE.unreachable;
    problem.hidden = false;
  }
}

/** Have a session called as was typed. @param {string} address */
async function entitle(address) {
  const problem = find("share-problem");
  const session = decodeURIComponent(address.split("/").at(-1) ?? "");
  try {
    const response = await fetch(at(address), {
      method: "PATCH",
      headers: { ...permission(session), "content-type": "application/json" },
      body: JSON.stringify({ title: find("share-title").value.trim() }),
      signal: AbortSignal.timeout(ANSWER_MS),
    });
    problem.hidden = response.ok;
  } catch {
    problem.hidden = false; // out of reach
  }
  problem.textContent = problem.hidden ? "" : SHARE.titleNotKept;
}

/** Show the button that cuts the link off, where it holds something that can be. @param {string} address @param {URL} link */
function offerToRevoke(address, link) {
  const button = find("share-revoke");
  let isSure = false;
  button.textContent = SHARE.revoke;
  button.hidden = !link.hash;
  button.onclick = () => {
    if (isSure) return revoke(address);
    isSure = true;
    button.textContent = SHARE.reallyRevoke;
  };
}

/** Have the links so far count no more, and show the new one. @param {string} address */
async function revoke(address) {
  const session = decodeURIComponent(address.split("/").at(-1) ?? "");
  let isDone = false;
  try {
    const options = { method: "DELETE", headers: permission(session), signal: AbortSignal.timeout(ANSWER_MS) };
    isDone = (await fetch(at(`${address}/links`), options)).ok;
  } catch {
    // Out of reach: it is said below.
  }
  if (isDone) await showShare(address);
  const problem = find("share-problem");
  if (isDone && !problem.hidden) return; // the new one could not be had
  problem.textContent = isDone ? SHARE.revoked : SHARE.notRevoked;
  problem.hidden = false;
}

/** @param {string} address */
async function ask(address) {
  const response = await fetch(at(address), { headers: authorization(), signal: AbortSignal.timeout(ANSWER_MS) });
  if (!response.ok) throw new Error(String(response.status));
  return response;
}
