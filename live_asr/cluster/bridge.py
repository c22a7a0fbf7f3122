"""The process between a server and the pool: joined to the server by a socket, to workers by Ray.

To the server it looks like an inference process with as many lanes as the pool has. Ray's own threads, and
its habit of ending a process whose cluster is gone, stay out of the server: where this process ends, another
one is started. What a worker that dies had not answered is asked of another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pickle
import random
import signal
import socket
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

from live_asr.cluster.actor import Look, NotLoaded, RecognizerActor
from live_asr.cluster.joining import Unreachable, join
from live_asr.cluster.names import Names
from live_asr.cluster.sizing import Sizing
from live_asr.inference.deadline_queue import DeadlineQueue
from live_asr.inference.ipc import (
    HEARTBEAT_INTERVAL,
    NOBODY,
    ONE_THREAD,
    Alive,
    Batch,
    Failed,
    Loaded,
    LoadFailed,
    Pool,
    PoolState,
    PoolWorker,
    Recognize,
    Recognized,
    Wanted,
    pack,
    receive,
)
from live_asr.inference.local_engine import CREDITS, ENVIRONMENT

log = logging.getLogger(__name__)

SILENT_AFTER = 3.0
"""Seconds without an answer to a look after which nothing more is asked of a worker, and what it has is asked
of others, too: whoever answers first is right, as both say the same."""
LOST_AFTER = 30.0
"""Seconds without a sign of the cluster after which this process ends, so that another one joins it anew."""
ANOTHER_CLUSTER = "WrongClusterID"
"""What Ray calls it where the cluster at the address is not the one that was joined: its head was started
again, and knew nothing of the one before."""
AGAIN_AFTER = 0.5
"""Seconds after which a worker is asked again that could not be reached."""
MAX_DEATHS = 3
"""Work that was under way at so many workers that died is given up. It may be that a machine went, or two."""
FAILED_FOR = 30.0
"""Seconds after which a worker that could not load its models tries again."""
TELL_INTERVAL = 30.0
"""Seconds between two lines of the log that no worker is ready."""


@dataclass(slots=True, eq=False)
class _Asked:
    """Windows that were asked for at once."""

    works: dict[int, Recognize]
    came_at: float
    deaths: int = 0
    """How many workers died while they were under way."""
    is_doubled: bool = False
    """Whether another worker was asked, too, as the first one is silent."""

    @property
    def deadline(self) -> float:
        """When the most urgent is wanted."""
        return self.came_at + min(work.budget for work in self.works.values())


@dataclass(slots=True, eq=False)
class _Worker:
    """What is known of a worker."""

    slot: int
    handle: Any
    order: float = field(default_factory=random.random)
    """Of two that have as little to do the lower one is asked: each server has an order of its own."""
    look: Look | None = None
    heard_at: float = field(default_factory=time.monotonic)
    reached_at: float = 0.0
    """When it may be asked again."""
    failed_at: float | None = None
    """Since when it has not been able to load its models."""
    looking: asyncio.Task[None] | None = None
    under_way: dict[_Asked, float] = field(default_factory=dict)
    """And since when."""

    @property
    def loaded(self) -> Loaded | None:
        """What it has loaded, as far as is known."""
        return self.look.loaded if self.look is not None else None

    def is_silent(self, now: float) -> bool:
        """Tell whether it has not answered for too long."""
        return now - self.heard_at > SILENT_AFTER

    def is_usable(self, now: float) -> bool:
        """Tell whether something may be asked of it."""
        is_there = self.look is not None and self.look.loaded is not None and not self.look.is_leaving
        return is_there and not self.is_silent(now) and now >= self.reached_at

    @property
    def credits(self) -> float:
        """How much may be asked of it at once."""
        assert self.loaded is not None, "it is usable"
        return CREDITS.get(self.loaded.recognizer.device, 1) * self.loaded.lanes

    @property
    def is_free(self) -> bool:
        """Whether more may be asked of it; what may be deadly has a worker to itself."""
        alone = any(asked.deaths for asked in self.under_way)
        return len(self.under_way) < self.credits and not alone

    @property
    def share(self) -> float:
        """How full it is."""
        return len(self.under_way) / self.credits


class Bridge:
    """Carry questions from one server to the workers of a pool, and answers back."""

    def __init__(self, pool: Pool, writer: asyncio.StreamWriter) -> None:
        self._pool = pool
        self._names = Names(pool)
        self._writer = writer
        self._id = uuid4().hex
        self._sizing = Sizing(pool.least, pool.most, pool.idle_seconds)
        self._wanted_lanes = 0.0
        self._workers: dict[int, _Worker] = {}
        self._known: dict[int, PoolWorker] = {}
        """Workers by their slots, those that are gone included."""
        self._deaths = 0
        self._queue: DeadlineQueue[_Asked] = DeadlineQueue()
        self._open: set[int] = set()
        """The numbers of windows that are not answered."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._told: Loaded | None = None
        self._finding: asyncio.Task[None] | None = None
        self._seen_at = time.monotonic()
        """When the cluster last gave a sign of life."""
        self._is_replaced = False
        """Whether there is another cluster at its address."""
        self._complained_at = time.monotonic()

    async def run(self, reader: asyncio.StreamReader) -> None:
        """Work until the socket closes."""
        reading = asyncio.create_task(self._read(reader), name="reading")
        tending = asyncio.create_task(self._tend(), name="tending")
        done, _ = await asyncio.wait({reading, tending}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    # The server ------------------------------------------------------------------------------------

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while (message := await receive(reader)) is not None:
            number, work = message
            if isinstance(work, Wanted):
                self._wanted_lanes = work.lanes
                continue
            works = dict(work.works) if isinstance(work, Batch) else {number: work}
            self._open |= set(works)
            self._put(_Asked(works, time.monotonic()))

    def _send(self, number: int, answer: Any, seconds: float = 0.0) -> None:
        self._writer.write(pack((number, answer, seconds)))

    def _tell(self) -> None:
        """Tell the server what the pool is, where that has changed; at first, once somebody is there."""
        now = time.monotonic()
        usable = [worker for worker in self._workers.values() if worker.is_usable(now)]
        loads = [worker.loaded for worker in usable if worker.loaded is not None]
        if not loads and self._told is None:
            return
        looks = [worker.look for worker in usable if worker.look is not None]
        everybodys = max((look.wanted_lanes for look in looks), default=0.0)
        for slot, known in self._known.items():
            worker = self._workers.get(slot)
            self._known[slot] = replace(known, is_up=worker is not None and worker.is_usable(now))
        state = PoolState(
            workers=tuple(worker for _, worker in sorted(self._known.items())),
            wanted_workers=self._sizing.workers,
            servers=max((look.servers for look in looks), default=1),
            deaths=self._deaths,
        )
        first = loads[0] if loads else self._told
        assert first is not None, "one of both is there"
        steps = [load.step_seconds for load in loads if load.step_seconds is not None]
        told = replace(
            first,
            lanes=sum(load.lanes for load in loads),
            step_seconds=round(sum(steps) / len(steps), 5) if steps else first.step_seconds,
            most_batch=min((load.most_batch for load in loads), default=first.most_batch),
            others=round(max(0.0, everybodys - self._wanted_lanes), 2),
            pool=state,
        )
        if told == self._told:
            return
        self._writer.write(pack(told) if self._told is None else pack((NOBODY, told, 0.0)))
        self._told = told

    # What is asked ---------------------------------------------------------------------------------

    def _put(self, asked: _Asked) -> None:
        self._queue.push(asked, asked.deadline)
        self._hand_out()

    def _hand_out(self) -> None:
        """Ask free workers for what waits: those that have least to do."""
        held: list[_Asked] = []
        while self._queue:
            asked = self._queue.pop()
            if not self._open & set(asked.works):
                continue
            worker = self._free_for(asked, reserved=bool(held))
            if worker is None:
                held.append(asked)
                if not asked.deaths:
                    break
                continue
            worker.under_way[asked] = time.monotonic()
            task = asyncio.create_task(self._ask(worker, asked), name="asking")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        for asked in held:
            self._queue.push(asked, asked.deadline)

    def _free_for(self, asked: _Asked, *, reserved: bool) -> _Worker | None:
        """Return the worker to ask; None where none is free.

        What may be deadly goes to one that has nothing else to do: where such a thing waits (`reserved`), the
        one that has least to do is left alone for it.
        """
        now = time.monotonic()
        usable = [worker for worker in self._workers.values() if worker.is_usable(now)]
        usable.sort(key=lambda worker: (worker.share, worker.order))
        if reserved:
            usable = usable[1:]
        if asked.deaths:
            return next((worker for worker in usable if not worker.under_way), None)
        return next((worker for worker in usable if worker.is_free), None)

    async def _ask(self, worker: _Worker, asked: _Asked) -> None:
        from ray.exceptions import RayActorError, RayTaskError

        works = {number: work for number, work in asked.works.items() if number in self._open}
        packed = pickle.dumps(list(works.values()), pickle.HIGHEST_PROTOCOL)
        try:
            answers = pickle.loads(await worker.handle.recognize.remote(packed))
        except RayTaskError as error:
            if isinstance(error.cause, NotLoaded):  # it was started again
                worker.look = None
                self._ask_again(asked)
            else:
                self._fail(works, str(error.cause))
        except RayActorError as error:
            log.warning("worker %d does not answer any more: %s", worker.slot, _first_line(error))
            self._note_unreachable(worker)
            self._ask_again(asked, died=True)
        except Exception as error:  # Ray's own trouble, as with memory, is no reason to lose a window
            log.warning("worker %d could not be asked: %s", worker.slot, _first_line(error))
            worker.reached_at = time.monotonic() + AGAIN_AFTER
            self._ask_again(asked)
        else:
            self._take(worker, asked, dict(zip(works, answers, strict=True)))
        finally:
            worker.under_way.pop(asked, None)
            self._hand_out()

    def _take(self, worker: _Worker, asked: _Asked, answers: Mapping[int, tuple[Any, float]]) -> None:
        known = self._known[worker.slot]
        self._known[worker.slot] = replace(known, windows=known.windows + len(answers))
        took = time.monotonic() - asked.came_at
        for number, (answer, seconds) in answers.items():
            if number not in self._open:
                continue  # another worker was first
            self._open.discard(number)
            if isinstance(answer, Recognized):  # the way there and back is waiting, too
                answer = replace(answer, waited=max(0.0, took - answer.took))
            self._send(number, answer, seconds)

    def _ask_again(self, asked: _Asked, *, died: bool = False) -> None:
        """Have others asked for what a worker does not answer; one by one where it may be what killed it."""
        for number, work in asked.works.items():
            if number not in self._open:
                continue
            deaths = asked.deaths + died
            if deaths >= MAX_DEATHS:
                self._fail([number], "This work ended one worker after another.")
            else:
                alone = _Asked({number: work}, asked.came_at, deaths)
                self._queue.push(alone, alone.deadline)

    def _fail(self, numbers: Iterable[int], reason: str) -> None:
        """Give windows up."""
        for number in self._open & set(numbers):
            self._open.discard(number)
            self._send(number, Failed(reason))

    def _note_unreachable(self, worker: _Worker) -> None:
        """Take note that a worker is gone, or cannot be reached."""
        if worker.look is not None:
            self._deaths += worker.look.loaded is not None and not worker.look.is_leaving
        worker.look = None
        worker.reached_at = time.monotonic() + AGAIN_AFTER
        self._tell()

    # The pool --------------------------------------------------------------------------------------

    async def _tend(self) -> None:
        """Look after the workers, until the cluster is lost."""
        while True:
            began = time.monotonic()
            if self._finding is None:
                self._finding = asyncio.create_task(self._find_workers(), name="finding")
            for worker in list(self._workers.values()):
                if worker.looking is None:
                    worker.looking = asyncio.create_task(self._look(worker), name="look")
            self._watch()
            self._resize()
            self._tell()
            self._complain()
            self._hand_out()
            if self._told is not None:
                self._send(NOBODY, Alive())
            if time.monotonic() - self._seen_at > LOST_AFTER:
                log.error("the Ray cluster has not answered for %.0f s; joining it anew", LOST_AFTER)
                return
            if self._is_replaced:
                log.error("there is another Ray cluster at the same address; joining it")
                return
            await asyncio.sleep(max(0.05, HEARTBEAT_INTERVAL - (time.monotonic() - began)))

    async def _find_workers(self) -> None:
        """Start the workers that there are to be, and find those that others have started."""
        wanted = set(range(self._sizing.workers))
        try:
            found = await asyncio.to_thread(self._found, wanted - set(self._workers))
        except Exception as error:  # the cluster's head is away: workers may go on without it
            log.warning("the Ray cluster cannot be asked for workers: %s", _first_line(error))
            self._is_replaced = ANOTHER_CLUSTER in str(error)
        else:
            self._seen_at = time.monotonic()
            for slot, handle in found.items():
                self._workers.setdefault(slot, _Worker(slot, handle))
        finally:
            self._finding = None

    def _found(self, missing: Iterable[int]) -> dict[int, Any]:
        """Return handles of workers that are not known yet. Blocks."""
        import ray
        from ray.util import list_named_actors

        slots = {self._names.slot_of(name) for name in list_named_actors()} - {None}
        handles = {}
        for slot in {*missing, *slots} - set(self._workers):
            assert slot is not None
            if slot in slots:
                with contextlib.suppress(ValueError):  # it has gone this moment
                    handles[slot] = ray.get_actor(self._names.of(slot), namespace=self._pool.namespace)
                continue
            on_gpu = self._pool.device == "cuda"
            # max_task_retries is 0: another worker is asked rather than waited for this one.
            handles[slot] = (
                ray.remote(RecognizerActor)
                .options(
                    name=self._names.of(slot),
                    namespace=self._pool.namespace,
                    lifetime="detached",
                    get_if_exists=True,
                    max_restarts=-1,
                    max_task_retries=0,
                    max_concurrency=1000,
                    num_cpus=self._pool.cpus,
                    num_gpus=self._pool.gpus if on_gpu else 0,
                    runtime_env={"env_vars": {**ONE_THREAD, **ENVIRONMENT}},
                )
                .remote(self._pool)
            )
        return handles

    async def _look(self, worker: _Worker) -> None:
        from ray.exceptions import ActorDiedError

        try:
            look: Look = await worker.handle.look.remote(self._id, self._wanted_lanes)
        except ActorDiedError:  # it has left, or was ended for good: its name is free again
            self._note_unreachable(worker)
            self._workers.pop(worker.slot, None)
        except Exception as error:  # it starts again, or cannot be reached; Ray says so in many ways
            log.debug("worker %d: %s", worker.slot, _first_line(error))
            if worker.look is not None:
                self._note_unreachable(worker)
        else:
            now = worker.heard_at = self._seen_at = time.monotonic()
            before, worker.look = worker.look, look
            if before is not None and before.process_id != look.process_id:
                self._deaths += 1
            windows = self._known[worker.slot].windows if worker.slot in self._known else 0
            self._known[worker.slot] = PoolWorker(
                self._names.of(worker.slot), look.host, look.process_id, False, windows
            )
            if look.is_leaving:
                self._sizing.adopt(min(self._sizing.workers, worker.slot))
            elif worker.slot >= self._sizing.workers:
                self._sizing.adopt(worker.slot + 1)
            worker.reached_at = min(worker.reached_at, now)
            if look.problem:
                self._note_failed(worker, look.problem)
            elif before is None or before.loaded is None:
                self._tell()
                self._hand_out()
        finally:
            worker.looking = None

    def _note_failed(self, worker: _Worker, problem: str) -> None:
        """Take note that a worker cannot load its models; it tries again after a while."""
        now = time.monotonic()
        if worker.failed_at is None:
            worker.failed_at = now
            log.error("worker %d cannot load its models: %s", worker.slot, problem)
        is_first = self._told is None and not any(other.loaded for other in self._workers.values())
        if is_first:
            self._writer.write(pack(LoadFailed(f"A worker cannot load its models: {problem}", LOAD_HINT)))
        if is_first or now - worker.failed_at > FAILED_FOR:
            self._workers.pop(worker.slot, None)
            worker.handle.end.remote()

    def _watch(self) -> None:
        """Ask others for what a silent worker has, and have one that hangs replaced."""
        now = time.monotonic()
        others = any(worker.is_usable(now) for worker in self._workers.values())
        for worker in self._workers.values():
            oldest = min(worker.under_way.values(), default=now)
            if now - oldest > self._pool.decode_timeout and worker.loaded is not None:
                log.error("worker %d has not answered for %.0f s; replacing it", worker.slot, now - oldest)
                self._spawn(self._kill(worker))
                worker.look = None
            if not (others and worker.is_silent(now)):
                continue
            for asked in worker.under_way:
                if not asked.is_doubled:
                    asked.is_doubled = True
                    self._queue.push(replace(asked), asked.deadline)

    async def _kill(self, worker: _Worker) -> None:
        """End a worker's process for good; its name is free then, and another one is started."""
        import ray

        self._workers.pop(worker.slot, None)
        self._deaths += 1
        for asked in list(worker.under_way):
            self._ask_again(asked, died=True)
            asked.works = {}
        with contextlib.suppress(Exception):  # it may have gone meanwhile
            await asyncio.to_thread(ray.kill, worker.handle, no_restart=True)

    def _resize(self) -> None:
        """Follow what is wanted; what is too much is told to leave, the last first."""
        now = time.monotonic()
        looks = [worker.look for worker in self._workers.values() if worker.look is not None]
        lanes = [look.loaded.lanes for look in looks if look.loaded is not None]
        if not lanes:
            return
        wanted_lanes = max(self._wanted_lanes, *(look.wanted_lanes for look in looks))
        wanted = self._sizing.follow(wanted_lanes, sum(lanes) / len(lanes), now)
        for slot, worker in self._workers.items():
            if slot >= wanted and worker.look is not None and not worker.look.is_leaving:
                log.info("worker %d is not needed any more", slot)
                worker.handle.leave.remote()

    def _complain(self) -> None:
        """Say from time to time that nobody is ready."""
        now = time.monotonic()
        if any(worker.is_usable(now) for worker in self._workers.values()):
            self._complained_at = now
        elif now - self._complained_at > TELL_INTERVAL:
            self._complained_at = now
            log.warning("no worker is ready: %d wait for resources or load their models", len(self._workers))

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


LOAD_HINT = (
    "Look at models.* and inference.* where the workers run: `live-asr models pull` brings weights there."
)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


async def serve(descriptor: int) -> None:
    """Join the cluster and serve the socket with this file descriptor until it closes."""
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=descriptor))
    pool = await receive(reader)
    if pool is None:
        return
    try:
        pool = await asyncio.to_thread(join, pool)
    except Unreachable as error:
        writer.write(pack(LoadFailed(error.message, error.hint)))
        await writer.drain()
        return
    await Bridge(pool, writer).run(reader)


def main(descriptor: int) -> None:
    """Run until the server's end of the socket closes, or the cluster is lost."""
    # It is the server who decides when to end, whatever reaches the whole process group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("ray").setLevel(logging.ERROR)
    asyncio.run(serve(descriptor))
    os._exit(0)  # Ray's own threads have nothing to finish


if __name__ == "__main__":
    main(int(sys.argv[1]))
