"""Sessions in which each channel is a speaker: one record, in order, whoever talks when."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from live_asr.core.checkpoint import Checkpoint
from live_asr.core.errors import ClientError
from live_asr.core.messages import (
    KEPT,
    AudioFormat,
    Commit,
    Finalized,
    Notice,
    Partial,
    ServerMessage,
    Speech,
    Start,
    Stopped,
    Update,
    Updated,
    UtteranceMessage,
    client_from_dict,
    decode_server,
    encode,
)
from live_asr.core.session import Session, SessionState
from live_asr.core.transcript import Transcript
from live_asr.core.types import DecodeRequest, Hypothesis, Word, samples
from live_asr.models.interfaces import FloatArray, SpeechState
from live_asr.models.scripted import (
    EnergyDetector,
    Mishap,
    ScriptedRecognizer,
    UnreliableRecognizer,
    audio_of,
    numbered,
    spoken,
)

AUDIO = AudioFormat(channels=2)
QUIETER = 0.8
"""How loud the second channel is, against the first: by that the recogniser knows whose script to read."""
HER = numbered(
    [
        *spoken("good morning this is the office what can we do for you.", 0.5),
        *spoken("yes of course I can look that up right now.", 8.0),
        *spoken("that would be all then goodbye.", 15.0),
    ]
)
HIM = numbered(
    [
        *spoken("hello I would like to ask about my order.", 4.6),
        *spoken("thank you.", 9.0),
        *spoken("well there is one more thing that I should ask.", 11.5),
    ]
)
LENGTH = samples(18.0)


def two(her: Sequence[Word], him: Sequence[Word], length: int = LENGTH) -> FloatArray:
    return np.stack([audio_of(her, length), audio_of(him, length) * np.float32(QUIETER)])


class Call:
    """A call, its server and what is kept of it."""

    def __init__(
        self,
        her: Sequence[Word] = HER,
        him: Sequence[Word] = HIM,
        *,
        mishaps: Sequence[Mishap] = (),
        **start: Any,
    ) -> None:
        self._scripts = [ScriptedRecognizer(her), ScriptedRecognizer(him)]
        self._spoilt = [UnreliableRecognizer(script, iter(mishaps)) for script in self._scripts]
        self._detector = EnergyDetector()
        self._start = Start(**{"audio": AUDIO, "channel_speakers": True, "language": "en", **start})
        self.audio = two(her, him)
        self.session = Session("call", self._start)
        self.said: list[ServerMessage] = []
        self.lines: list[bytes] = []
        self._state: dict[str, Any] = {}
        self._given = 0

    def hear_until(self, sample: int, step: int = samples(0.25)) -> None:
        while self._given < sample:
            piece = self.audio[:, self._given : min(self._given + step, sample)]
            self._given += piece.shape[1]
            self.session.receive_audio(piece)
            self.work()

    def work(self) -> None:
        while self._judge() or self._answer():
            pass
        said = self.session.messages()
        kept = [encode(message) for message in said if isinstance(message, KEPT)]
        if kept:
            self.lines += kept
            self._state = json.loads(json.dumps(self.session.checkpoint().to_dict()))
        self.said += said

    def _judge(self) -> bool:
        found = False
        for channel in (1, 0):
            audio = self.session.unjudged(channel)
            if audio is not None:
                judged, _ = self._detector.detect(audio, SpeechState.initial())
                self.session.receive_probabilities(judged, channel)
                found = True
        return found

    def _answer(self) -> bool:
        wanted = self.session.decode()
        if wanted is None:
            return False
        assert self.session.decode() is None, "one at a time"
        request, audio = wanted
        try:
            self.session.receive_hypothesis(self._recognized(request, audio))
        except RuntimeError:
            self.session.receive_decode_failure()
        return True

    def _recognized(self, request: DecodeRequest, audio: FloatArray) -> Hypothesis:
        is_his = bool(0 < np.abs(audio).max(initial=0.0) < 0.45)
        return self._spoilt[is_his].recognize(request, audio)

    def end(self) -> Transcript:
        self.hear_until(self.audio.shape[1])
        self.session.receive_stop()
        self.work()
        assert self.session.state is SessionState.FINALIZING
        return self.record()

    def record(self) -> Transcript:
        transcript = Transcript()
        for line in self.lines:
            transcript.apply(decode_server(line))
        return transcript

    def die(self, *, keeps_state: bool) -> None:
        state = self._state if keeps_state else {}
        self.session = Session.restored("call", self._start, self.record(), Checkpoint.from_dict(state))
        self._given = 0
        self.work()

    def of(self, *kinds: type) -> list[Any]:
        return [message for message in self.said if isinstance(message, kinds)]


def words_of(record: Transcript, speaker: str) -> str:
    return "".join(word.text for word in record.words if word.speaker == speaker).strip()


def text(script: Sequence[Word]) -> str:
    return "".join(word.text for word in script).strip()


def test_each_channel_is_a_speaker_and_the_record_is_in_order_of_time() -> None:
    call = Call()
    record = call.end()
    told = [(message.speaker, message.text) for message in call.of(UtteranceMessage)]
    assert told == [
        ("S1", "good morning this is the office what can we do for you."),
        ("S2", "hello I would like to ask about my order."),
        ("S1", "yes of course I can look that up right now."),
        ("S2", "thank you."),
        ("S2", "well there is one more thing that I should ask."),
        ("S1", "that would be all then goodbye."),
    ]
    starts = [message.start for message in call.of(UtteranceMessage)]
    assert starts == sorted(starts)
    assert {word.speaker for message in call.of(Commit) for word in message.words} == {"S1", "S2"}
    assert (words_of(record, "S1"), words_of(record, "S2")) == (text(HER), text(HIM))
    (stopped,) = call.of(Stopped)
    assert stopped.duration == 18.0
    assert stopped.text == record.text == "".join(message.text for message in call.of(Commit))


def test_speech_says_on_which_channel_it_is() -> None:
    call = Call()
    call.end()
    heard = [(message.channel, message.state) for message in call.of(Speech)]
    assert heard[:4] == [(0, "started"), (0, "ended"), (1, "started"), (1, "ended")]


LONG = numbered(spoken(" ".join(f"she{n}" for n in range(40)), 0.5))
OTHER = numbered(spoken(" ".join(f"he{n}" for n in range(40)), 1.0))


def test_who_talk_at_once_take_turns_in_the_record_and_what_waits_is_in_the_tail() -> None:
    call = Call(LONG, OTHER)
    record = call.end()
    assert (words_of(record, "S1"), words_of(record, "S2")) == (text(LONG), text(OTHER))
    lengths = [len(message.text.split()) for message in call.of(UtteranceMessage)]
    assert min(lengths[:-2]) >= 5, "nobody is cut into single words"
    tails = [message.text for message in call.of(Partial)]
    assert any("she" in tail and "he" in tail.replace("she", "") for tail in tails)
    assert not tails[-1]


@settings(deadline=None, max_examples=25)
@given(st.integers(1, samples(3.0)))
def test_any_chunking_gives_the_same_record(step: int) -> None:
    call, other = Call(), Call()
    call.hear_until(LENGTH, step=step)
    call.end()
    other.hear_until(LENGTH, step=LENGTH)
    other.end()
    assert call.lines == other.lines


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, LENGTH), max_size=3).map(sorted), st.booleans(), st.booleans())
def test_a_session_says_each_word_once_whenever_its_servers_die(
    deaths: list[int], keeps_state: bool, at_once: bool
) -> None:
    her, him = (LONG, OTHER) if at_once else (HER, HIM)
    call = Call(her, him)
    for sample in deaths:
        call.hear_until(sample)
        call.die(keeps_state=keeps_state)
    record = call.end()
    assert (words_of(record, "S1"), words_of(record, "S2")) == (text(her), text(him))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from(Mishap), max_size=30))
def test_a_poor_recogniser_spoils_words_and_never_the_record(mishaps: list[Mishap]) -> None:
    call = Call(mishaps=mishaps)
    record = call.end()
    assert record.is_stopped
    for message in call.of(UtteranceMessage):
        assert message.speaker in ("S1", "S2")


def test_finalize_and_update_are_answered_once_and_cover_both_channels() -> None:
    call = Call(LONG, OTHER)
    call.hear_until(samples(5.0))
    call.session.receive_finalize()
    call.session.receive_finalize()
    call.work()
    assert [message.time for message in call.of(Finalized)] == [5.0, 5.0]
    before = call.record()
    assert {utterance.words[0].speaker for utterance in before.utterances()} == {"S1", "S2"}
    assert before.words_end_sample_of("S1") > samples(4.5) < before.words_end_sample_of("S2")
    call.session.receive_update(Update(vocabulary=("Kubernetes",)))
    call.work()
    assert [message.vocabulary for message in call.of(Updated)] == [("Kubernetes",)]
    record = call.end()
    assert record.updates[-1].vocabulary == ("Kubernetes",)
    assert not call.of(Notice)


def test_one_who_says_nothing_holds_nobody_up() -> None:
    call = Call(HER, ())
    call.hear_until(samples(7.0))
    assert words_of(call.record(), "S1") == "good morning this is the office what can we do for you."
    assert call.session.lag().seconds < 0.1


@pytest.mark.parametrize(
    ("audio", "named"),
    [
        ({}, "audio.channels"),
        ({"channels": 2, "channel": 1}, "audio.channel"),
        ({"encoding": "container", "channel": 0}, "audio.channel"),
    ],
)
def test_channels_that_cannot_be_speakers_are_refused(audio: dict[str, Any], named: str) -> None:
    with pytest.raises(ClientError, match=named) as refusal:
        client_from_dict({"type": "start", "audio": audio, "channel_speakers": True})
    assert refusal.value.code == "bad_message"
