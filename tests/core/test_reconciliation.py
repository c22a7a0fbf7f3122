"""Several readings of the same speech, made into one."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from live_asr.core.reconciliation import (
    SHORTEST_HOLE_SAMPLES,
    Difference,
    aligned,
    holes,
    with_expected_words,
    with_live_words,
)
from live_asr.core.speech import SpeechTrack
from live_asr.core.types import CHUNK_SAMPLES, Word, samples


def heard(start: float, end: float) -> SpeechTrack:
    """Somebody speaks between these seconds."""
    track = SpeechTrack()
    track.extend(
        float(samples(start) <= at < samples(end)) for at in range(0, samples(end + 2), CHUNK_SAMPLES)
    )
    return track


def words(text: str, start: float = 0.0, length: float = 0.4, probability: float = 0.9) -> tuple[Word, ...]:
    return tuple(
        Word(f" {said}", samples(start + i * length), samples(start + (i + 1) * length), probability)
        for i, said in enumerate(text.split())
    )


def text(of: Sequence[Word]) -> str:
    return "".join(word.text for word in of).strip()


spoken = st.lists(st.sampled_from("abcd"), max_size=12).map(lambda letters: words(" ".join(letters)))


@given(spoken, spoken)
def test_an_alignment_holds_both_readings_whole_and_in_order(
    one: tuple[Word, ...], other: tuple[Word, ...]
) -> None:
    places = list(aligned(one, other))
    first: list[Word] = []
    second: list[str] = []
    for place in places:
        first += place.first if isinstance(place, Difference) else [place]
        second += (word.text for word in place.second) if isinstance(place, Difference) else [place.text]
    assert tuple(first) == one
    assert second == [word.text for word in other]


@given(spoken)
def test_readings_that_agree_stay_as_they_are(said: tuple[Word, ...]) -> None:
    assert with_live_words(said, said, heard(0.0, 6.0)) == said


def test_live_words_fill_speech_that_the_full_pass_has_no_word_for() -> None:
    live = words("by Allah replied the fireman I tell thee the truth", probability=0.6)
    final = (*live[:2], *live[8:])
    found = with_live_words(final, live, heard(0.0, 4.0))
    assert text(found) == text(live)
    assert [word.source for word in found] == [None] * 2 + ["live"] * 6 + [None] * 2


def test_live_words_where_nobody_speaks_fill_nothing() -> None:
    final, live = words("we went home"), words("we went home thanks for watching this")
    assert text(with_live_words(final, live, heard(0.0, 1.2))) == "we went home"


def test_a_single_word_that_was_left_out_must_have_been_sure() -> None:
    live = words("we really went home")
    final = (live[0], *live[2:])
    assert text(with_live_words(final, live, heard(0.0, 1.6))) == "we really went home"
    unsure = (live[0], *words("really", 0.4, probability=0.5), *live[2:])
    assert text(with_live_words(final, unsure, heard(0.0, 1.6))) == "we went home"


def test_of_two_readings_of_a_word_the_more_probable_one_stands() -> None:
    final = (*words("the"), *words("squire", 0.4, probability=0.5), *words("sat", 0.8))
    for probability, chosen in ((0.45, "the squire sat"), (0.5, "the squire sat"), (0.55, "the square sat")):
        live = (*words("the"), *words("square", 0.4, probability=probability), *words("sat", 0.8))
        assert text(with_live_words(final, live, heard(0.0, 1.2))) == chosen


def test_how_a_number_is_written_is_not_for_the_live_words_to_say() -> None:
    final, live = words("one two three", probability=0.8), words("1, 2, 3", probability=0.9)
    assert with_live_words(final, live, heard(0.0, 1.2)) == final
    assert with_live_words(live, final, heard(0.0, 1.2)) == live
    other = words("1, 2, 4", probability=0.95)
    assert text(with_live_words(live, other, heard(0.0, 1.2))) == "1, 2, 4"


def test_what_the_full_pass_counts_once_more_than_live_is_counted_as_live() -> None:
    live = words("no no no no and so")
    final = (*words("no no no no"), *words("no", 1.6, 0.2), *words("and so", 1.8))
    assert text(with_live_words(final, live, heard(0.0, 2.6))) == "no no no no and so"


def test_a_name_to_expect_takes_the_place_of_what_was_heard_for_it() -> None:
    plain = (*words("ask"), *words("Sheela", 0.4, probability=0.5), *words("now", 0.8))
    biased = (*words("ask"), *words("Sheila", 0.4, probability=0.8), *words("now", 0.8))
    assert text(with_expected_words(plain, biased, ["Sheila"], heard(0.0, 1.2))) == "ask Sheila now"


def test_a_vocabulary_takes_nothing_away_and_changes_nothing_else() -> None:
    plain = words("however due to the slow communication channels styles in the west could lag behind")
    speech = heard(0.0, 6.0)
    assert with_expected_words(plain, words("Margaret Thornton"), ["Margaret", "Thornton"], speech) == plain
    other = (*plain[:3], *words("a", 1.2), *plain[4:])
    assert with_expected_words(plain, other, ["Margaret"], speech) == plain


def test_a_hole_is_speech_without_a_word() -> None:
    said = (*words("we went"), *words("home", 3.0))
    (hole,) = holes(said, heard(0.0, 3.4), 0, samples(3.4))
    assert abs(hole[0] - samples(0.8)) <= CHUNK_SAMPLES
    assert abs(hole[1] - samples(3.0)) <= CHUNK_SAMPLES
    assert holes(said, heard(0.0, 0.8), 0, samples(3.4)) == []


def test_a_word_that_is_far_too_long_hides_a_hole() -> None:
    said = (*words("we", 0.0, 4.7), *words("went", 4.7))
    (hole,) = holes(said, heard(0.0, 5.1), 0, samples(5.1))
    assert hole[1] - hole[0] >= SHORTEST_HOLE_SAMPLES
    assert holes(words("1455", 0.0, 1.6), heard(0.0, 1.6), 0, samples(1.6)) == []
