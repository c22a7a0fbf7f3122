/** Keeps the screen on while captions run: a phone or a hall's projector must not go dark in mid-sentence. */

export class Wake {
  /** @type {WakeLockSentinel | null} */
  #lock = null;
  #wanted = false;

  constructor() {
    // The browser lets go of the lock whenever the page is hidden.
    document.addEventListener("visibilitychange", () => this.#apply());
  }

  /** @param {boolean} wanted */
  keep(wanted) {
    if (wanted === this.#wanted) return;
    this.#wanted = wanted;
    this.#apply();
  }

  async #apply() {
    if (!this.#wanted) {
      await this.#lock?.release();
      this.#lock = null;
    } else if (document.visibilityState === "visible") {
      // Refused on low battery, unknown to older browsers: captions go on without.
      this.#lock = (await navigator.wakeLock?.request("screen").catch(() => null)) ?? null;
    }
  }
}
