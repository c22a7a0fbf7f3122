"""What of a hypothesis is believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from live_asr.core.guards import (
    OWN_SAMPLES,
    certainty,
    copied,
    drop_after_speech,
    drop_echo,
    drop_squeezed,
    going_on,
    going_on_later,
    is_guess,
    is_noise,
    is_unplaced,
    up_to_copies,
    without_loops,
    without_marks,
    without_stammer,
)
from live_asr.core.normalize import normalized
from live_asr.core.speech import SpeechTrack, clamped
from live_asr.core.types import CHUNK_SAMPLES, Hypothesis, Word, samples


def words(text: str, start: float = 0.0, length: float = 0.3, probability: float = 0.9) -> tuple[Word, ...]:
    return tuple(
        Word(f" {w}", samples(start + i * length), samples(start + (i + 1) * length), probability, (i,))
        for i, w in enumerate(text.split())
    )


def text(of: Sequence[Word] | None) -> str | None:
    return None if of is None else "".join(word.text for word in of).strip()


def heard(*stretches: tuple[float, float], until: float = 30.0) -> SpeechTrack:
    """Somebody speaks between these seconds, and nobody elsewhere."""
    track = SpeechTrack()
    chunks = range(0, samples(until), CHUNK_SAMPLES)
    track.extend(
        float(any(samples(start) <= chunk < samples(end) for start, end in stretches)) for chunk in chunks
    )
    return track


ALL = heard((0.0, 30.0))


def believed(said: Sequence[Word], committed: Sequence[Word] = (), speech: SpeechTrack = ALL) -> str | None:
    return text(without_loops(said, committed, speech))


# Loops --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        "",
        "no no no no no no",
        "hello hello hello hello hello",
        "5 5 5 5 5 1 2",
        "I'm sorry. I'm sorry. I'm sorry.",
        "Tear down the fence! Tear down the fence! Tear down the fence!",
        "very very well",
        "it is what it is",
        "one two three four five six seven eight nine ten",
    ],
)
def test_what_has_audio_of_its_own_was_said_however_often(said: str) -> None:
    assert believed(words(said)) == said


def test_copies_without_audio_of_their_own_are_dropped() -> None:
    said = (*words("tear it down"), *words("tear it down tear it down", 0.9, 0.05))
    assert believed(said) == "tear it down"


def test_copies_where_nobody_speaks_are_dropped() -> None:
    said = (*words("I said no"), *words("no no no no", 1.2))
    assert believed(said, speech=heard((0.0, 0.95))) == "I said no"


def test_a_copy_of_a_committed_word_in_no_time_is_an_echo() -> None:
    committed = words("in miserable circumstances.")
    echo = words("circumstances.", 0.9, 0.0)
    assert believed((*echo, *words("Why?", 2.0)), committed, heard((0.0, 0.9), (2.0, 2.4))) == "Why?"


def test_a_seventh_no_in_what_the_detector_hears_of_the_sixth_is_dropped() -> None:
    # What base wrote of six, said 0.8 s apart: the detector hears each for a quarter of a second longer.
    committed = tuple(
        Word(" No.", samples(start), samples(start + 0.35), 0.95, (1,))
        for start in (0.48, 1.83, 3.17, 4.51, 5.85)
    )
    speech = heard(
        *((word.start_sample / 16_000, word.end_sample / 16_000 + 0.23) for word in committed), (7.17, 7.8)
    )
    said = [
        Word(" No.", samples(6.54), samples(6.54), 0.98, (1,)),
        Word(" No.", samples(6.76), samples(7.54), 0.97, (1,)),
    ]
    written = clamped(said, speech, committed[-1].end_sample, copied(said, committed))
    assert believed(written, committed, speech) == "No."


def test_a_word_said_twice_fast_stays() -> None:
    said = (*words("I know"), *words("that that", 0.6, 0.1), *words("is so", 0.8))
    assert believed(said) == "I know that that is so"


def test_what_follows_a_loop_stays() -> None:
    said = (*words("there you are"), *words("there you are there you are", 0.9, 0.04), *words("then go", 1.2))
    assert believed(said) == "there you are then go"


def test_speech_between_a_words_neighbours_is_its_own_though_the_aligner_put_it_beside() -> None:
    said = (*words("Hello. Hello. Hello.", 0.0, 0.4), *words("Hello.", 1.3, 0.08))
    assert believed(said, speech=heard((0.0, 1.2), (1.5, 2.0))) == "Hello. Hello. Hello. Hello."


def test_what_is_detected_as_speech_behind_a_word_is_none_of_the_next() -> None:
    said = (*words("no no no", 0.0, 0.4), *words("no", 1.35, 0.0))
    assert believed(said, speech=heard((0.0, 1.3))) == "no no no"


timed = st.lists(
    st.tuples(st.sampled_from("abc"), st.floats(0.0, 0.6), st.floats(0.0, 0.4)), min_size=1, max_size=25
)


def laid_out(spoken: list[tuple[str, float, float]]) -> tuple[tuple[Word, ...], SpeechTrack]:
    """Words of these lengths with these pauses between, and a detector that hears just them."""
    found, at = [], 0.0
    for letter, length, pause in spoken:
        found.append(Word(f" {letter}", samples(at), samples(at + length), 0.9))
        at += length + pause
    return tuple(found), heard(
        *((word.start_sample / 16_000, word.end_sample / 16_000) for word in found), until=at + 1
    )


@given(timed, st.integers(0, 6))
def test_no_guard_drops_a_word_with_a_fifth_of_a_second_of_speech_of_its_own(
    spoken: list[tuple[str, float, float]], count: int
) -> None:
    said, speech = laid_out(spoken)
    committed, said = said[:count], said[count:]
    kept = drop_squeezed(said, speech)
    kept = drop_echo(without_loops(kept, committed, speech), committed, speech)
    kept = without_stammer(without_marks(kept), speech)
    left = iter(kept)
    # The detector hears in steps of 32 ms, so that a word may lose one of them.
    own = [word for word in said if speech.samples_within(word.start_sample, word.end_sample) >= OWN_SAMPLES]
    assert all(word in left for word in own), "in order"
    assert set(kept) <= set(said)


# Runaways -----------------------------------------------------------------------------------------------


def rescued(said: str, committed: str = "") -> str | None:
    return text(up_to_copies(words(said), words(committed)))


def test_a_hypothesis_that_was_cut_off_is_kept_up_to_the_end_of_its_first_copy() -> None:
    assert rescued("we went home my friend my friend my") == "we went home my friend"


def test_a_copy_that_lacks_its_last_word_counts() -> None:
    assert rescued("well I am from Texas I am from") == "well I am from Texas"


def test_a_single_word_counts_at_three() -> None:
    assert rescued("well yes yes yes") == "well yes"
    assert rescued("well yes yes") is None


def test_a_hypothesis_that_was_cut_off_and_does_not_end_in_copies_is_of_no_use() -> None:
    assert rescued("one two three four five") is None


def test_one_whose_copies_are_of_committed_words_is_of_no_use() -> None:
    assert rescued("my friend my friend my", "we went home my friend") is None


def test_a_phrase_is_going_on_while_nothing_else_follows_it() -> None:
    assert going_on(words("is 5 5 5"), ()) == words("is 5 5 5")[2].start_sample
    assert going_on(words("is 5 5 5 1"), ()) is None
    assert going_on(words("he is very very"), ()) is None
    assert going_on((), words("no no no")) is None
    assert going_on(words("I'm sorry I'm sorry"), ()) == words("a b c")[2].start_sample
    assert going_on(words("no", 1.0), words("no no")) == samples(1.0)


def test_a_hypothesis_whose_words_found_no_place_is_none() -> None:
    run = (*words("I was the one"), *words("who was the", 1.2, 0.0))
    assert is_unplaced(run)
    assert not is_unplaced(words("I was the one who was the hardest"))
    assert not is_unplaced(words("the the", 1.0, 0.0))


def test_a_syllable_over_and_over_in_one_word_is_laughter_or_hum() -> None:
    assert without_stammer(words("m" * 60, length=1.0), ALL) == ()
    assert without_stammer(words("hahahahahahahahahaha", length=0.4), ALL) == ()
    for word in ("hahaha", "mmm", "1000000", "banana"):
        assert text(without_stammer(words(word, length=0.5), ALL)) == word


def test_punctuation_alone_is_no_word() -> None:
    said = words("well . . … – & 5% € ♪ yes.")
    assert text(without_marks(said)) == "well & 5% € yes."


# Words after the speech ---------------------------------------------------------------------------------


def test_words_that_start_after_the_speech_are_dropped() -> None:
    said = words("we went home thanks for watching")
    assert text(drop_after_speech(said, samples(0.9), samples(2.0))) == "we went home thanks"
    assert text(drop_after_speech(said, samples(0.7), samples(2.0))) == "we went home"


def test_a_detector_may_be_late_by_a_fifth_of_a_second() -> None:
    said = words("we went home")
    assert text(drop_after_speech(said, samples(0.2), samples(0.4))) == "we went home"
    assert text(drop_after_speech(said, samples(0.2), samples(0.5))) == "we went"


def test_words_before_one_that_started_in_the_speech_stay() -> None:
    late, good = words("oops", 3.0)[0], words("fine", 1.0)[0]
    assert drop_after_speech((late, good), samples(1.5), samples(3.0)) == (late, good)


# Echoes -------------------------------------------------------------------------------------------------


def test_committed_words_that_come_again_in_no_time_are_dropped() -> None:
    echo = words("there is much to do", 4.0, 0.05)
    said = (*echo, *words("let us begin", 4.5))
    assert text(drop_echo(said, words("I know there is much to do"), ALL)) == "let us begin"


def test_a_phrase_that_is_really_said_again_stays() -> None:
    said = words("there is much", 1.0)
    assert drop_echo(said, words("there is much"), ALL) == said


def test_a_long_sentence_that_is_really_said_again_stays() -> None:
    sentence = "ask not what your country can do for you"
    assert text(drop_echo(words(sentence, 4.0), words(sentence), ALL)) == sentence


def test_of_an_echo_a_word_that_took_its_time_stays() -> None:
    echo = (*words("ask not what your", 4.0, 0.05), *words("country", 4.2, 0.4))
    assert text(drop_echo(echo, words("ask not what your country"), ALL)) == "country"


def test_two_words_are_no_echo() -> None:
    said = words("there is hope", 4.0, 0.05)
    assert drop_echo(said, words("there is no time"), ALL) == said


def test_only_an_echo_at_the_front_is_one() -> None:
    said = words("and there is much to", 4.0, 0.05)
    assert drop_echo(said, words("there is much to"), ALL) == said


# Words without time -------------------------------------------------------------------------------------


def test_four_words_in_no_time_were_not_said() -> None:
    invented = words("thanks for watching this", 2.0, 0.04)
    said = (*words("we went home", 1.0), *invented, *words("and slept", 2.2))
    assert text(drop_squeezed(said, ALL)) == "we went home and slept"


def test_a_few_short_words_between_long_ones_may_have_been() -> None:
    said = (*words("I", 1.0), *words("was in a", 1.3, 0.05), *words("house", 1.45))
    assert drop_squeezed(said, ALL) == said


def test_fast_speech_is_speech() -> None:
    said = words("one two three four five six", 0.0, 0.07)
    assert drop_squeezed(said, ALL) == said


# Noise --------------------------------------------------------------------------------------------------


def said(no_speech: float, log_probability: float, probability: float = 0.9, said: str = "you") -> Hypothesis:
    return Hypothesis(words(said, probability=probability), samples(2.0), no_speech, log_probability)


def test_words_in_which_the_model_itself_does_not_believe_are_noise() -> None:
    assert is_noise(said(0.7, -1.1), samples(5.0), final=False)


@pytest.mark.parametrize(("probability", "guessed"), [(0.1, True), (0.3, False)])
def test_what_is_no_more_than_a_guess_is_a_laugh_rather_than_a_word(
    probability: float, guessed: bool
) -> None:
    hypothesis = said(0.2, -2.3, probability, "hahaha")
    assert is_guess(hypothesis) is guessed
    assert not is_noise(hypothesis, samples(1.5), final=True)
    assert not is_guess(replace(hypothesis, capped=True))


@pytest.mark.parametrize(("no_speech", "log_probability"), [(0.7, -0.9), (0.5, -1.5), (0.0, -0.1)])
def test_long_speech_is_noise_only_if_both_numbers_say_so(no_speech: float, log_probability: float) -> None:
    assert not is_noise(said(no_speech, log_probability), samples(5.0), final=False)


def test_short_speech_has_to_be_surer() -> None:
    doubtful = said(0.5, -0.8)
    assert is_noise(doubtful, samples(0.9), final=False)
    assert not is_noise(doubtful, samples(1.0), final=False)


def test_an_improbable_word_that_had_to_be_insisted_on_is_not_believed_at_the_end() -> None:
    unwilling = replace(said(0.1, -0.8, probability=0.3), insisted=True)
    assert is_noise(unwilling, samples(5.0), final=True)
    assert not is_noise(unwilling, samples(5.0), final=False)
    assert not is_noise(replace(unwilling, insisted=False), samples(5.0), final=True)


def test_copies_do_not_vouch_for_a_phrase() -> None:
    loop = (*words("I'm sorry", probability=0.2), *words("I'm sorry I'm sorry", 0.6, probability=0.99))
    assert certainty(loop) == pytest.approx(0.2)
    assert is_noise(Hypothesis(loop, samples(2.0), 0.5, -0.4), samples(5.0), final=False)
    assert certainty(words("no no no")) == pytest.approx(0.9)


def test_no_words_are_no_noise() -> None:
    assert not is_noise(said(1.0, -9.0, said=""), samples(0.5), final=False)


# Words as they sound ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [(" Hello,", "hello"), (" it’s", "It's"), (" STRASSE", "Straße"), (" ﬁve", "five"), ("-", "...")],
)
def test_words_that_sound_alike_are_the_same(one: str, other: str) -> None:
    assert normalized(one) == normalized(other)


@pytest.mark.parametrize(("one", "other"), [("its", "it's"), ("của", "cua"), ("की", "का"), ("1", "2")])
def test_words_that_sound_differently_are_not(one: str, other: str) -> None:
    assert normalized(one) != normalized(other)


# Sound that stops in mid-speech --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "left"),
    [
        ("Texas, originally.", "Texas, originally"),
        ("Well...", "Well"),
        ("Is it?", "Is it"),
        ("originally", "originally"),
        ("Texas,", "Texas,"),
        ('he said "no."', 'he said "no."'),
        ("...", "..."),
    ],
)
def test_the_mark_of_a_sentence_that_may_go_on_is_taken_away_with_its_token(written: str, left: str) -> None:
    said = tuple(replace(word, tokens=(1, 2)) for word in words(written))
    kept = going_on_later(said)
    assert text(kept) == left
    assert kept[-1].tokens == ((1,) if left != written else (1, 2))
    assert kept[:-1] == said[:-1]


def test_a_mark_that_is_of_one_token_with_its_word_stays() -> None:
    assert going_on_later(words("and so on.")) == words("and so on.")
    assert going_on_later(()) == ()
