/** The microphone: opening, changing, releasing it, and turning its sound into what goes on the wire. */

/** The highest rate that the protocol takes. */
const MAX_RATE_HZ = 48_000;
/** How long to wait for the last batch when the microphone is released. */
const LAST_BATCH_MS = 300;
/** A browser may suspend sound, or stop to give any, without a word: how often to look, and how long it may be silent. */
const LOOK_MS = 500;
const ASLEEP_MS = 2_000;
const WAKERS = ["pointerdown", "keydown", "click", "touchend"];

/**
 * @typedef {object} MicrophoneChoice
 * @property {string} deviceId  empty for the system's default
 * @property {boolean} noiseSuppression
 * @property {boolean} echoCancellation
 *
 * @typedef {object} Sound
 * @property {Uint8Array<ArrayBuffer>} bytes  mono, signed 16-bit little-endian
 * @property {number} duration  seconds
 * @property {number[]} levels  root mean square of each half, full scale is 1
 * @property {number} heardAt  milliseconds of the clock, at its end
 *
 * @typedef {object} MicrophoneEvents
 * @property {(sound: Sound) => void} captured
 * @property {() => void} unplugged
 * @property {(isAsleep: boolean) => void} slept  the browser gives no sound, though there is a microphone; or it does again
 */

/** The microphones there are. Names are empty until the user has allowed one. @returns {Promise<MediaDeviceInfo[]>} */
export async function listMicrophones() {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  return devices.filter((device) => device.kind === "audioinput" && device.deviceId !== "");
}

/**
 * The phase that says why listening could not begin.
 *
 * @param {unknown} error what `Microphone.open` threw
 * @returns {"denied" | "no_device" | "device_busy" | "lost"}
 */
export function reasonOf(error) {
  if (error instanceof WorkletMissing) return "lost";
  const name = error instanceof Error || error instanceof DOMException ? error.name : "";
  if (name === "NotAllowedError" || name === "SecurityError") return "denied";
  if (name === "NotFoundError" || name === "OverconstrainedError") return "no_device";
  return "device_busy";
}

/** The server did not hand out the worklet: it is gone, not the microphone. */
class WorkletMissing extends Error {}

export class Microphone {
  #context;
  #batcher;
  #events;
  #decimation;
  /** @type {MediaStream | null} */
  #stream = null;
  /** @type {MediaStreamAudioSourceNode | null} */
  #source = null;
  /** @type {Promise<void> | null} */
  #closing = null;
  /** @type {() => void} */
  #handedOver = () => {};
  #batchAt = performance.now();
  #isAsleep = false;
  #looking = 0;
  #wake = () => this.#context.resume().catch(() => {});

