"""Moves what is finished to the object store, and erases there what was erased here.

Each step can be done again by another run or another server: the audio is put there, the store says that it
has it, the database knows it, only then it is erased here; the same with the messages, where the journal lets
them go; at last the result is put there. How far each session is, is in the database
(`storage/object_rows`).
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

from live_asr.core.errors import StorageError
from live_asr.sessions.playback import Playable, playable
from live_asr.storage.compression import GivenUp, fits_flac, write_flac
from live_asr.storage.database import Database
from live_asr.storage.files import AUDIO_FILE, check_room, format_in, storage_error
from live_asr.storage.journal import Journal, KeptAudio
from live_asr.storage.object_rows import (
    AUDIO,
    FAR,
    MESSAGES,
    RESULT,
    STORED,
    WAITING,
    ObjectRow,
    ObjectRows,
    key_of,
    other_stores,
)
from live_asr.storage.objects import CODE, ObjectStore

log = logging.getLogger(__name__)

LOOK_INTERVAL = 5.0
"""Seconds between two looks for something to move, or to erase."""
RETRY_AFTER = 60.0
"""Seconds until what failed is tried again."""
PATIENCE = 10.0
"""Seconds that who erases a session waits for the store."""
CATCH_UP_INTERVAL = 3600.0
"""Seconds between two looks at all sessions: servers of an older version may be at work, too."""
PAGE = 100
"""Objects that are erased between two looks."""
WORK = ".moving-"
"""Before the name of a folder in which an object is made."""
RESULT_NAME, RESULT_TYPE = "result.json", "application/json"
MESSAGES_NAME, MESSAGES_TYPE = "messages.jsonl", "application/jsonl"
FLAC = "audio/flac"
UNKNOWN = "application/octet-stream"
EXTENSIONS = {
    FLAC: "flac",
    "audio/wav": "wav",
    "audio/ogg": "ogg",
    "audio/mpeg": "mp3",
    "video/webm": "webm",
    "video/mp4": "mp4",
}
"""Of objects, by what they are; `bin` of others."""


class Archive:
    """The sessions of one server, and of those that share its database, in an object store.

    `render` returns the result of a session as JSON, and raises KeyError where there is none; `count` is
    told how many objects wait to be put there and to be erased there. Links are good for `link_seconds`; with
    0 there are none. `clock` gives Unix time in seconds.
    """

    def __init__(
        self,
        objects: ObjectStore,
        journal: Journal,
        database: Database,
        *,
        render: Callable[[str], Awaitable[str]],
        link_seconds: float = 0,
        count: Callable[[str, int], None] = lambda _, __: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._objects = objects
        self._journal = journal
        self._database = database
        self._rows = ObjectRows(database, objects.url)
        self._render = render
        self._link_seconds = link_seconds if objects.can_sign else 0
        self._count = count
        self._clock = clock
        self._moving: str | None = None
        """Whose objects are being put there."""
        self._at_work = asyncio.Lock()
        self._catch_up_at = 0.0
        self._ending = threading.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.origin: str | None = None
        """Scheme and host of links; None where there are none."""

    async def start(self) -> None:
        """Begin to work. Raises StorageError where the store makes no links."""
        await asyncio.to_thread(self._clear)
        if self._link_seconds:
            link = await self._objects.link("any", self._link_seconds)
            parts = urlsplit(link or "")
            self.origin = f"{parts.scheme}://{parts.netloc}"
        self._tasks = [
            asyncio.create_task(self._forever(work, complaint), name=work.__name__)
            for work, complaint in (
                (self._move_known, "sessions that are over cannot be moved"),
                (self.erase_all, "what was erased cannot be erased in the object store"),
            )
        ]

    async def close(self) -> None:
        """Stop at once; what is not done is left to the next run, or other servers. Idempotent."""
        self._ending.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    # What has been moved ------------------------------------------------------------------------------

    async def audio(self, session_id: str) -> Playable | None:
        """Return the audio that is in the store of a session; None where none is."""
        row = await self._database.call(self._rows.find, session_id, AUDIO)
        if row is None or row.state != STORED:
            return None
        return Playable(row.size_bytes or 0, row.media_type or UNKNOWN, None, object_key=row.key)

    async def link(self, key: str) -> str | None:
        """Return an address under which an object can be read for a while; None where there are none."""
        return await self._objects.link(key, self._link_seconds) if self._link_seconds else None

    @property
    def objects(self) -> ObjectStore:
        """The store."""
        return self._objects

    # Moving -------------------------------------------------------------------------------------------

    async def _move_known(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._catch_up_at <= now:
            await self._database.call(self._rows.catch_up)
            self._catch_up_at = now + CATCH_UP_INTERVAL
        await self.move_all()

    async def move_all(self) -> None:
        """Move what is due. Raises StorageError where store or database do not do what they should."""
        async with self._at_work:
            while claimed := await self._database.call(self._rows.claim, self._clock(), limit=1):
                await self._move(claimed[0])

    async def _move(self, row: ObjectRow) -> None:
        session_id, next_at = row.session_id, 0.0
        fault: StorageError | None = None
        self._moving = session_id
        try:
            await self._try_moving(row)
        except GivenUp:
            return
        except KeyError:
            log.warning("session %s cannot be moved: what was said in it is not kept here", session_id)
            next_at = self._clock() + FAR
        except StorageError as error:
            fault, next_at = error, self._clock() + RETRY_AFTER
        except Exception as error:  # of FFmpeg's binding, say: one session's trouble
            log.warning("session %s cannot be moved and will be tried again: %r", session_id, error)
            next_at = self._clock() + RETRY_AFTER
        finally:
            self._moving = None
        await self._database.call(self._rows.let_go, session_id, next_at=next_at)
        if fault is not None and await self._database.call(self._database.session, session_id) is not None:
            raise fault

    async def _try_moving(self, row: ObjectRow) -> None:
        session_id, call = row.session_id, self._database.call
        if await call(self._database.session, session_id) is None:  # erased
            await call(self._rows.doom, session_id)
            return
        if await self._has_moved_audio(session_id):
            await asyncio.to_thread(self._journal.erase_audio, session_id)
        await self._move_messages(session_id)
        result = (await self._render(session_id)).encode()
        if await call(self._rows.begin_result, session_id, RESULT_NAME, RESULT_TYPE):
            size = await self._objects.put(key_of(session_id, RESULT_NAME), result, RESULT_TYPE)
            if await self._is_finished(session_id, RESULT, RESULT_NAME, size, due_at=row.next_at):
                log.info("session %s is in %s", session_id, self._objects.url)

    async def _has_moved_audio(self, session_id: str) -> bool:
        """Have the audio of a session put there, if any is kept; return whether it is there."""
        found = await self._database.call(self._rows.find, session_id, AUDIO)
        if found is not None and found.state != WAITING:
            return found.state == STORED
        kept = await asyncio.to_thread(self._journal.kept_audio, session_id)
        if kept is None:
            if found is not None:  # it was erased after another run had begun
                await self._database.call(self._rows.abandon_audio, session_id)
            return False
        place = Path(await asyncio.to_thread(tempfile.mkdtemp, dir=self._journal.folder, prefix=WORK))
        try:
            path, media_type = await self._made(session_id, kept, place)
            name = f"audio.{EXTENSIONS.get(media_type, 'bin')}"
            if not await self._database.call(self._rows.begin, session_id, AUDIO, name, media_type):
                return False
            # Looked at again: who erases it from here on finds what was begun.
            if await asyncio.to_thread(self._journal.kept_audio, session_id) is None:
                await self._database.call(self._rows.abandon_audio, session_id)
                return False
            size = await self._objects.put(key_of(session_id, name), path, media_type)
            return await self._is_finished(session_id, AUDIO, name, size, due_at=0.0)
        except OSError as error:
            raise storage_error(error) from error
        finally:
            await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)

    async def _move_messages(self, session_id: str) -> None:
        """Have the messages of a session put there, as far as they are to go, and erased here."""
        said = await asyncio.to_thread(self._journal.movable_messages, session_id)
        if not said:
            return
        call, key = self._database.call, key_of(session_id, MESSAGES_NAME)
        found = await call(self._rows.find, session_id, MESSAGES)
        if found is None or found.state == WAITING:
            if not await call(self._rows.begin, session_id, MESSAGES, MESSAGES_NAME, MESSAGES_TYPE):
                return
            lines = b"".join(b"%b\n" % message for message in said)
            size = await self._objects.put(key, lines, MESSAGES_TYPE)
            if not await self._is_finished(session_id, MESSAGES, MESSAGES_NAME, size, due_at=0.0):
                return
        elif found.state != STORED:
            return
        there = await asyncio.to_thread(self._objects.content, key)
        await asyncio.to_thread(self._journal.erase_messages, session_id, there.count(b"\n"))

    async def _made(self, session_id: str, kept: KeptAudio, place: Path) -> tuple[Path, str]:
        """Return a file of what is to be put there, made in `place` where it has to be, and what it is."""
        if kept.is_compressed and kept.path is not None:
            return kept.path, FLAC
        await asyncio.to_thread(check_room, place, 2 * kept.size_bytes)
        source = kept.path
        if source is None:
            source = place / AUDIO_FILE
            await self._write(session_id, source, kept.size_bytes)
        audio = format_in(await asyncio.to_thread(self._journal.about, session_id))
        if audio is not None and fits_flac(audio, kept.size_bytes):
            target = place / "audio.flac"
            await asyncio.to_thread(write_flac, source, target, audio, self._ending.wait)
            return target, FLAC
        played = await asyncio.to_thread(playable, self._journal, session_id)
        if played is None:
            return source, UNKNOWN
        if not played.header:
            return source, played.media_type
        target = place / "audio.wav"
        await asyncio.to_thread(_with_header, played.header, source, target)
        return target, played.media_type

    async def _write(self, session_id: str, path: Path, size_bytes: int) -> None:
        """Write the audio of a session into a file. Raises StorageError where it is not all there."""
        written = 0
        with await asyncio.to_thread(path.open, "wb") as file:
            async for piece in self._journal.read_audio(session_id, 0, size_bytes):
                written += await asyncio.to_thread(file.write, piece)
        if written != size_bytes:  # another server has moved it meanwhile, or it was erased
            raise StorageError(f"The audio of session {session_id} cannot be read to its end.")

    async def _is_finished(
        self, session_id: str, kind: str, name: str, size_bytes: int, *, due_at: float
    ) -> bool:
        """Note that an object is there; return False, and leave nothing there, where it was erased meanwhile.

        Where another server has it by now, or it is to be put there anew, it is as that one leaves it.
        """
        call = self._database.call
        if await call(self._rows.finish, session_id, kind, size_bytes, due_at=due_at):
            return True
        row = await call(self._rows.find, session_id, kind)
        if row is None:
            await self._objects.erase(key_of(session_id, name))
        elif kind == RESULT and row.state == STORED:  # by another server, and what was put now may be older
            await call(self._rows.renew, session_id)
        return False

    # Erasing ------------------------------------------------------------------------------------------

    async def erase_all(self) -> None:
        """Erase there what was erased here. Raises StorageError where store or database refuse."""
        try:
            while doomed := await self._database.call(self._rows.doomed, self._clock(), limit=PAGE):
                others = [row for row in doomed if row.session_id != self._moving]
                for row in others:
                    await self._erase(row)
                if len(others) < len(doomed):
                    break
        finally:
            for state, number in (await self._database.call(self._rows.count)).items():
                self._count(state, number)

    async def erase(self, session_id: str) -> bool:
        """Erase there at once what was erased here of a session; return whether nothing is left of it.

        What is left is erased later. Raises StorageError where the database refuses.
        """
        doomed = await self._database.call(self._rows.doomed, 0.0, limit=PAGE, session_id=session_id)
        try:
            async with asyncio.timeout(PATIENCE):
                for row in doomed:
                    if row.session_id != self._moving:
                        await self._erase(row)
        except TimeoutError:
            log.error("session %s is erased, but not in the object store yet: it hangs", session_id)
        except StorageError as error:
            if error.code != CODE:
                raise
            log.error("session %s is erased, but not in the object store yet: %s", session_id, error)
        return not await self._database.call(self._rows.has_doomed, session_id)

    async def _erase(self, row: ObjectRow) -> None:
        if row.name is not None:
            try:
                await self._objects.erase(row.key)
            except StorageError:
                next_at = self._clock() + RETRY_AFTER
                await self._database.call(self._rows.put_off, row, next_at=next_at)
                raise
        await self._database.call(self._rows.forget, row)

    async def _forever(self, work: Callable[[], Awaitable[None]], complaint: str) -> None:
        is_told = False
        while True:
            wait = LOOK_INTERVAL
            try:
                await work()
                is_told = False
            except StorageError as error:
                if not is_told:
                    log.error("%s, and will be tried again: %s", complaint, error)
                is_told, wait = True, RETRY_AFTER
            except Exception:  # nobody awaits this task, and the next look may do better
                log.exception("%s, and will be tried again", complaint)
                wait = RETRY_AFTER
            await asyncio.sleep(wait)

    def _clear(self) -> None:
        """Erase what a killed run has left half made."""
        for left in self._journal.folder.glob(f"{WORK}*"):
            shutil.rmtree(left, ignore_errors=True)


def _with_header(header: bytes, source: Path, target: Path) -> None:
    with source.open("rb") as reading, target.open("wb") as writing:
        writing.write(header)
        shutil.copyfileobj(reading, writing)


async def warn_of_others(database: Database, url: str | None) -> None:
    """Say where sessions are in other stores than the one that is named."""
    for store, count in (await database.call(other_stores, database, url)).items():
        log.warning(
            "%d objects are in %s, which storage.objects does not name: until it is named again they are "
            "neither played nor read, and what is erased stays there",
            count,
            store,
        )
