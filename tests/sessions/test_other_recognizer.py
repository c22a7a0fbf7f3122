"""A server that comes back with other models: what was kept for the former ones is not told to them."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from live_asr.core.messages import Stop
from live_asr.core.types import DecodeRequest
from live_asr.inference.engine import Newest
from live_asr.inference.ipc import Recognized
from live_asr.models.interfaces import FloatArray
from tests.sessions.registering import START, Client, running
from tests.sessions.scripted_engine import SECOND_BYTES, TEXT, pcm


@pytest.mark.parametrize(("name", "is_told"), [("scripted", True), ("another", False)])
async def test_the_words_before_are_forced_only_on_the_recogniser_that_said_them(
    tmp_path: Path, name: str, is_told: bool
) -> None:
    now, later = tmp_path / "now", tmp_path / "later"
    async with running(now) as server:
        first = Client(await server.registry.open(START))
        first.runner.receive_audio(pcm()[: 3 * SECOND_BYTES])
        await first.until("commit")
        await first.runner.spool.settled()
        heard = first.resume()
        count = len(first.kept)
        await asyncio.to_thread(shutil.copytree, now, later)
    requests: list[DecodeRequest] = []
    async with running(later) as heir:
        engine, loaded = heir.engine, heir.engine.loaded
        # Nothing has been awaited since `recover`: no session is taken up yet.
        engine.loaded = replace(loaded, recognizer=replace(loaded.recognizer, name=name))
        recognize = engine.recognize

        async def noted(
            request: DecodeRequest, audio: FloatArray, budget: float, *, newest: Newest | None = None
        ) -> Recognized:
            requests.append(request)
            return await recognize(request, audio, budget, newest=newest)

        engine.recognize = noted  # type: ignore[method-assign]
        await heir.has(first.opened.id)
        second = Client(await heir.registry.resume(heard))
        second.runner.receive_audio(pcm()[second.opened.received_bytes :])
        second.runner.receive(Stop())
        await second.until("final")
    assert bool(requests[0].prefix) == is_told
    said = [message["text"] for message in first.kept[:count] if message["type"] == "commit"]
    assert "".join(said) + text_of_rest(second) == TEXT


def text_of_rest(client: Client) -> str:
    return "".join(message["text"] for message in client.kept if message["type"] == "commit")
