"""A session that another server takes over: who had it writes nothing more, tells nobody, and says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from live_asr.core.messages import Stop
from live_asr.storage.file_journal import FileJournal
from tests.sessions.registering import START, Client, eventually, running
from tests.sessions.scripted_engine import SECOND_BYTES, pcm


@pytest.mark.parametrize("is_stopped", [False, True])
async def test_who_had_it_lets_go(tmp_path: Path, caplog: pytest.LogCaptureFixture, is_stopped: bool) -> None:
    other = FileJournal(tmp_path / "sessions", interval=0.01)
    await other.start()
    async with running(tmp_path) as server:
        client = Client(await server.registry.open(START))
        session_id, runner = client.opened.id, client.runner
        runner.receive_audio(pcm()[: 4 * SECOND_BYTES])
        await client.until("commit")
        await runner.spool.settled()
        taken = await other.reopen(session_id)
        before = list(other.messages(session_id))
        runner.receive_audio(pcm()[4 * SECOND_BYTES :])
        if is_stopped:
            runner.receive(Stop())
        await client.ended()
        assert (client.heard[-1]["type"], client.heard[-1]["code"]) == ("error", "loading")
        await eventually(lambda: server.registry.runner_of(session_id) is None)
        assert f"session {session_id} was taken over by another server" in caplog.text
        assert server.state(session_id) == "open", "how it ends is the other one's business"
        assert server.database.deliveries() == []
        assert (taken.folder / "audio.bin").stat().st_size == 4 * SECOND_BYTES
        assert list(other.messages(session_id)) == before
        assert server.registry.free_places == 2
    await other.close()
