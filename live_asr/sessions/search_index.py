"""Has sessions of versions that knew no search found by what was said in them."""

from __future__ import annotations

import asyncio
import logging

from live_asr.core.errors import StorageError
from live_asr.sessions.resume import read_transcript
from live_asr.storage.database import Database
from live_asr.storage.journal import Journal

log = logging.getLogger(__name__)


async def make_findable(store: Journal, database: Database) -> None:
    """Put what was said in old sessions where it is searched, one after the other, beside all else."""
    try:
        while unread := await database.call(database.unread):
            for session_id in unread:
                text = await asyncio.to_thread(_text_of, store, session_id)
                await database.call(database.set_text, session_id, text)
    except (StorageError, OSError) as error:
        log.warning(
            "sessions of older versions are not found by what was said, until the next run: %s", error
        )


def _text_of(store: Journal, session_id: str) -> str:
    try:
        transcript = read_transcript(store, session_id)
    except KeyError:
        return ""  # in another server's folder, or erased meanwhile
    return (transcript.final.text if transcript.final is not None else transcript.text).strip()
