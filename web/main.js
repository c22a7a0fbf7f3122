/** The page's wiring: what happens becomes a message, the state that follows is shown, and its consequences are drawn. */

import { takeToken } from "./access.js";
import { rememberChoices, rememberedChoices } from "./choices.js";
import { copy } from "./clipboard.js";
import { find } from "./elements.js";
import { Keeper, discard, keptTalks } from "./keeping.js";
import { listMicrophones } from "./microphone.js";
import { Meter } from "./meter.js";
import { Names } from "./names.js";
import { Offers } from "./offers.js";
import { namesByPart } from "./parts.js";
import { keepTranscript, keptTranscript, save } from "./saving.js";
import { Session } from "./session.js";
import { showShare } from "./share.js";
import { Stage } from "./stage.js";
import { canGiveUp, initialState, isActive, plainText, reduce, transcriptOf, wordCount, wouldLoseWords } from "./state.js";
import { View, showLanguages, showMicrophones, transcriptOfLink } from "./view.js";
import { Wake } from "./wake.js";
import { NOTICES } from "./words.js";

/** How long a notice stays, and how long the copy button says that it has copied. */
const NOTICE_MS = 15_000;
const COPIED_MS = 1_600;

const choices = rememberedChoices();
let state = initialState();
/** @type {Session | null} */
let session = null;
/** The recording of the last attempt; null when it was the microphone. @type {File | null} */
let recording = null;
let isRenderDue = false;

const meter = new Meter(find("meter"));
const names = new Names();
const view = new View({
  dismissed: (code) => dispatch({ type: "page.notice_dismissed", code }),
  named: nameSpeaker,
});
const wake = new Wake();
const offers = new Offers(find("offers"), {
  goOn: (id) => takeUp(id, false),
  end: (id) => takeUp(id, true),
  erased: (id) => discard(id).then(showOffers),
});
const stage = new Stage(find("stage"), [find("header"), find("main"), find("dock")], choices.stageSize, (stageSize) =>
  choose({ stageSize }),
);

/** @param {{type: string, [field: string]: any}} message */
function dispatch(message) {
  const before = state;
  state = reduce(state, message);
  if (state === before) return;
  if (state.phase !== before.phase) phaseChanged();
  for (const { code } of state.notices.filter((notice) => !before.notices.includes(notice))) {
    setTimeout(() => dispatch({ type: "page.notice_dismissed", code }), NOTICE_MS);
  }
  if (isRenderDue) return;
  isRenderDue = true;
  requestAnimationFrame(() => {
    isRenderDue = false;
    view.render(state, choices);
  });
}

function phaseChanged() {
  wake.keep(isActive(state));
  if (state.phase === "connecting") refreshMicrophones();
  if (!isActive(state)) {
    if (state.phase === "finishing") session?.release();
    else session?.abandon().then(showOffers);
    meter.clear();
  }
  offers.hide(isActive(state) || state.phase === "finishing");
}

/** Offer to go on with what another page began, or this one could not end. */
async function showOffers() {
  offers.show(await keptTalks(showOffers));
}

/** @param {string} id of a talk @param {boolean} isToEnd what is kept of it is sent, and no more */
async function takeUp(id, isToEnd) {
  await session?.abandon();
  const kept = await Keeper.takeUp(id);
  if (!kept) {
    dispatch({ type: "page.noticed", code: "taken_up_elsewhere", message: NOTICES.taken_up_elsewhere });
    showOffers();
    return;
  }
  recording = null;
  session = new Session(dispatch, (levels) => isActive(state) && meter.add(levels));
  view.follow.resume();
  find("start").focus(); // what had it is gone
  session.goOn(kept, choices, isToEnd);
}

/** @param {File | null} source a recording; null for the microphone */
function start(source) {
  session?.abandon();
  recording = source;
  session = new Session(dispatch, (levels) => isActive(state) && meter.add(levels));
  view.follow.resume();
  if (source) session.replay(source, choices);
  else session.listen(choices);
}

