"""Replay files one after the other, through a server of one's own if no other is named.

It is a client like any other. Without a server's address it starts one for the occasion, in a process of
its own with its data in a temporary folder, and ends it afterwards.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from live_asr.client import Pace, Reconnecting, Resumed, fetch_transcript, transcribe_file
from live_asr.client.media import MediaFile
from live_asr.config.settings import Settings
from live_asr.core.errors import LiveAsrError, MediaError, StorageError
from live_asr.core.export import Record
from live_asr.core.messages import Final, Notice, Ready
from live_asr.core.transcript import Transcript
from live_asr.core.types import seconds
from live_asr.replay.own_server import own_server
from live_asr.replay.view import CaptionsView, TerminalView
from live_asr.storage.transcripts import targets_of, write_transcripts

OK, FAILED, INTERRUPTED = 0, 1, 130
"""Exit statuses: the last is what shells report for Ctrl-C."""
_SHORT = 1.0
"""Seconds, beside a twentieth, that a file may be shorter than it says: many only estimate."""


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """What to replay the files with."""

    url: str | None = None
    """The server; None starts one."""
    token: str | None = None
    """The server's access token, where it wants one."""
    pace: Pace = "fast"
    language: str | None = None
    """ISO 639-1 code; None detects it."""
    task: str = "transcribe"
    vocabulary: tuple[str, ...] = ()
    diarize: bool = True
    """Tell speakers apart, live and in the full pass."""
    min_speakers: int | None = None
    max_speakers: int | None = None
    final_pass: bool = True
    """Go through the whole recording once more in the end."""
    output: Path | None = None
    """Folder for the transcripts; None puts them beside their file."""
    settings: Settings = field(default_factory=Settings)
    """Settings of the server that is started."""


def run(files: Sequence[Path], options: ReplayOptions) -> int:
    """Replay the files one after the other, and return the exit status.

    A file that cannot be replayed costs one line on stderr and status 1; the others are replayed all the
    same. The first Ctrl-C ends the file that is being sent and writes what was heard, the second does not
    wait for the server any more.
    """
    try:
        return asyncio.run(_run(files, options))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return INTERRUPTED


async def _run(files: Sequence[Path], options: ReplayOptions) -> int:
    console, errors = Console(highlight=False), Console(stderr=True, highlight=False)
    # A terminal that cannot move its cursor is no better than a pipe.
    draws = console.is_terminal and not console.is_dumb_terminal
    view = (TerminalView if draws else CaptionsView)(console, errors, with_speakers=options.diarize)
    enough = asyncio.Event()
    with _interrupts(enough, view):
        # Files are looked at before a server is started: a misspelt name should not take ten seconds.
        media = [found for path in files if (found := await _probed(path, options, view))]
        failed = len(media) < len(files)
        targets = targets_of([file.path for file in media], options.output)
        if media and not enough.is_set():
            try:
                async with _server(options, view, enough) as url:
                    for file in media:
                        if enough.is_set():
                            break
                        failed |= not await _replay(file, targets[file.path], url, options, view, enough)
            except LiveAsrError as error:
                view.complain(error)
                failed = True
    if enough.is_set():
        return INTERRUPTED
    return FAILED if failed else OK


async def _replay(
    file: MediaFile, target: Path, url: str, options: ReplayOptions, view: CaptionsView, enough: asyncio.Event
) -> bool:
    """Stream one file and write its transcripts; return whether all of it went well."""
    transcript, session = Transcript(), ""
    turns: str | None = None
    succeeded = has_skipped = False
    try:
        with view.showing(file):
            messages = transcribe_file(
                file.path,
                url,
                pace=options.pace,
                token=_token_of(options),
                language=options.language,
                task=options.task,
                vocabulary=options.vocabulary,
                diarize=options.diarize,
                min_speakers=options.min_speakers,
                max_speakers=options.max_speakers,
                final_pass=options.final_pass,
                enough=enough,
            )
            async with aclosing(messages):
                async for message in messages:
                    if isinstance(message, Ready):
                        session = message.session
                    if isinstance(message, Reconnecting):
                        view.say(f"Reconnecting: {message.reason}")
                        continue
                    if isinstance(message, Resumed):
                        view.say("Connected again.")
                        continue
                    if isinstance(message, Notice):
                        has_skipped |= message.code == "gap_skipped"
                    transcript.apply(message)
                    view.show(message)
                    if isinstance(message, Final):
                        turns = await _fetched_turns(message, url, options, view)
        succeeded = True
        _remark(file, transcript, view, is_shortened=has_skipped or enough.is_set())
    except LiveAsrError as error:
        if error.code == "unauthorized":
            error.hint = "Give the server's token with --token or LIVE_ASR_SERVER__TOKEN."
        view.complain(error, file.path)
    finally:  # cancelled too: what was heard is kept
        if succeeded or transcript.words:
            succeeded &= _write(Record.of(session, transcript), turns, target, view)
    return succeeded


