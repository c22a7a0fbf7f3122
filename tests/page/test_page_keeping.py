"""What the browser keeps: a talk whose page was reloaded, closed or crashed goes on, and nothing is lost."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Error, Page, expect
from scripted_server import ScriptedServer
from visiting import OF_A_CUT_LINE, WORKING, OpenPage, Visit, unlabelled

from tests.started import Server, StartServer

pytest_plugins = ["browsers"]

TIMEOUT = 30_000
A_SECOND_BYTES = 96_000
ACKED_BYTES = 96_000
KEPT = """async () => {
    const request = indexedDB.open("live-asr");
    await new Promise((resolve) => (request.onsuccess = resolve));
    const count = (store) => new Promise((resolve) => {
        const counting = request.result.transaction(store).objectStore(store).count();
        counting.onsuccess = () => resolve(counting.result);
    });
    const kept = {};
    for (const store of ["talks", "sound", "messages"]) kept[store] = await count(store);
    request.result.close();
    return kept;
}"""
"""How much the browser keeps, by store."""
PAUSE_KEPT = """async () => {
    const request = indexedDB.open("live-asr");
    await new Promise((resolve) => (request.onsuccess = resolve));
    const reading = request.result.transaction("talks").objectStore("talks").getAll();
    await new Promise((resolve) => (reading.onsuccess = resolve));
    request.result.close();
    return reading.result.some(({ paused }) => paused);
}"""
NOTHING_KEPT = f"async () => Object.values(await ({KEPT})()).every((count) => count === 0)"


@pytest.fixture(scope="module")
def waiting(launch: StartServer) -> Server:
    """A server that waits for those who are lost."""
    return launch(LIVE_ASR_SERVER__RESUME_WINDOW="120")


def spoken(opened: Visit, seconds: int) -> None:
    """Wait until the clock on the page shows so many seconds."""
    opened.wait_for(f"() => document.getElementById('elapsed').textContent >= '0:{seconds:02}'")


def sessions(server: Server, page: Page) -> list[dict[str, Any]]:
    """Return the server's sessions, the newest first."""
    found: list[dict[str, Any]] = page.request.get(f"{server.url}/v1/sessions").json()["sessions"]
    return found


def live_text(server: Server, page: Page, record: dict[str, Any]) -> str:
    """Return the words of a session as they were committed live."""
    return unlabelled(page.request.get(f"{server.url}{record['links']['txt']}?revision=0").text())


def committed(opened: Visit) -> str:
    """Return the words on the screen that will not change."""
    return " ".join("".join(opened.page.locator("#transcript .committed").all_text_contents()).split())


def stop(opened: Visit) -> None:
    """Press Stop, and wait until every word is there; the full pass is not waited for."""
    opened.stop()
    expect(opened.page.get_by_role("button", name="Start")).to_be_enabled(timeout=WORKING)


def expect_offer(page: Page) -> None:
    """Wait until the page offers to go on."""
    expect(page.locator("#offers")).to_contain_text(
        re.compile(r"Your talk from .+ is still open"), timeout=TIMEOUT
    )


def test_a_reloaded_page_goes_on_with_its_talk(
    talking_browser: Browser, waiting: Server, visit: OpenPage
) -> None:
    opened = visit(talking_browser, waiting.url)
    page = opened.page
    before = len(sessions(waiting, page))
    opened.start()
    spoken(opened, 14)
    opened.wait_for("() => document.querySelector('#transcript .committed')")
    read = committed(opened)
    page.reload()
    expect_offer(page)
    opened.photograph("offer-light")
    page.emulate_media(color_scheme="dark")
    opened.photograph("offer-dark")
    page.get_by_role("button", name="Go on").click()
    opened.expect_phase("live")
    expect(page.locator("#offers")).to_be_hidden()
    expect(page.locator("#notices")).to_contain_text(re.compile(r"The microphone was off for [\d.]+ s"))
    assert committed(opened).startswith(read), "what was read stays"
    spoken(opened, 24)
    stop(opened)
    assert len(sessions(waiting, page)) == before + 1
    record = sessions(waiting, page)[0]
    assert record["duration"] >= 23
    assert opened.captions() == live_text(waiting, page, record)
    opened.wait_for(NOTHING_KEPT)


