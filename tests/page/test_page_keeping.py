"""What the browser keeps: a talk whose page was reloaded, closed or crashed goes on, and nothing of it is lost."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from scripted_server import ScriptedServer
from visiting import OpenPage, Visit, unlabelled

from tests.started import Server, StartServer

pytest_plugins = ["browsers"]

PATIENCE = 30_000
KEPT = """async () => {
    const [database] = await indexedDB.databases();
    if (!database) return { talks: 0, sound: 0, messages: 0 };
    const request = indexedDB.open(database.name);
    await new Promise((resolve) => (request.onsuccess = resolve));
    const count = (store) => new Promise((resolve) => {
        const counting = request.result.transaction(store).objectStore(store).count();
        counting.onsuccess = () => resolve(counting.result);
    });
    const kept = { talks: await count("talks"), sound: await count("sound"), messages: await count("messages") };
    request.result.close();
    return kept;
}"""
"""How much the browser keeps, by store."""


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


def expect_offer(page: Page) -> None:
    """Wait until the page offers to go on."""
    expect(page.locator("#offers")).to_contain_text(re.compile(r"Your talk from .+ is still open"), timeout=PATIENCE)


def test_a_reloaded_page_goes_on_with_its_talk(
    talking_browser: Browser, waiting: Server, visit: OpenPage
) -> None:
    opened = visit(talking_browser, waiting.url)
    page = opened.page
    before = len(sessions(waiting, page))
    opened.start()
    spoken(opened, 14)
    opened.wait_for("() => document.querySelector('#transcript .committed')")
    read = opened.captions()
    page.reload()
    expect_offer(page)
    opened.photograph("offer-light")
    page.emulate_media(color_scheme="dark")
    opened.photograph("offer-dark")
    page.get_by_role("button", name="Go on").click()
    opened.expect_phase("live")
    expect(page.locator("#offers")).to_be_hidden()
    expect(page.locator("#notices")).to_contain_text(re.compile(r"The microphone was off for [\d.]+ s"))
    committed = read.split()[:5]
    assert opened.captions().split()[:5] == committed
    spoken(opened, 30)
    page.get_by_role("button", name="Stop").click()
    opened.expect_phase("done")
    expect(page.locator("#advice")).to_contain_text(re.compile(r"The microphone was off for [\d.]+ s of it"))
    assert len(sessions(waiting, page)) == before + 1
    record = sessions(waiting, page)[0]
    assert record["duration"] >= 29
    text = page.request.get(f"{waiting.url}{record['links']['txt']}").text()
    assert opened.captions() == unlabelled(text)
    assert page.evaluate(KEPT) == {"talks": 0, "sound": 0, "messages": 0}
