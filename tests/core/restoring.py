"""A session that dies and is restored from what was kept, again and again."""

from __future__ import annotations

import json
from typing import Any

from driving import VOICES, Driver, FloatArray

from live_asr.core.checkpoint import Checkpoint
from live_asr.core.messages import (
    KEPT,
    ServerMessage,
    Start,
    decode_server,
    encode,
)
from live_asr.core.session import Session
from live_asr.core.speaker_clusters import SpeakerOptions
from live_asr.core.transcript import Transcript
from live_asr.core.types import DecodeRequest, Turn, Word, samples
from live_asr.models.interfaces import Recognizer, SpeechDetector
from live_asr.models.scripted import EnergyDetector, ScriptedRecognizer, audio_of, numbered, spoken

MONOLOGUE = numbered(
    [
        *spoken("the first part is said without any pause at all", 0.7),
        *spoken("then somebody breathes and goes on for a while", 5.5, gap=0.05),
        *spoken("and comes to an end", 14.0),
    ]
)
TALK = numbered(
    [
        *spoken("good morning and welcome to all of you here", 1.0),
        *spoken("thank you it is good to be here today", 3.7),
        *spoken("then let us begin with the first of them", 8.0),
        *spoken("which is the second one as we all know", 12.5),
    ]
)
TURNS = (
    Turn(samples(1.0), samples(3.7), "S1"),
    Turn(samples(3.7), samples(6.4), "S2"),
    Turn(samples(8.0), samples(10.7), "S1"),
    Turn(samples(12.5), samples(15.2), "S2"),
)
MONOLOGUE_AUDIO = audio_of(MONOLOGUE, samples(17.0))
TALK_AUDIO = VOICES.audio_of(TURNS, samples(17.0))
STEP = samples(0.25)


class Life:
    """One session's sequence of servers: what they leave on disk, and go on from."""

    def __init__(
        self,
        script: tuple[Word, ...],
        audio: FloatArray,
        *,
        keeps_state: bool = True,
        start: Start | None = None,
        recognizer: Recognizer | None = None,
        detector: SpeechDetector | None = None,
    ) -> None:
        self._recognizer = recognizer or ScriptedRecognizer(script)
        self._detector = detector or EnergyDetector()
        self._start = start or Start(pace="fast", language="en")
        self._audio = audio
        self._keeps_state = keeps_state
        self._speakers = SpeakerOptions() if audio is TALK_AUDIO else None
        self.lines: list[bytes] = []
        self._state: dict[str, Any] = {}
        self.session = Session("test", self._start, speakers=self._speakers)
        self._driver = Driver(self.session, self._recognizer, self._detector)
        self._given = 0

    def hear_until(self, sample: int) -> None:
        """Hear on, in pieces, and write down what is said, with what goes beside it."""
        while self._given < sample:
            piece = self._audio[self._given : min(self._given + STEP, sample)]
            self._given += len(piece)
            self._driver.hear(piece)
            self._write()

    def _write(self) -> None:
        said = [encode(m) for m in self.session.messages() if isinstance(m, KEPT)]
        if said:
            self.lines += said
            self._state = json.loads(json.dumps(self.session.checkpoint().to_dict()))

    def die(self) -> None:
        """Let another server take the session up; it hears all audio from the beginning."""
        transcript = Transcript()
        for line in self.lines:
            transcript.apply(decode_server(line))
        self.session = Session.restored(
            "test",
            self._start,
            transcript,
            Checkpoint.from_dict(self._state if self._keeps_state else {}),
            speakers=self._speakers,
        )
        self._driver = Driver(self.session, self._recognizer, self._detector)
        self._given = 0
        self._write()

    @property
    def requests(self) -> list[DecodeRequest]:
        """The decodes that the server at hand wanted."""
        return self._driver.requests

    def end(self) -> list[ServerMessage]:
        """Hear the rest, stop, and return all that was ever written down."""
        self.hear_until(len(self._audio))
        self.session.receive_stop()
        self._driver.work()
        self._write()
        return [decode_server(line) for line in self.lines]
