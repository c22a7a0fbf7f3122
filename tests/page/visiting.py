"""A visit to the page: what tests do there, and what they wait for."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, TimeoutError, expect

ROOT = Path(__file__).resolve().parent.parent.parent
SCREENSHOTS = ROOT / "test-results" / "screenshots"
WORKING = 120_000
"""Milliseconds that the page may take for anything that needs the models, on a machine with other work."""

FAINT_TEXTS = """() => {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    const channels = (color) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = color;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const luminance = (color) => {
        const [r, g, b] = channels(color).map((c) => c / 255)
            .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const backgroundOf = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const color = getComputedStyle(at).backgroundColor;
            if (channels(color)[3] === 255) return color;
        }
    };
    const hasText = (element) => [...element.childNodes].some(
        (node) => node.nodeType === 3 && node.data.trim());
    return [...document.querySelectorAll("body *")]
        .filter((element) => element.checkVisibility() && hasText(element))
        .filter((element) => !element.closest(":disabled, option"))
        .map((element) => {
            const [a, b] = [getComputedStyle(element).color, backgroundOf(element)].map(luminance);
            return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), element.textContent.slice(0, 40)];
        })
        .filter(([contrast]) => contrast < 4.5);
}"""
"""Texts that stand out too little from what is behind them, each with its contrast."""

CUT_OFF = """() => [...document.querySelectorAll("body *")].filter((element) => {
    const { left, right, width } = element.getBoundingClientRect();
    return element.checkVisibility() && !element.closest("svg, .sr-only, [popover]:not(:popover-open)")
        && getComputedStyle(element).clipPath === "none"
        && width > 0 && (left < -1 || right > innerWidth + 1);
}).map((element) => element.outerHTML.slice(0, 80))"""
"""What reaches beyond the window's sides."""

READY = """() => !document.querySelector("script[type=module]")
    || document.documentElement.style.getPropertyValue("--not-confirmed") !== ''"""
"""The words have come, which a page waits for behind its `load`."""

OF_A_CUT_LINE = ("WebSocket connection", "CONNECTION_RESET")
"""What the browser says when a line is cut; with it goes what is in the air, a picture it may be."""

LaunchBrowser = Callable[..., Browser]


def unlabelled(text: str) -> str:
    """Return a transcript's words with single spaces, without who said them."""
    return " ".join(re.sub(r"^(?:SPEAKER_\d+|Speaker \d+|S\d+): ", "", text, flags=re.MULTILINE).split())


def violations(page: Page) -> list[str]:
    """Return what axe-core finds, all of its rules on."""
    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {node['html'][:120]}" for one in found for node in one["nodes"]]


@dataclass
class Visit:
    """One visit to the page, with everything that the browser complained about on the way."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    def start(self) -> None:
        """Press Start and wait until the captions are live."""
        self.page.get_by_role("button", name="Start").click()
        self.expect_phase("live")

    def stop(self) -> None:
        """Press Stop, and say that it is meant."""
        self.page.get_by_role("button", name="Stop").click()
        self.page.get_by_role("dialog", name="Stop the captions?").get_by_role("button", name="Stop").click()

    def hold(self, key: str, until: str) -> None:
        """Hold a key down until this JavaScript function returns something true."""
        self.page.keyboard.down(key)
        self.wait_for(until)
        self.page.keyboard.up(key)

    def expect_phase(self, phase: str) -> None:
        """Wait until the page is in this state."""
        expect(self.page.locator("body")).to_have_attribute("data-phase", phase, timeout=WORKING)

    def captions(self) -> str:
        """Return the words on the screen, with single spaces."""
        turns = self.page.locator("#transcript .text").all_text_contents()
        return " ".join(" ".join(turns).split())

    def wait_for(self, condition: str, argument: Any = None) -> None:
        """Wait until this JavaScript function returns something true; say what is shown where it doesn't."""
        try:
            self.page.wait_for_function(condition, arg=argument, timeout=WORKING)
        except TimeoutError as error:
            shown = self.page.inner_text("body")
            error.add_note(f"the page shows:\n{shown}\nthe browser complains: {self.complaints}")
            raise

    def photograph(self, name: str) -> None:
        """Keep a picture of the window."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")


OpenPage = Callable[..., Visit]
