"""The journal in files: a folder for each session, append-only, on this machine's disk.

Writes are collected and synced together, by one log (`storage/write_ahead_log`), so that a disk that takes
20 ms for an fsync serves any number of sessions.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec

import orjson
from sqlalchemy import Connection

from live_asr.core.errors import StorageError, Superseded
from live_asr.core.types import Turn
from live_asr.storage.compression import Compressor
from live_asr.storage.files import (
    ABOUT_FILE,
    AUDIO_FILE,
    CHECKS_FILE,
    DECODED_FILE,
    FLAC_FILE,
    MESSAGES_FILE,
    STATE_FILE,
    TURNS_FILE,
    append_synced,
    check_epoch,
    erase_audio,
    pieces_of,
    prepare,
    raise_epoch,
    read_object,
    read_turns,
    storage_error,
    sync_folder,
    sync_session,
    unsealed,
    with_checksum,
    write_batch,
    write_turns,
)
from live_asr.storage.journal import BEGINNING_BYTES, Ending, KeptAudio, is_session_id
from live_asr.storage.repair import IntactPrefix, repair
from live_asr.storage.spool import Batch, Spool, SpoolWriter
from live_asr.storage.write_ahead_log import WriteAheadLog, Written, replay

log = logging.getLogger(__name__)

P = ParamSpec("P")

SETTLE_LOOK = 1.0
"""Seconds between two looks whether the log should begin anew."""
UNFINISHED = ".job-"
"""Before the id of a session, the name of a folder that is being written at once."""
CONDEMNED = ".erased-"
"""Before the id of a session, the name of a folder that is to be erased."""


class FileJournal:
    """All sessions below one folder; see `Journal`.

    Without `compresses` audio that is kept stays as it came: it is somebody else's to do.
    """

    is_shared = False

    def __init__(self, folder: Path, *, interval: float = 0.2, compresses: bool = True) -> None:
        self.folder = folder
        """Holds a folder for each session."""
        self._writer = SpoolWriter(self._write_all, interval)
        self._thread = ThreadPoolExecutor(1, "spool")
        """Ends with it."""
        self._log = WriteAheadLog(folder)
        self._is_log_away = False
        self._settling: asyncio.Task[None] | None = None
        self._compresses = compresses
        self._compressor = Compressor(folder)

    async def start(self) -> None:
        """Make the folder, bring what is in it in order after a power cut, and begin to write.

        Raises StorageError when the folder cannot be written.
        """
        try:
            await asyncio.to_thread(replay, self.folder)  # which may make room
        except OSError as error:
            raise storage_error(error) from error
        await asyncio.to_thread(prepare, self.folder)
        self._writer.start()
        self._settling = asyncio.create_task(self._settle_forever(), name="log")
        if self._compresses:
            self._compressor.start()

    async def close(self) -> None:
        """Write what waits, and end. Idempotent."""
        await self._compressor.close()
        await self._writer.close()
        if self._settling is not None:
            self._settling.cancel()
            await asyncio.gather(self._settling, return_exceptions=True)
            self._settling = None
            await self._settle()

    async def open(self, session_id: str, about: dict[str, Any]) -> Spool:
        """Make the folder of a new session; `about` is what is to be remembered of it.

        Raises StorageError when the disk refuses.
        """
        folder = self.folder / session_id

        def make() -> None:
            folder.mkdir(mode=0o700, parents=True)  # it holds what people said
            try:
                # The files exist from the start, so that appending never has to sync the folder again.
                for name in (AUDIO_FILE, CHECKS_FILE, MESSAGES_FILE):
                    (folder / name).touch()
                append_synced(folder / ABOUT_FILE, orjson.dumps(about))
                sync_folder(folder)
                sync_folder(self.folder)
            except OSError:
                shutil.rmtree(folder, ignore_errors=True)
                raise

        try:
            await asyncio.to_thread(make)
        except OSError as error:
            raise storage_error(error) from error
        return self._spool(session_id, 1)

    async def reopen(self, session_id: str) -> Spool:
        """Take a session over, to add to what of it is intact; nobody who had it before writes any more.

        Raises KeyError when there is no such session, StorageError when the disk refuses.
        """
        folder = self._folder_of(session_id)

        def make_intact() -> tuple[int, IntactPrefix]:
            with raise_epoch(folder) as epoch:
                (folder / DECODED_FILE).unlink(missing_ok=True)  # of a pass that a crash interrupted
                return epoch, repair(folder)

        try:
            epoch, intact = await asyncio.to_thread(make_intact)
        except OSError as error:
            self._log.distrust(folder)
            raise storage_error(error) from error
        spool = self._spool(session_id, epoch)
        spool.begin_with(intact.audio_bytes, intact.message_count)
        return spool

    def _spool(self, session_id: str, epoch: int) -> Spool:
        read = partial(self.read_audio, session_id)
        spool = Spool(session_id, self.folder / session_id, epoch, read, self._writer.hurry)
        self._writer.add(spool)
        return spool

    def keep_whole(
        self, session_id: str, about: dict[str, Any], kept: Sequence[bytes], turns: Iterable[Turn]
    ) -> Callable[[Connection], None]:
        """Write the files of a session that comes about at once: all of them, or none. Blocks.

        Those that are there stay. Raises StorageError.
        """
        folder, unfinished = self.folder / session_id, self.folder / f"{UNFINISHED}{session_id}"
        try:
            if not (folder / ABOUT_FILE).exists():
                shutil.rmtree(unfinished, ignore_errors=True)
                unfinished.mkdir(mode=0o700, parents=True)
                for empty in (AUDIO_FILE, CHECKS_FILE):
                    (unfinished / empty).touch()
                append_synced(unfinished / MESSAGES_FILE, b"".join(map(with_checksum, kept)))
                write_turns(unfinished / TURNS_FILE, turns)
                append_synced(unfinished / ABOUT_FILE, orjson.dumps(about))
                sync_folder(unfinished)
                if folder.exists():  # of a run that died between; nobody can have read it
                    shutil.rmtree(folder)
                unfinished.rename(folder)
                sync_folder(self.folder)
        except OSError as error:
            raise storage_error(error) from error
        return lambda _: None

    async def finish(self, spool: Spool, *, keep_audio: bool) -> None:
        """Write the rest of a session that is over, and erase its audio unless that is kept. Idempotent."""
        try:
            await self.sync()
        finally:
            self._writer.discard(spool)
        if not keep_audio:
            await asyncio.to_thread(self._erase_audio_of, spool)

    def _erase_audio_of(self, spool: Spool) -> None:
        try:
            with check_epoch(spool.folder, spool.epoch):
                erase_audio(spool.folder)
        except (Superseded, FileNotFoundError):
            return  # erased, or it is no business of this writer any more
        except OSError as error:
            log.warning("the audio in %s could not be erased: %s", spool.folder, error)

    async def conclude(self, spool: Spool, ending: Ending | None) -> Callable[[Connection], None]:
        """Write what a session ends with, `final` last, and erase its audio unless that is kept.

        Whatever comes before the database is told, the next run goes on from there. Raises StorageError, and
        Superseded where another writer has the session.
        """
        if ending is not None:
            await spool.kept(spool.appended_count)
            await asyncio.to_thread(self._write_ending, spool, ending)
            if ending.keep_audio:
                await self.mark_for_compression(spool)
        return _nothing

    def _write_ending(self, spool: Spool, ending: Ending) -> None:
        if ending.final is not None:
            self.write_turns(spool, ending.turns)
            batch = Batch(b"", (ending.final,), None, spool.safe_bytes, spool.kept_count + 1)
            (fault,) = self._written([(spool, batch)])
            if fault is not None:
                raise _as_storage_error(fault)
        if not ending.keep_audio:
            self._erase_audio_of(spool)

    async def mark_for_compression(self, spool: Spool) -> None:
        """Have the next run compress the audio of a finished session, unless `compress` comes before that.

        Call it before the session is said to be done: nobody looks at it from then on.
        """
        if self._compresses:
            await self._compressor.mark(spool.folder)

    async def compress(self, spool: Spool) -> None:
        """Have the audio that is kept of a finished session compressed in time, by this run or the next."""
        if self._compresses:
            await self._compressor.add(spool.folder)

    async def let_go_of_lost(self) -> None:
        """Do nothing: what others take over is noticed with the next batch."""

    def claim(self, limit: int) -> list[str]:
        """Return nothing: there is no other server."""
        return []

    def later_messages(self, after: Mapping[str, int]) -> list[tuple[str, bytes]]:
        """Return nothing, likewise."""
        return []

    async def sync(self, *, urgent: bool = False) -> None:
        """Write and sync all that waits, in one go; with `urgent`, only what somebody waits for.

        A caller that is cancelled leaves the write whole.
        """
        await self._writer.sync(urgent=urgent)

    async def _write_all(self, spools: Sequence[Spool]) -> None:
        taken = [(spool, spool.take()) for spool in spools]
        faults: Sequence[Exception | None]
        try:
            faults = await asyncio.get_running_loop().run_in_executor(self._thread, self._written, taken)
        except Exception as error:  # threads or memory ran out: to the sessions, the same as the disk
            faults = [error] * len(taken)
        for (spool, batch), fault in zip(taken, faults, strict=True):
            self._tell(spool, batch, fault)

    def _written(self, taken: Sequence[tuple[Spool, Batch]]) -> list[Exception | None]:
        """Bring batches to disk; return what refused each of them, memory included. Blocks."""
        faults: list[Exception | None] = [
            _fault_of(write_batch, spool.folder, batch, spool.epoch) for spool, batch in taken
        ]
        sound = [number for number, fault in enumerate(faults) if fault is None]
        written = [
            Written(spool.folder, spool.epoch, batch) for spool, batch in (taken[number] for number in sound)
        ]
        fault = _fault_of(self._log.append, written) if written else None
        if fault is not None:
            for number, one in zip(sound, written, strict=True):
                if (its_fault := _fault_of(sync_session, one.folder)) is not None:
                    self._log.distrust(one.folder)
                    faults[number] = _unsynced(its_fault)
        if (fault is not None) != self._is_log_away:
            self._is_log_away = fault is not None
            if self._is_log_away:
                log.error("the log in %s cannot be written, sessions are synced each: %s", self.folder, fault)
        return faults

    def _tell(self, spool: Spool, batch: Batch, fault: Exception | None) -> None:
        try:
            if fault is None:
                spool.mark_safe(batch.position_bytes, batch.count)
            else:
                if not isinstance(fault, Superseded):
                    log.error("%s cannot be written: %s", spool.folder, fault)
                spool.mark_failed(_as_storage_error(fault))
        except Exception:
            log.exception("a session could not be told of its files")

    async def _settle_forever(self) -> None:
        while True:
            await asyncio.sleep(SETTLE_LOOK)
            if self._log.is_due:
                await self._settle()

    async def _settle(self) -> None:
        """Have the log begin anew; a session whose files cannot be synced is told so. Never raises."""
        try:
            faults = await asyncio.to_thread(self._log.settle)
        except Exception:  # nobody awaits this; what is in the log is safe
            log.exception("the log of %s cannot begin anew", self.folder)
            return
        for spool in self._writer.spools:
            if (fault := faults.get(spool.folder)) is not None:
                log.error("%s cannot be synced: %s", spool.folder, fault)
                spool.mark_failed(_unsynced(fault))

    # Sessions that are over --------------------------------------------------------------------------

    def messages(self, session_id: str) -> Iterator[bytes]:
        """Yield the kept messages of a session, oldest first, as far as they are intact.

        Blocks: call it off the event loop. Raises KeyError when there is no such session.
        """
        folder = self._folder_of(session_id)
        with contextlib.suppress(FileNotFoundError):
            for line in (folder / MESSAGES_FILE).read_bytes().splitlines(keepends=True):
                message = unsealed(line)
                if message is None:
                    return
                yield message

    def about(self, session_id: str) -> dict[str, Any]:
        """Return what is remembered of a session. Blocks. Raises KeyError when there is no such one."""
        return read_object(self._folder_of(session_id) / ABOUT_FILE)

    def state(self, session_id: str) -> dict[str, Any]:
        """Return what was last put down beside the messages; nothing where it cannot be read.

        Blocks. Raises KeyError when there is no such session.
        """
        return read_object(self._folder_of(session_id) / STATE_FILE)

    def write_turns(self, spool: Spool, turns: Iterable[Turn], file: str = TURNS_FILE) -> None:
        """Keep who spoke when: all of it, on disk, or nothing. Blocks. Raises StorageError."""
        try:
            with check_epoch(spool.folder, spool.epoch):
                write_turns(spool.folder / file, turns)
        except OSError as error:
            raise storage_error(error) from error

    def turns(self, session_id: str, file: str = TURNS_FILE) -> tuple[Turn, ...]:
        """Return who spoke when; nothing where that is not kept. Blocks.

        Raises KeyError when there is no such session.
        """
        return read_turns(self._folder_of(session_id) / file)

    def kept_audio(self, session_id: str) -> KeptAudio | None:
        """Return the audio that is kept of a session that is over; None where none is. Blocks."""
        folder = self.folder / session_id
        with contextlib.suppress(FileNotFoundError):
            flac = folder / FLAC_FILE
            if flac.exists():
                return KeptAudio(flac.stat().st_size, b"fLaC", flac, is_compressed=True)
            path = folder / AUDIO_FILE
            size_bytes = path.stat().st_size
            if size_bytes:
                with path.open("rb") as file:
                    return KeptAudio(size_bytes, file.read(BEGINNING_BYTES), path)
        return None

    def read_audio(self, session_id: str, start_bytes: int, end_bytes: int) -> AsyncIterator[bytes]:
        """Yield the audio of a session between two positions, in pieces. Raises StorageError."""
        return pieces_of(self.folder / session_id / AUDIO_FILE, end_bytes, start_bytes)

    @asynccontextmanager
    async def recording(self, spool: Spool) -> AsyncIterator[Path]:
        """Give a file with all of a session's audio, for who has to have one, in a folder to work in."""
        yield spool.folder / AUDIO_FILE

    def erase_audio(self, session_id: str) -> bool:
        """Erase the audio of a session that is over; return whether there was any. Blocks.

        Raises StorageError when the disk refuses.
        """
        self._log.hasten()
        try:
            return erase_audio(self._folder_of(session_id))
        except KeyError:
            return False  # erased meanwhile, or in another server's folder
        except OSError as error:
            raise storage_error(error) from error

    def movable_messages(self, session_id: str) -> list[bytes]:
        """Return nothing: a file that is done is in nobody's way."""
        return []

    def erase_messages(self, session_id: str, count: int) -> None:
        """Do nothing, likewise."""

    def mark_deleted(self, session_id: str) -> bool:
        """Take a session out of sight, to be erased; return False when there is none.

        From here on it is unknown, and whatever kills the server, the next run erases it. Blocks. Raises
        StorageError when the disk refuses.
        """
        if not is_session_id(session_id) or not (self.folder / session_id).is_dir():
            return False
        try:
            (self.folder / session_id).rename(self.folder / (CONDEMNED + session_id))
            sync_folder(self.folder)
        except OSError as error:
            raise storage_error(error) from error
        return True

    def condemned(self) -> list[str]:
        """Return the sessions that are to be erased and are not yet. Blocks."""
        return [path.name.removeprefix(CONDEMNED) for path in self.folder.glob(f"{CONDEMNED}*")]

    def erase(self, session_id: str) -> None:
        """Erase all that is kept of a condemned session, if anything is. Blocks. Raises StorageError."""
        self._log.hasten()
        try:
            shutil.rmtree(self.folder / (CONDEMNED + session_id))
        except FileNotFoundError:
            return
        except OSError as error:
            raise storage_error(error) from error

    def _folder_of(self, session_id: str) -> Path:
        folder = self.folder / session_id
        if not is_session_id(session_id) or not (folder / ABOUT_FILE).is_file():
            raise KeyError(session_id)
        return folder

    def free_bytes(self) -> int:
        """Return the free space below the folder. Blocks. Raises StorageError when that is not known."""
        try:
            return shutil.disk_usage(self.folder).free
        except OSError as error:
            raise storage_error(error) from error


def _unsynced(error: Exception) -> StorageError:
    """Say that files could not be synced, not as DiskFull, after which this run takes a session up again.

    What is whole of it the next start puts together.
    """
    return StorageError(storage_error(error).message)


def _as_storage_error(error: Exception) -> StorageError:
    return error if isinstance(error, StorageError) else storage_error(error)


def _fault_of(function: Callable[P, None], *arguments: P.args, **named: P.kwargs) -> Exception | None:
    """Call a function; return what it raises, memory that ran out included: to a session it is the same."""
    try:
        function(*arguments, **named)
    except Exception as error:
        return error
    return None


def _nothing(_: Connection) -> None:
    """Files are written already, and whose folder it is, has the database alone, too."""
