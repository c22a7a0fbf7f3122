"""The journal in PostgreSQL: any server on the database takes up any session.

All that waits of all sessions of a server is written in one statement, every `fsync_interval`, and at once
where somebody waits for a message: it checks each session's epoch and position, and adds audio, messages and
state, or nothing of that session. A statement is a transaction, so a server that is frozen holds none open,
and one that lost its connection asks where each session ended and knows whether it was written.

Where there is an object store, the messages of a session that is over go there, and are read from there.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    func,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError

from live_asr.core.errors import ConfigError, StorageError, Superseded
from live_asr.core.types import Turn
from live_asr.storage import object_rows
from live_asr.storage.database import Database, OwnConnection
from live_asr.storage.files import (
    AUDIO_FILE,
    LIVE_TURNS_FILE,
    TURNS_FILE,
    check_room,
    prepare,
    storage_error,
    superseded,
    turns_as_json,
    turns_from_json,
)
from live_asr.storage.gateways import BEAT_INTERVAL, Gateway, guard, is_gone
from live_asr.storage.journal import BEGINNING_BYTES, Ending, KeptAudio, is_session_id
from live_asr.storage.objects import CODE, ObjectStore
from live_asr.storage.records import OVER
from live_asr.storage.spool import Batch, Spool, SpoolWriter
from live_asr.storage.tables import sessions

log = logging.getLogger(__name__)

RECORDING = ".recording-"
"""Before the name of a folder with a session's audio as a file."""
ROWS_AT_ONCE = 64
"""Pieces of audio that are read at once, some hundred kilobytes."""
FIRST_WAIT, LONGEST_WAIT = 0.1, 2.0
"""Seconds between two tries to write where the database is away."""

metadata = MetaData()

