"""A file in a session: fed from disk as fast as it is worked off, and gone where its client goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from starlette.datastructures import UploadFile

from live_asr.core.errors import LiveAsrError, StorageError
from live_asr.core.messages import Error, Final, ServerMessage, Start, Stop
from live_asr.server.dialects.link import Link, linked
from live_asr.server.state import ServerState
from live_asr.sessions.admission import Client
from live_asr.sessions.resume import shutting_down
from live_asr.storage.files import storage_error

PIECE_BYTES = 256 * 1024


class FileSession:
    """A session that hears one file."""

    def __init__(self, state: ServerState, link: Link, file: UploadFile) -> None:
        self.link = link
        self.is_complete = False
        """Whether `final` was said."""
        self._state = state
        self._file = file
        self._fault: StorageError | None = None
        self._feeding = asyncio.create_task(self._feed(), name=f"{link.id} file")

    async def messages(self) -> AsyncIterator[ServerMessage]:
        """Give what the session says, up to `final`. Raises LiveAsrError where it ends before that."""
        async for message in self.link.messages():
            if isinstance(message, Error):
                break
            self.is_complete = isinstance(message, Final)
            yield message
        if not self.is_complete:
            raise self._fault or self.link.failure or shutting_down("Send the file again in a moment.")

    def voices_of(self, labels: Iterable[str]) -> list[tuple[float, ...]]:
        """Return the centroids of live speakers' voices, as far as they are known."""
        return [voice for voice in map(self.link.voice_of, labels) if voice is not None]

    async def close(self) -> None:
        """Stop feeding, and erase the session if it is not complete. Idempotent."""
        self._feeding.cancel()
        await asyncio.gather(self._feeding, return_exceptions=True)
        if not self.is_complete:
            await self._erase()

    async def _feed(self) -> None:
        try:
            while piece := await self._file.read(PIECE_BYTES):
                await self.link.send(piece)
            self.link.control(Stop())
        except LiveAsrError:
            return  # the session is over; what it says tells why
        except OSError as error:
            self._fault = storage_error(error)
            await self._erase()

    async def _erase(self) -> None:
        await self._state.registry.erase(self.link.id)
        self._state.viewers.forget(self.link.id)


@asynccontextmanager
async def transcribed(
    state: ServerState, file: UploadFile, start: Start, client: Client
) -> AsyncIterator[FileSession]:
    """Open a client's session and feed it a file; one that is not complete when the block is left is erased.

    Raises as `SessionRegistry.open` does.
    """
    async with linked(state, start, client) as link:
        session = FileSession(state, link, file)
        try:
            yield session
        finally:
            await asyncio.shield(session.close())
