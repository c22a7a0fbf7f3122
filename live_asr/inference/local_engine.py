"""The server's side of the inference process: an async client that keeps the process alive.

The process may crash, hang or run out of memory. Whatever was asked of it and not answered is asked
again of the next one; only work that brings down one process after another is given up.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import math
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict

import numpy as np

from live_asr.core.errors import EngineError
from live_asr.core.types import SAMPLE_RATE_HZ, DecodeRequest
from live_asr.inference.costs import LearnedCosts
from live_asr.inference.engine import Newest, StaleWork
from live_asr.inference.ipc import (
    END_PATIENCE,
    NOBODY,
    Alive,
    Batch,
    Begun,
    Detect,
    Detected,
    DetectedMany,
    DetectMany,
    Embed,
    Failed,
    Faulted,
    Load,
    Loaded,
    LoadFailed,
    Pool,
    Recognize,
    Recognized,
    Segment,
    end,
    pack,
    receive,
    spawn,
)
from live_asr.inference.kernels import environment_of
from live_asr.inference.scheduler import FILE_BUDGET, Job, Kind, Scheduler, kind_of
from live_asr.models.device import cure_of, environment_for
from live_asr.models.interfaces import FloatArray, SpeechState

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
"""Work that so many processes were asked for, and died, is given up."""
MAX_DEATHS = 2
"""Work that was under way in so many processes that died is given up: the second had nothing else to do."""
CREDITS = {"cpu": 1, "cuda": 2}
"""Pieces of work for each lane that the process has at once. Between two a GPU would be idle; a core has the
server's own work to do."""
FIRST_COSTS = (0.03, 0.004)
"""Seconds that a batch is thought to take, and what each window adds, until some were seen."""
MAX_LOAD = 300.0
"""Seconds that a process may take to load its models before it counts as hung."""
MAX_BACKOFF = 10.0
WATCH_INTERVAL = 1.0
MAX_LOOKS = 2
"""So often in a row a process is seen to hang before it is replaced: where it was the server that stood
still, what the process has said meanwhile is read in between."""
STABLE_AFTER = 60.0
"""Seconds after which a process that ends is not counted with those before it."""
MAX_FAULTS = 2
"""Processes in a row whose device fails, after which another device is taken where there is one."""
ENVIRONMENT = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "8"}
"""oneDNN, beneath CTranslate2, would keep code for the last 1024 shapes that it has met. Windows and prefixes
are of ever other lengths: that grows for an hour, and no decode is faster for it."""


class EngineCallbacks(TypedDict, total=False):
    """Who is told of what an engine does; see `LocalEngine`."""

    on_restart: Callable[[], None]
    on_work: Callable[[float], None]
    on_audio: Callable[[float], None]
    on_batch: Callable[[str, int], None]
    reserved: Callable[[], float]
    on_spent: Callable[[float, int], None]


Work = Detect | Recognize | Segment | Embed
WORK_NAMES = ("detect", "step", "final", "file", "segment", "embed")
"""What work is called where it is counted: decodes by what they are for."""


@dataclass(slots=True, eq=False)
class _Batch:
    """What a lane does at once."""

    kind: Hashable
    count: int
    left: int
    """How many of them are not answered."""


@dataclass(slots=True)
class _Job:
    """One piece of work and who waits for it."""

    work: Work
    answer: asyncio.Future[Any]
    asked_at: float = field(default_factory=time.monotonic)
    newest: Newest | None = None
    """Says what to decode instead, when its turn comes first."""
    ticket: Job[int] | None = None
    """Its place among what waits for a lane."""
    attempts: int = 0
    """How many processes were asked."""
    sent_at: float = 0.0
    """When the last one was."""
    begun_at: float | None = None
    """Since when it is under way in the process that is up; None where it waits."""
    deaths: int = 0
    """How many processes died while it was under way."""
    batch: _Batch | None = None
    """What the process was asked for at once, with it; None for what needs no lane."""


