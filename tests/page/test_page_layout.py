"""What an update may touch: no word that is read moves, and an hour costs what a minute does."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from presenting import Feed, said, suggested
from scripted_server import ScriptedServer
from visiting import READY, OpenPage

from tests.started import Server

pytest_plugins = ["browsers"]

HEAVIEST_BYTES = 118_000
"""The page may weigh 120 kB compressed; the rest is for words that come."""
MAIN_PAGES = [f"/?lang={tongue}" for tongue in ("en", "de", "es", "fr", "vi")]

LINES = """(container) => {
    const lines = [];
    for (const text of document.querySelectorAll(`${container} .text`)) {
        const tops = [];
        for (const span of text.querySelectorAll(".committed")) {
            for (const { index, 0: word } of span.textContent.matchAll(/\\S+/g)) {
                const range = document.createRange();
                range.setStart(span.firstChild, index);
                range.setEnd(span.firstChild, index + word.length);
                const { top, left } = range.getBoundingClientRect();
                tops.push([word, Math.round(top - text.getClientRects()[0].top), Math.round(left)]);
            }
        }
        lines.push(...tops);
    }
    return lines;
}"""
"""Each committed word with where it stands in its paragraph."""

ENGLISH = "Twice a day the sea comes up the river and twice a day it goes back again"
HEBREW = "פעמיים ביום הים עולה במעלה הנהר ופעמיים ביום הוא חוזר"
TAILS = [
    "and",
    "and for most of history",
    "and for most of history nobody could say why it was, though all of them had seen it",
    "an incomprehensibilities",
    "",
]


@pytest.mark.parametrize(("width", "direction"), [(390, "ltr"), (1280, "ltr"), (390, "rtl")])
def test_no_committed_word_moves_to_another_line_while_the_tail_changes(
    silent_browser: Browser, server: Server, visit: OpenPage, width: int, direction: str
) -> None:
    words = (ENGLISH if direction == "ltr" else HEBREW).split()
    opened = visit(silent_browser, server.url, viewport={"width": width, "height": 700})
    scripted = ScriptedServer(opened)
    scripted.open()
    for at in range(0, len(words), 3):
        scripted.commit(0, " ".join(words[at : at + 3]), start=at)
        for container in ("#transcript", "#stage-lines"):
            expect(opened.page.locator(f"{container} .committed").last).to_contain_text(words[at])
        opened.page.evaluate("document.getElementById('stage').hidden = false")
        for container in ("#transcript", "#stage-lines"):
            before = opened.page.evaluate(LINES, container)
            assert len(before) >= min(len(words), at + 3)
            for tail in TAILS:
                scripted.suggest(tail, at + 3) if tail else scripted.say(
                    type="partial", text="", words=[], start=at + 3, end=at + 3
                )
                expect(opened.page.locator(f"{container} .tail")).to_have_text(tail)
                assert opened.page.evaluate(LINES, container) == before
        opened.page.evaluate("document.getElementById('stage').hidden = true")


@pytest.mark.parametrize("page", ["watch/abc", "overlay/abc", "overlay/abc?align=start", "watch/abc?stage=1"])
def test_nor_does_it_for_the_audience(
    launch_browser: Any, server: Server, visit: OpenPage, page: str
) -> None:
    opened = visit(launch_browser(), "about:blank", tolerated=("Failed to load resource",))
    feed = Feed(opened)
    feed.say(said(0, None, " ".join(ENGLISH.split()[:10])))
    opened.page.goto(f"{server.url}/{page}")
    container = "#stage-lines" if "stage" in page else "#transcript"
    expect(opened.page.locator(f"{container} .committed")).to_contain_text(ENGLISH.split()[9])

    def lines() -> list[tuple[str, int]]:
        return [(word, top) for word, top, _ in opened.page.evaluate(LINES, container)]

    before = lines()
    for tail in [tail for tail in TAILS if tail]:
        feed.say(suggested(tail, 11))
        expect(opened.page.locator(f"{container} .tail")).to_have_text(tail, timeout=30_000)
        assert lines() == before


# An hour ----------------------------------------------------------------------------------------------

GROW = """async ([count, length]) => {
    const [{ Captions }, { initialState, reduce }] =
        await Promise.all(["views/captions", "state/state"].map((name) => import(`/web/${name}.js`)));
    const container = document.getElementById("transcript");
    const captions = new Captions(container, { isNameable: true });
    let state = { ...initialState(), phase: "live" }, now = 0, number = 0, spoken = 0, looks = 0;
    const word = () => {
        const own = { text: ` word${spoken++ % 20 ? "" : "."}`, start: now, end: now += 0.36, speaker: null };
        const counted = {};
        for (const [name, value] of Object.entries(own)) {
            Object.defineProperty(counted, name, { enumerable: true, get: () => (looks++, value) });
        }
        return counted;
    };
    const update = () => {
        const words = [word(), word()];
        const tail = { type: "partial", words: [...words, { ...words[1], text: " again" }] };
        captions.render(state = reduce(state, tail));
        captions.render(state = reduce(state, { type: "commit", utterance: number, words }));
        captions.render(state = reduce(state, { type: "label", from: now - 4, to: now, speaker: "S1" }));
        if (spoken % length < 2) {
            state = reduce(state, { type: "utterance", utterance: number++, language: "en", speaker: "S1" });
            captions.render(state);
        }
    };
    while (spoken < count) update();
    const observer = new MutationObserver(() => {});
    observer.observe(container, { subtree: true, childList: true, characterData: true, attributes: true });
    looks = 0;
    for (let n = 0; n < 75; n++) update();
    const records = observer.takeRecords();
    const nodesOf = ({ addedNodes, removedNodes }) => 1 + addedNodes.length + removedNodes.length;
    const result = { looks, touched: records.map(nodesOf).reduce((sum, one) => sum + one, 0) };
    captions.render(initialState());
    return result;
}"""
"""How often words are looked at, and nodes touched, by the updates that follow this many words."""


@pytest.fixture(scope="module")
def page(launch_browser: Any, server: Server) -> Page:
    opened: Page = launch_browser().new_page(viewport={"width": 390, "height": 844})
    opened.goto(server.url)
    return opened


@pytest.mark.parametrize("length", [15, 1_000_000], ids=["utterances", "no-pause"])
def test_an_update_an_hour_into_a_talk_looks_at_and_touches_as_little_as_in_the_first_minute(
    page: Page, length: int
) -> None:
    few, many = (page.evaluate(GROW, [count, length]) for count in (150, 10_050))
    assert many["touched"] <= 1.5 * few["touched"]
    assert many["looks"] <= 1.5 * few["looks"]


def test_who_talks_for_minutes_without_a_pause_gets_paragraphs_and_no_word_is_lost(page: Page) -> None:
    said = page.evaluate(
        """async () => {
            const { initialState, reduce, plainText } = await import("/web/state/state.js");
            let state = initialState();
            for (let at = 0; at < 500; at += 2) {
                const textOf = (n) => ` ${n}${n % 10 === 9 ? "." : ""}`;
                const words = [at, at + 1].map((n) => ({ text: textOf(n), start: n, end: n + 1 }));
                state = reduce(state, { type: "commit", utterance: 0, words });
            }
            state = reduce(state, { type: "utterance", utterance: 0, language: "en", speaker: "S1" });
            const parts = state.utterances.map(({ words, complete }) => [words.length, complete]);
            return [plainText(state), parts];
        }"""
    )
    text, parts = said
    assert [int(word.strip(".")) for word in text.replace("Speaker 1:", "").split()] == list(range(500))
    assert all(complete for _, complete in parts)
    assert max(length for length, _ in parts) <= 72
    assert min(length for length, _ in parts[:-1]) >= 60


# Weight -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", [*MAIN_PAGES, "/watch/abc?lang=fr", "/web/look.html?lang=fr", "/past?lang=fr"]
)
def test_a_page_weighs_little_and_comes_compressed(
    launch_browser: Any, server: Server, visit: OpenPage, path: str
) -> None:
    opened = visit(launch_browser(), "about:blank", tolerated=("Failed to load resource",))
    responses: list[Any] = []
    opened.page.on("response", lambda response: responses.append(response))
    opened.page.goto(server.url + path)
    opened.page.wait_for_function(READY)
    opened.page.wait_for_load_state("networkidle")
    files = [one for one in responses if one.ok and "/v1/" not in one.url]
    assert len(files) > 10
    assert sum(len(gzip.compress(one.body())) for one in files) <= HEAVIEST_BYTES
    scripts = [one for one in files if one.url.endswith((".js", ".css")) and len(one.body()) > 1_000]
    assert {one.header_value("content-encoding") for one in scripts} == {"gzip"}
