"""The suite `page`: what an update of the captions costs a browser, a minute and an hour into a talk.

The page's own code runs in Chromium on a screen of a phone's size, with messages as a server sends them: no
server, no model. Times are those of reducing and rendering, layout included.
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, CDPSession, Page, Route, sync_playwright

from benchmarks.options import Options
from benchmarks.processes import ServerFailedError
from benchmarks.report import Row, Table, fact, limit

WEB = Path(__file__).resolve().parent.parent / "web"
ORIGIN = "http://page.localhost"
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
PHONE = {"width": 390, "height": 844}
FEW_WORDS, MANY_WORDS = 100, 10_000
"""The second is an hour of speech."""
UTTERANCE_WORDS = {"utterances of 15 words": 15, "one utterance without a pause": MANY_WORDS}
UPDATES = 100
ROUNDS = 3
MAX_RATIO = 1.5
MAX_SCRIPT_MS = 16.0

SETUP = """async () => {
    const [{ View }, { initialState, reduce }, { rememberedChoices }] =
        await Promise.all(["view", "state", "choices"].map((name) => import(`/web/${name}.js`)));
    const view = new View({ dismissed() {}, named() {} });
    const choices = { ...rememberedChoices(), announce: true };
    let state = initialState(), now = 0, count = 0, utterance = 0;
    const say = (message) => { state = reduce(state, message); };
    say({ type: "page.permission_asked" });
    say({ type: "page.microphone_opened" });
    say({ type: "ready", session: "abc", max_unacked_bytes: 1, received_bytes: 0 });
    const VOCABULARY = ["twice", "a", "day", "the", "sea", "comes", "up"];
    const word = () => ({
        text: ` ${VOCABULARY[count % VOCABULARY.length]}${count % 20 === 19 ? "." : ""}`,
        start: now, end: now += 0.36, probability: 0.9, speaker: null,
    });
    // As a server sends it: a tail, then two of its words for good, now and then a label and an end.
    window.update = (length) => {
        const words = [word(), word()];
        say({ type: "partial", text: "", words: [...words, { ...words[1], text: " again" }] });
        view.render(state, choices);
        say({ type: "commit", seq: 1, utterance, words });
        count += 2;
        if (count % 14 === 0) say({ type: "label", from: now - 5, to: now, speaker: "S1" });
        if (count % length < 2) {
            say({ type: "utterance", utterance, language: "en", speaker: "S1" });
            utterance++;
        }
        view.render(state, choices);
    };
    window.grow = (until, length) => { while (count < until) window.update(length); };
    window.measure = (updates, length) => {
        const began = performance.now();
        for (let done = 0; done < updates; done++) window.update(length);
        return (performance.now() - began) / updates;
    };
}"""


def serve_files(page: Page) -> None:
    """Answer the page's requests with its files, as they are in this checkout."""

    def answer(route: Route) -> None:
        path = re.sub(rf"^{ORIGIN}/(web/)?|[?#].*$", "", route.request.url) or "index.html"
        file = WEB / path
        if file.is_file():
            route.fulfill(body=file.read_bytes(), content_type=TYPES[file.suffix])
        else:
            route.fulfill(status=404)

    page.route(f"{ORIGIN}/**", answer)


class Talk:
    """A page that follows a talk of made-up words."""

    def __init__(self, browser: Browser, utterance_words: int, words: int) -> None:
        self._length = utterance_words
        self._page = browser.new_context(viewport=PHONE, device_scale_factor=2).new_page()
        serve_files(self._page)
        self._page.goto(ORIGIN)
        self._devtools: CDPSession = self._page.context.new_cdp_session(self._page)
        self._devtools.send("Performance.enable")
        self._page.evaluate(SETUP)
        self._page.evaluate("([until, length]) => grow(until, length)", [words, utterance_words])

    def cost(self) -> tuple[float, float]:
        """Return milliseconds of script, and of everything with the layout, that an update takes."""
        before = self.metric("LayoutDuration") + self.metric("RecalcStyleDuration")
        whole_ms = float(
            self._page.evaluate("([updates, length]) => measure(updates, length)", [UPDATES, self._length])
        )
        after = self.metric("LayoutDuration") + self.metric("RecalcStyleDuration")
        return whole_ms - 1000 * (after - before) / UPDATES, whole_ms

    def metric(self, name: str) -> float:
        """Return one of the browser's own figures of the page."""
        found = self._devtools.send("Performance.getMetrics")["metrics"]
        return float(next(one["value"] for one in found if one["name"] == name))

    def heap_bytes(self) -> float:
        """Return what the page's objects take once what is not needed has been thrown away."""
        self._devtools.send("HeapProfiler.collectGarbage")
        return self.metric("JSHeapUsedSize")


def rows_of(browser: Browser, kind: str, utterance_words: int) -> tuple[list[Row], dict[str, Any]]:
    """Measure a talk that has just begun beside one that has gone on for an hour."""
    talks = [Talk(browser, utterance_words, words) for words in (FEW_WORDS, MANY_WORDS)]
    heaps = [talk.heap_bytes() for talk in talks]
    nodes = [talk.metric("Nodes") for talk in talks]
    costs: list[list[tuple[float, float]]] = [[], []]
    for _ in range(ROUNDS):  # in turn: what else the machine does counts for both
        for talk, cost in zip(talks, costs, strict=True):
            cost.append(talk.cost())
    few, many = ([statistics.median(part) for part in zip(*cost, strict=True)] for cost in costs)
    rows = [
        limit(
            f"{kind}: script of an update after {MANY_WORDS} words, over that after {FEW_WORDS}",
            many[0] / few[0],
            MAX_RATIO,
        ),
        limit(f"{kind}: script of an update after {MANY_WORDS} words", many[0], MAX_SCRIPT_MS, "ms"),
        fact(
            f"{kind}: an update with its layout, after {FEW_WORDS} / {MANY_WORDS} words",
            f"{few[1]:.2f} / {many[1]:.2f} ms",
        ),
        fact(f"{kind}: memory for each word, objects", f"{(heaps[1] - heaps[0]) / MANY_WORDS:.0f} bytes"),
        fact(f"{kind}: nodes of the document for each word", f"{(nodes[1] - nodes[0]) / MANY_WORDS:.2f}"),
    ]
    return rows, {kind: {"costs_ms": costs, "heap_bytes": heaps, "nodes": nodes}}


def run(_: Options, __: argparse.Namespace) -> tuple[list[Table], dict[str, Any]]:
    """Run the suite; return its table and the numbers behind it."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise ServerFailedError("No Chromium on this machine: install it.")
    rows: list[Row] = []
    numbers: dict[str, Any] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for kind, utterance_words in UTTERANCE_WORDS.items():
            found, behind = rows_of(browser, kind, utterance_words)
            rows += found
            numbers |= behind
        browser.close()
    return [Table("page", rows, [f"Medians of {ROUNDS} times {UPDATES} updates."])], numbers
