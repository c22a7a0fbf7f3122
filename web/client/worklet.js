/** Runs on the audio thread and only batches: whatever it did beyond that could make the sound stutter. */

/** Seconds of sound in one batch: ten messages a second are cheap, and add little to the captions' delay. */
const BATCH = 0.1;

class Batcher extends AudioWorkletProcessor {
  #batch = new Float32Array(Math.round(sampleRate * BATCH));
  #filled_samples = 0;
  #ended = false;

  constructor() {
    super();
    // A message asks to hand over what there is, "end" to end then; `null` says that this was done.
    this.port.onmessage = ({ data }) => {
      this.#handOver();
      this.port.postMessage(null);
      this.#ended ||= data === "end";
    };
  }

  /** @param {Float32Array[][]} inputs */
  process(inputs) {
    const channel = inputs[0]?.[0];
    for (let at = 0; channel && at < channel.length; ) {
      const taken = channel.subarray(at, at + this.#batch.length - this.#filled_samples);
      this.#batch.set(taken, this.#filled_samples);
      this.#filled_samples += taken.length;
      at += taken.length;
      if (this.#filled_samples === this.#batch.length) this.#handOver();
    }
    return !this.#ended;
  }

  #handOver() {
    const batch = this.#batch.slice(0, this.#filled_samples);
    // The clock is looked at here: the page may be busy when it gets the sound.
    this.port.postMessage({ batch, heardAt: Date.now() }, [batch.buffer]);
    this.#filled_samples = 0;
  }
}

registerProcessor("batcher", Batcher);
