/** The view for a hall: the last lines, large, on black, over the whole screen. */

/** The least and the most that the letters can be scaled. */
const [SMALLEST, LARGEST] = [0.5, 2];
const STEP = 0.1;
/** How long the buttons and the pointer stay after the mouse has moved. */
const AWAKE_MS = 2_500;

export class Stage {
  #element;
  #behind;
  #opener;
  #sizeChosen;
  #size;
  #open = false;
  #fallingAsleep = 0;
  /** @type {Element | null} */
  #returnTo = null;

  /**
   * @param {HTMLElement} element
   * @param {HTMLElement[]} behind what it covers
   * @param {HTMLElement} opener the button that opens it
   * @param {number} size scale of the letters; 1 is normal
   * @param {(size: number) => void} sizeChosen
   */
  constructor(element, behind, opener, size, sizeChosen) {
    this.#element = element;
    this.#behind = behind;
    this.#opener = opener;
    this.#size = size;
    this.#sizeChosen = sizeChosen;
    this.resize(0);
    element.addEventListener("pointermove", () => this.#wake());
    element.addEventListener("pointerdown", () => this.#wake());
    // The browser leaves full screen by itself when Escape is pressed; the view follows.
    document.addEventListener("fullscreenchange", () => {
      if (!document.fullscreenElement) this.leave();
    });
  }

  get isOpen() {
    return this.#open;
  }

  enter() {
    if (this.#open) return;
    this.#open = true;
    this.#returnTo = document.activeElement;
    this.#element.hidden = false;
    for (const covered of this.#behind) covered.inert = true;
    this.#element.focus();
    this.#wake();
    // Where full screen is refused or unknown (iPhones), the view still covers the page.
    this.#element.requestFullscreen?.().catch(() => {});
  }

  leave() {
    if (!this.#open) return;
    this.#open = false;
    this.#element.hidden = true;
    for (const covered of this.#behind) covered.inert = false;
    const returned = document.fullscreenElement ? document.exitFullscreen() : Promise.resolve();
    this.#giveFocusBack();
    // A browser that leaves full screen takes the focus away once more.
    returned.catch(() => {}).then(() => this.#giveFocusBack());
  }

  /** To what had it or, where that was nothing or is not there any more, to the button that leads here. */
  #giveFocusBack() {
    for (const one of [this.#returnTo, this.#opener]) {
      const { activeElement } = document;
      const isLost = !activeElement || activeElement === document.body || this.#element.contains(activeElement);
      if (!this.#open && isLost && one instanceof HTMLElement && one !== document.body) one.focus();
    }
  }

  /** Make the letters larger or smaller. @param {number} steps */
  resize(steps) {
    this.#size = Math.min(LARGEST, Math.max(SMALLEST, this.#size + steps * STEP));
    this.#element.style.setProperty("--stage-size", this.#size.toFixed(2));
    if (steps) this.#sizeChosen(this.#size);
  }

  /** Show the buttons and the pointer for a moment; the audience shall see neither. */
  #wake() {
    clearTimeout(this.#fallingAsleep);
    this.#element.dataset.awake = "true";
    this.#fallingAsleep = setTimeout(() => (this.#element.dataset.awake = "false"), AWAKE_MS);
  }
}
