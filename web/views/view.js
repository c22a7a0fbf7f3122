/** Puts the state on the screen. Reads nothing from the document and decides nothing; text enters as `textContent`. */

import { at } from "../client/addresses.js";
import { languages, nameOf } from "../state/languages.js";
import { readLook, wear } from "../state/look.js";
import { typedName } from "../state/speakers.js";
import { canGiveUp, canPause, detectedLanguage, hasWords, isActive, isFinalAwaited, liveTranscriptOf, shownRevision, shownUtterances, transcriptOf } from "../state/state.js";
import { behind, hallWords, hearing, PAGE, NOTICES, percent, TALK, timeShown, wordsFor } from "../state/words.js";
import { Announcer } from "./announcer.js";
import { Captions } from "./captions.js";
import { find, setText } from "./elements.js";
import { Follow } from "./follow.js";
import { LastLines } from "./last-lines.js";
import { nameSpeakersIn, namesChanged } from "./naming.js";
import { Timeline } from "./timeline.js";

/**
 * @typedef {import("../state/state.js").State} State
 * @typedef {import("../state/choices.js").Choices} Choices
 */

/** Seconds behind from which the figure stands out. */
const FAR_BEHIND = 5;
/** What of the state the captions show. @type {(keyof State)[]} */
const READ = ["utterances", "tail", "phase", "final", "isLiveShown", "cast"];

export class View {
  #captions = new Captions(find("transcript"), { isNameable: true });
  #stage;
  #timeline = new Timeline(find("lanes"), find("who-readout"), (turn, isByKey) => this.#goTo(turn, isByKey));
  #announcer = new Announcer(find("announcer"));
  #events;
  /** @type {State | null} */
  #shown = null;

  /**
   * @param {object} events
   * @param {(code: string) => void} events.dismissed the reader closed a notice
   * @param {(label: string, name: string) => void} events.named the reader typed a name for a speaker
   */
  constructor(events) {
    this.#events = events;
    const { look } = readLook(new URLSearchParams(location.search), "stage");
    wear(find("stage"), look);
    this.#stage = new LastLines(find("stage-lines"), look);
    this.follow = new Follow(find("captions"), (following) => this.#showJump(following));
    this.#wireNames();
  }

  /** @param {State} state @param {Choices} choices */
  render(state, choices) {
    const before = this.#shown;
    this.#shown = state;
    this.#renderState(state);
    this.#renderFile(state);
    this.#renderPass(state);
    this.#renderTools(state);
    const render = () => {
      this.#renderWho(state); // above the captions: they move where it comes or goes
      if (!before || READ.some((key) => before[key] !== state[key])) this.#renderCaptions(state);
    };
    if (before && shownRevision(before) !== shownRevision(state)) this.follow.keepMoment(this.#captions, render);
    else render();
    if (before?.notices !== state.notices) this.#renderNotices(state);
    if (before?.session !== state.session) {
      this.#announcer.restart();
      renderSession(state);
    }
    if (!choices.announce) this.#announcer.skip(state.utterances);
    else if (before?.utterances !== state.utterances) this.#announcer.announce(state.utterances, state.cast);
  }

  /** @param {State} state */
  #renderState(state) {
    const { title, detail, tone, cause = "" } = wordsFor(state);
    const isEmpty = shownUtterances(state).length === 0 && state.tail.length === 0;
    document.body.dataset.phase = state.phase;
    document.body.dataset.tone = tone;
    document.title = state.phase === "idle" ? "live-asr" : `${title} · live-asr`;
    setText(find("phase"), title);
    setText(find("elapsed"), timeShown(state));
    find("elapsed").hidden = state.session === null && !(isActive(state) && state.captured > 0);
    setText(find("lag-figure"), behind(state));
    find("lag").hidden = behind(state) === "";
    find("lag").classList.toggle("far", (state.lag?.seconds ?? 0) >= FAR_BEHIND);
    setText(find("hearing"), hearing(state));
    setText(find("jump-label"), state.phase === "live" ? PAGE.jump : PAGE.jumpToEnd);
    find("hero").hidden = !isEmpty;
    renderHero(state, title, detail);
    setText(find("advice"), detail);
    find("advice").title = find("hero-detail").title = cause;
    find("advice").hidden = detail === "" || isEmpty;
    setText(find("stage-state"), hallWords(state));
    setSpoken(find("status"), `${title}. ${detail}`);
  }

  /** @param {State} state */
  #renderFile({ file, phase, complete }) {
    find("file").hidden = !file || complete || (phase !== "live" && phase !== "finishing" && phase !== "connecting");
    if (!file) return;
    setText(find("file-name"), file.name);
    find("file-progress").value = file.fraction;
    setText(find("file-percent"), percent(file.fraction));
  }