def talked(browser: Browser, server: Server, visit: OpenPage) -> tuple[Visit, ScriptedServer]:
    """Return a page that has sent some seconds of sound, of which the server has a part, and its server."""
    opened = visit(browser, server.url, tolerated=("Failed to load resource",))  # names, of no session
    scripted = ScriptedServer(opened)
    scripted.open()
    scripted.commit(0, "said before", speaker="S1", seq=1)
    scripted.wait_until(lambda: scripted.heard_bytes > 3 * ACKED_BYTES)
    scripted.say(type="ack", bytes=ACKED_BYTES)
    scripted.say(type="lag", received=1.0, committed=0.9, seconds=0.1)
    scripted.wait_until(lambda: scripted.heard_bytes > 4 * ACKED_BYTES)
    return opened, scripted


def taken_up(opened: Visit, scripted: ScriptedServer, button: str = "Go on") -> dict[str, Any]:
    """Press this button of the offer; return the page's `start`, and forget what it had sent before."""
    scripted.heard.clear()
    expect_offer(opened.page)
    opened.page.get_by_role("button", name=button).click()
    scripted.wait_until(lambda: bool(scripted.starts))
    start = scripted.starts[0]
    scripted.heard.clear()
    return start


def in_common(first: bytes, second: bytes) -> int:
    """Return how many bytes two beginnings have in common."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((at for at, (left, right) in pairs if left != right), min(len(first), len(second)))


def another_page(opened: Visit) -> tuple[Visit, ScriptedServer]:
    """Open a second tab in the same browser."""
    other = Visit(opened.page.context.new_page())
    scripted = ScriptedServer(other)
    other.page.goto(opened.page.url)
    return other, scripted


def crash(page: Page, browser: Browser) -> None:
    """Have a tab crash, and take it away: closing it the usual way may wait for its answer for ever."""
    about = page.context.new_cdp_session(page).send("Target.getTargetInfo")
    with pytest.raises(Error):
        page.goto("chrome://crash")
    target = about["targetInfo"]["targetId"]
    browser.new_browser_cdp_session().send("Target.closeTarget", {"targetId": target})


@pytest.mark.parametrize("how", ["reloaded", "closed", "crashed"])
def test_sound_that_the_server_may_not_have_is_sent_first_by_the_page_that_goes_on(
    talking_browser: Browser, server: Server, visit: OpenPage, how: str
) -> None:
    opened, scripted = talked(talking_browser, server, visit)
    sent = scripted.audio
    if how == "reloaded":
        opened.page.reload()
    else:
        first = opened.page
        opened, scripted = another_page(opened)
        if how == "crashed":
            crash(first, talking_browser)
        else:
            first.close()
    start = taken_up(opened, scripted)
    assert start["resume"] == {"session": "abc", "token": "t", "last_seq": 1}
    expect(opened.page.locator("#transcript")).to_contain_text("said before")
    scripted.greet(ACKED_BYTES, last_seq=1)
    rest = sent[ACKED_BYTES:]
    scripted.wait_until(lambda: scripted.heard_bytes > len(rest) + A_SECOND_BYTES)
    assert in_common(scripted.audio, rest) > len(rest) - A_SECOND_BYTES / 2
    opened.expect_phase("live")
    scripted.commit(1, "said after", speaker="S1", seq=2)
    expect(opened.page.locator("#transcript")).to_contain_text("said after")


@pytest.mark.parametrize("is_answered", [True, False], ids=["answered", "not answered"])
def test_a_talk_that_was_paused_stays_paused_on_the_page_that_goes_on(
    talking_browser: Browser, server: Server, visit: OpenPage, is_answered: bool
) -> None:
    opened, scripted = talked(talking_browser, server, visit)
    opened.page.get_by_role("button", name="Pause").click()
    scripted.wait_until(lambda: bool(scripted.all("pause")))
    scripted.say(type="ack", bytes=scripted.heard_bytes)
    sent_bytes = scripted.heard_bytes
    answer = {"type": "paused", "seq": 2, "time": sent_bytes / A_SECOND_BYTES, "paused": True}
    if is_answered:
        scripted.say(**answer)
    # A page that has not kept the answer asks for it again, and sends nothing before it comes.
    last_seq = 2 if is_answered else 1
    opened.wait_for(f"async () => (await ({KEPT})()).messages === {last_seq}")
    opened.wait_for(PAUSE_KEPT)
    opened.page.reload()
    start = taken_up(opened, scripted)
    assert start["resume"]["last_seq"] == last_seq
    scripted.greet(sent_bytes, last_seq=2)
    if not is_answered:
        scripted.say(**answer)
    scripted.say(type="ack", bytes=sent_bytes)  # due: without it the page looks for another line
    expect(opened.page.locator("#phase")).to_have_text("Paused")
    # A second of the audio clock, in which ten pieces of sound would have been sent.
    opened.page.evaluate("() => { window.clock = new AudioContext(); }")
    opened.wait_for("() => window.clock.currentTime >= 1")
    assert scripted.heard_bytes == 0
    opened.page.get_by_role("button", name="Resume").click()
    scripted.wait_until(lambda: scripted.heard_bytes > 0)
    expect(opened.page.locator("#phase")).to_have_text("Live")


def test_what_was_acknowledged_is_kept_no_longer(
    talking_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened, scripted = talked(talking_browser, server, visit)
    opened.wait_for(f"async () => (await ({KEPT})()).sound > 5")
    sent_bytes = scripted.heard_bytes
    scripted.say(type="ack", bytes=sent_bytes)
    count = sent_bytes // 9_600
    opened.wait_for(f"async () => (await ({KEPT})()).sound < {count} / 2")


def test_only_one_of_two_tabs_goes_on_with_a_talk(
    talking_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened, _ = talked(talking_browser, server, visit)
    second, to_second = another_page(opened)
    expect(second.page.locator("#start-label")).to_have_text("Start")
    expect(second.page.locator("#offers")).to_be_hidden()
    opened.page.close()
    third, to_third = another_page(second)
    expect_offer(second.page)
    expect_offer(third.page)
    taken_up(second, to_second)
    third.page.get_by_role("button", name="Go on").click()
    expect(third.page.locator("#notices")).to_contain_text("goes on in another tab")
    expect(third.page.locator("#offers")).to_be_hidden()
    assert to_third.starts == []


def test_a_talk_that_is_to_be_ended_is_sent_to_its_end_and_then_forgotten(
    talking_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened, scripted = talked(talking_browser, server, visit)
    sent = scripted.audio
    opened.page.reload()
    taken_up(opened, scripted, "End it")
    scripted.greet(ACKED_BYTES, last_seq=1)
    scripted.wait_until(lambda: '{"type":"stop"}' in scripted.heard)
    rest = sent[ACKED_BYTES:]
    assert in_common(scripted.audio, rest) == len(scripted.audio) > len(rest) - A_SECOND_BYTES / 2
    scripted.say(type="stopped", seq=2, duration=3.0, text=" said before")
    scripted.conclude(("SPEAKER_00", 0, "Said before."), live_labels={"SPEAKER_00": ["S1"]})
    opened.expect_phase("done")
    opened.wait_for(NOTHING_KEPT)
    expect(opened.page.locator("#offers")).to_be_hidden()


def test_what_is_kept_can_be_deleted(talking_browser: Browser, server: Server, visit: OpenPage) -> None:
    opened, _ = talked(talking_browser, server, visit)
    opened.page.reload()
    expect_offer(opened.page)
    opened.page.once("dialog", lambda dialog: dialog.accept())
    opened.page.get_by_role("button", name="Delete").click()
    expect(opened.page.locator("#offers")).to_be_hidden()
    opened.wait_for(NOTHING_KEPT)


def test_a_server_that_is_away_for_long_is_come_back_to_with_all_that_was_said(
    talking_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(talking_browser, "about:blank", tolerated=OF_A_CUT_LINE)
    opened.page.clock.install()
    scripted = ScriptedServer(opened)
    opened.page.goto(server.url)
    scripted.open()
    scripted.wait_until(lambda: scripted.heard_bytes > ACKED_BYTES)
    sent = scripted.audio
    scripted.refuse = True
    scripted.lose()
    expect(opened.page.locator("#phase")).to_have_text("Reconnecting")
    for _ in range(8):
        opened.page.clock.fast_forward("00:30")
    expect(opened.page.locator("#advice")).to_contain_text("Nothing is lost")
    scripted.heard.clear()
    scripted.refuse = False
    opened.page.clock.fast_forward("00:30")
    scripted.wait_until(lambda: bool(scripted.starts))
    scripted.heard.clear()
    scripted.greet(ACKED_BYTES)
    rest = sent[ACKED_BYTES:]
    scripted.wait_until(lambda: scripted.heard_bytes > len(rest))
    assert scripted.audio.startswith(rest)
    expect(opened.page.locator("#phase")).to_have_text("Live")


def test_a_session_that_is_gone_is_followed_by_another_and_both_are_one_transcript(
    talking_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened, scripted = talked(talking_browser, server, visit)
    page = opened.page
    sent = scripted.audio
    page.locator("#transcript .speaker").first.click()
    page.keyboard.type("Diane")
    page.keyboard.press("Enter")
    scripted.heard.clear()
    scripted.lose()
    scripted.wait_until(lambda: bool(scripted.starts))
    scripted.heard.clear()
    scripted.say(type="error", code="session_unknown", message="There is no such session.", hint="")
    scripted.lose(1008)
    scripted.wait_until(lambda: bool(scripted.starts))
    start = scripted.starts[0]
    assert start["metadata"] == {"follows": "abc"} and start["audio"]["encoding"] == "pcm_s16le"
    expect(page.locator("#phase")).to_have_text("Reconnecting")
    scripted.heard.clear()
    scripted.greet(session="def")
    expect(page.locator("#phase")).to_have_text("Live")
    expect(page.locator("#notices")).to_contain_text("the captions go on in a new one")
    rest = sent[ACKED_BYTES:]
    scripted.wait_until(lambda: scripted.heard_bytes > len(rest))
    assert scripted.audio.startswith(rest), "what the other one did not take is this one's beginning"
    scripted.commit(0, "said after", speaker="S1", seq=1)
    expect(page.locator("#transcript")).to_contain_text("said after")
    assert opened.captions() == "said before said after"
    opened.photograph("followed")
    assert page.locator("#transcript .speaker").all_text_contents() == ["Diane", "Speaker 2"]

    page.reload()  # the page that goes on shows both, too
    start = taken_up(opened, scripted)
    assert start["resume"] == {"session": "def", "token": "t", "last_seq": 1}
    assert opened.captions() == "said before said after"
    assert page.locator("#transcript .speaker").all_text_contents() == ["Diane", "Speaker 2"]
    scripted.greet(len(rest), session="def", last_seq=1)
    opened.expect_phase("live")
    scripted.stop(9.0)
    scripted.heard.clear()
    scripted.conclude(("SPEAKER_00", 0, "Said after."), live_labels={"SPEAKER_00": ["S1"]})
    scripted.wait_until(lambda: bool(scripted.starts))
    assert scripted.starts[0]["resume"] == {"session": "abc", "token": "t", "last_seq": 0}
    scripted.conclude(("SPEAKER_00", 0, "Said before."), live_labels={"SPEAKER_00": ["S1"]})
    opened.expect_phase("done")
    assert opened.captions() == "Said before. Said after."
    assert page.locator("#transcript .speaker").all_text_contents() == ["Diane", "Speaker 2"]
    page.get_by_role("button", name="Save").click()
    with page.expect_download() as download:
        page.locator("#save-menu > [data-format=txt]").click()
    saved = Path(download.value.path()).read_text()
    assert saved == "Diane: Said before.\n\nSpeaker 2: Said after.\n"


HOUR_BYTES = 2 * 8_000 * 3_600
KEEP_AN_HOUR = """async (size) => {
    const request = indexedDB.open("live-asr");
    await new Promise((resolve) => (request.onsuccess = resolve));
    const writing = request.result.transaction(["talks", "sound"], "readwrite");
    writing.objectStore("talks").put({
        id: "a", begun: Date.now(), name: "captions", rate_hz: 8000, settings: null, names: {},
        start: { audio: { encoding: "pcm_s16le", sample_rate: 8000, channels: 1 } },
        parts: [{ session: "abc", token: "t", place: { utterances: 0, seconds: 0, speakers: 0 } }],
        place: { utterances: 0, seconds: 0, speakers: 0 }, isOpen: true, position: 0, held_bytes: size,
        captured_bytes: size, heardAt: Date.now(), committed: 0, dropped: 0, unheard: 0,
    });
    for (let at = 0; at < 60; at++) writing.objectStore("sound").put(new Uint8Array(size / 60), ["a", at]);
    await new Promise((resolve) => (writing.oncomplete = resolve));
    request.result.close();
}"""


def test_an_hour_of_sound_is_kept_and_what_comes_then_is_said_to_be_left_out(
    talking_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(talking_browser, server.url)
    scripted = ScriptedServer(opened)
    expect(opened.page.locator("#start-label")).to_have_text("Start")
    opened.page.evaluate(KEEP_AN_HOUR, HOUR_BYTES - 2 * 16_000)  # two seconds less
    opened.page.reload()
    expect(opened.page.locator("#offers")).to_contain_text("59 min 58 s of its sound are kept here")
    taken_up(opened, scripted)
    scripted.lose()
    expect(opened.page.locator("#advice")).to_have_text(
        re.compile(
            r"This page can keep an hour of sound, and that much is waiting\. [1-9][\d.]* s since then"
        ),
        timeout=TIMEOUT,
    )
    opened.photograph("an-hour")
    scripted.wait_until(lambda: len(scripted.starts) == 1)
    scripted.greet(HOUR_BYTES // 2)
    opened.expect_phase("live")
    expect(opened.page.locator("#advice")).to_contain_text(
        re.compile(r"[\d.]+ s of sound had to be left out")
    )


NO_DATABASE = """Object.defineProperty(window, "indexedDB", {
    get() { throw new DOMException("The operation is insecure.", "SecurityError"); } });"""


def test_a_browser_that_keeps_nothing_captions_all_the_same(
    talking_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(talking_browser, "about:blank")
    opened.page.add_init_script(NO_DATABASE)
    scripted = ScriptedServer(opened)
    opened.page.goto(server.url)
    scripted.open()
    scripted.wait_until(lambda: scripted.heard_bytes > ACKED_BYTES)
    sent = scripted.audio
    scripted.come_back(10_000)
    scripted.wait_until(lambda: scripted.heard_bytes > len(sent))
    assert scripted.audio.startswith(sent[10_000:])
    scripted.stop(2.0)
    scripted.conclude(("SPEAKER_00", 0, "Said."), live_labels={"SPEAKER_00": []})
    opened.expect_phase("done")
    assert opened.captions() == "Said."


NO_ROOM = """() => {
    const put = IDBObjectStore.prototype.put;
    window.makeRoom = () => {
        IDBObjectStore.prototype.put = put;
    };
    IDBObjectStore.prototype.put = function () {
        throw new DOMException("No room.", "QuotaExceededError");
    };
}"""


def test_a_browser_without_room_says_so_and_keeps_all_once_there_is_some(
    talking_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(talking_browser, server.url)
    scripted = ScriptedServer(opened)
    opened.page.evaluate(NO_ROOM)
    scripted.open()
    expect(opened.page.locator("#notices")).to_contain_text("no room to keep the sound")
    scripted.wait_until(lambda: scripted.heard_bytes > ACKED_BYTES)
    sent_bytes = scripted.heard_bytes
    opened.page.evaluate("makeRoom()")
    opened.wait_for(f"async () => (await ({KEPT})()).sound >= {sent_bytes // 9_600}")


KEEP_MICROPHONES = """() => {
    const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    window.isPlugged = true;
    window.streams = [];
    navigator.mediaDevices.getUserMedia = async (wanted) => {
        if (!window.isPlugged) throw new DOMException("Requested device not found", "NotFoundError");
        window.streams.push(await open(wanted));
        return window.streams.at(-1);
    };
    window.plug = (isPlugged) => {
        window.isPlugged = isPlugged;
        if (!isPlugged) {
            for (const track of window.streams.at(-1).getTracks()) {
                track.stop();
                track.dispatchEvent(new Event("ended"));
            }
        }
        navigator.mediaDevices.dispatchEvent(new Event("devicechange"));
    };
}"""


def test_a_microphone_that_is_unplugged_is_waited_for(
    talking_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(talking_browser, server.url)
    page = opened.page
    page.evaluate(KEEP_MICROPHONES)
    scripted = ScriptedServer(opened)
    scripted.open()
    scripted.commit(0, "said before")
    scripted.wait_until(lambda: scripted.heard_bytes > A_SECOND_BYTES)  # before that there is nothing to miss
    page.evaluate("plug(false)")
    expect(page.locator("#advice")).to_have_text(
        "The microphone is gone: plug it in again or choose another."
    )
    expect(page.locator("#hearing")).to_have_text("No sound")
    expect(page.locator("#phase")).to_have_text("Live")
    opened.photograph("microphone-gone")
    heard_bytes = scripted.heard_bytes
    page.evaluate("plug(true)")
    expect(page.locator("#notices")).to_contain_text(re.compile("Listening again, to “.+”"))
    expect(page.locator("#notices")).to_contain_text(re.compile(r"The microphone was off for [\d.]+ s"))
    scripted.wait_until(lambda: scripted.heard_bytes > heard_bytes + A_SECOND_BYTES)
    expect(page.locator("#advice")).to_be_hidden()
    assert scripted.all("stop") == []
    assert len(scripted.starts) == 1


def test_another_microphone_takes_the_place_of_one_that_is_unplugged(
    talking_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(talking_browser, server.url)
    page = opened.page
    page.evaluate(KEEP_MICROPHONES)
    scripted = ScriptedServer(opened)
    scripted.open()
    page.evaluate("() => { plug(false); window.isPlugged = true; }")
    heard_bytes = scripted.heard_bytes
    scripted.wait_until(lambda: scripted.heard_bytes > heard_bytes + A_SECOND_BYTES)
    expect(page.locator("#phase")).to_have_text("Live")
    assert scripted.all("stop") == []


KEEP_CONTEXTS = """() => {
    window.contexts = [];
    const allow = () => (window.isForbidden = false);
    for (const kind of ["pointerdown", "keydown"]) addEventListener(kind, allow, { capture: true });
    window.AudioContext = class extends AudioContext {
        constructor(options) {
            super(options);
            window.contexts.push(this);
        }
        async resume() {
            if (window.isForbidden) throw new DOMException("", "NotAllowedError");
            return super.resume();
        }
    };
}"""


@pytest.mark.parametrize("by", ["a click", "a key"])
def test_sound_that_the_browser_has_put_to_sleep_is_noticed_and_woken(
    talking_browser: Browser, server: Server, visit: OpenPage, by: str
) -> None:
    opened = visit(talking_browser, server.url)
    page = opened.page
    page.evaluate(KEEP_CONTEXTS)
    scripted = ScriptedServer(opened)
    scripted.open()
    scripted.commit(0, "said before")
    page.evaluate("() => { window.isForbidden = true; return window.contexts[0].suspend(); }")
    asleep = "The browser has put the sound to sleep: click anywhere to go on."
    expect(page.locator("#advice")).to_have_text(asleep, timeout=3_000)
    expect(page.locator("#hearing")).to_have_text("No sound")
    opened.photograph("asleep")
    heard_bytes = scripted.heard_bytes
    if by == "a click":
        page.locator("#captions").click()
    else:
        page.keyboard.press("Shift")
    scripted.wait_until(lambda: scripted.heard_bytes > heard_bytes + A_SECOND_BYTES)
    expect(page.locator("#advice")).to_be_hidden()
    expect(page.locator("#notices")).to_contain_text(re.compile(r"The microphone was off for [\d.]+ s"))
    opened.expect_phase("live")
