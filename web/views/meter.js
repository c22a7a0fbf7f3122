/** The level meter: a bar for each 50 ms of sound, newest at the right, moving as long as the microphone is open. */

const BAR_PX = 3;
const GAP_PX = 2;
const BARS_PER_SECOND = 20;
/** Bars that may wait to be drawn: one batch, so that the meter is at most that far behind. */
const WAITING = 2;
/** Loudness in dBFS at which a bar is lowest and highest. */
const [FLOOR_DB, CEILING_DB] = [-58, -8];

export class Meter {
  #canvas;
  #context;
  /** @type {number[]} */
  #heights = [];
  /** Bars drawn so far, a fraction of the newest included. */
  #drawn = 0;
  #total = 0;
  #frame = 0;
  #lastFrame_ms = 0;
  #still = matchMedia("(prefers-reduced-motion: reduce)");

  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.#canvas = canvas;
    this.#context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    new ResizeObserver(() => this.#draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
  }

  /** Add loudness. @param {number[]} levels root mean square of each 50 ms, full scale is 1 */
  add(levels) {
    this.#heights.push(...levels.map(heightOf));
    this.#heights = this.#heights.slice(-400);
    this.#total += levels.length;
    if (this.#still.matches) this.#draw();
    else if (this.#frame === 0) this.#frame = requestAnimationFrame((now_ms) => this.#advance(now_ms));
  }

  /** Show an empty meter. */
  clear() {
    this.#heights = [];
    this.#drawn = this.#total = 0;
    this.#draw();
  }

  /** @param {number} now_ms */
  #advance(now_ms) {
    const step = this.#lastFrame_ms ? ((now_ms - this.#lastFrame_ms) / 1000) * BARS_PER_SECOND : 0;
    this.#drawn = Math.min(this.#total, Math.max(this.#total - WAITING, this.#drawn + step));
    this.#lastFrame_ms = now_ms;
    this.#draw();
    const more = this.#drawn < this.#total;
    this.#frame = more ? requestAnimationFrame((next_ms) => this.#advance(next_ms)) : 0;
    if (!more) this.#lastFrame_ms = 0;
  }

  #draw() {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    const scale = devicePixelRatio;
    this.#canvas.width = Math.round(width * scale);
    this.#canvas.height = Math.round(height * scale);
    this.#context.scale(scale, scale);
    this.#context.fillStyle = getComputedStyle(this.#canvas).color;
    if (this.#still.matches) this.#drawLevel(width, height);
    else this.#drawHistory(width, height);
  }

  /** @param {number} width @param {number} height */
  #drawHistory(width, height) {
    const pitch = BAR_PX + GAP_PX;
    const waiting = this.#total - this.#drawn;
    const shift = (waiting - Math.floor(waiting)) * pitch;
    const newest = this.#heights.length - 1 - Math.floor(waiting);
    for (let bar = 0; bar * pitch < width + pitch; bar++) {
      const loudness = this.#heights[newest - bar] ?? 0;
      const length = Math.max(BAR_PX, loudness * height);
      this.#context.globalAlpha = loudness > 0 ? 1 : 0.3;
      this.#bar(width - (bar + 1) * pitch + shift, (height - length) / 2, BAR_PX, length);
    }
  }

  /** One bar that grows with the loudness: nothing travels. @param {number} width @param {number} height */
  #drawLevel(width, height) {
    const loudness = Math.max(0, ...this.#heights.slice(-2));
    const thickness = Math.min(8, height);
    const top = (height - thickness) / 2;
    this.#context.globalAlpha = 0.3;
    this.#bar(0, top, width, thickness);
    this.#context.globalAlpha = 1;
    if (loudness > 0) this.#bar(0, top, Math.max(thickness, loudness * width), thickness);
  }

  /** @param {number} x @param {number} y @param {number} width @param {number} height */
  #bar(x, y, width, height) {
    this.#context.beginPath();
    this.#context.roundRect(x, y, width, height, BAR_PX);
    this.#context.fill();
  }
}

/** @param {number} level root mean square @returns {number} 0 to 1 */
function heightOf(level) {
  const loudness_db = 20 * Math.log10(Math.max(level, 1e-6));
  const height = Math.max(0, Math.min(1, (loudness_db - FLOOR_DB) / (CEILING_DB - FLOOR_DB)));
  return height ** 1.5; // loud syllables shall stand out, a whisper still show
}
