"""Overlay and stage: when they are cleared, how their links make them look, and the editor of such links."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from presenting import OVER, Feed, said, suggested
from scripted_server import ScriptedServer
from visiting import OpenPage, Visit

from tests.started import Server

pytest_plugins = ["browsers"]

LOST = ("Failed to load resource",)
FIRST, SECOND = "And nobody could say why", "Twice a day the sea comes up"


@pytest.fixture(scope="module")
def browser(launch_browser) -> Browser:  # type: ignore[no-untyped-def]
    return launch_browser()  # type: ignore[no-any-return]


def watched(browser: Browser, visit: OpenPage, address: str, *messages: dict[str, Any]) -> tuple[Visit, Feed]:
    """Open a page of the session `abc` whose clock stands still, and wait until it has been told all this."""
    opened = visit(browser, "about:blank", tolerated=LOST)
    opened.page.clock.install(time=0)
    opened.page.clock.pause_at(1_000)
    feed = Feed(opened)
    feed.say(*messages)
    opened.page.goto(address)
    return opened, feed


def pass_until(page: Page, condition: str) -> None:
    """Let the page's time go on until this JavaScript function returns something true."""
    while not page.evaluate(condition):
        page.clock.run_for(50)


TEXT = "document.querySelector('#transcript, #stage-lines').textContent"
SHOWS = "(() => [...document.querySelectorAll('.text')].some((line) => line.textContent.trim()))()"


@pytest.mark.parametrize("end", [[], OVER], ids=["silence", "end"])
@pytest.mark.parametrize("page", ["overlay/abc", "watch/abc?overlay=1", "watch/abc?stage=1&clear=8"])
def test_the_lines_are_gone_eight_seconds_after_the_last_word(
    browser: Browser, server: Server, visit: OpenPage, page: str, end: list[dict[str, Any]]
) -> None:
    opened, _ = watched(
        browser, visit, f"{server.url}/{page}", said(0, None, FIRST), said(1, None, SECOND), *end
    )
    pass_until(opened.page, SHOWS)
    lines = opened.page.locator(".text")
    opened.page.clock.run_for(7_000)
    expect(lines.last).to_contain_text(SECOND)
    opened.page.clock.run_for(2_000)
    expect(lines).to_have_count(0)


