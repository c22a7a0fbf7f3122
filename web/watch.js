/** The audience's page, and the overlay: what a session says, read-only. */

import { Captions } from "./captions.js";
import { Follow } from "./follow.js";
import { initialState, isTailLost, reduce, shownUtterances } from "./state.js";
import { shownName } from "./speakers.js";
import { textOf } from "./turns.js";
import { Watching } from "./watching.js";

/** @typedef {import("./watching.js").Line} Line */

/** Utterances that the overlay holds: more than fit into its lines. */
const OVERLAY_UTTERANCES = 3;
/** How many utterances stay in the region that screen readers read from. */
const ANNOUNCED_KEPT = 5;

/** What the pill says. @type {Record<Line, [title: string, tone: string]>} */
const PILL = {
  connecting: ["Connecting", "busy"],
  open: ["Live", "live"],
  reconnecting: ["Reconnecting, nothing is lost", "busy"],
  over: ["Over", "good"],
  unknown: ["Not found", "bad"],
  unauthorized: ["Not allowed", "bad"],
};

/** What stands where there is nothing to read yet. @type {Record<Line, string>} */
const EMPTY = {
  connecting: "Connecting …",
  open: "The captions appear here as soon as somebody speaks.",
  reconnecting: "The connection is lost. Trying again by itself.",
  over: "Nothing was said in this session.",
  unknown: "There is no such session. It may have been erased: ask for a new link.",
  unauthorized: "This link is not complete: ask for a new one.",
};

const find = (/** @type {string} */ id) => /** @type {any} */ (document.getElementById(id));
const session = decodeURIComponent(location.pathname.split("/")[2] ?? "");
const isOverlay = new URLSearchParams(location.search).has("overlay") || location.pathname.startsWith("/overlay/");
const token = new URLSearchParams(location.hash.slice(1)).get("token") ?? "";

document.documentElement.classList.toggle("overlay", isOverlay);
const captions = new Captions(find("transcript"), isOverlay ? { last: OVERLAY_UTTERANCES } : {});
const follow = new Follow(find("captions"), (following) => (find("jump").hidden = following || isOverlay));

/** @type {Line} */
let line = "connecting";
let state = reduce({ ...initialState(), phase: "connecting" }, { type: "ready", session });
/** The first utterance that was not read out yet; null until the record so far is there. @type {number | null} */
let unread = null;
let isRenderDue = false;

/** @param {{type: string, [field: string]: any}} message */
function received(message) {
  state = reduce(state, message);
  renderSoon();
}

function renderSoon() {
  if (isRenderDue) return;
  isRenderDue = true;
  // A page in the background gets no frames, but its screen reader goes on.
  setTimeout(() => {
    isRenderDue = false;
    render();
  }, 30);
}

function render() {
  // In what is over only the live captions keep their place: who reads along is not thrown to another text.
  const utterances = shownUtterances(state);
  const { tail, cast } = state;
  const revision = state.final?.revision ?? 0;
  follow.keepPlace(() => captions.render({ revision, utterances, tail, isTailLost: isTailLost(state), cast }));
  const isEmpty = utterances.length === 0 && tail.length === 0;
  find("hero").hidden = !isEmpty;
  find("hero-detail").textContent = EMPTY[line];
  renderLine();
  announce();
}

function renderLine() {
  const [title, tone] = line === "open" && state.complete ? ["Finishing", "busy"] : PILL[line];
  document.body.dataset.line = line;
  document.body.dataset.tone = tone;
  if (find("phase").textContent !== title) {
    find("phase").textContent = title;
    find("status").textContent = title;
  }
}

/** Hand complete utterances to screen readers, but not what was said before one came. */
function announce() {
  if (isOverlay) return;
  const { utterances, cast } = state;
  const complete = utterances.filter((utterance) => utterance.complete);
  if (unread === null) {
    if (line === "connecting") return;
    unread = (utterances.at(-1)?.utterance ?? -1) + 1;
    return;
  }
  for (const { utterance, words } of complete) {
    if (utterance < unread) continue;
    unread = utterance + 1;
    const speaker = words.find((word) => word.speaker)?.speaker;
    const said = document.createElement("p");
    said.textContent = (speaker ? `${shownName(speaker, cast)}: ` : "") + textOf(words).trim();
    find("announcer").append(said);
  }
  while (find("announcer").childElementCount > ANNOUNCED_KEPT) find("announcer").firstElementChild.remove();
}

find("jump").addEventListener("click", () => follow.resume());
new Watching(session, token, {
  received,
  changed(changed) {
    line = changed;
    renderSoon();
  },
});
render();
