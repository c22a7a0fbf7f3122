"""The suite `whisperlivekit`: WhisperLiveKit's own server and this one, with one client, in turn.

The client speaks WhisperLiveKit's protocol with both: PCM in real time, whole updates. Both have the same
weights, and both decode with faster-whisper. Their server is started by its own command; it is no
dependency of this project, so `--whisperlivekit` says where that command was installed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import statistics
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from websockets.asyncio.client import ClientConnection, connect

from benchmarks.base.matching import errors
from benchmarks.base.measure import latencies, percentile
from benchmarks.base.options import Options
from benchmarks.base.processes import READY_TIMEOUT, STOP_TIMEOUT, BenchServer, free_port
from benchmarks.base.reference import Reference
from benchmarks.base.report import Row, Table, fact
from benchmarks.base.speech import RATE_HZ, Clip
from benchmarks.base.streaming import Arrival, SessionLog

CHUNK_SAMPLES = RATE_HZ // 10
END_TIMEOUT = 120.0
"""Seconds that a server has for its end after the audio's."""
OURS, THEIRS = "live-asr", "WhisperLiveKit"


@dataclass(slots=True)
class Listened:
    """One clip through one server."""

    clip: str
    is_complete: bool
    first_commit: float
    """Seconds from the first sample sent to the first committed line."""
    commit_latencies: list[float]
    """Seconds from a word's end to the update that has it in a line, by the single pass's words."""
    first_latencies: list[float]
    """The same to the first update that has it anywhere, in a line or in a buffer."""
    wer: float
    """Percent."""
    wire_bytes: int
    rewritten: int
    """Updates in which committed text was not what it had been, or more of it."""
    cpu: float
    """CPU seconds, all processes of the server, per second of audio."""
    text: str = ""


@dataclass(slots=True)
class Committed:
    """The committed text as a reader of whole updates sees it grow."""

    text: str = ""
    rewritten: int = 0

    def take(self, text: str) -> str:
        """Return what a new state adds, with its leading space; count where it changes what stood."""
        words, before = text.split(), self.text.split()
        self.rewritten += words[: len(before)] != before
        self.text = " ".join(words)
        return "".join(f" {word}" for word in words[len(before) :])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this suite asks."""
    parser.add_argument(
        "--whisperlivekit", type=Path, help="whisperlivekit: their command `wlk`, installed by itself"
    )


def run(options: Options, arguments: argparse.Namespace) -> tuple[list[Table], dict[str, Any]]:
    """Run the suite with each model; return its tables and the numbers behind them.

    Raises ValueError where their command is not given.
    """
    if arguments.whisperlivekit is None:
        raise ValueError("--whisperlivekit: say where their command `wlk` is (pip install whisperlivekit)")
    command = arguments.whisperlivekit.expanduser().absolute()
    tables, behind = [], {}
    for model in options.models:
        clips = [(clip, options.reference(clip, model)) for clip in map(options.clip, options.clips)]
        found: dict[str, list[Listened]] = {OURS: [], THEIRS: []}
        for _ in range(options.repeats):
            for clip, reference in clips:
                options.say(f"{model}: {clip.name} in turn")
                with BenchServer(model, models_dir=options.models_dir) as server:
                    url = server.url.removesuffix("/v1/stream")
                    found[OURS].append(_listen(url, clip, reference, server.cpu_seconds))
                with theirs(command, model, options) as (url, cpu_seconds):
                    found[THEIRS].append(_listen(url, clip, reference, cpu_seconds))
        tables.append(_table(model, found))
        behind[model] = {name: [asdict(one) for one in each] for name, each in found.items()}
    return tables, behind


@contextmanager
def theirs(command: Path, model: str, options: Options) -> Iterator[tuple[str, Callable[[], float]]]:
    """Start their server with these weights; yield its address and how to ask for its CPU seconds."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="live-asr-bench-", ignore_cleanup_errors=True) as folder:
        output = Path(folder) / "output.txt"
        arguments = ["--host", "127.0.0.1", "--port", str(port), "--model", model, "--pcm-input"]
        arguments += ["--model-path", str(options.weights(model)), "--backend", "faster-whisper"]
        arguments += ["--backend-policy", "localagreement", "--lan", options.language or "en"]
        with output.open("wb") as out:
            process = psutil.Popen(
                [str(command), "serve", *arguments, "--warmup-file", ""],
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=dict(os.environ) | {"HF_HUB_OFFLINE": "1"},
            )
        try:
            began = time.perf_counter()
            while not _answers(f"http://127.0.0.1:{port}/health"):
                if process.poll() is not None or time.perf_counter() - began > READY_TIMEOUT:
                    raise RuntimeError(f"Their server did not start:\n{output.read_text(errors='replace')}")
                time.sleep(0.2)
            yield f"ws://127.0.0.1:{port}", partial(_cpu_seconds, process)
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_TIMEOUT)
            except psutil.TimeoutExpired:
                process.kill()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(json.load(answer).get("ready"))
    except OSError:
        return False


