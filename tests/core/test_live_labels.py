"""What speaker each committed word is shown with, and what becomes of that."""

from __future__ import annotations

from live_asr.core.live_labels import Labelled, LiveLabels
from live_asr.core.speaker_clusters import SpeakerOptions
from live_asr.core.types import Word, samples


class Heard:
    """A tracker that has heard what it is told: stands in for `SpeakerTracker` by what labels ask of it."""

    options = SpeakerOptions()

    def __init__(self) -> None:
        self.known_sample = 0
        self.speakers: dict[tuple[float, float], str | None] = {}

    def hears(self, until: float, **_: str) -> None:
        self.known_sample = samples(until)

    def label_between(self, start_sample: int, end_sample: int, previous: str | None) -> str | None:
        middle = (start_sample + end_sample) / 2
        for (start, end), speaker in self.speakers.items():
            if samples(start) <= middle < samples(end):
                return speaker
        return None


def words(start: float, count: int, length: float = 0.5) -> tuple[Word, ...]:
    return tuple(
        Word(f" w{index}", samples(start + index * length), samples(start + (index + 1) * length), 0.9)
        for index in range(count)
    )


def labels_of(heard: Heard) -> LiveLabels:
    return LiveLabels(heard)  # type: ignore[arg-type]


def test_words_of_a_known_speaker_are_labelled_at_once() -> None:
    heard = Heard()
    heard.speakers[0, 10] = "S1"
    heard.hears(until=5)
    assert [word.speaker for word in labels_of(heard).label(words(1, 3))] == ["S1"] * 3


def test_words_beyond_what_was_heard_wait_for_their_label() -> None:
    heard = Heard()
    heard.speakers[0, 10] = "S1"
    heard.hears(until=2)
    labels = labels_of(heard)
    assert [word.speaker for word in labels.label(words(1, 4))] == ["S1", "S1", None, None]
    heard.hears(until=4)
    assert labels.changes() == [Labelled(samples(2), samples(3), "S1")]
    assert labels.changes() == []


def test_two_speakers_found_late_are_two_labels() -> None:
    heard = Heard()
    labels = labels_of(heard)
    labels.label(words(0, 4))
    heard.speakers |= {(0, 1): "S1", (1, 2): "S2"}
    heard.hears(until=3)
    assert labels.changes() == [Labelled(0, samples(1), "S1"), Labelled(samples(1), samples(2), "S2")]


def test_words_between_those_that_become_known_keep_their_own_label() -> None:
    heard = Heard()
    heard.speakers[1, 2] = "S2"
    heard.hears(until=3)
    labels = labels_of(heard)
    labels.label(words(0, 6))
    heard.speakers |= {(0, 1): "S1", (2, 3): "S1"}
    assert labels.changes() == [Labelled(0, samples(1), "S1"), Labelled(samples(2), samples(3), "S1")]


def test_a_phrase_that_was_somebody_elses_is_corrected_once_it_is_sure() -> None:
    heard = Heard()
    heard.speakers[0, 20] = "S1"
    heard.hears(until=3)
    labels = labels_of(heard)
    labels.label(words(0, 6))
    heard.speakers = {(0, 3): "S2", (3, 20): "S1"}
    heard.hears(until=5)
    assert labels.changes() == []
    labels.label(words(3, 4))
    heard.hears(until=9)
    assert labels.changes() == [Labelled(0, samples(3), "S2")]


def test_a_single_word_is_not_taken_from_its_speaker() -> None:
    heard = Heard()
    heard.speakers[0, 20] = "S1"
    heard.hears(until=5)
    labels = labels_of(heard)
    labels.label(words(0, 6))
    heard.speakers = {(1, 1.5): "S2", (0, 20): "S1"}
    heard.hears(until=12)
    assert labels.changes() == []


def test_at_the_end_words_that_nobody_was_heard_saying_go_to_who_spoke_before() -> None:
    heard = Heard()
    heard.speakers[0, 1] = "S1"
    heard.hears(until=3)
    labels = labels_of(heard)
    labels.label(words(0, 4))
    assert labels.changes(final=True) == [Labelled(samples(1), samples(2), "S1")]


def test_where_nobody_is_known_nobody_is_named() -> None:
    heard = Heard()
    heard.hears(until=9)
    labels = labels_of(heard)
    labels.label(words(0, 4))
    assert labels.changes(final=True) == []
