"""The folders of the page's files: who may use whom, and that other pages can use `client/` alone."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from playwright.sync_api import Browser
from visiting import ROOT, OpenPage

from tests.started import Server

pytest_plugins = ["browsers"]

WEB = ROOT / "web"
MAY_USE = {
    "client": {"client"},
    "words": {"words"},
    "state": {"client", "words", "state"},
    "views": {"client", "state", "views"},
}

ALONE = """async () => {
    const { Connection } = await import("/web/client/connection.js");
    const { Microphone } = await import("/web/client/microphone.js");
    const nothing = () => {};
    let connection = null;
    window.said = "";
    const microphone = await Microphone.open(
        { deviceId: "", noiseSuppression: false, echoCancellation: false },
        { captured: ({ bytes }) => connection?.send(bytes), unplugged: nothing, slept: nothing });
    const audio = { encoding: "pcm_s16le", sample_rate: microphone.rate_hz, channels: 1 };
    connection = new Connection({ language: "en", final_pass: false, audio }, {
        received: (message) => { if (message.type === "commit") window.said += message.text; },
        interrupted: nothing, resumed: nothing, damaged: nothing, cut: nothing, closed: nothing,
        gone: () => false,
    });
}"""
"""What a page of somebody else's does to caption its microphone."""


def test_each_folder_uses_only_what_it_may() -> None:
    breaches = []
    for folder, allowed in MAY_USE.items():
        for file in sorted((WEB / folder).glob("*.js")):
            text = file.read_text()
            # Types are no use: they are gone when the page runs.
            for path in re.findall(r'^(?:import|export) .*?from "(.+?)"', text, re.M | re.S):
                used = folder if path.startswith("./") else PurePosixPath(path).parent.name
                if used not in allowed:
                    breaches.append(f"{folder}/{file.name}: {path}")
    assert breaches == []
    assert {path.suffix for path in WEB.iterdir() if path.is_file()} == {".html", ".svg"}


def test_the_client_folder_alone_captions_a_microphone(
    talking_browser: Browser, server: Server, visit: OpenPage
) -> None:
    no_icon = ("Failed to load resource",)
    opened = visit(talking_browser, f"{server.url}/healthz", tolerated=no_icon)
    asked: list[str] = []
    opened.page.on("request", lambda request: asked.append(urlsplit(request.url).path))
    opened.page.evaluate(ALONE)
    opened.wait_for("() => said.includes('know you were there')")
    assert {path for path in asked if not path.startswith("/web/client/")} == set()
