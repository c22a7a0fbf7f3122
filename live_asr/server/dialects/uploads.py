"""Forms with a file, read to disk as they come: memory does not grow with what is uploaded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from tempfile import SpooledTemporaryFile

from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from live_asr.core.errors import ClientError
from live_asr.storage.files import check_room, storage_error

FORM = "Send `multipart/form-data` with a `file`."
MAX_FILES = 8
MAX_FIELDS = 400
FIELD_BYTES = 8 * 1024 * 1024
"""What a form may hold beside its file, in memory: four samples of voices, for instance."""
IN_MEMORY_BYTES = 1024 * 1024
"""A file up to this size needs no disk."""
CHECK_BYTES = 32 * 1024 * 1024
"""After so much of a form it is looked whether the disk has room for more."""
DISCARDED_BYTES = 64 * 1024 * 1024
"""So much of a form that is refused is read, since many clients look at no answer before all is sent."""


async def read_form(request: Request, folder: Path, most_bytes: int) -> FormData:
    """Read a form; files that are not small lie in `folder`, unseen and unnamed, until it is closed.

    Raises ClientError `not_a_form`, `bad_form` and `upload_too_large`, StorageError where the disk refuses or
    has no room, and starlette's ClientDisconnect.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise ClientError(
            "not_a_form", "The request is no form.", "Send `multipart/form-data` with a `file`."
        )
    most_bytes += FIELD_BYTES
    told = request.headers.get("content-length", "")
    if told.isdecimal() and int(told) > most_bytes:
        raise too_large(most_bytes)
    parser = _Parser(request.headers, _bounded(request, folder, most_bytes), folder)
    try:
        return await parser.parse_whole()
    except MultiPartException as error:
        raise ClientError("bad_form", error.message, FORM) from None
    except UnicodeError:  # some charsets spell what is no character, and others raise this themselves
        raise ClientError("bad_form", "A field cannot be read as text.", f"{FORM} Use UTF-8.") from None
    except OSError as error:
        raise storage_error(error) from error


async def discard(request: Request) -> None:
    """Read the form of a request that is refused, within reason."""
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > DISCARDED_BYTES:
            return


def file_of(form: FormData) -> UploadFile:
    """Return the form's `file`. Raises ClientError `no_file` where there is none."""
    file = form.get("file")
    if not isinstance(file, UploadFile) or not file.size:
        raise ClientError("no_file", "The form holds no `file`, or an empty one.", "Send audio as `file`.")
    return file


def too_large(most_bytes: int) -> ClientError:
    """Return the refusal of an upload beyond the bound."""
    return ClientError(
        "upload_too_large",
        f"The upload is larger than {most_bytes} bytes.",
        "Send a compressed file, or parts; the operator can allow more by server.max_upload_bytes.",
    )


async def _bounded(request: Request, folder: Path, most_bytes: int) -> AsyncGenerator[bytes, None]:
    size = checked = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most_bytes:
            raise too_large(most_bytes)
        if size >= checked + CHECK_BYTES:
            checked = size
            await asyncio.to_thread(check_room, folder, CHECK_BYTES)
        yield chunk


class _Parser(MultiPartParser):
    """Starlette's, with the files where we want them: the system's folder for such may lie in memory."""

    spool_max_size = IN_MEMORY_BYTES

    def __init__(self, headers: Headers, stream: AsyncGenerator[bytes, None], folder: Path) -> None:
        super().__init__(
            headers, stream, max_files=MAX_FILES, max_fields=MAX_FIELDS, max_part_size=FIELD_BYTES
        )
        self._folder = folder
        self._in_fields = 0
        """Bytes of all fields so far."""

    async def parse_whole(self) -> FormData:
        """Return the form; files that are not in it, since it breaks off or is none, are closed."""
        kept: set[object] = set()
        try:
            form = await self.parse()
            for item in form.multi_items():
                for text in item:
                    if isinstance(text, str):
                        text.encode()
            kept = {file.file for _, file in form.multi_items() if isinstance(file, UploadFile)}
            return form
        finally:
            for file in self._files_to_close_on_error:
                if file not in kept:
                    file.close()

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        """Take up a piece of a part. Raises ClientError `too_large` where fields hold more than they may."""
        if self._current_part.file is None:
            self._in_fields += end - start
            if self._in_fields > FIELD_BYTES:
                raise ClientError(
                    "too_large", f"The fields of a form may have {FIELD_BYTES} bytes in all.", FORM
                )
        super().on_part_data(data, start, end)

    def on_headers_finished(self) -> None:
        """Begin a part."""
        super().on_headers_finished()
        file = self._current_part.file
        if file is not None:
            file.file.close()
            spooled = SpooledTemporaryFile(max_size=self.spool_max_size, dir=str(self._folder))  # noqa: SIM115
            file.file = spooled  # type: ignore[assignment]
            self._files_to_close_on_error.append(spooled)
