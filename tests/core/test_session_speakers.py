"""A session tells its speakers apart: labels on words, utterances that end where another one speaks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from driving import VOICES, Driver
from hypothesis import given, settings
from hypothesis import strategies as st

from live_asr.core.messages import Commit, Label, ServerMessage, Start, Stopped, UtteranceMessage
from live_asr.core.session import Session, SessionState
from live_asr.core.speaker_clusters import SpeakerOptions
from live_asr.core.types import Turn, samples
from live_asr.models.scripted import ScriptedRecognizer, numbered, spoken

TALK = numbered(
    [
        *spoken("good morning and welcome to all of you here", 1.0),
        *spoken("thank you it is good to be here today", 3.7),
        *spoken("then let us begin with the first of them", 8.0),
    ]
)
TURNS = (
    Turn(samples(1.0), samples(3.7), "S1"),
    Turn(samples(3.7), samples(6.4), "S2"),
    Turn(samples(8.0), samples(10.7), "S1"),
)
AUDIO = VOICES.audio_of(TURNS, samples(12.0))


def session_with(**start: object) -> Session:
    return Session("test", Start(language="en", pace="fast", **start), speakers=SpeakerOptions())  # type: ignore[arg-type]


def hold(session: Session, cuts: Iterator[int] | None = None) -> list[ServerMessage]:
    """Have the session hear the talk, cut at any samples, and stop."""
    driver = Driver(session, ScriptedRecognizer(TALK))
    for piece in np.split(AUDIO, sorted(cuts or range(8000, len(AUDIO), 8000))):
        driver.hear(piece)
    session.receive_stop()
    driver.work()
    return session.messages()


def test_every_word_is_known_by_its_speaker_when_the_session_stops() -> None:
    session = session_with()
    hold(session)
    said = [(word.text.strip(), word.speaker) for word in session.transcript.words]
    assert [speaker for _, speaker in said] == ["S1"] * 9 + ["S2"] * 9 + ["S1"] * 9


def test_a_change_of_speaker_without_a_pause_ends_the_utterance() -> None:
    messages = hold(session_with())
    utterances = [m for m in messages if isinstance(m, UtteranceMessage)]
    assert [u.text for u in utterances] == [
        "good morning and welcome to all of you here",
        "thank you it is good to be here today",
        "then let us begin with the first of them",
    ]
    assert [u.speaker for u in utterances] == ["S1", "S2", "S1"]
    assert [u.utterance for u in utterances] == [0, 1, 2]


class Withholding(Driver):
    """Tells nothing of speakers while it withholds, and does so late."""

    withholds = False

    def tell_speakers(self) -> bool:
        return not self.withholds and super().tell_speakers()


def hold_late(*spoken_by: tuple[str, str], start: float, end: float) -> list[tuple[str | None, str]]:
    """Have a session hear words of 0.3 s by `S1` and `S2`, on end; return its utterances.

    What tells speakers apart is withheld between two seconds. Both have been heard for 2.7 s before.
    """
    known = (
        ("S1", "good morning and welcome to all of you here"),
        ("S2", "thank you it is good to be here today"),
    )
    words, turns, at = [], [], 1.0
    for speaker, text in (*known, *spoken_by):
        said = spoken(text, at)
        words += said
        turns.append(Turn(said[0].start_sample, said[-1].end_sample, speaker))
        at += 0.3 * len(said)
        if (speaker, text) in known:
            at += 1.3
    audio = VOICES.audio_of(turns, samples(at + 1.0))
    session = session_with()
    driver = Withholding(session, ScriptedRecognizer(numbered(words)))
    for position in range(0, len(audio), samples(0.1)):
        driver.withholds = samples(start) <= position < samples(end)
        driver.hear(audio[position : position + samples(0.1)])
    session.receive_stop()
    driver.work()
    utterances = [m for m in session.messages() if isinstance(m, UtteranceMessage)]
    return [(u.speaker, u.text) for u in utterances][len(known) :]


def test_words_that_are_labelled_after_their_commit_end_with_their_speaker_too() -> None:
    one, other = "then let us begin with the first one", "which is the second as we all know"
    assert hold_late(("S1", one), ("S2", other), start=8.9, end=12.5) == [("S1", one), ("S2", other)]


def test_who_goes_on_after_an_interjection_that_is_labelled_late_begins_an_utterance() -> None:
    one, other, then = (
        "then let us begin with the first of them",
        "yes by all means",
        "it is the one we know best",
    )
    found = hold_late(("S1", one), ("S2", other), ("S1", then), start=11.6, end=14.0)
    assert found == [("S1", f"{one} {other}"), ("S1", then)]


def test_who_is_labelled_late_within_an_utterance_ends_it_by_going_on() -> None:
    one, other = "then let us begin with the first of them", "which is the second as we all know"
    found = hold_late(("S1", one), ("S2", other), start=11.6, end=13.4)
    assert found == [("S1", f"{one} which is"), ("S2", "the second as we all know")]


def test_the_last_word_before_a_pause_is_its_speaker_s_however_long_it_is_taken_for() -> None:
    """Aligners let it end where the next word begins, which may be after somebody else has begun."""
    script = [
        *spoken("good morning and welcome to all of you here", 1.0),
        *spoken("thank you it is good to be here today", 5.0),
        *spoken("then let us begin", 10.0),
        *spoken("which is the second as we all know", 12.1),
    ]
    begin = script.index(next(word for word in script if word.text == " begin"))
    script[begin] = replace(script[begin], end_sample=samples(12.1))
    turns = [
        Turn(samples(start), samples(end), speaker)
        for start, end, speaker in (
            (1.0, 3.7, "S1"),
            (5.0, 7.7, "S2"),
            (10.0, 11.2, "S1"),
            (11.5, 14.5, "S2"),  # 0.6 s before its first word
        )
    ]
    session = session_with()
    driver = Driver(session, ScriptedRecognizer(numbered(script)))
    driver.hear(VOICES.audio_of(turns, samples(16.0)))
    session.receive_stop()
    driver.work()
    said = [(segment.speaker, segment.text) for segment in session.transcript.live_segments()]
    assert said[2:] == [("S1", "then let us begin"), ("S2", "which is the second as we all know")]


def test_a_commit_never_holds_words_of_two_utterances() -> None:
    messages = hold(session_with())
    open_utterance = 0
    for message in messages:
        if isinstance(message, Commit):
            assert message.utterance == open_utterance
        elif isinstance(message, UtteranceMessage):
            open_utterance += 1


def test_a_voice_that_is_known_is_named_as_its_words_are_committed() -> None:
    messages = hold(session_with())
    last = [m for m in messages if isinstance(m, Commit)][-1]
    assert {word.speaker for word in last.words} == {"S1"}


def test_stopped_is_said_after_the_last_label() -> None:
    messages = hold(session_with())
    kinds = [type(m) for m in messages if isinstance(m, Label | Stopped | Commit)]
    assert kinds[-1] is Stopped
    assert kinds.count(Stopped) == 1


def test_a_client_that_wants_no_speakers_gets_none() -> None:
    session = session_with(diarize=False)
    messages = hold(session)
    assert not any(isinstance(m, Label) for m in messages)
    assert {word.speaker for word in session.transcript.words} == {None}
    assert session.turns() == ()


def test_the_text_is_the_same_with_speakers_and_without() -> None:
    with_speakers, without = session_with(), session_with(diarize=False)
    hold(with_speakers)
    hold(without)
    assert with_speakers.transcript.text == without.transcript.text


def test_no_more_speakers_are_told_than_the_client_allows() -> None:
    session = session_with(max_speakers=1)
    hold(session)
    assert {word.speaker for word in session.transcript.words} == {"S1"}


def test_as_many_speakers_are_looked_for_as_the_client_says_there_are() -> None:
    """Their voices are at a distance of 0.5, which is too little otherwise."""
    one = spoken("good morning and welcome to all of you here then let us begin with the first of them", 1.0)
    other = spoken(
        "thank you it is good to be here today which is the second one", one[-1].end_sample / 16_000
    )
    turns = [
        Turn(one[0].start_sample, one[-1].end_sample, "S1"),
        Turn(other[0].start_sample, other[-1].end_sample, "S2"),
    ]
    audio = VOICES.audio_of(turns, other[-1].end_sample + samples(1.0))

    class Alike(Driver):
        def tell_speakers(self) -> bool:
            wanted = session.wanted_of_speakers()
            if wanted is None:
                return False
            kind, heard = wanted
            if kind == "segmentation":
                session.receive_activity(VOICES.segment(heard))
            else:
                first, second, *_ = VOICES.embed(heard)
                mixed = np.array([first + 0.5 * second, second * 0.75**0.5], np.float32)
                session.receive_embedding(mixed / np.linalg.norm(mixed))
            return True

    for least, speakers in ((None, {"S1"}), (2, {"S1", "S2"})):
        session = session_with(min_speakers=least)
        driver = Alike(session, ScriptedRecognizer(numbered([*one, *other])))
        driver.hear(audio)
        session.receive_stop()
        driver.work()
        assert {word.speaker for word in session.transcript.words} == speakers


def test_who_spoke_when_is_known_in_the_end() -> None:
    session = session_with()
    hold(session)
    assert [turn.speaker for turn in session.turns()] == ["S1", "S2", "S1"]
    for found, meant in zip(session.turns(), TURNS, strict=True):
        assert abs(found.start_sample - meant.start_sample) <= samples(0.1)
        assert abs(found.end_sample - meant.end_sample) <= samples(0.1)


def test_a_session_that_is_stopped_without_any_audio_is_complete_at_once() -> None:
    session = session_with()
    session.receive_stop()
    Driver(session, ScriptedRecognizer(())).work()
    assert session.state is SessionState.FINALIZING


@pytest.mark.parametrize("failing", ["segmentation", "embedding", "both"])
def test_models_that_fail_cost_labels_but_no_word(failing: str) -> None:
    session = session_with()

    class Failing(Driver):
        def tell_speakers(self) -> bool:
            wanted = session.wanted_of_speakers()
            if wanted is None:
                return False
            kind, audio = wanted
            if failing in (kind, "both"):
                session.receive_speaker_failure()
            elif kind == "segmentation":
                session.receive_activity(VOICES.segment(audio))
            else:
                session.receive_embedding(VOICES.embed(audio))
            return True

    driver = Failing(session, ScriptedRecognizer(TALK))
    driver.hear(AUDIO)
    session.receive_stop()
    driver.work()
    assert session.state is SessionState.FINALIZING
    assert len(session.transcript.words) == len(TALK)


@settings(max_examples=10, deadline=None)
@given(cuts=st.lists(st.integers(1, len(AUDIO) - 1), max_size=6))
def test_any_chunking_gives_the_same_words_with_the_same_speakers(cuts: list[int]) -> None:
    one, other = session_with(), session_with()
    hold(one)
    hold(other, iter(cuts) if cuts else None)
    assert one.transcript.words == other.transcript.words
