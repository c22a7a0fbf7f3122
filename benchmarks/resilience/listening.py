"""A talk through the Python client, which comes back by itself, and what that client had of its session."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.base.speech import RATE_HZ, Clip
from live_asr.client import LiveSession, Reconnecting, Resumed, SessionError, connect
from live_asr.core.errors import LiveAsrError
from live_asr.core.messages import Commit, Final, Label, Notice, Partial, Stopped, UtteranceMessage

FRAME = 0.1
"""Seconds of audio in a frame."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing is sent for a while."""

    at: int
    """The byte before which."""
    seconds: float


@dataclass(slots=True)
class Heard:
    """What one client had of its session."""

    session: str = ""
    sessions: list[str] = field(default_factory=list)
    """The id that each connection was given; more than one name means another session."""
    text: str = ""
    """Of `final`."""
    live_text: str = ""
    """All `commit.text`."""
    words: list[tuple[str, str | None]] = field(default_factory=list)
    """Committed words, each with its label as it stood in the end."""
    duration: float | None = None
    """As `final` says; None where there was none."""
    seqs: list[int] = field(default_factory=list)
    """Numbers of the kept messages, as they came."""
    notices: list[str] = field(default_factory=list)
    """Codes."""
    acked_bytes: int = 0
    resumed: int = 0
    away: list[float] = field(default_factory=list)
    """Seconds from each loss to the next `resumed`."""
    failure: str | None = None


class Talk:
    """One session through the Python client; `heard` fills while it goes on."""

    def __init__(self) -> None:
        self.heard = Heard()
        self.opened = asyncio.Event()
        self.stopping = asyncio.Event()
        """`stop` goes out."""
        self.stopped = asyncio.Event()
        """The live transcript is complete."""
        self.over = asyncio.Event()
        """`final` came, or the session ended otherwise."""
        self.captioned_at: list[float] = []
        """When words came, committed or not; times are those of `time.monotonic`."""
        self.lost_at: list[float] = []
        """When connections were lost."""

    async def speak(
        self,
        url: str,
        clip: Clip,
        *,
        fast: bool = False,
        interval: float = FRAME,
        final_pass: bool = False,
        number: int | None = None,
        pauses: Sequence[Pause] = (),
    ) -> None:
        """Play a clip, a frame each `interval` seconds, and listen to the end; `number` becomes metadata.

        What goes wrong is told in `heard`. When it is cancelled, the client is gone without a word more.
        """
        try:
            async with connect(
                url,
                pace="fast" if fast else "realtime",
                final_pass=final_pass,
                metadata={} if number is None else {"number": number},
            ) as session:
                self.heard.session = session.session
                self.opened.set()
                await self._play(session, clip.audio.tobytes(), interval, pauses)
        except LiveAsrError as error:
            self.heard.failure = self.heard.failure or f"{error.code}: {error}"
        finally:
            self._set_all()

    async def _play(self, session: LiveSession, pcm: bytes, interval: float, pauses: Sequence[Pause]) -> None:
        listening = asyncio.create_task(self._listen(session))
        size, now = round(RATE_HZ * FRAME) * 2, asyncio.get_running_loop().time
        began = now()
        try:
            for number, first in enumerate(range(0, len(pcm), size)):
                paused = sum(pause.seconds for pause in pauses if pause.at <= first)
                await asyncio.sleep(max(0.0, began + paused + (number + 1) * interval - now()))
                await session.send(pcm[first : first + size])
            self.stopping.set()
            await session.stop()
            await listening
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            heard, transcript = self.heard, session.transcript
            heard.live_text, heard.acked_bytes = transcript.text, session.acked_bytes
            heard.words = [(word.text, word.speaker) for word in transcript.words]

    async def _listen(self, session: LiveSession) -> None:
        """Read a session to its end."""
        heard = self.heard
        heard.sessions.append(session.ready.session)
        try:
            async for message in session:
                match message:
                    case Partial() | Commit():
                        self.captioned_at.append(time.monotonic())
                    case Reconnecting():
                        self.lost_at.append(time.monotonic())
                    case Resumed():
                        heard.resumed += 1
                        heard.away.append(round(time.monotonic() - self.lost_at[-1], 2))
                        heard.sessions.append(session.ready.session)
                    case Notice():
                        heard.notices.append(message.code)
                    case Stopped():
                        self.stopped.set()
                    case Final():
                        heard.text, heard.duration = message.text, message.duration
                        self.over.set()
                if isinstance(message, Commit | Label | UtteranceMessage | Stopped | Final):
                    heard.seqs.append(message.seq)
        except SessionError as error:
            heard.failure = f"{error.code}: {error}"

    def _set_all(self) -> None:
        """Let nobody wait for what will not come."""
        for event in (self.opened, self.stopping, self.stopped, self.over):
            event.set()
