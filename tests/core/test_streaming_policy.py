"""The streaming policy: what it commits does not depend on how the audio came, nor on good luck."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from driving import Driver, committed, heard, text_of, utterances
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from live_asr.core.messages import RecognizerInfo
from live_asr.core.relief import NO_RELIEF, Relief
from live_asr.core.segmenter import SpeechEnded, SpeechStarted
from live_asr.core.streaming_policy import (
    Committed,
    Event,
    MarkReached,
    StreamingPolicy,
    StreamingPolicyOptions,
    TailChanged,
)
from live_asr.core.types import DecodeRequest, Hypothesis, Word, samples, seconds
from live_asr.models.interfaces import FloatArray, Recognizer
from live_asr.models.scripted import (
    Mishap,
    ScriptedRecognizer,
    UnreliableRecognizer,
    audio_of,
    numbered,
    spoken,
)
from live_asr.models.silero import SileroDetector
from live_asr.models.whisper import WhisperRecognizer

MAX_WINDOW_SAMPLES = samples(18.0)
"""No window of the defaults is longer, whatever the recogniser does."""
MAX_KEPT_SAMPLES = samples(32.0)
"""Nor is more audio kept: such a window, and what the last decode looks back at."""


def talk(seconds_long: float, start: float = 0.5, word: float = 0.4) -> tuple[Word, ...]:
    """Script numbered words one after the other."""
    count = round(seconds_long / word)
    return spoken(" ".join(f"w{index}" for index in range(count)), start, word=word)


def written(script: Sequence[Word]) -> str:
    return "".join(word.text for word in script)


def captioner(*, overloaded: bool = False, options: StreamingPolicyOptions | None = None) -> StreamingPolicy:
    subject = StreamingPolicy(options, language="en")
    subject.overloaded = overloaded
    return subject


# Rule 1: any chunking of the same audio gives the same record ------------------------------------------

TWO_UTTERANCES = numbered([*talk(9.0), *talk(5.0, start=11.0)])
LENGTH_SAMPLES = samples(17.0)


@settings(max_examples=150, deadline=None)
@given(
    cuts=st.lists(st.integers(0, LENGTH_SAMPLES), max_size=40),
    mishaps=st.lists(st.sampled_from(Mishap), max_size=30),
    marks=st.lists(st.integers(0, LENGTH_SAMPLES), max_size=3),
)
def test_any_chunking_gives_the_same_events(cuts: list[int], mishaps: list[Mishap], marks: list[int]) -> None:
    audio = audio_of(TWO_UTTERANCES, LENGTH_SAMPLES)

    def events(more_cuts: list[int]) -> list[Event]:
        recognizer = UnreliableRecognizer(ScriptedRecognizer(TWO_UTTERANCES), mishaps)
        subject = captioner()
        driver = Driver(subject, recognizer)
        before = 0
        for cut in sorted({*more_cuts, *marks, LENGTH_SAMPLES}):
            driver.hear(audio[before:cut])
            before = cut
            for _ in range(marks.count(cut)):
                subject.mark("finalize")
                driver.work()
        return subject.events()

    assert events(cuts) == events([])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, samples(1.0)), min_size=17 * 16_000 // samples(1.0), max_size=200))
def test_an_overloaded_session_that_is_followed_chunk_by_chunk_gives_the_record_of_the_file(
    lengths: list[int],
) -> None:
    audio = audio_of(TWO_UTTERANCES, LENGTH_SAMPLES)
    cuts = [cut for cut in np.cumsum(lengths).tolist() if cut < LENGTH_SAMPLES]
    cuts += list(range(cuts[-1] if cuts else 0, LENGTH_SAMPLES, samples(1.0)))
    recognizer = ScriptedRecognizer(TWO_UTTERANCES)
    assert heard(captioner(overloaded=True), recognizer, audio, cuts) == heard(captioner(), recognizer, audio)


def test_three_chunkings_of_a_call_give_the_same_words_from_the_real_models(
    sample_audio: NDArray[np.float32], recognizer_dir: Path, detector_file: Path
) -> None:
    audio = sample_audio[samples(6.0) : samples(15.0)]
    recognizer = WhisperRecognizer(recognizer_dir, name="tiny.en", workers=1)
    detector = SileroDetector(detector_file)
    rng = np.random.default_rng(0)
    chunkings: list[Sequence[int]] = [
        range(1_600, len(audio), 1_600),
        np.cumsum(rng.integers(1, 20_000, 100)).tolist(),
        (),
    ]
    records = [
        committed(heard(captioner(), recognizer, audio, [c for c in cuts if c < len(audio)], detector))
        for cuts in chunkings
    ]
    assert records[0] == records[1] == records[2]
    assert "New Jersey" in written(records[0])


# What a good recogniser reads is committed, once, and in time -------------------------------------------


def test_two_utterances_are_committed_word_for_word() -> None:
    events = heard(captioner(), ScriptedRecognizer(TWO_UTTERANCES), audio_of(TWO_UTTERANCES, LENGTH_SAMPLES))
    assert text_of(events) == written(TWO_UTTERANCES)
    assert [(u.index, u.text) for u in utterances(events)] == [
        (0, written(talk(9.0)).strip()),
        (1, written(talk(5.0)).strip()),
    ]


def test_each_word_is_committed_within_two_seconds_while_somebody_speaks() -> None:
    script = talk(60.0)
    audio = audio_of(script, samples(61.0))
    subject = captioner(overloaded=True)
    driver = Driver(subject, ScriptedRecognizer(script))
    for end in range(1_600, len(audio), 1_600):
        driver.hear(audio[end - 1_600 : end])
        for event in subject.events():
            if isinstance(event, Committed):
                assert all(end - word.end_sample < samples(2.0) for word in event.words)


def test_a_word_is_shown_within_a_second_of_its_start() -> None:
    script = talk(10.0)
    audio = audio_of(script, samples(11.0))
    subject = captioner(overloaded=True)
    driver = Driver(subject, ScriptedRecognizer(script))
    for end in range(1_600, samples(10.0), 1_600):
        driver.hear(audio[end - 1_600 : end])
        shown = [event for event in subject.events() if isinstance(event, TailChanged) and event.words]
        if shown:
            assert end - shown[0].words[-1].start_sample <= samples(1.0)


def test_speech_is_told_before_its_words_and_its_end_after_them() -> None:
    script = talk(3.0)
    events = heard(captioner(), ScriptedRecognizer(script), audio_of(script, samples(5.0)))
    assert isinstance(events[0], SpeechStarted)
    assert isinstance(events[-2], SpeechEnded)
    assert isinstance(events[-1], MarkReached)


def test_an_utterance_that_the_last_step_heard_to_its_end_needs_no_last_decode() -> None:
    script = talk(1.2, start=0.0)
    subject = captioner()
    driver = Driver(subject, ScriptedRecognizer(script))
    driver.hear(audio_of(script, samples(3.0)))
    assert [request.final for request in driver.requests] == [False, False]
    assert text_of(subject.events()) == written(script)


def test_one_that_it_did_not_hear_to_its_end_gets_one() -> None:
    script = talk(1.6, start=0.0)
    subject = captioner()
    driver = Driver(subject, ScriptedRecognizer(script))
    driver.hear(audio_of(script, samples(3.0)))
    assert [request.final for request in driver.requests][-1]
    assert text_of(subject.events()) == written(script)


def test_one_whose_tail_is_in_doubt_is_decoded_once_more() -> None:
    script = tuple(replace(word, probability=0.5) for word in talk(1.2, start=0.0))
    subject = captioner()
    driver = Driver(subject, ScriptedRecognizer(script))
    driver.hear(audio_of(script, samples(3.0)))
    assert [request.final for request in driver.requests] == [False, False, True]
    assert text_of(subject.events()) == written(script)


@pytest.mark.parametrize("overloaded", [False, True])
def test_a_step_that_follows_on_doubt_looks_further_back_where_there_is_time(overloaded: bool) -> None:
    script = list(talk(16.0))
    script[30] = replace(script[30], probability=0.5)
    subject = captioner(overloaded=overloaded)
    driver = Driver(subject, ScriptedRecognizer(script))
    driver.hear(audio_of(script, samples(16.0)))
    further = [
        after for before, after in pairwise(driver.requests) if after.start_sample < before.start_sample
    ]
    doubted = script[30].start_sample
    assert bool(further) is not overloaded
    assert all(
        not request.final and doubted <= request.end_sample <= doubted + samples(3.0) for request in further
    )
    assert all(request.end_sample - request.start_sample >= samples(10.0) for request in further)
    assert text_of(subject.events()) in written(script)


def test_a_step_looks_back_no_further_where_that_is_spared() -> None:
    script = list(talk(16.0))
    script[30] = replace(script[30], probability=0.5)
    subject = captioner()
    subject.relief = Relief(look_back=True)
    driver = Driver(subject, ScriptedRecognizer(script))
    driver.hear(audio_of(script, samples(16.0)))
    assert all(before.start_sample <= after.start_sample for before, after in pairwise(driver.requests))


def test_the_first_decode_of_an_utterance_comes_a_step_later_where_that_is_spared() -> None:
    script = talk(6.0)
    firsts = []
    for relief in (NO_RELIEF, Relief(first_words=True)):
        subject = captioner()
        subject.relief = relief
        driver = Driver(subject, ScriptedRecognizer(script))
        driver.hear(audio_of(script, samples(8.0)))
        firsts.append(driver.requests[0].end_sample)
        assert text_of(subject.events()) == written(script)
    assert 0 <= firsts[1] - firsts[0] - subject.step_samples < 512


def test_words_that_are_sure_are_committed_by_one_decode_where_there_is_no_time_for_two() -> None:
    script = list(talk(12.0))
    script[10] = replace(script[10], probability=0.5)

    def said(relief: Relief) -> tuple[str, str]:
        """Return what is committed by one decode, and in the end."""
        subject = captioner(overloaded=True)
        subject.relief = relief
        driver = Driver(subject, ScriptedRecognizer(script))
        audio = audio_of(script, samples(14.0))
        subject.receive_audio(audio[: samples(9.0)])
        while driver.judge():
            pass
        assert subject.decode() is not None
        wanted = subject.newest()
        assert wanted is not None
        subject.receive_hypothesis(driver.recognizer.recognize(*wanted))
        events = subject.events()
        driver.hear(audio[samples(9.0) :])
        subject.mark("stop")
        driver.work()
        return text_of(events), text_of([*events, *subject.events()])

    assert said(NO_RELIEF) == ("", written(script))
    assert said(Relief(agreement=True)) == (written(script[:10]), written(script))


class DoubtsTheEdge:
    """Reads a script, and is sure of none of the words in the last half second of a window."""

    def __init__(self, script: Sequence[Word]) -> None:
        self._sure = ScriptedRecognizer(script)
        self.info = self._sure.info

    def recognize(self, request: DecodeRequest, audio: FloatArray) -> Hypothesis:
        hypothesis = self._sure.recognize(request, audio)
        edge = request.end_sample - samples(0.5)
        words = (replace(w, probability=0.5) if w.end_sample > edge else w for w in hypothesis.words)
        return replace(hypothesis, words=tuple(words))


def test_a_doubt_about_the_newest_words_alone_is_reason_to_look_back() -> None:
    script = list(talk(16.0))
    driver = Driver(captioner(), DoubtsTheEdge(script))
    driver.hear(audio_of(script, samples(16.0)))
    steps = [request for request in driver.requests if not request.final]
    assert all(step.end_sample - step.start_sample >= samples(10.0) for step in steps[-3:])


def test_the_tail_is_cleared_when_an_utterance_ends() -> None:
    script = talk(3.0)
    events = heard(captioner(), ScriptedRecognizer(script), audio_of(script, samples(5.0)))
    tails = [event.words for event in events if isinstance(event, TailChanged)]
    assert tails[-1] == ()
    assert all(before or after for before, after in pairwise(tails)), "it is cleared once"


def test_what_is_said_after_a_short_pause_is_decoded_with_what_was_said_before() -> None:
    script = numbered([*talk(4.0), *talk(2.0, start=6.0)])
    driver = Driver(captioner(), ScriptedRecognizer(script))
    driver.hear(audio_of(script, samples(9.0)))
    second = [request for request in driver.requests if request.end_sample > samples(6.0)]
    assert all(request.prefix for request in second)
    assert seconds(second[0].start_sample) == 0.88, "20 ms before the first word of the last five seconds"


def test_what_is_said_after_a_long_pause_is_decoded_by_itself() -> None:
    script = numbered([*talk(4.0), *talk(2.0, start=9.0)])
    driver = Driver(captioner(), ScriptedRecognizer(script))
    driver.hear(audio_of(script, samples(12.0)))
    second = [request for request in driver.requests if request.end_sample > samples(9.0)]
    assert second[0].prefix == ()
    assert second[0].start_sample == pytest.approx(samples(8.7), abs=512)


@pytest.mark.parametrize("carry", [0.0, 5.0, 15.0])
def test_as_much_audio_is_kept_through_silence_as_the_next_utterance_may_carry(carry: float) -> None:
    script = numbered([*talk(20.0), *talk(3.0, start=23.4)])
    options = replace(
        StreamingPolicyOptions(),
        window=replace(StreamingPolicyOptions().window, carry_samples=samples(carry)),
    )
    events = heard(captioner(options=options), ScriptedRecognizer(script), audio_of(script, samples(28.0)))
    assert text_of(events) == written(script)


def test_a_request_says_what_the_session_was_opened_with() -> None:
    script = talk(2.0)
    subject = StreamingPolicy(language="en", task="translate", vocabulary=["Sheila", "Texas"])
    driver = Driver(subject, ScriptedRecognizer(script))
    driver.hear(audio_of(script, samples(4.0)))
    for request in driver.requests:
        assert (request.language, request.task, request.vocabulary) == (
            "en",
            "translate",
            ("Sheila", "Texas"),
        )


def test_a_longer_step_means_fewer_decodes_and_the_same_text() -> None:
    script, counts = talk(20.0), []
    for step in (0.7, 1.5):
        subject = captioner()
        subject.step_samples = samples(step)
        driver = Driver(subject, ScriptedRecognizer(script))
        driver.hear(audio_of(script, samples(22.0)))
        assert text_of(subject.events()) == written(script)
        counts.append(len(driver.requests))
    assert counts[1] <= 0.55 * counts[0]


# Utterances that go on ----------------------------------------------------------------------------------


def test_a_long_utterance_is_ended_at_the_end_of_a_sentence() -> None:
    texts = [f"w{index}." if index % 10 == 9 else f"w{index}" for index in range(200)]
    script = spoken(" ".join(texts), 0.5, word=0.4)
    events = heard(captioner(), ScriptedRecognizer(script), audio_of(script, samples(81.0)))
    assert text_of(events) == written(script)
    ended = utterances(events)
    assert len(ended) == 3
    assert all(utterance.text.endswith(".") for utterance in ended)
    assert all(30 < seconds(u.end_sample - u.start_sample) < 36 for u in ended[:-1])


def test_one_without_sentences_is_ended_at_half_as_much_again() -> None:
    script = talk(100.0)
    events = heard(captioner(), ScriptedRecognizer(script), audio_of(script, samples(102.0)))
    assert text_of(events) == written(script)
    lengths = [seconds(u.end_sample - u.start_sample) for u in utterances(events)]
    assert all(45 < length < 46 for length in lengths[:-1])
    assert len(lengths) == 3


def test_the_window_runs_on_where_a_long_utterance_is_ended() -> None:
    script = talk(100.0)
    driver = Driver(captioner(), ScriptedRecognizer(script))
    driver.hear(audio_of(script, samples(102.0)))
    assert all(request.prefix for request in driver.requests[5:])


# finalize and stop --------------------------------------------------------------------------------------


def marked(at: float, script: Sequence[Word], duration: float) -> tuple[list[Event], list[Event]]:
    """Finalize at `at` seconds; return the events until that was reached, and those after."""
    audio = audio_of(script, samples(duration))
    subject = captioner()
    driver = Driver(subject, ScriptedRecognizer(script))
    driver.hear(audio[: samples(at)])
    subject.mark("finalize")
    driver.work()
    before = subject.events()
    driver.hear(audio[samples(at) :])
    subject.mark("stop")
    driver.work()
    return before, subject.events()


def test_finalize_in_mid_speech_ends_the_utterance_and_no_audio_is_lost() -> None:
    script = talk(8.0, start=0.0)
    before, after = marked(4.0, script, 9.0)
    assert before[-1] == MarkReached("finalize", samples(4.0))
    assert isinstance(before[-2], SpeechEnded)
    assert text_of(before) == written(script[:10])
    assert text_of([*before, *after]) == written(script)
    started = [event for event in after if isinstance(event, SpeechStarted)]
    assert started == [SpeechStarted(before[-2].end_sample)]


def test_finalize_in_silence_is_reached_at_once() -> None:
    before, after = marked(6.0, talk(3.0), 7.0)
    assert before[-1] == MarkReached("finalize", samples(6.0))
    assert after == [MarkReached("stop", samples(7.0))]


def test_a_mark_is_not_reached_before_its_audio_is_judged() -> None:
    subject = captioner()
    subject.receive_audio(np.zeros(samples(1.0), np.float32))
    subject.mark("finalize")
    assert subject.events() == []
    Driver(subject, ScriptedRecognizer(())).work()
    assert subject.events() == [MarkReached("finalize", samples(1.0))]


def test_audio_that_came_after_a_mark_is_not_heard_before_it() -> None:
    script = talk(4.0, start=0.0)
    audio = audio_of(script, samples(5.0))
    subject = captioner()
    driver = Driver(subject, ScriptedRecognizer(script))
    subject.receive_audio(audio[: samples(2.0)])
    subject.mark("finalize")
    subject.receive_audio(audio[samples(2.0) :])
    driver.work()
    events = subject.events()
    reached = events.index(MarkReached("finalize", samples(2.0)))
    assert text_of(events[:reached]) == written(script[:5])
    assert text_of(events) == written(script)


def test_stop_at_once_is_reached_at_once() -> None:
    subject = captioner()
    subject.mark("stop")
    assert subject.events() == [MarkReached("stop", 0)]


def test_a_decode_is_given_out_once_and_its_answer_taken_once() -> None:
    script = talk(3.0, start=0.0)
    subject = captioner()
    with pytest.raises(RuntimeError, match="no decode"):
        subject.receive_hypothesis(Hypothesis((), 0))
    subject.receive_audio(audio_of(script, samples(2.0)))
    subject.receive_probabilities([1.0] * 62)
    with pytest.raises(RuntimeError, match="no decode"):
        subject.receive_failure()
    assert subject.decode() is not None
    assert subject.decode() is None
    subject.receive_hypothesis(Hypothesis((), samples(0.8)))
    with pytest.raises(RuntimeError, match="no decode"):
        subject.receive_hypothesis(Hypothesis((), samples(0.8)))


def test_the_same_audio_is_to_be_judged_until_it_was_and_none_twice() -> None:
    subject = captioner()
    audio = np.arange(3 * 512 + 100, dtype=np.float32)
    subject.receive_audio(audio)
    for _ in range(2):
        unjudged = subject.unjudged()
        assert unjudged is not None and np.array_equal(unjudged, audio[: 3 * 512])
    subject.receive_probabilities([0.0] * 3)
    assert subject.unjudged() is None


# Recognisers that fail ----------------------------------------------------------------------------------


class Always(Recognizer):
    """Answers every request by the same function."""

    def __init__(self, answer: Callable[[DecodeRequest], Hypothesis]) -> None:
        self.info = RecognizerInfo("always", ("en",), "cpu", "none")
        self._answer = answer

    def recognize(self, request: DecodeRequest, samples: FloatArray) -> Hypothesis:
        return self._answer(request)


def always(script: Sequence[Word], mishap: Mishap) -> UnreliableRecognizer:
    return UnreliableRecognizer(ScriptedRecognizer(script), [mishap] * 10_000)


@pytest.mark.parametrize("live", [True, False], ids=["live", "file"])
@pytest.mark.parametrize("mishap", list(Mishap), ids=lambda mishap: mishap.value)
def test_windows_and_memory_stay_bounded_however_long_a_recogniser_misbehaves(
    mishap: Mishap, live: bool
) -> None:
    script = talk(180.0)
    audio = audio_of(script, samples(181.0))
    subject = captioner(overloaded=live)
    driver = Driver(subject, always(script, mishap))
    for start in range(0, len(audio), 8_000):
        driver.hear(audio[start : start + 8_000])
        assert subject.kept_samples <= MAX_KEPT_SAMPLES
        assert subject.received_sample - subject.settled_sample <= MAX_WINDOW_SAMPLES
    assert all(r.end_sample - r.start_sample <= MAX_WINDOW_SAMPLES for r in driver.requests)
    subject.mark("stop")
    driver.work()
    assert isinstance(subject.events()[-1], MarkReached)


@pytest.mark.parametrize("mishap", [Mishap.FAILURE, Mishap.NOTHING, Mishap.JUNK, Mishap.NOISE])
def test_a_recogniser_that_comes_to_its_senses_is_followed_again(mishap: Mishap) -> None:
    script = talk(60.0)
    recognizer = UnreliableRecognizer(ScriptedRecognizer(script), [mishap] * 40)
    events = heard(captioner(), recognizer, audio_of(script, samples(61.0)))
    text = text_of(events)
    assert text and written(script).endswith(text)


def test_a_single_failure_loses_nothing() -> None:
    script = talk(12.0)
    for at in range(12):
        recognizer = UnreliableRecognizer(ScriptedRecognizer(script), [Mishap.NONE] * at + [Mishap.FAILURE])
        events = heard(captioner(), recognizer, audio_of(script, samples(13.0)))
        assert text_of(events) == written(script)


def test_a_last_decode_that_fails_leaves_what_was_shown() -> None:
    script = talk(1.6, start=0.0)
    driver = Driver(captioner(), ScriptedRecognizer(script))
    driver.hear(audio_of(script, samples(3.0)))
    count = len(driver.requests)
    assert driver.requests[-1].final
    recognizer = UnreliableRecognizer(
        ScriptedRecognizer(script), [Mishap.NONE] * (count - 1) + [Mishap.FAILURE]
    )
    events = heard(captioner(), recognizer, audio_of(script, samples(3.0)))
    shown = [event.words for event in events if isinstance(event, TailChanged) and event.words][-1]
    assert committed(events)[-len(shown) :] == list(shown)


def test_a_last_decode_of_no_use_is_done_once_more_in_the_full_window() -> None:
    script = talk(1.6, start=0.0)
    subject = captioner()
    driver = Driver(subject, always(script, Mishap.JUNK))
    driver.hear(audio_of(script, samples(3.0)))
    finals = [seconds(request.min_window_samples) for request in driver.requests if request.final]
    assert finals == [10.0, 30.0]
    assert text_of(subject.events()) == ""


def test_noise_is_not_written_down() -> None:
    script = talk(2.0)
    events = heard(captioner(), always(script, Mishap.NOISE), audio_of(script, samples(4.0)))
    assert [type(event) for event in events] == [SpeechStarted, SpeechEnded, MarkReached]


def test_a_loop_is_committed_as_its_first_copy() -> None:
    script = talk(6.0)
    events = heard(captioner(), always(script, Mishap.LOOP), audio_of(script, samples(8.0)))
    assert text_of(events) == written(script)


def test_an_echo_of_the_forced_words_is_not_committed_again() -> None:
    script = talk(20.0)
    events = heard(captioner(), always(script, Mishap.ECHO), audio_of(script, samples(22.0)))
    assert text_of(events) == written(script)


def test_an_echo_of_words_that_only_the_last_decode_was_told_is_not_committed_either() -> None:
    script = numbered([*talk(12.0), *talk(1.2, start=14.0)])
    reader = ScriptedRecognizer(script)

    def echoing(request: DecodeRequest) -> Hypothesis:
        read = reader.recognize(request, np.zeros(request.end_sample - request.start_sample, np.float32))
        if not request.final:
            return read
        copied, length = reader.written(request.prefix[:5]), samples(0.1)
        begin = read.words[0].start_sample - len(copied) * length
        copies = [
            replace(word, start_sample=begin + i * length, end_sample=begin + (i + 1) * length)
            for i, word in enumerate(copied)
        ]
        return replace(read, words=(*copies, *read.words))

    subject = captioner()
    driver = Driver(subject, Always(echoing))
    driver.hear(audio_of(script, samples(17.0)))
    *_, step, last = driver.requests
    assert last.final
    assert len(last.prefix) >= len(step.prefix) + 5
    assert text_of(subject.events()) == written(script)


class Deaf:
    """A recogniser for whom all is said once certain words were forced on it."""

    def __init__(self, script: Sequence[Word], last: Word) -> None:
        self._other = ScriptedRecognizer(script)
        self._last = last
        self.info = self._other.info

    def recognize(self, request: DecodeRequest, audio: FloatArray) -> Hypothesis:
        heard = self._other.recognize(request, audio)
        if request.prefix[-1:] != self._last.tokens:
            return heard
        return replace(heard, words=(Word(" .", request.end_sample - 100, request.end_sample, 0.9, (13,)),))


@pytest.mark.parametrize("is_long", [True, False])
def test_speech_behind_words_that_the_decoder_takes_for_the_end_is_heard_without_them(is_long: bool) -> None:
    script = numbered([*talk(4.0), *talk(4.0 if is_long else 2.6, start=5.3)])
    audio = audio_of(script, samples(11.0))
    assert text_of(heard(captioner(), Deaf(script, script[9]), audio)) == written(script)


def test_words_that_start_after_the_speech_are_not_committed() -> None:
    script = talk(1.6, start=0.0)

    def polite(request: DecodeRequest) -> Hypothesis:
        end = request.end_sample
        read = ScriptedRecognizer(script).recognize(request, np.zeros(end - request.start_sample, np.float32))
        thanks = Word(" thanks", end - samples(0.05), end, 0.9, (99,))
        return replace(read, words=(*read.words, thanks))

    events = heard(captioner(), Always(polite), audio_of(script, samples(4.0)))
    assert text_of(events) == written(script)


def test_a_tail_that_is_given_up_is_shown_no_longer() -> None:
    script = talk(60.0)
    recognizer = UnreliableRecognizer(ScriptedRecognizer(script), [Mishap.NONE] + [Mishap.FAILURE] * 60)
    subject = captioner()
    driver = Driver(subject, recognizer)
    driver.hear(audio_of(script, samples(30.0)))
    events = subject.events()
    assert [word.text for word in committed(events)] == [" w0"], "it was heard to its end, and stands alone"
    assert [event for event in events if isinstance(event, TailChanged)][-1] == TailChanged(())


# Behind -------------------------------------------------------------------------------------------------


def frozen(overloaded: bool) -> tuple[list[DecodeRequest], list[Event], Sequence[Word]]:
    """Let a recogniser stand still in its third decode for 60 s of speech."""
    script = talk(80.0)
    audio = audio_of(script, samples(81.0))
    subject = captioner(overloaded=overloaded)
    driver = Driver(subject, ScriptedRecognizer(script))
    driver.hear(audio[: samples(4.0)])
    count = len(driver.requests)
    for start in range(samples(4.0), samples(64.0), 8_000):
        subject.receive_audio(audio[start : start + 8_000])
        while driver.judge():
            pass
    driver.hear(audio[samples(64.0) :])
    subject.mark("stop")
    driver.work()
    return driver.requests[count:], subject.events(), script


def test_an_overloaded_session_catches_up_in_fewer_longer_steps_and_loses_nothing() -> None:
    behind, events, script = frozen(overloaded=True)
    all_steps, _, _ = frozen(overloaded=False)
    assert text_of(events) == written(script)
    assert len(behind) < 0.6 * len(all_steps)
    assert all(r.end_sample - r.start_sample <= samples(13.0) for r in behind)


@pytest.mark.parametrize(("overloaded", "until"), [(True, 10.0), (False, 4.0)])
def test_a_step_whose_turn_comes_late_hears_more_where_the_recogniser_is_overloaded(
    overloaded: bool, until: float
) -> None:
    script = talk(20.0)
    subject = captioner(overloaded=overloaded)
    driver = Driver(subject, ScriptedRecognizer(script))
    audio = audio_of(script, samples(22.0))
    driver.hear(audio[: samples(4.0)])
    subject.receive_audio(audio[samples(4.0) : samples(5.0)])
    while driver.judge():
        pass
    first = subject.decode()
    assert first is not None and samples(4.0) < first[0].end_sample < samples(5.0)
    same = subject.newest()
    assert same is not None and same[0] == first[0], "nobody is behind yet"
    subject.receive_audio(audio[samples(5.0) : samples(12.0)])
    while driver.judge():
        pass
    newest = subject.newest()
    assert newest is not None
    request, window = newest
    assert request.end_sample >= samples(until) and window.size == request.end_sample - request.start_sample
    assert (request == first[0]) is not overloaded
    assert subject.decode() is None, "it is on its way"
    subject.receive_hypothesis(driver.recognizer.recognize(request, window))
    driver.hear(audio[samples(12.0) :])
    subject.mark("stop")
    driver.work()
    assert text_of(subject.events()) == written(script)


def test_the_last_decode_of_an_utterance_and_a_step_before_its_end_lose_nothing_by_their_late_turn() -> None:
    script = numbered([*talk(5.0), *talk(5.0, start=12.0)])
    subject = captioner(overloaded=True)
    driver = Driver(subject, ScriptedRecognizer(script))
    audio = audio_of(script, samples(20.0))
    for start in range(0, audio.size, samples(0.5)):
        subject.receive_audio(audio[start : start + samples(0.5)])
        while driver.judge():
            pass
        # Each turn comes five seconds late.
        wanted = subject.decode() if start % samples(5.0) == 0 else None
        if wanted is not None and (newest := subject.newest()) is not None:
            assert not wanted[0].final or newest[0] == wanted[0]
            subject.receive_hypothesis(driver.recognizer.recognize(*newest))
    subject.mark("stop")
    driver.work()
    assert text_of(subject.events()) == written(script)


def test_nothing_newer_is_to_be_had_of_a_decode_that_nobody_asked_for() -> None:
    with pytest.raises(RuntimeError, match="no decode was asked for"):
        captioner().newest()


def test_a_session_that_is_only_late_is_decoded_at_every_step() -> None:
    late, events, script = frozen(overloaded=False)
    driver = Driver(captioner(), ScriptedRecognizer(script))
    driver.hear(audio_of(script, samples(81.0)))
    assert text_of(events) == written(script)
    assert late == driver.requests[-len(late) :]


def test_it_does_not_matter_whether_audio_comes_in_a_burst() -> None:
    script = talk(60.0)
    audio = audio_of(script, samples(61.0))
    recognizer = ScriptedRecognizer(script)
    assert heard(captioner(), recognizer, audio) == heard(
        captioner(), recognizer, audio, range(1_600, len(audio), 1_600)
    )


def test_backlog_is_what_was_received_and_not_yet_considered() -> None:
    subject = captioner()
    subject.receive_audio(audio_of(talk(10.0, start=0.0), samples(10.0)))
    assert subject.backlog_samples == samples(10.0)
    Driver(subject, ScriptedRecognizer(talk(10.0, start=0.0))).work()
    assert subject.backlog_samples < 512


# Hours --------------------------------------------------------------------------------------------------


def test_an_hour_of_silence_costs_no_decode_and_little_memory() -> None:
    subject = captioner(overloaded=True)
    driver = Driver(subject, ScriptedRecognizer(()))
    silence = np.zeros(samples(10.0), np.float32)
    for _ in range(360):
        driver.hear(silence)
        assert subject.kept_samples <= samples(16.0)
    assert driver.requests == []
    assert subject.events() == []


def test_an_hour_of_speech_keeps_its_memory_and_its_steps_small() -> None:
    minute = talk(50.0, start=0.0)
    script = numbered(
        replace(
            word,
            start_sample=word.start_sample + samples(60.0 * m),
            end_sample=word.end_sample + samples(60.0 * m),
        )
        for m in range(60)
        for word in minute
    )
    audio = audio_of(minute, samples(60.0))
    subject = captioner(overloaded=True)
    driver = Driver(subject, ScriptedRecognizer(script))
    words, kept = 0, []
    for _ in range(60):
        for start in range(0, len(audio), 16_000):
            driver.hear(audio[start : start + 16_000])
            kept.append(subject.kept_samples)
        words += len(committed(subject.events()))
    assert words == len(script)
    assert max(kept) <= samples(18.0)
    early, late = (
        driver.requests[: len(driver.requests) // 10],
        driver.requests[-len(driver.requests) // 10 :],
    )

    def longest(requests: Sequence[DecodeRequest]) -> int:
        return max(len(request.prefix) for request in requests)

    assert longest(late) <= longest(early)


# Language -----------------------------------------------------------------------------------------------


def speaking(*answers: tuple[str, float]) -> Always:
    """Recognise one word a step, in these languages one after the other."""
    left = list(answers)

    def answer(request: DecodeRequest) -> Hypothesis:
        language, belief = (request.language, 1.0) if request.language else left.pop(0)
        end = request.end_sample
        word = Word(f" w{end}", end - 16_000, end - 12_800, 0.9, (end,))
        return Hypothesis((word,), end, language=language, language_probability=belief)

    return Always(answer)


def languages(recognizer: Recognizer, duration: float = 6.0) -> tuple[list[str | None], list[Event]]:
    """Return the language that each decode was asked in, and the events."""
    return languages_of(talk(duration, start=0.0), recognizer)


def languages_of(script: Sequence[Word], recognizer: Recognizer) -> tuple[list[str | None], list[Event]]:
    """Return the same for these words."""
    subject = StreamingPolicy()
    driver = Driver(subject, recognizer)
    driver.hear(audio_of(script, script[-1].end_sample + samples(1.0)))
    return [request.language for request in driver.requests], subject.events()


def test_a_language_that_two_windows_are_sure_of_is_locked() -> None:
    asked, events = languages(speaking(("vi", 0.95), ("vi", 0.95)))
    assert asked[:2] == [None, None]
    assert set(asked[2:]) == {"vi"}
    assert {utterance.language for utterance in utterances(events)} == {"vi"}


def test_one_window_that_is_wrong_does_not_decide() -> None:
    asked, _ = languages(speaking(("cy", 0.6), ("en", 0.9), ("en", 0.5), ("en", 0.9)))
    assert asked[:4] == [None] * 4
    assert set(asked[4:]) == {"en"}


def test_an_utterance_before_the_lock_is_in_the_language_most_believed_in() -> None:
    asked, events = languages(speaking(("de", 0.3), ("nl", 0.5), ("de", 0.4)), duration=1.6)
    assert set(asked) == {None}
    assert [utterance.language for utterance in utterances(events)] == ["de"]


def test_a_last_decode_in_another_language_than_the_likely_one_is_done_again() -> None:
    asked, events = languages(speaking(("nl", 0.5), ("nl", 0.5), ("de", 0.1)), duration=1.6)
    assert asked == [None, None, None, "nl"]
    assert [utterance.language for utterance in utterances(events)] == ["nl"]


def test_nothing_is_committed_before_the_language_is_known() -> None:
    doubtful = Always(
        lambda request: Hypothesis(
            (Word(" w", 3_200, 6_400, 0.9, (1,)),),
            request.end_sample,
            language=request.language or "he",
            language_probability=0.1,
        )
    )
    subject = StreamingPolicy()
    Driver(subject, doubtful).hear(audio_of(talk(2.6, start=0.0), samples(2.6)))
    events = subject.events()
    assert any(isinstance(event, TailChanged) for event in events)
    assert committed(events) == []


def test_a_decode_that_was_forced_into_a_language_is_no_evidence_for_it() -> None:
    script = [*talk(1.0, start=0.0), *talk(1.0, start=3.0), *talk(3.0, start=6.0)]
    asked, _ = languages_of(script, speaking(("cy", 0.3), ("cy", 0.3), *[("en", 0.9)] * 8))
    assert "cy" not in asked[4:], "two weak guesses do not decide for a session"
    assert asked[-1] == "en"


def test_windows_without_words_have_no_vote() -> None:
    silent = Always(lambda request: Hypothesis((), request.end_sample, language="la"))
    asked, _ = languages(silent)
    assert set(asked) == {None}
