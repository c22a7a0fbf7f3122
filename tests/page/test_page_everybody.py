"""Everybody: small windows and high zoom, forced colours, no motion, and what axe-core finds."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, expect
from presenting import Feed, said, suggested
from scripted_server import ScriptedServer
from visiting import CUT_OFF, OpenPage, Visit, violations

from tests.started import Server

pytest_plugins = ["browsers"]

LOST = ("Failed to load resource",)
TURNS = [
    ("SPEAKER_00", 0.0, "And nobody could say why"),
    ("SPEAKER_01", 10.0, "Twice a day the sea comes up"),
]
LABELS = {"SPEAKER_00": ["S1"], "SPEAKER_01": ["S2"]}
USABLE_PX = 110
"""Room for three lines of captions."""


def live(opened: Visit) -> ScriptedServer:
    """Have two speakers talk, and the server complain a little."""
    scripted = ScriptedServer(opened)
    scripted.open()
    for number, (_, start, text) in enumerate(TURNS):
        scripted.commit(number, text, speaker=f"S{number + 1}", start=start)
        scripted.finish(number)
    scripted.suggest("and goes back", 20)
    scripted.say(type="lag", received=12.0, committed=0.0, seconds=12.0)
    scripted.say(type="notice", code="degraded", message="Captions come a little later: the server is busy.")
    expect(opened.page.locator("#transcript .tail")).to_be_visible()
    return scripted


def finished(opened: Visit) -> ScriptedServer:
    scripted = live(opened)
    scripted.stop(30)
    scripted.say(type="progress", stage="clustering", fraction=0.5)
    expect(opened.page.locator("#pass")).to_be_visible()
    return scripted


def done(opened: Visit) -> ScriptedServer:
    scripted = finished(opened)
    scripted.conclude(*TURNS, live_labels=LABELS)
    opened.expect_phase("done")
    return scripted


# Room -------------------------------------------------------------------------------------------------

BEYOND = """() => [...document.querySelectorAll("button, select, input, a")].filter((control) => {
    if (!control.checkVisibility() || control.closest(".sr-only, .stage-tools")) return false;
    const { left, right, top, bottom } = control.getBoundingClientRect();
    const box = control.closest("#captions, .lanes");
    const [above, below] = [top + scrollY, bottom + scrollY - document.documentElement.scrollHeight];
    return left < -1 || right > innerWidth + 1 || (!box && (above < -1 || below > 1));
}).map((control) => control.id || control.className)"""
"""Controls that no scrolling brings into the window."""

OVERPRINTED = """() => {
    const all = [...document.querySelectorAll("button, select, summary, #advice, .notice span")]
        .filter((one) => one.checkVisibility() && !one.closest("#captions, .lanes, [inert]"));
    const boxes = all.map((one) => [one, one.getBoundingClientRect()]);
    return boxes.flatMap(([a, p], at) => boxes.slice(at + 1)
        .filter(([b, q]) => !a.contains(b) && !b.contains(a)
            && Math.min(p.right, q.right) - Math.max(p.left, q.left) > 1
            && Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top) > 1)
        .map(([b]) => `${a.id || a.outerHTML.slice(0, 60)} and ${b.id || b.outerHTML.slice(0, 60)}`));
}"""
"""Controls and texts of which one is printed over the other."""

WINDOWS = {
    "phone": (320, 568),
    "1280 at 400 %": (320, 180),
    "1280x1024 at 400 %": (320, 256),
    "1920 at 400 %": (480, 270),
    "1280 at 200 %": (640, 360),
    "1440x900 at 200 %": (720, 450),
    "1920 at 200 %": (960, 540),
    "desktop": (1280, 720),
    "4K": (3840, 2160),
}


@pytest.mark.parametrize("bring", [live, done])
@pytest.mark.parametrize("size", WINDOWS.values(), ids=WINDOWS)
def test_every_window_has_room_for_captions_and_controls(
    silent_browser: Browser,
    server: Server,
    visit: OpenPage,
    size: tuple[int, int],
    bring: Callable[[Visit], Any],
) -> None:
    opened = visit(silent_browser, server.url, viewport={"width": size[0], "height": size[1]})
    bring(opened)
    page = opened.page
    assert page.evaluate(CUT_OFF) == []
    assert page.evaluate(BEYOND) == []
    assert page.evaluate(OVERPRINTED) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    captions = page.locator("#captions").bounding_box()
    assert captions is not None
    assert min(captions["height"], size[1]) >= USABLE_PX
    opened.photograph(f"window-{size[0]}x{size[1]}-{bring.__name__}")


@pytest.mark.parametrize("size", [(320, 568), (640, 360), (3840, 2160)])
@pytest.mark.parametrize("path", ["/watch/abc", "/web/look.html"])
def test_so_has_the_audience_and_the_editor(
    launch_browser: Any, server: Server, visit: OpenPage, size: tuple[int, int], path: str
) -> None:
    opened = visit(
        launch_browser(), "about:blank", viewport={"width": size[0], "height": size[1]}, tolerated=LOST
    )
    Feed(opened).say(
        {"type": "title", "title": "A town meeting " * 12}, said(0, "S1", "And nobody could say why")
    )
    opened.page.goto(server.url + path)
    expect(opened.page.locator(".text").first).to_be_visible()
    assert (
        opened.page.evaluate(
            CUT_OFF.replace('".sr-only', '"#picture *, .sr-only').replace("svg, ", "svg, #picture, ")
        )
        == []
    )
    assert opened.page.evaluate(BEYOND) == []
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= size[0]


# Colours and motion -----------------------------------------------------------------------------------

COLOURS = """async (png) => {
    const picture = await createImageBitmap(await (await fetch(`data:image/png;base64,${png}`)).blob());
    const canvas = new OffscreenCanvas(picture.width, picture.height).getContext("2d");
    canvas.drawImage(picture, 0, 0);
    const row = canvas.getImageData(0, Math.floor(picture.height / 2), picture.width, 1).data;
    const at = (share) => [...row.slice(4 * Math.floor(share * picture.width)).slice(0, 3)].join();
    return [at(0.1), at(0.9)];
}"""


def test_forced_colours_leave_outlines_and_progress(
    silent_browser: Browser, server: Server, visit: OpenPage
) -> None:
    opened = visit(silent_browser, server.url, forced_colors="active")
    for name in ("start", "copy", "settings-open"):
        control = opened.page.locator(f"#{name}")
        assert control.evaluate("(one) => getComputedStyle(one).borderTopStyle") == "solid"
        assert control.evaluate("(one) => parseFloat(getComputedStyle(one).borderTopWidth)") >= 1
    finished(opened)
    bar = opened.page.locator("#pass")
    shot = base64.b64encode(bar.screenshot()).decode()
    filled, empty = visit(silent_browser, "about:blank").page.evaluate(COLOURS, shot)
    assert filled != empty
    opened.photograph("forced-colours")


def test_who_wants_no_motion_gets_none(silent_browser: Browser, server: Server, visit: OpenPage) -> None:
    opened = visit(silent_browser, server.url, reduced_motion="reduce")
    scripted = live(opened)
    moving = "() => document.getAnimations().map(({ effect }) => effect.target.className)"
    assert opened.page.evaluate(moving) == []
    scripted.stop(30)
    expect(opened.page.locator("#pass")).to_be_visible()
    assert opened.page.evaluate(moving) == []
    assert (
        opened.page.locator("#captions").evaluate("(one) => getComputedStyle(one).scrollBehavior") == "auto"
    )


# Accessibility ----------------------------------------------------------------------------------------


def asking(opened: Visit) -> None:
    opened.page.evaluate("() => { navigator.mediaDevices.getUserMedia = () => new Promise(() => {}); }")
    opened.page.get_by_role("button", name="Start").click()
    opened.expect_phase("asking")


def lost(opened: Visit) -> None:
    scripted = live(opened)
    scripted.lose()
    scripted.wait_until(lambda: len(scripted.starts) > 1)
    scripted.say(type="error", code="session_unknown", message="There is no such session.", hint="")
    scripted.lose(1008)
    opened.expect_phase("lost")


def failed(opened: Visit) -> None:
    live(opened).fail("The recogniser broke.")
    opened.page.wait_for_function("['failed', 'lost'].includes(document.body.dataset.phase)")


def on_stage(opened: Visit) -> None:
    live(opened)
    opened.page.get_by_role("button", name="Stage").click()
    expect(opened.page.locator("#stage-lines .text").last).to_be_visible()


def panel(name: str) -> Callable[[Visit], None]:
    def bring(opened: Visit) -> None:
        live(opened)
        opened.page.get_by_role("button", name=name, exact=True).click()
        expect(opened.page.locator("[popover]:popover-open")).to_be_visible()

    return bring


STATES: dict[str, Callable[[Visit], Any]] = {
    "idle": lambda opened: opened.expect_phase("idle"),
    "asking": asking,
    "live": live,
    "lost": lost,
    "finishing": finished,
    "done": done,
    "failed": failed,
    "stage": on_stage,
    "settings": panel("Settings"),
    "saving": panel("Save"),
    "sharing": panel("Share"),
}
PAGES = {
    "overlay": "/overlay/abc",
    "stage by itself": "/watch/abc?stage=1",
    "audience": "/watch/abc",
    "editor": "/web/look.html#link=https%3A%2F%2Fexample.com%2Fwatch%2Fabc%3Foverlay%3D1%26size%3Dhuge",
}


@pytest.fixture(scope="module", params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> Iterator[str]:
    yield request.param


@pytest.mark.parametrize("bring", STATES.values(), ids=STATES)
def test_axe_finds_nothing_in_any_state(
    silent_browser: Browser, server: Server, visit: OpenPage, scheme: str, bring: Callable[[Visit], Any]
) -> None:
    opened = visit(silent_browser, server.url, color_scheme=scheme, reduced_motion="reduce", tolerated=LOST)
    bring(opened)
    assert violations(opened.page) == []


@pytest.mark.parametrize("path", PAGES.values(), ids=PAGES)
def test_axe_finds_nothing_on_the_other_pages(
    launch_browser: Any, server: Server, visit: OpenPage, scheme: str, path: str
) -> None:
    opened = visit(
        launch_browser(), "about:blank", color_scheme=scheme, reduced_motion="reduce", tolerated=LOST
    )
    Feed(opened).say(
        {"type": "title", "title": "Town meeting"},
        *(said(number, f"S{number + 1}", text) for number, (_, _, text) in enumerate(TURNS)),
        suggested("and goes back", 20),
    )
    opened.page.goto(server.url + path)
    expect(opened.page.locator(".text").first).to_be_visible()
    assert violations(opened.page) == []
    for button in opened.page.locator("button[popovertarget]:visible:enabled").all():
        button.click()
        assert violations(opened.page) == []
        opened.page.keyboard.press("Escape")