def _listen(url: str, clip: Clip, reference: Reference, cpu_seconds: Callable[[], float]) -> Listened:
    before = cpu_seconds()
    log, committed, wire, is_complete = asyncio.run(stream(url, clip))
    used = cpu_seconds() - before
    commit, first = latencies(log, reference.words)
    commits = log.of_type("commit")
    return Listened(
        clip=clip.name,
        is_complete=is_complete,
        first_commit=commits[0].time - log.started if commits else float("nan"),
        commit_latencies=commit,
        first_latencies=first,
        wer=100 * errors(committed.text, clip.truth).rate if clip.truth is not None else float("nan"),
        wire_bytes=wire,
        rewritten=committed.rewritten,
        cpu=used / clip.duration,
        text=committed.text,
    )


def _cpu_seconds(process: psutil.Process) -> float:
    total = 0.0
    for each in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            times = each.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


async def stream(url: str, clip: Clip) -> tuple[SessionLog, Committed, int, bool]:
    """Play a clip in real time; return what came, the committed text, its bytes, and whether it ended."""
    log, committed = SessionLog(clip), Committed()
    async with connect(f"{url}/asr?language=en", max_size=None, proxy=None) as socket:
        hearing = asyncio.create_task(_hear(socket, log, committed))
        log.started = time.perf_counter()
        for first in range(0, len(clip.audio), CHUNK_SAMPLES):
            chunk = clip.audio[first : first + CHUNK_SAMPLES]
            due = log.started + (first + len(chunk)) / RATE_HZ
            await asyncio.sleep(max(due - time.perf_counter(), 0.0))
            log.sent_ends.append(first + len(chunk))
            log.sent_times.append(time.perf_counter())
            await socket.send(chunk.astype("<i2").tobytes())
        log.stop_time = time.perf_counter()
        await socket.send(b"")
        try:
            wire, is_complete = await asyncio.wait_for(hearing, END_TIMEOUT)
        except TimeoutError:
            wire, is_complete = 0, False
    return log, committed, wire, is_complete


async def _hear(socket: ClientConnection, log: SessionLog, committed: Committed) -> tuple[int, bool]:
    wire = 0
    async for frame in socket:
        now, wire = time.perf_counter(), wire + len(frame if isinstance(frame, bytes) else frame.encode())
        told = json.loads(frame)
        if told.get("type") == "ready_to_stop":
            return wire, True
        if "lines" not in told:
            continue
        new = committed.take(" ".join(line.get("text") or "" for line in told["lines"]))
        if new:
            words = [{"text": f" {word}"} for word in new.split()]
            log.arrivals.append(Arrival(now, len(frame), {"type": "commit", "text": new, "words": words}))
        tail = " ".join(told.get(name) or "" for name in ("buffer_diarization", "buffer_transcription"))
        log.arrivals.append(Arrival(now, len(frame), {"type": "partial", "text": tail}))
    return wire, False


def _table(model: str, found: dict[str, list[Listened]]) -> Table:
    def row(metric: str, unit: str, digits: int, value: Any) -> Row:
        each = {name: f"{value(listened):.{digits}f}{unit}" for name, listened in found.items()}
        return fact(metric, "", each=each)

    def pooled(listened: list[Listened], of: str, share: float) -> float:
        return percentile([late for one in listened for late in getattr(one, of)], share)

    def mean_wer(listened: list[Listened]) -> float:
        return statistics.mean(one.wer for one in listened if one.wer == one.wer)

    rows = [
        row("sessions without their end", "", 0, lambda all_: sum(not one.is_complete for one in all_)),
        row(
            "first committed line, median",
            " s",
            2,
            lambda all_: statistics.median(o.first_commit for o in all_),
        ),
        row("commit latency, p50", " s", 2, lambda all_: pooled(all_, "commit_latencies", 50)),
        row("commit latency, p95", " s", 2, lambda all_: pooled(all_, "commit_latencies", 95)),
        row("first appearance, p50", " s", 2, lambda all_: pooled(all_, "first_latencies", 50)),
        row("first appearance, p95", " s", 2, lambda all_: pooled(all_, "first_latencies", 95)),
        row("WER, mean of the clips with a transcript", " %", 1, mean_wer),
        row("updates that changed committed text", "", 0, lambda all_: sum(one.rewritten for one in all_)),
        row(
            "bytes to the client, all clips", " kB", 0, lambda all_: sum(one.wire_bytes for one in all_) / 1e3
        ),
        row("CPU per second of audio, mean", " s", 2, lambda all_: statistics.mean(one.cpu for one in all_)),
    ]
    notes = ["One client, `/asr` in `full` mode, PCM in real time; the servers in turn, the same weights."]
    return Table(f"{model}: WhisperLiveKit's client with both servers", rows, notes)
