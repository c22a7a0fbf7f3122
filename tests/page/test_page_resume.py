"""A session whose socket is lost goes on over another one, and nothing is lost: the server is a script."""

from __future__ import annotations

from typing import Any

from conftest import Server
from playwright.sync_api import Browser, expect
from scripted_server import ScriptedServer
from visiting import OpenPage, Visit

pytest_plugins = ["browsers"]

READY: dict[str, Any] = {
    "type": "ready",
    "session": "abc",
    "token": "t",
    "last_seq": 0,
    "max_unacked_bytes": 2**20,
}


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
    scripted.say(**READY, received_bytes=received_bytes)
    scripted.wait_until(lambda: scripted.heard_bytes > len(sent))
    again = b"".join(message for message in scripted.heard if isinstance(message, bytes))
    known = len(sent) - received_bytes
    assert again[:known] == sent[received_bytes:]
    expect(opened.page.locator("#phase")).to_have_text("Live")
    scripted.commit(1, "after it")
    expect(opened.page.locator("#transcript")).to_contain_text("after it")
    assert "before the loss" in opened.captions()


def test_what_was_acknowledged_is_not_held(talking_browser: Browser, server: Server, visit: OpenPage) -> None:
    _, scripted = opened_session(talking_browser, server, visit)
    received_bytes = scripted.heard_bytes
    scripted.say(type="ack", bytes=received_bytes)
    scripted.lose()
    scripted.wait_until(lambda: len(scripted.starts) == 2)
    sent = b"".join(message for message in scripted.heard if isinstance(message, bytes))
    scripted.heard.clear()
    scripted.say(**READY, received_bytes=received_bytes)
    scripted.wait_until(lambda: scripted.heard_bytes > len(sent) - received_bytes)
    again = b"".join(message for message in scripted.heard if isinstance(message, bytes))
    rest = sent[received_bytes:]
    assert again[: len(rest)] == rest


def test_a_stop_that_the_server_may_have_missed_is_said_again(
    talking_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened, scripted = opened_session(talking_browser, server, visit)
    opened.page.get_by_role("button", name="Stop").click()
    scripted.wait_until(lambda: '{"type":"stop"}' in scripted.heard)
    received_bytes = scripted.heard_bytes
    scripted.lose()
    scripted.wait_until(lambda: len(scripted.starts) == 2)
    scripted.heard.clear()
    scripted.say(**READY, received_bytes=received_bytes)
    scripted.wait_until(lambda: '{"type":"stop"}' in scripted.heard)
    scripted.say(type="stopped", seq=1, duration=2, text="")
    scripted.conclude(("SPEAKER_00", 0, "Hello."), live_labels={"SPEAKER_00": []})
    opened.expect_phase("done")


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