function startOrStop() {
  if (state.phase === "full") dispatch({ type: "page.waiting_cancelled" });
  else if (canGiveUp(state)) giveUp();
  else if (isActive(state)) session?.stop();
  else if (find("start").disabled) return;
  else if (whyNoMicrophone()) dispatch({ type: "page.found_wanting", reason: whyNoMicrophone() });
  else start(null);
}

/** Wait no longer for a server that does not come back. */
function giveUp() {
  session?.abandon();
  dispatch({ type: "page.connection_closed" });
}

/** @param {File | undefined} file */
function replayFile(file) {
  if (!file) return;
  if (isActive(state)) {
    const message = "Stop the captions that are running, then add the recording again.";
    dispatch({ type: "page.noticed", code: "busy", message });
  } else if (file.size === 0) {
    session?.abandon();
    const hint = "Choose a recording that has something in it.";
    dispatch({ type: "page.failed", code: "file_empty", message: `“${file.name}” is empty.`, hint });
  } else {
    start(file);
  }
}

/** The phase that says what this browser lacks to hear anything; null where it lacks nothing. */
function whyNoMicrophone() {
  if (!window.isSecureContext) return "insecure";
  return navigator.mediaDevices && "AudioWorkletNode" in window ? null : "unsupported";
}

/** @param {Partial<import("./choices.js").Choices>} chosen */
function choose(chosen) {
  Object.assign(choices, chosen);
  rememberChoices(choices);
}

/** @param {string} label @param {string} name empty to take the name away */
async function nameSpeaker(label, name) {
  dispatch({ type: "page.speaker_named", label, name });
  session?.keepNames(state.cast.names);
  const own = namesByPart(state.cast.names, state.parts);
  const kept = await Promise.all(own.map((part) => names.keep(part.address, part.names)));
  if (kept.every(Boolean)) return;
  const message = "The server could not keep the name: it stays on this page and in what you save from it.";
  dispatch({ type: "page.noticed", code: "name_not_kept", message });
}

async function refreshMicrophones() {
  showMicrophones(await listMicrophones(), choices.deviceId);
}

async function copyText() {
  const copied = await copy(plainText(state));
  find("copy-label").textContent = copied ? "Copied" : "Not copied";
  setTimeout(() => (find("copy-label").textContent = "Copy"), COPIED_MS);
}

async function copyLink() {
  const copied = await copy(find("share-link").value);
  find("share-copy").textContent = copied ? "Copied" : "Not copied";
  setTimeout(() => (find("share-copy").textContent = "Copy the link"), COPIED_MS);
}

/** @param {MouseEvent} event a click in the Save menu */
async function saveTranscript(event) {
  const link = event.target instanceof Element ? event.target.closest("a") : null;
  if (!link) return;
  event.preventDefault();
  find("save-menu").hidePopover();
  const transcript = transcriptOfLink(link, state);
  // No server has all of a talk that went on in another session.
  const isOwn = Object.keys(transcript.links).length === 0 || !(await names.areKept(transcript.address));
  if ((await save(transcript, link.dataset.format ?? "txt", isOwn)) || isOwn) return;
  const message = "The server does not answer: saved what this page holds.";
  dispatch({ type: "page.noticed", code: "saved_here", message });
}

function toggleStage() {
  if (stage.isOpen) stage.leave();
  else stage.enter();
}

/** @type {Record<string, () => void>} */
const KEYS = {
  f: toggleStage,
  c: () => find("copy").disabled || copyText(),
  End: () => view.follow.resume(),
  Escape: () => stage.leave(),
  "+": () => stage.isOpen && stage.resize(1),
  "=": () => stage.isOpen && stage.resize(1),
  "-": () => stage.isOpen && stage.resize(-1),
};

/** @param {KeyboardEvent} event */
function keyPressed(event) {
  const target = /** @type {Element} */ (event.target);
  if (event.ctrlKey || event.metaKey || event.altKey || target.closest("input, select, textarea")) return;
  if (event.key === " ") {
    if (event.repeat || target.closest("button, a, [popover]")) return;
    event.preventDefault();
    startOrStop();
    return;
  }
  const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (act && !event.repeat) act();
}

/**
 * Closing a panel with Escape gives the focus back to its button, where Space would open it again: it starts and stops
 * everywhere else, so the focus goes on to the button that does.
 *
 * @param {string} panel @param {string} opener
 */
