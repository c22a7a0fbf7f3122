"""Audio that has gone to an object store, played over HTTP: by a link where there is one, or passed on."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import av
import httpx
import numpy as np
import pytest

from benchmarks.jobs.aws import Aws
from live_asr.core.messages import Final, FinalSegment, Start, WireWord, encode, to_dict
from live_asr.sessions.resume import digest_of, new_token
from live_asr.storage.object_rows import ObjectRows
from live_asr.storage.objects import ObjectStore
from tests.postgres import new_database, postgres
from tests.server.standing import Standing, standing

PCM = (np.sin(np.arange(32_000) / 20) * 20_000).astype("<i2").tobytes()


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    with postgres() as url:
        yield url


@asynccontextmanager
async def moved(folder: Path, **flags: Any) -> AsyncIterator[tuple[Standing, dict[str, str]]]:
    """A server that has moved a session; with it the headers of who may hear that."""
    async with standing(folder, storage__keep_audio=True, **flags) as served:
        state, key = served.state, new_token()
        archive = state.archive
        assert archive is not None
        await archive.start()
        start = to_dict(Start())
        spool = await state.store.open("a1", {"start": start, "token": digest_of(key)})
        spool.append_audio(PCM)
        words = (WireWord(" hello", 0.5, 0.9, 0.9, None),)
        segment = FinalSegment(0.5, 0.9, None, "hello", words)
        final = Final(1, 1, 2.0, "en", "hello", (segment,), (), {}, labels="live")
        spool.append_message(encode(final))
        await state.store.finish(spool, keep_audio=True)
        call = state.database.call
        await call(state.database.add_session, "a1", start, created_at=1e9)
        await call(state.database.finish_session, "a1", state="done", ended_at=1e9, revision=1)
        await archive.move_all()
        assert state.store.kept_audio("a1") is None
        try:
            yield served, {"Authorization": f"Bearer {key}"}
        finally:
            await archive.close()


def samples_of(flac: bytes) -> bytes:
    with av.open(BytesIO(flac), format="flac") as container:
        frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
    return np.concatenate(frames, axis=1).astype("<i2").tobytes()


async def test_audio_in_a_folder_is_passed_on_all_of_it_and_in_pieces(
    tmp_path: Path, postgresql: str
) -> None:
    flags = {"storage__objects": f"file://{tmp_path}/objects", "storage__journal": new_database(postgresql)}
    async with moved(tmp_path, **flags) as (served, headers):
        told = (await served.http.get("/v1/sessions/a1", headers=headers)).json()
        whole = await served.http.get(told["audio"])
        assert (whole.status_code, whole.headers["content-type"]) == (200, "audio/flac")
        assert samples_of(whole.content) == PCM
        size = len(whole.content)
        for wanted, found in (("bytes=5-99", whole.content[5:100]), ("bytes=-7", whole.content[-7:])):
            piece = await served.http.get(told["audio"], headers={"Range": wanted})
            assert (piece.status_code, piece.content) == (206, found)
        beyond = await served.http.get(told["audio"], headers={"Range": f"bytes={size}-"})
        assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")
        result = tmp_path / "objects" / "a1" / "result.json"
        text = (await served.http.get("/v1/sessions/a1/transcript.json", headers=headers)).text
        assert json.loads(result.read_bytes()) == json.loads(text)
        assert served.state.store.movable_messages("a1") == []
        assert [segment["text"] for segment in json.loads(text)["segments"]] == ["hello"]
        erased = await served.http.delete("/v1/sessions/a1", headers=headers)
        assert erased.status_code == 204
        assert not result.exists()
        assert (await served.http.get(told["audio"])).status_code == 404


async def test_audio_in_s3_is_at_a_link_which_the_page_may_play_and_which_ends_with_the_session(
    tmp_path: Path, bucket: str
) -> None:
    async with moved(tmp_path, storage__objects=bucket, storage__object_links=90) as (served, headers):
        led = await served.http.get("/v1/sessions/a1/audio", headers=headers)
        assert (led.status_code, led.headers["cache-control"]) == (307, "private, no-store")
        link = led.headers["location"]
        assert "X-Amz-Expires=90" in link
        parts = urlsplit(link)
        policy = (await served.http.get("/")).headers["content-security-policy"]
        assert f"media-src 'self' blob: {parts.scheme}://{parts.netloc};" in policy
        async with httpx.AsyncClient(trust_env=False) as http:
            whole = await http.get(link)
            assert (whole.status_code, whole.headers["content-type"]) == (200, "audio/flac")
            assert samples_of(whole.content) == PCM
            piece = await http.get(link, headers={"Range": "bytes=5-99"})
            assert (piece.status_code, piece.content) == (206, whole.content[5:100])
            assert (await served.http.delete("/v1/sessions/a1", headers=headers)).status_code == 204
            assert (await http.get(link)).status_code == 404


async def test_without_links_audio_in_s3_is_passed_on(tmp_path: Path, bucket: str) -> None:
    async with moved(tmp_path, storage__objects=bucket, storage__object_links=0) as (served, headers):
        wanted = {**headers, "Range": "bytes=5-99"}
        whole = await served.http.get("/v1/sessions/a1/audio", headers=headers)
        piece = await served.http.get("/v1/sessions/a1/audio", headers=wanted)
        assert samples_of(whole.content) == PCM
        assert (piece.status_code, piece.content) == (206, whole.content[5:100])
        assert "media-src 'self' blob:;" in whole.headers["content-security-policy"]


async def test_what_was_said_is_read_from_s3_and_not_taken_for_nothing_while_that_is_away(
    tmp_path: Path, postgresql: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = {"storage__objects": bucket, "storage__journal": new_database(postgresql)}
    async with moved(tmp_path, **flags) as (served, headers):
        there = await served.http.get("/v1/sessions/a1/transcript.txt", headers=headers)
        assert there.text.strip() == "hello"
        watched = await served.http.get("/v1/sessions/a1/events", headers=headers)
        assert '"text":"hello"' in watched.text
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        monkeypatch.setattr(served.state.store, "_objects", ObjectStore(bucket))
        away = await served.http.get("/v1/sessions/a1/transcript.srt", headers=headers)
        assert (away.status_code, away.headers["retry-after"]) == (503, "5")
        assert "cannot reach what it has stored" in away.json()["detail"]


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_session_is_erased_though_the_store_is_away_and_its_objects_once_that_is_back(
    tmp_path: Path, bucket: str, s3_server: Aws, monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    monkeypatch.setattr("live_asr.sessions.archive.PATIENCE", 0.3 if hangs else 60.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and says nothing
        address = f"127.0.0.1:{silent.getsockname()[1]}" if hangs else "127.0.0.1:9"
        await erase_while_away(tmp_path, bucket, s3_server, monkeypatch, f"http://{address}")


async def erase_while_away(
    tmp_path: Path, bucket: str, s3_server: Aws, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    async with moved(tmp_path, storage__objects=bucket) as (served, headers):
        state = served.state
        assert state.archive is not None
        there = state.archive.objects
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setattr(state.archive, "_objects", ObjectStore(bucket))
        erased = await served.http.delete("/v1/sessions/a1", headers=headers)
        assert erased.status_code == 202
        assert (await served.http.get("/v1/sessions/a1", headers=headers)).status_code == 404
        rows = ObjectRows(state.database, bucket)
        assert rows.count()["doomed"] == 2
        monkeypatch.setattr(state.archive, "_objects", there)
        monkeypatch.setattr("live_asr.sessions.archive.PATIENCE", 60.0)
        assert await state.archive.erase("a1")
        prefix = bucket.rpartition("/")[2]
        assert "Contents" not in s3_server.s3.list_objects_v2(Bucket="recordings", Prefix=prefix)
