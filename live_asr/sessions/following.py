"""Sessions that go on at other servers, for those who watch them here: what is kept is read as it comes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import orjson

from live_asr.core.errors import LiveAsrError, StorageError
from live_asr.sessions.audience import Audience
from live_asr.storage.database import OVER, Database, StoredSession
from live_asr.storage.journal import Journal

log = logging.getLogger(__name__)

FOLLOW_INTERVAL = 0.5
"""Seconds between two looks at what other servers have kept."""


@dataclass(slots=True)
class _Followed:
    audience: Audience
    names: Mapping[str, str]
    title: str | None


class Following:
    """Audiences of sessions that go on elsewhere; `live` gives those of sessions that do so here."""

    def __init__(self, live: Callable[[str], Audience | None], store: Journal, database: Database) -> None:
        self._live = live
        self._store = store
        self._database = database
        self._followed: dict[str, _Followed] = {}

    def audience_of(self, session_id: str) -> Audience | None:
        """Return who watches a session that is followed; None where it is not."""
        one = self._followed.get(session_id)
        return None if one is None else one.audience

    def follow(self, stored: StoredSession, events: Sequence[bytes]) -> Audience:
        """Read on in a session whose kept events are these so far, unless somebody else came meanwhile.

        Who comes has to watch before the next look, or they are sent away to come again.
        """
        if (known := self.audience_of(stored.id)) is not None:
            return known
        audience = Audience.of_kept(events)
        audience.name(stored.names)
        audience.entitle(stored.title)
        self._followed[stored.id] = _Followed(audience, stored.names, stored.title)
        return audience

    def end(self, session_id: str, error: LiveAsrError | None = None) -> None:
        """End the streams of a session that is followed; who watches comes again. Idempotent."""
        one = self._followed.pop(session_id, None)
        if one is not None:
            one.audience.close(error)

    def close(self) -> None:
        """End all streams. Idempotent."""
        for session_id in list(self._followed):
            self.end(session_id)

    async def run(self) -> None:
        """Work until cancelled, where other servers share the journal."""
        is_told = False
        while self._store.is_shared:
            await asyncio.sleep(FOLLOW_INTERVAL)
            try:
                await self.read_on()
                is_told = False
            except StorageError as error:
                if not is_told:
                    log.error("sessions of other servers cannot be followed: %s", error)
                is_told = True

    async def read_on(self) -> None:
        """Take what other servers have kept by now. Raises StorageError."""
        for session_id, one in list(self._followed.items()):
            if not len(one.audience) or self._live(session_id) is not None:
                self.end(session_id)
        if not self._followed:
            return
        # First what became of them: of one that is over all is kept by then.
        stored = await self._database.call(self._database.sessions_by_id, list(self._followed))
        after = {session_id: one.audience.last_seq for session_id, one in self._followed.items()}
        over = {session_id for session_id, one in stored.items() if one.state in OVER}
        going_on = {session_id: seq for session_id, seq in after.items() if session_id not in over}
        later = await self._database.call(self._store.later_messages, going_on) if going_on else []
        self._keep(later)
        for session_id in after.keys() - over:
            self._take_note(session_id, stored.get(session_id))
        for session_id in over:
            self._keep(await asyncio.to_thread(self._rest, session_id, after[session_id]))
            self._take_note(session_id, stored[session_id])

    def _keep(self, messages: Sequence[tuple[str, bytes]]) -> None:
        for session_id, message in messages:
            if (audience := self.audience_of(session_id)) is not None:
                audience.keep(orjson.loads(message)["seq"], message)

    def _rest(self, session_id: str, after_seq: int) -> list[tuple[str, bytes]]:
        """Return what was kept of a session that is over behind a `seq`, wherever it is by now. Blocks."""
        try:
            return [(session_id, message) for message in list(self._store.messages(session_id))[after_seq:]]
        except KeyError:  # it was erased meanwhile
            return []
        except StorageError as error:  # who watches comes again, and is told
            log.error("the end of session %s cannot be read: %s", session_id, error)
            return []

    def _take_note(self, session_id: str, stored: StoredSession | None) -> None:
        one = self._followed.get(session_id)
        if one is None:
            return
        if stored is None:  # it was erased
            self.end(session_id)
            return
        if stored.names != one.names:
            one.audience.name(stored.names)
        if stored.title != one.title:
            one.audience.entitle(stored.title)
        one.names, one.title = stored.names, stored.title
        if stored.state in OVER:
            fault = stored.error
            self.end(session_id, LiveAsrError(fault["message"], code=fault["code"]) if fault else None)
