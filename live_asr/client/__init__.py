"""The Python client: stream audio to a live-asr server and receive its captions.

    async with connect("http://localhost:8765", language="en") as session:
        sending = asyncio.create_task(send_all(session))    # await session.send(pcm); await session.stop()
        async for message in session:                       # typed: Partial, Commit, Utterance … Final
            if isinstance(message, Commit):
                print(message.text, end="")
        await sending

A connection that is lost is made again by itself: `Reconnecting`, then `Resumed`, stand between the
messages, and nothing is lost or comes twice. The message types are in `live_asr.core.messages`. Receiving
runs by itself, so a program may also send everything first and read afterwards. After `stop` the server goes
through the whole recording once more, which may take minutes: `Progress` says how far it is, and
`Final.speakers` who spoke for how long. For a file there is `transcribe_file`, for what is kept on the server
`fetch_transcript`.
"""

from __future__ import annotations

from live_asr.client.connection import DEFAULT_URL, SessionError, SessionFailed, SessionRefused, stream_url
from live_asr.client.files import transcribe_file
from live_asr.client.opening import connect
from live_asr.client.resuming import Reconnecting, Resumed, SessionMessage
from live_asr.client.session import LiveSession, Pace
from live_asr.client.transcripts import fetch_transcript

__all__ = [
    "DEFAULT_URL",
    "LiveSession",
    "Pace",
    "Reconnecting",
    "Resumed",
    "SessionError",
    "SessionFailed",
    "SessionMessage",
    "SessionRefused",
    "connect",
    "fetch_transcript",
    "stream_url",
    "transcribe_file",
]
