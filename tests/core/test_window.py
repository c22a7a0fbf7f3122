"""RollingWindow: when to decode, and what."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from live_asr.core.types import Word, samples, seconds
from live_asr.core.window import RollingWindow, WindowOptions


def word(start: float, end: float, *tokens: int) -> Word:
    return Word(" word", samples(start), samples(end), 0.9, tokens or (round(start * 10),))


def words(start: float, end: float, length: float = 0.5) -> list[Word]:
    """Return words of `length` seconds that fill the time from `start` to `end`."""
    count = round((end - start) / length)
    return [word(start + i * length, start + (i + 1) * length) for i in range(count)]


def opened(start: float, **options: int) -> RollingWindow:
    window = RollingWindow(replace(WindowOptions(), **options))
    window.open(samples(start))
    return window


# When ---------------------------------------------------------------------------------------------------


def test_the_first_step_comes_0_8_s_after_the_utterance_starts() -> None:
    window = opened(10.0)
    assert not window.due(samples(10.79), samples(10.79))
    assert window.due(samples(10.8), samples(10.8))


def test_the_next_step_comes_so_much_after_the_last() -> None:
    window = opened(0.0)
    window.postpone(samples(0.8), samples(0.7))
    assert not window.due(samples(1.49), samples(1.4))
    assert window.due(samples(1.5), samples(1.4))


def test_no_step_comes_without_new_speech_and_one_soon_after_it_resumes() -> None:
    window = opened(0.0)
    window.request(samples(0.8), samples(0.8))
    window.postpone(samples(0.8), samples(0.7))
    assert not window.due(samples(1.6), samples(0.7))
    assert not window.due(samples(2.0), samples(2.0)), "it waits a moment for more than an onset"
    assert not window.due(samples(2.19), samples(2.19))
    assert window.due(samples(2.2), samples(2.2))


# Which samples ------------------------------------------------------------------------------------------


def test_the_first_utterance_starts_the_window() -> None:
    window = opened(4.0)
    request = window.request(samples(4.8), samples(4.8))
    assert (seconds(request.start_sample), seconds(request.end_sample)) == (4.0, 4.8)
    assert request.prefix == ()


def test_an_utterance_carries_earlier_audio_with_its_words_forced() -> None:
    window = opened(0.0)
    window.commit(words(0.0, 6.0), samples(6.0))
    window.open(samples(7.0))
    request = window.request(samples(7.8), samples(7.8))
    assert seconds(request.start_sample) == 1.98, "20 ms before the first word within five seconds"
    assert request.prefix == tuple(range(20, 60, 5))


def test_a_word_that_started_before_the_carried_audio_is_left_out_as_a_whole() -> None:
    window = opened(0.0)
    window.commit([word(1.9, 2.4, 1), word(2.4, 6.0, 2)], samples(6.0))
    window.open(samples(7.0))
    assert window.request(samples(8.0), samples(8.0)).prefix == (2,)
    assert seconds(window.start_sample) == 2.38


def test_a_pause_of_more_than_three_seconds_carries_nothing() -> None:
    window = opened(0.0)
    window.commit(words(0.0, 4.0), samples(4.0))
    window.open(samples(7.1))
    request = window.request(samples(8.0), samples(8.0))
    assert (seconds(request.start_sample), request.prefix) == (7.1, ())


def test_a_window_without_a_commit_grows() -> None:
    window = opened(0.0)
    assert seconds(window.request(samples(12.0), samples(12.0)).start_sample) == 0.0


def test_a_commit_in_a_short_window_trims_nothing() -> None:
    window = opened(0.0)
    window.commit(words(0.0, 5.0), samples(6.0))
    assert window.start_sample == 0
    assert len(window.committed) == 10


def test_a_commit_in_a_long_window_trims_it_to_two_seconds_before_its_end() -> None:
    window = opened(0.0)
    window.commit(words(0.0, 7.0), samples(7.5))
    assert seconds(window.start_sample) == 4.98
    assert [seconds(kept.start_sample) for kept in window.committed] == [5.0, 5.5, 6.0, 6.5]


def test_a_window_is_never_cut_inside_a_word() -> None:
    window = opened(0.0)
    window.commit([word(0.0, 3.0), word(3.0, 6.5), word(6.5, 7.0)], samples(8.0))
    assert seconds(window.start_sample) == 6.48


def test_a_last_word_longer_than_what_is_kept_leaves_the_window_to_start_behind_it() -> None:
    window = opened(0.0)
    window.commit([word(0.0, 1.0), word(1.0, 7.0)], samples(8.0))
    assert seconds(window.start_sample) == 6.98
    assert window.committed == ()
    assert seconds(window.committed_end_sample) == 7.0, "what was committed stays known"


def test_a_window_that_is_cut_by_force_forgets_its_words_and_hears_none_of_them_again() -> None:
    window = opened(0.0)
    window.commit(words(0.0, 6.0), samples(6.0))
    window.cut(samples(5.0))
    assert seconds(window.start_sample) == 6.0
    assert window.committed == ()
    window.cut(samples(12.0))
    assert seconds(window.start_sample) == 12.0


def test_a_window_is_stuck_beyond_16_s() -> None:
    window = opened(0.0)
    assert not window.is_stuck(samples(16.0))
    assert window.is_stuck(samples(16.1))


def test_a_trim_that_is_set_beyond_the_bound_of_the_window_comes_at_the_bound() -> None:
    window = opened(0.0, trim_above_samples=samples(20.0))
    window.commit(words(0.0, 16.0), samples(16.5))
    assert not window.is_stuck(samples(16.5))
    assert len(window.committed) == 4


def test_the_last_decode_of_an_utterance_looks_back_at_15_s() -> None:
    window = opened(0.0, trim_above_samples=samples(6.0))
    for end in (7.0, 14.0, 18.0):
        window.commit(words(window.committed_end_sample / samples(1.0), end), samples(end + 0.5))
    step = window.request(samples(20.0), samples(20.0))
    last = window.request(samples(20.0), samples(20.0), final=True)
    assert (seconds(step.start_sample), step.prefix) == (15.98, tuple(range(160, 180, 5)))
    assert (seconds(last.start_sample), last.prefix) == (4.98, tuple(range(50, 180, 5)))
    assert seconds(window.kept_from_sample) <= 4.98
    assert window.request(samples(20.0), samples(20.0)) == step, "it is one exception"


def test_a_step_that_follows_on_doubt_looks_back_at_11_s() -> None:
    window = opened(0.0, trim_above_samples=samples(6.0))
    for end in (7.0, 14.0, 18.0):
        window.commit(words(window.committed_end_sample / samples(1.0), end), samples(end + 0.5))
    step = window.request(samples(20.0), samples(20.0), doubted=True)
    assert (seconds(step.start_sample), step.prefix) == (8.98, tuple(range(90, 180, 5)))
    assert window.told[0].start_sample == samples(9.0)
    last = window.request(samples(20.0), samples(20.0), doubted=True, final=True)
    assert seconds(last.start_sample) == 4.98
    redo = window.request(samples(20.0), samples(20.0), doubted=True, final=True, full_window=True)
    assert seconds(redo.start_sample) == 15.98


def test_the_last_decode_looks_back_at_an_earlier_utterance_too_but_not_over_a_long_pause() -> None:
    window = opened(0.0)
    window.commit(words(0.0, 6.0), samples(6.0))
    window.open(samples(7.0))
    assert window.request(samples(9.0), samples(9.0), final=True).start_sample == 0
    window.open(samples(9.1))
    request = window.request(samples(11.0), samples(11.0), final=True)
    assert (seconds(request.start_sample), request.prefix) == (9.1, ())
    assert seconds(window.kept_from_sample) == 9.1


def test_the_last_decode_looks_back_no_further_than_a_cut_by_force() -> None:
    window = opened(0.0)
    window.commit(words(0.0, 8.0), samples(8.0))
    window.cut(samples(9.0))
    window.commit(words(9.0, 17.0), samples(17.0))
    assert seconds(window.request(samples(17.0), samples(17.0), final=True).start_sample) == 9.0
    assert seconds(window.kept_from_sample) == 9.0


def test_the_last_decode_leaves_room_for_new_tokens() -> None:
    window = opened(0.0, look_back_tokens=35)
    window.commit([word(i / 2, (i + 1) / 2, *range(5)) for i in range(14)], samples(7.5))
    window.commit([word(7.0, 7.5, 9)], samples(8.0))
    assert len(window.committed) == 5
    assert len(window.request(samples(8.0), samples(8.0)).prefix) == 21
    assert len(window.request(samples(8.0), samples(8.0), final=True).prefix) == 31, "one word more were 36"


def test_a_last_decode_that_is_done_again_in_the_full_window_looks_back_no_further_than_a_step() -> None:
    window = opened(0.0)
    window.commit(words(0.0, 8.0), samples(8.0))
    step = window.request(samples(9.0), samples(9.0))
    redo = window.request(samples(9.0), samples(9.0), final=True, full_window=True)
    assert (redo.start_sample, redo.prefix) == (step.start_sample, step.prefix)


def test_a_window_that_was_taken_up_after_a_long_pause_looks_back_no_further_than_that() -> None:
    window = RollingWindow()
    window.restore(samples(9.5), words(1.0, 2.0))
    window.open(samples(10.0))
    request = window.request(samples(11.0), samples(11.0), final=True)
    assert (seconds(request.start_sample), request.prefix) == (10.0, ())


def test_what_is_kept_never_moves_back() -> None:
    window = opened(0.0, carry_samples=0, trim_above_samples=samples(16.0))
    window.commit(words(0.2, 1.2), samples(1.3))
    window.open(samples(3.6))
    window.commit([word(3.6, 4.0)], samples(4.3))
    window.commit([word(14.0, 15.8)], samples(16.0))
    kept_from_sample = window.kept_from_sample
    window.open(samples(16.2))
    request = window.request(samples(17.2), samples(17.2), final=True)
    assert kept_from_sample <= window.kept_from_sample <= request.start_sample


def test_a_window_that_was_taken_up_looks_back_at_what_it_was_given() -> None:
    before = opened(0.0)
    before.commit(words(0.0, 9.0), samples(9.0))
    window = RollingWindow()
    window.restore(samples(9.0), before.carried)
    assert window.kept_from_sample == before.kept_from_sample
    for each in (before, window):
        each.open(samples(9.5))
    assert window.request(samples(11.0), samples(11.0), final=True) == before.request(
        samples(11.0), samples(11.0), final=True
    )


# With what ----------------------------------------------------------------------------------------------


def test_the_cap_on_new_tokens_grows_with_the_new_audio() -> None:
    options = WindowOptions()
    window = opened(0.0)
    caps = [window.request(samples(end), samples(end)).max_new_tokens for end in (0.0, 1.0, 5.0)]
    assert caps[0] == options.spare_tokens
    assert caps[2] - caps[1] == 4 * options.tokens_per_second


def test_the_cap_does_not_count_what_is_committed_nor_silence() -> None:
    window = opened(0.0)
    window.commit(words(0.0, 5.0), samples(5.0))
    one_second = WindowOptions().tokens_per_second + WindowOptions().spare_tokens
    assert window.request(samples(6.0), samples(6.0)).max_new_tokens == one_second
    assert window.request(samples(9.0), samples(5.8)).max_new_tokens == one_second


def test_a_window_is_filled_to_ten_seconds_or_for_a_redo_to_thirty() -> None:
    window = opened(0.0)
    assert seconds(window.request(samples(1.0), samples(1.0)).min_window_samples) == 10.0
    redo = window.request(samples(1.0), samples(1.0), final=True, full_window=True)
    assert (seconds(redo.min_window_samples), redo.final) == (30.0, True)


# Always -------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.floats(0.1, 4.0), st.integers(0, 30), st.floats(0.1, 4.0)), max_size=8),
    st.sampled_from([0.0, 5.0, 15.0]),
    st.sampled_from([2.0, 7.0, 16.0]),
)
def test_the_window_only_moves_forward_and_holds_its_words(
    utterances: list[tuple[float, int, float]], carry: float, trim: float
) -> None:
    window = RollingWindow(WindowOptions(carry_samples=samples(carry), trim_above_samples=samples(trim)))
    now, start_before, kept_before = 0.0, 0, 0
    for pause, count, length in utterances:
        now += pause
        window.open(samples(now))
        assert window.start_sample <= samples(now)
        for _ in range(count):
            window.commit([word(now, now + length)], samples(now + length + 0.5))
            now += length
            request = window.request(samples(now + 0.5), samples(now))
            assert start_before <= request.start_sample <= request.end_sample
            start_before = request.start_sample
            lead = WindowOptions().lead_samples
            assert all(kept.start_sample >= request.start_sample for kept in window.committed) or (
                window.committed[0].start_sample >= request.start_sample - lead
            )
            assert request.prefix == tuple(token for kept in window.committed for token in kept.tokens)
            doubted = window.request(samples(now + 0.5), samples(now), doubted=True)
            last = window.request(samples(now + 0.5), samples(now), final=True)
            assert last.start_sample <= doubted.start_sample <= request.start_sample
            assert window.kept_from_sample <= last.start_sample <= request.start_sample
            assert kept_before <= window.kept_from_sample
            kept_before = window.kept_from_sample
            assert last.prefix[len(last.prefix) - len(request.prefix) :] == request.prefix
        now += 0.5


@pytest.mark.parametrize("step", [0.2, 0.7, 5.0])
def test_postponing_takes_the_step_it_is_told(step: float) -> None:
    window = opened(0.0)
    window.postpone(samples(3.0), samples(step))
    assert window.next_step_sample == samples(3.0 + step)
