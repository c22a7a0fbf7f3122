/** The page's wiring: what happens becomes a message, the state that follows is shown, and its consequences are drawn. */

import { takeToken } from "../client/access.js";
import { Keeper, discard, keptTalks } from "../client/keeping.js";
import { keepKey } from "../client/keys.js";
import { listMicrophones } from "../client/microphone.js";
import { Names } from "../client/names.js";
import { Wake } from "../client/wake.js";
import { rememberChoices, rememberedChoices } from "../state/choices.js";
import { TONGUES, chooseTongue, chosenTongue } from "../state/locale.js";
import { namesByPart } from "../state/parts.js";
import { Session } from "../state/session.js";
import { canGiveUp, canPause, initialState, isActive, isFinalAwaited, plainText, reduce, transcriptOf, wordCount, wouldLoseWords } from "../state/state.js";
import { FORMATS, NOTICES, PAGE, SHARE, SHORTCUTS, onlyOneTaken } from "../state/words.js";
import { Asking } from "./asking.js";
import { copy } from "./clipboard.js";
import { find } from "./elements.js";
import { Expected } from "./expected.js";
import { label } from "./labels.js";
import { Meter } from "./meter.js";
import { Offers } from "./offers.js";
import { canBeMade, keepTranscript, keptTranscript, save } from "./saving.js";
import { showShare } from "./share.js";
import { ShortcutsDialog } from "./shortcuts-dialog.js";
import { Shortcuts } from "./shortcuts.js";
import { SpeakerCount } from "./speaker-count.js";
import { Stage } from "./stage.js";
import { View, showLanguages, showMicrophones, transcriptOfLink } from "./view.js";

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
const stage = new Stage(find("stage"), [find("header"), find("main"), find("dock")], find("stage-enter"), choices.stageSize, (stageSize) =>
  choose({ stageSize }),
);
const asking = new Asking({ stop: () => session?.stop(), pause: () => pause(true) });

/** @param {{type: string, [field: string]: any}} message */
function dispatch(message) {
  const before = state;
  if (message.type === "ready") keepKey(message.session, message.token);
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
  if (!canPause(state)) asking.close();
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
  else if (canPause(state)) asking.open(state.paused);
  else if (isActive(state)) session?.stop();
  else if (find("start").disabled) return;
  else if (whyNoMicrophone()) dispatch({ type: "page.found_wanting", reason: whyNoMicrophone() });
  else start(null);
}

/** @param {boolean} paused */
function pause(paused) {
  if (!canPause(state)) return;
  session?.pause(paused);
  if (paused) meter.clear();
}

/** Wait no longer for a server that does not come back. */
function giveUp() {
  session?.abandon();
  dispatch({ type: "page.connection_closed" });
}

/** Caption the first of these recordings. @param {Iterable<File>} files */
function replayFirst(files) {
  const [file, ...others] = files;
  if (!file) return;
  const isTaken = !isActive(state) && file.size > 0;
  replayFile(file);
  if (!isTaken || others.length === 0) return;
  const message = onlyOneTaken(file.name, others.map(({ name }) => name));
  dispatch({ type: "page.noticed", code: "one_recording", message });
}

/** @param {File} file */
function replayFile(file) {
  if (isActive(state)) {
    dispatch({ type: "page.noticed", code: "busy", message: NOTICES.busy });
  } else if (file.size === 0) {
    session?.abandon();
    const [message, hint] = [NOTICES.file_empty(file.name), NOTICES.file_empty_hint];
    dispatch({ type: "page.failed", code: "file_empty", message, hint });
  } else {
    start(file);
  }
}

/** The phase that says what this browser lacks to hear anything; null where it lacks nothing. */
function whyNoMicrophone() {
  if (!window.isSecureContext) return "insecure";
  return navigator.mediaDevices && "AudioWorkletNode" in window ? null : "unsupported";
}

/** @param {Partial<import("../state/choices.js").Choices>} chosen */
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
  dispatch({ type: "page.noticed", code: "name_not_kept", message: NOTICES.name_not_kept });
}

async function refreshMicrophones() {
  showMicrophones(await listMicrophones(), choices.deviceId);
}

async function copyText() {
  const copied = await copy(plainText(state));
  find("copy-label").textContent = copied ? PAGE.copied : PAGE.notCopied;
  setTimeout(() => (find("copy-label").textContent = PAGE.copy), COPIED_MS);
}

