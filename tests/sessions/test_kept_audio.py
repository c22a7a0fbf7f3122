"""Audio that is kept of sessions that are done, on a real disk: compressed, in nobody's way."""

from __future__ import annotations

import asyncio
import shutil
import threading
from pathlib import Path

import av
import numpy as np
import pytest
from test_finalizer import HOOK, PATIENCE, opened, wait_for

from live_asr.config import FinalSettings, WebhookSettings
from live_asr.storage import compression


async def test_audio_that_is_kept_is_compressed_and_erased_with_its_session(
    tmp_path: Path, sample_pcm: bytes
) -> None:
    async with opened(tmp_path, keep_audio=True) as desk:
        session = await desk.session(audio=sample_pcm, duration=30.0)
        await desk.finalize(session)
        kept = {"session.json", "messages.jsonl", "turns.json", "audio.flac"}
        await wait_for(lambda: desk.files() == kept)
        with av.open(str(session.spool.folder / "audio.flac")) as container:
            samples = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
        assert np.concatenate(samples).tobytes() == sample_pcm
        assert desk.store.erase_audio("a1")
        assert desk.files() == kept - {"audio.flac"}


@pytest.mark.parametrize("keep_audio", [False, True])
async def test_a_recording_that_a_killed_server_left_decoded_is_gone_though_no_other_pass_is_made(
    tmp_path: Path, keep_audio: bool
) -> None:
    now, later = tmp_path / "now", tmp_path / "later"
    async with opened(now) as desk:
        desk.full_pass.may_end.clear()
        session = await desk.session()
        running = asyncio.create_task(desk.finalizer.finalize(session))
        await desk.full_pass.began.wait()
        await asyncio.to_thread(shutil.copytree, now, later)  # what a kill would leave
        desk.full_pass.may_end.set()
        await running
    assert list(later.rglob("*.pcm"))
    async with opened(later, keep_audio=keep_audio, final=FinalSettings(recognize=False)) as desk:
        desk.full_pass.can_diarize = False
        await desk.finalize(await desk.again(session))
        assert desk.full_pass.jobs == []
        assert not list(later.rglob("*.pcm"))


async def test_nobody_waits_for_audio_to_be_compressed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end = threading.Event()
    monkeypatch.setattr(compression, "compress", lambda *_: may_end.wait(PATIENCE))
    async with opened(tmp_path, keep_audio=True, webhook=WebhookSettings(url=HOOK)) as desk:
        for name in ("a1", "a2"):
            await desk.finalize(await desk.session(name=name))
            assert desk.database.session(name).state == "done"  # type: ignore[union-attr]
        assert (len(desk.database.deliveries()), desk.woken) == (2, 2)
        may_end.set()
