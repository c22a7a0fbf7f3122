"""Flow control of what a client sends: how much may wait, in which order, and how fast it is heard.

Audio is kept in pieces of one size, whatever the size of the frames it came in: a thousand tiny frames
cost no more than one large one, and a large one holds nobody up while it is worked off. What waits beyond
a bound is on disk anyway, and is read back from there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from live_asr.audio.decoder import AudioDecoder
from live_asr.audio.isolated_decoder import broken
from live_asr.core.audio import bytes_per_second
from live_asr.core.errors import ClientError, DecoderDied
from live_asr.core.messages import AudioFormat, Notice, Pause, Start, Update
from live_asr.core.session import Session
from live_asr.models.interfaces import FloatArray

LIVE_SECONDS = 30.0
"""Live audio that may be unacknowledged: who speaks does not wait, and networks and disks stall."""
LARGEST_RATE = AudioFormat("pcm_f32le", 48_000, 2)
"""No raw audio takes more bytes."""
MAX_UNANSWERED = 64
"""Nobody sends so many `finalize` before the first is answered, but by mistake."""


class PendingRequests:
    """Count the `update`, `finalize`, `pause` and `stop` messages that wait for their answer."""

    def __init__(self) -> None:
        self._count = 0
        self._finalizes = 0
        self._forgotten = 0

    def ask(self, *, is_finalize: bool) -> None:
        """Take one more. Raises ClientError `overrun` for a flood."""
        if self._count >= MAX_UNANSWERED:
            raise ClientError(
                "overrun",
                f"{self._count} messages are waiting for an answer; no more are accepted.",
                "Wait for `finalized` before you send another `finalize`, and for `updated` likewise.",
            )
        self._count += 1
        self._finalizes += is_finalize

    def answer_kept(self) -> None:
        """Take note that an `update` or `pause` is answered: who is not there is told when they come back."""
        self._count -= 1

    def forget(self) -> None:
        """Take note that their connection is lost: a client that comes back asks again."""
        self._forgotten = self._finalizes

    def answer(self) -> bool:
        """Take note that the oldest `finalize` is answered; return whether somebody is there to be told."""
        self._count -= 1
        self._finalizes -= 1
        if not self._forgotten:
            return True
        self._forgotten -= 1
        return False


def window_bytes(start: Start, least_bytes: int) -> int:
    """Return how much audio may be unacknowledged: of a live client, `LIVE_SECONDS` of what it sends.

    What a container holds is not known beforehand; it counts as the largest raw audio. A file waits for its
    acknowledgements, and has the least.
    """
    if start.pace != "realtime":
        return least_bytes
    rate = rate_of(start.audio) or rate_of(LARGEST_RATE)
    return max(least_bytes, round(LIVE_SECONDS * rate))


def rate_of(audio: AudioFormat) -> int:
    """Return how many bytes a second takes; 0 of a container, where nobody knows."""
    if audio.encoding == "container":
        return 0
    return bytes_per_second(audio.encoding, audio.sample_rate, audio.channels)


def check_window(unacked_bytes: int, most_bytes: int) -> None:
    """Refuse audio beyond the window of the protocol. Raises ClientError `overrun`."""
    if unacked_bytes > most_bytes:
        raise ClientError(
            "overrun",
            f"{unacked_bytes} bytes are unacknowledged; at most {most_bytes} may be.",
            "Keep `max_unacked_bytes` of `ready`: wait for `ack` before sending more.",
        )


def after_stop(what: str) -> ClientError:
    """Return the refusal of what may not follow `stop`."""
    return ClientError(
        "unexpected_message",
        f"A stopped session accepts no {what}.",
        "After `stop` only read: `stopped` and `final` follow. Open a new session for more audio.",
    )


PACE_INTERVAL = 0.5
"""Seconds between two looks whether audio that came too fast may be heard: its client may have stopped."""


class AudioIntake:
    """Decode audio and hand it to a session.

    `until` waits until a condition of the session holds, `heard` is called with what was decoded, and
    `pace` says for how many seconds that has to wait. `died_at_bytes` is how far another decoder of this
    audio was when its process died.
    """

    def __init__(
        self,
        session: Session,
        decoder: AudioDecoder,
        until: Callable[[Callable[[], bool]], Awaitable[None]],
        heard: Callable[[FloatArray], None],
        *,
        most_backlog_samples: int,
        pace: Callable[[], float] = lambda: 0.0,
        died_at_bytes: int | None = None,
    ) -> None:
        self._session = session
        self._decoder = decoder
        self._until = until
        self._heard = heard
        self._most_backlog_samples = most_backlog_samples
        self._pace = pace
        self.heard_bytes = 0
        """Audio that was decoded and handed over."""
        self.died_at_bytes = died_at_bytes
        """Up to where it was asked for when the decoder's process died."""

    async def room(self) -> None:
        """Wait while the recogniser is too far behind to take more, or audio is ahead of the clock."""
        while wait := self._pace():  # noqa: ASYNC110  it is the clock that is waited for
            await asyncio.sleep(min(wait, PACE_INTERVAL))
        await self._until(lambda: self._session.backlog_samples <= self._most_backlog_samples)

    async def hear(self, data: bytes) -> None:
        """Take the next bytes. Raises MediaError where they turn out to be no audio, or the decoder's process
        has died of them before; DecoderDied and DecoderError where another decoder may go on."""
        await self.room()
        self._heard(await self._decoded(self._decoder.feed(data), len(data)))
        while self._decoder.has_more:
            await self.room()
            self._heard(await self._decoded(self._decoder.feed(b""), len(data)))
        self.heard_bytes += len(data)

    async def hear_again(self, kept_audio: AsyncIterator[bytes]) -> None:
        """Take what is kept. Raises as `hear`, and StorageError where it cannot be read."""
        async for piece in kept_audio:
            await self.hear(piece)

    async def flush(self) -> None:
        """Hand over what the decoder still holds. Raises as `hear`; MediaError where there was no audio."""
        self._heard(await self._decoded(self._decoder.finish()))
        while self._decoder.has_more:
            await self.room()
            self._heard(await self._decoded(self._decoder.finish()))

    async def _decoded(self, asking: Awaitable[FloatArray], size_bytes: int = 0) -> FloatArray:
        try:
            return await asking
        except DecoderDied as error:
            if self.died_at_bytes is not None and self.heard_bytes <= self.died_at_bytes:
                raise broken() from error
            self.died_at_bytes = self.heard_bytes + size_bytes
            raise

    def take_notices(self) -> list[Notice]:
        """Return what the client should know of its audio and has not been told."""
        found = []
        while self._decoder.notices:
            found.append(self._decoder.notices.popleft())
        return found

    def close(self) -> None:
        """Free what the decoder holds. Idempotent."""
        self._decoder.close()


