"""A talk is not ended by accident, and can be interrupted: what a hall must be able to rely on."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from scripted_server import ScriptedServer
from visiting import CUT_OFF, FAINT_TEXTS, WORKING, OpenPage, Visit

from tests.started import Server

pytest_plugins = ["browsers"]

OF_REMOTES = ["Space", "PageUp", "PageDown", "ArrowLeft", "ArrowRight", "Enter", "b", "F5", "."]
"""What presentation remotes send."""
LETTERS = ["f", "c", "p", "+", "-", "End", "Shift+?"]


def live(browser: Browser, server: Server, visit: OpenPage, **options: Any) -> tuple[Visit, ScriptedServer]:
    """A page that is live, with some words on the screen."""
    opened = visit(browser, server.url, **options)
    scripted = ScriptedServer(opened)
    scripted.open()
    scripted.commit(0, "Twice a day the sea comes up the river.")
    expect(opened.page.locator("#transcript .committed")).to_have_count(1)
    return opened, scripted


def what_is_shown(page: Page) -> Any:
    """Everything that a stray key could have changed."""
    return page.evaluate(
        """() => ({
            phase: document.body.dataset.phase,
            paused: document.body.dataset.paused,
            stage: !document.getElementById("stage").hidden,
            size: document.getElementById("stage").style.getPropertyValue("--stage-size"),
            dialogs: document.querySelectorAll("dialog[open], :popover-open").length,
            copy: document.getElementById("copy-label").textContent,
            born: performance.timeOrigin,
        })"""
    )


# Stop asks --------------------------------------------------------------------------------------------


def test_stop_asks_while_somebody_is_live_and_nothing_but_stop_ends_the_talk(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened, scripted = live(silent_browser, server, visit)
    page = opened.page
    stop = page.locator("#start")
    dialog = page.get_by_role("dialog", name="Stop the captions?")
    stop.focus()
    for close in ("Escape", "Enter"):
        page.keyboard.press("Enter")
        expect(dialog.get_by_role("button", name="Keep going")).to_be_focused()
        opened.photograph("asking")
        page.keyboard.press(close)
        expect(dialog).to_be_hidden()
        expect(stop).to_be_focused()
    stop.click()
    dialog.get_by_role("button", name="Keep going").click()
    assert scripted.all("stop") == []
    opened.expect_phase("live")
    stop.click()
    dialog.get_by_role("button", name="Stop").click()
    scripted.wait_until(lambda: len(scripted.all("stop")) == 1)
    opened.expect_phase("finishing")


def test_the_question_goes_away_with_the_talk(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened, scripted = live(silent_browser, server, visit)
    opened.page.locator("#start").click()
    dialog = opened.page.get_by_role("dialog", name="Stop the captions?")
    expect(dialog).to_be_visible()
    scripted.fail("The recogniser broke.")
    opened.expect_phase("failed")
    expect(dialog).to_be_hidden()
    opened.page.get_by_role("button", name="Start").click()
    scripted.wait_until(lambda: len(scripted.starts) == 3)


OVERFULL = """() => [...document.querySelectorAll("#dock button")].filter((one) => one.checkVisibility()
    && one.scrollWidth > one.clientWidth + 1).map((one) => one.id)"""
"""Buttons that are too narrow for what stands in them."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(320, 568), (1280, 720)])
def test_the_question_and_the_pause_fit_and_can_be_read(
    silent_browser: Browser, server: Server, visit: OpenPage, scheme: str, size: tuple[int, int]
) -> None:
    viewport = {"width": size[0], "height": size[1]}
    opened, _ = live(silent_browser, server, visit, color_scheme=scheme, viewport=viewport)
    page = opened.page
    assert page.evaluate(CUT_OFF) == []
    assert page.evaluate(OVERFULL) == []
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#phase")).to_have_text("Paused")
    assert page.evaluate(CUT_OFF) == []
    assert page.evaluate(OVERFULL) == []
    assert page.evaluate(FAINT_TEXTS) == []
    opened.photograph(f"paused-{scheme}-{size[0]}")
    page.locator("#start").click()
    expect(page.locator("dialog.asking")).to_be_visible()
    assert page.evaluate(CUT_OFF) == []
    opened.photograph(f"asking-{scheme}-{size[0]}")
    page.keyboard.press("Escape")
    page.keyboard.press("Shift+?")
    expect(page.locator("dialog.shortcuts")).to_be_visible()
    assert page.evaluate(CUT_OFF) == []
    opened.photograph(f"shortcuts-{scheme}-{size[0]}")


