"""What a presenter does, from the first click to the saved file: real speech, real server, real models."""

from __future__ import annotations

import base64
import re
import wave
from io import BytesIO
from pathlib import Path

from playwright.sync_api import Browser, expect
from visiting import WORKING, OpenPage, Visit, unlabelled

from tests.started import Server

pytest_plugins = ["browsers"]

EXPECTED = {"diane", "new", "jersey", "texas", "originally", "chicago", "yankee"}
"""Words of the call that the smallest model gets right."""

KEEP_TRACKS = """() => {
    window.tracks = [];
    const original = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = async (constraints) => {
        const stream = await original(constraints);
        window.tracks.push(...stream.getTracks());
        return stream;
    };
}"""

DROP = """([name, base64]) => {
    const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([bytes], name));
    const fire = (type) => document.body.dispatchEvent(
        new DragEvent(type, { dataTransfer, bubbles: true, cancelable: true }));
    fire("dragover");
    const isInviting = !document.getElementById("drop").hidden;
    fire("drop");
    return isInviting;
}"""


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z']+", text.lower()))


def saved(opened: Visit, extension: str, name: str = r"captions-\d{4}-\d\d-\d\d-\d{4}") -> str:
    """Save the transcript as a reader does, and return what the file holds."""
    opened.page.get_by_role("button", name="Save").click()
    with opened.page.expect_download() as download:
        opened.page.locator(f"#save-menu > [data-format={extension}]").click()
    assert re.fullmatch(rf"{name}\.{extension}", download.value.suggested_filename)
    return Path(download.value.path()).read_text()


def transcript(server: Server, opened: Visit) -> str:
    """Return the words that the server itself has on record for the session on the screen."""
    address = opened.page.locator("#save-menu > [data-format=txt]").evaluate("link => link.href")
    assert address.startswith(server.url)
    return unlabelled(opened.page.request.get(address).text())