  /** How far the full pass is: no value while it waits for its turn. @param {State} state */
  #renderPass({ phase, complete, progress }) {
    const bar = find("pass");
    bar.hidden = phase !== "finishing" || !complete;
    if (progress) bar.value = progress.fraction;
    else bar.removeAttribute("value");
  }

  /** @param {State} state */
  #renderWho({ final, isLiveShown, cast }) {
    find("who").hidden = !final;
    if (!final) return;
    find("who-details").hidden = final.talks.length === 0;
    find("revision").textContent = isLiveShown ? PAGE.showFinal : PAGE.showLive;
    this.#timeline.render(final, cast);
  }

  /** @param {State} state */
  #renderTools(state) {
    const hasText = hasWords(state);
    find("copy").disabled = !hasText;
    find("share").disabled = !state.address;
    find("save").disabled = !hasText && !state.previous;
    find("save-previous").hidden = !state.previous;
    setText(find("save-previous-name"), state.previous?.name ?? "");
    find("save-which").hidden = !state.final || state.utterances.length === 0;
    find("save-awaited").hidden = !isFinalAwaited(state) || !hasText;
    setText(find("start-label"), startLabel(state));
    find("pause").hidden = !canPause(state);
    setText(find("pause-label"), state.paused ? TALK.resume : TALK.pause);
    document.body.dataset.paused = String(state.paused);
    renderLocks(state);
    find("start").disabled = state.phase === "finishing" && !state.complete && !canGiveUp(state);
    document.body.dataset.active = String(isActive(state) || state.phase === "full");
    for (const link of find("save-menu").querySelectorAll("a")) {
      const { name, links, utterances } = transcriptOfLink(link, state);
      const href = utterances.length > 0 ? links[link.dataset.format] : undefined;
      link.hidden = utterances.length === 0 || (["rttm", "docx"].includes(link.dataset.format) && !href);
      link.download = `${name}.${link.dataset.format}`;
      if (href) link.href = at(href);
      else link.removeAttribute("href");
    }
    setText(find("language").options[0], detected(state));
  }

  /** @param {State} state */
  #renderCaptions(state) {
    this.follow.keepPlace(() => {
      this.#captions.render(state);
      namesChanged(find("transcript"), this.#captions.newestName);
    });
    this.#stage.render(state);
  }

  /** Show where somebody says something. @param {{label: string, start: number}} turn @param {boolean} isByKey */
  #goTo({ label, start }, isByKey) {
    const paragraph = this.#captions.paragraphAt(start, label);
    if (!paragraph) return;
    this.follow.pause();
    find("transcript").querySelector("[aria-current]")?.removeAttribute("aria-current");
    paragraph.ariaCurrent = "true";
    paragraph.scrollIntoView({ block: "center" });
    if (!isByKey) return;
    paragraph.tabIndex = -1; // who reads with ears goes on from there
    paragraph.focus({ preventScroll: true });
  }

  /** Names are typed where they stand, while nothing scrolls away from under them. */
  #wireNames() {
    const typed = (/** @type {string} */ label) => (this.#shown ? typedName(label, this.#shown.cast) : "");
    const { named } = this.#events;
    let wasFollowing = false;
    nameSpeakersIn(find("lanes"), { typed, named });
    nameSpeakersIn(find("transcript"), {
      typed,
      named,
      began: () => {
        wasFollowing = this.follow.isFollowing;
        this.follow.pause();
      },
      ended: () => wasFollowing && this.follow.resume(),
    });
  }

  /** @param {State} state */
  #renderNotices({ notices }) {
    find("notices").replaceChildren(
      ...notices.map(({ code, message }) => {
        const notice = document.createElement("p");
        const text = document.createElement("span");
        const close = document.createElement("button");
        notice.className = "notice";
        text.textContent = message;
        close.type = "button";
        close.textContent = "×";
        close.ariaLabel = NOTICES.dismiss;
        close.addEventListener("click", () => this.#events.dismissed(code));
        notice.append(text, close);
        return notice;
      }),
    );
  }

  /** @param {boolean} following */
  #showJump(following) {
    find("jump").hidden = following;
  }
}

