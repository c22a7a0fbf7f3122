/**
 * The token of a server that asks for one. It comes in the address, as `/#token=…` (a part that browsers keep to
 * themselves), and is remembered until the tab is closed.
 */

const KEY = "live-asr.token";

/** Take the token out of the address, where one would otherwise see it on stage. */
export function takeToken() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!token) return;
  sessionStorage.setItem(KEY, token);
  history.replaceState(null, "", location.pathname + location.search);
}

/** The subprotocols that present the token to a WebSocket; none without a token. @returns {string[]} */
export function subprotocols() {
  const token = sessionStorage.getItem(KEY);
  return token ? ["live-asr.v1", `bearer.${token}`] : [];
}

/** The header that presents the token to a plain request; none without a token. @returns {Record<string, string>} */
export function authorization() {
  const token = sessionStorage.getItem(KEY);
  return token ? { authorization: `Bearer ${token}` } : {};
}
