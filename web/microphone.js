/** The microphone: opening, changing, releasing it, and turning its sound into what goes on the wire. */

/** The highest rate that the protocol takes. */
const MAX_RATE_HZ = 48_000;
/** How long to wait for the last batch when the microphone is released. */
const LAST_BATCH_MS = 300;

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
 *
 * @typedef {object} MicrophoneEvents
 * @property {(sound: Sound) => void} captured
 * @property {() => void} unplugged
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

  /** @param {AudioContext} context @param {MicrophoneEvents} events */
  constructor(context, events) {
    this.#context = context;
    this.#events = events;
    // Few interfaces run above 48 kHz; averaging neighbours brings them into range without asking the browser for
    // a rate, which Firefox refuses when the device has another.
    this.#decimation = Math.ceil(context.sampleRate / MAX_RATE_HZ);
    this.#batcher = new AudioWorkletNode(context, "batcher", { channelCount: 1, channelCountMode: "explicit" });
    this.#batcher.port.onmessage = ({ data }) => this.#received(data);
    // A node that leads nowhere is not run by every browser; its output is silence.
    this.#batcher.connect(context.destination);
    context.onstatechange = () => {
      if (context.state !== "running" && !this.#closing) context.resume().catch(() => {});
    };
  }

  /**
   * Ask for a microphone and start listening. Throws what `getUserMedia` throws, and more; see `reasonOf`.
   *
   * @param {MicrophoneChoice} choice
   * @param {MicrophoneEvents} events
   */
  static async open(choice, events) {
    const stream = await openStream(choice);
    const context = new AudioContext({ latencyHint: "interactive" });
    try {
      await context.audioWorklet.addModule(new URL("worklet.js", import.meta.url)).catch((error) => {
        throw new WorkletMissing("The worklet could not be loaded.", { cause: error });
      });
      const microphone = new Microphone(context, events);
      microphone.#listenTo(stream);
      await context.resume();
      return microphone;
    } catch (error) {
      release(stream);
      await context.close();
      throw error;
    }
  }

  /** Samples a second in the bytes handed out. */
  get rate_hz() {
    return this.#context.sampleRate / this.#decimation;
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
    stream.getAudioTracks()[0].onended = () => {
      if (this.#stream === stream && !this.#closing) this.#events.unplugged();
    };
  }

  /** @param {Float32Array | null} batch */
  #received(batch) {
    if (batch === null) return this.#handedOver();
    if (batch.length === 0) return;
    const samples = decimate(batch, this.#decimation);
    const half = Math.ceil(samples.length / 2);
    this.#events.captured({
      bytes: pcm16(samples),
      duration: samples.length / this.rate_hz,
      levels: [rootMeanSquare(samples.subarray(0, half)), rootMeanSquare(samples.subarray(half))],
    });
  }
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
