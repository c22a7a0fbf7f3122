/** The result of a session that is over, asked of the server over the session's own socket: it is waited for there. */

import { subprotocols } from "./access.js";
import { socketAt } from "./addresses.js";

/** How long the server may say nothing at all. A full pass that waits for its turn tells of that meanwhile. */
const SILENCE_MS = 60_000;

/**
 * What the full pass made of a session; null where the server has the session no more, or cannot be reached.
 *
 * @param {{session: string, token: string}} part
 * @returns {Promise<import("./messages.js").Final | null>}
 */
export function resultOf({ session, token }) {
  return new Promise((resolve) => {
    const socket = new WebSocket(socketAt("/v1/stream"), subprotocols());
    let timer = 0;
    /** @param {import("./messages.js").Final | null} final */
    const settle = (final) => {
      clearTimeout(timer);
      socket.onclose = socket.onmessage = null;
      socket.close();
      resolve(final);
    };
    const wait = () => {
      clearTimeout(timer);
      timer = setTimeout(settle, SILENCE_MS, null);
    };
    socket.onopen = () => socket.send(JSON.stringify({ type: "start", resume: { session, token, last_seq: 0 } }));
    socket.onmessage = ({ data }) => {
      wait();
      const message = JSON.parse(data);
      if (message.type === "final") settle(message);
    };
    socket.onclose = () => settle(null);
    wait();
  });
}
