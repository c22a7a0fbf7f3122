"""A worker of the pool: the inference process's lanes as an actor of Ray.

It keeps nothing of a session between two calls, so it may die at any moment. Ray starts it again; whoever
asked asks another one meanwhile. One that no server looks at any more ends.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import pickle
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any

from live_asr.config.settings import LOCAL_ENGINE, Settings, load_settings
from live_asr.core.errors import LiveAsrError
from live_asr.inference.ipc import Batch, Begun, Faulted, Load, Loaded, Pool, Recognize
from live_asr.inference.memory import return_freed_memory
from live_asr.inference.simulated import simulated_load
from live_asr.inference.worker import FAULTED, Lanes, load_models, reason_of

LINGER = 120.0
"""Seconds without a look of any server after which a worker ends."""
FORGET_AFTER = 5.0
"""Seconds without a look after which a server's sessions count no more."""
LEAVE_AFTER = 3.0
"""Seconds between when a worker is told to go and when it does: all servers have seen it by then."""
AGING_INTERVAL = 0.5
GPU_LANES = 2
MEASURED_FILE = "measured.json"
"""Beside the weights: what a decode takes on this machine."""


class NotLoaded(Exception):
    """The models are not loaded yet."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a worker is at the moment."""

    host: str
    process_id: int
    """There; another one once it was started again."""
    loaded: Loaded | None
    """None until its models are."""
    problem: str
    """Why they cannot be loaded; "" where they can."""
    is_leaving: bool
    servers: int
    """That look at it."""
    wanted_lanes: float
    """What the sessions of all these are predicted to take."""


def settings_of(pool: Pool) -> Settings:
    """Return the settings of this machine, with what the server decides. Raises ConfigError."""
    return load_settings(flags=dict(pool.settings) | {"inference.engine": LOCAL_ENGINE}).settings


def load_of(pool: Pool) -> Load:
    """Bring what a worker of this pool recognises with, and return it.

    Raises what settings and weights raise.
    """
    if pool.simulated is not None:
        return simulated_load(pool.simulated, lanes=max(1, int(pool.cpus)))
    from live_asr.models.device import pick_compute_type, pick_device
    from live_asr.weights.resolver import ModelResolver

    settings = settings_of(pool)
    device = pick_device(settings.inference.device)
    recognizer = ModelResolver(settings).bring_recognizer(settings.models.recognizer, device)
    lanes = GPU_LANES if device == "cuda" else max(1, int(pool.cpus))
    return Load(
        recognizer_name=recognizer.name,
        recognizer_folder=recognizer.folder,
        detector_name="",
        detector_file=None,
        device=device,
        compute_type=pick_compute_type(settings.inference.compute_type, device),
        workers=settings.inference.workers or lanes,
        beam_size=settings.inference.beam_size,
        measured_file=settings.models.dir / MEASURED_FILE,
    )


class RecognizerActor:
    """Recognise what servers ask for, the most urgent first."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._loaded: Loaded | None = None
        self._problem = ""
        self._lanes: Lanes | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._numbers = itertools.count()
        self._answers: dict[int, asyncio.Future[tuple[Any, float]]] = {}
        self._servers: dict[str, tuple[float, float]] = {}
        """By its id: when a server last looked, and what its sessions are predicted to take."""
        self._looked_at = time.monotonic()
        self._leaves_at: float | None = None
        self._aging: asyncio.Task[None] | None = None
        # The first look is answered while models are loaded.
        threading.Thread(target=self._load, name="loading", daemon=True).start()

    async def look(self, server: str, wanted_lanes: float) -> Look:
        """Take note of what a server wants, and say what this worker is."""
        self._loop = asyncio.get_running_loop()
        if self._aging is None:
            self._aging = asyncio.create_task(self._age(), name="aging")
        now = self._looked_at = time.monotonic()
        self._servers[server] = now, wanted_lanes
        self._servers = {
            name: (at, lanes) for name, (at, lanes) in self._servers.items() if now - at < FORGET_AFTER
        }
        wanted = sum(lanes for _, lanes in self._servers.values())
        leaves = self._leaves_at is not None
        count = len(self._servers)
        place = socket.gethostname(), os.getpid()
        return Look(*place, self._loaded, self._problem, leaves, count, wanted)

    async def recognize(self, packed: bytes) -> bytes:
        """Decode windows at once: a pickled list of `Recognize`. Return one of (answer, seconds of work).

        Raises NotLoaded.
        """
        if self._lanes is None:
            raise NotLoaded
        self._loop = asyncio.get_running_loop()
        works: list[Recognize] = pickle.loads(packed)
        asked = [(next(self._numbers), work) for work in works]
        answers = [self._answers.setdefault(number, self._loop.create_future()) for number, _ in asked]
        try:
            if len(asked) > 1:
                self._lanes.take(-1, Batch(tuple(asked)))
            else:
                self._lanes.take(*asked[0])
            return pickle.dumps(await asyncio.gather(*answers), pickle.HIGHEST_PROTOCOL)
        finally:
            for number, _ in asked:
                self._answers.pop(number, None)

    async def leave(self) -> None:
        """End in a moment, with what is under way: this worker is not needed any more. Idempotent."""
        if self._leaves_at is None:
            self._leaves_at = time.monotonic() + LEAVE_AFTER

    async def end(self) -> None:
        """End now, and do not come back."""
        import ray

        ray.actor.exit_actor()

    async def _age(self) -> None:
        """End where nobody needs this worker any more."""
        import ray

        while True:
            await asyncio.sleep(AGING_INTERVAL)
            now = time.monotonic()
            leaves = self._leaves_at is not None and now > self._leaves_at and not self._answers
            if leaves or now - self._looked_at > LINGER:
                ray.get_runtime_context().current_actor.end.remote()
                return

    def _load(self) -> None:
        """Load the models, in a thread of its own."""
        return_freed_memory()
        try:
            models, loaded = load_models(load_of(self._pool))
        except LiveAsrError as error:
            self._problem = str(error)
        except Exception as error:  # whatever a model's library raises is the reason
            self._problem = reason_of(error)
        else:
            self._lanes = Lanes(models, loaded.lanes, self._send)
            self._loaded = loaded

    def _send(self, number: int, answer: Any, seconds: float) -> None:
        """Take an answer from a lane."""
        if isinstance(answer, Faulted):
            # After a fault a device answers nothing, or wrongly: Ray starts another process.
            os._exit(FAULTED)
        if isinstance(answer, Begun):
            return
        assert self._loop is not None, "something was asked"
        self._loop.call_soon_threadsafe(self._answer, number, answer, seconds)

    def _answer(self, number: int, answer: Any, seconds: float) -> None:
        waiting = self._answers.get(number)
        if waiting is not None and not waiting.done():
            waiting.set_result((answer, seconds))