function wirePanel(panel, opener) {
  find(panel).addEventListener("toggle", (/** @type {ToggleEvent} */ event) => {
    if (event.newState === "closed" && document.activeElement === find(opener)) find("start").focus();
  });
}

function wireControls() {
  find("start").addEventListener("click", startOrStop);
  find("jump").addEventListener("click", () => view.follow.resume());
  find("revision").addEventListener("click", () => {
    dispatch({ type: "page.live_shown", isLiveShown: !state.isLiveShown });
  });
  find("copy").addEventListener("click", copyText);
  find("choose").addEventListener("click", () => find("recording").click());
  find("recording").addEventListener("change", () => {
    replayFile(find("recording").files[0]);
    find("recording").value = ""; // so that the same file can be chosen again
  });
  find("save-menu").addEventListener("click", saveTranscript);
  wirePanel("settings", "settings-open");
  wirePanel("save-menu", "save");
  find("share-panel").addEventListener("beforetoggle", (/** @type {ToggleEvent} */ event) => {
    if (event.newState === "open") showShare(state.address);
  });
  find("share-copy").addEventListener("click", copyLink);
  wirePanel("share-panel", "share");
  find("stage-enter").addEventListener("click", () => stage.enter());
  find("stage-leave").addEventListener("click", () => stage.leave());
  find("stage-larger").addEventListener("click", () => stage.resize(1));
  find("stage-smaller").addEventListener("click", () => stage.resize(-1));
  document.addEventListener("keydown", keyPressed);
}

function wireChoices() {
  showLanguages(choices.language);
  for (const id of /** @type {const} */ (["language", "task", "vocabulary"])) {
    find(id).value = choices[id];
    find(id).addEventListener("change", () => {
      choose({ [id]: find(id).value });
      if (id !== "task" && isActive(state)) session?.changeWords(choices);
    });
  }
  for (const id of /** @type {const} */ (["noiseSuppression", "echoCancellation", "diarize", "announce"])) {
    find(id).checked = choices[id];
    find(id).addEventListener("change", () => {
      choose({ [id]: find(id).checked });
      if (id === "noiseSuppression" || id === "echoCancellation") session?.changeMicrophone(choices);
    });
  }
  find("microphone").addEventListener("change", () => {
    choose({ deviceId: find("microphone").value });
    session?.changeMicrophone(choices);
  });
  navigator.mediaDevices?.addEventListener("devicechange", refreshMicrophones);
  refreshMicrophones();
}

function wireDrop() {
  const isFile = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!isFile(event)) return;
    event.preventDefault();
    find("drop").hidden = false;
  });
  addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) find("drop").hidden = true;
  });
  addEventListener("drop", (event) => {
    find("drop").hidden = true;
    if (!isFile(event)) return;
    event.preventDefault();
    replayFile(event.dataTransfer?.files[0]);
  });
}

function wireLeaving() {
  addEventListener("beforeunload", (event) => {
    if (wouldLoseWords(state)) event.preventDefault();
  });
  addEventListener("pagehide", () => {
    const transcript = wordCount(state) > 0 ? transcriptOf(state) : state.previous;
    if (transcript) keepTranscript(transcript);
    session?.leave();
    if (isActive(state)) dispatch({ type: "page.connection_closed" }); // seen if the page comes back from the cache
  });
  addEventListener("pageshow", ({ persisted }) => persisted && showOffers());
  document.addEventListener("visibilitychange", () => document.hidden || showOffers());
}

/** Count down while the server is full, then ask it again. */
function countDown() {
  if (state.phase !== "full") return;
  dispatch({ type: "page.second_passed" });
  if (state.retryIn === 0) start(recording);
}

takeToken();
wireControls();
wireChoices();
wireDrop();
wireLeaving();
setInterval(countDown, 1000);
const kept = keptTranscript();
if (kept) dispatch({ type: "page.transcript_found", transcript: kept });
const lack = whyNoMicrophone();
if (lack) dispatch({ type: "page.found_wanting", reason: lack });
view.render(state, choices);
showOffers();
