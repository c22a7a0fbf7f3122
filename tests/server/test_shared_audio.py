"""Audio that is kept in PostgreSQL, played over HTTP as that in files is: all of it, and pieces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from live_asr.core.messages import AudioFormat, Start, to_dict
from live_asr.sessions.resume import digest_of, new_token
from tests.postgres import new_database, postgres
from tests.server.standing import standing

AUDIO = bytes(range(250)) * 400
CONTAINER = b"\x1aE\xdf\xa3" + AUDIO


@pytest.mark.parametrize(
    ("audio", "sent", "kind", "header_bytes"),
    [
        (AudioFormat(), AUDIO, "audio/wav", 44),
        (AudioFormat("container"), CONTAINER, "video/webm", 0),
    ],
)
async def test_audio_that_is_kept_in_a_database_is_played(
    tmp_path: Path, audio: AudioFormat, sent: bytes, kind: str, header_bytes: int
) -> None:
    start, key = to_dict(Start(audio=audio)), new_token()
    with postgres() as server:
        flags: dict[str, Any] = {"storage__journal": new_database(server), "storage__keep_audio": True}
        async with standing(tmp_path, **flags) as served:
            state = served.state
            spool = await state.store.open("a1", {"start": start, "token": digest_of(key)})
            for at in range(0, len(sent), 7000):
                spool.append_audio(sent[at : at + 7000])
                await spool.settled()
            await state.store.finish(spool, keep_audio=True)
            call = state.database.call
            await call(state.database.add_session, "a1", start, created_at=1e9)
            await call(state.database.finish_session, "a1", state="done", ended_at=1e9)
            headers = {"Authorization": f"Bearer {key}"}
            whole = await served.http.get("/v1/sessions/a1/audio", headers=headers)
            assert (whole.status_code, whole.headers["content-type"]) == (200, kind)
            assert whole.content[header_bytes:] == sent
            wanted = {**headers, "Range": "bytes=6990-14010"}
            piece = await served.http.get("/v1/sessions/a1/audio", headers=wanted)
            assert (piece.status_code, piece.content) == (206, whole.content[6990:14011])
