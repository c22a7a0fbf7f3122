/** Keeps the newest words in sight, until the reader scrolls up to read; then stays out of the way. */

/** How far below the edge that begins which a reader is taken to read. */
const READ_PX = 24;
/** Distance from the end, in CSS pixels, that still counts as being at it. */
const NEAR_PX = 40;

export class Follow {
  #box;
  #changed;
  #lastTop = 0;
  #following = true;

  /** @param {HTMLElement} box what scrolls @param {(following: boolean) => void} changed */
  constructor(box, changed) {
    this.#box = box;
    this.#changed = changed;
    box.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    new ResizeObserver(() => this.contentGrew()).observe(box);
  }

  /** Go to the newest words and stay with them. */
  resume() {
    this.#set(true);
    this.contentGrew();
  }

  /** Stay where one is, whatever comes. */
  pause() {
    this.#set(false);
  }

  get isFollowing() {
    return this.#following;
  }

  /**
   * Change the content by `change`, and keep what is being read where it is: most browsers see to that, Safari does not.
   *
   * @param {() => void} change
   */
  keepPlace(change) {
    const read = this.#following || CSS.supports("overflow-anchor", "auto") ? null : this.#atTop();
    const before = read?.getBoundingClientRect().top ?? 0;
    change();
    if (read?.isConnected) {
      const moved = read.getBoundingClientRect().top - before;
      if (moved) this.#box.scrollBy({ top: moved, behavior: "instant" });
    }
    this.contentGrew();
  }

  /**
   * Put another text of the same speech in place of this one by `change`: who reads goes on where that is said.
   *
   * @param {import("./captions.js").Captions} captions
   * @param {() => void} change
   */
  keepMoment(captions, change) {
    const moment = this.#following ? null : captions.timeAt(this.#box.getBoundingClientRect().top + READ_PX);
    change();
    if (moment !== null) captions.paragraphAt(moment, null)?.scrollIntoView({ block: "start", behavior: "instant" });
  }

  /** Call after the content has changed. */
  contentGrew() {
    if (this.#following) this.#box.scrollTop = this.#box.scrollHeight;
  }

  /** What is read first. @returns {Element | null} */
  #atTop() {
    const { left, top, width } = this.#box.getBoundingClientRect();
    return document.elementFromPoint(left + width / 2, top + NEAR_PX)?.closest(".utterance") ?? null;
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#box;
    const isNearEnd = scrollHeight - scrollTop - clientHeight < NEAR_PX;
    // Our own scrolling only ever goes down; so does what is left of it when the tail gets shorter.
    if (isNearEnd) this.#set(true);
    else if (scrollTop < this.#lastTop) this.#set(false);
    this.#lastTop = scrollTop;
  }

  /** @param {boolean} following */
  #set(following) {
    if (this.#following === following) return;
    this.#following = following;
    this.#changed(following);
  }
}
