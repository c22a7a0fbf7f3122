"""The page of past sessions in a real browser, on a real server: found, read, heard, corrected, erased."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect
from scripted_server import ScriptedServer
from visiting import CUT_OFF, FAINT_TEXTS, WORKING, OpenPage, Visit, violations
from websockets.sync.client import connect

from tests.started import Server, StartServer

pytest_plugins = ["browsers"]

SECOND_BYTES = 32_000
TALK = slice(12 * SECOND_BYTES, 24 * SECOND_BYTES)
"""Of the telephone call: two speak in turn."""


@dataclass
class Recorded:
    """A session that is over, and the key that its client got."""

    url: str
    session: str
    key: str

    @property
    def keyed(self) -> dict[str, Any]:
        """What a browser has that made this session."""
        kept = [{"name": "live-asr.keys", "value": json.dumps([[self.session, self.key]])}]
        return {"storage_state": {"cookies": [], "origins": [{"origin": self.url, "localStorage": kept}]}}

    def get(self, path: str = "", **params: Any) -> httpx.Response:
        return httpx.get(f"{self.url}/v1/sessions/{self.session}{path}", params=params, headers=self.headers)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    @property
    def lines(self) -> list[tuple[str, str]]:
        segments = self.get("/transcript.json").json()["segments"]
        return [(segment["speaker"], segment["text"]) for segment in segments]


def record(server: Server, audio: bytes, **start: Any) -> Recorded:
    with connect(server.stream, proxy=None, max_size=None) as socket:
        socket.send(json.dumps({"type": "start", "pace": "fast", "final_pass": False, **start}))
        ready = json.loads(socket.recv())
        for first in range(0, len(audio), SECOND_BYTES):
            socket.send(audio[first : first + SECOND_BYTES])
        socket.send(json.dumps({"type": "stop"}))
        while json.loads(socket.recv())["type"] != "final":
            pass
    return Recorded(server.url, ready["session"], ready["token"])


@pytest.fixture(scope="module")
def keeping(launch: StartServer) -> Server:
    """A server that keeps audio."""
    return launch(LIVE_ASR_STORAGE__KEEP_AUDIO="true")


@pytest.fixture(scope="module")
def browser(launch_browser: Callable[..., Browser]) -> Browser:
    return launch_browser()


@pytest.fixture
def call(keeping: Server, sample_pcm: bytes) -> Recorded:
    """A part of the telephone call, in which two speak."""
    return record(keeping, sample_pcm[TALK], title="A call about water")


@pytest.fixture(scope="module")
def read_call(keeping: Server, sample_pcm: bytes) -> Recorded:
    """The same once for all tests that change nothing of it."""
    return record(keeping, sample_pcm[TALK], title="A call about water")


def opened(browser: Browser, visit: OpenPage, recorded: Recorded, **options: Any) -> Visit:
    seen = visit(browser, f"{recorded.url}/past?session={recorded.session}", **{**recorded.keyed, **options})
    expect(seen.page.locator("#lines .line").first).to_be_visible(timeout=WORKING)
    return seen


def texts(page: Page) -> list[str]:
    return [" ".join(text.split()) for text in page.locator("#lines .line-text").all_text_contents()]


def test_a_session_is_found_by_what_was_said_opened_and_given_a_title(
    browser: Browser, visit: OpenPage, call: Recorded
) -> None:
    word = call.lines[0][1].split()[-1].strip(".,?!")
    seen = visit(browser, f"{call.url}/past", **call.keyed)
    page = seen.page
    expect(page.locator("#entries .entry").first).to_contain_text("A call about water")
    page.get_by_role("searchbox").fill("nobody-says-this")
    expect(page.locator("#index-state")).to_contain_text("No session has all of these words")
    page.get_by_role("searchbox").fill(f"water {word.upper()}")
    expect(page.locator("#entries .entry")).not_to_have_count(0)
    expect(page.locator("#entries mark").first).to_have_text(word, ignore_case=True)
    seen.photograph("past-list")
    page.locator(f"#entries [data-session='{call.session}']").click()
    expect(page.locator("#lines .line")).to_have_count(len(call.lines), timeout=WORKING)
    assert texts(page) == [text for _, text in call.lines]
    title = page.get_by_role("textbox", name="Title")
    expect(title).to_have_value("A call about water")
    title.fill("  Rehearsal ")
    page.keyboard.press("Enter")
    expect(page.locator("#message")).to_have_text("Saved.")
    expect(page.locator(f"#entries [data-session='{call.session}']")).to_have_count(0, timeout=WORKING)
    page.reload()
    expect(title).to_have_value("Rehearsal")
    page.go_back()
    expect(page.locator("#opened")).to_be_hidden()


def test_a_line_is_corrected_where_it_stands_and_the_original_can_be_read(
    browser: Browser, visit: OpenPage, call: Recorded
) -> None:
    before = [text for _, text in call.lines]
    seen = opened(browser, visit, call)
    page = seen.page
    page.locator("#lines .line-edit").first.click()
    field = page.locator("#lines textarea")
    expect(field).to_be_focused()
    field.fill("Nobody ever said this.")
    seen.photograph("past-editing")
    page.keyboard.press("Escape")
    assert texts(page) == before
    page.locator("#lines .line-text").first.dblclick()
    field.fill("Somebody did say  this.")
    page.keyboard.press("Enter")
    expect(page.locator("#lines .line-text").first).to_have_text("Somebody did say this.")
    expect(page.locator("#lines .line-edit").first).to_be_focused()
    assert call.get("").json()["revision"] == 2
    assert call.lines[0][1] == "Somebody did say this."
    assert "Somebody did say this." in call.get("/transcript.srt").text
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as").click()
        page.locator("#export-menu [data-format=txt]").click()
    assert download.value.suggested_filename == "A call about water.txt"
    assert "Somebody did say this." in download.value.path().read_text()

    which = page.get_by_role("combobox", name="Which text")
    expect(which).to_have_value("2")
    which.select_option("Final text")
    expect(page.locator("#lines .line-text").first).to_have_text(before[0])
    expect(page.locator("#lines .line-edit")).to_have_count(0)
    which.select_option("Live captions")
    expect(page.locator("#lines .line-edit")).to_have_count(0)
    which.select_option("Corrected text")
    expect(page.locator("#lines .line-text").first).to_have_text("Somebody did say this.")
    page.get_by_role("button", name="Take corrections back").click()
    page.get_by_role("button", name="Take them back").click()
    expect(page.locator("#lines .line-text").first).to_have_text(before[0])
    assert call.get("/transcript.json").json()["revision"] == 1


def test_speakers_are_named_merged_and_given_single_lines(
    browser: Browser, visit: OpenPage, call: Recorded
) -> None:
    labels = list(dict.fromkeys(speaker for speaker, _ in call.lines))
    assert len(labels) == 2
    seen = opened(browser, visit, call)
    page = seen.page

    def ask(at: int) -> None:
        page.locator(f"#lines .line[data-at='{at}'] .line-speaker").click()

    ask(0)
    first = page.locator("#speaker-name-word").inner_text().removeprefix("Name of ")
    page.get_by_label(f"Name of {first}").fill("Ada")
    seen.photograph("past-speaker")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#lines .line-speaker").first).to_have_text("Ada")
    assert call.get("/transcript.txt").text.startswith("Ada: ")

    ask(0)
    page.get_by_label("This line is said by").select_option("Another speaker")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#lines .line-speaker").first).to_have_text("Speaker 3")
    assert call.lines[0][0] == "SPEAKER_02"
    assert [speaker for speaker, _ in call.lines[1:]].count(labels[0]) > 0

    ask(0)
    page.get_by_label("All lines of Speaker 3 are said by").select_option("Ada")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#lines .line-speaker").first).to_have_text("Ada")
    assert {speaker for speaker, _ in call.lines} == set(labels)
    assert call.lines[0][0] == labels[0]
    ask(0)
    page.get_by_label("Name of Ada").fill("Eve")
    page.keyboard.press("Enter")
    expect(page.locator("#lines .line-speaker").first).to_have_text("Eve")
    ask(0)
    page.get_by_label("Name of Eve").fill("Nobody")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#lines .line-speaker").first).to_have_text("Eve")


def test_a_click_on_a_word_plays_from_there(browser: Browser, visit: OpenPage, read_call: Recorded) -> None:
    page = opened(browser, visit, read_call).page
    expect(page.locator("#player")).to_be_visible()
    word = page.locator("#lines .word").nth(5)
    start = float(word.get_attribute("data-start") or "nan")
    word.click()
    page.wait_for_function(
        "(start) => { const player = document.getElementById('player');"
        " return player.currentTime > start && !player.paused && player.duration > 11; }",
        arg=start,
        timeout=WORKING,
    )
    expect(page.locator("#lines .word[aria-current]")).to_have_count(1)
    heard = float(page.locator("#lines .word[aria-current]").get_attribute("data-start") or "nan")
    assert heard >= start
    assert page.locator("#player").evaluate("(player) => player.error") is None
    page.get_by_role("button", name="Play from").last.click()
    last = float(page.locator("#lines .line-time").last.get_attribute("data-start") or "nan")
    page.wait_for_function(
        "(start) => document.getElementById('player').currentTime > start", arg=last, timeout=WORKING
    )


def test_where_no_audio_is_kept_nothing_offers_to_play_it(
    browser: Browser, visit: OpenPage, server: Server, sample_pcm: bytes
) -> None:
    recorded = record(server, sample_pcm[14 * SECOND_BYTES : 18 * SECOND_BYTES])
    page = opened(browser, visit, recorded).page
    expect(page.locator("#player")).to_be_hidden()
    expect(page.get_by_role("button", name="Play from")).to_have_count(0)


def test_who_has_no_key_reads_and_changes_nothing(
    browser: Browser, visit: OpenPage, read_call: Recorded
) -> None:
    # The server's own machine may change all where no token is set; who comes through a proxy is elsewhere.
    elsewhere = {"X-Forwarded-For": "192.0.2.7"}
    page = opened(browser, visit, read_call, storage_state=None, extra_http_headers=elsewhere).page
    expect(page.locator("#hint")).to_contain_text("not changed")
    for selector in (".line-edit", "button.line-speaker", "#erase:visible", "#take-back:visible"):
        expect(page.locator(selector)).to_have_count(0)
    expect(page.get_by_role("textbox", name="Title")).to_have_attribute("readonly", "")
    expect(page.locator("#player")).to_be_hidden()


def test_what_somebody_else_changed_meanwhile_is_said_and_shown(
    browser: Browser, visit: OpenPage, call: Recorded
) -> None:
    page = opened(browser, visit, call, tolerated=("Failed to load resource",)).page
    tag = call.get("/transcript.json").headers["etag"]
    edits = {"edits": [{"segment": 1, "text": "Changed elsewhere."}]}
    address = f"{call.url}/v1/sessions/{call.session}/corrections"
    assert httpx.post(address, json=edits, headers=call.headers | {"If-Match": tag}).status_code == 200
    page.locator("#lines .line-edit").first.click()
    page.locator("#lines textarea").fill("Changed here.")
    page.keyboard.press("Enter")
    expect(page.locator("#message")).to_contain_text("Somebody else has changed this transcript")
    expect(page.locator("#lines .line-text").nth(1)).to_have_text("Changed elsewhere.")
    assert call.lines[0][1] != "Changed here."


def test_a_session_is_erased_once_that_is_confirmed(
    browser: Browser, visit: OpenPage, call: Recorded
) -> None:
    seen = opened(browser, visit, call)
    page = seen.page
    page.get_by_role("button", name="Erase").click()
    expect(page.get_by_role("dialog")).to_contain_text("cannot be brought back")
    seen.photograph("past-erase")
    page.keyboard.press("Escape")
    assert call.get().status_code == 200
    page.get_by_role("button", name="Erase").click()
    page.get_by_role("dialog").get_by_role("button", name="Erase").click()
    expect(page.locator("#opened")).to_be_hidden()
    expect(page.locator(f"#entries [data-session='{call.session}']")).to_have_count(0)
    assert call.get().status_code == 404
    assert page.evaluate("localStorage.getItem('live-asr.keys')") == "[]"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_in_both_schemes_and_on_the_smallest_screen(
    browser: Browser, visit: OpenPage, read_call: Recorded, scheme: str
) -> None:
    seen = opened(browser, visit, read_call, color_scheme=scheme)
    seen.photograph(f"past-{scheme}")
    paper = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(247, 246, 242)", "dark": "rgb(16, 20, 19)"}[scheme]
    assert seen.page.evaluate(FAINT_TEXTS) == []
    seen.page.set_viewport_size({"width": 320, "height": 568})
    assert seen.page.evaluate(CUT_OFF) == []
    seen.photograph(f"past-small-{scheme}")
    seen.page.goto(f"{read_call.url}/past")
    expect(seen.page.locator("#entries .entry").first).to_be_visible()
    assert seen.page.evaluate(CUT_OFF) == []
    assert seen.page.evaluate(FAINT_TEXTS) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_any_state_of_an_opened_session(
    browser: Browser, visit: OpenPage, call: Recorded, scheme: str
) -> None:
    page = opened(browser, visit, call, color_scheme=scheme, reduced_motion="reduce").page
    assert violations(page) == []
    page.get_by_role("button", name="Save as").click()
    assert violations(page) == []
    page.keyboard.press("Escape")
    page.locator("#lines .line-speaker").first.click()
    page.get_by_label(re.compile("^Name of")).fill("Ada")
    assert violations(page) == []
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#lines .line-speaker").first).to_have_text("Ada")
    page.locator("#lines .line-edit").first.click()
    assert violations(page) == []
    page.locator("#lines textarea").fill("Somebody did say this.")
    page.keyboard.press("Enter")
    expect(page.locator("#message")).to_have_text("Saved.")
    page.locator("#lines .word").first.click()
    expect(page.locator("#lines .word[aria-current]")).to_have_count(1)
    page.locator("#player").evaluate("(player) => player.pause()")
    assert violations(page) == []
    page.get_by_role("button", name="Erase").click()
    assert violations(page) == []
    page.keyboard.press("Escape")
    page.set_viewport_size({"width": 390, "height": 844})
    assert violations(page) == []
    page.get_by_role("link", name="All sessions").click()
    expect(page.locator("#entries .entry").first).to_be_visible()
    page.get_by_role("searchbox").fill("somebody")
    expect(page.locator("#entries mark").first).to_be_visible()
    assert violations(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nor_where_there_is_nothing_to_list_or_nobody_answers(
    browser: Browser, visit: OpenPage, start_server: StartServer, scheme: str
) -> None:
    server = start_server()
    page = visit(
        browser, f"{server.url}/past", color_scheme=scheme, tolerated=("Failed to load resource",)
    ).page
    expect(page.locator("#index-state")).to_have_text("Nothing has been recorded yet.")
    assert violations(page) == []
    page.goto(f"{server.url}/past?session=abc")
    expect(page.locator("#message")).to_contain_text("There is no such session")
    assert violations(page) == []
    server.process.kill()
    server.process.wait()
    page.get_by_role("searchbox").fill("anything")
    expect(page.locator("#index-state")).to_contain_text("does not answer")
    assert violations(page) == []


def test_the_page_keeps_the_key_of_what_it_captions_and_names_speakers_with_it(
    browser: Browser, visit: OpenPage, server: Server, silent_browser: Browser
) -> None:
    seen = visit(silent_browser, server.url)
    scripted = ScriptedServer(seen)
    scripted.open()
    scripted.commit(0, "First things first", "S1")
    asked: list[dict[str, str]] = []
    seen.page.route(
        "**/v1/sessions/abc/names",
        lambda route: (asked.append(route.request.headers), route.fulfill(status=200, body="{}")),
    )
    seen.page.locator("#transcript .speaker").first.click()
    seen.page.keyboard.type("Ada")
    with seen.page.expect_request_finished():
        seen.page.keyboard.press("Enter")
    assert json.loads(seen.page.evaluate("localStorage.getItem('live-asr.keys')")) == [["abc", "t"]]
    assert asked[0]["authorization"] == "Bearer t"


def test_live_or_final_is_chosen_when_saving_and_before_the_end_it_is_said_to_be_live(
    visit: OpenPage, server: Server, silent_browser: Browser
) -> None:
    seen = visit(silent_browser, server.url)
    page = seen.page
    scripted = ScriptedServer(seen)
    scripted.open()
    scripted.commit(0, "As heard live", "S1")
    asked: list[str] = []
    page.route(
        "**/v1/sessions/abc/transcript.*",
        lambda route: (asked.append(route.request.url), route.fulfill(status=200, body="text")),
    )

    def save(extension: str = "txt") -> str:
        page.get_by_role("button", name="Save").click()
        with page.expect_download() as download:
            page.locator(f"#save-menu > [data-format={extension}]").click()
        name: str = download.value.suggested_filename
        return name

    scripted.stop(185)
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#save-awaited")).to_be_visible()
    expect(page.locator("#save-which")).to_be_hidden()
    seen.photograph("save-while-finishing")
    page.keyboard.press("Escape")
    assert save().endswith("-live.txt")
    expect(page.locator(".notice")).to_contain_text("Saved the live captions")
    scripted.conclude(("SPEAKER_00", 0, "As heard in the end"), live_labels={"SPEAKER_00": ["S1"]})
    seen.expect_phase("done")
    assert not save("docx").endswith("-live.docx")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#save-awaited")).to_be_hidden()
    page.get_by_label("Live captions").check()
    seen.photograph("save-which")
    page.keyboard.press("Escape")
    assert save().endswith("-live.txt")
    assert [url.rsplit("/", 1)[1] for url in asked] == [
        "transcript.txt?revision=0",
        "transcript.docx",
        "transcript.txt?revision=0",
    ]
