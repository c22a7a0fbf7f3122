"""Drives a captioner or a session by hand, as the server's runner does, with scripted models."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from live_asr.core.session import Session
from live_asr.core.streaming_policy import Committed, Event, MarkReached, StreamingPolicy
from live_asr.core.types import DecodeRequest, Utterance, Word
from live_asr.models.interfaces import Recognizer, SpeechDetector, SpeechState
from live_asr.models.scripted import EnergyDetector, ScriptedVoices

FloatArray = NDArray[np.float32]
VOICES = ScriptedVoices()


@dataclass
class Driver:
    """Answers what a captioner or a session asks for, until it asks for nothing more."""

    subject: StreamingPolicy | Session
    recognizer: Recognizer
    detector: SpeechDetector = field(default_factory=EnergyDetector)
    state: SpeechState = field(default_factory=SpeechState.initial)
    requests: list[DecodeRequest] = field(default_factory=list)
    """Every decode that was wanted, in order."""

    def hear(self, audio: FloatArray) -> None:
        """Hand over audio and do all that is wanted."""
        self.subject.receive_audio(audio)
        self.work()

    def work(self) -> None:
        """Detect and decode for as long as that is wanted."""
        while self.judge() or self.tell_speakers() or self.answer():
            pass

    def judge(self) -> bool:
        """Answer one wish for probabilities of speech, if there is one."""
        audio = self.subject.unjudged()
        if audio is None:
            return False
        probabilities, self.state = self.detector.detect(audio, self.state)
        self.subject.receive_probabilities(probabilities)
        return True

    def tell_speakers(self) -> bool:
        """Answer one wish for what tells speakers apart, if there is one."""
        wanted = self.subject.wanted_of_speakers() if isinstance(self.subject, Session) else None
        if wanted is None or not isinstance(self.subject, Session):
            return False
        kind, audio = wanted
        if kind == "segmentation":
            self.subject.receive_activity(VOICES.segment(audio))
        else:
            self.subject.receive_embedding(VOICES.embed(audio))
        return True

    def answer(self) -> bool:
        """Answer one wish for a decode, if there is one; what the recogniser raises is a failure."""
        wanted = self.subject.decode()
        if wanted is None:
            return False
        request, audio = wanted
        self.requests.append(request)
        try:
            hypothesis = self.recognizer.recognize(request, audio)
        except RuntimeError:
            if isinstance(self.subject, Session):
                self.subject.receive_decode_failure()
            else:
                self.subject.receive_failure()
        else:
            self.subject.receive_hypothesis(hypothesis)
        return True


def heard(
    captioner: StreamingPolicy,
    recognizer: Recognizer,
    audio: FloatArray,
    cuts: Sequence[int] = (),
    detector: SpeechDetector | None = None,
) -> list[Event]:
    """Let a captioner hear `audio`, cut at these samples, and stop; return all events."""
    driver = Driver(captioner, recognizer, detector or EnergyDetector())
    events: list[Event] = []
    for piece in np.split(audio, sorted(cuts)):
        driver.hear(piece)
        events += captioner.events()
    captioner.mark("stop")
    driver.work()
    return events + captioner.events()


def committed(events: Iterable[Event]) -> list[Word]:
    """Return all committed words."""
    return [word for event in events if isinstance(event, Committed) for word in event.words]


def text_of(events: Iterable[Event]) -> str:
    """Return the committed text."""
    return "".join(word.text for word in committed(events))


def utterances(events: Iterable[Event]) -> list[Utterance]:
    """Return the completed utterances."""
    return [event for event in events if isinstance(event, Utterance)]


def is_stopped(events: Iterable[Event]) -> bool:
    """Tell whether everything received is said to be committed."""
    return any(isinstance(event, MarkReached) and event.name == "stop" for event in events)