journal = Table(
    "journal_sessions",
    metadata,
    Column("session_id", Text, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("gateway", Text),  # who writes it; void where that one is gone
    Column("about", LargeBinary, nullable=False),  # JSON, here and below
    Column("audio_bytes", BigInteger, nullable=False),
    Column("message_count", Integer, nullable=False),
    Column("state", LargeBinary),
    Column("turns", LargeBinary),
    Column("live_turns", LargeBinary),
    Column("condemned", Boolean, nullable=False),
    postgresql_with={"fillfactor": 50},  # updated with every batch, within its page
)
audio = Table(
    "journal_audio",
    metadata,
    Column("session_id", Text, primary_key=True),
    Column("end_bytes", BigInteger, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)
messages = Table(
    "journal_messages",
    metadata,
    Column("session_id", Text, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)
TURNS = {TURNS_FILE: journal.c.turns, LIVE_TURNS_FILE: journal.c.live_turns}

WRITE = """
WITH given AS (
    SELECT * FROM unnest(
        %s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %b::bytea[]
    ) AS given(session_id, epoch, audio_before, audio_after, count_before, count_after, state)
), mine AS (
    UPDATE journal_sessions AS held
    SET audio_bytes = given.audio_after, message_count = given.count_after,
        state = coalesce(given.state, held.state)
    FROM given
    WHERE held.session_id = given.session_id AND held.epoch = given.epoch AND NOT held.condemned
        AND held.audio_bytes = given.audio_before AND held.message_count = given.count_before
    RETURNING held.session_id, held.epoch
), sound AS (
    INSERT INTO journal_audio (session_id, end_bytes, data)
    SELECT session_id, end_bytes, data
    FROM unnest(%s::text[], %s::bigint[], %s::bigint[], %b::bytea[])
        AS piece(session_id, epoch, end_bytes, data)
    JOIN mine USING (session_id, epoch)
), said AS (
    INSERT INTO journal_messages (session_id, seq, data)
    SELECT session_id, seq, data
    FROM unnest(%s::text[], %s::bigint[], %s::bigint[], %b::bytea[]) AS one(session_id, epoch, seq, data)
    JOIN mine USING (session_id, epoch)
)
SELECT session_id, epoch FROM mine
"""
"""Of one session there may be two writers here: one that has been taken over and does not know it yet."""
LOOK = """
SELECT session_id, epoch, audio_bytes, message_count FROM journal_sessions
WHERE session_id = ANY(%s) AND NOT condemned
"""
LATER = """
SELECT one.session_id, one.data
FROM unnest(CAST(:ids AS text[]), CAST(:seqs AS integer[])) AS known(session_id, seq)
JOIN journal_messages AS one ON one.session_id = known.session_id AND one.seq > known.seq
ORDER BY one.session_id, one.seq
"""


class PostgresJournal:
    """All sessions of one database, for this server among others; see `Journal`.

    `folder` is where this server puts files that are to be worked on, `objects` where messages of sessions
    are that are over. Raises ConfigError for a database that is not PostgreSQL.
    """

    is_shared = True

    def __init__(
        self,
        database: Database,
        folder: Path,
        *,
        interval: float = 0.2,
        gateway: Gateway | None = None,
        objects: ObjectStore | None = None,
    ) -> None:
        if not database.can_be_shared:
            raise ConfigError(
                "The journal can only be kept in PostgreSQL.",
                "Write storage.journal as postgresql+psycopg://user:password@host/name, or leave it unset.",
            )
        self.folder = folder
        self.gateway = gateway or Gateway()
        self._database = database
        self._objects = objects
        self._writer = SpoolWriter(self._write_all, interval)
        self._thread = ThreadPoolExecutor(1, "journal")
        self._connection: OwnConnection | None = None
        """Of the thread alone."""
        self._beating: asyncio.Task[None] | None = None
        self._saying = Lock()
        """Held while it is said that this server is there, or ends: the first never comes after the other."""
        self._closing = False

    async def start(self) -> None:
        """Begin to write; the database is prepared. Raises StorageError."""
        await asyncio.to_thread(prepare, self.folder)
        await asyncio.to_thread(self._clear)
        self._database.share(self.gateway)
        await self._database.call(self._beat)
        self._writer.start()
        self._beating = asyncio.create_task(self._beat_forever(), name="gateway")

    async def close(self) -> None:
        """Write what waits, once where the database is away, and let others have the sessions. Idempotent."""
        self._closing = True
        await self._writer.close()
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
            self._beating = None
            try:
                await self._database.call(self._leave)
            except StorageError as error:  # they wait for the lease to be over
                log.warning("other servers cannot be told that this one ends: %s", error)
        self._thread.shutdown()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # Being one of several -----------------------------------------------------------------------------

    async def _beat_forever(self) -> None:
        """Say that this server is there, and let go of what others have taken over meanwhile."""
        is_told = False
        while True:
            await asyncio.sleep(BEAT_INTERVAL)
            try:
                await self._database.call(self._beat)
                await self.let_go_of_lost()
                is_told = False
            except StorageError as error:
                if not is_told:
                    log.error("this server cannot say that it is there: %s", error)
                is_told = True
            except Exception:  # nobody awaits this task, and without it others take all sessions over
                log.exception("this server cannot say that it is there")

    def _beat(self) -> None:
        with self._saying, self._database.transaction(writes=True) as connection:
            self.gateway.beat(connection)

    def _leave(self) -> None:
        with self._saying, self._database.transaction(writes=True) as connection:
            self.gateway.leave(connection)

    async def let_go_of_lost(self) -> None:
        """Have the writers of this server let go whose sessions others have taken over, or erased."""
        spools = self._writer.spools
        if spools:
            epochs = await self._database.call(self._epochs, [spool.session_id for spool in spools])
            for spool in spools:
                if epochs.get(spool.session_id) != spool.epoch:
                    spool.mark_failed(superseded())

    def _epochs(self, session_ids: Sequence[str]) -> dict[str, int]:
        wanted = select(journal.c.session_id, journal.c.epoch).where(
            journal.c.session_id.in_(session_ids), ~journal.c.condemned
        )
        with self._database.transaction(writes=False) as connection:
            return {row[0]: row[1] for row in connection.execute(wanted)}

    def claim(self, limit: int) -> list[str]:
        """Return sessions to go on with that are not over and whose server is gone, the oldest first. Blocks.

        They are this server's from here on. There are none while this server has not been there for long
        enough itself.
        """
        if not self.gateway.may_claim:
            return []
        left = (
            select(journal.c.session_id)
            .join(sessions, sessions.c.id == journal.c.session_id)
            .where(~journal.c.condemned, sessions.c.state.not_in(OVER))
            .where(journal.c.gateway.is_distinct_from(self.gateway.id), is_gone(journal.c.gateway))
            .order_by(sessions.c.created_at)
            .limit(limit)
            .with_for_update(of=journal, skip_locked=True)
        )
        with self._database.transaction(writes=True) as connection:
            found = list(connection.scalars(left))
            connection.execute(
                journal.update().where(journal.c.session_id.in_(found)).values(gateway=self.gateway.id)
            )
        return found

    def _check(self, connection: Connection, spool: Spool) -> None:
        """Raise Superseded where another writer has a session by now.

        Else none comes before the transaction ends.
        """
        guard(connection)
        held = select(journal.c.epoch).where(_is(spool.session_id)).with_for_update()
        if connection.scalar(held) != spool.epoch:
            raise superseded()

    # One writer of a session --------------------------------------------------------------------------

    async def open(self, session_id: str, about: dict[str, Any]) -> Spool:
        """Begin a new session, in its epoch 1. Raises StorageError."""
        row = {
            "session_id": session_id,
            "epoch": 1,
            "gateway": self.gateway.id,
            "about": orjson.dumps(about),
            "audio_bytes": 0,
            "message_count": 0,
            "condemned": False,
        }

        def insert() -> None:
            with self._database.transaction(writes=True) as connection:
                connection.execute(journal.insert().values(row))

        await self._database.call(insert)
        return self._spool(session_id, 1)

    async def reopen(self, session_id: str) -> Spool:
        """Take a session over from whoever has it. Raises KeyError and StorageError."""
        if not is_session_id(session_id):
            raise KeyError(session_id)
        taking = (
            journal.update()
            .where(_is(session_id))
            .values(epoch=journal.c.epoch + 1, gateway=self.gateway.id)
            .returning(journal.c.epoch, journal.c.audio_bytes, journal.c.message_count)
        )

        def take() -> tuple[int, int, int] | None:
            with self._database.transaction(writes=True) as connection:
                row = connection.execute(taking).first()
            return None if row is None else (row[0], row[1], row[2])

        taken = await self._database.call(take)
        if taken is None:
            raise KeyError(session_id)
        epoch, audio_bytes, message_count = taken
        spool = self._spool(session_id, epoch)
        spool.begin_with(audio_bytes, message_count)
        return spool

    def _spool(self, session_id: str, epoch: int) -> Spool:
        read = partial(self.read_audio, session_id)
        spool = Spool(session_id, self.folder / session_id, epoch, read, self._writer.hurry)
        self._writer.add(spool)
        return spool

    def keep_whole(
        self, session_id: str, about: dict[str, Any], kept: Sequence[bytes], turns: Iterable[Turn]
    ) -> Callable[[Connection], None]:
        """Return what keeps a session that comes about at once, in the transaction of its end."""
        row = {
            "session_id": session_id,
            "epoch": 1,
            "about": orjson.dumps(about),
            "audio_bytes": 0,
            "message_count": len(kept),
            "turns": turns_as_json(turns),
            "condemned": False,
        }
        rows = [
            {"session_id": session_id, "seq": seq, "data": message} for seq, message in enumerate(kept, 1)
        ]

        def insert(connection: Connection) -> None:
            for table in (journal, messages):  # of one that is being erased, which nobody can read any more
                connection.execute(table.delete().where(table.c.session_id == session_id))
            connection.execute(journal.insert().values(row))
            connection.execute(messages.insert(), rows)

        return insert

    async def finish(self, spool: Spool, *, keep_audio: bool) -> None:
        """Write the rest of a session that is over, and erase its audio unless that is kept. Idempotent."""
        try:
            await self._writer.sync()
        finally:
            self._writer.discard(spool)

        def erase() -> None:
            with self._database.transaction(writes=True) as connection:
                self._check(connection, spool)
                connection.execute(audio.delete().where(audio.c.session_id == spool.session_id))

        if not keep_audio:
            try:
                await self._database.call(erase)
            except Superseded:
                return  # it is no business of this writer any more
            except StorageError as error:
                log.warning("the audio of session %s could not be erased: %s", spool.session_id, error)

    @staticmethod
    def _waits() -> Iterator[float]:
        """Yield for how many seconds to wait for a database that is away, before each try but the first."""
        wait = FIRST_WAIT
        while True:
            yield wait
            wait = min(2 * wait, LONGEST_WAIT)

    async def conclude(self, spool: Spool, ending: Ending | None) -> Callable[[Connection], None]:
        """Return what keeps a session's ending within the transaction that says that it is done.

        All of it is kept, or nothing. Raises StorageError where something was refused that was said before.
        """
        if ending is not None:
            await spool.kept(spool.appended_count)
        return partial(self._write_ending, spool, ending)

    def _write_ending(self, spool: Spool, ending: Ending | None, connection: Connection) -> None:
        self._check(connection, spool)
        if ending is None:
            return
        if ending.final is not None:
            count = spool.kept_count
            added = journal.update().where(_is(spool.session_id), journal.c.message_count == count)
            values = {"message_count": count + 1, "turns": turns_as_json(ending.turns)}
            if connection.execute(added.values(values)).rowcount:  # else by a try whose answer was lost
                row = {"session_id": spool.session_id, "seq": count + 1, "data": ending.final}
                connection.execute(messages.insert().values(row))
        if not ending.keep_audio:
            try:
                with connection.begin_nested():
                    connection.execute(audio.delete().where(audio.c.session_id == spool.session_id))
            except DBAPIError as error:  # hours of it may take too long, and keep no session from its end
                log.warning("the audio of session %s could not be erased: %s", spool.session_id, error)

    async def compress(self, spool: Spool) -> None:
        """Do nothing: what the database keeps is kept as it came."""

    async def _write_all(self, spools: Sequence[Spool]) -> None:
        taken = [(spool, spool.take()) for spool in spools]
        loop = asyncio.get_running_loop()
        for number, wait in enumerate(self._waits()):
            try:
                kept = await loop.run_in_executor(self._thread, self._write, taken)
                break
            except Exception as error:
                if not isinstance(error, StorageError) or self._closing:  # else it will do better in a moment
                    log.error("sessions cannot be written", exc_info=error)
                    for spool, _ in taken:
                        spool.mark_failed(error if isinstance(error, StorageError) else storage_error(error))
                    return
                if number == 0:
                    log.error("nothing is acknowledged until the database is back: %s", error)
                await asyncio.sleep(wait)
        for spool, batch in taken:
            try:
                if (spool.session_id, spool.epoch) in kept:
                    spool.mark_safe(batch.position_bytes, batch.count)
                else:
                    spool.mark_failed(superseded())
            except Exception:
                log.exception("a session could not be told of what is kept")

    def _write(self, taken: Sequence[tuple[Spool, Batch]]) -> set[tuple[str, int]]:
        """Write what was taken of each session; return those of which it is kept, by id and epoch. Blocks.

        All others have another writer. What an earlier try has written is not written again. Raises
        StorageError.
        """
        if self._connection is None:
            self._connection = self._database.own_connection()
        try:
            kept = {(row[0], row[1]) for row in self._connection.execute(WRITE, _parameters(taken))}
            left = [(spool, batch) for spool, batch in taken if (spool.session_id, spool.epoch) not in kept]
            if left:
                rows = self._connection.execute(LOOK, [[spool.session_id for spool, _ in left]])
                found = {row[0]: tuple(row[1:]) for row in rows}
                kept |= {
                    (spool.session_id, spool.epoch)
                    for spool, batch in left
                    if found.get(spool.session_id) == (spool.epoch, batch.position_bytes, batch.count)
                }
            return kept
        except Exception:
            connection, self._connection = self._connection, None
            connection.close()
            raise

    # What is kept -------------------------------------------------------------------------------------

    def messages(self, session_id: str) -> Iterator[bytes]:
        """Yield the kept messages of a session, oldest first. Blocks. Raises KeyError and StorageError."""
        count = self._value(session_id, journal.c.message_count)
        here = self._messages_here(session_id)
        if len(here) < count:  # those that were erased here were there before
            there = self._moved_messages(session_id)
            yield from there
            here = [(seq, message) for seq, message in here if seq > len(there)]
        for _, message in here:
            yield message

    def _messages_here(self, session_id: str) -> list[tuple[int, bytes]]:
        """Return the messages of a session that are in the database, each with its `seq`."""
        wanted = select(messages.c.seq, messages.c.data).where(messages.c.session_id == session_id)
        with self._database.transaction(writes=False) as connection:
            return [(row[0], bytes(row[1])) for row in connection.execute(wanted.order_by(messages.c.seq))]

    def _moved_messages(self, session_id: str) -> list[bytes]:
        """Return the messages of a session that are in the object store."""
        place = object_rows.stored(self._database, session_id, object_rows.MESSAGES)
        if place is None:
            self._value(session_id, journal.c.epoch)  # it may have been erased meanwhile
            raise StorageError(
                f"What was said in session {session_id} is not in the database.",
                "Restore the database, or delete the session.",
            )
        store, key = place
        if self._objects is None or self._objects.url != store:
            raise StorageError(
                f"What was said in session {session_id} is in {store}, which storage.objects does not name.",
                "Name it again, and restart the server.",
                code=CODE,
            )
        return self._objects.content(key).splitlines()

    def movable_messages(self, session_id: str) -> list[bytes]:
        """Return the messages of a session that are in the database. Blocks. Raises StorageError."""
        return [message for _, message in self._messages_here(session_id)]

    def erase_messages(self, session_id: str, count: int) -> None:
        """Erase so many messages of a session, the oldest. Blocks. Raises StorageError."""
        its = messages.delete().where(messages.c.session_id == session_id, messages.c.seq <= count)
        with self._database.transaction(writes=True) as connection:
            connection.execute(its)

    def later_messages(self, after: Mapping[str, int]) -> list[tuple[str, bytes]]:
        """Return what was kept of sessions behind a `seq` of each. Blocks. Raises StorageError."""
        given = {"ids": list(after), "seqs": list(after.values())}
        with self._database.transaction(writes=False) as connection:
            return [(row[0], bytes(row[1])) for row in connection.execute(text(LATER), given)]

    def about(self, session_id: str) -> dict[str, Any]:
        """Return what is remembered of a session. Blocks. Raises KeyError and StorageError."""
        return _object(self._value(session_id, journal.c.about))

    def state(self, session_id: str) -> dict[str, Any]:
        """Return what was last put down beside the messages. Blocks. Raises KeyError and StorageError."""
        return _object(self._value(session_id, journal.c.state))

    def write_turns(self, spool: Spool, turns: Iterable[Turn], file: str = TURNS_FILE) -> None:
        """Keep who spoke when, once the database is there. Blocks.

        Raises Superseded, and StorageError where the server ends before.
        """
        values = {TURNS[file].name: turns_as_json(turns)}
        for wait in self._waits():
            try:
                with self._database.transaction(writes=True) as connection:
                    self._check(connection, spool)
                    connection.execute(journal.update().where(_is(spool.session_id)).values(values))
                return
            except StorageError as error:
                if isinstance(error, Superseded) or self._closing:
                    raise
            time.sleep(wait)

    def turns(self, session_id: str, file: str = TURNS_FILE) -> tuple[Turn, ...]:
        """Return who spoke when; nothing where that is not kept. Blocks. Raises KeyError and StorageError."""
        kept = self._value(session_id, TURNS[file])
        return () if kept is None else turns_from_json(kept)

    def kept_audio(self, session_id: str) -> KeptAudio | None:
        """Return the audio that is kept of a session that is over; None where none is. Blocks."""
        pieces = audio.c.session_id == session_id
        first = (
            select(func.substr(audio.c.data, 1, BEGINNING_BYTES)).where(pieces).order_by(audio.c.end_bytes)
        )
        with self._database.transaction(writes=False) as connection:
            size_bytes = connection.scalar(select(func.max(audio.c.end_bytes)).where(pieces))
            beginning = connection.scalar(first.limit(1))
        return None if size_bytes is None else KeptAudio(size_bytes, bytes(beginning or b""), None)

    async def read_audio(self, session_id: str, start_bytes: int, end_bytes: int) -> AsyncIterator[bytes]:
        """Yield the audio of a session between two positions, in pieces, once the database is there.

        Raises StorageError where the server ends before.
        """
        waits = self._waits()
        while start_bytes < end_bytes:
            try:
                rows = await self._database.call(self._pieces, session_id, start_bytes)
            except StorageError:
                if self._closing:
                    raise
                await asyncio.sleep(next(waits))
                continue
            if not rows:
                return
            for piece_end, data in rows:
                piece_start = piece_end - len(data)
                yield data[max(0, start_bytes - piece_start) : end_bytes - piece_start]
                start_bytes = piece_end
                if start_bytes >= end_bytes:
                    return

    def _pieces(self, session_id: str, start_bytes: int) -> list[tuple[int, bytes]]:
        wanted = (
            select(audio.c.end_bytes, audio.c.data)
            .where(audio.c.session_id == session_id, audio.c.end_bytes > start_bytes)
            .order_by(audio.c.end_bytes)
            .limit(ROWS_AT_ONCE)
        )
        with self._database.transaction(writes=False) as connection:
            return [(row[0], bytes(row[1])) for row in connection.execute(wanted)]

    @asynccontextmanager
    async def recording(self, spool: Spool) -> AsyncIterator[Path]:
        """Give a file with all of a session's audio, in a folder to work in, for as long as the block lasts.

        Raises DiskFull and StorageError.
        """
        size_bytes = spool.safe_bytes
        place = Path(await asyncio.to_thread(tempfile.mkdtemp, dir=self.folder, prefix=RECORDING))
        try:
            path = place / AUDIO_FILE
            await asyncio.to_thread(check_room, place, size_bytes)
            with await asyncio.to_thread(path.open, "wb") as file:
                async for piece in self.read_audio(spool.session_id, 0, size_bytes):
                    await asyncio.to_thread(file.write, piece)
            yield path
        except OSError as error:
            raise storage_error(error) from error
        finally:
            await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)

    def _clear(self) -> None:
        """Erase recordings that a killed run has left."""
        for left in self.folder.glob(f"{RECORDING}*"):
            shutil.rmtree(left, ignore_errors=True)

    def erase_audio(self, session_id: str) -> bool:
        """Erase the audio of a session that is over; return whether there was any. Blocks."""
        with self._database.transaction(writes=True) as connection:
            return connection.execute(audio.delete().where(audio.c.session_id == session_id)).rowcount > 0

    def mark_deleted(self, session_id: str) -> bool:
        """Take a session out of sight, to be erased, and let no writer add to it. Blocks."""
        if not is_session_id(session_id):
            return False
        with self._database.transaction(writes=True) as connection:
            marked = journal.update().where(_is(session_id)).values(condemned=True, epoch=journal.c.epoch + 1)
            return connection.execute(marked).rowcount > 0

    def condemned(self) -> list[str]:
        """Return the sessions that are to be erased and are not yet. Blocks."""
        with self._database.transaction(writes=False) as connection:
            return list(connection.scalars(select(journal.c.session_id).where(journal.c.condemned)))

    def erase(self, session_id: str) -> None:
        """Erase all that is kept of a condemned session, if anything is. Blocks."""
        with self._database.transaction(writes=True) as connection:
            gone = journal.delete().where(journal.c.session_id == session_id, journal.c.condemned)
            if connection.execute(gone).rowcount:
                for table in (audio, messages):
                    connection.execute(table.delete().where(table.c.session_id == session_id))

    def free_bytes(self) -> int:
        """Return the free space below the folder. Blocks. Raises StorageError."""
        try:
            return shutil.disk_usage(self.folder).free
        except OSError as error:
            raise storage_error(error) from error

    def _value(self, session_id: str, column: Column[Any]) -> Any:
        """Return a column of a session. Raises KeyError."""
        if is_session_id(session_id):
            with self._database.transaction(writes=False) as connection:
                row = connection.execute(select(column).where(_is(session_id))).first()
            if row is not None:
                return row[0]
        raise KeyError(session_id)


def _is(session_id: str) -> Any:
    return (journal.c.session_id == session_id) & ~journal.c.condemned


def _object(kept: bytes | None) -> dict[str, Any]:
    with suppress(ValueError, TypeError):
        value = orjson.loads(kept or b"{}")
        if isinstance(value, dict):
            return value
    return {}


def _parameters(taken: Sequence[tuple[Spool, Batch]]) -> list[Any]:
    """Return what `WRITE` is given: arrays, one for each column."""
    pieces = [(spool, batch) for spool, batch in taken if batch.audio]
    said = [
        (spool.session_id, spool.epoch, spool.kept_count + number, message)
        for spool, batch in taken
        for number, message in enumerate(batch.messages, 1)
    ]
    return [
        [spool.session_id for spool, _ in taken],
        [spool.epoch for spool, _ in taken],
        [spool.safe_bytes for spool, _ in taken],
        [batch.position_bytes for _, batch in taken],
        [spool.kept_count for spool, _ in taken],
        [batch.count for _, batch in taken],
        [batch.state for _, batch in taken],
        [spool.session_id for spool, _ in pieces],
        [spool.epoch for spool, _ in pieces],
        [batch.position_bytes for _, batch in pieces],
        [batch.audio for _, batch in pieces],
        [session_id for session_id, _, _, _ in said],
        [epoch for _, epoch, _, _ in said],
        [seq for _, _, seq, _ in said],
        [message for _, _, _, message in said],
    ]
