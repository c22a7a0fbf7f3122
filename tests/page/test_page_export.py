"""Files made on the page, for when the server cannot be reached."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from scripted_server import ScriptedServer
from visiting import OpenPage

from tests.started import Server

pytest_plugins = ["browsers"]

EXPORT = """async ([format, words]) => {
    const { EXPORTS } = await import("/web/state/export.js");
    const utterances = [{ utterance: 0, words, complete: true, language: "en" }];
    return EXPORTS[format]({ name: "talk", utterances, links: {} });
}"""


@pytest.fixture(scope="module")
def page(silent_browser: Browser, server: Server) -> Page:
    """A page to import the module in."""
    opened = silent_browser.new_page()
    opened.goto(server.url)
    return opened


def exported(page: Page, extension: str, *words: dict[str, Any]) -> str:
    return str(page.evaluate(EXPORT, [extension, list(words)]))


def word(text: str, start: float, end: float, speaker: str | None = None) -> dict[str, Any]:
    return {"text": text, "start": start, "end": end, "speaker": speaker}


def test_cues_carry_times_and_speakers_and_escape_what_is_markup(page: Page) -> None:
    words = [word(" Fish", 3661.5, 3662, "S1"), word(" & chips", 3662, 3663.25, "S1")]
    timing = "01:01:01.500 --> 01:01:03.250"
    assert exported(page, "vtt", *words) == f"WEBVTT\n\n{timing}\n<v Speaker 1>Fish &amp; chips\n"
    assert exported(page, "srt", *words) == f"1\n{timing.replace('.', ',')}\nSpeaker 1: Fish & chips\n"
    assert exported(page, "txt", *words) == "Speaker 1: Fish & chips\n"


def test_typed_names_stand_where_people_read_and_labels_where_programs_do(page: Page) -> None:
    told = """async (format) => {
        const { EXPORTS } = await import("/web/state/export.js");
        const words = [{ text: " Hello", start: 1, end: 2.5, speaker: "SPEAKER_00" }];
        const cast = {
            names: { S2: "Ada <Lovelace>" },
            speakers: [{ label: "SPEAKER_00", live_labels: ["S2"], duration: 1.5, turns: 1 }],
        };
        const utterances = [{ utterance: 0, words, complete: true, language: "en" }];
        const address = "/v1/sessions/abc";
        return EXPORTS[format]({ name: "talk", utterances, links: {}, address, cast, revision: 1 });
    }"""
    assert page.evaluate(told, "txt") == "Ada <Lovelace>: Hello\n"
    assert "<v Ada &lt;Lovelace&gt;>Hello" in page.evaluate(told, "vtt")
    assert "Ada <Lovelace>: Hello" in page.evaluate(told, "srt")
    assert page.evaluate(told, "rttm") == "SPEAKER abc 1 1.000 1.500 <NA> <NA> SPEAKER_00 <NA> <NA>\n"
    record = json.loads(page.evaluate(told, "json"))
    assert (record["revision"], record["segments"][0]["speaker"]) == (1, "SPEAKER_00")
    assert record["names"] == {"S2": "Ada <Lovelace>"}


def test_no_cue_is_longer_than_can_be_read(page: Page) -> None:
    words = [word(" wonderful", n / 4, n / 4 + 0.25) for n in range(100)]
    slow = [word(" well", 100 + 5 * n, 101 + 5 * n) for n in range(4)]
    cues = [block.split("\n")[2:] for block in exported(page, "srt", *words, *slow).strip().split("\n\n")]
    assert " ".join(" ".join(lines) for lines in cues).split() == ["wonderful"] * 100 + ["well"] * 4
    assert max(len(lines) for lines in cues) == 2
    assert max(len(line) for lines in cues for line in lines) <= 46


def test_the_json_has_the_words_under_the_servers_names(page: Page) -> None:
    record = json.loads(exported(page, "json", word(" Hello", 0, 1), word(" there.", 1, 2)))
    assert (record["text"], record["language"], record["duration"]) == ("Hello there.", "en", 2)
    assert [segment["words"][1]["text"] for segment in record["segments"]] == [" there."]


def test_what_the_server_does_not_have_is_saved_from_the_page_and_survives_a_new_start_and_a_reload(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(silent_browser, server.url, tolerated=("Failed to load resource",))
    page = opened.page
    scripted = ScriptedServer(opened)
    scripted.open()
    scripted.commit(0, "These words stay")
    scripted.suggest("and these hang", 30)
    scripted.fail("Something broke.")
    expect(page.locator("#transcript .tail.lost")).to_have_text("and these hang")
    expect(page.locator("#advice")).to_have_text(
        "Something went wrong on the server. Press Start to try again."
    )
    expect(page.locator("#advice")).to_have_attribute("title", "Something broke.")
    opened.photograph("lost-tail")

    def saved(link: str) -> str:
        page.get_by_role("button", name="Save").click()
        opened.photograph("save-menu")
        with page.expect_download() as download:
            page.locator(link).click()
        return Path(download.value.path()).read_text()

    for extension in ("txt", "vtt", "srt", "json"):
        assert "These words stay" in saved(f"#save-menu > [data-format={extension}]")
    expect(page.locator(".notice")).to_contain_text("this page's own copy was saved")

    scripted.heard.clear()
    page.get_by_role("button", name="Start").click()
    scripted.wait_until(lambda: bool(scripted.heard))
    assert "These words stay" in opened.captions(), "the transcript stays until the next session is open"
    ready = {"session": "def", "token": "t", "received_bytes": 0, "last_seq": 0, "max_unacked_bytes": 2**20}
    scripted.say(type="ready", **ready)
    opened.expect_phase("live")
    expect(page.locator("#transcript")).to_be_empty()
    assert saved("#save-previous [data-format=txt]") == "These words stay\n"
    page.once("dialog", lambda dialog: dialog.accept())
    page.reload()
    assert saved("#save-previous [data-format=txt]") == "These words stay\n"


def test_a_closed_panel_gives_the_focus_back_to_what_opened_it(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(silent_browser, server.url)
    page = opened.page
    page.get_by_role("button", name="Settings").click()
    page.keyboard.press("Escape")
    expect(page.locator("#settings")).to_be_hidden()
    expect(page.get_by_role("button", name="Settings")).to_be_focused()


def test_the_detected_language_is_named_and_every_language_has_a_name(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(silent_browser, server.url)
    language = opened.page.locator("#language")
    scripted = ScriptedServer(opened)
    assert all(
        len(name) > 3 or name != name.lower() for name in language.locator("option").all_text_contents()
    )
    scripted.open()
    scripted.commit(0, "Good evening")
    scripted.finish(0)
    expect(language.locator("option").first).to_have_text("English (detected)")


def test_a_phone_on_stage_breaks_no_usual_word(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(silent_browser, server.url, viewport={"width": 390, "height": 844})
    page = opened.page
    scripted = ScriptedServer(opened)
    scripted.open()
    scripted.commit(0, "a comparatively incomprehensible")
    page.get_by_role("button", name="Stage").click()
    page.wait_for_selector("#stage-lines .text")
    assert page.locator("#stage-lines .committed").evaluate("(words) => words.getClientRects().length") <= 3
    opened.photograph("stage-phone")
