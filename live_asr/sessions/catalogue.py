"""What is known of sessions, live ones and those that are over: for whoever asks over HTTP."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from live_asr.core.checkpoint import Checkpoint
from live_asr.core.export import Record
from live_asr.core.messages import Progress
from live_asr.core.transcript import Transcript
from live_asr.core.types import Turn, samples
from live_asr.sessions.corrections import Corrections, tag_of
from live_asr.sessions.finalizer import Finalizer
from live_asr.sessions.registry import SessionRegistry
from live_asr.sessions.resume import is_token, read_transcript
from live_asr.storage import ownership
from live_asr.storage.database import OVER, Database, Delivery, StoredSession
from live_asr.storage.files import LIVE_TURNS_FILE
from live_asr.storage.journal import Journal


@dataclass(frozen=True, slots=True)
class Status:
    """A session as it is now."""

    stored: StoredSession
    state: str
    """`open`, `streaming`, `draining`, `finalizing`, `done` or `failed`."""
    duration: float | None
    """Seconds of audio so far; None where that is not known."""
    language: str | None
    progress: Progress | None = None
    """How far its full pass is; None where none is under way."""
    delivery: Delivery | None = None
    """The webhook that tells of its end; None where there is none, or not yet."""
    excerpt: str | None = None
    """A little of what was said, in a list; None where nothing is known of that."""


class NoRevision(Exception):
    """There is no such revision of a session's transcript; `best` is the best one."""

    def __init__(self, best: int) -> None:
        super().__init__(best)
        self.best = best


class Catalogue:
    """Find sessions again. All raise StorageError when the database fails.

    Transcripts are read by `call`, in threads that it has.
    """

    def __init__(
        self,
        registry: SessionRegistry,
        finalizer: Finalizer,
        store: Journal,
        database: Database,
        *,
        call: Callable[..., Awaitable[Any]] = asyncio.to_thread,
    ) -> None:
        self._registry = registry
        self._finalizer = finalizer
        self._store = store
        self._database = database
        self._call = call
        self.corrections = Corrections(store, database)
        """Changes results by hand."""

    async def page(
        self, limit: int, before: str | None, words: Sequence[str] = (), owner: str | None = None
    ) -> tuple[list[Status], str | None]:
        """Return the newest sessions opened before the one with the id `before`, newest first.

        Where `words` are given, only those sessions that have all of them in title, names or text. With them
        comes the id to go on from; None where these were the last ones. `owner` is as in `Database.sessions`.
        """
        call, database = self._database.call, self._database
        found = await call(database.sessions, limit=limit + 1, before=before, words=words, owner=owner)
        shown = found[:limit]
        ids = [stored.id for stored in shown]
        excerpts = await call(database.excerpts, ids, words[0] if words else None)
        listed = [replace(self._status(stored), excerpt=excerpts.get(stored.id)) for stored in shown]
        return listed, ids[-1] if len(found) > limit else None

    async def status(self, session_id: str) -> Status:
        """Return all that is known of one session but its words. Raises KeyError when there is none."""
        stored = await self._stored(session_id)
        deliveries = await self._database.call(self._database.deliveries, session_id=session_id, limit=1)
        return self._status(stored, next(iter(deliveries), None))

    async def owner(self, session_id: str) -> str | None:
        """Return the token that opened a session, None where it was nobody's. Raises KeyError."""
        return await self._database.call(ownership.owner_of, self._database, session_id)

    async def set_names(self, session_id: str, names: Mapping[str, str]) -> None:
        """Replace the names of a session's speakers. Raises KeyError when there is no such session."""
        await self._stored(session_id)
        await self._database.call(self._database.set_names, session_id, names)

    async def set_title(self, session_id: str, title: str | None) -> None:
        """Have a session called so, None for nothing. Raises KeyError when there is no such session."""
        await self._stored(session_id)
        await self._database.call(self._database.set_title, session_id, title)

    async def has_key(self, session_id: str, key: str) -> bool:
        """Tell whether a key is that of a session: the `token` that its client got.

        Raises KeyError when there is no such session.
        """
        about = await asyncio.to_thread(self._store.about, session_id)
        return is_token(key, about.get("token"))

    async def tagged_record(self, session_id: str, revision: int | None = None) -> tuple[Record, str]:
        """Return the transcript of a session as `record` does, and the name of the state that it is in."""
        number, edition = await self.corrections.edition(session_id)
        if edition is not None and revision in (None, edition.final.revision):
            stored = await self._stored(session_id)
            record = Record.of_final(session_id, edition.final, turns=edition.turns, names=stored.names)
        else:
            record = await self.record(session_id, live_revision=revision == 0)
            if revision not in (None, record.revision):
                raise NoRevision(edition.final.revision if edition is not None else record.revision)
        return record, tag_of(record.revision, number)

    async def tag(self, session_id: str) -> str | None:
        """Return the name of the state that a session's best transcript is in, with the names in it.

        None while it may change without that. Raises KeyError when there is no such session.
        """
        stored = await self._stored(session_id)
        if stored.state not in OVER:
            return None
        edition = await self._database.call(self._database.edition, session_id)
        revision = stored.revision
        tag = tag_of(revision, edition.number if edition is not None else 0)
        named = repr((sorted(stored.names.items()), stored.title))
        digest = hashlib.sha256(named.encode()).hexdigest()[:8]
        return f"{tag}-{digest}" if stored.names or stored.title else tag

    async def record(self, session_id: str, *, live_revision: bool = False) -> Record:
        """Return the transcript of a session, live or over, as far as it is known, without corrections.

        Raises KeyError when there is no such session.
        """
        stored = await self._database.call(self._database.session, session_id)
        names = stored.names if stored is not None else {}
        runner = self._registry.runner_of(session_id)
        if runner is not None and runner.session.transcript.final is None:
            # Of a long session there is much to go through; what goes on meanwhile must not wait for it.
            live: Record = await self._call(
                _live_record,
                session_id,
                runner.session.transcript.copy(),
                runner.session.turns_so_far(),
                names=names,
                received_samples=runner.session.received_sample,
                started_at=runner.session.started_at,
            )
            return live

        def read() -> Record:
            transcript: Transcript = read_transcript(self._store, session_id)
            return Record.of(
                session_id,
                transcript,
                live=live_revision,
                turns=self._store.turns(session_id),
                live_turns=self._store.turns(session_id, LIVE_TURNS_FILE),
                names=names,
                received_samples=samples((stored.duration if stored is not None else None) or 0.0),
                started_at=Checkpoint.from_dict(self._store.state(session_id)).started_at,
            )

        found: Record = await self._call(read)
        return found

    async def _stored(self, session_id: str) -> StoredSession:
        stored = await self._database.call(self._database.session, session_id)
        if stored is None:
            raise KeyError(session_id)
        return stored

    def _status(self, stored: StoredSession, delivery: Delivery | None = None) -> Status:
        runner = self._registry.runner_of(stored.id)
        progress = self._finalizer.progress(stored.id)
        if runner is None:
            return Status(stored, stored.state, stored.duration, stored.language, progress, delivery)
        session = runner.session
        return Status(
            stored,
            session.state.value,
            session.lag().received,
            stored.language or session.transcript.language,
            progress,
            delivery,
        )


def _live_record(
    session_id: str,
    transcript: Transcript,
    turns: Callable[[], tuple[Turn, ...]],
    *,
    names: Mapping[str, str],
    received_samples: int,
    started_at: str | None,
) -> Record:
    return Record.of(
        session_id,
        transcript,
        live_turns=turns(),
        names=names,
        received_samples=received_samples,
        started_at=started_at,
    )
