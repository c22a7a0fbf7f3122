"""The command `live-asr transcribe`: files and folders written down as jobs are, without queue or server."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from live_asr.cli.worker import SESSIONS, doing_of, sender_of
from live_asr.config.settings import Settings
from live_asr.core.errors import ConfigError, LiveAsrError, StorageError
from live_asr.core.export import FORMATS
from live_asr.full_pass.process import FullPass
from live_asr.jobs.delivering import Delivering
from live_asr.jobs.doing import Asked, Doing
from live_asr.jobs.downloads import Fetched
from live_asr.jobs.folder import State, is_written, looked_at, recordings_in
from live_asr.jobs.messages import Job
from live_asr.jobs.recognizing import Recognizing
from live_asr.jobs.results import Options, Outcome, session_id_of
from live_asr.models.device import cpu_count
from live_asr.storage.database import DEAD, DELIVERED, database_url
from live_asr.storage.files import prepare
from live_asr.storage.jobs import JobDatabase
from live_asr.storage.transcripts import targets_of, write_transcripts
from live_asr.weights.resolver import ModelSet, full_pass_load, models_of

OK, FAILED, INTERRUPTED = 0, 1, 130
"""Exit statuses: the last is what shells report for Ctrl-C."""
LOOK_INTERVAL = 2.0
"""Seconds between two looks into a folder that is watched: a file that has not changed between is whole."""
MAX_DELIVERY = 120.0
"""Seconds for which the command waits in the end until its webhooks are taken."""
SCOPE = "files"


@dataclass(frozen=True, slots=True)
class TranscribeOptions:
    """What to write files down with."""

    language: str | None = None
    vocabulary: tuple[str, ...] = ()
    diarize: bool = True
    min_speakers: int | None = None
    max_speakers: int | None = None
    output: Path | None = None
    """Folder for the transcripts; None puts them beside their file."""
    watch: bool = False
    """Go on, with files that come later, until it is interrupted."""
    again: bool = False
    """Write down again what is written down already."""
    settings: Settings = field(default_factory=Settings)


def run(places: Sequence[Path], options: TranscribeOptions, brought: ModelSet) -> int:
    """Write down the files and all below the folders, several at a time; return the exit status.

    One that fails costs a line on stderr and status 1; all others are written down all the same. Raises
    ConfigError where there is nothing to do, StorageError where nothing can be kept.
    """
    try:
        return asyncio.run(_run(places, options, brought))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return INTERRUPTED


async def _run(places: Sequence[Path], options: TranscribeOptions, brought: ModelSet) -> int:
    missing = [place for place in places if not place.exists()]
    if missing:
        raise ConfigError(f"There is no {missing[0]}.", "Name files or folders that exist.")
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
    settings = options.settings
    lanes = settings.jobs.lanes
    load = full_pass_load(settings, brought, cores=max(1, cpu_count() // lanes))
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="live-asr-")))
        teller = await _Teller.of(settings, models_of(load), stack) if settings.webhook.url else None
        view = stack.enter_context(_View())
        passes = [FullPass(load) for _ in range(lanes)]
        for one in passes:
            stack.push_async_callback(one.close)
        work = _Transcribing(places, options, models_of(load), folder, view, teller)
        with _interrupts(work):
            await work.run(passes)
        if teller is not None:
            work.failed += await teller.settled(view)
        view.say(
            f"{work.done} written down, {work.skipped} already written down, {work.failed} failed"
            + (", interrupted" if work.is_interrupted else "")
        )
    if work.is_interrupted and not options.watch:
        return INTERRUPTED
    return FAILED if work.failed else OK


class _Transcribing:
    """Goes through files in lanes."""

    def __init__(
        self,
        places: Sequence[Path],
        options: TranscribeOptions,
        models: str,
        folder: Path,
        view: _View,
        teller: _Teller | None,
    ) -> None:
        self._places = places
        self._options = options
        self._folder = folder
        self._view = view
        self._teller = teller
        self._recognizing = Recognizing(None, max_hours=options.settings.jobs.max_hours)
        self._asked = Options(
            language=options.language or options.settings.streaming.language,
            vocabulary=options.vocabulary,
            diarize=options.diarize,
            min_speakers=options.min_speakers,
            max_speakers=options.max_speakers,
            models=models,
        )
        self._seen: dict[Path, State] = {}
        self._targets: dict[Path, Path] = {}
        self._waiting: asyncio.Queue[Path | None] = asyncio.Queue()
        self._lanes: list[asyncio.Task[None]] = []
        self.done = self.skipped = self.failed = 0
        self.is_interrupted = False

    def interrupt(self) -> None:
        """End now; what is not written down is as it was. Call it on the event loop."""
        self.is_interrupted = True
        for lane in self._lanes:
            lane.cancel()

    async def run(self, passes: Sequence[FullPass]) -> None:
        """Work until all is written down, or until it is interrupted."""
        self._lanes = [
            asyncio.create_task(self._lane(number, one), name=f"lane {number}")
            for number, one in enumerate(passes)
        ]
        looking = asyncio.create_task(self._look(), name="looking")
        self._lanes.append(looking)
        await asyncio.gather(*self._lanes, return_exceptions=True)
        if not self.is_interrupted:
            for task in self._lanes:
                task.result()

    async def _look(self) -> None:
        before: dict[Path, State] = {}
        while True:
            paths = await asyncio.to_thread(lambda: list(recordings_in(self._places)))
            new = [path for path in paths if path not in self._targets]
            if new:
                self._targets |= await asyncio.to_thread(
                    targets_of, [*self._targets, *new], self._options.output
                )
            for path in paths:
                state = State.of(path)
                is_whole = not self._options.watch or before.get(path) == state
                if state is None and not self._options.watch:
                    self._fail(path, "It is empty, or cannot be read.")
                if state is not None and is_whole and self._seen.get(path) != state:
                    self._seen[path] = state
                    self._waiting.put_nowait(path)
                if state is not None:
                    before[path] = state
            if not self._options.watch:
                for _ in range(len(self._lanes)):
                    self._waiting.put_nowait(None)
                return
            await asyncio.sleep(LOOK_INTERVAL)

    async def _lane(self, number: int, full_pass: FullPass) -> None:
        while (path := await self._waiting.get()) is not None:
            if not self._options.again and await asyncio.to_thread(is_written, path, self._targets[path]):
                self.skipped += 1
                continue
            folder = self._folder / str(number)
            folder.mkdir(exist_ok=True)
            with self._view.showing(path) as on_progress:
                try:
                    recording = await asyncio.to_thread(looked_at, path)
                    outcome = await self._outcome_of(recording, full_pass, on_progress, folder)
                    await asyncio.to_thread(self._write, outcome, self._targets[path], recording)
                except LiveAsrError as error:
                    self._fail(path, str(error))
                except OSError as error:
                    self._fail(path, f"It cannot be read: {error.strerror or error}.")
                else:
                    self.done += 1

    async def _outcome_of(
        self, recording: Fetched, full_pass: FullPass, on_progress: _OnProgress, folder: Path
    ) -> Outcome:
        if self._teller is not None:
            return await self._teller.do(recording, full_pass, on_progress, folder, self._asked)
        found = await self._recognizing.result_of(recording, self._asked, full_pass, on_progress, folder)
        return found.outcome

    def _write(self, outcome: Outcome, target: Path, recording: Fetched) -> None:
        record = outcome.record_of(target.name.replace(" ", "_"))
        write_transcripts(record, FORMATS["rttm"].render(record), target)

    def _fail(self, path: Path, fault: str) -> None:
        self.failed += 1
        self._view.complain(f"{path}: {fault}")


class _Teller:
    """Has a receiver told of each file, by the outbox in the data folder."""

    def __init__(self, settings: Settings, database: JobDatabase, doing: Doing) -> None:
        self._settings = settings
        self._database = database
        self._doing = doing
        self._sessions: list[str] = []

    @classmethod
    async def of(cls, settings: Settings, models: str, stack: contextlib.AsyncExitStack) -> _Teller:
        """Open the outbox for as long as the stack is. Raises StorageError."""
        data = settings.storage.data
        await asyncio.to_thread(prepare, data / SESSIONS)
        database = JobDatabase(database_url(settings.storage))
        stack.push_async_callback(asyncio.to_thread, database.close)
        await asyncio.to_thread(database.prepare)
        sender = sender_of(settings, database)
        delivering = Delivering(sender, database, data)
        await delivering.start()
        stack.push_async_callback(delivering.close)
        doing = doing_of(settings, database, models, sender)
        return cls(settings, database, doing)

    async def do(
        self,
        recording: Fetched,
        full_pass: FullPass,
        on_progress: _OnProgress,
        folder: Path,
        options: Options,
    ) -> Outcome:
        """Write a file down and put what is told of it into the outbox; a file that fails is told of, too."""
        job = Job(
            str(recording.path),
            recording.path.absolute().as_uri(),
            language=options.language,
            min_speakers=options.min_speakers,
            max_speakers=options.max_speakers,
            vocabulary=options.vocabulary,
        )
        # The same bytes under the same name, written down by the same models, are the same job.
        session_id = session_id_of(SCOPE, str(recording.path.absolute()), options.key(recording.digest))
        asked = Asked(job, session_id, time.time())
        self._sessions.append(session_id)
        began = time.monotonic()
        try:
            done = await self._doing.do(asked, recording, full_pass, on_progress, folder=folder, began=began)
        except LiveAsrError as error:
            if not isinstance(error, StorageError):
                failed = session_id_of(SCOPE, session_id, str(time.time_ns()))
                self._sessions.append(failed)
                await self._doing.fail(Asked(job, failed, time.time()), error, began=began)
            raise
        return done.outcome

    async def settled(self, view: _View) -> int:
        """Wait until the receiver has been told of all; return of how many it has not."""
        waiting = set(self._sessions)
        lost = 0
        deadline = time.monotonic() + MAX_DELIVERY
        while waiting and time.monotonic() < deadline:
            for session_id in tuple(waiting):
                found = await self._database.call(self._database.deliveries, session_id=session_id, limit=1)
                if not found or found[0].state in (DELIVERED, DEAD):
                    lost += bool(found) and found[0].state == DEAD
                    waiting.discard(session_id)
            await asyncio.sleep(0.2)
        lost += len(waiting)
        if lost:
            data = self._settings.storage.data
            view.complain(
                f"The receiver has not been told of {lost}: `live-asr webhooks list --data {data}` says why, "
                "and the next run, worker or server with this folder tries again."
            )
        return lost


class _OnProgress:
    """Tells a bar, or a log of lines, how far a file is."""

    def __init__(self, bars: Progress | None, task: TaskID | None) -> None:
        self._bars = bars
        self._task = task

    def __call__(self, stage: str, fraction: float) -> None:
        """Take note of the stage, and of the share that is done, 0 to 1."""
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, completed=fraction)


class _View:
    """Progress bars in a terminal, a line for each file elsewhere; both on stderr."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        draws = self._console.is_terminal and not self._console.is_dumb_terminal
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
        )
        self._bars = Progress(*columns, console=self._console, transient=True) if draws else None

    def __enter__(self) -> _View:
        """Begin to draw."""
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End drawing."""
        if self._bars is not None:
            self._bars.stop()

    @contextlib.contextmanager
    def showing(self, path: Path) -> Iterator[_OnProgress]:
        """Show a file for as long as it is worked on."""
        began = time.monotonic()
        task = self._bars.add_task(path.name, total=1.0) if self._bars is not None else None
        try:
            yield _OnProgress(self._bars, task)
        finally:
            if self._bars is not None and task is not None:
                self._bars.remove_task(task)
        self.say(f"{path}: {time.monotonic() - began:.1f} s")

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, markup=False, soft_wrap=True)

    def complain(self, text: str) -> None:
        """Print a line on what went wrong."""
        self._console.print(f"Error: {text}", markup=False, soft_wrap=True)


@contextlib.contextmanager
def _interrupts(work: _Transcribing) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM) if sys.platform != "win32" else ()
    for number in signals:
        loop.add_signal_handler(number, work.interrupt)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
