"""FFmpeg in a process of its own: it hears the same, has no secret, and its death is one session's matter."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

from live_asr.audio.decoder import open_decoder
from live_asr.audio.isolated_decoder import GuardedDecoder, open_guarded_decoder
from live_asr.core.errors import DecoderDied, DecoderError
from live_asr.core.messages import AudioFormat

CONTAINER = AudioFormat("container")


def noise(seconds: float) -> bytes:
    """Return noise as a WAV file."""
    samples = np.random.default_rng(0).normal(0, 3000, round(seconds * 16_000)).astype("<i2")
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(samples.tobytes())
    return out.getvalue()


def process_of(decoder: GuardedDecoder) -> int:
    assert decoder._process is not None
    return decoder._process.pid


async def test_it_hears_what_the_decoder_in_this_process_hears() -> None:
    heard = []
    for opened in (open_decoder(CONTAINER), open_guarded_decoder(CONTAINER)):
        data, pieces = noise(3.0), []
        for first in range(0, len(data), 7001):
            pieces.append(await opened.feed(data[first : first + 7001]))
        pieces.append(await opened.finish())
        opened.close()
        heard.append(np.concatenate(pieces))
    np.testing.assert_array_equal(*heard)
    assert open_guarded_decoder(AudioFormat()).__class__ is open_decoder(AudioFormat()).__class__


async def test_its_death_is_an_error_of_this_session_and_of_no_other() -> None:
    broken, whole = GuardedDecoder(), GuardedDecoder()
    data = noise(2.0)
    for decoder in (broken, whole):
        await decoder.feed(data[:20_000])
    os.kill(process_of(broken), signal.SIGKILL)
    with pytest.raises(DecoderDied):
        await broken.feed(data[20_000:])
    broken.close()
    heard = [await whole.feed(data[20_000:]), await whole.finish()]
    assert sum(map(len, heard)) > 16_000
    whole.close()


async def test_what_ends_the_server_and_its_group_does_not_end_it() -> None:
    decoder, data = GuardedDecoder(), noise(2.0)
    heard = [await decoder.feed(data[:20_000])]
    pid = process_of(decoder)
    assert os.getpgid(pid) == pid != os.getpgid(0)
    for ending in (signal.SIGTERM, signal.SIGINT):
        os.killpg(pid, ending)
    heard += [await decoder.feed(data[20_000:]), await decoder.finish()]
    assert abs(sum(map(len, heard)) - 32_000) < 160
    decoder.close()


async def test_it_takes_no_modules_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "orjson.py").write_text("raise SystemExit('taken')")
    monkeypatch.chdir(tmp_path)
    decoder = GuardedDecoder()
    heard = [await decoder.feed(noise(2.0)), await decoder.finish()]
    assert abs(sum(map(len, heard)) - 32_000) < 160
    decoder.close()


async def test_where_it_cannot_be_started_nothing_is_said_of_the_audio(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoder = GuardedDecoder()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", "/nowhere/python")
        with pytest.raises(DecoderError) as failed:
            await decoder.feed(noise(2.0))
    assert not isinstance(failed.value, DecoderDied)
    assert failed.value.code == "decoder"
    decoder.close()


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells")
async def test_it_has_no_secret_and_not_much_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVE_ASR_SERVER__TOKEN", "swordfish-swordfish")
    decoder = GuardedDecoder()
    await decoder.feed(noise(0.5))
    about = Path(f"/proc/{process_of(decoder)}")
    assert b"swordfish" not in (about / "environ").read_bytes()
    limits = {line[:26].strip(): line[26:].split()[0] for line in (about / "limits").read_text().splitlines()}
    assert limits["Max address space"] == str(3 * 1024**3)
    assert limits["Max core file size"] == "0"
    assert limits["Max open files"] == "64"
    assert "NoNewPrivs:\t1" in (about / "status").read_text()
    decoder.close()


async def test_it_ends_with_its_session_whatever_it_does() -> None:
    decoder = GuardedDecoder()
    await decoder.feed(noise(0.5))
    pid = process_of(decoder)
    os.kill(pid, signal.SIGSTOP)
    waiting = asyncio.create_task(decoder.feed(noise(0.5)))
    await asyncio.sleep(0)
    decoder.close()
    decoder.close()
    assert (await waiting).size == 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_call_that_is_cancelled_loses_nothing() -> None:
    decoder, data = GuardedDecoder(), noise(2.0)
    asking = asyncio.create_task(decoder.feed(data))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    heard = [await decoder.feed(b""), await decoder.finish()]
    assert abs(sum(map(len, heard)) - 32_000) < 160
    decoder.close()
