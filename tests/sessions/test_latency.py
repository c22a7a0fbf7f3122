"""From when a word's audio arrives to when it is said."""

from __future__ import annotations

import pytest

from live_asr.core.messages import Commit, Partial, WireWord
from live_asr.sessions.latency import MAX_ARRIVALS, WordLatency


def word(start: float, end: float) -> WireWord:
    return WireWord(" word", start, end, 0.9, None)


def partial(*words: WireWord) -> Partial:
    return Partial("", words, words[0].start, words[-1].end)


def commit(*words: WireWord) -> Commit:
    return Commit(1, words, "", 0)


class Heard:
    """What was measured of one session."""

    def __init__(self) -> None:
        self.first: list[float] = []
        self.committed: list[float] = []
        self.latency = WordLatency(self.first.append, self.committed.append)

    def speak(self, start: int, end: int, at: float = 0.0) -> None:
        """Send audio second by second, each when it is over; `at` is the clock when the session began."""
        for second in range(start, end):
            self.latency.note_audio(second, second + 1, at + second + 1)


def test_a_word_is_shown_first_once_and_committed_once() -> None:
    heard = Heard()
    heard.speak(0, 3)
    heard.latency.note_message(partial(word(0.2, 0.8)), 3.5)
    heard.latency.note_message(partial(word(0.25, 0.85), word(0.85, 1.5)), 4.0)
    heard.latency.note_message(commit(word(0.2, 0.8), word(0.83, 1.5), word(1.5, 2.5)), 4.5)
    assert heard.first == [2.5, 2.0, 1.5]
    assert heard.committed == [3.5, 2.5, 1.5]


def test_audio_that_comes_at_once_has_arrived_when_it_came() -> None:
    heard = Heard()
    heard.latency.note_audio(0.0, 10.0, 100.0)
    heard.latency.note_message(commit(word(1.0, 1.5), word(9.0, 9.5)), 102.0)
    assert heard.committed == [2.0, 2.0]


def test_a_word_that_ends_behind_the_audio_is_as_late_as_the_last_of_it() -> None:
    heard = Heard()
    heard.speak(0, 2)
    heard.latency.note_message(commit(word(1.5, 2.2)), 2.25)
    assert heard.committed == [0.25]


def test_of_words_whose_audio_another_run_of_the_server_took_nothing_is_said() -> None:
    heard = Heard()
    heard.latency.note_message(commit(word(1.0, 1.5)), 0.1)
    heard.speak(60, 62, at=-60.0)
    heard.latency.note_message(commit(word(58.0, 59.0), word(60.2, 60.8)), 3.0)
    assert heard.committed == [2.0]


def test_what_is_remembered_is_bounded_and_words_that_are_later_count_as_very_late() -> None:
    heard = Heard()
    heard.speak(0, 3 * MAX_ARRIVALS)
    assert len(heard.latency._ends) <= MAX_ARRIVALS
    heard.latency.note_message(commit(word(0.5, 1.0)), 3.0 * MAX_ARRIVALS)
    assert heard.committed == [pytest.approx(len(heard.latency._ends) - 1)]
