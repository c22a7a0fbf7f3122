"""What a session's client has to say and the server has not confirmed: bounded, and said again if need be.

It knows nothing of sockets: things are put in, and taken out in the order in which they are to be sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from live_asr.client.connection import SessionFailed
from live_asr.core.messages import Finalize, Pause, Stop, Time, Update

Control: TypeAlias = Update | Time | Finalize | Pause | Stop


@dataclass(frozen=True, slots=True)
class _Frame:
    start_bytes: int
    data: bytes

    @property
    def end_bytes(self) -> int:
        return self.start_bytes + len(self.data)


class Outgoing:
    """Audio and controls in order; what is not acknowledged can be taken out once more after a loss."""

    def __init__(self) -> None:
        self.accepted_bytes = 0
        """Audio put in so far, counted from the session's first byte."""
        self.acked_bytes = 0
        """Audio that the server has on disk."""
        self.sent_bytes = 0
        """Audio taken out so far; less again after a loss."""
        self._frames: list[_Frame] = []
        self._next_frame = 0
        self._controls: list[tuple[int, Control]] = []
        """Each with the position in the audio that it follows; until it is answered."""
        self._next_control = 0

    @property
    def unacked_bytes(self) -> int:
        """Audio that is held."""
        return self.accepted_bytes - self.acked_bytes

    @property
    def unanswered_finalizes(self) -> int:
        """How many `finalize` wait for their answer."""
        return sum(isinstance(control, Finalize) for _, control in self._controls)

    @property
    def unanswered_updates(self) -> int:
        """How many `update` wait for their answer."""
        return sum(isinstance(control, Update) for _, control in self._controls)

    @property
    def unanswered_pauses(self) -> int:
        """How many `pause` wait for their answer."""
        return sum(isinstance(control, Pause) for _, control in self._controls)

    def add(self, audio: bytes) -> None:
        """Put in audio."""
        self._frames.append(_Frame(self.accepted_bytes, audio))
        self.accepted_bytes += len(audio)

    def ask(self, control: Control) -> None:
        """Put in a message that follows all audio so far."""
        self._controls.append((self.accepted_bytes, control))

    def next(self, window_bytes: int) -> bytes | Control | None:
        """Take out what is to be sent next; None while there is nothing, or the server's window is full."""
        if self._next_control < len(self._controls):
            position_bytes, control = self._controls[self._next_control]
            if position_bytes <= self.sent_bytes:
                self._next_control += 1
                return control
        if self._next_frame == len(self._frames):
            return None
        frame = self._frames[self._next_frame]
        # A server's next run may have a smaller window than the one that the frame was made for.
        data = frame.data[self.sent_bytes - frame.start_bytes :][:window_bytes]
        if self.sent_bytes + len(data) - self.acked_bytes > window_bytes:
            return None
        self.sent_bytes += len(data)
        self._next_frame += self.sent_bytes == frame.end_bytes
        return data

    def acknowledge(self, position_bytes: int) -> None:
        """Forget audio that is safe with the server."""
        self.acked_bytes = max(self.acked_bytes, min(position_bytes, self.sent_bytes))
        count = 0
        while count < self._next_frame and self._frames[count].end_bytes <= self.acked_bytes:
            count += 1
        del self._frames[:count]
        self._next_frame -= count

    def answered(self, kind: type[Control]) -> None:
        """Forget the oldest control of a kind: it need not be said again."""
        for index, (_, control) in enumerate(self._controls):
            if isinstance(control, kind):
                del self._controls[index]
                self._next_control -= index < self._next_control
                return

    def go_on_from(self, received_bytes: int) -> None:
        """Begin again behind what the server has received, as it says after a loss.

        Raises SessionFailed `audio_lost` where that lies before what is still held.
        """
        held_from = self._frames[0].start_bytes if self._frames else self.accepted_bytes
        if received_bytes < held_from:
            raise SessionFailed(
                "audio_lost",
                f"The server has {received_bytes} bytes of audio and had acknowledged {self.acked_bytes}.",
                "Its disk has lost something; what it still has can be fetched over HTTP.",
            )
        self.sent_bytes = min(received_bytes, self.accepted_bytes)
        self._next_frame = sum(frame.end_bytes <= self.sent_bytes for frame in self._frames)
        self._next_control = 0
