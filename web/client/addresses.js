/** Where the server's own addresses begin: at the root of its host, or below the path that a proxy serves it under. */

const ROOT = new URL("../../", import.meta.url);

/**
 * The whole address of one of the server's paths, such as `/v1/sessions`. One that the server gave, or that is whole
 * already, may be handed over as well.
 *
 * @param {string} path
 */
export function at(path) {
  const isBelow = path.startsWith("/") && !path.startsWith(ROOT.pathname);
  return new URL(isBelow ? path.slice(1) : path, ROOT).href;
}

/** The same for a WebSocket. @param {string} path */
export function socketAt(path) {
  return at(path).replace(/^http/, "ws");
}

/**
 * Where a session goes on: at the server that its own names, unless others could listen there.
 *
 * @param {string | undefined} resumeUrl of `ready`
 */
export function streamAt(resumeUrl) {
  const own = socketAt("/v1/stream");
  if (!resumeUrl) return own;
  const other = `${resumeUrl.replace(/^http/, "ws").replace(/\/$/, "")}/v1/stream`;
  return own.startsWith("wss:") && !other.startsWith("wss:") ? own : other;
}

/** The path of this page below the server's root, such as `/watch/ID`. */
export function here() {
  return location.pathname.startsWith(ROOT.pathname) ? `/${location.pathname.slice(ROOT.pathname.length)}` : location.pathname;
}
