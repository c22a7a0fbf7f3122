"""The page in each of its languages: the tables agree, nothing English is left, all of it has room."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from visiting import CUT_OFF, WORKING, OpenPage

from tests.started import Server

pytest_plugins = ["browsers"]

TONGUES = ["de", "es", "fr", "vi"]
PHONE = {"width": 320, "height": 568}
LOST = ("Failed to load resource",)

SHAPE = """async (tongues) => {
    const shape = (value, name = "") => value && typeof value === "object"
        ? Object.keys(value).sort().flatMap((key) => shape(value[key], `${name}.${key}`))
        : [`${name}: ${typeof value}${typeof value === "function" ? ` of ${value.length}` : ""}`];
    const shapes = {};
    for (const tongue of tongues) shapes[tongue] = shape((await import(`/web/words/${tongue}.js`)).default);
    return shapes;
}"""
"""By language: what the table has, and of what kind."""

PLAIN = "async (tongue) => JSON.stringify((await import(`/web/words/${tongue}.js`)).default)"
"""A table without its functions."""

READ = """() => {
    const texts = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        if (!walker.currentNode.parentElement.closest("noscript, kbd, #language, #tongue, #entries")) {
            texts.push(walker.currentNode.data);
        }
    }
    for (const name of ["title", "aria-label", "placeholder", "alt"]) {
        for (const element of document.querySelectorAll(`[${name}]`)) texts.push(element.getAttribute(name));
    }
    return [document.title, ...texts].map((text) => text.trim()).filter((text) => /\\p{L}{2}/u.test(text));
}"""
"""All that can be read or heard, shown or not, but what was said in sessions."""

PAGES = {
    "/": "#language option:nth-child(9)",
    "/watch/abc": "[data-line=unknown] #hero-detail:not(:empty)",
    "/past?session=abc": "#message:not(:empty)",
    "/web/look.html": "#look-font",
}
"""Pages, and what each has once it is all there."""

SAME_EVERYWHERE = {"live-asr", "Aa", "SRT", "serif", "sans-serif", "monospace", "system-ui", "ui-rounded"} | {
    f".{extension}" for extension in ("txt", "docx", "vtt", "srt", "json", "rttm")
}


@pytest.fixture(scope="module")
def browser(launch_browser) -> Browser:  # type: ignore[no-untyped-def]
    return launch_browser()  # type: ignore[no-any-return]


def strings(table: Any) -> list[str]:
    if isinstance(table, str):
        return [table.strip()]
    return [text for part in (table.values() if isinstance(table, dict) else table) for text in strings(part)]


def table(page: Page, tongue: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(page.evaluate(PLAIN, tongue))
    return read


def address(server: Server, path: str, tongue: str) -> str:
    return f"{server.url}{path}{'&' if '?' in path else '?'}lang={tongue}"


def test_every_table_has_the_same_entries_as_the_english_one(
    browser: Browser, server: Server, visit: OpenPage
) -> None:
    shapes = visit(browser, server.url).page.evaluate(SHAPE, ["en", *TONGUES])
    assert len(shapes["en"]) > 300
    for tongue in TONGUES:
        assert shapes[tongue] == shapes["en"]


@pytest.mark.parametrize("tongue", TONGUES)
def test_nothing_english_is_left_over_and_the_smallest_screen_has_room(
    browser: Browser, server: Server, visit: OpenPage, tongue: str
) -> None:
    opened = visit(browser, "about:blank", tolerated=LOST, viewport=PHONE)
    page = opened.page
    for path, there in PAGES.items():
        page.goto(address(server, path, "en"))
        expect(page.locator(there)).to_be_attached(timeout=WORKING)
        english = set(page.evaluate(READ))
        page.goto(address(server, path, tongue))
        expect(page.locator(there)).to_be_attached(timeout=WORKING)
        expect(page.locator("html")).to_have_attribute("lang", tongue)
        both = set(strings(table(page, "en"))) & set(strings(table(page, tongue)))
        assert english & set(page.evaluate(READ)) - both - SAME_EVERYWHERE == set()
        assert page.evaluate(CUT_OFF) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        opened.photograph(f"language-{tongue}-{path.split('?')[0].strip('/').replace('/', '-') or 'main'}")
        if path == "/":
            page.locator("#settings-open").click()
            expect(page.locator("#settings")).to_be_visible()
            opened.photograph(f"language-{tongue}-settings")
            assert page.evaluate(CUT_OFF) == []


def test_the_readers_language_is_taken_and_another_can_be_chosen_and_is_remembered(
    browser: Browser, server: Server, visit: OpenPage
) -> None:
    page = visit(browser, server.url, locale="de-AT").page
    html = page.locator("html")
    expect(page.locator("#start-label")).to_have_text("Start")
    expect(html).to_have_attribute("lang", "de")
    page.goto(f"{server.url}/?lang=fr")
    expect(page.locator("#start-label")).to_have_text("Démarrer")
    page.locator("#settings-open").click()
    page.locator("#tongue").select_option("vi")
    expect(page.locator("#start-label")).to_have_text("Bắt đầu")
    assert page.url == f"{server.url}/"
    page.goto(f"{server.url}/past")
    expect(page.locator("h1")).to_have_text("Các phiên trước")
    page.goto(server.url)
    expect(html).to_have_attribute("lang", "vi")
    page.locator("#settings-open").click()
    page.locator("#tongue").select_option("")
    expect(html).to_have_attribute("lang", "de")


TRANSLATED = [
    "start anew",
    "counts from the next start",
    "cancel echo of these",
    "done, in part",
    "is another one meant",
    "browsers lend",
    "takes no captions from this address",
    "tell who runs it",
]
"""What no native eye lets pass."""

SAID = """async () => {
    const said = (value) => typeof value === "function"
        ? [value(...Array(value.length).fill(2))]
        : value && typeof value === "object" ? Object.values(value).flatMap(said) : [String(value)];
    return said((await import("/web/words/en.js")).default);
}"""
"""All that the English table says."""


def test_english_is_not_a_translation(browser: Browser, server: Server, visit: OpenPage) -> None:
    page = visit(browser, "about:blank", tolerated=LOST).page
    read: list[str] = []
    for path, there in PAGES.items():
        page.goto(address(server, path, "en"))
        expect(page.locator(there)).to_be_attached(timeout=WORKING)
        read += page.evaluate(READ)
    read += page.evaluate(SAID)
    assert any("by 2 speakers" in text for text in read)
    assert [text for text in read if any(phrase in text.lower() for phrase in TRANSLATED)] == []
    assert "Over" not in read


@pytest.mark.parametrize("asked", ["sv", "", "__proto__"])
def test_where_no_table_is_asked_for_it_is_english(
    browser: Browser, server: Server, visit: OpenPage, asked: str
) -> None:
    page = visit(browser, f"{server.url}/?lang={asked}", locale="sv-SE").page
    expect(page.locator("#hero-title")).to_have_text("Speak, and read along")
    expect(page.locator("html")).to_have_attribute("lang", "en")


def test_numbers_plurals_and_names_are_written_in_the_pages_language(
    browser: Browser, server: Server, visit: OpenPage
) -> None:
    said = """async () => {
        const { amount, percent } = await import("/web/state/words.js");
        const { PAST, STATUS } = (await import("/web/state/locale.js")).words;
        const { shownName } = await import("/web/state/speakers.js");
        const { nameOf } = await import("/web/state/languages.js");
        return [amount(5.25), amount(75), percent(0.299), PAST.speakers(1), PAST.speakers(2),
            STATUS.summary(1, "1", 1, "0:01"),
            shownName("SPEAKER_01", { names: {}, speakers: [] }), nameOf("it")];
    }"""
    page = visit(browser, f"{server.url}/?lang=en").page
    assert page.evaluate(said) == [
        *("5.3 s", "1 min 15 s", "29%", "1 speaker", "2 speakers", "1 word in 0:01.", "Speaker 2", "Italian")
    ]
    page.goto(f"{server.url}/?lang=de")
    assert page.evaluate(said) == [
        *("5,3 s", "1 min 15 s", "29\u00a0%", "1 Person", "2 Personen", "1 Wort in 0:01.", "Person 2"),
        "Italienisch",
    ]