def test_a_tail_that_is_never_confirmed_is_cleared_too(
    browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened, _ = watched(browser, visit, f"{server.url}/overlay/abc", suggested("and it goes", 3))
    pass_until(opened.page, SHOWS)
    opened.page.clock.run_for(9_000)
    expect(opened.page.locator(".text")).to_have_count(0)


@pytest.mark.parametrize(
    ("clear", "after_ms", "count"), [("0", 3_600_000, 1), ("3", 4_000, 0), ("30", 20_000, 1)]
)
def test_a_link_says_after_how_many_seconds_or_never(
    browser: Browser, server: Server, visit: OpenPage, clear: str, after_ms: int, count: int
) -> None:
    opened, _ = watched(
        browser, visit, f"{server.url}/overlay/abc?clear={clear}", said(0, None, FIRST), *OVER
    )
    pass_until(opened.page, SHOWS)
    opened.page.clock.run_for(after_ms)
    expect(opened.page.locator(".text")).to_have_count(count)


def test_after_it_was_cleared_only_new_words_come(browser: Browser, server: Server, visit: OpenPage) -> None:
    opened, feed = watched(browser, visit, f"{server.url}/overlay/abc", said(0, None, FIRST))
    pass_until(opened.page, SHOWS)
    opened.page.clock.run_for(9_000)
    expect(opened.page.locator(".text")).to_have_count(0)
    feed.say(said(0, None, "at all."), said(1, None, SECOND))
    pass_until(opened.page, SHOWS)
    expect(opened.page.locator(".text")).to_have_text(["at all.", SECOND])


def test_the_presenters_stage_is_cleared_as_well(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(silent_browser, "about:blank")
    opened.page.clock.install()
    opened.page.goto(server.url)
    scripted = ScriptedServer(opened)
    scripted.open()
    scripted.commit(0, FIRST)
    lines = opened.page.locator("#stage-lines .text")
    expect(lines).to_have_text([FIRST])
    opened.page.clock.run_for(21_000)
    expect(lines).to_have_count(0)
    expect(opened.page.locator("#transcript .text")).to_have_text([FIRST])


STYLE = """(property) => getComputedStyle(document.querySelector(".text"))[property]"""
BOX = """() => document.querySelector("#captions").getBoundingClientRect().toJSON()"""


@pytest.mark.parametrize(
    ("query", "property_", "value"),
    [
        ("font=Georgia", "fontFamily", "Georgia"),
        ("font=serif", "fontFamily", "serif"),
        ("color=ffcc00", "color", "rgb(255, 204, 0)"),
        ("color=%23fc0", "color", "rgb(255, 204, 0)"),
        ("background=003366&opacity=50", "backgroundColor", "rgba(0, 51, 102, 0.5)"),
        ("opacity=0", "backgroundColor", "rgba(0, 0, 0, 0)"),
        ("upper=1", "textTransform", "uppercase"),
        ("align=end", "textAlign", "end"),
        ("", "textAlign", "center"),
    ],
)
def test_a_link_gives_the_overlay_a_look(
    browser: Browser, server: Server, visit: OpenPage, query: str, property_: str, value: str
) -> None:
    opened, _ = watched(browser, visit, f"{server.url}/overlay/abc?{query}", said(0, None, FIRST))
    pass_until(opened.page, SHOWS)
    found = opened.page.evaluate(STYLE, property_)
    assert found.split(",")[0].strip('"') == value if property_ == "fontFamily" else found == value


def test_size_lines_position_width_and_names_come_from_the_link(
    browser: Browser, server: Server, visit: OpenPage
) -> None:
    def opened_with(query: str) -> tuple[float, Any, int]:
        opened, _ = watched(
            browser,
            visit,
            f"{server.url}/overlay/abc?{query}",
            *(said(n, f"S{n % 2}", SECOND) for n in range(8)),
        )
        pass_until(opened.page, SHOWS)
        size = float(opened.page.evaluate(STYLE, "fontSize").removesuffix("px"))
        names = opened.page.locator(".speaker:visible").count()
        return size, opened.page.evaluate(BOX), names

    size, box, names = opened_with("")
    assert names > 0
    assert box["height"] == pytest.approx(3 * 1.4 * size, abs=2)
    assert box["bottom"] > 600
    double, low, _ = opened_with("size=200&lines=2")
    assert double == pytest.approx(2 * size)
    assert low["height"] == pytest.approx(2 * 1.4 * double, abs=2)
    _, top, nobody = opened_with("position=top&names=0&width=50")
    assert top["top"] < 100
    assert top["width"] == pytest.approx(box["width"] / 2, abs=2)
    assert nobody == 0
    _, middle, _ = opened_with("position=middle&lines=6")
    assert middle["top"] + middle["height"] / 2 == pytest.approx(360, abs=2)
    assert middle["height"] == pytest.approx(6 * 1.4 * size, abs=2)


def test_what_a_link_cannot_mean_falls_back_and_the_audience_sees_nothing_of_it(
    browser: Browser, server: Server, visit: OpenPage
) -> None:
    broken = (
        "clear=soon&size=9000&lines=2.5&font=%22%3Burl(x)&color=reddish&position=left&width=5&upper=maybe&x=1"
    )
    plain, _ = watched(browser, visit, f"{server.url}/overlay/abc", said(0, None, FIRST))
    odd, _ = watched(browser, visit, f"{server.url}/overlay/abc?{broken}", said(0, None, FIRST))
    for opened in (plain, odd):
        pass_until(opened.page, SHOWS)
    everything = "() => [document.body.innerText, ...['fontSize','color','fontFamily','textTransform'].map("
    everything += f"(property) => ({STYLE})(property)), JSON.stringify(({BOX})())]"
    assert odd.page.evaluate(everything) == plain.page.evaluate(everything)
    odd.page.clock.run_for(9_000)
    expect(odd.page.locator(".text")).to_have_count(0)


# The editor -------------------------------------------------------------------------------------------


def test_the_editor_is_reached_from_the_share_panel_and_writes_a_link_that_looks_as_previewed(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(silent_browser, server.url)
    opened.start()
    opened.page.get_by_role("button", name="Share").click()
    expect(opened.page.locator("#share-code")).to_be_visible()
    with opened.page.expect_popup() as popup:
        opened.page.get_by_role("link", name="Overlay and stage settings").click()
    page = popup.value
    link = page.get_by_role("textbox", name="Link")
    watch = opened.page.locator("#share-link").input_value()
    expect(link).to_have_value(f"{watch}?overlay=1")
    page.get_by_label("Text colour").fill("#ffcc00")
    page.get_by_label("Lines").fill("2")
    page.get_by_label("All capitals").check()
    expect(link).to_have_value(f"{watch}?overlay=1&lines=2&color=ffcc00&upper=1")
    shown = page.locator("#picture .text").last
    expect(shown).to_have_css("text-transform", "uppercase")
    expect(page.get_by_role("link", name="Open")).to_have_attribute("href", link.input_value())
    page.get_by_label("Made for").select_option("stage")
    expect(link).to_have_value(f"{watch}?stage=1")
    expect(page.locator("#picture .stage .text").last).to_be_visible()
    with page.expect_popup() as result:
        page.get_by_role("link", name="Open").click()
    expect(result.value.locator("#stage")).to_be_visible()
    opened.stop()


def test_the_editor_says_what_of_a_link_has_no_effect(
    browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(browser, f"{server.url}/web/look.html")
    link = opened.page.get_by_role("textbox", name="Link")
    link.fill("https://example.com/overlay/abc?size=huge&lines=4&colour=red#token=t")
    problems = opened.page.locator("#problems p")
    expect(problems).to_have_count(2)
    expect(problems.first).to_contain_text("“size=huge” is not valid")
    expect(problems.first).to_contain_text("25 to 400")
    expect(problems.last).to_contain_text("“colour” is not a setting")
    expect(opened.page.get_by_label("Lines")).to_have_value("4")
    opened.photograph("editor")
    opened.page.get_by_label("Lines").fill("5")
    expect(problems).to_have_count(0)
    expect(link).to_have_value("https://example.com/watch/abc?overlay=1&lines=5#token=t")
    link.fill("no link at all")
    expect(problems).to_contain_text("not a link")
