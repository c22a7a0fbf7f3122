"""The page below a path, behind nginx and TLS, in a browser, with the real server."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Browser, expect
from visiting import WORKING, OpenPage

from tests.proxies import proxied
from tests.started import Server

pytest_plugins = ["browsers"]

RESULT = """async (session) => {
    const { resultOf } = await import(new URL("web/client/results.js", document.baseURI).href);
    const [, token] = JSON.parse(localStorage.getItem("live-asr.keys")).find(([one]) => one === session);
    return resultOf({ session, token });
}"""
"""What a talk's page asks for that had gone on in another session."""


def test_a_talk_is_captioned_shared_named_and_saved_below_a_path(
    talking_browser: Browser, server: Server, visit: OpenPage, tmp_path: Path
) -> None:
    with proxied("nginx", server.url, tmp_path) as proxy:
        opened = visit(talking_browser, f"{proxy.url}/", ignore_https_errors=True)
        page = opened.page
        opened.start()
        opened.wait_for("() => document.querySelector('#transcript').textContent.split(' ').length > 5")

        page.get_by_role("button", name="Share").click()
        link = page.locator("#share-open")
        expect(link).to_have_attribute("href", re.compile(f"^{re.escape(proxy.url)}/watch/"), timeout=WORKING)
        expect(page.locator("#share-code")).to_be_visible(timeout=WORKING)
        watch, overlay = (
            page.locator(name).get_attribute("href") for name in ("#share-open", "#share-overlay")
        )
        assert watch and overlay
        page.keyboard.press("Escape")
        for address in (watch, overlay):
            audience = visit(talking_browser, address, ignore_https_errors=True)
            audience.wait_for("() => document.querySelector('#transcript').textContent.split(' ').length > 5")

        opened.stop()
        opened.expect_phase("done")
        final = page.evaluate(RESULT, watch.removeprefix(f"{proxy.url}/watch/").split("?")[0])
        assert final["type"] == "final" and final["text"].strip()
        saved = page.locator("#save-menu a[data-format=txt]").first.evaluate("link => link.href")
        assert saved.startswith(f"{proxy.url}/v1/sessions/")
        assert page.request.get(saved, ignore_https_errors=True).text().strip()