PIECE_BYTES = 16 * 1024
"""Half a second at 16 kHz, decoded in a millisecond."""
MAX_BYTES = 1024 * 1024
"""Audio of one session that waits in memory; half a minute at 16 kHz."""

Control = Literal["finalize", "silence", "stop", "lost"] | Update | Pause


@dataclass(slots=True)
class Shelved:
    """Audio that is on disk alone, or soon will be: the session's bytes from `start_bytes` to `end_bytes`."""

    start_bytes: int
    end_bytes: int


class Inbox:
    """A queue of audio and controls; who puts in controls bounds how many there are."""

    def __init__(self) -> None:
        self._items: deque[bytearray | Shelved | Control] = deque()
        self._arrived = asyncio.Event()
        self.held_bytes = 0
        """Audio that waits in memory."""

    def put_audio(self, data: bytes, position_bytes: int = 0) -> None:
        """Add audio bytes, any number, that begin at `position_bytes` of the session and are being kept."""
        last = self._items[-1] if self._items else None
        if isinstance(last, Shelved):
            last.end_bytes += len(data)
        elif self.held_bytes + len(data) > MAX_BYTES:
            self._items.append(Shelved(position_bytes, position_bytes + len(data)))
        else:
            self._hold(data)
        self._arrived.set()

    def put(self, control: Control) -> None:
        """Add a control."""
        self._items.append(control)
        self._arrived.set()

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not self._items

    async def wait(self) -> None:
        """Wait until there is something."""
        while not self._items:
            self._arrived.clear()
            await self._arrived.wait()

    async def get(self) -> bytes | Shelved | Control:
        """Wait for what came first; audio that is held comes in pieces of at most `PIECE_BYTES`."""
        await self.wait()
        item = self._items.popleft()
        if not isinstance(item, bytearray):
            return item
        self.held_bytes -= len(item)
        return bytes(item)

    def _hold(self, data: bytes) -> None:
        self.held_bytes += len(data)
        view = memoryview(data)
        while view:
            last = self._items[-1] if self._items else None
            if not isinstance(last, bytearray) or len(last) >= PIECE_BYTES:
                last = bytearray()
                self._items.append(last)
            room_bytes = PIECE_BYTES - len(last)
            last += view[:room_bytes]
            view = view[room_bytes:]