async function copyLink() {
  const copied = await copy(find("share-link").value);
  find("share-copy").textContent = copied ? PAGE.copied : PAGE.notCopied;
  setTimeout(() => (find("share-copy").textContent = SHARE.copyLink), COPIED_MS);
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
  const format = link.dataset.format ?? "txt";
  const isSaved = await save(transcript, format, isOwn);
  if (!canBeMade(format) && !isSaved) dispatch({ type: "page.noticed", code: "not_saved", message: NOTICES.not_saved });
  else if (!isSaved && !isOwn) dispatch({ type: "page.noticed", code: "saved_here", message: NOTICES.saved_here });
  if (isFinalAwaited(state)) dispatch({ type: "page.noticed", code: "saved_live", message: NOTICES.saved_live });
}

function toggleStage() {
  if (stage.isOpen) stage.leave();
  else stage.enter();
}

const shortcuts = new Shortcuts(
  {
    talk: startOrStop,
    pause: () => pause(!state.paused),
    stage: toggleStage,
    larger: () => stage.isOpen && stage.resize(1),
    smaller: () => stage.isOpen && stage.resize(-1),
    live: () => view.follow.resume(),
    copy: () => find("copy").disabled || copyText(),
    help: () => shortcutsDialog.open(),
  },
  { isOnStage: () => stage.isOpen, isLive: () => canPause(state) },
  choices.shortcuts,
  (chosen) => {
    choose({ shortcuts: chosen });
    showHints();
  },
);
const shortcutsDialog = new ShortcutsDialog(shortcuts);

/** What the buttons are called by, with their keys. */
function showHints() {
  const titles = /** @type {const} */ ({ start: "talk", pause: "pause", copy: "copy", "stage-enter": "stage" });
  for (const [id, action] of /** @type {[string, import("./shortcuts.js").Action][]} */ (Object.entries(titles))) {
    find(id).title = shortcuts.hint(SHORTCUTS.actions[action], action);
  }
}

/** What is pressed with a pointer keeps no focus: a remote's next Space or Enter would press it again. @param {MouseEvent} event */
function letGo(event) {
  if (event.detail > 0 && event.currentTarget instanceof HTMLElement) event.currentTarget.blur();
}

function wireControls() {
  find("start").addEventListener("click", startOrStop);
  find("pause").addEventListener("click", () => pause(!state.paused));
  find("start").addEventListener("click", letGo);
  find("pause").addEventListener("click", letGo);
  find("shortcuts-open").textContent = SHORTCUTS.open;
  find("shortcuts-open").addEventListener("click", () => shortcutsDialog.open());
  showHints();
  find("jump").addEventListener("click", () => view.follow.resume());
  find("revision").addEventListener("click", () => {
    dispatch({ type: "page.live_shown", isLiveShown: !state.isLiveShown });
  });
  find("copy").addEventListener("click", copyText);
  find("choose").addEventListener("click", () => find("recording").click());
  find("recording").addEventListener("change", () => {
    replayFirst(find("recording").files);
    find("recording").value = ""; // so that the same file can be chosen again
  });
  find("save-menu").addEventListener("click", saveTranscript);
  find("save-which").addEventListener("change", () => view.render(state, choices));
  find("share-panel").addEventListener("beforetoggle", (/** @type {ToggleEvent} */ event) => {
    if (event.newState === "open") showShare(state.address);
  });
  find("share-copy").addEventListener("click", copyLink);
  find("stage-enter").addEventListener("click", () => stage.enter());
  find("stage-leave").addEventListener("click", () => stage.leave());
  find("stage-larger").addEventListener("click", () => stage.resize(1));
  find("stage-smaller").addEventListener("click", () => stage.resize(-1));
  document.addEventListener("keydown", ({ key }) => key === "Escape" && stage.leave());
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
  new Expected(find("vocabulary"), find("vocabulary-tools"));
  new SpeakerCount(find("speaker-count"), choices, choose);
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

/** The page comes again in another language: a session under way asks before it goes. */
function wireTongue() {
  find("tongue").append(...Object.entries(TONGUES).map(([tongue, name]) => new Option(name, tongue)));
  find("tongue").value = chosenTongue();
  find("tongue").addEventListener("change", () => chooseTongue(find("tongue").value));
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
    replayFirst(event.dataTransfer?.files ?? []);
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
label({ ...FORMATS, ...PAGE, ...SHARE });
wireTongue();
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
