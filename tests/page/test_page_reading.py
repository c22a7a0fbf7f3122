"""Reading the captions: on small screens, in two schemes, scrolled, on stage.

The test speaks as the server here, so that each word comes exactly when the test wants it.
"""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Browser, expect
from scripted_server import ScriptedServer
from visiting import CUT_OFF, FAINT_TEXTS, OpenPage, Visit

from tests.started import Server

pytest_plugins = ["browsers"]


AN_HOUR_LATER = "document.getElementById('elapsed').textContent = '1:02:33'"


def distance_from_end(opened: Visit) -> float:
    return float(
        opened.page.evaluate(
            "() => { const box = document.getElementById('captions');"
            " return box.scrollHeight - box.scrollTop - box.clientHeight; }"
        )
    )


def test_recognised_text_is_text_and_never_markup(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(silent_browser, server.url)
    scripted = ScriptedServer(opened)
    scripted.open()
    scripted.commit(0, "<img src=x onerror=alert(1)> <b>bold</b>")
    scripted.suggest("<i>tail</i>", 30)
    expect(opened.page.locator("#transcript .text")).to_have_text(
        "<img src=x onerror=alert(1)> <b>bold</b> <i>tail</i>"
    )
    assert opened.page.locator("#transcript :is(img, b, i)").count() == 0


def test_committed_words_and_the_tail_look_different_and_stand_in_one_line(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(silent_browser, server.url)
    scripted = ScriptedServer(opened)
    scripted.open()
    scripted.commit(0, "These words stay")
    scripted.suggest("but these may not", 30)
    tail = opened.page.locator("#transcript .turn .tail")
    expect(tail).to_have_text("but these may not")
    committed = opened.page.locator("#transcript .turn .committed")
    expect(committed).not_to_have_css("text-decoration-line", "underline")
    expect(tail).to_have_css("text-decoration-line", "underline")
    assert tail.evaluate("(element) => getComputedStyle(element).color") != committed.evaluate(
        "(element) => getComputedStyle(element).color"
    )
    scripted.finish(0)
    scripted.suggest("A new thought", 65)
    expect(opened.page.locator("#transcript .turn")).to_have_count(2)


def test_the_newest_words_stay_in_sight_until_the_reader_scrolls_up(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(silent_browser, server.url, viewport={"width": 800, "height": 500})
    scripted = ScriptedServer(opened)
    scripted.open()
    for number in range(12):
        scripted.commit(number, "Twice a day the sea comes up the river, and twice a day it goes back.")
        scripted.finish(number)
    expect(opened.page.locator("#transcript .utterance")).to_have_count(12)
    opened.wait_for("() => document.getElementById('captions').scrollTop > 200")
    jump = opened.page.get_by_role("button", name="Jump to live")
    expect(jump).to_be_hidden()

    opened.page.locator("#captions").hover()
    opened.page.mouse.wheel(0, -300)
    expect(jump).to_be_visible()
    top = opened.page.evaluate("document.getElementById('captions').scrollTop")
    opened.photograph("scrolled")
    scripted.commit(12, "For most of history nobody could say why.")
    expect(opened.page.locator("#transcript .utterance")).to_have_count(13)
    assert opened.page.evaluate("document.getElementById('captions').scrollTop") <= top
    assert distance_from_end(opened) > 100

    jump.click()
    expect(jump).to_be_hidden()
    opened.wait_for(
        "() => { const box = document.getElementById('captions');"
        " return box.scrollHeight - box.scrollTop - box.clientHeight < 2; }"
    )


def test_the_stage_shows_only_the_last_lines_large_and_tells_the_audience_of_trouble(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(silent_browser, server.url)
    scripted = ScriptedServer(opened)
    scripted.open()
    for number in range(6):
        scripted.commit(number, f"Sentence number {number} is short.")
        scripted.finish(number)
    opened.page.get_by_role("button", name="Stage").click()
    lines = opened.page.locator("#stage-lines .text")
    expect(lines).to_have_count(3)
    expect(lines.last).to_have_text("Sentence number 5 is short.")
    size = lines.last.evaluate("(line) => parseFloat(getComputedStyle(line).fontSize)")
    assert size >= 60
    opened.page.keyboard.press("+")
    assert lines.last.evaluate("(line) => parseFloat(getComputedStyle(line).fontSize)") == size
    larger = (
        f"() => parseFloat(getComputedStyle(document.querySelector('#stage-lines .text')).fontSize) > {size}"
    )
    opened.hold("+", larger)
    scripted.fail("The recogniser broke.")
    expect(opened.page.locator("#stage-state")).to_have_text("The captions have stopped.")


def test_a_screen_reader_is_given_whole_utterances_only(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(silent_browser, server.url)
    scripted = ScriptedServer(opened)
    scripted.open()
    announcer = opened.page.locator("#announcer")
    expect(announcer).to_have_attribute("aria-live", "polite")
    scripted.commit(0, "Half a")
    scripted.suggest("thought", 30)
    expect(opened.page.locator("#transcript .tail")).to_have_text("thought")
    expect(announcer).to_be_empty()
    scripted.commit(0, "thought.")
    scripted.finish(0)
    expect(announcer).to_have_text("Half a thought.")


def test_what_was_chosen_is_sent_and_remembered(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(silent_browser, server.url)
    page = opened.page
    page.get_by_label("Spoken language").select_option("de")
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Words to expect").fill("Silero, Whisper\nKyiv")
    page.get_by_role("combobox", name="Captions").select_option("translate")
    page.get_by_label("Tell speakers apart").uncheck()
    page.keyboard.press("Escape")
    page.reload()
    scripted = ScriptedServer(opened)
    expect(page.get_by_label("Spoken language")).to_have_value("de")
    page.get_by_role("button", name="Start").click()
    scripted.wait_until(lambda: bool(scripted.heard))
    start = json.loads(scripted.heard[0])
    assert (start["language"], start["task"], start["diarize"]) == ("de", "translate", False)
    assert start["vocabulary"] == ["Silero", "Whisper", "Kyiv"]
    assert start["audio"]["encoding"] == "pcm_s16le"
    assert 8_000 <= start["audio"]["sample_rate"] <= 48_000


def test_another_language_and_other_words_count_at_once_and_after_a_lost_connection(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(silent_browser, server.url)
    page = opened.page
    scripted = ScriptedServer(opened)
    scripted.open()
    page.get_by_label("Spoken language").select_option("es")
    scripted.wait_until(lambda: len(scripted.all("update")) == 1)
    assert scripted.all("update") == [{"type": "update", "language": "es", "vocabulary": []}]
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Words to expect").fill("Silero, " + "x" * 101)
    page.keyboard.press("Escape")
    page.get_by_label("Spoken language").select_option("")
    scripted.wait_until(lambda: len(scripted.all("update")) == 3)
    last = {"type": "update", "language": "auto", "vocabulary": ["Silero"]}
    assert scripted.all("update")[-1] == last
    scripted.come_back(0)
    scripted.wait_until(lambda: len(scripted.all("update")) == 1)
    assert scripted.all("update") == [last]
    assert scripted.all("start") == []


def test_sound_spoken_before_the_server_answers_is_sent_and_never_beyond_the_window(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(silent_browser, server.url)
    scripted = ScriptedServer(opened)
    opened.page.get_by_role("button", name="Start").click()
    opened.wait_for("() => document.querySelector('#elapsed').textContent >= '0:02'")
    assert [type(message) for message in scripted.heard] == [str], "nothing but `start` before `ready`"
    window_bytes = 20_001
    scripted.say(
        type="ready",
        session="abc",
        token="t",
        received_bytes=0,
        last_seq=0,
        max_unacked_bytes=window_bytes,
    )
    opened.wait_for("() => document.querySelector('#elapsed').textContent >= '0:03'")
    assert window_bytes - 2 <= scripted.heard_bytes <= window_bytes
    for _ in range(5):
        acked_bytes = scripted.heard_bytes
        scripted.say(type="ack", bytes=acked_bytes)
        scripted.wait_until(lambda before=acked_bytes: scripted.heard_bytes > before)
        assert scripted.heard_bytes - acked_bytes <= window_bytes


@pytest.mark.parametrize("size", [(320, 568), (390, 844), (844, 390), (768, 1024), (1201, 600), (1920, 1080)])
def test_nothing_is_cut_off_at_the_sides_of_any_screen(
    silent_browser: Browser, server: Server, visit: OpenPage, size: tuple[int, int]
) -> None:
    width, height = size
    opened = visit(silent_browser, server.url, viewport={"width": width, "height": height})
    page = opened.page
    scripted = ScriptedServer(opened)
    scripted.open()
    scripted.commit(0, "A_very_long_word_that_no_line_of_a_phone_can_hold_" * 2 + " and some more words")
    scripted.suggest("with a tail", 60)
    scripted.say(type="lag", received=12.0, committed=0.0, seconds=12.0)
    scripted.say(type="notice", code="degraded", message="Captions come a little later: the server is busy.")
    expect(page.locator(".notice")).to_be_visible()
    expect(page.locator("#lag")).to_be_visible()
    assert page.evaluate(f"() => {{ {AN_HOUR_LATER}; return ({CUT_OFF})(); }}") == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.getElementById('captions').clientHeight") > 80
    page.get_by_role("button", name="Settings").click()
    assert page.evaluate(CUT_OFF) == []
    opened.photograph(f"screen-{width}x{height}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_from_its_background(
    silent_browser: Browser, server: Server, visit: OpenPage, scheme: str
) -> None:
    opened = visit(silent_browser, server.url, color_scheme=scheme, reduced_motion="reduce")
    scripted = ScriptedServer(opened)
    scripted.open()
    scripted.commit(0, "These words stay")
    scripted.suggest("but these may not", 30)
    scripted.say(type="lag", received=12.0, committed=0.0, seconds=12.0)
    scripted.say(type="notice", code="degraded", message="Captions come a little later.")
    expect(opened.page.locator("#transcript .tail")).to_be_visible()
    opened.page.get_by_role("button", name="Settings").click()
    assert opened.page.evaluate(FAINT_TEXTS) == []
    opened.photograph(f"settings-{scheme}")
    scripted.fail("The recogniser broke.")
    opened.expect_phase("failed")
    expect(opened.page.locator("#advice")).to_be_visible()
    assert opened.page.evaluate(FAINT_TEXTS) == []


def test_every_control_has_a_name_and_can_be_reached_by_tab(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(silent_browser, server.url)
    page = opened.page
    controls = page.locator("button:enabled:visible, select:visible")
    for control in controls.all():
        assert control.evaluate(
            "(element) => element.innerText || element.labels?.[0]?.innerText || element.title"
        )
    wanted = set(controls.evaluate_all("(elements) => elements.map((element) => element.id)"))
    reached = set()
    for _ in range(20):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id"))
    assert wanted <= reached
