"""Results as people correct them by hand: revision 2, kept in the database beside the record, which stays."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from live_asr.core.editing import Edit, edited
from live_asr.core.messages import Final, decode_server, encode
from live_asr.core.result import Result, live_result
from live_asr.core.types import Turn, samples, seconds
from live_asr.sessions.finalizer import links_of, speaker_dict
from live_asr.sessions.resume import read_transcript
from live_asr.storage.database import OVER, Database, Edition, StoredSession
from live_asr.storage.files import LIVE_TURNS_FILE
from live_asr.storage.journal import Journal


class NotOver(Exception):
    """The session goes on: there is no result yet that could be corrected."""


class Outdated(Exception):
    """Somebody has changed the transcript since the asker read it."""


@dataclass(frozen=True, slots=True)
class Best:
    """The best revision of a session that is over."""

    result: Result
    number: int
    """How often people have changed it; see `Edition`."""

    @property
    def tag(self) -> str:
        """Names this state of the transcript: another one has another tag."""
        return tag_of(self.result.final.revision, self.number)


def tag_of(revision: int, number: int) -> str:
    """Return the name of a state of a transcript."""
    return f"{revision}-{number}"


class Corrections:
    """Change results, and find those that were changed. All raise StorageError when disk or database fail."""

    def __init__(self, store: Journal, database: Database) -> None:
        self._store = store
        self._database = database

    async def correct(self, session_id: str, tag: str, edits: Sequence[Edit]) -> Best:
        """Change the transcript that has this tag; returns what it is then.

        Raises KeyError when there is no such session, NotOver, Outdated, and EditError for a change that
        cannot be made; then nothing is changed.
        """
        best = await self._wanted(session_id, tag)
        result = await asyncio.to_thread(edited, best.result.final, best.result.turns, edits)
        changed = Best(result, best.number + 1)
        edition = Edition(changed.number, await asyncio.to_thread(encode, result.final), _rows(result.turns))
        await self._keep(session_id, edition, result.final)
        return changed

    async def take_back(self, session_id: str, tag: str) -> Best:
        """Take all changes back: the result is again what it was. Raises as `correct` does."""
        best = await self._wanted(session_id, tag)
        stored = await self._stored(session_id)
        result = await asyncio.to_thread(self._original, stored)
        await self._keep(session_id, Edition(best.number + 1, None, None), result.final)
        return Best(result, best.number + 1)

    async def edition(self, session_id: str) -> tuple[int, Result | None]:
        """Return how often people have changed a result, and what they made of it; None where that is what
        it was."""
        edition = await self._database.call(self._database.edition, session_id)
        if edition is None or edition.final is None:
            return (edition.number if edition else 0), None
        final = await asyncio.to_thread(decode_server, edition.final)
        assert isinstance(final, Final)
        return edition.number, Result(final, _turns(edition))

    async def _wanted(self, session_id: str, tag: str) -> Best:
        stored = await self._stored(session_id)
        if stored.state not in OVER:
            raise NotOver
        number, result = await self.edition(session_id)
        if result is None:
            result = await asyncio.to_thread(self._original, stored)
        best = Best(result, number)
        if best.tag != tag:
            raise Outdated
        return best

    async def _keep(self, session_id: str, edition: Edition, final: Final) -> None:
        is_kept = await self._database.call(
            self._database.set_edition,
            session_id,
            edition,
            revision=final.revision,
            speakers=[speaker_dict(speaker) for speaker in final.speakers],
            text=final.text.strip(),
        )
        if not is_kept:
            await self._stored(session_id)  # it may have been erased meanwhile
            raise Outdated

    async def _stored(self, session_id: str) -> StoredSession:
        stored = await self._database.call(self._database.session, session_id)
        if stored is None:
            raise KeyError(session_id)
        return stored

    def _original(self, stored: StoredSession) -> Result:
        """Return what the session came to by itself. Blocks; raises KeyError where that is not there."""
        transcript = read_transcript(self._store, stored.id)
        if transcript.final is not None:
            return Result(transcript.final, self._store.turns(stored.id))
        return live_result(
            transcript,
            links_of(stored.id),
            live_turns=self._store.turns(stored.id, LIVE_TURNS_FILE),
            received_samples=samples(stored.duration or 0.0),
        )


def _rows(turns: Sequence[Turn]) -> list[dict[str, float | str]]:
    return [
        {"start": seconds(turn.start_sample), "end": seconds(turn.end_sample), "speaker": turn.speaker}
        for turn in turns
    ]


def _turns(edition: Edition) -> tuple[Turn, ...]:
    return tuple(
        Turn(samples(row["start"]), samples(row["end"]), row["speaker"]) for row in edition.turns or ()
    )