/** The transcript that a link of the Save menu stands for. @param {HTMLElement} link @param {State} state */
export function transcriptOfLink(link, state) {
  if (link.closest("#save-previous") && state.previous) return state.previous;
  const isLive = isFinalAwaited(state) || (state.final && find("save-live").checked);
  return isLive ? liveTranscriptOf(state) : transcriptOf(state);
}

/**
 * List the microphones.
 *
 * @param {MediaDeviceInfo[]} devices
 * @param {string} chosen device id
 */
export function showMicrophones(devices, chosen) {
  const named = devices.filter(({ deviceId }) => deviceId !== "default" && deviceId !== "communications");
  const options = named.map(({ deviceId, label }, at) => option(deviceId, label || PAGE.microphoneNumber(at + 1)));
  const select = find("microphone");
  select.replaceChildren(option("", PAGE.defaultMicrophone), ...options);
  select.value = named.some(({ deviceId }) => deviceId === chosen) ? chosen : "";
}

/** List the languages. @param {string} chosen Whisper's code */
export function showLanguages(chosen) {
  const select = find("language");
  select.append(...languages().map(({ code, name }) => option(code, name)));
  select.value = chosen;
}

/** What stands where no language is chosen. @param {State} state */
function detected(state) {
  const language = detectedLanguage(state);
  return language && find("language").value === "" ? PAGE.detected(nameOf(language)) : PAGE.detect;
}

/** What the main button does now. @param {State} state */
function startLabel(state) {
  if (state.phase === "live") return PAGE.stop;
  if (canGiveUp(state)) return PAGE.giveUp;
  if (isActive(state) || state.phase === "full") return PAGE.cancel;
  return state.phase === "finishing" && !state.complete ? PAGE.finishing : PAGE.start;
}

/** What has been said to the server for good cannot be changed now. @param {State} state */
function renderLocks({ phase }) {
  const isLocked = phase === "connecting" || phase === "live";
  for (const control of document.querySelectorAll("[data-locks]")) control.toggleAttribute("disabled", isLocked);
  for (const reason of document.querySelectorAll("[data-locked]")) {
    setText(/** @type {HTMLElement} */ (reason), isLocked ? PAGE.locked : "");
  }
}

/** @param {State} state @param {string} title @param {string} detail */
function renderHero(state, title, detail) {
  find("hero-more").hidden = state.phase !== "idle";
  if (state.phase === "idle") {
    setText(find("hero-title"), PAGE.heroTitle);
    setText(find("hero-detail"), PAGE.heroDetail);
  } else if (state.phase === "live" && detail === "") {
    const isFile = state.source === "file";
    setText(find("hero-title"), isFile ? title : PAGE.listening);
    setText(find("hero-detail"), isFile ? PAGE.heroTranscribing : PAGE.heroListening);
  } else {
    setText(find("hero-title"), title);
    setText(find("hero-detail"), detail);
  }
}

/** Name the model, and offer only languages that it knows. @param {State} state */
function renderSession({ session }) {
  if (!session) return;
  setText(find("about"), session.model ? PAGE.model(session.model) : "");
  for (const choice of find("language").options) {
    choice.disabled = choice.value !== "" && session.languages !== null && !session.languages.includes(choice.value);
  }
}

/** @param {string} value @param {string} label */
function option(value, label) {
  const element = document.createElement("option");
  element.value = value;
  element.textContent = label;
  return element;
}

/** Change what is read out, but not for a mere figure: a countdown would be read every second. @param {HTMLElement} element @param {string} text */
function setSpoken(element, text) {
  const bare = (/** @type {string | null} */ sentence) => (sentence ?? "").replace(/[\d.]+/g, "");
  if (bare(element.textContent) !== bare(text)) element.textContent = text;
}
