"""A data folder as 0.1.0 left it when it was killed: what is over is read, what is not goes on.

The archive beside this file was written by that version itself: one session that is done, and one that was
being spoken to, with scripted audio.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from live_asr.core.messages import Resume, Stop
from live_asr.sessions.resume import read_transcript
from live_asr.storage.files import ABOUT_FILE, EPOCH_FILE
from tests.sessions.registering import Client, running
from tests.sessions.scripted_engine import SECOND_BYTES, TEXT, pcm

ARCHIVE = Path(__file__).with_name("folder-of-0.1.0.tar.xz")
OVER = "f808b9178a3848f35f3fedcc"
OPEN, TOKEN, SENT_BYTES = "e007a19d1d76ed5759d5440d", "x8VYRt4l47-ifl19xj55dzugGpiQkfbf", 97_000


@pytest.fixture
def old(tmp_path: Path) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


async def test_a_session_that_is_over_is_read(old: Path) -> None:
    async with running(old) as server:
        transcript = read_transcript(server.store, OVER)
        assert transcript.final is not None and transcript.final.text == TEXT
        assert server.store.turns(OVER) == ()
        assert server.state(OVER) == "done"


async def test_a_session_that_is_not_goes_on_where_its_audio_ended(old: Path) -> None:
    async with running(old) as server:
        await server.has(OPEN)
        client = Client(await server.registry.resume(Resume(OPEN, TOKEN, 0)))
        assert client.opened.received_bytes == SENT_BYTES > 3 * SECOND_BYTES
        client.runner.receive_audio(pcm()[SENT_BYTES:])
        client.runner.receive(Stop())
        assert (await client.until("final"))["text"] == TEXT
        await client.ended()
        await server.done(OPEN)
    folder = old / "sessions" / OPEN
    assert (folder / EPOCH_FILE).read_text() == "2\n", "who took it over is its second writer"
    assert not (folder / "audio.bin").exists()
    assert (folder / ABOUT_FILE).exists()
