"""Objects in a folder and in S3: what was put there is there, is read in pieces, and goes when erased."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

import httpx
import pytest

from benchmarks.jobs.aws import Aws, aws
from live_asr.core.errors import ConfigError, StorageError
from live_asr.storage.objects import PIECE_BYTES, READERS, ObjectStore

AUDIO = bytes(range(256)) * 30_000
"""More than S3 is given in one part, and than is read in one piece."""


async def read(store: ObjectStore, key: str, start: int, end: int) -> bytes:
    return b"".join([piece async for piece in store.read(key, start, end)])


async def test_what_is_put_is_read_back_whole_and_in_pieces_until_it_is_erased(
    objects_url: str, tmp_path: Path
) -> None:
    store = ObjectStore(objects_url)
    file = tmp_path / "audio"
    file.write_bytes(AUDIO)
    assert await store.put("a1/audio.flac", file, "audio/flac") == len(AUDIO)
    assert await store.put("a1/result.json", b"{}", "application/json") == 2
    assert await store.size_of("a1/audio.flac") == len(AUDIO)
    assert await read(store, "a1/audio.flac", 0, len(AUDIO)) == AUDIO
    assert await asyncio.to_thread(store.content, "a1/audio.flac") == AUDIO
    start, end = PIECE_BYTES - 7, 2 * PIECE_BYTES + 9
    assert await read(store, "a1/audio.flac", start, end) == AUDIO[start:end]
    assert await store.put("a1/result.json", b"[1]", "application/json") == 3
    assert await read(store, "a1/result.json", 0, 3) == b"[1]"
    for _ in range(2):  # who erases it after somebody else has is content
        await store.erase("a1/audio.flac")
    assert await store.size_of("a1/audio.flac") is None
    with pytest.raises(StorageError, match=r"no such bucket or object"):
        await read(store, "a1/audio.flac", 0, 5)
    assert await store.size_of("a1/result.json") == 3


async def test_a_store_that_can_be_used_is_left_as_it_was_by_the_check(
    objects_url: str, s3_server: Aws
) -> None:
    store = ObjectStore(objects_url)
    await store.check()
    if objects_url.startswith("file:"):
        folder = Path(objects_url.removeprefix("file://"))
        found = await asyncio.to_thread(folder.stat), await asyncio.to_thread(os.listdir, folder)
        assert (found[0].st_mode & 0o777, found[1]) == (0o700, []), "it holds what people said"
    else:
        prefix = objects_url.rpartition("/")[2]
        assert "Contents" not in s3_server.s3.list_objects_v2(Bucket="recordings", Prefix=prefix)


async def test_a_link_is_good_for_who_has_it_and_says_what_is_there(bucket: str) -> None:
    store = ObjectStore(bucket)
    assert store.can_sign
    await store.put("a1/audio.flac", AUDIO[:1000], "audio/flac")
    link = await store.link("a1/audio.flac", 60)
    assert link is not None and "X-Amz-Expires=60" in link
    async with httpx.AsyncClient(trust_env=False) as http:
        whole = await http.get(link)
        piece = await http.get(link, headers={"Range": "bytes=3-9"})
    assert (whole.status_code, whole.headers["content-type"], whole.content) == (
        200,
        "audio/flac",
        AUDIO[:1000],
    )
    assert (piece.status_code, piece.content) == (206, AUDIO[3:10])


async def test_a_folder_has_no_links(tmp_path: Path) -> None:
    store = ObjectStore(f"file://{tmp_path}/with%20space")
    assert not store.can_sign
    await store.put("a1/result.json", b"{}", "application/json")
    assert await store.link("a1/result.json", 60) is None
    assert (tmp_path / "with space" / "a1" / "result.json").read_bytes() == b"{}"


async def test_a_bucket_that_is_not_there_is_named(bucket: str) -> None:
    with pytest.raises(StorageError, match="s3://nowhere/x has no such bucket") as refusal:
        await ObjectStore("s3://nowhere/x").check()
    with pytest.raises(StorageError, match="s3://nowhere/x has no such bucket"):
        await ObjectStore("s3://nowhere/x").erase("a1/audio.flac")
    assert (refusal.value.code, "Make the bucket" in refusal.value.hint) == ("objects", True)


async def test_credentials_that_are_not_known_are_refused_and_so_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INITIAL_NO_AUTH_ACTION_COUNT", "1")  # from when the bucket is made
    with aws(tmp_path) as strict:
        for name, value in strict.environment.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(StorageError, match="refuses this server") as refusal:
            await ObjectStore("s3://recordings/x").check()
    assert "allowed to put, get and delete" in refusal.value.hint


async def test_a_store_that_does_not_answer_is_said_to_be_out_of_reach(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StorageError, match=f"{bucket} cannot be used") as refusal:
        await ObjectStore(bucket).check()
    assert "AWS_ENDPOINT_URL" in refusal.value.hint


async def test_who_reads_from_a_store_that_hangs_takes_few_threads(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("live_asr.storage.objects.READER_PATIENCE", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and says nothing
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        store = ObjectStore(bucket)
        waiting = [asyncio.ensure_future(asyncio.to_thread(store.content, "a1/x")) for _ in range(READERS)]
        await asyncio.sleep(0.2)
        with pytest.raises(StorageError, match="is slow") as refusal:
            await asyncio.to_thread(store.content, "a1/x")
        assert refusal.value.code == "objects"
        assert not any(task.done() for task in waiting)
    for failed in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(failed, StorageError)


async def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError):
        ObjectStore(f"file://{tmp_path}/file/objects")


def test_without_obstore_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(ConfigError, match="obstore is not installed") as refusal:
        ObjectStore("s3://bucket")
    assert "live-asr[objects]" in refusal.value.hint