  /** @param {AudioContext} context @param {MicrophoneEvents} events */
  constructor(context, events) {
    this.#context = context;
    this.#events = events;
    // Few interfaces run above 48 kHz; averaging neighbours brings them into range without asking the browser for
    // a rate, which Firefox refuses when the device has another.
    this.#decimation = decimationOf(context);
    this.#batcher = new AudioWorkletNode(context, "batcher", { channelCount: 1, channelCountMode: "explicit" });
    this.#batcher.port.onmessage = ({ data }) => (data ? this.#received(data) : this.#handedOver());
    // A node that leads nowhere is not run by every browser; its output is silence.
    this.#batcher.connect(context.destination);
    context.onstatechange = () => {
      if (context.state !== "running" && !this.#closing) this.#wake();
    };
  }

  /**
   * Ask for a microphone and start listening. Throws what `getUserMedia` throws, and more; see `reasonOf`.
   *
   * @param {MicrophoneChoice} choice
   * @param {MicrophoneEvents} events
   * @param {number} [rate_hz] of a session that goes on; else as the machine has it
   */
  static async open(choice, events, rate_hz) {
    const stream = await openStream(choice);
    let context = new AudioContext({ latencyHint: "interactive" });
    try {
      if (rate_hz && rateOf(context) !== rate_hz) {
        await context.close();
        context = new AudioContext({ latencyHint: "interactive", sampleRate: rate_hz });
      }
      await context.audioWorklet.addModule(new URL("worklet.js", import.meta.url)).catch((error) => {
        throw new WorkletMissing("The worklet could not be loaded.", { cause: error });
      });
      const microphone = new Microphone(context, events);
      microphone.#listenTo(stream);
      microphone.#looking = setInterval(() => microphone.#look(), LOOK_MS);
      microphone.#wake(); // whether it does is seen by and by
      return microphone;
    } catch (error) {
      release(stream);
      if (context.state !== "closed") await context.close();
      throw error;
    }
  }

  /** Samples a second in the bytes handed out. */
  get rate_hz() {
    return rateOf(this.#context);
  }

  /** What the device in use is called; empty where it has no name. */
  get label() {
    return this.#stream?.getAudioTracks()[0]?.label ?? "";
  }

  /** The device in use; empty if the browser keeps it secret. */
  get deviceId() {
    return this.#stream?.getAudioTracks()[0]?.getSettings().deviceId ?? "";
  }

  /**
   * Listen to another microphone from now on, at the same rate and without a gap in the session. The old one goes on
   * if the new one cannot be opened, and the error is thrown.
   *
   * @param {MicrophoneChoice} choice
   */
  async change(choice) {
    const stream = await openStream(choice);
    if (this.#closing) return release(stream);
    try {
      this.#listenTo(stream);
    } catch (error) {
      release(stream); // Firefox refuses a device whose rate is not the context's
      throw error;
    }
  }

  /**
   * Release the microphone. Resolves once its last sound has been handed out; safe to call twice.
   *
   * @returns {Promise<void>}
   */
  close() {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  /** Hand out all sound so far. Resolves once that is done. @returns {Promise<void>} */
  flush() {
    return this.#handOver("flush");
  }

  async #close() {
    clearInterval(this.#looking);
    this.#sleep(false);
    this.#source?.disconnect();
    release(this.#stream);
    await this.#handOver("end");
    await this.#context.close();
  }

  /** @param {"flush" | "end"} what @returns {Promise<void>} */
  #handOver(what) {
    const before = this.#handedOver;
    return new Promise((resolve) => {
      this.#handedOver = () => {
        before();
        resolve();
      };
      setTimeout(resolve, LAST_BATCH_MS); // a suspended context answers never
      this.#batcher.port.postMessage(what);
    });
  }

  /** @param {MediaStream} stream */
  #listenTo(stream) {
    const source = this.#context.createMediaStreamSource(stream);
    this.#source?.disconnect();
    release(this.#stream);
    source.connect(this.#batcher);
    this.#source = source;
    this.#stream = stream;
    this.#batchAt = performance.now();
    stream.getAudioTracks()[0].onended = () => {
      if (this.#stream !== stream || this.#closing) return;
      // What a source without a track gives is silence, and nobody's.
      source.disconnect();
      this.#source = this.#stream = null;
      this.#sleep(false);
      this.#events.unplugged();
    };
  }

  #look() {
    if (this.#source && performance.now() - this.#batchAt > ASLEEP_MS) this.#sleep(true);
  }

  /** Nearly all that puts sound to sleep is undone by a click, and by nothing else. @param {boolean} isAsleep */
  #sleep(isAsleep) {
    if (isAsleep === this.#isAsleep) return;
    this.#isAsleep = isAsleep;
    for (const waker of WAKERS) {
      if (isAsleep) addEventListener(waker, this.#wake, { capture: true });
      else removeEventListener(waker, this.#wake, { capture: true });
    }
    this.#events.slept(isAsleep);
  }

  /** @param {{batch: Float32Array, heardAt: number}} heard */
  #received({ batch, heardAt }) {
    if (batch.length === 0) return;
    this.#batchAt = performance.now();
    this.#sleep(false);
    const samples = decimate(batch, this.#decimation);
    const half = Math.ceil(samples.length / 2);
    this.#events.captured({
      bytes: pcm16(samples),
      duration: samples.length / this.rate_hz,
      levels: [rootMeanSquare(samples.subarray(0, half)), rootMeanSquare(samples.subarray(half))],
      heardAt,
    });
  }
}

/** @param {AudioContext} context */
function decimationOf({ sampleRate }) {
  return Math.ceil(sampleRate / MAX_RATE_HZ);
}

/** Samples a second that a microphone in this context hands out. @param {AudioContext} context */
function rateOf(context) {
  return context.sampleRate / decimationOf(context);
}

/**
 * Noise suppression and echo cancellation are off unless asked for: they are made for calls, cut soft consonants and
 * second voices away, and Whisper has learnt from untreated sound. Gain control is on, since people walk away from
 * microphones.
 *
 * @param {MicrophoneChoice} choice
 */
function openStream({ deviceId, noiseSuppression, echoCancellation }) {
  if (!navigator.mediaDevices) throw new DOMException("No microphones here", "SecurityError");
  const device = deviceId ? { deviceId: { exact: deviceId } } : {};
  return navigator.mediaDevices.getUserMedia({
    audio: { ...device, noiseSuppression, echoCancellation, autoGainControl: true },
  });
}

/** @param {MediaStream | null} stream */
function release(stream) {
  for (const track of stream?.getTracks() ?? []) track.stop();
}

/** @param {Float32Array} samples @param {number} factor */
function decimate(samples, factor) {
  if (factor === 1) return samples;
  return Float32Array.from({ length: Math.floor(samples.length / factor) }, (_, at) => {
    let sum = 0;
    for (let k = 0; k < factor; k++) sum += samples[at * factor + k];
    return sum / factor;
  });
}

/** @param {Float32Array} samples -1 to 1 @returns {Uint8Array<ArrayBuffer>} signed 16-bit little-endian */
function pcm16(samples) {
  const bytes = new DataView(new ArrayBuffer(samples.length * 2));
  samples.forEach((sample, at) => {
    const clipped = Math.max(-1, Math.min(1, sample));
    bytes.setInt16(at * 2, Math.round(clipped * 32767), true);
  });
  return new Uint8Array(bytes.buffer);
}

/** @param {Float32Array} samples */
function rootMeanSquare(samples) {
  const energy = samples.reduce((sum, sample) => sum + sample * sample, 0);
  return Math.sqrt(energy / Math.max(1, samples.length));
}
