"""What goes between the server and the processes that compute: one length-prefixed pickle a message.

Both ends are this program, joined by a private socket pair, so pickle is safe here and hands arrays over
without a detour.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import socket
import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from live_asr.core.messages import RecognizerInfo
from live_asr.core.types import DecodeRequest, Hypothesis, as_built
from live_asr.inference.costs import Simulated
from live_asr.models.interfaces import FloatArray, SpeechState

HEADER = struct.Struct("!I")
END_PATIENCE = 2.0
"""Seconds that a process has to end by itself once its socket is closed."""

HEARTBEAT_INTERVAL = 1.0
"""Seconds between two signs of life of the inference process."""
NOBODY = -1
"""The number of a message that answers nothing."""

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""Environment of a process that computes. Work is divided among cores by window, not within one: numpy's
second thread would wait in a loop for the next product, and cost half as much again as the decodes, and
torch's is many times slower beside a busy CTranslate2 than none."""


@dataclass(frozen=True, slots=True)
class Load:
    """First message to the process: what to load."""

    recognizer_name: str
    recognizer_folder: Path | None
    """None where recognition is done elsewhere."""
    detector_name: str
    detector_file: Path | None
    """None where speech is judged elsewhere."""
    device: str
    compute_type: str
    workers: int
    beam_size: int
    gpu: int | None = None
    """Which GPU, of those that this program may use; None for the first."""
    segmentation_file: Path | None = None
    """ONNX; None where live sessions tell no speakers apart."""
    encoder_file: Path | None = None
    """ONNX; with `segmentation_file` or not at all."""
    simulated: Simulated | None = None
    """A device to be simulated, instead of models to be loaded."""
    kernels_file: Path | None = None
    """Where it is kept which kernels are the fastest on this CPU; None to leave that to the library."""
    measured_file: Path | None = None
    """Where it is kept what a typical decode takes on this machine; None where nobody wants to know."""


@dataclass(frozen=True, slots=True)
class Pool:
    """First message to a process that has others recognise: where they are, and what they are to be."""

    address: str
    """Of the Ray cluster, as `ray.init` takes it."""
    namespace: str
    settings: tuple[tuple[str, Any], ...]
    """(`section.key`, value): what workers take from the server; all else is set where they are."""
    device: str
    """`auto`, `cpu` or `cuda`."""
    least: int
    """Workers that there are at least."""
    most: int
    cpus: float
    """Of Ray's, that a worker takes; as `gpus`, where it is on one."""
    gpus: float
    idle_seconds: float
    """After which a worker ends that is not needed."""
    decode_timeout: float
    """Seconds after which a worker counts as hung."""
    simulated: Simulated | None = None
    """A device that workers simulate."""


@dataclass(frozen=True, slots=True)
class PoolWorker:
    """A worker, as a server knows it."""

    name: str
    host: str
    process_id: int
    """There."""
    is_up: bool
    """Whether it can be asked."""
    windows: int
    """That it has decoded for this server."""


@dataclass(frozen=True, slots=True)
class PoolState:
    """What a pool is at the moment, as one of its servers sees it."""

    workers: tuple[PoolWorker, ...]
    """By name; those that are gone included which have decoded something."""
    wanted_workers: int
    servers: int
    """That ask it."""
    deaths: int
    """Of workers, since the process began that looks after them."""

    @property
    def up(self) -> tuple[PoolWorker, ...]:
        """Those that can be asked."""
        return tuple(worker for worker in self.workers if worker.is_up)


@dataclass(frozen=True, slots=True)
class Wanted:
    """To a process that has others recognise: what this server's sessions are predicted to take."""

    lanes: float


@dataclass(frozen=True, slots=True)
class Loaded:
    """First message from it: models are loaded and warm. Comes again where any of this changes."""

    recognizer: RecognizerInfo
    detector_name: str
    equal_error_distance: float | None = None
    """`SpeakerEncoder.equal_error_distance`; None where speakers are not told apart."""
    speaker_encoder_name: str | None = None
    """Its folder's; None where speakers are not told apart."""
    lanes: int = 2
    """Pieces of work that are done at once."""
    step_seconds: float | None = None
    """What a typical decode was measured to take; None where none was."""
    most_batch: int = 1
    """Windows that a lane decodes at once."""
    others: float = 0.0
    """Of the lanes, what the sessions of other servers are predicted to take."""
    pool: PoolState | None = None
    """None where it is this machine that recognises."""


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """First message from it, instead: why not."""

    reason: str
    hint: str = ""
    """What to do; where there is one, `reason` is a sentence."""