async def _fetched_turns(final: Final, url: str, options: ReplayOptions, view: CaptionsView) -> str | None:
    """Fetch who spoke when as RTTM, which knows overlaps that the words of `final` do not."""
    link = final.links.get("rttm")
    if link is None or not options.diarize:
        return None
    try:
        return await fetch_transcript(url, link, token=_token_of(options))
    except LiveAsrError as error:
        view.say(f"The turns could not be fetched, so .rttm has those of the words: {error}")
        return None


def _remark(file: MediaFile, transcript: Transcript, view: CaptionsView, *, is_shortened: bool) -> None:
    """Say what a result that looks like success may hide."""
    heard = seconds(transcript.duration_samples)
    if not is_shortened and file.duration and heard < file.duration * 0.95 - _SHORT:
        view.say(
            f"{file.path} ended early: {heard:.0f} s of {file.duration:.0f} s were heard."
            " It may be cut off or damaged."
        )
    if not transcript.words:
        view.say(f"{file.path}: no words were recognised.")


# Files --------------------------------------------------------------------------------------------


async def _probed(path: Path, options: ReplayOptions, view: CaptionsView) -> MediaFile | None:
    folder = options.output or path.parent
    try:
        found = await asyncio.to_thread(MediaFile.probe, path)
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(0, "it may not be written to")
    except MediaError as error:
        view.complain(error)
    except OSError as error:
        reason = f"Transcripts of {path} cannot be written to {folder}: {error.strerror}."
        view.complain(StorageError(reason, "Give another folder with --output."))
    else:
        return found
    return None


def _write(record: Record, turns: str | None, target: Path, view: CaptionsView) -> bool:
    """Write the record in all formats, `turns` as its RTTM where the server has them."""
    try:
        paths = write_transcripts(record, turns, target)
    except StorageError as error:
        view.complain(error)
        return False
    view.say("Wrote " + ", ".join(map(str, paths)))
    return True


# Server and signals -------------------------------------------------------------------------------


@asynccontextmanager
async def _server(options: ReplayOptions, view: CaptionsView, enough: asyncio.Event) -> AsyncIterator[str]:
    if options.url is not None:
        yield options.url
        return
    async with own_server(options.settings, view.say, enough) as url:
        yield url


def _token_of(options: ReplayOptions) -> str | None:
    """Return the token that was given, or the one that a server of our own asks for."""
    secret = options.settings.server.token
    is_own = options.url is None and secret is not None
    return options.token or (secret.get_secret_value() if is_own and secret is not None else None)


@contextmanager
def _interrupts(enough: asyncio.Event, view: CaptionsView) -> Iterator[None]:
    """Turn Ctrl-C, a hang-up and termination into `enough`, and a second one into cancellation."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None, "called in a coroutine"

    def interrupt() -> None:
        if enough.is_set():
            task.cancel()
        else:
            enough.set()
            view.say("Finishing what was heard, with its full pass; press Ctrl-C again to quit at once.")

    signals = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # Elsewhere than on Unix a loop takes no handlers: Ctrl-C then ends at once.
    with suppress(NotImplementedError, RuntimeError, ValueError):
        for number in signals:
            loop.add_signal_handler(number, interrupt)
    try:
        yield
    finally:
        if sys.platform != "win32":
            for number in signals:
                loop.remove_signal_handler(number)