class LocalEngine:
    """Start the inference process, ask it for work, and replace it when it dies.

    `timeout` is how many seconds a piece of work may take, from when it is begun, and how long the process
    may give no sign of life, before it counts as hung. Work that was under way in one that died is asked for
    again by itself: where that one dies, too, it is given up, and nothing else is.
    `on_restart` is called whenever a process had to be replaced. Where a GPU fails while models are loaded,
    or soon after again and again, `fallback` is called once, in a thread, with the reason: it returns what to
    load instead. Without it the failure is one of the engine. `on_work` is called with the seconds for which
    each piece of work kept one of the process's threads busy, `on_audio` with those of audio that was judged,
    `on_batch` with the name and number of what a lane is given at once. `reserved` tells which share of their
    time lanes are to rest, from 0 to less than 1. `on_spent` is called now and then with the seconds of
    encoding and the tokens that were decoded since it was last. `module` is what the process runs, which for
    a `Pool` has others recognise; it may take `max_load` seconds until it is ready.
    """

    def __init__(
        self,
        load: Load | Pool,
        *,
        module: str = "live_asr.inference.worker",
        max_load: float = MAX_LOAD,
        timeout: float = 30.0,
        on_restart: Callable[[], None] = lambda: None,
        warning: str = "",
        fallback: Callable[[str], Load] | None = None,
        on_work: Callable[[float], None] = lambda _: None,
        on_audio: Callable[[float], None] = lambda _: None,
        on_batch: Callable[[str, int], None] = lambda _, __: None,
        reserved: Callable[[], float] = lambda: 0.0,
        on_spent: Callable[[float, int], None] = lambda _, __: None,
    ) -> None:
        self._on_spent = on_spent
        self._reserved = reserved
        self._load = load
        self._module = module
        self._max_load = max_load
        self._on_work = on_work
        self._on_audio = on_audio
        self._on_batch = on_batch
        self.warning = warning
        """Why the models run on a slower device than the machine has; "" where they do not."""
        self._fallback = fallback
        self._faults = 0
        """How many processes in a row were ended by their device."""
        self._timeout = timeout
        self._on_restart = on_restart
        self._jobs: dict[int, _Job] = {}
        self._costs = LearnedCosts(*FIRST_COSTS)
        self._batch_count = 0
        """How many of the process's credits are taken."""
        self._queue: Scheduler[int] = Scheduler(
            predict=lambda kind, count: self._costs.predict(_size_of(kind), count)
        )
        """The numbers of those that wait for a lane."""
        self._unjudged: dict[int, _Job] = {}
        """Detections that wait for a process, or for the others of this moment: they need no lane."""
        self._flushing = False
        self._suspects: dict[int, _Job] = {}
        """And those that were under way when a process died: they are done one by one, before all else."""
        self._sent: dict[int, _Job] = {}
        """What the process that is up was asked for and has not answered, whoever still waits for it."""
        self._heard_at = 0.0
        """When the process last gave a sign of life."""
        self._numbers = itertools.count()
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._first: asyncio.Future[Loaded] | None = None
        self.loaded: Loaded | None = None
        """What the process has loaded; None until it is ready for the first time."""
        self._is_loaded = asyncio.Event()
        self.is_up = False
        """Whether a process is ready for work at this moment."""
        self.changed_at = -math.inf
        """When a process, or a worker of the pool, last died or came back, by `time.monotonic`."""
        self._missed_lanes = 0
        """How many lanes there were before a worker of the pool died, until there are as many again."""

    @property
    def process_id(self) -> int | None:
        """Id of the process that is up now."""
        return self._process.pid if self._process and self.is_up else None

    @property
    def waiting_count(self) -> int:
        """How many pieces of work somebody waits for."""
        return len(self._jobs)

    def waits(self, name: str) -> list[float]:
        """Return for how many seconds each piece of work of one of `WORK_NAMES` has waited to be begun."""
        now = time.monotonic()
        waiting = (job for number, job in self._jobs.items() if number not in self._sent)
        return [now - job.asked_at for job in waiting if _name_of(job.work) == name]

    def tell(self, message: Any) -> None:
        """Tell the process that is up something that has no answer; where none is, nobody is told."""
        if self._writer is not None:
            self._writer.write(pack((NOBODY, message)))

    async def start(self) -> Loaded:
        """Start the process and wait until its models are warm.

        Raises EngineError when they cannot be loaded; the message is the library's own reason, and for a GPU
        the hint says what to do.
        """
        self._first = asyncio.get_running_loop().create_future()
        self._keeper = asyncio.create_task(self._keep(), name="inference keeper")
        return await asyncio.shield(self._first)

    async def wait(self) -> Loaded:
        """Wait until a process has loaded its models for the first time, however long that takes."""
        await self._is_loaded.wait()
        assert self.loaded is not None, "both are set at once"
        return self.loaded

    async def close(self) -> None:
        """End the process. What is still waited for raises EngineError. Idempotent."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
            self._keeper = None
        if self._first is not None and not self._first.done():
            self._first.set_exception(EngineError("The inference process is shut down."))
            self._first.exception()  # seen: whoever started it may have gone
        for job in self._jobs.values():
            if not job.answer.done():
                job.answer.set_exception(EngineError("The inference process is shut down."))
        self._jobs.clear()

    async def detect(self, samples: FloatArray, state: SpeechState) -> Detected:
        """Judge 32 ms chunks; see `SpeechDetector.detect`. Raises EngineError when it cannot be done."""
        answer: Detected = await self._ask(Detect(samples, state))
        self._on_audio(samples.size / SAMPLE_RATE_HZ)
        return answer

    async def recognize(
        self, request: DecodeRequest, samples: FloatArray, budget: float, *, newest: Newest | None = None
    ) -> Recognized:
        """Decode a window, wanted within `budget` seconds. Raises EngineError when it cannot be done.

        `newest` is called once a lane is free for it, and says what to decode instead; where that is nothing,
        StaleWork is raised.
        """
        answer: Recognized = await self._ask(Recognize(request, samples, budget), newest)
        return answer

    async def segment(self, samples: FloatArray, budget: float) -> FloatArray:
        """Tell who of a window speaks when; see `SpeakerSegmentation.segment`.

        Raises EngineError when it cannot be done.
        """
        # As 16 bits half as much goes through the socket, and no model hears the difference.
        answer: FloatArray = await self._ask(Segment(np.rint(samples * 32767).astype(np.int16), budget))
        return answer

    async def embed(self, samples: FloatArray, budget: float) -> FloatArray:
        """Embed a voice; see `SpeakerEncoder.embed`. Raises EngineError when it cannot be done."""
        answer: FloatArray = await self._ask(Embed(samples, budget))
        return answer

    async def _ask(self, work: Work, newest: Newest | None = None) -> Any:
        if self._keeper is None or self._keeper.done():
            raise EngineError("The inference process is not running.")
        number = next(self._numbers)
        job = self._jobs[number] = _Job(work, asyncio.get_running_loop().create_future(), newest=newest)
        try:
            self._put(number, job)
            self._dispatch()
            return await job.answer
        finally:
            for jobs in (self._jobs, self._unjudged, self._suspects):
                jobs.pop(number, None)
            if job.ticket is not None:
                self._queue.withdraw(job.ticket)

    def _put(self, number: int, job: _Job) -> None:
        """Let a piece of work wait."""
        if isinstance(job.work, Detect):
            self._unjudged[number] = job
        else:
            kind = kind_of(job.work.request) if isinstance(job.work, Recognize) else None
            job.ticket = self._queue.add(number, time.monotonic(), job.work.budget, kind=kind)

    @property
    def _free_lanes(self) -> int:
        """How many pieces of work the process may be asked for beside those it has."""
        assert self.loaded is not None, "a process is up"
        # A lane that is to rest gets nothing beforehand: it would go on with that.
        a_lane = 1 if self._reserved() else CREDITS.get(self.loaded.recognizer.device, 1)
        return a_lane * self.loaded.lanes - self._batch_count

    def _dispatch(self) -> None:
        """Hand what waits to the process, if there is one: what may have ended the last one, one by one."""
        if not self.is_up:
            return
        if self._suspects and not self._sent:
            number = next(iter(self._suspects))
            self._send({number: self._suspects[number]})
        if self._suspects:
            return
        if self._unjudged and not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)
        while self._free_lanes > 0 and (taken := self._queue.take(time.monotonic())):
            jobs = {one.item: job for one in taken if self._is_wanted(job := self._jobs[one.item])}
            if jobs:
                self._send(jobs, taken[0].kind)

    def _flush(self) -> None:
        """Ask for the detections that came in this turn of the loop, together."""
        self._flushing = False
        if not self.is_up or self._suspects:
            return
        together = {number: job for number, job in self._unjudged.items() if not job.attempts}
        for number, job in self._unjudged.items():
            if job.attempts:  # one of them may have ended the last process
                self._send({number: job})
        self._unjudged.clear()
        if len(together) < 2:
            for number, job in together.items():
                self._send({number: job})
            return
        assert self._writer is not None, "a process that is up has one"
        works = []
        now = time.monotonic()
        for number, job in together.items():
            assert isinstance(job.work, Detect), "nothing else is unjudged"
            job.attempts, job.sent_at = 1, now
            works.append((number, job.work))
        self._sent |= together
        self._writer.write(pack((NOBODY, DetectMany(tuple(works)))))

    def _is_wanted(self, job: _Job) -> bool:
        """Bring work up to date whose turn it is; tell whether it is wanted still."""
        newest, job.newest = job.newest, None
        if newest is None:
            return not job.answer.done()
        assert isinstance(job.work, Recognize), "nothing else changes"
        if job.answer.done():
            return False
        try:
            wanted = newest()
        except Exception as error:  # one session's trouble is no other's
            job.answer.set_exception(error)
            return False
        if wanted is None:
            job.answer.set_exception(StaleWork("Nobody wants this any more."))
            return False
        job.work = Recognize(*wanted, job.work.budget)
        return True

    def _send(self, jobs: dict[int, _Job], kind: Hashable = None) -> None:
        """Ask the process for something, or for several windows at once."""
        assert self._writer is not None, "a process that is up has one"
        now = time.monotonic()
        batch = _Batch(kind, len(jobs), len(jobs))
        for job in jobs.values():
            job.attempts += 1
            job.sent_at = now
            job.batch = None if isinstance(job.work, Detect) else batch
        first = next(iter(jobs.values()))
        if first.batch is not None:
            self._batch_count += 1
            self._on_batch(_name_of(first.work), len(jobs))
        self._sent |= jobs
        works = tuple((number, job.work) for number, job in jobs.items() if isinstance(job.work, Recognize))
        if len(works) > 1:
            self._writer.write(pack((NOBODY, Batch(works))))
            return
        for number, job in jobs.items():
            self._writer.write(pack((number, job.work)))

    # Keeping a process alive -----------------------------------------------------------------------

    async def _keep(self) -> None:
        """Run one process after another, for as long as this task lives."""
        backoff = 0.1
        while True:
            began = time.monotonic()
            problem: Exception = EngineError("The inference process ended.")
            try:
                await self._run_one()
            except (EngineError, OSError) as error:
                problem = error
            first = self._first if self._first is not None and not self._first.done() else None
            if time.monotonic() - began > STABLE_AFTER:
                backoff, self._faults = 0.1, 0
            self._faults += 1
            if await self._fall_back(problem, most=MAX_FAULTS if first is None else 1):
                backoff = 0.1
            elif first is not None:
                first.set_exception(
                    problem if isinstance(problem, EngineError) else EngineError(str(problem))
                )
                return
            if first is None:
                log.error("inference process: %s", problem)
                self._on_restart()
            log.warning("the inference process ended; starting another in %.1f s", backoff)
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, MAX_BACKOFF)

    async def _fall_back(self, error: Exception, *, most: int) -> bool:
        """Take another device from now on, where this one has failed so often; tell whether it is so."""
        if self._fallback is None or self._load.device == "cpu" or self._faults < most:
            return False
        fallback, self._fallback = self._fallback, None
        self._load = await asyncio.to_thread(fallback, str(error))
        for job in self._jobs.values():  # it was the device that ended them
            job.attempts = job.deaths = 0
        for number, job in self._suspects.items():
            self._put(number, job)
        self._suspects.clear()
        self.warning = str(error)
        return True

    async def _run_one(self) -> None:
        """Run one process from its start to its end, whatever ends it."""
        environment = ENVIRONMENT
        if isinstance(self._load, Load):
            kernels = await asyncio.to_thread(environment_of, self._load)
            environment = {**ENVIRONMENT, **kernels, **environment_for(self._load.gpu)}
        self._process, reader, writer = await spawn(self._module, environment=environment)
        watch: asyncio.Task[None] | None = None
        try:
            writer.write(pack(self._load))
            try:
                first = await asyncio.wait_for(receive(reader), self._max_load)
            except TimeoutError:
                raise EngineError(f"The models were not loaded within {self._max_load:.0f} s.") from None
            if isinstance(first, LoadFailed) and first.hint:
                raise EngineError(first.reason, first.hint)
            if isinstance(first, LoadFailed) and self._load.device != "cpu":
                raise EngineError(f"The GPU cannot be used: {first.reason}.", cure_of(first.reason))
            if isinstance(first, LoadFailed):
                raise EngineError(f"The models could not be loaded: {first.reason}")
            if not isinstance(first, Loaded):
                raise EngineError("The inference process ended while it loaded the models.")
            if self.loaded is not None:
                self.changed_at = time.monotonic()
            self.loaded, self._writer, self.is_up = first, writer, True
            self._is_loaded.set()
            if self._first is not None and not self._first.done():
                self._first.set_result(first)
            self._heard_at = time.monotonic()
            self._queue.most = first.most_batch
            self._give_up_deadly()
            self._dispatch()
            watch = asyncio.create_task(self._watch(self._process), name="inference watch")
            while (message := await receive(reader)) is not None:
                number, answer, seconds = message
                if isinstance(answer, Faulted):  # whoever asked gets the answer of the next process
                    raise EngineError(f"The GPU failed: {answer.reason}.", cure_of(answer.reason))
                if isinstance(answer, DetectedMany):
                    for each, judged in answer.answers:
                        self._receive(each, judged, 0.0)
                else:
                    self._receive(number, answer, seconds)
        finally:
            if self.is_up:
                self.changed_at = time.monotonic()
            self.is_up, self._writer = False, None
            self._take_back()
            if watch is not None:
                watch.cancel()
            writer.close()
            # While it loads it reads nothing.
            await end(self._process, END_PATIENCE if watch is not None else 0.0)

    def _take_back(self) -> None:
        """Have another process asked for what the one that died has not answered."""
        for number, job in self._sent.items():
            job.deaths += job.begun_at is not None
            job.begun_at = job.batch = None
            if job.answer.done():
                continue
            if job.deaths:
                self._suspects[number] = job
            else:
                self._put(number, job)
        self._sent.clear()
        self._batch_count = 0

    def _give_up_deadly(self) -> None:
        """Ask no further process for what has ended those before it."""
        for number, job in self._jobs.items():
            deadly = job.deaths >= MAX_DEATHS or job.attempts >= MAX_ATTEMPTS
            if deadly and not job.answer.done():
                job.answer.set_exception(EngineError("This work ended one inference process after another."))
                self._suspects.pop(number, None)
                self._unjudged.pop(number, None)
                if job.ticket is not None:
                    self._queue.withdraw(job.ticket)

    def _receive(self, number: int, answer: Any, seconds: float) -> None:
        self._heard_at = time.monotonic()
        if isinstance(answer, Loaded):
            self._note_pool(answer)
            self.loaded, self._queue.most = answer, answer.most_batch
            self._dispatch()
        job = self._sent.get(number)
        if isinstance(answer, Alive):
            self._on_spent(answer.encoder_seconds, answer.tokens)
        if job is None:
            return
        if isinstance(answer, Begun):
            job.begun_at = self._heard_at
            return
        del self._sent[number]
        self._suspects.pop(number, None)  # it was something else
        if job.batch is not None:
            self._on_work(seconds)
            self._account(job.batch, seconds)
        if isinstance(answer, Recognized):
            answer = replace(answer, waited=answer.waited + job.sent_at - job.asked_at)
        if job.answer.done():
            pass  # whoever asked has gone
        elif isinstance(answer, Failed):
            job.answer.set_exception(EngineError(answer.reason))
        else:
            job.answer.set_result(answer)
        self._dispatch()

    def _note_pool(self, after: Loaded) -> None:
        """Take note of a worker that died or came back; one that joins as more is wanted is no such thing."""
        before = self.loaded
        if before is None or before.pool is None or after.pool is None:
            return
        if after.pool.deaths != before.pool.deaths:
            self._missed_lanes = max(self._missed_lanes, before.lanes)
        elif not before.lanes < after.lanes <= self._missed_lanes:
            return
        self.changed_at = time.monotonic()
        if after.lanes >= self._missed_lanes:
            self._missed_lanes = 0

    def _account(self, batch: _Batch, seconds: float) -> None:
        """Take note that one of a batch is answered, whose share of the work was so long."""
        batch.left -= 1
        if batch.left:
            return
        took = seconds * batch.count
        if batch.kind is not None:
            self._costs.learn(_size_of(batch.kind), batch.count, took)
        share = self._reserved()
        if share:
            rest = took * share / (1.0 - share)
            asyncio.get_running_loop().call_later(rest, self._end_rest, self._writer)
        else:
            self._batch_count -= 1

    def _end_rest(self, writer: asyncio.StreamWriter | None) -> None:
        """Give a lane work again that has rested, where its process is still there."""
        if writer is self._writer and writer is not None:
            self._batch_count -= 1
            self._dispatch()

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        """Kill the process when a piece of work takes too long, or it gives no sign of life: it hangs."""
        looks = 0
        while True:
            await asyncio.sleep(WATCH_INTERVAL)
            begun = (job.begun_at for job in self._sent.values() if job.begun_at is not None)
            looks = looks + 1 if time.monotonic() - min(begun, default=self._heard_at) > self._timeout else 0
            if looks >= MAX_LOOKS:
                log.error("the inference process has not answered for %.0f s; replacing it", self._timeout)
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                return


def _name_of(work: Work) -> str:
    if not isinstance(work, Recognize):
        return type(work).__name__.lower()
    return "file" if work.budget >= FILE_BUDGET else "final" if work.request.final else "step"


def _size_of(kind: Hashable) -> Hashable:
    return kind.size if isinstance(kind, Kind) else None
