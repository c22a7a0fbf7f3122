"""Audio that is kept of sessions that are done, on a real disk: compressed, in nobody's way."""

from __future__ import annotations

import asyncio
import shutil
import threading
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from live_asr.config.settings import FinalSettings, WebhookSettings
from live_asr.storage import compression
from live_asr.storage.database import Database
from live_asr.storage.files import CHECKS_FILE
from tests.sessions.finalizing import HOOK, TIMEOUT, opened, wait_for


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


async def test_audio_is_compressed_though_the_server_dies_as_soon_as_its_session_is_done(
    tmp_path: Path, sample_pcm: bytes
) -> None:
    class Dying(Database):
        def finish_session(self, *args: Any, **kwargs: Any) -> None:
            super().finish_session(*args, **kwargs)
            raise KeyError("the server dies here")

    async with opened(tmp_path, keep_audio=True, database=Dying) as desk:
        session = await desk.session(audio=sample_pcm, duration=30.0)
        with pytest.raises(KeyError):
            await desk.finalize(session)
    async with opened(tmp_path, keep_audio=True) as desk:
        assert desk.database.unfinished() == [], "nobody takes it up again"
        await wait_for(lambda: desk.files() == {"session.json", "messages.jsonl", "turns.json", "audio.flac"})


async def test_a_session_is_brought_to_its_end_while_its_audio_is_compressed(
    tmp_path: Path, sample_pcm: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had its result before a server died, and the next one does both at once."""

    class Dying(Database):
        def finish_session(self, *args: Any, **kwargs: Any) -> None:
            raise KeyError("the server dies here")

    async with opened(tmp_path, keep_audio=True, database=Dying) as desk:
        session = await desk.session(audio=sample_pcm, duration=30.0)
        with pytest.raises(KeyError):
            await desk.finalize(session)
    began, may_go_on = threading.Event(), threading.Event()
    unlink = Path.unlink

    def slowly(path: Path, missing_ok: bool = False) -> None:
        unlink(path, missing_ok)
        if path.name == CHECKS_FILE:
            began.set()
            assert may_go_on.wait(TIMEOUT)

    monkeypatch.setattr(Path, "unlink", slowly)
    async with opened(tmp_path, keep_audio=True) as desk:
        assert await asyncio.to_thread(began.wait, TIMEOUT)
        await desk.finalize(await desk.again(session))
        assert desk.database.session("a1").state == "done"  # type: ignore[union-attr]
        may_go_on.set()
        kept = {"session.json", "messages.jsonl", "turns.json", "epoch", "audio.flac"}
        await wait_for(lambda: desk.files() == kept)


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
    monkeypatch.setattr(compression, "compress", lambda *_: may_end.wait(TIMEOUT))
    async with opened(tmp_path, keep_audio=True, webhook=WebhookSettings(url=HOOK)) as desk:
        for name in ("a1", "a2"):
            await desk.finalize(await desk.session(name=name))
            assert desk.database.session(name).state == "done"  # type: ignore[union-attr]
        assert (len(desk.database.deliveries()), desk.woken) == (2, 2)
        may_end.set()
