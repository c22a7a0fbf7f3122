"""A page that comes back too late, or to a server that has lost something, says what is missing."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, expect
from scripted_server import ScriptedServer
from standing_between import standing_between
from visiting import OF_A_CUT_LINE, WORKING, OpenPage, Visit, unlabelled

from tests.started import Server, StartServer

pytest_plugins = ["browsers"]

RECEIVED_BYTES = 100_000
RECORDING_BYTES = 800_000
WINDOW_BYTES = 300_000
KEEP_TRACKS = """() => {
    window.tracks = [];
    const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = async (wanted) => {
        const stream = await open(wanted);
        window.tracks.push(...stream.getTracks());
        return stream;
    };
}"""
IS_RELEASED = "() => window.tracks.length > 0 && window.tracks.every((track) => track.readyState === 'ended')"


def talked(browser: Browser, server: Server, visit: OpenPage) -> tuple[Visit, ScriptedServer, float]:
    """Return a page that has sent some seconds of sound, its server, and the bytes of a second."""
    opened = visit(browser, server.url)
    opened.page.evaluate(KEEP_TRACKS)
    scripted = ScriptedServer(opened)
    scripted.open()
    scripted.wait_until(lambda: scripted.heard_bytes > 3 * RECEIVED_BYTES)
    scripted.commit(0, "heard before")
    return opened, scripted, 2 * scripted.starts[0]["audio"]["sample_rate"]


def uploading(opened: Visit, server: Server) -> ScriptedServer:
    """Add a recording that is larger than the server's window, and take as much of it as fits."""
    scripted = ScriptedServer(opened)
    opened.page.goto(server.url)
    recording = {"name": "talk.mp3", "mimeType": "audio/mpeg", "buffer": bytes(RECORDING_BYTES)}
    opened.page.set_input_files("#recording", recording)  # type: ignore[arg-type]
    scripted.wait_until(lambda: bool(scripted.starts))
    scripted.greet(window_bytes=WINDOW_BYTES)
    scripted.wait_until(lambda: scripted.heard_bytes == WINDOW_BYTES)
    return scripted


@pytest.mark.parametrize("how", ["ended", "ending", "stopped meanwhile"])
def test_sound_that_a_session_no_longer_took_begins_the_session_that_follows_it(
    talking_browser: Browser, server: Server, visit: OpenPage, how: str
) -> None:
    opened, scripted, _ = talked(talking_browser, server, visit)
    sent = scripted.audio
    if how == "stopped meanwhile":
        scripted.lose()
        expect(opened.page.locator("#phase")).to_have_text("Reconnecting")
        opened.stop()
        scripted.wait_until(lambda: len(scripted.starts) == 2)
        sent = scripted.audio
        scripted.heard.clear()
        scripted.greet(RECEIVED_BYTES, last_seq=2)
    else:
        scripted.come_back(RECEIVED_BYTES, last_seq=1 if how == "ending" else 2)
    if how == "ending":
        scripted.wait_until(lambda: scripted.heard_bytes > 0)
        scripted.say(type="notice", code="audio_dropped", message="Audio from byte 100000 on is not taken.")
    else:
        assert scripted.heard_bytes == 0
        scripted.heard.clear()
        scripted.say(type="stopped", seq=2, duration=1.0, text=" heard before")
    scripted.wait_until(lambda: bool(scripted.starts) and scripted.starts[-1].get("metadata") is not None)
    assert scripted.starts[-1]["metadata"] == {"follows": "abc"}
    scripted.heard.clear()
    scripted.greet(session="def")
    rest = sent[RECEIVED_BYTES:]
    scripted.wait_until(lambda: scripted.heard_bytes >= len(rest))
    assert scripted.audio.startswith(rest)
    expect(opened.page.locator("#notices")).to_have_text(re.compile("the captions go on in a new one"))
    scripted.commit(0, "heard after")
    expect(opened.page.locator("#transcript")).to_contain_text("heard after")
    assert opened.captions() == "heard before heard after"
    if how != "stopped meanwhile":
        expect(opened.page.locator("#phase")).to_have_text("Live")
        opened.stop()
    opened.wait_for(IS_RELEASED)
    scripted.wait_until(lambda: '{"type":"stop"}' in scripted.heard)
    scripted.say(type="stopped", seq=2, duration=2.0, text=" heard after")
    expect(opened.page.locator("#phase")).to_have_text("Finishing")
    expect(opened.page.locator("#advice")).not_to_contain_text("left out")


