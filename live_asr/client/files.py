"""A recording as a session: read here, streamed to a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from live_asr.client.connection import DEFAULT_URL, SessionFailed
from live_asr.client.media import PCM_BYTES_PER_SECOND, MediaFile
from live_asr.client.opening import connect
from live_asr.client.resuming import SessionMessage
from live_asr.client.session import ENDED, FRAME_BYTES, LiveSession, Pace
from live_asr.core.errors import LiveAsrError
from live_asr.core.timeline import SkippedGap


async def transcribe_file(
    path: Path,
    url: str = DEFAULT_URL,
    *,
    pace: Pace = "realtime",
    token: str | None = None,
    language: str | None = None,
    task: str = "transcribe",
    vocabulary: Sequence[str] = (),
    diarize: bool = True,
    min_speakers: int | None = None,
    max_speakers: int | None = None,
    final_pass: bool = True,
    enough: asyncio.Event | None = None,
) -> AsyncGenerator[SessionMessage, None]:
    """Stream an audio or video file to a server and yield its messages, `ready` first, `final` last.

    At pace `realtime` the sound is sent as a microphone would deliver it, at `fast` as fast as the server
    can work. Set `enough` to stop sending early; what was sent is still finished. Raises MediaError for a
    file without readable audio, SessionRefused and SessionFailed as `connect` and `LiveSession` do; behind
    `final` where the session has ended before the file did, because the server could not be reached.
    """
    media = await asyncio.to_thread(MediaFile.probe, path)
    as_file = pace == "fast" and media.is_streamable
    skipped: list[SkippedGap] = []
    if as_file:
        chunks = media.file_chunks(FRAME_BYTES)
    else:
        chunks = media.pcm_chunks(PCM_BYTES_PER_SECOND // 10 if pace == "realtime" else FRAME_BYTES, skipped)
    async with connect(
        url,
        token=token,
        encoding="container" if as_file else "pcm_s16le",
        pace=pace,
        language=language,
        task=task,
        vocabulary=vocabulary,
        diarize=diarize,
        min_speakers=min_speakers,
        max_speakers=max_speakers,
        final_pass=final_pass,
    ) as session:
        yield session.ready
        sending = asyncio.create_task(_send_chunks(session, chunks, pace, enough or asyncio.Event()))
        has_told = False
        try:
            async for message in session:
                if skipped and not has_told:  # of one; the server tells of no more, either
                    has_told = True
                    yield skipped[0].notice()
                yield message
            await sending
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


async def _send_chunks(
    session: LiveSession, chunks: Iterator[bytes], pace: Pace, enough: asyncio.Event
) -> None:
    now = asyncio.get_running_loop().time
    begun, sent_bytes = now(), 0
    try:
        while not enough.is_set() and (chunk := await asyncio.to_thread(next, chunks, b"")):
            sent_bytes += len(chunk)
            if pace == "realtime":
                # A microphone hands a chunk over when its last sample has been heard.
                with suppress(TimeoutError):
                    async with asyncio.timeout(begun + sent_bytes / PCM_BYTES_PER_SECOND - now()):
                        await enough.wait()
            await session.send(chunk, may_wait=True)
        await session.stop()
    except LiveAsrError as error:
        if error.code == ENDED:
            await session.stop()  # what was heard comes all the same
            raise SessionFailed(
                ENDED,
                "The server was out of reach for so long that the session ended before the file did.",
                "Send the file again.",
            ) from None
        await session.close()  # else the server would wait for the rest, and the reader for the server
        raise
