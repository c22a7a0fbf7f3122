"""The speakers of a session, told apart while they speak: on scripted voices, which leave no doubt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from live_asr.core.speaker_clusters import FloatArray, SpeakerClusters
from live_asr.core.speaker_timeline import FRAME_SAMPLES, Timeline
from live_asr.core.speaker_tracker import SpeakerTracker
from live_asr.core.types import CHUNK_SAMPLES, Turn, samples
from live_asr.models.scripted import ScriptedVoices

VOICES = ScriptedVoices()


def said(*stretches: tuple[float, float, str]) -> tuple[Turn, ...]:
    return tuple(Turn(samples(start), samples(end), speaker) for start, end, speaker in stretches)


class AlikeVoices(ScriptedVoices):
    """Voices that are all at one cosine distance from each other."""

    def __init__(self, distance: float) -> None:
        alike = np.full((self.dimension, self.dimension), 1 - distance) + distance * np.eye(self.dimension)
        self._axes = np.linalg.cholesky(alike).astype(np.float32)

    def embed(self, samples: FloatArray) -> FloatArray:
        mixed = super().embed(samples) @ self._axes
        return np.asarray(mixed / np.linalg.norm(mixed), np.float32)


def answer(tracker: SpeakerTracker, voices: ScriptedVoices = VOICES) -> None:
    """Compute all that the tracker wants."""
    while (wanted := tracker.wanted()) is not None:
        kind, audio = wanted
        if kind == "segmentation":
            tracker.receive_activity(voices.segment(audio))
        else:
            tracker.receive_embedding(voices.embed(audio))


def follow(
    turns: Sequence[Turn],
    duration: float,
    *,
    chunks: Iterator[int] | None = None,
    min_speakers: int | None = None,
    max_speakers: int | None = None,
    voices: ScriptedVoices = VOICES,
) -> SpeakerTracker:
    """Have a tracker hear turns to their end."""
    audio = VOICES.audio_of(turns, samples(duration))
    tracker = SpeakerTracker(min_speakers=min_speakers, max_speakers=max_speakers)
    position = judged = 0
    while position < len(audio):
        end = min(len(audio), position + (next(chunks) if chunks else 4096))
        tracker.receive_audio(audio[position:end])
        position = end
        whole = position // CHUNK_SAMPLES * CHUNK_SAMPLES
        loud = np.abs(audio[judged:whole]).reshape(-1, CHUNK_SAMPLES).max(axis=1) > 0
        tracker.receive_probabilities(loud.astype(float).tolist())
        judged = whole
        answer(tracker, voices)
    tracker.finish()
    answer(tracker, voices)
    return tracker


def shares(tracker: SpeakerTracker, turns: Sequence[Turn]) -> list[str | None]:
    """Return what each of the turns is labelled."""
    return [tracker.label_between(turn.start_sample, turn.end_sample, None) for turn in turns]


def test_speakers_are_numbered_in_the_order_in_which_they_are_heard() -> None:
    turns = said((1, 6, "S3"), (7, 12, "S1"), (13, 18, "S2"))
    assert shares(follow(turns, 19), turns) == ["S1", "S2", "S3"]


def test_a_speaker_who_comes_back_after_a_minute_has_the_same_label() -> None:
    turns = said((1, 6, "S1"), (7, 12, "S2"), (70, 74, "S1"))
    assert shares(follow(turns, 75), turns) == ["S1", "S2", "S1"]


def test_a_change_of_speaker_without_a_pause_is_found_to_a_tenth_of_a_second() -> None:
    turns = said((1, 7, "S1"), (7, 12, "S2"))
    found = follow(turns, 13).turns()
    assert [turn.speaker for turn in found] == ["S1", "S2"]
    assert abs(found[1].start_sample - samples(7)) <= samples(0.1)


def test_of_two_who_speak_at_once_each_has_a_turn() -> None:
    turns = said((1, 8, "S1"), (6, 13, "S2"))
    found = follow(turns, 14).turns()
    assert {turn.speaker for turn in found} == {"S1", "S2"}
    both = [turn for turn in found if turn.start_sample < samples(7) < turn.end_sample]
    assert len(both) == 2


def test_a_word_that_runs_on_through_a_pause_is_not_whose_is_said_behind_it() -> None:
    tracker = follow(said((1, 6, "S1"), (6.5, 11, "S2")), 12)
    last, next_one = (samples(5.7), samples(7.2)), (samples(6.5), samples(7.2))
    assert tracker.label_between(*last, "S1") == "S1"
    assert tracker.label_between(*last, None) == "S1"
    assert tracker.label_between(*next_one, "S1") == "S2"


def test_a_word_that_begins_with_what_was_left_of_the_one_before_is_whose_is_said_behind_the_pause() -> None:
    tracker = follow(said((1, 6, "S1"), (6.5, 11, "S2")), 12)
    assert tracker.label_between(samples(5.94), samples(6.9), None) == "S2"
    assert tracker.label_between(samples(6.1), samples(6.9), None) == "S2"


def test_a_word_without_a_pause_is_whose_most_of_it_is() -> None:
    tracker = follow(said((1, 6, "S1"), (6.1, 11, "S2")), 12)
    assert tracker.label_between(samples(5.8), samples(6.6), None) == "S2"
    assert tracker.label_between(samples(5.4), samples(6.2), None) == "S1"


def test_more_speakers_than_there_may_be_are_never_told() -> None:
    turns = said((1, 6, "S1"), (7, 12, "S2"), (13, 18, "S3"), (19, 24, "S4"))
    found = follow(turns, 25, max_speakers=2).turns()
    assert {turn.speaker for turn in found} == {"S1", "S2"}


IN_TURN = said((1, 6, "S1"), (7, 12, "S2"), (13, 18, "S1"), (19, 24, "S2"))


def test_two_voices_that_are_alike_are_told_apart_where_there_are_to_be_two() -> None:
    alike = AlikeVoices(0.5)
    assert shares(follow(IN_TURN, 25, voices=alike), IN_TURN) == ["S1", "S1", "S1", "S1"]
    assert shares(follow(IN_TURN, 25, voices=alike, min_speakers=2), IN_TURN) == ["S1", "S2", "S1", "S2"]


def test_once_as_many_are_known_as_there_are_to_be_a_voice_that_is_alike_makes_no_other() -> None:
    turns = (*IN_TURN, *said((25, 30, "S3"), (31, 36, "S3")))
    found = follow(turns, 37, voices=AlikeVoices(0.5), min_speakers=2).turns()
    assert {turn.speaker for turn in found} == {"S1", "S2"}


def test_one_who_is_alone_is_not_made_two_because_there_are_to_be_two() -> None:
    alone = said(
        (1, 6, "S1"), (7, 12, "S2"), (13, 14.5, "S1"), (16, 24, "S2")
    )  # with two voices, hardly different
    found = follow(alone, 25, voices=AlikeVoices(0.3), min_speakers=2).turns()
    assert {turn.speaker for turn in found} == {"S1"}


def test_a_voice_that_is_hardly_known_yet_is_no_reason_to_found_another_one_sooner() -> None:
    brief = said((1, 2.6, "S1"), (3.2, 7, "S2"))
    found = follow(brief, 8, voices=AlikeVoices(0.5), min_speakers=2).turns()
    assert {turn.speaker for turn in found} == {"S1"}


def test_a_cough_of_half_a_second_makes_no_new_speaker() -> None:
    turns = said((1, 8, "S1"), (9, 9.5, "S2"), (10, 16, "S1"))
    assert {turn.speaker for turn in follow(turns, 17).turns()} == {"S1"}


def test_silence_asks_for_nothing() -> None:
    tracker = SpeakerTracker()
    tracker.receive_audio(np.zeros(samples(60), np.float32))
    tracker.receive_probabilities([0.01] * (samples(60) // CHUNK_SAMPLES))
    assert tracker.wanted() is None
    assert tracker.known_sample >= samples(59)


def test_an_hour_of_speech_is_kept_in_the_memory_of_a_minute_and_a_half() -> None:
    timeline = Timeline(memory_frames=100)
    for start in range(0, 5000, 50):
        timeline.write(start, np.tile(np.array([[0.0, 1.0]], np.float32), (60, 1)))
    assert timeline.end_frame - timeline.start_frame == 100
    assert timeline.turns() == (Turn(0, 5010 * FRAME_SAMPLES, "S1"),)
    assert timeline.share_of_word(0, samples(1)) is None


def test_turns_asked_for_earlier_are_told_as_they_were_then() -> None:
    tracker = follow(said((0.5, 5, "S1"), (6, 11, "S2")), 12)
    assert tracker.turns_so_far()() == tracker.turns()
    timeline = Timeline(memory_frames=100)
    timeline.write(0, np.tile(np.array([[0.0, 1.0]], np.float32), (150, 1)))
    copy = timeline.copy()
    timeline.write(120, np.tile(np.array([[0.0, 0.0, 1.0]], np.float32), (100, 1)))
    assert copy.turns() == (Turn(0, 150 * FRAME_SAMPLES, "S1"),)


def test_work_that_cannot_be_done_costs_labels_and_nothing_else() -> None:
    audio = VOICES.audio_of(said((0, 30, "S1")), samples(30))
    tracker = SpeakerTracker()
    tracker.receive_audio(audio)
    tracker.receive_probabilities([1.0] * (len(audio) // CHUNK_SAMPLES))
    tracker.finish()
    failed = 0
    while (wanted := tracker.wanted()) is not None:
        kind, heard = wanted
        failed += 1
        if failed % 2:
            tracker.receive_failure()
        elif kind == "segmentation":
            tracker.receive_activity(VOICES.segment(heard))
        else:
            tracker.receive_embedding(VOICES.embed(heard))
    assert tracker.is_finished
    assert {turn.speaker for turn in tracker.turns()} <= {"S1"}


def test_an_answer_that_nobody_asked_for_is_refused() -> None:
    with pytest.raises(RuntimeError, match="not asked for"):
        SpeakerTracker().receive_embedding(np.ones(6, np.float32))


def test_a_centroid_follows_its_voice() -> None:
    clusters = SpeakerClusters()
    one, other = np.eye(6, dtype=np.float32)[:2]
    clusters.add(one, 1.0)
    before = clusters.distances(other)[0]
    clusters.update(0, other, 1.0)
    assert clusters.distances(other)[0] < before


@settings(max_examples=15, deadline=None)
@given(sizes=st.lists(st.integers(1, 40_000), min_size=1, max_size=8))
def test_any_chunking_gives_the_same_turns(sizes: list[int]) -> None:
    turns = said((0.5, 5, "S1"), (5, 9, "S2"), (9.5, 14, "S1"), (13, 17, "S3"))

    def repeated() -> Iterator[int]:
        while True:
            yield from sizes

    chunks = repeated() if sum(sizes) > 2000 else None
    assert follow(turns, 18, chunks=chunks).turns() == follow(turns, 18).turns()
