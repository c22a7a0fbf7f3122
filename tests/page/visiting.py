"""A visit to the page: what tests do there, and what they wait for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect

ROOT = Path(__file__).resolve().parent.parent.parent
SCREENSHOTS = ROOT / "test-results" / "screenshots"
WORKING = 60_000
"""Milliseconds that the page may take for anything that needs the models, on a machine with other work."""

LaunchBrowser = Callable[..., Browser]


@dataclass
class Visit:
    """One visit to the page, with everything that the browser complained about on the way."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    def start(self) -> None:
        """Press Start and wait until the captions are live."""
        self.page.get_by_role("button", name="Start").click()
        self.expect_phase("live")

    def expect_phase(self, phase: str) -> None:
        """Wait until the page is in this state."""
        expect(self.page.locator("body")).to_have_attribute("data-phase", phase, timeout=WORKING)

    def captions(self) -> str:
        """Return the words on the screen, with single spaces."""
        turns = self.page.locator("#transcript .text").all_text_contents()
        return " ".join(" ".join(turns).split())

    def wait_for(self, condition: str, argument: Any = None) -> None:
        """Wait until this JavaScript function returns something true."""
        self.page.wait_for_function(condition, arg=argument, timeout=WORKING)

    def photograph(self, name: str) -> None:
        """Keep a picture of the window."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")


OpenPage = Callable[..., Visit]
