"""LocalAgreement: which words are committed, and when."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from live_asr.core.agreement import LocalAgreement
from live_asr.core.types import Word


def words(text: str, start: int = 0, probability: float = 0.9) -> tuple[Word, ...]:
    """Return words of 1000 samples each."""
    return tuple(
        Word(f" {written}", start + 1_000 * index, start + 1_000 * (index + 1), probability)
        for index, written in enumerate(text.split())
    )


def text(of: Sequence[Word]) -> str:
    return "".join(word.text for word in of).strip()


def agreement(depth: int = 2, guard_samples: int = 0) -> LocalAgreement:
    return LocalAgreement(depth=depth, guard_samples=guard_samples)


def test_a_first_hypothesis_commits_nothing_and_is_the_tail() -> None:
    agreed = agreement()
    assert agreed.receive(words("we speak of"), 10_000) == ()
    assert text(agreed.tail) == "we speak of"


def test_words_that_a_second_hypothesis_repeats_are_committed() -> None:
    agreed = agreement()
    agreed.receive(words("we speak of"), 10_000)
    assert text(agreed.receive(words("we speak of many"), 10_000)) == "we speak of"
    assert text(agreed.tail) == "many"


def test_nothing_behind_a_difference_is_committed() -> None:
    agreed = agreement()
    agreed.receive(words("we speak of many things"), 10_000)
    assert text(agreed.receive(words("we peek of many things"), 10_000)) == "we"
    assert text(agreed.tail) == "peek of many things"


def test_the_next_hypothesis_is_compared_with_what_is_left_of_the_last() -> None:
    agreed = agreement()
    agreed.receive(words("we speak"), 10_000)
    agreed.receive(words("we speak of many"), 10_000)
    assert text(agreed.receive(words("of many things", 2_000), 10_000)) == "of many"


def test_words_are_compared_as_they_sound_and_committed_as_last_written() -> None:
    agreed = agreement()
    agreed.receive(words("well, IT’S über"), 10_000)
    assert text(agreed.receive(words("Well it's Über."), 10_000)) == "Well it's Über."


def test_a_word_that_ends_in_the_guard_waits() -> None:
    agreed = agreement(guard_samples=500)
    agreed.receive(words("we speak"), 2_000)
    assert text(agreed.receive(words("we speak"), 2_499)) == "we"
    assert text(agreed.receive(words("speak", 1_000), 2_500)) == "speak"


def test_three_hypotheses_must_agree_at_depth_three() -> None:
    agreed = agreement(depth=3)
    agreed.receive(words("we speak of"), 10_000)
    assert agreed.receive(words("we speak of"), 10_000) == ()
    assert text(agreed.receive(words("we speak if"), 10_000)) == "we speak"
    assert agreed.receive(words("if not", 2_000), 10_000) == ()
    assert text(agreed.receive(words("if not", 2_000), 10_000)) == "if"


def test_a_word_in_doubt_needs_one_hypothesis_more_and_holds_back_what_follows() -> None:
    agreed = LocalAgreement(depth=2, guard_samples=0, doubt=0.5)
    said = (*words("we"), *words("peek", 1_000, probability=0.4), *words("of", 2_000))
    agreed.receive(said, 10_000)
    assert text(agreed.receive(said, 10_000)) == "we"
    assert text(agreed.receive(said[1:], 10_000)) == "peek of"


def test_where_there_is_no_time_for_a_second_hypothesis_a_sure_word_far_from_the_edge_needs_none() -> None:
    agreed = agreement()
    unsure = words("things", 4_000, probability=0.5)
    heard = (*words("we speak of many"), *unsure, *words("and all", 5_000))
    assert text(agreed.receive(heard, 10_000, sure_until=3_000)) == "we speak of"
    assert text(agreed.tail) == "many things and all"
    # One that is not sure waits for the next hypothesis, and so does what follows it.
    assert text(agreed.receive(heard[3:], 10_000, sure_until=10_000)) == "many things and all"
    agreed.take()
    assert text(agreed.receive(heard, 20_000, sure_until=20_000)) == "we speak of many"


def test_a_hypothesis_without_words_takes_the_agreement_away() -> None:
    agreed = agreement()
    agreed.receive(words("we speak"), 10_000)
    assert agreed.receive((), 10_000) == ()
    assert agreed.tail == ()
    assert agreed.receive(words("we speak"), 10_000) == ()


def test_taking_gives_the_whole_tail_and_forgets_it() -> None:
    agreed = agreement()
    agreed.receive(words("we speak of"), 10_000)
    assert text(agreed.take()) == "we speak of"
    assert agreed.take() == ()
    assert agreed.receive(words("we speak of"), 10_000) == ()


def test_taking_up_to_a_sample_leaves_what_ends_behind_it() -> None:
    agreed = agreement()
    agreed.receive(words("we speak of many"), 10_000)
    assert text(agreed.take(2_999)) == "we speak"
    assert text(agreed.tail) == "of many"
    assert text(agreed.receive(words("of many things", 2_000), 10_000)) == "of many"


def concluded(*hypotheses: tuple[Word, ...], doubt: float = 0.7) -> str:
    """Return what the last of these hypotheses of one tail is concluded to be."""
    agreed = LocalAgreement(guard_samples=100_000, doubt=doubt)
    for hypothesis in hypotheses[:-1]:
        agreed.receive(hypothesis, 10_000)
    chosen = agreed.conclude(hypotheses[-1])
    assert agreed.tail == ()
    assert [(w.start_sample, w.end_sample) for w in chosen[: len(hypotheses[-1])]] == [
        (w.start_sample, w.end_sample) for w in hypotheses[-1]
    ], "words are chosen, times stay"
    return text(chosen)


def one_unsure(said: str, index: int, probability: float) -> tuple[Word, ...]:
    """Return sure words, but for one."""
    sure = words(said)
    unsure = words(said, probability=probability)
    return (*sure[:index], unsure[index], *sure[index + 1 :])


def test_the_last_hypothesis_concludes_where_it_is_sure() -> None:
    assert concluded(words("we peek of", probability=0.95), words("we speak of")) == "we speak of"


def test_a_doubted_word_is_taken_from_a_hypothesis_that_was_surer() -> None:
    earlier, last = one_unsure("we speak of", 1, 0.6), one_unsure("we peek of", 1, 0.4)
    assert concluded(earlier, last) == "we speak of"
    assert concluded(last, earlier) == "we speak of", "not from one that was less sure"


def test_a_word_is_only_taken_from_between_the_same_neighbours() -> None:
    last = one_unsure("we peek of", 1, 0.4)
    assert concluded(words("they speak of"), last) == "we peek of"
    assert concluded(words("we speak if"), last) == "we peek of"
    assert concluded(words("we speak"), last) == "we peek of"


def test_a_doubted_word_at_either_end() -> None:
    assert concluded(words("we speak"), one_unsure("he speak", 0, 0.4)) == "we speak"
    assert concluded(words("we speak"), one_unsure("we peek", 1, 0.4)) == "we peek", "no neighbour to go by"


def test_a_tail_is_in_doubt_while_one_of_its_words_is() -> None:
    agreed = LocalAgreement(guard_samples=0, doubt=0.7)
    assert not agreed.in_doubt
    agreed.receive(one_unsure("we peek of", 1, 0.4), 10_000)
    assert agreed.in_doubt
    agreed.receive(words("we speak of"), 10_000)
    assert not agreed.in_doubt


def test_what_was_heard_is_kept_where_the_last_hypothesis_stops_a_second_short_of_it() -> None:
    earlier = words(" ".join(f"w{index}" for index in range(20)))
    assert concluded(earlier, words("w0 w1 w2")) == text(earlier)
    assert concluded(earlier, ()) == text(earlier)


def test_a_last_hypothesis_may_take_back_the_last_moment() -> None:
    assert concluded(words("we speak of the"), words("we speak of")) == "we speak of"


def test_an_agreement_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least two"):
        LocalAgreement(depth=1)


@given(
    st.lists(st.lists(st.sampled_from("abc"), max_size=6), max_size=12),
    st.integers(2, 4),
    st.integers(0, 3_000),
)
def test_exactly_what_as_many_hypotheses_in_a_row_agree_on_is_committed(
    sequence: list[list[str]], depth: int, guard: int
) -> None:
    agreed, committed = agreement(depth, guard), 0
    heard: list[list[str | None]] = []
    for said in sequence:
        # The forced prefix holds what is committed: a hypothesis goes on from there.
        hypothesis = words(" ".join(said), 1_000 * committed)
        given_out = agreed.receive(hypothesis, 6_000)
        assert given_out + agreed.tail == hypothesis
        heard.append([None] * committed + said)
        expected = 0
        for index, word in enumerate(hypothesis, committed):
            in_a_row = [other[index : index + 1] for other in heard[-depth:]]
            if len(heard) < depth or any(other != in_a_row[-1] for other in in_a_row):
                break
            if word.end_sample > 6_000 - guard:
                break
            expected += 1
        assert len(given_out) == expected
        committed += len(given_out)
