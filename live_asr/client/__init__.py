"""The Python client: stream audio to a live-asr server and receive its captions.

    async with connect("http://localhost:8765", language="en") as session:
        sending = asyncio.create_task(send_all(session))    # await session.send(pcm); await session.stop()
        async for message in session:                       # typed: Partial, Commit, Utterance … Final
            if isinstance(message, Commit):
                print(message.text, end="")
        await sending

The message types are in `live_asr.core.messages`. Receiving runs by itself, so a program may also send
everything first and read afterwards. For a file there is `transcribe_file`.
"""

from __future__ import annotations

from live_asr.client.connection import DEFAULT_URL, SessionError, SessionFailed, SessionRefused, stream_url
from live_asr.client.files import transcribe_file
from live_asr.client.session import LiveSession, Pace, connect

__all__ = [
    "DEFAULT_URL",
    "LiveSession",
    "Pace",
    "SessionError",
    "SessionFailed",
    "SessionRefused",
    "connect",
    "stream_url",
    "transcribe_file",
]
