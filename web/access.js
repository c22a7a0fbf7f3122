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

/**
 * Save what a link leads to, presenting the token; a plain click on the link could not.
 *
 * @param {MouseEvent} event a click on a link with `download`
 */
export async function saveWithToken(event) {
  const token = sessionStorage.getItem(KEY);
  const link = event.target instanceof Element ? event.target.closest("a") : null;
  if (!token || !link || link.href.startsWith("blob:")) return;
  event.preventDefault();
  const response = await fetch(link.href, { headers: { authorization: `Bearer ${token}` } });
  const copy = document.createElement("a");
  copy.href = URL.createObjectURL(await response.blob());
  copy.download = link.download;
  copy.click();
  URL.revokeObjectURL(copy.href);
}