def test_a_session_that_had_taken_all_before_its_page_came_back_is_simply_done(
    talking_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened, scripted, _ = talked(talking_browser, server, visit)
    opened.stop()
    scripted.wait_until(lambda: '{"type":"stop"}' in scripted.heard)
    scripted.come_back(scripted.heard_bytes, last_seq=2)
    scripted.say(type="stopped", seq=2, duration=3.0, text=" heard before")
    scripted.conclude(("SPEAKER_00", 0, "Heard before."), live_labels={"SPEAKER_00": []})
    opened.expect_phase("done")
    expect(opened.page.locator("#phase")).to_have_text("Done")
    expect(opened.page.locator("#advice")).not_to_contain_text("left out")


def test_a_recording_of_which_a_session_no_longer_took_the_rest_is_said_to_be_cut(
    talking_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(talking_browser, "about:blank")
    scripted = uploading(opened, server)
    scripted.commit(0, "the beginning")
    scripted.come_back(200_000, last_seq=2)
    scripted.say(type="stopped", seq=2, duration=3.0, text=" the beginning")
    scripted.conclude(("SPEAKER_00", 0, "The beginning."), live_labels={"SPEAKER_00": []})
    expect(opened.page.locator("#phase")).to_have_text("Done, with gaps")
    expect(opened.page.locator("#advice")).to_contain_text("the last 75% of the recording")
    assert scripted.heard_bytes == 0


def test_a_dead_line_is_noticed_while_a_recording_is_sent(
    talking_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(talking_browser, "about:blank")
    opened.page.clock.install()
    scripted = uploading(opened, server)
    expect(opened.page.locator("#phase")).to_have_text("Transcribing")
    opened.page.clock.fast_forward("01:05")
    expect(opened.page.locator("#phase")).to_have_text("Reconnecting")
    scripted.wait_until(lambda: len(scripted.starts) == 2)


@pytest.mark.parametrize(("received_bytes", "rest_of_a_sample"), [(15_000, b""), (15_001, b"\0")])
def test_a_server_that_has_lost_what_it_had_gets_what_is_left_and_the_loss_is_told(
    talking_browser: Browser, server: Server, visit: OpenPage, received_bytes: int, rest_of_a_sample: bytes
) -> None:
    opened, scripted, _ = talked(talking_browser, server, visit)
    sent = scripted.audio
    scripted.say(type="ack", bytes=40_000)
    scripted.come_back(received_bytes, last_seq=1)
    rest = rest_of_a_sample + sent[40_000:]
    scripted.wait_until(lambda: scripted.heard_bytes > len(rest))
    assert scripted.audio.startswith(rest)
    expect(opened.page.locator("#notices")).to_contain_text("The server has lost 0.3 s of the sound")
    expect(opened.page.locator("#phase")).to_have_text("Live")


def test_who_comes_back_to_a_session_that_is_over_goes_on_in_another_and_loses_no_sound(
    talking_browser: Browser, start_server: StartServer, visit: OpenPage
) -> None:
    server = start_server(LIVE_ASR_SERVER__RESUME_WINDOW="1")
    with standing_between(server.url) as between:
        opened = visit(talking_browser, between.url, tolerated=OF_A_CUT_LINE)
        page = opened.page
        opened.start()
        opened.wait_for("() => document.querySelector('#transcript .committed')")
        address = page.locator("#save-menu > [data-format=json]").get_attribute("href")
        assert address is not None
        session = server.url + urlsplit(address).path.removesuffix("/transcript.json")
        between.accept(False)
        between.cut("reset")
        while page.request.get(session).json()["state"] not in ("finalizing", "done"):
            page.wait_for_timeout(100)
        assert page.locator("#phase").inner_text() == "Reconnecting"
        between.accept(True)
        expect(page.locator("#phase")).to_have_text("Live", timeout=20_000)
        opened.wait_for("() => document.getElementById('elapsed').textContent >= '0:20'")
        opened.stop()
        expect(page.get_by_role("button", name="Start")).to_be_enabled(timeout=WORKING)
        after, before = page.request.get(f"{server.url}/v1/sessions").json()["sessions"]

        def text_of(session: dict[str, Any], revision: str = "") -> list[str]:
            return unlabelled(
                page.request.get(f"{server.url}{session['links']['txt']}{revision}").text()
            ).split()

        # The result of the session that was left is not waited for; that of the other may be there by now.
        first, live, result = text_of(before, "?revision=0"), text_of(after, "?revision=0"), text_of(after)
        assert opened.captions().split() in (first + live, first + result)
        minutes, seconds = page.locator("#elapsed").inner_text().split(":")
        assert int(60 * int(minutes) + int(seconds)) == int(before["duration"] + after["duration"])
