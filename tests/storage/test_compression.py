"""Audio that is kept of sessions that are done: smaller, and sample by sample what it was."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from live_asr.core.audio import PcmDecoder, alaw_table, mulaw_table
from live_asr.core.errors import DiskFull
from live_asr.core.messages import AudioFormat, Start, to_dict
from live_asr.storage import compression
from live_asr.storage.compression import GivenUp, compress
from live_asr.storage.file_journal import FileJournal
from live_asr.storage.files import AUDIO_FILE, CHECKS_FILE, FLAC_FILE, RESERVE_BYTES, UNFINISHED_FILE
from live_asr.storage.spool import Spool

TIMEOUT = 30.0
Samples = NDArray[np.int16]


def never(_: float) -> bool:
    return False


def session(folder: Path, audio: AudioFormat, data: bytes) -> Path:
    """Make the folder of a session that is done."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "session.json").write_text(json.dumps({"start": to_dict(Start(audio=audio))}))
    (folder / AUDIO_FILE).write_bytes(data)
    (folder / CHECKS_FILE).write_bytes(bytes(16))
    return folder


def decoded(path: Path) -> tuple[int, Samples]:
    """Return what any player finds in a file: its rate, and samples of shape (frames, channels)."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        channels = stream.layout.nb_channels
        parts = [frame.to_ndarray().reshape(-1, channels) for frame in container.decode(stream)]
        return stream.rate, np.concatenate(parts)


def as_g711(samples: Samples, table: NDArray[np.float32]) -> bytes:
    """Return the codes that come nearest to samples."""
    values = table * 32768
    order = np.argsort(values)
    places = np.searchsorted(values[order], samples).clip(0, 255)
    return order[places].astype(np.uint8).tobytes()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("audio.*")}


def test_speech_gets_smaller_by_half_and_every_sample_of_it_is_there(
    tmp_path: Path, sample_pcm: bytes
) -> None:
    folder = session(tmp_path, AudioFormat(), sample_pcm)
    assert compress(folder, never)
    assert names(folder) == {FLAC_FILE}
    rate_hz, samples = decoded(folder / FLAC_FILE)
    assert (rate_hz, samples.shape[1]) == (16_000, 1)
    assert samples.tobytes() == sample_pcm
    assert (folder / FLAC_FILE).stat().st_size < len(sample_pcm) / 2


@pytest.mark.parametrize(("rate_hz", "channels"), [(8000, 2), (11_025, 1), (44_100, 2), (48_000, 1)])
def test_rate_and_channels_are_the_client_s(
    tmp_path: Path, sample_pcm: bytes, rate_hz: int, channels: int
) -> None:
    speech = np.frombuffer(sample_pcm, "<i2")[: 10 * 16_000]
    both = np.stack([speech, np.roll(speech, 5000)][:channels], 1)
    folder = session(tmp_path, AudioFormat("pcm_s16le", rate_hz, channels), both.tobytes() + b"\1")
    assert compress(folder, never)
    found_hz, samples = decoded(folder / FLAC_FILE)
    assert found_hz == rate_hz
    assert np.array_equal(samples, both), "bytes of an unfinished frame are no sample"


@pytest.mark.parametrize(("encoding", "table"), [("mulaw", mulaw_table), ("alaw", alaw_table)])
def test_telephone_audio_keeps_every_value_that_it_was_heard_with(
    tmp_path: Path, sample_pcm: bytes, encoding: str, table: Callable[[], NDArray[np.float32]]
) -> None:
    sent = as_g711(np.frombuffer(sample_pcm, "<i2")[::2], table()) + bytes(range(256))
    folder = session(tmp_path, AudioFormat(encoding, 8000), sent)
    assert compress(folder, never)
    _, samples = decoded(folder / FLAC_FILE)
    heard = PcmDecoder(encoding).feed(sent)[0]
    assert np.array_equal(samples[:, 0].astype(np.float32) / 32768, heard)
    assert (folder / FLAC_FILE).stat().st_size < len(sent)


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=3000), st.integers(1, 2), st.integers(1, 5), st.sampled_from([8000, 12_345]))
def test_whatever_is_compressed_is_the_same_and_what_is_not_stays(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, channels: int, repeats: int, rate_hz: int
) -> None:
    data *= repeats
    folder = session(tmp_path_factory.mktemp("a1"), AudioFormat("pcm_s16le", rate_hz, channels), data)
    if compress(folder, never):
        _, samples = decoded(folder / FLAC_FILE)
        assert samples.tobytes() == data[: len(data) // (2 * channels) * 2 * channels]
        assert (folder / FLAC_FILE).stat().st_size < len(data)
        assert names(folder) == {FLAC_FILE}
    else:
        assert (folder / AUDIO_FILE).read_bytes() == data
        assert names(folder) == {AUDIO_FILE, CHECKS_FILE}


@pytest.mark.parametrize("encoding", ["container", "pcm_f32le"])
def test_what_is_compressed_or_would_lose_something_stays(tmp_path: Path, encoding: str) -> None:
    folder = session(tmp_path, AudioFormat(encoding), bytes(50_000))
    assert not compress(folder, never)
    assert (folder / AUDIO_FILE).read_bytes() == bytes(50_000)
    assert names(folder) == {AUDIO_FILE, CHECKS_FILE}


class Killed(BaseException):
    """The process dies here."""


STEPS = ["_encode", "_read_back", "sync_file", "sync_folder", *(f"unlink {number}" for number in range(3))]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("before", [True, False])
def test_a_kill_at_any_step_leaves_a_good_copy_and_the_next_run_brings_it_to_its_end(
    tmp_path: Path, sample_pcm: bytes, monkeypatch: pytest.MonkeyPatch, step: str, before: bool
) -> None:
    sent = sample_pcm[: 4 * 32_000]
    folder = session(tmp_path, AudioFormat(), sent)
    calls = 0

    def dying(work: Callable[..., Any], number: int = 0) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls - 1 < number:
                return work(*args, **kwargs)
            if not before:
                work(*args, **kwargs)
            raise Killed

        return call

    with monkeypatch.context() as patched:
        if step.startswith("unlink"):
            patched.setattr(Path, "unlink", dying(Path.unlink, int(step.split()[1])))
        else:
            patched.setattr(compression, step, dying(getattr(compression, step)))
        with pytest.raises(Killed):
            compress(folder, never)
    if (folder / FLAC_FILE).exists():
        assert decoded(folder / FLAC_FILE)[1].tobytes() == sent
    else:
        assert (folder / AUDIO_FILE).read_bytes() == sent
    assert compress(folder, never)
    assert names(folder) == {FLAC_FILE}
    assert decoded(folder / FLAC_FILE)[1].tobytes() == sent


def test_what_is_read_back_differently_is_not_believed(
    tmp_path: Path, sample_pcm: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = session(tmp_path, AudioFormat(), sample_pcm)
    encode = compression._encode

    def on_a_bad_disk(source: Path, target: Path, *rest: Any) -> int:
        crc = encode(source, target, *rest)
        data = bytearray(target.read_bytes())
        data[len(data) // 2] ^= 16
        target.write_bytes(data)
        return crc

    monkeypatch.setattr(compression, "_encode", on_a_bad_disk)
    with pytest.raises((ValueError, av.error.FFmpegError)):
        compress(folder, never)
    assert (folder / AUDIO_FILE).read_bytes() == sample_pcm
    assert not (folder / FLAC_FILE).exists()


def test_it_works_half_of_the_time_and_gives_up_when_it_is_told_to(tmp_path: Path, sample_pcm: bytes) -> None:
    folder = session(tmp_path, AudioFormat(), sample_pcm * 4)
    pauses: list[float] = []

    def pause(duration: float) -> bool:
        pauses.append(duration)
        return len(pauses) == 3

    with pytest.raises(GivenUp):
        compress(folder, pause)
    assert all(duration > 0 for duration in pauses)
    assert (folder / AUDIO_FILE).read_bytes() == sample_pcm * 4
    assert compress(folder, never)


# Beside all else -----------------------------------------------------------------------------------


async def finished(store: FileJournal, data: bytes, name: str = "a1") -> Spool:
    spool = await store.open(name, {"start": to_dict(Start())})
    spool.append_audio(data)
    await store.finish(spool, keep_audio=True)
    return spool


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(TIMEOUT):
        while not holds():  # noqa: ASYNC110  what is looked at tells nobody
            await asyncio.sleep(0.01)


async def test_sessions_are_compressed_one_after_the_other(tmp_path: Path, sample_pcm: bytes) -> None:
    store = FileJournal(tmp_path)
    await store.start()
    spools = [await finished(store, sample_pcm, name) for name in ("a1", "b2", "c3")]
    for spool in spools:
        await store.compress(spool)
    await eventually(lambda: all(names(spool.folder) == {FLAC_FILE} for spool in spools))
    assert all(decoded(spool.folder / FLAC_FILE)[1].tobytes() == sample_pcm for spool in spools)
    await store.close()


async def test_what_the_end_of_the_server_leaves_the_next_run_compresses(
    tmp_path: Path, sample_pcm: bytes
) -> None:
    store = FileJournal(tmp_path)
    spools = [await finished(store, sample_pcm, name) for name in ("a1", "b2", ".erased-c3")]
    for spool in spools:
        await store.compress(spool)  # not begun: the store was never started
    await store.close()
    assert all(UNFINISHED_FILE in names(spool.folder) for spool in spools)
    raw = await finished(store, sample_pcm, "open1")

    heir = FileJournal(tmp_path)
    await heir.start()
    await eventually(lambda: all(names(spool.folder) == {FLAC_FILE} for spool in spools[:2]))
    await heir.close()
    assert names(raw.folder) == {AUDIO_FILE, CHECKS_FILE}, "nobody has said that this one is done"
    assert AUDIO_FILE in names(spools[2].folder), "and this one is to be erased"


async def test_a_server_that_ends_does_not_wait_for_it(
    tmp_path: Path, sample_pcm: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compression, "PIECE_FRAMES", 100)  # the rests between pieces alone take seconds
    store = FileJournal(tmp_path)
    await store.start()
    spool = await finished(store, sample_pcm * 20)
    await store.compress(spool)
    unfinished = spool.folder / UNFINISHED_FILE
    await eventually(lambda: unfinished.exists() and unfinished.stat().st_size > 0)
    await store.close()
    assert (spool.folder / AUDIO_FILE).read_bytes() == sample_pcm * 20
    assert UNFINISHED_FILE in names(spool.folder)


@pytest.mark.parametrize("fault", [OSError(errno.EIO, "Input/output error"), MemoryError("no room")])
async def test_a_failure_is_told_of_and_the_audio_stays(
    tmp_path: Path,
    sample_pcm: bytes,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fault: Exception,
) -> None:
    def fail(*_: object) -> NoReturn:
        raise fault

    store = FileJournal(tmp_path)
    await store.start()
    with monkeypatch.context() as patched:
        patched.setattr(compression, "_encode", fail)
        spool = await finished(store, sample_pcm)
        await store.compress(spool)
        await eventually(lambda: "stays as it is" in caplog.text)
    await eventually(lambda: names(spool.folder) == {AUDIO_FILE, CHECKS_FILE})
    other = await finished(store, sample_pcm, "b2")
    await store.compress(other)
    await eventually(lambda: names(other.folder) == {FLAC_FILE})
    await store.close()
    assert str(fault) in caplog.text


def test_a_disk_that_is_nearly_full_is_left_to_those_who_speak(
    tmp_path: Path, sample_pcm: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = session(tmp_path, AudioFormat(), sample_pcm)
    usage = shutil.disk_usage(folder)
    little = RESERVE_BYTES + len(sample_pcm) - 1
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=little))
    with pytest.raises(DiskFull):
        compress(folder, never)
    assert names(folder) == {AUDIO_FILE, CHECKS_FILE}
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=little + 1))
    assert compress(folder, never)


async def test_what_a_nearly_full_disk_has_no_room_for_the_next_run_compresses(
    tmp_path: Path, sample_pcm: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    usage = shutil.disk_usage(tmp_path)
    store = FileJournal(tmp_path)
    await store.start()
    with monkeypatch.context() as full:
        full.setattr(shutil, "disk_usage", lambda _: usage._replace(free=RESERVE_BYTES))
        spool = await finished(store, sample_pcm)
        await store.compress(spool)
        await eventually(lambda: "not compressed by this run" in caplog.text)
        await store.close()
    heir = FileJournal(tmp_path)
    await heir.start()
    await eventually(lambda: names(spool.folder) == {FLAC_FILE})
    await heir.close()


async def test_audio_that_is_erased_while_it_is_compressed_is_gone_and_nobody_complains(
    tmp_path: Path, sample_pcm: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = FileJournal(tmp_path)
    monkeypatch.setattr(compression, "PIECE_FRAMES", 2000)
    caplog.set_level(logging.WARNING)
    await store.start()
    erased = [await finished(store, sample_pcm * 3, name) for name in ("a1", "b2")]
    for spool in erased:
        await store.compress(spool)
    unfinished = erased[0].folder / UNFINISHED_FILE
    await eventually(lambda: unfinished.stat().st_size > 0)
    assert store.erase_audio("a1")
    store.mark_deleted("b2")
    store.erase("b2")
    last = await finished(store, sample_pcm, "c3")
    await store.compress(last)
    await eventually(lambda: names(last.folder) == {FLAC_FILE})
    assert names(erased[0].folder) == set()
    assert not erased[1].folder.exists()
    assert not caplog.records
    await store.close()
