"""Any sequence of events and answers, against a plain model of what a session takes when."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from driving import VOICES, Driver
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from live_asr.core.errors import ClientError
from live_asr.core.messages import (
    KEPT,
    Final,
    Finalized,
    KeptMessage,
    Partial,
    Start,
    Stopped,
    decode_server,
    encode,
)
from live_asr.core.result import make_result
from live_asr.core.session import Session
from live_asr.core.session import SessionState as S
from live_asr.core.speaker_clusters import SpeakerOptions
from live_asr.core.transcript import Transcript
from live_asr.core.types import Turn, samples
from live_asr.models.scripted import Mishap, ScriptedRecognizer, UnreliableRecognizer, numbered, spoken

COURSE = (S.OPEN, S.STREAMING, S.DRAINING, S.FINALIZING, S.DONE)
WHEN = {
    "audio": {S.OPEN, S.STREAMING},
    "finalize": {S.OPEN, S.STREAMING},
    "silence": {S.OPEN, S.STREAMING},
    "stop": {S.OPEN, S.STREAMING},
    "lost": set(S),
    "finished": {S.FINALIZING},
    "broken": {S.OPEN, S.STREAMING, S.DRAINING, S.FINALIZING},
}
"""The model, written without a look at the table: when each event is allowed."""

TALK = numbered(
    [
        *spoken("good morning and welcome to all of you here", 0.5),
        *spoken("thank you it is good to be here", 3.2),
        *spoken("then let us begin", 6.0),
    ]
)
TURNS = (
    Turn(samples(0.5), samples(3.2), "S1"),
    Turn(samples(3.2), samples(5.4), "S2"),
    Turn(samples(6.0), samples(7.2), "S1"),
)
AUDIO = VOICES.audio_of(TURNS, samples(8.0))
LENGTHS = st.sampled_from([0, 1, 512, 1_600, 16_000, 48_000, 80_000])


class SessionMachine(RuleBasedStateMachine):
    """A session to which anything may happen at any time, each answer in its own good time."""

    @initialize(
        speakers=st.booleans(),
        interim=st.booleans(),
        pace=st.sampled_from(["realtime", "fast"]),
        mishaps=st.lists(st.sampled_from(Mishap), max_size=20),
        heard_first=LENGTHS,
        ends_after=st.integers(0, 25),
    )
    def begin(
        self,
        speakers: bool,
        interim: bool,
        pace: str,
        mishaps: list[Mishap],
        heard_first: int,
        ends_after: int,
    ) -> None:
        self.session = Session(
            "test",
            Start(language="en", interim=interim, pace=pace),
            speakers=SpeakerOptions() if speakers else None,
        )
        self.driver = Driver(self.session, UnreliableRecognizer(ScriptedRecognizer(TALK), mishaps))
        self.heard_samples = 0
        self.finalizes = 0
        self.stopped = self.broken = self.finished = False
        self.rank = 0
        self.kept: list[KeptMessage] = []
        self.answered = 0
        self.client = Transcript()
        self.steps_to_end = ends_after
        if heard_first:
            self.audio(heard_first)

    # What may happen -----------------------------------------------------------------------------

    def happens(self, event: str, happening: Callable[[], None]) -> bool:
        """Let something happen; return whether it was taken, and see that a refusal changes nothing."""
        self.steps_to_end -= 1
        state = self.session.state
        if state in WHEN[event]:
            happening()
            return True
        self.listen()
        before = self.fingerprint()
        with pytest.raises(ClientError) as refusal:
            happening()
        assert (refusal.value.code, refusal.value.close_code) == ("unexpected_message", 1008)
        assert state.value in refusal.value.message and event in refusal.value.message
        assert refusal.value.hint
        assert self.fingerprint() == before
        assert self.session.messages() == []
        return False

    def fingerprint(self) -> tuple[object, ...]:
        session = self.session
        said = (session.transcript.last_seq, session.transcript.words, session.transcript.final)
        return session.state, session.lag(), session.backlog_samples, session.checkpoint(), said

    @rule(length=LENGTHS)
    def audio(self, length: int) -> None:
        piece = np.resize(AUDIO, 10 * len(AUDIO))[self.heard_samples :][:length]
        if self.happens("audio", lambda: self.session.receive_audio(piece)):
            self.heard_samples += len(piece)

    @rule()
    def finalize(self) -> None:
        self.finalizes += self.happens("finalize", self.session.receive_finalize)

    @rule()
    def falls_silent(self) -> None:
        self.happens("silence", self.session.receive_silence)

    @precondition(lambda self: self.steps_to_end <= 0)
    @rule()
    def stop(self) -> None:
        self.stopped |= self.happens("stop", self.session.receive_stop)

    @precondition(lambda self: self.steps_to_end <= 0)
    @rule()
    def lose(self) -> None:
        self.happens("lost", self.session.receive_loss)
        self.stopped |= not self.broken

    @rule()
    def finish(self) -> None:
        final = make_result(self.session.transcript, {"json": "/t.json"}).final
        self.finished |= self.happens("finished", lambda: self.session.finish(final))

    @precondition(lambda self: self.steps_to_end <= -3)
    @rule()
    def breaks(self) -> None:
        self.broken |= self.happens("broken", self.session.receive_break)

    @precondition(lambda self: not self.broken)
    @rule(steps=st.sampled_from([1, 3, 100, 100]))
    def is_answered(self, steps: int) -> None:
        """Some of what the session asks for is answered; of one that is broken nobody asks any more."""
        work = (self.driver.judge, self.driver.tell_speakers, self.driver.answer)
        for _ in range(steps):
            if not any(one() for one in work):
                return

    @rule()
    def lags(self) -> None:
        lag = self.session.lag()
        assert lag.received == round(self.heard_samples / 16_000, 3)
        assert 0 <= lag.seconds <= lag.received and lag.committed <= lag.received

    # What must hold ------------------------------------------------------------------------------

    def listen(self) -> None:
        """Hear what the session says, as a client hears it over the wire."""
        for message in self.session.messages():
            heard = decode_server(encode(message))
            assert heard == message
            self.client.apply(heard)  # refuses a `seq` that is not the next
            self.answered += isinstance(message, Finalized)
            if isinstance(message, KEPT):
                self.kept.append(message)
            assert not isinstance(message, Partial) or self.session.start.interim

    @invariant()
    def states_only_go_forward(self) -> None:
        if not hasattr(self, "session"):
            return
        state = self.session.state
        assert (state is S.FAILED) is self.broken
        assert (state is S.DONE) is self.finished or self.broken
        if state is S.FAILED:
            return
        rank = COURSE.index(state)
        assert rank >= self.rank
        self.rank = rank
        assert (rank >= COURSE.index(S.DRAINING)) is self.stopped
        assert (state is S.OPEN) <= (self.heard_samples == 0)

    @invariant()
    def what_is_said_fits_the_state(self) -> None:
        if not hasattr(self, "session"):
            return
        self.listen()
        assert self.client.text == self.session.transcript.text
        assert self.client.words == self.session.transcript.words
        is_complete = self.rank >= COURSE.index(S.FINALIZING)
        assert [type(m) for m in self.kept].count(Stopped) == is_complete
        assert [type(m) for m in self.kept].count(Final) == self.finished
        assert self.answered <= self.finalizes
        if is_complete:
            assert self.answered == self.finalizes
            stopped = next(message for message in self.kept if isinstance(message, Stopped))
            assert (stopped.duration, stopped.text) == (
                round(self.heard_samples / 16_000, 3),
                self.client.text,
            )

    def teardown(self) -> None:
        """Whatever has happened: a session that is not broken comes to its end."""
        if not hasattr(self, "session") or self.broken:
            return
        self.session.receive_loss()
        self.stopped = True
        self.driver.work()
        if not self.finished:
            assert self.session.state is S.FINALIZING
            self.session.finish(make_result(self.session.transcript, {}).final)
            self.finished = True
        self.states_only_go_forward()
        self.what_is_said_fits_the_state()
        assert self.session.state is S.DONE


TestSession = SessionMachine.TestCase
TestSession.settings = settings(deadline=None, max_examples=200, stateful_step_count=40)
