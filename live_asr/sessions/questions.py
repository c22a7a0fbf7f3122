"""What a client may ask: the bounds of what is not answered yet, and what may not follow `stop`."""

from __future__ import annotations

from live_asr.core.audio import bytes_per_second
from live_asr.core.messages import AudioFormat, Start
from live_asr.errors import ClientError

LIVE_SECONDS = 30.0
"""Live audio that may be unacknowledged: who speaks does not wait, and networks and disks stall."""
LARGEST_RATE = AudioFormat("pcm_f32le", 48_000, 2)
"""No raw audio takes more bytes."""
MOST_UNANSWERED = 64
"""Nobody sends so many `finalize` before the first is answered, but by mistake."""


class Questions:
    """Count the `update`, `finalize`, `pause` and `stop` messages that wait for their answer."""

    def __init__(self) -> None:
        self._count = 0
        self._finalizes = 0
        self._forgotten = 0

    def ask(self, *, is_finalize: bool) -> None:
        """Take one more. Raises ClientError `overrun` for a flood."""
        if self._count >= MOST_UNANSWERED:
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
