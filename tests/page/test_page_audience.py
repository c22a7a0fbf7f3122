"""What the audience may choose and take home, what the session is called, and lines that run to the left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from presenting import OVER, SPEECH, Feed, Presenter, said
from scripted_server import ScriptedServer
from visiting import WORKING, OpenPage, unlabelled
from websockets.sync.client import connect

from tests.started import Server, StartServer

pytest_plugins = ["browsers"]

LOST = ("Failed to load resource",)
HEBREW = "שלום לכולם"
PAPER = "() => getComputedStyle(document.body).backgroundColor"
LIGHT, DARK = "rgb(247, 246, 242)", "rgb(16, 20, 19)"


@pytest.fixture
def presenter(server: Server) -> Iterator[Presenter]:
    with connect(server.stream, proxy=None) as socket:
        yield Presenter(socket)


@pytest.fixture(scope="module")
def browser(launch_browser) -> Browser:  # type: ignore[no-untyped-def]
    return launch_browser()  # type: ignore[no-any-return]


def test_readers_choose_the_size_of_the_text_and_it_is_remembered(
    browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(browser, "about:blank", tolerated=LOST)
    feed = Feed(opened)
    feed.say(said(0, "S1", "And nobody could say why"), *OVER)
    page = opened.page
    page.goto(f"{server.url}/watch/abc")
    size = "() => parseFloat(getComputedStyle(document.querySelector('.text')).fontSize)"
    normal = opened.page.locator(".text").evaluate("(text) => parseFloat(getComputedStyle(text).fontSize)")
    page.get_by_role("button", name="Text", exact=True).click()
    for _ in range(3):
        page.get_by_role("button", name="Larger").click()
    expect(page.locator("#size")).to_have_text("160 %")
    assert page.evaluate(size) == pytest.approx(1.6 * normal)
    feed.say(said(0, "S1", "And nobody could say why"), *OVER)
    page.reload()
    expect(page.locator(".text")).to_be_visible()
    assert page.evaluate(size) == pytest.approx(1.6 * normal)


@pytest.mark.parametrize(("scheme", "own", "other"), [("light", LIGHT, DARK), ("dark", DARK, LIGHT)])
def test_readers_choose_light_or_dark_whatever_their_device_prefers(
    browser: Browser, server: Server, visit: OpenPage, scheme: str, own: str, other: str
) -> None:
    opened = visit(browser, "about:blank", color_scheme=scheme, tolerated=LOST)
    Feed(opened).say(said(0, "S1", "And nobody could say why"), *OVER)
    page = opened.page
    page.goto(f"{server.url}/watch/abc")
    assert page.evaluate(PAPER) == own
    page.get_by_role("button", name="Text", exact=True).click()
    page.get_by_label("Colours", exact=True).select_option("dark" if scheme == "light" else "light")
    assert page.evaluate(PAPER) == other
    page.reload()
    assert page.evaluate(PAPER) == other, "before the words of the page have come"
    page.get_by_role("button", name="Text", exact=True).click()
    page.get_by_label("Colours", exact=True).select_option("auto")
    assert page.evaluate(PAPER) == own


def test_the_audience_takes_the_transcript_home_with_no_more_than_its_link(
    browser: Browser, start_server: StartServer, visit: OpenPage, sample_pcm: bytes
) -> None:
    server = start_server(LIVE_ASR_SERVER__TOKEN="open-sesame")
    headers = {"Authorization": "Bearer open-sesame"}
    with connect(server.stream, proxy=None, additional_headers=headers) as socket:
        presenter = Presenter(socket)
        presenter.speak(sample_pcm[SPEECH])
        asking = visit(browser, "about:blank").page.request
        info = asking.get(f"{server.url}/v1/sessions/{presenter.session}", headers=headers).json()
        opened = visit(browser, server.url + info["watch"])
        expect(opened.page.locator("#transcript")).to_contain_text("Chicago", timeout=WORKING)
        for extension in ("txt", "srt", "vtt"):
            opened.page.get_by_role("button", name="Save").click()
            with opened.page.expect_download() as download:
                opened.page.locator(f"#save-menu [data-format={extension}]").click()
            assert download.value.suggested_filename == f"captions.{extension}"
            text = Path(download.value.path()).read_text()
            of_server = asking.get(
                f"{server.url}/v1/sessions/{presenter.session}/transcript.{extension}", headers=headers
            )
            assert text == of_server.text()
            assert "Chicago" in text
        assert unlabelled(text)
        link = server.url + info["watch"].split("#")[0].replace("/watch/", "/v1/sessions/")
        own = {"Authorization": f"Bearer {info['watch'].split('=')[1]}"}
        assert asking.get(f"{link}/transcript.txt").status == 401
        assert asking.get(f"{link}/transcript.txt", headers=own).status == 200
        assert asking.get(link, headers=own).status == 401
        assert asking.delete(link, headers=own).status == 403
        other = f"{server.url}/v1/sessions/{'0' * 24}/transcript.txt"
        assert asking.get(other, headers=own).status == 401
        presenter.stop()


def test_the_audience_reads_the_title_as_soon_as_the_presenter_has_typed_it(
    browser: Browser, silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    presenting = visit(silent_browser, server.url)
    presenting.start()
    page = presenting.page
    page.get_by_role("button", name="Share").click()
    expect(page.locator("#share-code")).to_be_visible()
    opened = visit(browser, page.locator("#share-link").input_value())
    expect(opened.page.get_by_role("heading", level=1)).to_have_text("Live captions")
    page.get_by_label("Title for the audience").fill("Town meeting")
    page.keyboard.press("Tab")
    expect(opened.page.get_by_role("heading", level=1)).to_have_text("Town meeting", timeout=WORKING)
    assert opened.page.title() == "Town meeting"
    late = visit(browser, page.locator("#share-link").input_value())
    expect(late.page.get_by_role("heading", level=1)).to_have_text("Town meeting", timeout=WORKING)
    page.keyboard.press("Escape")
    presenting.stop()
    presenting.expect_phase("done")


def test_readers_who_have_scrolled_up_come_back_to_what_is_live(
    browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(browser, "about:blank", tolerated=LOST)
    Feed(opened).say(*(said(n, f"S{n % 2}", "Twice a day the sea comes up the river") for n in range(30)))
    opened.page.goto(f"{server.url}/watch/abc")
    expect(opened.page.locator(".text")).to_have_count(30)
    jump = opened.page.get_by_role("button", name="live")
    expect(jump).to_be_hidden()
    opened.page.locator("#captions").hover()
    opened.page.mouse.wheel(0, -900)
    expect(jump).to_be_visible()
    jump.click()
    expect(jump).to_be_hidden()
    opened.wait_for(
        "() => { const box = document.getElementById('captions');"
        " return box.scrollHeight - box.scrollTop - box.clientHeight < 2; }"
    )


# Right to left ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["watch/abc", "watch/abc?stage=1", "overlay/abc?align=start"])
def test_lines_that_run_to_the_left_begin_at_the_right_with_the_name_before_them(
    browser: Browser, server: Server, visit: OpenPage, page: str
) -> None:
    opened = visit(browser, "about:blank", tolerated=LOST)
    Feed(opened).say({"type": "names", "names": {"S1": "Ada"}}, said(0, "S1", HEBREW))
    opened.page.goto(f"{server.url}/{page}")
    line = opened.page.locator(".turn")
    expect(line).to_contain_text(HEBREW)
    assert line.evaluate("(line) => getComputedStyle(line).direction") == "rtl"
    words, name, whole = (
        line.locator(selector).evaluate("(element) => element.getBoundingClientRect().toJSON()")
        for selector in (".committed", ".speaker", "xpath=.")
    )
    assert words["left"] - whole["left"] > 100, "its end is free"
    assert name["right"] >= words["right"] - 1
    if page != "watch/abc":
        assert name["left"] >= words["right"] - 1, "before the words, in their line"


def test_so_do_they_on_the_presenters_page_and_stage(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(silent_browser, server.url)
    scripted = ScriptedServer(opened)
    scripted.open()
    scripted.commit(0, HEBREW, speaker="S1")
    scripted.finish(0)
    scripted.commit(1, "Good evening", speaker="S1")
    opened.page.get_by_role("button", name="Stage").click()
    for container in ("#transcript", "#stage-lines"):
        lines = opened.page.locator(f"{container} .turn")
        expect(lines).to_have_count(2)
        assert lines.evaluate_all("(lines) => lines.map((line) => getComputedStyle(line).direction)") == [
            "rtl",
            "ltr",
        ]
    right = opened.page.locator("#stage-lines").evaluate("(lines) => lines.getBoundingClientRect().right")
    name = opened.page.locator("#stage-lines .speaker").evaluate("(one) => one.getBoundingClientRect().right")
    assert name == pytest.approx(right, abs=2)


def test_a_name_in_other_letters_does_not_turn_the_line_of_what_the_page_copies_and_saves(
    browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(browser, server.url)
    text, srt, txt = opened.page.evaluate(
        """async (hebrew) => {
            const { initialState, plainText, reduce, transcriptOf } = await import("/web/state/state.js");
            const { EXPORTS } = await import("/web/state/export.js");
            const words = (text, from, speaker) => text.split(" ")
                .map((word, n) => ({ text: ` ${word}`, start: from + n, end: from + n + 1, speaker }));
            const state = [
                { type: "names", names: { S1: "Ada", S2: "שרה" } },
                { type: "commit", utterance: 0, words: words(hebrew, 0, "S1") },
                { type: "commit", utterance: 1, words: words("Good evening", 5, "S1") },
                { type: "commit", utterance: 2, words: words(hebrew, 9, "S2") },
            ].reduce(reduce, initialState());
            const transcript = transcriptOf(state);
            return [plainText(state), EXPORTS.srt(transcript), EXPORTS.txt(transcript)];
        }""",
        HEBREW,
    )
    isolated = f"\u2068Ada\u2069: {HEBREW}"
    assert text.split("\n") == [isolated, "Ada: Good evening", f"שרה: {HEBREW}"]
    assert isolated in srt.split("\n")
    assert isolated in txt.split("\n")
    assert f"שרה: {HEBREW}" in txt.split("\n")
