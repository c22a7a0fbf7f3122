"""What of a hypothesis is believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from live_asr.core.guards import (
    drop_after_speech,
    drop_echo,
    drop_squeezed,
    is_noise,
    without_loops,
)
from live_asr.core.text import normalized
from live_asr.core.types import Hypothesis, Word, samples


def words(text: str, start: float = 0.0, length: float = 0.3, probability: float = 0.9) -> tuple[Word, ...]:
    return tuple(
        Word(f" {w}", samples(start + i * length), samples(start + (i + 1) * length), probability, (i,))
        for i, w in enumerate(text.split())
    )


def text(of: Sequence[Word] | None) -> str | None:
    return None if of is None else "".join(word.text for word in of).strip()


def believed(said: str, committed: str = "", *, capped: bool = False) -> str | None:
    return text(without_loops(words(said), words(committed), capped=capped))


# Loops --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("I said no no no no no", "I said no"),
        ("tear it down tear it down tear it down", "tear it down"),
        ("so tear it down tear it down tear it down tear it", "so tear it down"),
        ("so tear it down Tear it down! tear, it down. and go", "so tear it down and go"),
        ("no no no no no and then yes yes yes yes yes", "no and then yes"),
        ("a b a b a b then c d c d c d", "a b then c d"),
        (" ".join(f"w{i}" for i in range(12)) * 1, " ".join(f"w{i}" for i in range(12))),
        (" ".join([f"w{i}" for i in range(12)] * 3), " ".join(f"w{i}" for i in range(12))),
        ("the state of the state of the state of play", "the state of play"),
    ],
)
def test_a_loop_is_reduced_to_its_first_copy_and_what_follows_it_stays(said: str, kept: str) -> None:
    assert believed(said) == kept


@pytest.mark.parametrize(
    "said",
    [
        "",
        "no no no no",
        "Tear down the fence! Tear down the fence!",
        "very very well",
        "it is what it is",
        "the more the more the merrier",
        "one two three four five six seven eight nine ten",
    ],
)
def test_what_people_do_say_twice_or_more_is_no_loop(said: str) -> None:
    assert believed(said) == said


def test_a_loop_whose_first_copy_is_committed_leaves_only_what_follows_it() -> None:
    assert believed("there you are there you are then go", "there you are") == "then go"


def test_a_hypothesis_that_only_repeats_what_is_committed_is_of_no_use() -> None:
    assert believed("there you are there you are there", "hello there you are") is None


def test_a_loop_that_begins_in_the_committed_words_leaves_its_end() -> None:
    assert believed("no no no no stop", "he said no no") == "stop"


def test_committed_words_that_hold_a_loop_are_left_alone() -> None:
    assert believed("and then we went", "no no no no no no") == "and then we went"


def test_a_hypothesis_without_words_is_believed() -> None:
    assert believed("", "hello") == ""
    assert believed("", "no no no no no no") == ""


def test_a_capped_hypothesis_that_does_not_loop_is_of_no_use() -> None:
    assert believed("one two three four five", capped=True) is None


def test_a_capped_hypothesis_is_kept_up_to_the_end_of_its_first_copy() -> None:
    assert believed("we went home my friend my friend my", capped=True) == "we went home my friend"


def test_a_capped_copy_that_lacks_its_last_word_counts() -> None:
    assert believed("well I am from Texas I am from", capped=True) == "well I am from Texas"


def test_a_capped_single_word_counts_at_three() -> None:
    assert believed("well yes yes yes", capped=True) == "well yes"
    assert believed("well yes yes", capped=True) is None


def test_a_capped_hypothesis_whose_copies_are_of_committed_words_is_of_no_use() -> None:
    assert believed("my friend my friend my friend my", "we went home my friend", capped=True) is None


def test_a_capped_hypothesis_with_a_loop_in_its_middle_keeps_what_follows() -> None:
    said = "we saw no no no no no end of it"
    assert believed(said, capped=True) == "we saw no end of it"


@given(
    st.lists(st.sampled_from("abc"), max_size=30),
    st.lists(st.sampled_from("abc"), max_size=12),
    st.booleans(),
)
def test_what_is_believed_is_part_of_what_was_said_and_holds_no_loop_of_its_own(
    said: list[str], committed: list[str], capped: bool
) -> None:
    hypothesis = words(" ".join(said))
    kept = without_loops(hypothesis, words(" ".join(committed)), capped=capped)
    if kept is None:
        assert said or capped
        return
    left = iter(hypothesis)
    assert all(word in left for word in kept), "in order, and none that was not there"
    again = without_loops(kept, (), capped=False)
    assert again == kept


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
    assert text(drop_echo(said, words("I know there is much to do"))) == "let us begin"


def test_a_phrase_that_is_really_said_again_stays() -> None:
    assert text(drop_echo(words("there is much"), words("there is much"))) == "there is much"


def test_a_long_sentence_that_is_really_said_again_stays() -> None:
    sentence = "ask not what your country can do for you"
    assert text(drop_echo(words(sentence, 4.0), words(sentence))) == sentence


def test_a_long_echo_is_dropped_even_where_single_words_took_their_time() -> None:
    echo = (*words("ask not what your", 4.0, 0.05), *words("country", 4.2, 0.4), *words("can", 4.6, 0.05))
    assert text(drop_echo(echo, words("ask not what your country can"))) == ""


def test_two_words_are_no_echo() -> None:
    said = words("there is hope", 4.0, 0.05)
    assert drop_echo(said, words("there is no time")) == said


def test_only_an_echo_at_the_front_is_one() -> None:
    said = words("and there is much to", 4.0, 0.05)
    assert drop_echo(said, words("there is much to")) == said


# Words without time -------------------------------------------------------------------------------------


def test_four_words_in_no_time_were_not_said() -> None:
    invented = words("thanks for watching this", 2.0, 0.04)
    said = (*words("we went home", 1.0), *invented, *words("and slept", 2.2))
    assert text(drop_squeezed(said)) == "we went home and slept"


def test_a_few_short_words_between_long_ones_may_have_been() -> None:
    said = (*words("I", 1.0), *words("was in a", 1.3, 0.05), *words("house", 1.45))
    assert drop_squeezed(said) == said


def test_fast_speech_is_speech() -> None:
    said = words("one two three four five six", 0.0, 0.07)
    assert drop_squeezed(said) == said


@given(st.lists(st.tuples(st.integers(0, 9_000), st.integers(0, 9_000)), max_size=20))
def test_what_is_left_is_in_order_and_whole(times: list[tuple[int, int]]) -> None:
    said = tuple(Word(f" w{i}", start, end, 0.9) for i, (start, end) in enumerate(times))
    left = iter(said)
    kept = drop_squeezed(said)
    assert all(word in left for word in kept)


# Noise --------------------------------------------------------------------------------------------------


def said(no_speech: float, log_probability: float, probability: float = 0.9, said: str = "you") -> Hypothesis:
    return Hypothesis(words(said, probability=probability), samples(2.0), no_speech, log_probability)


def test_words_in_which_the_model_itself_does_not_believe_are_noise() -> None:
    assert is_noise(said(0.7, -1.1), samples(5.0), final=False)


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
