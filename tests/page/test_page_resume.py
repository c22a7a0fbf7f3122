"""A session whose socket is lost goes on over another one, and nothing is lost."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, expect
from scripted_server import ScriptedServer
from standing_between import standing_between
from visiting import OF_A_CUT_LINE, OpenPage, Visit

from benchmarks.resilience.cutting import CUTS
from tests.started import Server, StartServer

pytest_plugins = ["browsers"]


def opened_session(browser: Browser, server: Server, visit: OpenPage) -> tuple[Visit, ScriptedServer]:
    opened = visit(browser, server.url)
    scripted = ScriptedServer(opened)
    scripted.open()
    scripted.wait_until(lambda: scripted.heard_bytes > 32_000)
    return opened, scripted


def test_a_lost_socket_is_taken_up_and_what_the_server_did_not_receive_is_sent_again(
    talking_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened, scripted = opened_session(talking_browser, server, visit)
    scripted.commit(0, "before the loss")
    expect(opened.page.locator("#transcript")).to_contain_text("before the loss")
    sent = b"".join(message for message in scripted.heard if isinstance(message, bytes))
    scripted.lose()
    expect(opened.page.locator("#phase")).to_have_text("Reconnecting")
    expect(opened.page.locator("#advice")).to_contain_text("Nothing is lost")
    opened.photograph("reconnecting-scripted")
    scripted.wait_until(lambda: len(scripted.starts) == 2)
    assert scripted.starts[1] == {
        "type": "start",
        "resume": {"session": "abc", "token": "t", "last_seq": 1},
    }
    scripted.heard.clear()
    received_bytes = 10_000
    scripted.greet(received_bytes)
    scripted.wait_until(lambda: scripted.heard_bytes > len(sent))
    again = b"".join(message for message in scripted.heard if isinstance(message, bytes))
    known = len(sent) - received_bytes
    assert again[:known] == sent[received_bytes:]
    expect(opened.page.locator("#phase")).to_have_text("Live")
    scripted.commit(1, "after it")
    expect(opened.page.locator("#transcript")).to_contain_text("after it")
    assert "before the loss" in opened.captions()


def test_a_session_goes_on_at_the_server_that_its_own_names(
    talking_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened, scripted = opened_session(talking_browser, server, visit)
    scripted.lose()
    scripted.wait_until(lambda: len(scripted.starts) == 2)
    scripted.greet(scripted.heard_bytes, resume_url="http://other.example:8765/captions")
    expect(opened.page.locator("#phase")).to_have_text("Live")
    scripted.lose()
    scripted.wait_until(lambda: len(scripted.starts) == 3)
    assert "resume" in scripted.starts[2]
    own = f"{server.url.replace('http', 'ws', 1)}/v1/stream"
    assert scripted.addresses == [own, own, "ws://other.example:8765/captions/v1/stream"]


def test_what_was_acknowledged_is_not_held(talking_browser: Browser, server: Server, visit: OpenPage) -> None:
    _, scripted = opened_session(talking_browser, server, visit)
    received_bytes = scripted.heard_bytes
    scripted.say(type="ack", bytes=received_bytes)
    scripted.lose()
    scripted.wait_until(lambda: len(scripted.starts) == 2)
    sent = b"".join(message for message in scripted.heard if isinstance(message, bytes))
    scripted.heard.clear()
    scripted.greet(received_bytes)
    scripted.wait_until(lambda: scripted.heard_bytes > len(sent) - received_bytes)
    again = b"".join(message for message in scripted.heard if isinstance(message, bytes))
    rest = sent[received_bytes:]
    assert again[: len(rest)] == rest


def test_a_stop_that_the_server_may_have_missed_is_said_again(
    talking_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened, scripted = opened_session(talking_browser, server, visit)
    opened.stop()
    scripted.wait_until(lambda: '{"type":"stop"}' in scripted.heard)
    received_bytes = scripted.heard_bytes
    scripted.lose()
    scripted.wait_until(lambda: len(scripted.starts) == 2)
    scripted.heard.clear()
    scripted.greet(received_bytes)
    scripted.wait_until(lambda: '{"type":"stop"}' in scripted.heard)
    scripted.say(type="stopped", seq=1, duration=2, text="")
    scripted.conclude(("SPEAKER_00", 0, "Hello."), live_labels={"SPEAKER_00": []})
    opened.expect_phase("done")


def test_nothing_is_sent_before_all_that_was_missed_is_here(
    talking_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened, scripted = opened_session(talking_browser, server, visit)
    sent = scripted.audio
    scripted.come_back(10_000, last_seq=2)
    scripted.commit(0, "said meanwhile", seq=1)
    expect(opened.page.locator("#transcript")).to_contain_text("said meanwhile")
    assert scripted.heard_bytes == 0
    scripted.commit(1, "and this", seq=2)
    rest = sent[10_000:]
    scripted.wait_until(lambda: scripted.heard_bytes > len(rest))
    assert scripted.audio.startswith(rest)


def test_a_restarting_server_is_come_back_to(
    talking_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened, scripted = opened_session(talking_browser, server, visit)
    scripted.say(type="error", code="shutting_down", message="Restarting.", hint="", retry_after=5)
    scripted.lose(1012)
    expect(opened.page.locator("#phase")).to_have_text("Reconnecting")
    scripted.wait_until(lambda: len(scripted.starts) == 2)


def test_a_session_that_the_server_no_longer_has_is_lost(
    talking_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened, scripted = opened_session(talking_browser, server, visit)
    scripted.lose()
    scripted.wait_until(lambda: len(scripted.starts) == 2)
    scripted.say(type="error", code="session_unknown", message="There is no such session.", hint="")
    scripted.lose(1008)
    opened.expect_phase("lost")


def test_what_the_server_has_but_not_on_disk_is_held_on(
    talking_browser: Browser, server: Server, visit: OpenPage
) -> None:
    _, scripted = opened_session(talking_browser, server, visit)
    sent = scripted.audio
    for received_bytes in (20_000, 4_000):  # the second time it is another process, after a crash
        rest = sent[received_bytes:]
        scripted.come_back(received_bytes)
        scripted.wait_until(lambda rest=rest: scripted.heard_bytes > len(rest))  # type: ignore[misc]
        assert scripted.audio[: len(rest)] == rest


def test_a_session_that_fails_each_time_is_come_back_to_ever_more_slowly(
    talking_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened, scripted = opened_session(talking_browser, server, visit)
    now = "() => performance.now()"
    for _ in range(4):
        scripted.heard.clear()
        lost_at = opened.page.evaluate(now)
        scripted.say(type="error", code="overrun", message="Too much.", hint="")
        scripted.lose(1008)
        scripted.wait_until(lambda: bool(scripted.starts))
        paused_ms = opened.page.evaluate(now) - lost_at
        scripted.greet()
        expect(opened.page.locator("#phase")).to_have_text("Live")
    assert paused_ms > 900  # at least a half of 250 ms, doubled three times


@pytest.fixture(scope="module")
def waiting(launch: StartServer) -> Server:
    """A server that waits for those who are lost."""
    return launch(LIVE_ASR_SERVER__RESUME_WINDOW="120")


def test_a_line_that_is_cut_in_mid_speech_costs_no_word_no_colour_and_no_name(
    talking_browser: Browser, waiting: Server, visit: OpenPage
) -> None:
    with standing_between(waiting.url) as between:
        opened = visit(talking_browser, between.url, tolerated=OF_A_CUT_LINE)
        page = opened.page

        def spoken(seconds: int) -> None:
            opened.wait_for(f"() => document.getElementById('elapsed').textContent >= '0:{seconds:02}'")

        opened.start()
        opened.wait_for("() => document.querySelector('#transcript .speaker')")
        page.locator("#transcript .speaker").first.click()
        page.keyboard.type("Diane")
        page.keyboard.press("Enter")
        address = page.locator("#save-menu > [data-format=json]").get_attribute("href")
        assert address is not None
        for n, how in enumerate(CUTS):
            spoken(12 + 4 * n)
            between.accept(False)
            between.cut(how)
            expect(page.locator("#phase")).to_have_text("Reconnecting", timeout=30_000)
            expect(page.locator("#advice")).to_contain_text("Nothing is lost")
            between.accept(True)
            expect(page.locator("#phase")).to_have_text("Live", timeout=20_000)
        spoken(31)
        opened.stop()
        opened.expect_phase("done")
        assert page.locator("#save-menu > [data-format=json]").get_attribute("href") == address
        record = page.request.get(f"{waiting.url}{urlsplit(address).path}?revision=0").json()
        assert record["duration"] >= 30
        heard = record["text"].lower()
        assert all(word in heard for word in ("diane", "chicago", "yankee")), heard
        assert "Diane" in page.locator("#lanes .speaker").all_text_contents()
