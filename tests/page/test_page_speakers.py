"""Who speaks, on the page: colours and names, the full pass, who spoke when.

The test speaks as the server here, so that each word and label comes exactly when the test wants it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect
from scripted_server import ScriptedServer
from visiting import CUT_OFF, FAINT_TEXTS, OpenPage, Visit

from tests.started import Server

pytest_plugins = ["browsers"]

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
LIVE_LABELS = {"SPEAKER_00": ["S1"], "SPEAKER_01": ["S2"]}
COLOR_OF = "(element) => getComputedStyle(element).color"


def names(opened: Visit) -> list[str]:
    return opened.page.locator("#transcript .speaker").all_text_contents()


def kept_names(page: Page, status: int = 200) -> list[Any]:
    """Answer for the server that it keeps names, or does not; return what it is given."""
    kept: list[Any] = []

    def answer(route: Route) -> None:
        kept.append((route.request.method, json.loads(route.request.post_data or "")))
        route.fulfill(status=status, json={"names": {}})

    page.route("**/v1/sessions/abc/names", answer)
    return kept


def once_sent(page: Page, kept: list[Any], count: int = 1) -> list[Any]:
    """Return what the server was given, once that is so much: the page shows a name before it is sent."""
    while len(kept) < count:
        page.wait_for_event("requestfinished", lambda request: request.url.endswith("/names"))
    return kept


def talking(
    browser: Browser, server: Server, visit: OpenPage, **options: Any
) -> tuple[Visit, ScriptedServer]:
    """Open the page on two people who have said two sentences each."""
    opened = visit(browser, server.url, **options)
    scripted = ScriptedServer(opened)
    scripted.open()
    for utterance in range(4):
        text = "Twice a day the sea comes up" if utterance % 2 else "And nobody could say why"
        scripted.commit(utterance, text, f"S{utterance % 2 + 1}")
        scripted.finish(utterance)
    expect(opened.page.locator("#transcript .turn")).to_have_count(4)
    return opened, scripted


def conclude(scripted: ScriptedServer, labels: str = "full") -> None:
    scripted.conclude(
        ("SPEAKER_00", 0.0, "And nobody could say why"),
        ("SPEAKER_01", 60.0, "Twice a day the sea came up"),
        ("SPEAKER_00", 120.0, "And nobody could say why"),
        ("SPEAKER_01", 180.0, "Twice a day the sea came up"),
        live_labels=LIVE_LABELS,
        labels=labels,
    )


def test_the_name_stands_at_each_change_of_speaker_and_nowhere_else(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(silent_browser, server.url)
    scripted = ScriptedServer(opened)
    scripted.open()
    for utterance, speaker in enumerate(["S1", "S1", None, "S1", "S2", "S1"]):
        scripted.commit(utterance, "So it is", speaker)
        scripted.finish(utterance)
    expect(opened.page.locator("#transcript .turn")).to_have_count(6)
    assert names(opened) == ["Speaker 1", "Speaker 2", "Speaker 1"]


def test_words_have_the_colour_of_their_speaker_and_are_neutral_while_nobody_is_known(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(silent_browser, server.url, reduced_motion="reduce")
    page = opened.page
    scripted = ScriptedServer(opened)
    scripted.open()
    scripted.commit(0, "One voice", "S1")
    scripted.finish(0)
    scripted.commit(1, "another voice", "S2")
    scripted.commit(1, "or not", start=70)
    runs = page.locator("#transcript .committed")
    expect(runs).to_have_count(3)
    first, second, unknown = (runs.nth(at).evaluate(COLOR_OF) for at in range(3))
    assert len({first, second, unknown}) == 3
    assert unknown == page.locator("body").evaluate(COLOR_OF)


def test_a_label_colours_the_words_where_they_stand(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(silent_browser, server.url)
    page = opened.page
    scripted = ScriptedServer(opened)
    scripted.open()
    scripted.commit(0, "First things first", "S1")
    scripted.finish(0)
    scripted.commit(1, "Who says this")
    scripted.suggest("and goes on", 70)
    expect(page.locator("#transcript .tail")).to_be_visible()
    page.evaluate("document.querySelectorAll('#transcript .turn').forEach((turn, at) => { turn.mark = at; })")
    before = page.locator("#transcript .text").last.bounding_box()
    scripted.label("S1", 60, 63)
    expect(page.locator("#transcript .committed").last).to_have_attribute("data-voice", "0")
    assert page.locator("#transcript .text").last.bounding_box() == before, "nothing moves"
    scripted.label("S2", 61, 63)
    expect(page.locator("#transcript .speaker").last).to_have_text("Speaker 2")
    assert page.locator("#transcript .text").all_text_contents() == [
        " First things first",
        " Who",
        " says this and goes on",
    ]
    assert page.evaluate("[...document.querySelectorAll('#transcript .turn')].map((turn) => turn.mark)") == [
        *(0, 1, None)
    ]


def test_a_label_does_not_move_what_is_being_read_nor_is_it_read_out(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(
        silent_browser, server.url, viewport={"width": 800, "height": 500}, reduced_motion="reduce"
    )
    page = opened.page
    scripted = ScriptedServer(opened)
    scripted.open()
    for utterance in range(24):
        scripted.commit(utterance, "Twice a day the sea comes up the river and goes", "S1")
        scripted.finish(utterance)
    expect(page.locator("#transcript .utterance")).to_have_count(24)
    opened.wait_for(
        "() => { const box = document.getElementById('captions');"
        " return box.scrollHeight - box.scrollTop - box.clientHeight < 2; }"
    )
    page.locator("#captions").hover()
    page.mouse.wheel(0, -300)
    expect(page.get_by_role("button", name="Jump to live")).to_be_visible()
    read = page.locator("#transcript .utterance").nth(18)
    top = (read.bounding_box() or {})["y"]
    announced = page.locator("#announcer").inner_html()
    scripted.label("S2", 0, 64)
    expect(page.locator("#transcript .speaker")).to_have_count(2)
    opened.wait_for(
        "([top, at]) => Math.abs(document.querySelectorAll('#transcript .utterance')[at]"
        ".getBoundingClientRect().top - top) < 1",
        [top, 18],
    )
    assert page.locator("#announcer").inner_html() == announced


def test_a_screen_reader_is_told_who_speaks_where_that_changes(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened, _ = talking(silent_browser, server, visit)
    assert opened.page.locator("#announcer p").all_text_contents()[:2] == [
        "Speaker 1: And nobody could say why",
        "Speaker 2: Twice a day the sea comes up",
    ]


def test_a_name_is_typed_where_it_stands_and_kept_with_the_session(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened, scripted = talking(silent_browser, server, visit)
    page = opened.page
    kept = kept_names(page)
    page.locator("#transcript .speaker").nth(1).click()
    field = page.get_by_role("textbox", name="Name of Speaker 2")
    expect(field).to_be_focused()
    opened.photograph("naming")
    field.fill("  Ada   <b>Lovelace</b> ")
    scripted.commit(4, "More comes while one types", "S1")
    expect(page.locator("#transcript .turn")).to_have_count(5)
    expect(field).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#transcript .speaker").nth(3)).to_have_text("Ada <b>Lovelace</b>")
    assert names(opened) == ["Speaker 1", "Ada <b>Lovelace</b>"] * 2 + ["Speaker 1"]
    expect(page.locator("#transcript .speaker").nth(1)).to_be_focused()
    assert once_sent(page, kept) == [("PUT", {"S2": "Ada <b>Lovelace</b>"})]


def test_a_name_is_typed_by_keyboard_alone_and_escape_keeps_the_old_one(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened, _ = talking(silent_browser, server, visit)
    page = opened.page
    kept = kept_names(page)
    page.locator("#captions").focus()
    page.keyboard.press("Tab")
    expect(page.locator("#transcript .speaker").last).to_be_focused()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    page.keyboard.type("Ben from C")
    expect(page.locator("#stage")).to_be_hidden()
    page.keyboard.press("Enter")
    assert names(opened) == ["Ben from C", "Speaker 2"] * 2
    page.keyboard.press("Space")
    page.keyboard.type("Somebody else")
    page.keyboard.press("Escape")
    expect(page.locator("#transcript .speaker").nth(2)).to_be_focused()
    assert names(opened) == ["Ben from C", "Speaker 2"] * 2
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Stop")).to_be_focused()
    assert once_sent(page, kept) == [("PUT", {"S1": "Ben from C"})]


def test_a_name_that_is_being_typed_when_the_final_text_comes_is_kept(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened, scripted = talking(silent_browser, server, visit)
    page = opened.page
    kept = kept_names(page)
    scripted.stop(185)
    page.locator("#transcript .speaker").last.click()
    page.keyboard.type("Ada")
    conclude(scripted)
    expect(page.locator("#transcript .turn").last).to_contain_text("the sea came up")
    expect(page.locator("#transcript .speaker").last).to_have_text("Ada")
    assert once_sent(page, kept) == [("PUT", {"S2": "Ada"})]


def test_a_name_that_the_server_does_not_keep_is_in_what_is_saved_all_the_same(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened, _ = talking(silent_browser, server, visit, tolerated=("Failed to load resource",))
    page = opened.page
    kept_names(page, status=500)
    page.locator("#transcript .speaker").first.click()
    page.keyboard.type("Ada")
    page.keyboard.press("Enter")
    expect(page.locator(".notice")).to_contain_text("couldn't save the name")
    page.get_by_role("button", name="Save").click()
    with page.expect_download() as download:
        page.locator("#save-menu > [data-format=txt]").click()
    assert Path(download.value.path()).read_text().startswith("Ada: And nobody could say why\n")


def test_names_reach_the_server_before_a_file_is_fetched_from_it(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened, _ = talking(silent_browser, server, visit)
    page = opened.page
    order: list[str] = []

    def answer(route: Route) -> None:
        order.append(route.request.method)
        route.fulfill(status=200, body="Ada: And nobody could say why\n")

    page.route("**/v1/sessions/abc/*", answer)
    page.locator("#transcript .speaker").first.click()
    page.keyboard.type("Ada")
    page.get_by_role("button", name="Save").click()
    with page.expect_download() as download:
        page.locator("#save-menu > [data-format=rttm]").click()
    assert order == ["PUT", "GET"]
    assert download.value.suggested_filename.endswith(".rttm")


def test_the_full_pass_shows_its_progress_and_then_who_spoke_when(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened, scripted = talking(silent_browser, server, visit)
    page = opened.page
    kept = kept_names(page)
    scripted.stop(185)
    bar = page.get_by_role("progressbar", name="Full pass")
    expect(bar).to_be_visible()
    assert bar.evaluate("(bar) => bar.position") == -1, "no figure before there is one"
    scripted.say(type="progress", stage="clustering", fraction=0.625)
    expect(page.locator("#advice")).to_have_text("Finding out who spoke: which voices are the same, 62%.")
    assert bar.evaluate("(bar) => bar.value") == 0.625
    opened.photograph("full-pass")

    conclude(scripted)
    opened.expect_phase("done")
    expect(bar).to_be_hidden()
    expect(page.locator("#transcript .turn").last).to_contain_text("the sea came up")
    rows = page.locator("#lanes .talk")
    expect(rows).to_have_count(2)
    assert [" ".join(text.split()) for text in page.locator(".amount").all_text_contents()] == [
        "10 s 42%",
        "14 s 58%",
    ]
    turns = rows.first.get_by_role("group", name="Turns of Speaker 1").get_by_role("button")
    assert turns.count() == 2
    expect(turns.last).to_have_accessible_name("Speaker 1, 2:00 to 2:04")
    left = turns.last.evaluate("(turn) => parseFloat(turn.style.left)")
    assert left == pytest.approx(100 * 120 / 186.9, abs=0.1)
    opened.photograph("final-light")

    rows.last.locator(".speaker").click()
    page.keyboard.type("Ada")
    page.keyboard.press("Enter")
    assert names(opened) == ["Speaker 1", "Ada"] * 2
    opened.wait_for("() => document.querySelector('#lanes [aria-label=\"Turns of Ada\"]')")
    assert once_sent(page, kept) == [("PUT", {"SPEAKER_01": "Ada"})]

    page.get_by_role("button", name="Show the live captions").click()
    expect(page.locator("#transcript .turn").last).to_contain_text("the sea comes up")
    assert names(opened) == ["Speaker 1", "Ada"] * 2
    page.get_by_role("button", name="Show the final text").click()
    expect(page.locator("#transcript .turn").last).to_contain_text("the sea came up")
    page.emulate_media(color_scheme="dark")
    opened.photograph("final-dark")


def test_words_that_only_the_full_pass_found_can_be_read_and_saved(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(silent_browser, server.url)
    scripted = ScriptedServer(opened)
    scripted.open()
    scripted.stop(185)
    conclude(scripted)
    expect(opened.page.locator("#hero")).to_be_hidden()
    expect(opened.page.locator("#transcript .turn")).to_have_count(4)
    expect(opened.page.get_by_role("button", name="Save")).to_be_enabled()


def test_a_turn_of_the_timeline_leads_to_its_words_by_mouse_and_by_keyboard(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened, scripted = talking(
        silent_browser, server, visit, viewport={"width": 900, "height": 520}, reduced_motion="reduce"
    )
    page = opened.page
    scripted.stop(185)
    conclude(scripted)
    expect(page.locator("#lanes .talk")).to_have_count(2)
    turns = page.locator("#lanes .span")
    stops = page.locator("#lanes [tabindex='0']")
    assert stops.count() == 2, "one stop of the Tab key for the names, one for the turns"
    turns.first.focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowLeft"):
        page.keyboard.press(key)
    expect(page.locator("#lanes .span:focus")).to_have_accessible_name("Speaker 1, 0:00 to 0:04")
    page.keyboard.press("Enter")
    current = page.locator("#transcript [aria-current]")
    expect(current).to_have_text("0:00Speaker 1 And nobody could say why")
    expect(current).to_be_focused()
    expect(current).to_be_in_viewport()

    lane = page.locator("#lanes .lane").last
    box = lane.bounding_box() or {}
    lane.click(position={"x": box["width"] - 1, "y": box["height"] / 2})
    expect(current).to_have_text("3:00Speaker 2 Twice a day the sea came up")
    expect(current).to_be_in_viewport()


def test_the_reader_who_has_scrolled_up_keeps_the_place_when_the_final_text_comes(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened, scripted = talking(
        silent_browser, server, visit, viewport={"width": 900, "height": 420}, reduced_motion="reduce"
    )
    page = opened.page
    scripted.stop(185)
    page.locator("#captions").hover()
    page.mouse.wheel(0, -2000)
    expect(page.locator("#jump")).to_be_visible()
    opened.wait_for("() => document.getElementById('captions').scrollTop === 0")
    conclude(scripted)
    expect(page.locator("#lanes .talk")).to_have_count(2)
    expect(page.locator("#transcript .turn").first).to_be_in_viewport()
    expect(page.locator("#transcript .turn").last).not_to_be_in_viewport()


def test_labels_heard_live_only_are_admitted_on_the_page(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened, scripted = talking(silent_browser, server, visit)
    scripted.stop(185)
    conclude(scripted, labels="live")
    expect(opened.page.locator("#advice")).to_contain_text(
        "The full pass failed: the speakers are as heard live."
    )
    expect(opened.page.locator("#lanes .talk")).to_have_count(2)


def test_the_stage_names_and_colours_who_speaks(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened, scripted = talking(silent_browser, server, visit)
    page = opened.page
    kept_names(page)
    page.locator("#transcript .speaker").last.click()
    page.keyboard.type("Ada")
    page.keyboard.press("Enter")
    scripted.commit(4, "and so it goes", "S2")
    page.get_by_role("button", name="Stage").click()
    stage = page.locator("#stage-lines")
    expect(stage.locator(".turn")).to_have_count(3)
    assert stage.locator(".speaker").all_text_contents() == ["Speaker 1", "Ada"]
    assert stage.locator("button").count() == 0
    whole_lines = (
        "(box) => box.scrollHeight / parseFloat(getComputedStyle(box.querySelector('.text')).lineHeight)"
    )
    assert stage.evaluate(whole_lines) == pytest.approx(round(stage.evaluate(whole_lines)), abs=0.02)
    words = stage.locator(".committed")
    assert words.first.evaluate(COLOR_OF) != words.last.evaluate(COLOR_OF)
    assert page.evaluate(FAINT_TEXTS) == []
    opened.photograph("stage-speakers")


def test_speakers_fit_a_phone(silent_browser: Browser, server: Server, visit: OpenPage) -> None:
    opened, scripted = talking(silent_browser, server, visit, **PHONE, device_scale_factor=2)
    page = opened.page
    kept_names(page)
    page.locator("#transcript .speaker").last.tap()
    page.keyboard.type("Wilhelmina Featherstonehaugh-Cholmondeley the Younger of That Ilk")
    assert page.evaluate(CUT_OFF) == []
    page.keyboard.press("Enter")
    opened.photograph("phone-speakers")
    scripted.stop(185)
    conclude(scripted)
    expect(page.locator("#lanes .talk")).to_have_count(2)
    assert page.evaluate(CUT_OFF) == []
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.evaluate("document.getElementById('captions').clientHeight") > 200
    opened.photograph("phone-final")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_speakers_stand_out_from_the_page(
    silent_browser: Browser, server: Server, visit: OpenPage, scheme: str
) -> None:
    opened = visit(silent_browser, server.url, color_scheme=scheme, reduced_motion="reduce")
    scripted = ScriptedServer(opened)
    scripted.open()
    turns = [(f"SPEAKER_{n:02}", 10.0 * n, "So it is") for n in range(9)]
    scripted.commit(0, "So it is", "S1")
    scripted.stop(90)
    scripted.conclude(*turns, live_labels={label: [] for label, _, _ in turns})
    expect(opened.page.locator("#lanes .talk")).to_have_count(9)
    opened.page.locator("#lanes .speaker").first.hover()
    assert opened.page.evaluate(FAINT_TEXTS) == []
