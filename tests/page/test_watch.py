"""The audience's page and the overlay, in a browser, with the real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, expect
from presenting import SPEECH, Presenter, said
from standing_between import standing_between
from visiting import CUT_OFF, FAINT_TEXTS, WORKING, OpenPage, Visit
from websockets.sync.client import connect

from tests.started import Server, StartServer

pytest_plugins = ["browsers"]

PHONE = {"width": 390, "height": 844}
GUARDED = {"LIVE_ASR_SERVER__TOKEN": "open-sesame", "LIVE_ASR_SERVER__DRAIN_TIMEOUT": "1"}
"""A server that asks for a token. Nobody waits for the last words of a talk that a test breaks off."""


@pytest.fixture
def presenter(server: Server) -> Iterator[Presenter]:
    with connect(server.stream, proxy=None) as socket:
        yield Presenter(socket)


@pytest.fixture(scope="module")
def browser(launch_browser) -> Browser:  # type: ignore[no-untyped-def]
    return launch_browser()  # type: ignore[no-any-return]


def expect_line(opened: Visit, line: str) -> None:
    expect(opened.page.locator("body")).to_have_attribute("data-line", line, timeout=WORKING)


@pytest.mark.parametrize(("scheme", "viewport"), [("light", None), ("dark", PHONE)])
def test_the_audience_reads_along_until_the_end(
    browser: Browser,
    server: Server,
    presenter: Presenter,
    visit: OpenPage,
    sample_pcm: bytes,
    scheme: str,
    viewport: object,
) -> None:
    options = {"color_scheme": scheme} | ({"viewport": viewport} if viewport else {})
    opened = visit(browser, f"{server.url}/watch/{presenter.session}", **options)
    expect_line(opened, "open")
    expect(opened.page.locator("#hero-detail")).to_contain_text("appear here")
    presenter.speak(sample_pcm[SPEECH])
    expect(opened.page.locator("#transcript")).to_contain_text("Chicago", timeout=WORKING)
    expect(opened.page.locator("#announcer")).to_contain_text("Chicago", timeout=WORKING)
    opened.photograph(f"watch-{scheme}")
    assert opened.page.evaluate(FAINT_TEXTS) == []
    assert opened.page.evaluate(CUT_OFF) == []
    presenter.stop()
    expect_line(opened, "over")
    expect(opened.page.locator("#phase")).to_have_text("Ended")
    opened.photograph(f"watch-{scheme}-over")


@pytest.mark.parametrize("path", ["/watch/{}?overlay=1", "/overlay/{}"])
def test_the_overlay_shows_the_last_lines_on_nothing(
    browser: Browser, server: Server, presenter: Presenter, visit: OpenPage, sample_pcm: bytes, path: str
) -> None:
    presenter.speak(sample_pcm[SPEECH])
    opened = visit(browser, server.url + path.format(presenter.session))
    expect(opened.page.locator("#transcript")).to_contain_text("Chicago", timeout=WORKING)
    backgrounds = opened.page.evaluate(
        "() => [document.documentElement, document.body].map((one) => getComputedStyle(one).backgroundColor)"
    )
    assert backgrounds == ["rgba(0, 0, 0, 0)"] * 2
    assert not opened.page.locator("#header").is_visible()
    box = opened.page.locator("#captions").bounding_box()
    assert box is not None
    assert box["height"] < 200
    assert box["y"] > 400
    opened.photograph("overlay")
    presenter.stop()


def recorded(opened: Visit, *messages: dict[str, Any]) -> None:
    """Answer for the server that these were said in the session `abc`."""
    body = "".join(f"data: {json.dumps(message)}\n\n" for message in messages)
    opened.page.route("**/v1/sessions/abc/events", lambda route: route.fulfill(body=body))


DIALOGUE = [said(0, "S1", "And nobody could say why"), said(1, "S2", "Twice a day the sea comes up")]
NAMES = {"type": "names", "names": {"S2": "Ada"}}
LABEL = {"type": "label", "seq": 3, "from": 10, "to": 20, "speaker": "S1"}


@pytest.mark.parametrize("page", ["watch", "overlay"])
def test_the_audience_sees_who_speaks_by_colour_and_by_name(
    browser: Browser, server: Server, visit: OpenPage, page: str
) -> None:
    opened = visit(browser, "about:blank")
    recorded(opened, NAMES, *DIALOGUE)
    opened.page.goto(f"{server.url}/{page}/abc")
    names = opened.page.locator("#transcript .speaker")
    expect(names).to_have_text(["Speaker 1", "Ada"])
    words = opened.page.locator("#transcript .committed")
    first, second = (words.nth(at).evaluate("(one) => getComputedStyle(one).color") for at in range(2))
    assert first != second
    name, text = names.first.bounding_box(), words.first.bounding_box()
    assert name is not None
    assert text is not None
    if page == "watch":
        assert name["x"] == pytest.approx(text["x"], abs=2)
        assert name["y"] + name["height"] <= text["y"] + 8, "above the words"
    else:
        assert name["x"] + name["width"] <= text["x"] + 2, "before the words, in their line"
    opened.photograph(f"{page}-names")


def test_a_label_that_is_corrected_is_corrected_for_the_audience(
    browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(browser, "about:blank")
    recorded(opened, NAMES, *DIALOGUE, LABEL)
    opened.page.goto(f"{server.url}/watch/abc")
    expect(opened.page.locator("#transcript .turn")).to_have_count(2)
    expect(opened.page.locator("#transcript .speaker")).to_have_text(["Speaker 1"])


def test_the_audience_sees_how_a_speaker_is_called_as_soon_as_the_presenter_says_it(
    browser: Browser, server: Server, presenter: Presenter, visit: OpenPage, sample_pcm: bytes
) -> None:
    presenter.speak(sample_pcm[SPEECH])
    opened = visit(browser, f"{server.url}/watch/{presenter.session}")
    name = opened.page.locator("#transcript .speaker").first
    expect(name).to_have_text("Speaker 1", timeout=WORKING)
    address = f"{server.url}/v1/sessions/{presenter.session}/names"
    assert opened.page.request.put(address, data={"S1": "Ada"}, headers=presenter.key).ok
    expect(name).to_have_text("Ada")
    opened.page.goto(f"{server.url}/overlay/{presenter.session}")
    expect(name).to_have_text("Ada")
    presenter.stop()


def test_what_is_erased_is_erased_for_the_audience_too(
    browser: Browser, server: Server, presenter: Presenter, visit: OpenPage, sample_pcm: bytes
) -> None:
    presenter.speak(sample_pcm[SPEECH])
    opened = visit(browser, f"{server.url}/watch/{presenter.session}")
    expect(opened.page.locator("#transcript")).to_contain_text("Chicago", timeout=WORKING)
    address = f"{server.url}/v1/sessions/{presenter.session}"
    assert opened.page.request.delete(address, headers=presenter.key).ok
    expect(opened.page.locator("#phase")).to_have_text("Erased")
    expect(opened.page.locator("#hero-detail")).to_have_text("This session was erased.")
    expect(opened.page.locator("#transcript")).to_be_empty()


def test_a_session_that_there_is_not_is_said_to_be_unknown(
    browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(browser, f"{server.url}/watch/{'0' * 24}", tolerated=("Failed to load resource",))
    expect_line(opened, "unknown")
    expect(opened.page.locator("#hero-detail")).to_contain_text("doesn't exist")


ANSWERED_IN_VAIN = """window.asked_at = [];
window.fetch = async () => {
    window.asked_at.push(performance.now());
    return new Response(': here\\n\\ndata: {"type":"names","names":{"S1":"Ada"}}\\n\\n');
};"""


def test_a_session_that_waits_to_be_taken_up_is_asked_for_ever_more_rarely(
    browser: Browser, server: Server, visit: OpenPage
) -> None:
    page = visit(browser, "about:blank").page
    page.clock.install()
    page.add_init_script(ANSWERED_IN_VAIN)
    page.goto(f"{server.url}/watch/abc")
    while page.evaluate("asked_at.length") < 8:
        page.clock.run_for(1_000)
    pauses_ms = page.evaluate("asked_at.slice(1).map((at, n) => at - asked_at[n])")
    assert pauses_ms[-1] >= 10_000, pauses_ms  # the longest, less up to a half of it


def test_a_presenter_shares_a_link_that_lets_others_watch_and_nothing_else(
    browser: Browser, talking_browser: Browser, start_server: StartServer, visit: OpenPage
) -> None:
    server = start_server(**GUARDED)
    opened = visit(talking_browser, f"{server.url}/#token=open-sesame")
    opened.start()
    opened.page.get_by_role("button", name="Share").click()
    expect(opened.page.locator("#share-code")).to_be_visible()
    expect(opened.page.locator("#share-here")).to_contain_text("only on this computer")
    link = opened.page.locator("#share-link").input_value()
    assert link.startswith(f"{server.url}/watch/")
    assert "sesame" not in link
    opened.photograph("share")
    guest = visit(browser, link)
    expect_line(guest, "open")
    expect(guest.page.locator("#transcript .committed").first).to_be_visible(timeout=WORKING)
    stranger = visit(browser, link.split("#")[0], tolerated=("Failed to load resource",))
    expect_line(stranger, "unauthorized")


def test_a_presenter_cuts_off_the_link_and_gets_another(
    browser: Browser, talking_browser: Browser, start_server: StartServer, visit: OpenPage
) -> None:
    server = start_server(**GUARDED)
    opened = visit(talking_browser, f"{server.url}/#token=open-sesame")
    opened.start()
    opened.page.get_by_role("button", name="Share").click()
    expect(opened.page.locator("#share-code")).to_be_visible()
    link = opened.page.locator("#share-link")
    before = link.input_value()
    guest = visit(browser, before, tolerated=("Failed to load resource",))
    expect_line(guest, "open")
    revoke = opened.page.locator("#share-revoke")
    revoke.click()
    expect(revoke).to_have_text("Cut off everybody who reads along?")
    expect_line(guest, "open")
    opened.photograph("share-revoke")
    revoke.click()
    expect(opened.page.locator("#share-problem")).to_contain_text("Share the new one", timeout=WORKING)
    expect_line(guest, "unauthorized")
    assert link.input_value() not in ("", before)
    expect_line(visit(browser, link.input_value()), "open")


@pytest.mark.parametrize("how", ["reset", "close", "silent"])
def test_a_viewer_whose_line_is_cut_comes_back_by_itself_and_misses_nothing(
    browser: Browser, server: Server, presenter: Presenter, visit: OpenPage, sample_pcm: bytes, how: str
) -> None:
    with standing_between(server.url) as between:
        address = f"{between.url}/watch/{presenter.session}"
        opened = visit(browser, "about:blank", tolerated=("Failed to load resource",))
        opened.page.clock.install()
        opened.page.goto(address)
        expect_line(opened, "open")
        presenter.speak(sample_pcm[SPEECH])
        expect(opened.page.locator("#transcript")).to_contain_text("Chicago", timeout=WORKING)
        between.accept(False)
        if how == "silent":
            between.silence()
            opened.page.clock.fast_forward("00:40")
        else:
            between.cut(how)  # type: ignore[arg-type]
        expect_line(opened, "reconnecting")
        expect(opened.page.locator("#phase")).to_have_text("Reconnecting, nothing is lost")
        assert "Chicago" in opened.captions(), "what was there stays"
        presenter.stop()
        between.accept(True)
        for _ in range(40):  # connections that the browser keeps are silent too: each costs a try
            opened.page.clock.fast_forward("00:25")
            opened.page.wait_for_timeout(200)
        expect_line(opened, "over")
        fresh = visit(browser, f"{server.url}/watch/{presenter.session}")
        expect_line(fresh, "over")
        assert opened.captions() == fresh.captions()
