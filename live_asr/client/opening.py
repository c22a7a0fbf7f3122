"""Opening a session."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from websockets.asyncio.client import ClientConnection

from live_asr.client.connection import DEFAULT_URL, open_socket, resume_address, stream_url
from live_asr.client.resuming import LOST_AFTER
from live_asr.client.session import LiveSession, Pace
from live_asr.core.messages import (
    AudioFormat,
    ClientMessage,
    Scalar,
    Start,
    Webhook,
    client_from_dict,
    to_dict,
)


@asynccontextmanager
async def connect(
    url: str = DEFAULT_URL,
    *,
    token: str | None = None,
    encoding: str = "pcm_s16le",
    sample_rate: int = 16_000,
    channels: int = 1,
    channel_speakers: bool = False,
    language: str | None = None,
    languages: Sequence[str] = (),
    task: str = "transcribe",
    vocabulary: Sequence[str] = (),
    interim: bool = True,
    pace: Pace = "realtime",
    diarize: bool = True,
    min_speakers: int | None = None,
    max_speakers: int | None = None,
    final_pass: bool = True,
    webhook: str | None = None,
    metadata: Mapping[str, Scalar] | None = None,
    title: str | None = None,
    reconnect_for: float = 120.0,
    lost_after: float = LOST_AFTER,
) -> AsyncIterator[LiveSession]:
    """Open a session on the server at `url` (http, https, ws or wss), and close its socket at the end.

    The keywords are the fields of the protocol's `start`; `sample_rate` is in hertz, `token` is the
    server's access token where it wants one. Leaving the block without `stop` loses nothing: the server
    finishes a session whose client is gone, once nobody can resume it any more.

    A connection that is lost is made again, for at most `reconnect_for` seconds (0: not at all), and the
    session goes on where it was, at the server that `ready.resume_url` names, if any; who iterates is told by
    `Reconnecting` and `Resumed`. One over which audio is sent and nothing comes back for `lost_after` seconds
    is lost, too.

    Raises SessionRefused when there is no server or it does not take the session (`retry_after` tells
    when to come back), ClientError `bad_message` for a field that has no allowed value.
    """
    start: ClientMessage = Start(
        audio=AudioFormat(encoding, sample_rate, channels),
        language=language,
        languages=tuple(languages),
        task=task,
        vocabulary=tuple(vocabulary),
        diarize=diarize,
        min_speakers=min_speakers,
        max_speakers=max_speakers,
        interim=interim,
        pace=pace,
        final_pass=final_pass,
        webhook=Webhook(webhook) if webhook is not None else None,
        metadata=dict(metadata or {}),
        title=title,
        channel_speakers=channel_speakers,
    )
    start = client_from_dict(to_dict(start))  # wrong values are refused here, before anything is sent
    assert isinstance(start, Start)
    address = stream_url(url)
    socket = await open_socket(address, token)

    async def open_another(resume_url: str | None) -> ClientConnection:
        return await open_socket(resume_address(address, resume_url), token)

    session = LiveSession(socket, open_another, pace, reconnect_for, lost_after)
    try:
        await session._begin(start)
        yield session
    finally:
        await session.close()
