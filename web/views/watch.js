/** The audience's page, and the overlay and the stage by themselves: what a session says, read-only. */

import { here } from "../client/addresses.js";
import { Wake } from "../client/wake.js";
import { Watching } from "../client/watching.js";
import { kindOf, readLook, wear } from "../state/look.js";
import { initialState, reduce, shownRevision, shownUtterances } from "../state/state.js";
import { AUDIENCE, EMPTY, FORMATS, PILL } from "../state/words.js";
import { Announcer } from "./announcer.js";
import { showReading, wireReading } from "./audience.js";
import { Captions } from "./captions.js";
import { find, make, setText } from "./elements.js";
import { Follow } from "./follow.js";
import { label } from "./labels.js";
import { LastLines } from "./last-lines.js";

/** @typedef {import("../client/watching.js").Line} Line */

/** How each state looks. @type {Record<Line | "paused" | "broken" | "erased", string>} */
const TONES = {
  connecting: "busy",
  open: "live",
  paused: "calm",
  reconnecting: "busy",
  over: "good",
  broken: "bad",
  erased: "bad",
  unknown: "bad",
  unauthorized: "bad",
};

const session = decodeURIComponent(here().split("/")[2] ?? "");
/** Null for the audience's page. */
const kind = kindOf({ pathname: here(), search: location.search });
const token = new URLSearchParams(location.hash.slice(1)).get("token") ?? "";

label({ ...FORMATS, ...AUDIENCE });
const captions = new Captions(find("transcript"));
const lastLines = kind && showLastLines(kind);
const follow = new Follow(find("captions"), (following) => (find("jump").hidden = following || kind !== null));
const announcer = new Announcer(find("announcer"));
const wake = new Wake();

/** @type {Line} */
let line = "connecting";
/** Before anything is said. */
const BLANK = reduce({ ...initialState(), phase: "connecting" }, { type: "ready", session });
let state = BLANK;
let shown = state;
/** The record so far is there: what comes from here on is new. */
let hasCome = false;
let isRenderDue = false;

/** @param {{type: string, [field: string]: any}} message */
function received(message) {
  state = reduce(state, message);
  // What is erased is erased everywhere.
  if (state.error?.code === "session_erased") state = { ...BLANK, phase: state.phase, error: state.error };
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
  if (lastLines) lastLines.render(state);
  else showAll();
  find("hero").hidden = shownUtterances(state).length > 0 || state.tail.length > 0;
  setText(find("hero-detail"), EMPTY[outcome()]);
  renderLine();
}

function showAll() {
  const showWords = () => follow.keepPlace(() => captions.render(state));
  if (shownRevision(shown) !== shownRevision(state)) follow.keepMoment(captions, showWords);
  else showWords();
  shown = state;
  showReading(state);
  announce();
}

/** Nothing but the last lines, as this page's link wants them. @param {import("../state/look.js").Kind} kind */
function showLastLines(kind) {
  const { look } = readLook(new URLSearchParams(location.search), kind);
  const isStage = kind === "stage";
  find("stage").hidden = !isStage;
  for (const covered of isStage ? [find("header"), find("main")] : []) covered.hidden = true;
  if (!isStage) document.documentElement.classList.add("overlay");
  const heading = make("h1", "sr-only"); // the one with the title is not shown here
  heading.textContent = AUDIENCE.untitled;
  find(isStage ? "stage" : "main").prepend(heading);
  wear(isStage ? find("stage") : document.documentElement, look);
  return new LastLines(find(isStage ? "stage-lines" : "transcript"), look);
}

/** How it stands, or how it ended. */
function outcome() {
  if (line === "open" && state.paused) return "paused";
  if (line !== "over" || !state.error) return line;
  return state.error.code === "session_erased" ? "erased" : "broken";
}

function renderLine() {
  const isFinishing = line === "open" && state.complete;
  const [title, tone] = isFinishing ? [PILL.finishing, "busy"] : [PILL[outcome()], TONES[outcome()]];
  document.body.dataset.line = line;
  document.body.dataset.tone = tone;
  setText(find("phase"), title);
  setText(find("status"), title);
  const isFine = tone === "live" || tone === "good" || line === "connecting" || state.complete;
  setText(find("stage-state"), isFine ? "" : title);
  wake.keep(line === "open");
}

/** Hand complete utterances to screen readers, but not what was said before one came. */
function announce() {
  if (hasCome) announcer.announce(state.utterances, state.cast);
  else announcer.skip(state.utterances);
  hasCome ||= line !== "connecting";
}

if (!kind) {
  const reflow = (/** @type {() => void} */ change) => {
    follow.keepMoment(captions, change);
    follow.contentGrew();
  };
  wireReading(reflow, () => state, token ? { authorization: `Bearer ${token}` } : {});
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
