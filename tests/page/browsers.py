"""Chromium, with a WAV as its microphone, on the page of a real server: the fixtures of the page's tests.

A plugin and not a `conftest.py`: there is one already, and tests import names from it.
"""

from __future__ import annotations

import shutil
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Playwright, sync_playwright
from visiting import READY, LaunchBrowser, OpenPage, Visit

QUIET_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]
DESKTOP = {"width": 1280, "height": 720}


@pytest.fixture(scope="module")
def chromium() -> str:
    """The browser's executable; without one the tests are skipped, and say what to install."""
    for name in ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome"):
        if path := shutil.which(name):
            return path
    pytest.skip("no Chromium on this machine: install it (Debian and Ubuntu: apt-get install chromium)")


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    """Playwright. It keeps an event loop running, so it must end before asynchronous tests begin."""
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def launch_browser(playwright: Playwright, chromium: str) -> Iterator[LaunchBrowser]:
    """Launch Chromium: with this WAV as microphone, or without any; `allow` answers its questions."""
    launched: list[Browser] = []

    def launch(microphone: Path | None = None, *, allow: bool = True, flags: tuple[str, ...] = ()) -> Browser:
        extra = list(flags)
        if allow:
            extra.append("--use-fake-ui-for-media-stream")
        if microphone is not None:
            extra += [
                "--use-fake-device-for-media-stream",
                f"--use-file-for-fake-audio-capture={microphone}%noloop",
            ]
        browser = playwright.chromium.launch(executable_path=chromium, args=[*QUIET_FLAGS, *extra])
        launched.append(browser)
        return browser

    yield launch
    for browser in launched:
        browser.close()


@pytest.fixture(scope="module")
def talking_browser(launch_browser: LaunchBrowser, sample_wav: Path) -> Browser:
    """A browser whose microphone hears the telephone call, once."""
    return launch_browser(sample_wav)


@pytest.fixture(scope="module")
def silent_browser(launch_browser: LaunchBrowser, tmp_path_factory: pytest.TempPathFactory) -> Browser:
    """A browser whose microphone hears nothing at all."""
    path = tmp_path_factory.mktemp("microphone") / "silence.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(2 * 16_000 * 60))
    return launch_browser(path)


@pytest.fixture
def visit() -> Iterator[OpenPage]:
    """Open the page in a fresh profile. A complaint of the browser (an error in the console, a breach of
    the content security policy) fails the test, unless it contains one of `tolerated`."""
    visits: list[tuple[Visit, tuple[str, ...]]] = []

    def open_page(browser: Browser, url: str, *, tolerated: tuple[str, ...] = (), **options: Any) -> Visit:
        page = browser.new_context(**{"viewport": DESKTOP, "locale": "en-GB", **options}).new_page()
        opened = Visit(page)
        page.on(
            "console",
            lambda message: (
                opened.complaints.append(message.text) if message.type in ("error", "warning") else None
            ),
        )
        page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        page.goto(url)
        page.wait_for_function(READY)
        visits.append((opened, tolerated))
        return opened

    yield open_page
    unexpected = []
    for opened, tolerated in visits:
        opened.page.context.close()
        unexpected += [text for text in opened.complaints if not any(part in text for part in tolerated)]
    assert unexpected == []