def test_speech_becomes_captions_that_can_be_copied_and_saved(
    talking_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(talking_browser, server.url, permissions=["microphone", "clipboard-read"])
    page = opened.page
    page.evaluate(KEEP_TRACKS)
    opened.photograph("idle")

    opened.start()
    opened.wait_for("() => document.querySelector('.tail')?.textContent")
    opened.wait_for("() => /jersey now/i.test(document.querySelector('#transcript').textContent)")
    opened.wait_for("() => document.querySelector('.tail')?.textContent.split(' ').length > 1")
    expect(page.locator("#hearing")).to_have_text(re.compile("Hearing"))
    expect(page.locator("#lag")).to_have_text(re.compile(r"^confirmed \d+\.\d s ago$"))
    expect(page.locator("#elapsed")).to_have_text(re.compile(r"^0:\d\d$"))
    opened.photograph("live-light")
    page.emulate_media(color_scheme="dark")
    opened.photograph("live-dark")
    opened.wait_for("() => document.querySelector('#elapsed').textContent >= '0:31'")

    opened.stop()
    opened.expect_phase("done")
    opened.photograph("done")
    captions = opened.captions()
    assert captions == transcript(server, opened)
    assert words(captions) >= EXPECTED
    assert page.evaluate("tracks.map((track) => track.readyState)") == ["ended"]

    assert unlabelled(saved(opened, "txt")) == captions
    assert saved(opened, "vtt").startswith("WEBVTT")
    assert re.match(r"1\r?\n00:00:\d\d,\d{3} --> ", saved(opened, "srt"))
    assert words(saved(opened, "json")) >= EXPECTED
    page.keyboard.press("c")
    expect(page.locator("#copy")).to_contain_text("Copied")
    assert unlabelled(page.evaluate("navigator.clipboard.readText()")) == captions


def test_a_chosen_recording_is_transcribed_to_its_end(
    talking_browser: Browser, server: Server, sample_wav: Path, visit: OpenPage
) -> None:
    opened = visit(talking_browser, server.url)
    opened.page.set_input_files("#recording", sample_wav)
    expect(opened.page.locator("#file-name")).to_have_text("sample.wav")
    expect(opened.page.locator("#file")).to_be_visible()
    opened.wait_for("() => document.querySelector('.committed')")
    opened.photograph("recording")
    opened.expect_phase("done")
    assert opened.page.evaluate("document.getElementById('file-progress').value") == 1
    expect(opened.page.locator("#elapsed")).to_have_text("0:30")
    expect(opened.page.locator("#lanes .talk")).to_have_count(2)
    opened.photograph("recording-final")
    assert opened.captions() == transcript(server, opened)
    assert words(opened.captions()) >= EXPECTED
    opened.page.get_by_role("button", name="Save").click()
    with opened.page.expect_download() as download:
        opened.page.locator("#save-menu > [data-format=vtt]").click()
    assert download.value.suggested_filename == "sample.vtt"

    opened.page.locator("#lanes .speaker").first.click()
    opened.page.keyboard.type("Diane")
    opened.page.keyboard.press("Enter")
    assert "Diane: " in saved(opened, "txt", name="sample"), (
        "the server has the name before it is asked for the file"
    )
    turns = saved(opened, "rttm", name="sample").splitlines()
    assert {line.split()[7] for line in turns} == {"SPEAKER_00", "SPEAKER_01"}


def test_a_dropped_recording_is_transcribed_and_replaces_the_captions_before_it(
    talking_browser: Browser, server: Server, sample_pcm: bytes, visit: OpenPage
) -> None:
    piece = BytesIO()
    with wave.open(piece, "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(sample_pcm[2 * 16_000 * 12 : 2 * 16_000 * 21])
    opened = visit(talking_browser, server.url)
    for _ in range(2):
        dropped = ["piece.wav", base64.b64encode(piece.getvalue()).decode()]
        assert opened.page.evaluate(DROP, dropped), "the page must invite the drop"
        opened.wait_for("() => document.body.dataset.phase !== 'done'")
        opened.expect_phase("done")
        assert opened.captions().lower().count("texas") == 1


def test_a_file_that_is_no_recording_is_refused_in_words(
    talking_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(talking_browser, server.url)
    letter = {"name": "letter.txt", "mimeType": "text/plain", "buffer": b"Dear audience, " * 500}
    opened.page.set_input_files("#recording", letter)
    opened.expect_phase("failed")
    expect(opened.page.locator("#hero-title")).to_have_text("That didn't work")
    expect(opened.page.locator("#hero-detail")).to_contain_text("This file has no sound that can be read.")


def test_an_empty_file_is_refused_without_asking_the_server(
    talking_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(talking_browser, server.url)
    opened.page.set_input_files("#recording", {"name": "empty.wav", "mimeType": "audio/wav", "buffer": b""})
    expect(opened.page.locator("#hero-detail")).to_contain_text("“empty.wav” is empty.")


def test_the_keyboard_alone_starts_shows_on_stage_and_stops(
    talking_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(talking_browser, server.url)
    page = opened.page
    opened.hold("Space", "() => document.body.dataset.phase === 'live'")
    opened.wait_for("() => document.querySelector('#transcript .committed')")
    page.keyboard.press("f")
    expect(page.locator("#stage")).to_be_visible()
    opened.wait_for("() => document.fullscreenElement?.id === 'stage'")
    opened.wait_for("() => /diane/i.test(document.querySelector('#stage-lines').textContent)")
    opened.photograph("stage")
    page.keyboard.press("Escape")
    expect(page.locator("#stage")).to_be_hidden()
    page.locator("#start").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Keep going")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    opened.expect_phase("done")


def test_another_microphone_is_taken_up_within_the_session_and_remembered(
    talking_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(talking_browser, server.url, permissions=["microphone"])
    page = opened.page
    opened.start()
    page.evaluate(KEEP_TRACKS)
    microphones = page.get_by_role("combobox", name="Microphone")
    opened.wait_for("() => document.getElementById('microphone').options.length > 2")
    other = microphones.locator("option").last.get_attribute("value")
    assert other is not None
    microphones.select_option(other)
    opened.wait_for("() => window.tracks.length === 1")
    assert page.evaluate("tracks[0].getSettings().deviceId") == other
    before = page.locator("#elapsed").text_content()
    opened.wait_for("(before) => document.querySelector('#elapsed').textContent > before", before)
    opened.stop()
    opened.expect_phase("done")
    page.reload()
    opened.wait_for("(other) => document.getElementById('microphone').value === other", other)


def test_captions_fit_a_phone_while_they_run(
    talking_browser: Browser, server: Server, visit: OpenPage
) -> None:
    phone = {"viewport": {"width": 375, "height": 720}, "has_touch": True, "is_mobile": True}
    opened = visit(talking_browser, server.url, **phone, device_scale_factor=2)
    opened.photograph("phone-idle")
    opened.start()
    opened.wait_for("() => document.querySelector('#transcript .committed')")
    opened.photograph("phone-live")
    assert opened.page.evaluate("document.documentElement.scrollWidth") == 375
    opened.stop()
    expect(opened.page.locator("#phase")).to_have_text("Done", timeout=WORKING)
