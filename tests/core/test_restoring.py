"""A session that is made again of its messages, what was written beside them, and its audio."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driving import Driver, FloatArray
from hypothesis import given, settings
from hypothesis import strategies as st

from live_asr.core.checkpoint import Checkpoint
from live_asr.core.messages import (
    Commit,
    Label,
    Partial,
    Pause,
    Start,
    Stopped,
    Update,
    wire_word,
)
from live_asr.core.session import Session, SessionState
from live_asr.core.transcript import Transcript
from live_asr.core.types import Word, samples, seconds
from live_asr.models.scripted import ScriptedRecognizer
from live_asr.models.silero import SileroDetector
from live_asr.models.whisper import WhisperRecognizer
from tests.core.restoring import MONOLOGUE, MONOLOGUE_AUDIO, TALK, TALK_AUDIO, Life


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, samples(17.0)), max_size=3).map(sorted), st.booleans())
def test_a_session_says_what_it_would_have_said_whenever_its_servers_die(
    deaths: list[int], keeps_state: bool
) -> None:
    life = Life(MONOLOGUE, MONOLOGUE_AUDIO, keeps_state=keeps_state)
    for sample in deaths:
        life.hear_until(sample)
        life.die()
    messages = life.end()
    stopped = messages[-1]
    assert isinstance(stopped, Stopped)
    assert stopped.text.split() == [word.text.strip() for word in MONOLOGUE]
    assert [m.seq for m in messages] == list(range(1, len(messages) + 1))  # type: ignore[union-attr]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, samples(17.0)), min_size=1, max_size=4).map(sorted), st.booleans())
def test_what_its_messages_were_written_with_makes_it_go_on_as_if_nothing_had_been(
    deaths: list[int], is_given: bool
) -> None:
    start = Start(pace="fast", language="en" if is_given else None, diarize=False)
    recognizer = ScriptedRecognizer(MONOLOGUE, language="en")
    life, undisturbed = (
        Life(MONOLOGUE, MONOLOGUE_AUDIO, start=start, recognizer=recognizer) for _ in range(2)
    )
    for sample in deaths:
        life.hear_until(sample)
        life.die()
    assert life.end() == undisturbed.end()


def test_so_it_does_with_the_real_models(
    sample_audio: FloatArray, recognizer_dir: Path, detector_file: Path
) -> None:
    models = {
        "recognizer": WhisperRecognizer(recognizer_dir, name="tiny.en", workers=1),
        "detector": SileroDetector(detector_file),
    }
    start = Start(pace="fast", language="en", diarize=False)
    audio = sample_audio[samples(6.0) : samples(24.0)]
    life, undisturbed = (Life((), audio, start=start, **models) for _ in range(2))  # type: ignore[arg-type]
    for death in (2.2, 5.0, 9.3, 12.6, 15.9):
        life.hear_until(samples(death))
        life.die()
    assert life.end() == undisturbed.end()
    assert "New Jersey" in undisturbed.session.transcript.text


def test_settings_that_changed_hold_for_the_next_server() -> None:
    life = Life(MONOLOGUE, MONOLOGUE_AUDIO)
    life.hear_until(samples(4.0))
    life.session.receive_update(Update(languages=("en", "de"), vocabulary=("breathes",), interim=False))
    life.hear_until(samples(5.0))
    life.die()
    life.hear_until(samples(8.0))
    assert {request.vocabulary for request in life.requests} == {("breathes",)}
    assert not any(isinstance(message, Partial) for message in life.session.messages())
    stopped = life.end()[-1]
    assert isinstance(stopped, Stopped)
    assert stopped.text.split() == [word.text.strip() for word in MONOLOGUE]
    (updated,) = life.session.transcript.updates
    assert (updated.language, updated.languages, updated.interim) == ("en", ("en", "de"), False)


def test_a_session_that_is_paused_is_paused_for_the_next_server_too() -> None:
    life = Life(MONOLOGUE, MONOLOGUE_AUDIO)
    life.hear_until(samples(8.0))
    life.session.receive_pause(Pause())
    life.hear_until(samples(8.0) + 1)
    life.die()
    assert life.session.transcript.is_paused
    life.session.receive_pause(Pause(paused=False))
    stopped = life.end()[-1]
    assert not life.session.transcript.is_paused
    assert isinstance(stopped, Stopped)
    assert stopped.text.split() == [word.text.strip() for word in MONOLOGUE]


def test_audio_that_is_heard_again_is_not_counted_twice() -> None:
    life = Life(MONOLOGUE, MONOLOGUE_AUDIO)
    life.hear_until(samples(14.0))
    life.die()
    assert life.session.lag(samples(14.0)).received == 14.0
    life.hear_until(samples(3.0))
    assert life.session.lag(samples(11.0)).received == 14.0
    life.hear_until(samples(16.0))
    assert life.session.lag().received == 16.0


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(samples(6.5), samples(17.0)), min_size=1, max_size=2).map(sorted))
def test_speakers_are_called_what_they_were_called_before(deaths: list[int]) -> None:
    life = Life(TALK, TALK_AUDIO)
    for sample in deaths:
        life.hear_until(sample)
        life.die()
    life.end()
    said = [(word.text.strip(), word.speaker) for word in life.session.transcript.words]
    assert [speaker for _, speaker in said] == ["S1"] * 9 + ["S2"] * 9 + ["S1"] * 9 + ["S2"] * 9
    first = [turn.speaker for turn in life.session.turns() if turn.start_sample < samples(6.4)]
    assert first == ["S1", "S2"]


def test_where_nothing_was_written_beside_the_messages_nobody_gets_the_name_of_another() -> None:
    life = Life(TALK, TALK_AUDIO, keeps_state=False)
    life.hear_until(samples(7.5))
    life.die()
    messages = life.end()
    later = {word.speaker for word in life.session.transcript.words[18:]}
    assert later.isdisjoint({"S1", "S2"})
    assert not [m for m in messages if isinstance(m, Label) and m.speaker == "S3" and m.to < 7.0]


def test_the_language_that_was_found_goes_on_and_is_not_taken_for_one_that_was_asked_for() -> None:
    session = Session.restored("test", Start(diarize=False), Transcript(), Checkpoint(language="de"))
    driver = Driver(session, ScriptedRecognizer(MONOLOGUE, language="de"))
    driver.hear(MONOLOGUE_AUDIO)
    assert {request.language for request in driver.requests} == {"de"}
    assert session.start.language is None  # the full pass is to find it by itself


def test_a_session_that_had_stopped_is_finalizing_and_takes_nothing_more() -> None:
    life = Life(MONOLOGUE, MONOLOGUE_AUDIO)
    life.end()
    life.die()
    assert life.session.state is SessionState.FINALIZING
    assert life.session.unjudged() is None
    assert life.session.messages() == []


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"last_seq": 1},
        {"last_seq": "x", "safe_sample": 0, "language": None, "words": [], "voices": []},
        {"last_seq": 1, "safe_sample": 0, "language": None, "words": [[1, 2]], "voices": []},
        {"last_seq": 1, "safe_sample": 0, "language": None, "words": [], "voices": [["a"]]},
    ],
)
def test_what_cannot_be_read_beside_the_messages_is_done_without(state: dict[str, Any]) -> None:
    assert Checkpoint.from_dict(state) == Checkpoint()


@pytest.mark.parametrize("course", [{}, [], [1] * 9, 7])
def test_without_where_the_captioner_was_it_goes_on_from_its_last_words(course: Any) -> None:
    life = Life(MONOLOGUE, MONOLOGUE_AUDIO)
    life.hear_until(samples(8.0))
    state = life.session.checkpoint().to_dict()
    whole = Checkpoint.from_dict(json.loads(json.dumps(state)))
    other = Checkpoint.from_dict(json.loads(json.dumps(state | {"course": course})))
    assert whole.course is not None
    assert other.words and other == replace(whole, course=None)


def test_a_snapshot_of_a_record_that_was_cut_holds_only_its_voices() -> None:
    word = Word(" later", samples(8.0), samples(8.5), 0.9, (7,))
    checkpoint = Checkpoint(9, samples(9.0), "en", (word,), ((1.0, 0.0),))
    transcript = Transcript()
    held = checkpoint.beside(transcript)
    assert (held.safe_sample, held.words, held.voices) == (0, (), ((1.0, 0.0),))
    assert np.isfinite(held.safe_sample)


@pytest.mark.parametrize("end_sample", [16_000, 16_001, 16_007, 16_008, 16_009, 16_015, 123_457])
def test_the_last_words_are_known_again_wherever_between_two_milliseconds_they_end(end_sample: int) -> None:
    said = Word(" so", end_sample - 4_000, end_sample, 0.9, (7,))
    record = Transcript()
    record.apply(Commit(1, (wire_word(said),), said.text, 0))
    assert Checkpoint(last_seq=1, words=(said,)).beside(record).words == (said,)
    other = replace(said, end_sample=end_sample + 16)
    assert Checkpoint(last_seq=1, words=(other,)).beside(record).words == ()


def test_what_the_wire_tells_in_milliseconds_is_the_same_however_often_it_is_told() -> None:
    for milliseconds in range(0, 10_000_000, 977):
        told = milliseconds / 1000
        assert seconds(samples(told)) == told
