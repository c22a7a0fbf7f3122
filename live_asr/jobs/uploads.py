"""Recordings that came with jobs, until these are over: in a folder, or in a database for several servers."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import IO, Protocol
from uuid import uuid4

from live_asr.storage.files import check_room, storage_error, sync_folder
from live_asr.storage.jobs import JobDatabase

COPIED_BYTES = 1024 * 1024
"""So much of a recording is in memory at once; in a database it is a row."""


class Uploads(Protocol):
    """Where recordings are that came with their jobs. All may raise StorageError."""

    async def keep(self, job_id: str, file: IO[bytes]) -> str:
        """Keep a job's recording, all of it or nothing, before the job is kept; return its name there."""

    async def bring(self, name: str, folder: Path) -> Path:
        """Return a recording as a file, in `folder` where it lies elsewhere. Raises OSError for none."""

    async def forget(self, name: str) -> None:
        """Erase a recording. Idempotent."""

    async def clear(self) -> None:
        """Erase what runs that died have left; call it before anything comes."""


class FileUploads:
    """A file for each, for one server."""

    def __init__(self, folder: Path, database: JobDatabase) -> None:
        self._folder = folder
        self._database = database

    async def keep(self, job_id: str, file: IO[bytes]) -> str:
        """Keep a recording under its job's id."""
        await asyncio.to_thread(_copy, file, self._folder / job_id)
        return job_id

    async def bring(self, name: str, folder: Path) -> Path:
        """Return the file where it lies."""
        return self._folder / name

    async def forget(self, name: str) -> None:
        """Erase the file."""
        await asyncio.to_thread((self._folder / name).unlink, missing_ok=True)

    async def clear(self) -> None:
        """Erase the files that no job names."""
        wanted = await self._database.call(self._database.uploads)
        await asyncio.to_thread(_clear, self._folder, wanted)


class DatabaseUploads:
    """Rows for each, for all servers that share the database: whoever does the job has its recording."""

    def __init__(self, database: JobDatabase) -> None:
        self._database = database

    async def keep(self, job_id: str, file: IO[bytes]) -> str:
        """Keep a recording under a name of its own: the same job may come to two servers at once."""
        name = uuid4().hex
        try:
            await asyncio.to_thread(file.seek, 0)
            number = 0
            while piece := await asyncio.to_thread(file.read, COPIED_BYTES):
                await self._database.call(self._database.add_piece, name, number, piece)
                number += 1
        except BaseException:
            with suppress(Exception):
                await asyncio.shield(self.forget(name))
            raise
        return name

    async def bring(self, name: str, folder: Path) -> Path:
        """Write a recording to a file."""
        target = folder / "upload"
        count, size_bytes = await self._database.call(self._database.size_of_upload, name)
        if not count:
            raise FileNotFoundError(f"no recording {name}")
        try:
            await asyncio.to_thread(check_room, folder, size_bytes)
            with await asyncio.to_thread(target.open, "wb") as file:
                for number in range(count):
                    piece = await self._database.call(self._database.piece, name, number)
                    await asyncio.to_thread(file.write, piece)
        except OSError as error:
            raise storage_error(error) from error
        return target

    async def forget(self, name: str) -> None:
        """Erase the rows, some at a time: a large recording has many."""
        while await self._database.call(self._database.forget_pieces, name):
            pass

    async def clear(self) -> None:
        """Erase recordings that no job names, of servers that died in the middle of it."""
        for name in await self._database.call(self._database.lost_uploads):
            await self.forget(name)


def _copy(upload: IO[bytes], target: Path) -> None:
    """Put an upload where the next run of the server finds it: all of it, or nothing. Raises StorageError."""
    unfinished = target.with_name(f".{target.name}.{uuid4().hex}")
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_room(target.parent, upload.seek(0, os.SEEK_END))
        with unfinished.open("wb") as file:
            upload.seek(0)
            shutil.copyfileobj(upload, file, COPIED_BYTES)
        unfinished.replace(target)
        sync_folder(target.parent)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise storage_error(error) from error


def _clear(folder: Path, wanted: Collection[str]) -> None:
    for upload in folder.glob("*"):
        if upload.name not in wanted:
            with suppress(OSError):
                upload.unlink()
