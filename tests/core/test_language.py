"""The language spoken: found once it is clear, found again when it changes, never a wrong one meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from driving import Driver, committed, text_of, utterances

from live_asr.core.expectation import MOST_EXPECTED
from live_asr.core.language import LanguageVote
from live_asr.core.streaming_policy import (
    Event,
    LanguageChanged,
    StreamingPolicy,
    TailChanged,
    VocabularyShortened,
)
from live_asr.core.types import DecodeRequest, Hypothesis, Word, samples
from live_asr.models.interfaces import FloatArray
from live_asr.models.scripted import ScriptedRecognizer, audio_of, numbered, spoken

ENGLISH = "the quick brown fox jumps over the lazy dog and runs away into the deep dark wood"
SPANISH = "el zorro marrón salta sobre el perro perezoso y se va corriendo hacia el bosque oscuro"


def said(text: str, start: float) -> tuple[Word, ...]:
    return spoken(text, start, word=0.4)


class Polyglot:
    """Reads a script in which each stretch is in a language of its own, and judges it as a model would.

    Asked for another language it writes what it hears in that one, and so it does behind forced words of it.
    """

    def __init__(self, *stretches: tuple[str, tuple[Word, ...]], belief: float = 0.97) -> None:
        self.script = numbered([word for _, words in stretches for word in words])
        self._language = [code for code, words in stretches for _ in words]
        self._scripted = ScriptedRecognizer(self.script)
        self._belief = belief

    def recognize(self, request: DecodeRequest, audio: FloatArray) -> Hypothesis:
        hypothesis = self._scripted.recognize(replace(request, language=None), audio)
        from_sample = request.judged_from_sample or request.start_sample
        heard = [
            self._language[index]
            for index, word in enumerate(self.script)
            if from_sample <= word.start_sample < request.end_sample
        ]
        share = {code: heard.count(code) / len(heard) * self._belief for code in sorted(set(heard))}
        beliefs = (*sorted(share.items(), key=lambda entry: -entry[1]), ("la", 0.02))
        language = request.language or beliefs[0][0]
        told = self._language[max(request.prefix)] if request.prefix else language
        words = tuple(
            word
            if {language, told} == {self._language[word.tokens[0]]}
            else replace(word, text=f" {word.text.strip()}?")
            for word in hypothesis.words
        )
        judged = request.language is None or request.judged_from_sample is not None
        return replace(hypothesis, words=words, language=language, language_beliefs=beliefs if judged else ())


def heard(
    recognizer: Polyglot, subject: StreamingPolicy | None = None
) -> tuple[list[Event], list[DecodeRequest]]:
    subject = subject or StreamingPolicy()
    driver = Driver(subject, recognizer)
    driver.hear(audio_of(recognizer.script, recognizer.script[-1].end_sample + samples(2.0)))
    subject.mark("stop")
    driver.work()
    return subject.events(), driver.requests


def written(words: Sequence[Word]) -> str:
    return "".join(word.text for word in words)


def test_each_of_several_turns_is_written_in_its_own_language_and_nothing_is_missing() -> None:
    turns = Polyglot(("en", said(ENGLISH, 0.5)), ("es", said(SPANISH, 9.0)), ("en", said(ENGLISH, 17.0)))
    events, _ = heard(turns)
    assert text_of(events) == written(turns.script)
    assert [utterance.language for utterance in utterances(events)] == ["en", "es", "en"]
    changes = [(e.language, e.before) for e in events if isinstance(e, LanguageChanged)]
    assert changes == [("es", "en"), ("en", "es")]


def test_a_change_in_the_middle_of_an_utterance_begins_another_one() -> None:
    turns = Polyglot(("en", said(ENGLISH, 0.5)), ("es", said(f"{SPANISH} {SPANISH} {SPANISH}", 7.3)))
    events, _ = heard(turns)
    assert [utterance.language for utterance in utterances(events)] == ["en", "es"]
    assert [word.text.rstrip("?") for word in committed(events)] == [word.text for word in turns.script]
    assert text_of(events).endswith(written(said(f"{SPANISH} {SPANISH}", 0.0)))


def test_one_short_utterance_in_another_language_changes_nothing_and_a_second_does() -> None:
    turns = Polyglot(
        ("en", said(ENGLISH, 0.5)),
        ("es", said("muchas gracias señora", 9.0)),
        ("en", said("you are very welcome", 12.0)),
        ("es", said("muchas gracias señora", 15.0)),
        ("es", said("hasta la vista amigo mío", 18.0)),
    )
    events, _ = heard(turns)
    assert [utterance.language for utterance in utterances(events)] == ["en", "en", "en", "en", "es"]
    assert text_of(events).endswith(" hasta la vista amigo mío")


def test_a_language_that_was_given_is_never_judged_and_stays() -> None:
    turns = Polyglot(("en", said(ENGLISH, 0.5)), ("es", said(SPANISH, 9.0)))
    events, requests = heard(turns, StreamingPolicy(language="en"))
    assert {request.language for request in requests} == {"en"}
    assert {request.judged_from_sample for request in requests} == {None}
    assert {utterance.language for utterance in utterances(events)} == {"en"}


def test_the_only_language_of_a_choice_is_given() -> None:
    _, requests = heard(Polyglot(("en", said(ENGLISH, 0.5))), StreamingPolicy(languages=["en"]))
    assert {request.language for request in requests} == {"en"}


def test_a_language_that_was_found_is_looked_at_once_or_twice_an_utterance() -> None:
    turns = Polyglot(*[("en", said(ENGLISH, 0.5 + 8.0 * turn)) for turn in range(5)])
    events, requests = heard(turns)
    later = [request for request in requests if request.start_sample > samples(8.0) and request.language]
    judged = [request for request in later if request.judged_from_sample is not None]
    assert 4 <= len(judged) <= 8
    assert len(judged) < len(later) / 4
    assert len(utterances(events)) == 5


def test_nothing_is_committed_while_it_is_not_clear_and_all_is_shown() -> None:
    unclear = Polyglot(("it", said(SPANISH, 0.5)), belief=0.55)
    subject = StreamingPolicy()
    Driver(subject, unclear).hear(audio_of(unclear.script, samples(5.0)))
    events = subject.events()
    assert committed(events) == []
    assert sum(isinstance(event, TailChanged) for event in events) > 3


def test_a_close_relative_in_the_first_seconds_does_not_decide() -> None:
    vote = LanguageVote()
    for belief, duration in ((0.4, 1.5), (0.78, 2.2), (0.79, 2.9)):
        vote.add((("it", belief), ("es", 0.06)), samples(duration))
        assert vote.language is None
    for duration in (5.7, 6.4):
        vote.add((("es", 0.86), ("it", 0.02)), samples(duration))
    assert vote.language == "es"


def test_clear_speech_decides_within_a_second_and_a_half() -> None:
    vote = LanguageVote()
    vote.add((("de", 0.98),), samples(0.8))
    assert vote.language is None
    vote.add((("de", 0.95),), samples(1.5))
    assert vote.language == "de"


@pytest.mark.parametrize("is_file", [True, False])
def test_first_words_that_tell_no_language_wait_for_the_next_ones(is_file: bool) -> None:
    opening = numbered([*said("2002", 0.5), *said(SPANISH, 5.0)])

    class Blind(Polyglot):
        def recognize(self, request: DecodeRequest, audio: FloatArray) -> Hypothesis:
            hypothesis = super().recognize(request, audio)
            if request.end_sample > samples(5.0):
                return hypothesis
            return replace(hypothesis, language="pl", language_beliefs=(("pl", 0.15), ("es", 0.1)))

    subject = StreamingPolicy()
    driver = Driver(subject, Blind(("es", opening)))
    subject.receive_audio(audio_of(opening, opening[-1].end_sample + samples(2.0)))
    if is_file:  # it is there as a whole before any of it is heard
        subject.mark("stop")
    driver.work()
    subject.mark("finalize")
    events = subject.events()
    assert text_of(events) == written(opening)
    assert [utterance.language for utterance in utterances(events)] == ["es"]


@pytest.mark.parametrize("duration", [3.0, 20.0])
def test_they_do_not_wait_for_ever_nor_beyond_a_finalize(duration: float) -> None:
    script = said("2002", 0.5)
    subject = StreamingPolicy()
    driver = Driver(subject, Polyglot(("pl", script), belief=0.2))
    driver.hear(audio_of(script, samples(duration)))
    if duration < 6.0:
        assert committed(subject.events()) == []
        subject.mark("finalize")
        driver.work()
    assert written(committed(subject.events())) == " 2002"


def test_a_guess_is_shown_only_where_it_may_be_speech_of_a_language_not_found_yet() -> None:
    script = tuple(replace(word, probability=0.1) for word in said("haha hehe", 0.5))
    events, _ = heard(Polyglot(("en", script)), StreamingPolicy(language="en"))
    assert committed(events) == [] and not any(isinstance(event, TailChanged) for event in events)
    events, _ = heard(Polyglot(("pl", script), belief=0.2))
    assert text_of(events) == " haha hehe"


def test_another_language_can_be_given_in_the_middle_and_is_spoken_from_there() -> None:
    turns = Polyglot(("en", said(ENGLISH, 0.5)), ("es", said(SPANISH, 9.0)))
    subject = StreamingPolicy(language="en")
    driver = Driver(subject, turns)
    audio = audio_of(turns.script, turns.script[-1].end_sample + samples(2.0))
    driver.hear(audio[: samples(9.5)])
    subject.update(LanguageVote("es"), ["zorro"])
    driver.hear(audio[samples(9.5) :])
    events = subject.events()
    assert text_of(events) == written(turns.script)
    assert [utterance.language for utterance in utterances(events)] == ["en", "es"]
    assert driver.requests[0].vocabulary == ()
    assert driver.requests[-1].vocabulary == ("zorro",)


def test_it_is_told_once_that_words_to_expect_found_no_room() -> None:
    class Narrow(Polyglot):
        def recognize(self, request: DecodeRequest, audio: FloatArray) -> Hypothesis:
            used = min(3, len(request.vocabulary))
            return replace(super().recognize(request, audio), vocabulary_count=used)

    events, _ = heard(
        Narrow(("en", said(ENGLISH, 0.5))), StreamingPolicy(language="en", vocabulary=list("abcde"))
    )
    assert [e for e in events if isinstance(e, VocabularyShortened)] == [VocabularyShortened(3, 5)]
    events, _ = heard(
        Narrow(("en", said(ENGLISH, 0.5))), StreamingPolicy(language="en", vocabulary=list("abc"))
    )
    assert not any(isinstance(event, VocabularyShortened) for event in events)


def test_of_a_long_list_only_what_looks_like_something_heard_is_expected() -> None:
    names = [f"Tegucigalpa{number:03}" for number in range(60)]
    policy = StreamingPolicy(language="en", vocabulary=[*names, "Foxes"])
    events, requests = heard(Polyglot(("en", said(ENGLISH, 0.5))), policy)
    assert "fox" in ENGLISH.split()
    assert {request.vocabulary for request in requests} == {(), ("Foxes",)}
    told = [event for event in events if isinstance(event, VocabularyShortened)]
    assert told == [VocabularyShortened(MOST_EXPECTED, 61)]


# Scripts in which a second takes many tokens ---------------------------------------------------------------


class Dense:
    """Reads a script of which each word takes many tokens, as many as the request allows."""

    def __init__(self, script: Sequence[Word], tokens: int) -> None:
        self._scripted = ScriptedRecognizer(script)
        self._tokens = tokens

    def recognize(self, request: DecodeRequest, audio: FloatArray) -> Hypothesis:
        hypothesis = self._scripted.recognize(replace(request, language=None, max_new_tokens=10_000), audio)
        whole, rest = divmod(request.max_new_tokens, self._tokens)
        words = [replace(word, tokens=word.tokens * self._tokens) for word in hypothesis.words]
        capped = len(words) > whole
        if capped:
            half = [replace(word, text=word.text[:2]) for word in words[whole : whole + 1] if rest]
            words = words[:whole] + half
        return replace(hypothesis, words=tuple(words), capped=capped, language=request.language)


@pytest.mark.parametrize("language", ["ml", "my", "ka"])
@pytest.mark.parametrize("pause", [0.0, 0.2])
def test_no_word_is_lost_where_a_second_takes_forty_tokens(language: str, pause: float) -> None:
    script = numbered(spoken(" ".join(f"w{index}" for index in range(141)), 0.5, word=0.4, gap=pause))
    subject = StreamingPolicy(language=language)
    driver = Driver(subject, Dense(script, 16))
    driver.hear(audio_of(script, script[-1].end_sample + samples(1.5)))
    assert text_of(subject.events()) == written(script)
    assert max(len(request.prefix) for request in driver.requests) <= 200
    assert max(request.max_new_tokens for request in driver.requests) <= 200


def test_nor_where_a_burst_of_audio_is_decoded_at_the_end_of_an_utterance() -> None:
    script = numbered(spoken(" ".join(f"w{index}" for index in range(30)), 0.5, word=0.4))
    subject = StreamingPolicy(language="ml")
    subject.step_samples = samples(60.0)
    driver = Driver(subject, Dense(script, 16))
    driver.hear(audio_of(script, script[-1].end_sample + samples(1.5)))
    assert text_of(subject.events()) == written(script)
