"""What a server keeps of its sessions, wherever that is: in files, or in a database for several servers.

A session has one writer at a time. Who takes it over raises its **epoch**, and from then on everything that
a writer of an older epoch brings is refused with Superseded, whatever became of it meanwhile: it lets go.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Connection

from live_asr.core.types import Turn
from live_asr.storage.files import TURNS_FILE
from live_asr.storage.spool import Spool

MAX_ID = 64
"""Session ids are shorter; a longer name is nobody's, and too long for a file system."""
BEGINNING_BYTES = 16
"""Of audio, what tells which container it is."""


@dataclass(frozen=True, slots=True)
class KeptAudio:
    """The audio that is kept of a session that is over, as its client sent it or compressed."""

    size_bytes: int
    beginning: bytes
    """Its first bytes."""
    path: Path | None
    """Where it is a file."""
    is_compressed: bool = False
    """Whether it is FLAC, made of what its client has sent."""


@dataclass(frozen=True, slots=True)
class Ending:
    """What is kept with the end of a session that is done."""

    final: bytes | None
    """Its last message, as it goes over the wire; None where an earlier run has kept that, and the turns."""
    turns: tuple[Turn, ...]
    """Who spoke when."""
    keep_audio: bool


class Journal(Protocol):
    """Keeps what sessions were sent and what they said: acknowledged means that it can be read back.

    What is said to block is called off the event loop. All may raise StorageError where disk or database
    refuse, and KeyError for a session that there is not.
    """

    folder: Path
    """Where files are put that are to be worked on."""
    is_shared: bool
    """Whether other servers read and write it, too."""

    async def start(self) -> None:
        """Begin to write."""

    async def close(self) -> None:
        """Write what waits, and end. Idempotent."""

    async def open(self, session_id: str, about: dict[str, Any]) -> Spool:
        """Begin a new session, in its epoch 1; `about` is what is to be remembered of it."""

    async def reopen(self, session_id: str) -> Spool:
        """Take a session over, to add to what of it is intact; nobody who had it before writes any more."""

    def keep_whole(
        self, session_id: str, about: dict[str, Any], kept: Sequence[bytes], turns: Iterable[Turn]
    ) -> Callable[[Connection], None]:
        """Keep a session that comes about at once, with all its messages and without audio. Blocks.

        Call what is returned in the transaction that says that it is over: a database keeps it there. Files
        that are there stay as they are.
        """

    async def finish(self, spool: Spool, *, keep_audio: bool) -> None:
        """Write the rest of a session that is over, and erase its audio unless that is kept. Idempotent."""

    async def conclude(self, spool: Spool, ending: Ending | None) -> Callable[[Connection], None]:
        """Keep what a session ends with, of one that failed nothing; return the last step of that.

        It is called, as often as need be, in the transaction of the database that says how the session ended:
        files are written by then, and a database writes the ending in that transaction. It raises Superseded
        where the session has another writer by now; where it has not, none comes before the transaction ends.
        """

    async def compress(self, spool: Spool) -> None:
        """Have the audio that is kept of a session that is done compressed in time, where that is done."""

    async def let_go_of_lost(self) -> None:
        """Have the writers of this server let go, at once, whose sessions others have taken over."""

    def claim(self, limit: int) -> list[str]:
        """Return sessions to go on with whose server is gone, where there are others. Blocks."""

    def messages(self, session_id: str) -> Iterator[bytes]:
        """Yield the kept messages of a session, oldest first, as far as they are intact. Blocks."""

    def later_messages(self, after: Mapping[str, int]) -> list[tuple[str, bytes]]:
        """Return what was kept of sessions behind a `seq` of each, where other servers keep it, too. Blocks.

        The messages of one come in their order; of a session that there is not, none.
        """

    def about(self, session_id: str) -> dict[str, Any]:
        """Return what is remembered of a session. Blocks."""

    def state(self, session_id: str) -> dict[str, Any]:
        """Return what was last put down beside the messages; nothing where it cannot be read. Blocks."""

    def write_turns(self, spool: Spool, turns: Iterable[Turn], file: str = TURNS_FILE) -> None:
        """Keep who spoke when: all of it, or nothing. Blocks."""

    def turns(self, session_id: str, file: str = TURNS_FILE) -> tuple[Turn, ...]:
        """Return who spoke when; nothing where that is not kept. Blocks."""

    def kept_audio(self, session_id: str) -> KeptAudio | None:
        """Return the audio that is kept of a session that is over; None where none is. Blocks."""

    def read_audio(self, session_id: str, start_bytes: int, end_bytes: int) -> AsyncIterator[bytes]:
        """Yield the audio of a session between two positions, in pieces."""

    def recording(self, spool: Spool) -> AbstractAsyncContextManager[Path]:
        """Give a file with all of a session's audio, for who has to have one, in a folder to work in."""

    def erase_audio(self, session_id: str) -> bool:
        """Erase the audio of a session that is over; return whether there was any. Blocks."""

    def movable_messages(self, session_id: str) -> list[bytes]:
        """Return the messages of a session that is over that may go to the object store. Blocks.

        There are none where they stay, or have gone there.
        """

    def erase_messages(self, session_id: str, count: int) -> None:
        """Erase so many messages of a session, the oldest, that are in the object store. Blocks.

        `messages` reads them from there.
        """

    def mark_deleted(self, session_id: str) -> bool:
        """Take a session out of sight, to be erased; return False when there is none. Blocks.

        From here on it is unknown, and whatever kills the server, the next run erases it.
        """

    def condemned(self) -> list[str]:
        """Return the sessions that are to be erased and are not yet. Blocks."""

    def erase(self, session_id: str) -> None:
        """Erase all that is kept of a condemned session, if anything is. Blocks."""

    def free_bytes(self) -> int:
        """Return the free space below the folder. Blocks."""


def is_session_id(session_id: str) -> bool:
    """Tell whether a session may have this id, which is all that is ever looked up."""
    return session_id.isascii() and session_id.isalnum() and len(session_id) <= MAX_ID
