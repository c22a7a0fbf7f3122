"""FFmpeg in a process of its own: it hears the same, has no secret, and its death is one session's matter."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import socket
import subprocess
import sys
import wave
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.stream import AudioStream

from live_asr.audio.decoder import open_decoder
from live_asr.audio.ffmpeg import CODECS
from live_asr.audio.isolated_decoder import GuardedDecoder, open_guarded_decoder
from live_asr.core.errors import DecoderDied, DecoderError, MediaError
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


PROBE = """
import os, signal, socket, subprocess, sys, threading
from live_asr.audio.decoder_worker import confine

def result(attempt):
    try:
        attempt()
    except PermissionError:
        return "refused"
    return "allowed"

address = ("127.0.0.1", int(sys.argv[1]))
attempts = {
    "network": lambda: socket.create_connection(address, 5).close(),
    "program": lambda: subprocess.run(["true"]),
    "neighbour": lambda: os.kill(os.getppid(), 0),
    "thread": lambda: threading.Thread(target=int).start(),
}
before = {name: result(attempt) for name, attempt in attempts.items()}
confine()
after = {name: result(attempt) for name, attempt in attempts.items()}
print(*before.values(), *after.values(), flush=True)
os.abort()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux alone filters system calls so")
def test_it_has_no_network_and_starts_and_signals_nothing_else() -> None:
    with socket.create_server(("127.0.0.1", 0)) as there:
        command = [sys.executable, "-c", PROBE, str(there.getsockname()[1])]
        done = subprocess.run(command, capture_output=True, text=True)
    *_, said = done.stdout.splitlines()
    assert said.split() == ["allowed"] * 4 + ["refused"] * 3 + ["allowed"], done.stderr
    assert done.returncode == -signal.SIGABRT, "it may end itself"


def odd_codec() -> bytes:
    """Return a tone in a codec of modems, in a container that may hold it."""
    out = io.BytesIO()
    with av.open(out, "w", format="matroska") as container:
        stream = container.add_stream("real_144", rate=8000, layout="mono")
        assert isinstance(stream, AudioStream)
        for index in range(50):
            tone = (8000 * np.sin(np.arange(160) / 5)).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(tone[None], format="s16", layout="mono")
            frame.sample_rate, frame.pts = 8000, index * 160
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return out.getvalue()


async def test_a_codec_that_is_not_on_the_list_is_refused_by_its_name() -> None:
    decoder = GuardedDecoder()
    with pytest.raises(MediaError, match="in the codec real_144, which is not read here"):
        await decoder.feed(odd_codec())
        await decoder.finish()
    decoder.close()


def test_every_codec_of_the_list_is_one_that_ffmpeg_has_and_none_shows_pictures() -> None:
    assert {av.Codec(name, "r").type for name in CODECS.split(",")} == {"audio"}
