"""A session's states as a table; things are received, messages drained.

The session knows nothing of sockets, files or models. Whoever drives it hands it what arrives, does the
detections and decodes it asks for, and sends the messages it makes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from live_asr.core.captioner import Captioner, CaptionOptions, Committed, MarkReached, TailChanged
from live_asr.core.captioner import Event as CaptionEvent
from live_asr.core.messages import (
    Commit,
    Final,
    Finalized,
    KeptMessage,
    Lag,
    Partial,
    ServerMessage,
    Speech,
    Start,
    Stopped,
    UtteranceMessage,
    wire_word,
)
from live_asr.core.segmenter import SpeechEnded, SpeechStarted
from live_asr.core.transcript import Transcript
from live_asr.core.types import DecodeRequest, Hypothesis, Utterance, Word, seconds
from live_asr.errors import ClientError

FloatArray = NDArray[np.float32]


class SessionState(Enum):
    """Where a session is in its life."""

    OPEN = "open"
    """Accepted; no audio yet."""
    STREAMING = "streaming"
    """Audio arrives."""
    DRAINING = "draining"
    """No more audio; what was received is being committed."""
    FINALIZING = "finalizing"
    """The live transcript is complete; the final one is being made."""
    DONE = "done"
    FAILED = "failed"


class SessionEvent(Enum):
    """What can happen to a session, past tense."""

    AUDIO_RECEIVED = "audio"
    FINALIZE_RECEIVED = "finalize"
    STOP_RECEIVED = "stop"
    CLIENT_LOST = "lost"
    DRAINED = "drained"
    FINISHED = "finished"
    BROKEN = "broken"


_S, _E = SessionState, SessionEvent

TRANSITIONS: Mapping[SessionState, Mapping[SessionEvent, SessionState]] = MappingProxyType(
    {
        _S.OPEN: {
            _E.AUDIO_RECEIVED: _S.STREAMING,
            _E.FINALIZE_RECEIVED: _S.OPEN,
            _E.STOP_RECEIVED: _S.DRAINING,
            _E.CLIENT_LOST: _S.DRAINING,
            _E.BROKEN: _S.FAILED,
        },
        _S.STREAMING: {
            _E.AUDIO_RECEIVED: _S.STREAMING,
            _E.FINALIZE_RECEIVED: _S.STREAMING,
            _E.STOP_RECEIVED: _S.DRAINING,
            _E.CLIENT_LOST: _S.DRAINING,
            _E.BROKEN: _S.FAILED,
        },
        _S.DRAINING: {
            _E.CLIENT_LOST: _S.DRAINING,
            _E.DRAINED: _S.FINALIZING,
            _E.BROKEN: _S.FAILED,
        },
        _S.FINALIZING: {
            _E.CLIENT_LOST: _S.FINALIZING,
            _E.FINISHED: _S.DONE,
            _E.BROKEN: _S.FAILED,
        },
        _S.DONE: {_E.CLIENT_LOST: _S.DONE},
        _S.FAILED: {_E.CLIENT_LOST: _S.FAILED},
    }
)
"""What may happen when, and what comes of it. A pair that is not here is refused and changes nothing."""


class Session:
    """One client's stretch of speech, from `start` to `final`."""

    def __init__(self, session_id: str, start: Start, options: CaptionOptions | None = None) -> None:
        self.id = session_id
        self.start = start
        self.state = SessionState.OPEN
        self.transcript = Transcript()
        self._captioner = Captioner(
            options,
            language=start.language,
            task=start.task,
            vocabulary=start.vocabulary,
        )
        self._messages: list[ServerMessage] = []

    # What arrives ----------------------------------------------------------------------------------

    def check(self, event: SessionEvent) -> SessionState:
        """Return the state that `event` leads to. Raises ClientError `unexpected_message` if to none."""
        try:
            return TRANSITIONS[self.state][event]
        except KeyError:
            raise ClientError(
                "unexpected_message",
                f"A session that is {self.state.value} takes no {event.value}.",
                "After `stop` only read: `stopped` and `final` follow. Open a new session for more audio.",
            ) from None

    def receive_audio(self, audio: FloatArray) -> None:
        """Take decoded audio, shape (n,), 16 kHz mono in -1 … 1."""
        self.state = self.check(SessionEvent.AUDIO_RECEIVED)
        self._captioner.receive_audio(audio)

    def receive_finalize(self) -> None:
        """Take the wish to have everything so far committed."""
        self.state = self.check(SessionEvent.FINALIZE_RECEIVED)
        self._captioner.mark("finalize")
        self._collect()

    def receive_stop(self) -> None:
        """Take note that no more audio comes."""
        self.state = self.check(SessionEvent.STOP_RECEIVED)
        self._captioner.mark("stop")
        self._collect()

    def receive_loss(self) -> None:
        """Take note that the client is gone; what it sent is brought to its end."""
        before, self.state = self.state, self.check(SessionEvent.CLIENT_LOST)
        if before is not self.state:
            self._captioner.mark("stop")
            self._collect()

    def receive_probabilities(self, probabilities: Iterable[float]) -> None:
        """Take the answer to `unjudged()`."""
        self._captioner.receive_probabilities(probabilities)
        self._collect()

    def receive_hypothesis(self, hypothesis: Hypothesis) -> None:
        """Take the answer to `decode()`."""
        self._captioner.receive_hypothesis(hypothesis)
        self._collect()

    def receive_decode_failure(self) -> None:
        """Learn that what `decode()` asked for cannot be had."""
        self._captioner.receive_failure()
        self._collect()

    def receive_break(self) -> None:
        """Learn that the session cannot go on, for a reason outside it."""
        self.state = self.check(SessionEvent.BROKEN)

    def finish(self, final: Final) -> None:
        """Take the final result; the session is done."""
        state = self.check(SessionEvent.FINISHED)
        self._keep(final)
        self.state = state

    # What is wanted, and what is said --------------------------------------------------------------

    def unjudged(self) -> FloatArray | None:
        """Return audio whose probability of speech is wanted; see `Captioner.unjudged`."""
        return self._captioner.unjudged()

    def decode(self) -> tuple[DecodeRequest, FloatArray] | None:
        """Return a window that is to be recognised; see `Captioner.decode`."""
        return self._captioner.decode()

    def messages(self) -> list[ServerMessage]:
        """Return the messages made since the last call, in order."""
        messages, self._messages = self._messages, []
        return messages

    def lag(self) -> Lag:
        """Say how far the captions are behind what was received."""
        received, settled = self._captioner.received_sample, self._captioner.settled_sample
        return Lag(seconds(received), seconds(settled), seconds(max(0, received - settled)))

    @property
    def backlog_samples(self) -> int:
        """Audio received and not yet considered."""
        return self._captioner.backlog_samples

    def set_step(self, step_samples: int, *, overloaded: bool = False) -> None:
        """Decode at each `step_samples` of new audio from now on, to spare a loaded recogniser.

        `overloaded` tells that it cannot follow even so: steps may be skipped.
        """
        self._captioner.step_samples = step_samples
        self._captioner.overloaded = overloaded

    # From the policy's events to messages ----------------------------------------------------------

    def _collect(self) -> None:
        for event in self._captioner.events():
            self._tell(event)

    def _tell(self, event: CaptionEvent) -> None:
        match event:
            case SpeechStarted(start_sample):
                self._messages.append(Speech("started", seconds(start_sample)))
            case SpeechEnded(end_sample):
                self._messages.append(Speech("ended", seconds(end_sample)))
            case Committed(words, utterance):
                text = "".join(word.text for word in words)
                self._keep(Commit(self._next_seq(), tuple(map(wire_word, words)), text, utterance))
            case TailChanged(words):
                self._tell_tail(words)
            case Utterance():
                self._tell_utterance(event)
            case MarkReached("finalize", sample):
                self._messages.append(Finalized(seconds(sample)))
            case MarkReached("stop", sample):
                self.state = self.check(SessionEvent.DRAINED)
                self._keep(Stopped(self._next_seq(), seconds(sample), self.transcript.text))

    def _tell_tail(self, words: tuple[Word, ...]) -> None:
        if not self.start.interim:
            return
        start = words[0].start_sample if words else self._captioner.settled_sample
        end = words[-1].end_sample if words else start
        text = "".join(word.text for word in words)
        self._messages.append(Partial(text, tuple(map(wire_word, words)), seconds(start), seconds(end)))

    def _tell_utterance(self, utterance: Utterance) -> None:
        self._keep(
            UtteranceMessage(
                self._next_seq(),
                utterance.index,
                seconds(utterance.start_sample),
                seconds(utterance.end_sample),
                utterance.text,
                utterance.speaker,
                utterance.language,
            )
        )

    def _next_seq(self) -> int:
        return self.transcript.last_seq + 1

    def _keep(self, message: KeptMessage) -> None:
        self.transcript.apply(message)
        self._messages.append(message)
