/** The page of past sessions: the list, and the one that is open, which its address names. */

import { takeToken } from "../client/access.js";
import { FORMATS, PAST_PAGE } from "../state/words.js";
import { find } from "./elements.js";
import { History } from "./history.js";
import { label } from "./labels.js";
import { Opened } from "./opened.js";

const list = new History();
const opened = new Opened({
  changed: () => list.refresh(),
  erased: () => {
    go("");
    list.refresh();
  },
});

function show() {
  const session = new URLSearchParams(location.search).get("session") ?? "";
  document.body.classList.toggle("is-open", session !== "");
  list.show(session);
  if (!session) document.title = TITLE;
  return opened.open(session);
}

/** @param {string} session */
function go(session) {
  history.pushState(null, "", session ? `past?session=${encodeURIComponent(session)}` : "past");
  show();
}

/** Follow links to sessions without loading the page again. @param {MouseEvent} event */
function clicked(event) {
  const link = event.target instanceof Element ? event.target.closest("a.entry, a.back") : null;
  if (!link || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  go(/** @type {HTMLElement} */ (link).dataset.session ?? "");
  find(link.matches(".back") ? "search" : "title").focus({ preventScroll: true });
}

const TITLE = (document.title = `${PAST_PAGE.title} · live-asr`);
label({ ...FORMATS, ...PAST_PAGE });
takeToken();
document.addEventListener("click", clicked);
addEventListener("popstate", show);
list.refresh();
show();
