"""Every state of the page has words; each is brought about as it comes about in life."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Browser, WebSocket, expect
from visiting import LaunchBrowser, OpenPage, Visit, unlabelled

from tests.started import Server, StartServer

pytest_plugins = ["browsers"]

WAITED_SECONDS = 600
"""The page's own: more than a server asks for, as those go by while the microphone is opened."""


def expect_words(opened: Visit, title: str, detail: str) -> None:
    """Wait until the page says this, to eyes and to screen readers; `detail` is a pattern."""
    expect(opened.page.locator("#phase")).to_have_text(title)
    hero, advice = opened.page.locator("#hero-detail"), opened.page.locator("#advice")
    shown = hero if hero.is_visible() else advice
    expect(shown).to_be_visible()
    expect(shown).to_have_text(re.compile(detail))
    expect(opened.page.get_by_role("status")).to_contain_text(title)


def test_a_fresh_page_says_what_to_do(talking_browser: Browser, server: Server, visit: OpenPage) -> None:
    opened = visit(talking_browser, server.url)
    expect_words(opened, "Ready", "Press Start and talk")
    expect(opened.page.locator("[popover]:visible")).to_have_count(0)


def test_while_the_browser_asks_the_page_says_where_to_look(
    talking_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(talking_browser, server.url)
    opened.page.evaluate("() => { navigator.mediaDevices.getUserMedia = () => new Promise(() => {}); }")
    opened.page.get_by_role("button", name="Start").click()
    expect_words(opened, "Asking for permission", "Choose “Allow”")
    opened.page.get_by_role("button", name="Cancel").click()
    opened.expect_phase("idle")


def test_a_denied_microphone_is_said_to_be_blocked(
    launch_browser: LaunchBrowser, server: Server, visit: OpenPage
) -> None:
    opened = visit(launch_browser(allow=False, flags=("--use-fake-device-for-media-stream",)), server.url)
    opened.page.get_by_role("button", name="Start").click()
    opened.expect_phase("denied")
    expect_words(opened, "Microphone blocked", "Allow it")


def test_a_machine_without_microphone_is_told_to_plug_one_in(
    launch_browser: LaunchBrowser, server: Server, visit: OpenPage
) -> None:
    opened = visit(launch_browser(), server.url)
    opened.page.get_by_role("button", name="Start").click()
    opened.expect_phase("no_device")
    expect_words(opened, "No microphone found", "Plug one in")


def test_a_microphone_that_another_program_holds_is_said_to_be_held(
    talking_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(talking_browser, server.url)
    opened.page.evaluate(
        """() => {
            navigator.mediaDevices.getUserMedia = async () => {
                throw new DOMException("", "NotReadableError");
            };
        }"""
    )
    opened.page.get_by_role("button", name="Start").click()
    expect_words(opened, "Microphone not available", "Another program")


def test_an_insecure_address_is_named_as_the_reason(
    launch_browser: LaunchBrowser, start_server: StartServer, visit: OpenPage
) -> None:
    server = start_server(LIVE_ASR_SERVER__ALLOWED_HOSTS="captions.test")
    browser = launch_browser(flags=("--host-resolver-rules=MAP captions.test 127.0.0.1",))
    opened = visit(browser, server.url.replace("127.0.0.1", "captions.test"))
    expect_words(opened, "Not a secure address", "https://")


def test_an_old_browser_is_told_so(talking_browser: Browser, server: Server, visit: OpenPage) -> None:
    opened = visit(talking_browser, server.url)
    opened.page.evaluate("delete window.AudioWorkletNode")
    opened.page.get_by_role("button", name="Start").click()
    expect_words(opened, "Browser too old", "Update it")


def test_silence_is_noticed_in_words_while_live(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(silent_browser, server.url)
    opened.start()
    expect(opened.page.locator("#hearing")).to_have_text("No sound", timeout=20_000)
    expect_words(opened, "Live", "Is the microphone muted")
    opened.photograph("no-sound")
    opened.stop()
    opened.expect_phase("done")
    expect_words(opened, "Done", "No words were recognised")


def test_a_language_that_the_model_lacks_is_refused_with_advice(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(silent_browser, server.url)
    opened.page.get_by_label("Spoken language").select_option("vi")
    opened.page.get_by_role("button", name="Start").click()
    opened.expect_phase("failed")
    expect_words(opened, "That didn't work", r"\w+")
    opened.photograph("failed")


def wait_out(opened: Visit, sockets: list[WebSocket]) -> None:
    """Let the page's clock run, faster than others, until the page opens another socket.

    Second by second: `fast_forward` lets an interval pass only once, and the page counts down by one.
    """
    known = len(sockets)
    for _ in range(WAITED_SECONDS):
        if len(sockets) > known:
            return
        opened.page.clock.run_for(1_000)
    raise AssertionError("the page has not asked again")


def test_a_full_server_is_asked_again_until_there_is_room(
    silent_browser: Browser, start_server: StartServer, visit: OpenPage
) -> None:
    server = start_server(LIVE_ASR_SERVER__MAX_SESSIONS="1")
    first, second = visit(silent_browser, server.url), visit(silent_browser, "about:blank")
    second.page.clock.install()
    second.page.goto(server.url)
    sockets: list[WebSocket] = []
    second.page.on("websocket", lambda socket: sockets.append(socket))
    first.start()
    second.page.get_by_role("button", name="Start").click()
    second.expect_phase("full")
    expect_words(second, "Server full", r"Trying again in \d+ s")
    second.photograph("full")
    wait_out(second, sockets)
    expect_words(second, "Server full", r"Trying again in \d{2,} s")  # anew
    first.stop()
    first.expect_phase("done")
    wait_out(second, sockets)
    second.expect_phase("live")
    assert len(sockets) == 3


def test_waiting_for_a_full_server_can_be_given_up(
    silent_browser: Browser, start_server: StartServer, visit: OpenPage
) -> None:
    server = start_server(LIVE_ASR_SERVER__MAX_SESSIONS="1")
    first, second = visit(silent_browser, server.url), visit(silent_browser, server.url)
    first.start()
    second.page.get_by_role("button", name="Start").click()
    second.expect_phase("full")
    second.page.get_by_role("button", name="Cancel").click()
    expect_words(second, "Ready", "Press Start")


def test_a_lost_server_leaves_the_captions_and_says_so(
    talking_browser: Browser, start_server: StartServer, visit: OpenPage
) -> None:
    server = start_server()
    opened = visit(talking_browser, server.url, tolerated=("WebSocket connection", "Failed to load resource"))
    opened.start()
    opened.wait_for("() => document.querySelector('#transcript .committed')")
    server.process.kill()
    expect_words(opened, "Reconnecting", "Nothing is lost")
    opened.photograph("reconnecting")
    opened.stop()
    opened.page.get_by_role("button", name="Give up").click()
    opened.expect_phase("lost")
    expect_words(opened, "Connection lost", "stays here")
    opened.photograph("lost")
    committed = " ".join("".join(opened.page.locator("#transcript .committed").all_text_contents()).split())
    assert committed

    for _ in range(2):
        opened.page.get_by_role("button", name="Save").click()
        with opened.page.expect_download() as download:
            opened.page.locator("#save-menu > [data-format=txt]").click()
        assert unlabelled(Path(download.value.path()).read_text()) == committed
        opened.page.get_by_role("button", name="Start").click()
        expect_words(opened, "Can't reach the server", "Check that live-asr is running")


def test_a_server_that_asks_for_a_token_is_satisfied_by_the_address(
    silent_browser: Browser, start_server: StartServer, visit: OpenPage
) -> None:
    server = start_server(LIVE_ASR_SERVER__TOKEN="open-sesame")
    stranger = visit(silent_browser, server.url)
    stranger.page.get_by_role("button", name="Start").click()
    stranger.expect_phase("failed")
    expect_words(stranger, "That didn't work", "#token=")

    guest = visit(silent_browser, f"{server.url}/#token=open-sesame")
    assert "sesame" not in guest.page.url
    guest.start()