@dataclass(frozen=True, slots=True)
class Detect:
    """Judge these samples; answered by `Detected`."""

    samples: FloatArray
    state: SpeechState

    __reduce__ = as_built


@dataclass(frozen=True, slots=True)
class Detected:
    """The probability of speech of each chunk, shape (n,), and the state for the next call."""

    probabilities: FloatArray
    state: SpeechState

    __reduce__ = as_built


@dataclass(frozen=True, slots=True)
class DetectMany:
    """Judge these, of many sessions; answered by one `DetectedMany`."""

    works: tuple[tuple[int, Detect], ...]


@dataclass(frozen=True, slots=True)
class DetectedMany:
    """The answers to a `DetectMany`, by their numbers: `Detected`, or `Failed` for what raised."""

    answers: tuple[tuple[int, Detected | Failed], ...]


@dataclass(frozen=True, slots=True)
class Recognize:
    """Decode this window; answered by `Recognized`."""

    request: DecodeRequest
    samples: FloatArray
    budget: float
    """Seconds from its arrival by which the answer is wanted."""

    __reduce__ = as_built


@dataclass(frozen=True, slots=True)
class Batch:
    """Decode these windows at once; each is answered by its own number."""

    works: tuple[tuple[int, Recognize], ...]

    @property
    def budget(self) -> float:
        """The smallest of theirs."""
        return min(work.budget for _, work in self.works)


@dataclass(frozen=True, slots=True)
class Recognized:
    """The words of a window, and what they cost."""

    hypothesis: Hypothesis
    waited: float
    """Seconds between arrival and begin; to whoever asked, since then."""
    took: float
    """Seconds of work."""

    __reduce__ = as_built


@dataclass(frozen=True, slots=True)
class Segment:
    """Tell who of this window speaks when; answered by its activity, see `SpeakerSegmentation.segment`."""

    samples: NDArray[np.int16]
    """Full scale is 32767."""
    budget: float
    """Seconds from its arrival by which the answer is wanted."""

    __reduce__ = as_built


@dataclass(frozen=True, slots=True)
class Embed:
    """Embed this voice; answered by its embedding, see `SpeakerEncoder.embed`."""

    samples: FloatArray
    budget: float
    """Seconds from its arrival by which the answer is wanted."""

    __reduce__ = as_built


@dataclass(frozen=True, slots=True)
class Begun:
    """A piece of work is under way now; its answer follows."""


@dataclass(frozen=True, slots=True)
class Alive:
    """From the process, as often as `HEARTBEAT_INTERVAL` says: it computes, or waits for work."""

    encoder_seconds: float = 0.0
    """What it spent on encoding since it last said so."""
    tokens: int = 0
    """What it decoded since then."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A piece of work raised: it would raise again."""

    reason: str


@dataclass(frozen=True, slots=True)
class Faulted:
    """The device failed under a piece of work: the process ends, and the work may be asked of another one."""

    reason: str


def pack(message: Any) -> bytes:
    """Return the bytes that carry `message`."""
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return HEADER.pack(len(body)) + body


def unpack(body: bytes | bytearray) -> Any:
    """Return the message that `body`, a packed message without its header, carries."""
    return pickle.loads(body)


async def receive(reader: asyncio.StreamReader) -> Any:
    """Return the next message of a process; None when it is gone."""
    try:
        header = await reader.readexactly(HEADER.size)
        return unpack(await reader.readexactly(HEADER.unpack(header)[0]))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


async def spawn(
    module: str, *, stdout: int | None = None, environment: Mapping[str, str] | None = None
) -> tuple[asyncio.subprocess.Process, asyncio.StreamReader, asyncio.StreamWriter]:
    """Run a module in a process of its own, which is told the number of its end of a socket.

    It computes with one thread unless it says otherwise itself, and sees `environment` beside the server's.
    Raises OSError where the system allows no further process.
    """
    ours, theirs = socket.socketpair()
    process: asyncio.subprocess.Process | None = None
    try:
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", module, str(theirs.fileno())),
                pass_fds=[theirs.fileno()],
                stdout=stdout,
                env={**os.environ, **ONE_THREAD, **(environment or {})},
            )
        return process, *await asyncio.open_connection(sock=ours)
    except BaseException:
        ours.close()
        if process is not None:  # whoever asked for it was cancelled meanwhile
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        raise


async def end(process: asyncio.subprocess.Process, patience: float = END_PATIENCE) -> None:
    """Wait some seconds for a process whose socket was closed, which ends it, and kill it where it stays."""
    try:
        async with asyncio.timeout(patience):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
