/** A recorded file as the source of sound: sent as it is, as fast as the server can work. */

/** @typedef {import("./connection.js").Connection} Connection */

/** Bytes read at a time: a recording of hours never has to fit into memory. */
const SLICE_BYTES = 256 * 1024;

/**
 * Send the whole file, then say that no more follows. Resolves early, without saying so, once `signal` is aborted.
 * Throws a `DOMException` where the file cannot be read any more.
 *
 * @param {File} file
 * @param {Connection} connection
 * @param {AbortSignal} signal
 */
export async function replay(file, connection, signal) {
  for (let from = 0; from < file.size; from += SLICE_BYTES) {
    const slice = await file.slice(from, from + SLICE_BYTES).arrayBuffer();
    if (signal.aborted) return;
    connection.send(new Uint8Array(slice));
    await connection.sent();
    if (signal.aborted) return;
  }
  connection.stop();
}
