/** The editor of a look: controls, a preview that wears it, and the link that carries it. */

import { DEFAULTS, GENERIC_FONTS, RANGES, VALUES, kindOf, readLook, wear, writeLook } from "../state/look.js";
import { initialState, reduce } from "../state/state.js";
import { LOOK } from "../state/words.js";
import { copy } from "./clipboard.js";
import { find, make, setText } from "./elements.js";
import { label } from "./labels.js";
import { LastLines } from "./last-lines.js";

/**
 * @typedef {import("../state/look.js").Kind} Kind
 * @typedef {import("../state/look.js").Look} Look
 */

/** What numbers move by. @type {Record<string, number>} */
const STEPS = { clear: 1, size: 5, lines: 1, opacity: 1, width: 1 };
const COPIED_MS = 1_600;
/** The preview is a picture of this width, in CSS pixels, made smaller. */
const PICTURE_PX = 1920;

/** The link that the editor was opened for, or the one that was put in; empty before. */
let address = new URLSearchParams(location.hash.slice(1)).get("link") ?? "";
/** @type {Kind} */
let kind = "overlay";
/** @type {Look} */
let look = DEFAULTS.overlay;

/** Take a link, whatever it holds; say what of it cannot be meant. @param {string} link */
function take(link) {
  const url = URL.canParse(link) ? new URL(link) : null;
  address = url ? link : "";
  const { look: read, problems } = readLook(url?.searchParams ?? new URLSearchParams(), (kind = (url && kindOf(url)) ?? kind));
  look = read;
  showProblems(link && !url ? [LOOK.noLink] : problems.map((problem) => LOOK.problem(problem, kind)));
  showControls();
  showPicture();
  showOpen();
}

/** A control was changed. */
function changed() {
  showPicture();
  showProblems([]);
  if (address) find("link").value = address = writeLook(address, kind, look);
  showOpen();
}

/** @param {string[]} problems */
function showProblems(problems) {
  const items = problems.map((problem) => Object.assign(make("p", "problem"), { textContent: problem }));
  find("problems").replaceChildren(...items);
  find("link").ariaInvalid = String(problems.length > 0);
}

function showOpen() {
  find("copy").disabled = !address;
  if (address) find("open").href = address;
  else find("open").removeAttribute("href");
}

/** A control for every parameter, with what it says now. */
function showControls() {
  find("controls").replaceChildren(
    choice("kind", ["overlay", "stage"], kind, (value) => {
      kind = /** @type {Kind} */ (value);
      look = { ...DEFAULTS[kind] };
      showControls();
      changed();
      find("look-kind").focus();
    }),
    ...Object.entries(look).map(([name, value]) => control(/** @type {keyof Look} */ (name), value)),
  );
}

/** @param {keyof Look} name @param {any} value @returns {HTMLElement} */
function control(name, value) {
  const set = (/** @type {any} */ chosen) => {
    look = { ...look, [name]: chosen };
    changed();
  };
  if (Object.hasOwn(VALUES, name)) return choice(name, VALUES[name], value, set);
  const input = document.createElement("input");
  if (typeof value === "boolean") {
    input.type = "checkbox";
    input.checked = value;
    input.addEventListener("change", () => set(input.checked));
    return field(name, input, "tick");
  }
  if (Object.hasOwn(RANGES, name)) {
    const [least, most] = RANGES[name];
    Object.assign(input, { type: "number", min: least, max: most, step: STEPS[name], required: true });
    input.value = String(value);
    input.addEventListener("input", () => input.checkValidity() && set(input.valueAsNumber));
  } else if (name === "font") {
    const families = Object.assign(document.createElement("datalist"), { id: "families" });
    families.append(...GENERIC_FONTS.map((font) => new Option(font)));
    Object.assign(input, { type: "text", maxLength: 60, placeholder: LOOK.ownFont, value });
    input.setAttribute("list", "families");
    input.addEventListener("input", () => {
      const { look: read, problems } = readLook(new URLSearchParams({ font: input.value }), kind);
      if (problems.length === 0 || !input.value) set(input.value ? read.font : "");
    });
    const whole = field(name, input);
    whole.append(families);
    return whole;
  } else {
    Object.assign(input, { type: "color", value });
    input.addEventListener("input", () => set(input.value));
  }
  return field(name, input);
}

/** @param {string} name @param {string[]} values @param {string} value @param {(value: string) => void} chosen */
function choice(name, values, value, chosen) {
  const select = document.createElement("select");
  select.append(...values.map((one) => new Option(LOOK.values[one], one, false, one === value)));
  select.addEventListener("change", () => chosen(select.value));
  return field(name, select);
}

/** @param {string} name @param {HTMLElement} input @param {string} kindOfField */
function field(name, input, kindOfField = "field") {
  const whole = make("div", kindOfField);
  const about = document.createElement("label");
  input.id = about.htmlFor = `look-${name}`;
  about.textContent = LOOK.fields[name];
  whole.append(...(kindOfField === "tick" ? [input, about] : [about, input]));
  return whole;
}

/** Some captions, as overlay or stage would show them in this look. */
function showPicture() {
  const screen = make("div", kind);
  const lines = make("div", kind === "stage" ? "stage-lines" : "transcript");
  screen.append(kind === "stage" ? lines : nested(["watch", "main", "captions", "column"], lines));
  wear(screen, look);
  screen.inert = true;
  find("picture").replaceChildren(screen);
  new LastLines(lines, { ...look, clear: 0 }).render(LOOK.sample.reduce(said, { ...initialState(), phase: "live" }));
  fit();
}

/** @param {string[]} names of boxes in boxes, outermost first @param {HTMLElement} inner */
function nested(names, inner) {
  return names.reduceRight((content, name) => {
    const box = make("div", name);
    box.append(content);
    return box;
  }, inner);
}

/** @param {import("../state/state.js").State} state @param {string} sentence @param {number} at */
function said(state, sentence, at) {
  const speaker = `S${at + 1}`;
  const words = sentence.split(" ").map((word, n) => ({ text: ` ${word}`, start: 10 * at + n, end: 10 * at + n + 1, speaker }));
  const isLast = at === LOOK.sample.length - 1;
  const committed = reduce(state, { type: "commit", utterance: at, words: isLast ? words.slice(0, -3) : words });
  return isLast ? reduce(committed, { type: "partial", words: words.slice(-3) }) : committed;
}

/** Make the picture as large as there is room. */
function fit() {
  const picture = find("picture");
  picture.style.setProperty("--scale", String(picture.clientWidth / PICTURE_PX));
}

label(LOOK);
document.title = LOOK.title;
find("link").value = address;
find("link").placeholder = LOOK.placeholder;
find("link").addEventListener("input", () => take(find("link").value.trim()));
find("controls").addEventListener("submit", (/** @type {Event} */ event) => event.preventDefault());
find("reset").addEventListener("click", () => {
  look = { ...DEFAULTS[kind] };
  showControls();
  changed();
});
find("copy").addEventListener("click", async () => {
  const copied = await copy(address);
  setText(find("copy"), copied ? LOOK.copied : LOOK.notCopied);
  setTimeout(() => setText(find("copy"), LOOK.copy), COPIED_MS);
});
new ResizeObserver(fit).observe(find("picture"));
take(address);
if (address && !kindOf(new URL(address))) changed(); // from the audience's link to the overlay's