# Keys -------------------------------------------------------------------------------------------------


def test_no_key_that_is_pressed_on_the_stage_does_anything_but_escape(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened, _ = live(silent_browser, server, visit)
    page = opened.page
    page.get_by_role("button", name="Stage").click()
    expect(page.locator("#stage")).to_be_visible()
    before = what_is_shown(page)
    for key in OF_REMOTES + LETTERS:
        page.keyboard.press(key)
        assert what_is_shown(page) == before, key
    page.keyboard.press("Tab")  # a button of the stage has the focus: the same keys press nothing
    for key in OF_REMOTES:
        page.keyboard.press(key)
        assert what_is_shown(page) == before, key
    page.keyboard.press("Escape")
    expect(page.locator("#stage")).to_be_hidden()
    opened.expect_phase("live")


def test_a_key_that_is_held_on_the_stage_acts(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened, scripted = live(silent_browser, server, visit)
    page = opened.page
    page.get_by_role("button", name="Stage").click()
    opened.hold("p", "() => document.body.dataset.paused === 'true'")
    scripted.wait_until(lambda: scripted.all("pause") == [{"type": "pause", "paused": True}])
    page.keyboard.press("Tab")
    smaller = "() => document.getElementById('stage').style.getPropertyValue('--stage-size') === '0.90'"
    opened.hold("Enter", smaller)
    opened.hold("f", "() => document.getElementById('stage').hidden")
    opened.expect_phase("live")


def test_what_a_remote_sends_does_nothing_to_a_talk_wherever_the_focus_is(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened, scripted = live(silent_browser, server, visit)
    page = opened.page
    before = what_is_shown(page)
    for where in ("started with the mouse", "#captions"):
        if where == "#captions":
            page.locator(where).focus()
        for key in OF_REMOTES:
            page.keyboard.press(key)
            assert what_is_shown(page) == before, (where, key)
    assert scripted.all("stop") == []


def test_shortcuts_are_shown_changed_switched_off_and_remembered(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(silent_browser, server.url)
    page = opened.page
    page.keyboard.press("Shift+?")
    dialog = page.get_by_role("dialog", name="Keyboard shortcuts")
    expect(dialog).to_be_visible()
    opened.photograph("shortcuts")
    dialog.get_by_role("button", name="Stage view: F").click()
    page.keyboard.press("p")
    expect(dialog.get_by_role("status")).to_contain_text("P is taken: Pause or resume")
    page.keyboard.press("F1")
    expect(dialog.get_by_role("status")).to_contain_text("can't be used")
    page.keyboard.press("Escape")
    expect(dialog).to_be_visible()
    expect(dialog.get_by_role("button", name="Stage view: F")).to_have_text("F")
    page.keyboard.press("Enter")
    page.keyboard.press("g")
    expect(dialog.get_by_role("button", name="Stage view: G")).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    page.keyboard.press("f")
    expect(page.locator("#stage")).to_be_hidden()

    page.reload()
    expect(page.locator("#stage-enter")).to_have_attribute("title", "Stage view (G)")
    page.keyboard.press("g")
    expect(page.locator("#stage")).to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("button", name="Keyboard shortcuts").click()
    dialog.get_by_label("Use single-key shortcuts").uncheck()
    dialog.get_by_role("button", name="Close").click()
    page.keyboard.press("Escape")

    page.reload()
    expect(page.locator("#stage-enter")).to_have_attribute("title", "Stage view")
    for key in ("g", "Shift+?"):
        page.keyboard.press(key)
        expect(page.locator("#stage")).to_be_hidden()
        expect(dialog).to_be_hidden()


def test_one_shortcut_is_switched_off_and_all_come_back(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(silent_browser, server.url)
    page = opened.page
    page.keyboard.press("Shift+?")
    dialog = page.get_by_role("dialog", name="Keyboard shortcuts")
    dialog.get_by_role("button", name="Turn off the shortcut for: Stage view").click()
    expect(dialog.get_by_role("button", name="Stage view: None")).to_be_focused()
    page.keyboard.press("Escape")
    page.keyboard.press("f")
    expect(page.locator("#stage")).to_be_hidden()
    page.keyboard.press("Shift+?")
    dialog.get_by_role("button", name="Restore defaults").click()
    page.keyboard.press("Escape")
    page.keyboard.press("f")
    expect(page.locator("#stage")).to_be_visible()


# Pause ------------------------------------------------------------------------------------------------


def test_nothing_that_is_said_in_a_pause_is_sent_and_stage_and_page_say_so(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened, scripted = live(silent_browser, server, visit)
    page = opened.page
    scripted.wait_until(lambda: scripted.heard_bytes > 0)
    page.get_by_role("button", name="Pause").click()
    scripted.wait_until(lambda: bool(scripted.all("pause")))
    assert scripted.heard[-1] == '{"type":"pause","paused":true}', "behind all that was said before"
    expect(page.locator("#phase")).to_have_text("Paused")
    expect(page.locator("#hearing")).to_have_text("Not listening")
    heard = len(scripted.heard)
    before = page.locator("#elapsed").text_content()
    page.get_by_role("button", name="Stage").click()
    expect(page.locator("#stage-state")).to_have_text("Paused")
    opened.photograph("stage-paused")
    page.keyboard.press("Escape")
    # A second of the audio clock, in which ten pieces of sound would have been sent.
    page.evaluate("() => { window.clock = new AudioContext(); }")
    opened.wait_for("() => window.clock.currentTime >= 1")
    assert len(scripted.heard) == heard
    assert page.locator("#elapsed").text_content() == before
    page.get_by_role("button", name="Resume").click()
    scripted.wait_until(lambda: len(scripted.heard) > heard + 1)
    assert scripted.heard[heard] == '{"type":"pause","paused":false}', "before all that is said after"
    assert isinstance(scripted.heard[heard + 1], bytes)
    expect(page.locator("#phase")).to_have_text("Live")


def test_a_pause_that_the_server_may_have_missed_is_said_again_and_one_that_it_has_is_not(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened, scripted = live(silent_browser, server, visit)
    page = opened.page
    page.get_by_role("button", name="Pause").click()
    scripted.wait_until(lambda: bool(scripted.all("pause")))
    sent_bytes = scripted.heard_bytes
    scripted.come_back(sent_bytes)
    scripted.wait_until(lambda: scripted.all("pause") == [{"type": "pause", "paused": True}])
    expect(page.locator("#phase")).to_have_text("Paused")
    scripted.say(type="paused", seq=1, time=1.0, paused=True)
    scripted.come_back(sent_bytes, last_seq=1)
    page.get_by_role("button", name="Resume").click()
    scripted.wait_until(lambda: scripted.heard_bytes > 0)
    assert scripted.all("pause") == [{"type": "pause", "paused": False}]


def test_a_server_that_had_nothing_to_say_in_a_pause_is_not_taken_for_gone_when_it_ends(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(silent_browser, "about:blank")
    page = opened.page
    page.clock.install()
    scripted = ScriptedServer(opened)
    page.goto(server.url)
    scripted.open()
    page.get_by_role("button", name="Pause").click()
    scripted.wait_until(lambda: bool(scripted.all("pause")))
    sent_bytes = scripted.heard_bytes
    scripted.say(type="ack", bytes=sent_bytes)
    scripted.say(type="paused", seq=1, time=1.0, paused=True)
    page.clock.run_for(20_000)  # longer than a server may be silent that was sent sound
    page.get_by_role("button", name="Resume").click()
    scripted.wait_until(lambda: scripted.heard_bytes > sent_bytes)
    page.clock.run_for(3_000)  # the page looks meanwhile whether the server is there
    scripted.say(type="ack", bytes=scripted.heard_bytes)
    heard_bytes = scripted.heard_bytes
    scripted.wait_until(lambda: scripted.heard_bytes > heard_bytes)
    expect(page.locator("#phase")).to_have_text("Live")
    assert len(scripted.starts) == 1


def test_a_talk_is_paused_from_the_question_whether_to_stop_it_and_stopped_from_the_pause(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened, scripted = live(silent_browser, server, visit)
    page = opened.page
    page.locator("#start").click()
    dialog = page.get_by_role("dialog", name="Stop the captions?")
    dialog.get_by_role("button", name="Pause").click()
    expect(page.locator("#phase")).to_have_text("Paused")
    page.locator("#start").click()
    expect(dialog.get_by_role("button", name="Pause")).to_be_hidden()
    dialog.get_by_role("button", name="Stop").click()
    scripted.wait_until(lambda: bool(scripted.all("stop")))
    expect(page.locator("#phase")).to_have_text("Finishing")


def test_the_audience_sees_the_pause_of_a_real_talk_whose_last_words_are_committed_by_it(
    talking_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(talking_browser, server.url)
    page = opened.page
    opened.start()
    opened.wait_for("() => document.querySelector('#transcript .text')?.textContent")
    page.get_by_role("button", name="Pause").click()
    opened.wait_for("() => document.querySelector('#save-menu > [data-format=txt]').href")
    address = page.locator("#save-menu > [data-format=txt]").evaluate("link => link.href")
    session = address.removeprefix(f"{server.url}/v1/sessions/").split("/")[0]
    audience = visit(talking_browser, f"{server.url}/watch/{session}")
    expect(audience.page.locator("#phase")).to_have_text("Paused", timeout=WORKING)
    expect(audience.page.locator("#transcript .committed").first).to_be_visible()
    expect(audience.page.locator("#transcript .tail:not(:empty)")).to_have_count(0)
    audience.photograph("watch-paused")
    read = " ".join(" ".join(audience.page.locator("#transcript .text").all_text_contents()).split())
    assert read == opened.captions(), "all that was said before the pause is committed"
    page.get_by_role("button", name="Resume").click()
    expect(audience.page.locator("#phase")).to_have_text("Live", timeout=WORKING)


# The presenter's hints --------------------------------------------------------------------------------


def test_the_hall_does_not_read_what_the_presenter_is_told(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(silent_browser, server.url)
    page = opened.page
    opened.start()
    page.get_by_role("button", name="Stage").click()
    expect(page.locator("#hero-detail")).to_contain_text("microphone muted", timeout=30_000)
    expect(page.locator("#stage-state")).to_have_text("")
    page.keyboard.press("Escape")
    opened.stop()
    opened.expect_phase("done")


# The stage, and files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["Escape", "the button", "the browser"])
@pytest.mark.parametrize("by", ["key", "button"])
def test_leaving_full_screen_gives_the_focus_back(
    silent_browser: Browser, server: Server, visit: OpenPage, how: str, by: str
) -> None:
    opened = visit(silent_browser, server.url)
    page = opened.page
    if by == "key":
        page.keyboard.press("f")
    else:
        page.get_by_role("button", name="Stage").click()
    opened.wait_for("() => document.fullscreenElement?.id === 'stage'")
    if how == "Escape":
        page.keyboard.press("Escape")
    elif how == "the button":
        page.mouse.move(600, 300)
        page.locator("#stage-leave").click()
    else:
        page.evaluate("document.exitFullscreen()")
    opened.wait_for("() => !document.fullscreenElement")
    expect(page.locator("#stage")).to_be_hidden()
    expect(page.locator("#stage-enter")).to_be_focused()


DROP = """(names) => {
    const dataTransfer = new DataTransfer();
    for (const name of names) dataTransfer.items.add(new File([new Uint8Array(3000)], name));
    document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
}"""


def test_of_two_dropped_recordings_the_page_says_which_one_it_takes(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(silent_browser, server.url)
    ScriptedServer(opened)
    opened.page.evaluate(DROP, ["first.wav", "second.wav"])
    expect(opened.page.locator(".notice")).to_contain_text(
        "“first.wav” is being transcribed, “second.wav” is ignored."
    )


@pytest.mark.parametrize("path", ["/", "/watch/abc"])
def test_what_has_a_label_has_a_role_that_may_have_one(
    silent_browser: Browser, server: Server, visit: OpenPage, path: str
) -> None:
    opened = visit(silent_browser, server.url + path, tolerated=("Failed to load resource",))
    assert (
        opened.page.evaluate(
            "() => [...document.querySelectorAll('[aria-label]')]"
            ".filter((one) => /^(DIV|P|SPAN|SMALL)$/.test(one.tagName) && !one.role).map((one) => one.id)"
        )
        == []
    )
