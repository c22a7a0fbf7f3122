"""Speech is told from everything else."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from live_asr.core.segmenter import Segmenter, SpeechStarted
from live_asr.core.types import CHUNK_SAMPLES, samples
from live_asr.models.interfaces import SpeechState
from live_asr.models.silero import SileroDetector

Audio = NDArray[np.float32]


@pytest.fixture(scope="module")
def detector(detector_file: Path) -> SileroDetector:
    return SileroDetector(detector_file)


def judged(detector: SileroDetector, audio: Audio, *lengths: int) -> Audio:
    """Return the probabilities for whole chunks of `audio`, asked for `lengths` chunks at a time."""
    state, position, answers, turn = SpeechState.initial(), 0, [], 0
    while (left := (len(audio) - position) // CHUNK_SAMPLES) > 0:
        count = min(left, lengths[turn % len(lengths)]) * CHUNK_SAMPLES
        probabilities, state = detector.detect(audio[position : position + count], state)
        answers.append(probabilities)
        position += count
        turn += 1
    return np.concatenate(answers)


def begun(probabilities: Audio) -> list[int]:
    """Return where utterances begin."""
    segmenter = Segmenter()
    events = [segmenter.push(float(probability)) for probability in probabilities]
    return [event.start_sample for event in events if isinstance(event, SpeechStarted)]


def noise(count: int, level: float) -> Audio:
    """Return white noise, shape (count,), `level` RMS."""
    return np.random.default_rng(1).normal(0, level, count).astype(np.float32)


def chords(time: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return an organ that changes its chord every two seconds."""
    roots_hz = np.array([220.0, 174.6, 261.6, 196.0])[(time / 2).astype(int) % 4]
    phase = 2 * np.pi * np.cumsum(roots_hz) / 16_000
    tones = [
        np.sin(ratio * harmonic * phase) / harmonic for ratio in (1, 1.26, 1.498) for harmonic in (1, 2, 3)
    ]
    return np.asarray(0.05 * sum(tones))


def test_a_call_is_speech_where_people_speak_and_not_before(
    detector: SileroDetector, sample_audio: Audio
) -> None:
    probabilities = judged(detector, sample_audio, 64)
    assert probabilities.shape == (len(sample_audio) // CHUNK_SAMPLES,)
    assert probabilities.dtype == np.float32
    assert probabilities.min() >= 0 and probabilities.max() <= 1
    before = probabilities[: samples(6.0) // CHUNK_SAMPLES]
    during = probabilities[samples(15.0) // CHUNK_SAMPLES : samples(20.0) // CHUNK_SAMPLES]
    assert (during > 0.5).mean() > 0.9
    assert (before > 0.5).mean() < 0.1


def test_a_minute_of_noise_deafens_no_more_than_a_second(
    detector: SileroDetector, sample_audio: Audio
) -> None:
    speech = sample_audio[samples(6.5) : samples(11.5)]
    level = float(np.sqrt(np.mean(speech**2)))
    found = []
    for lead in (31 * CHUNK_SAMPLES, 60 * 31 * CHUNK_SAMPLES):
        audio = np.concatenate([np.zeros(lead, np.float32), speech])
        probabilities = judged(detector, audio + noise(audio.size, level), 8)[lead // CHUNK_SAMPLES :]
        found.append((begun(probabilities), int((probabilities >= 0.5).sum())))
    (soon_begun, soon_chunks), (late_begun, late_chunks) = found
    assert soon_chunks > 110
    assert late_chunks == pytest.approx(soon_chunks, rel=0.05)  # 74 of 121 with one memory for all the time
    assert late_begun == pytest.approx(soon_begun, abs=samples(0.1))


@pytest.mark.parametrize("kind", ["silence", "noise", "hum", "clicks", "chords"])
def test_what_is_no_speech_never_begins_an_utterance(detector: SileroDetector, kind: str) -> None:
    count = samples(60.0)
    rng, time = np.random.default_rng(1), np.arange(count) / 16_000
    sounds = {
        "silence": np.zeros(count),
        "noise": rng.normal(0, 0.1, count),
        "hum": 0.3 * np.sin(2 * np.pi * 50 * time),
        "clicks": np.where(np.arange(count) % 8_000 < 20, 0.9, 0.0),
        "chords": chords(time),
    }
    probabilities = judged(detector, sounds[kind].astype(np.float32), 8)
    assert not np.any((probabilities[1:] >= 0.5) & (probabilities[:-1] >= 0.5))


@pytest.mark.parametrize("lengths", [(1,), (7,), (1, 30, 3)], ids=str)
def test_the_answer_does_not_depend_on_how_the_chunks_are_grouped(
    detector: SileroDetector, sample_audio: Audio, lengths: tuple[int, ...]
) -> None:
    call = sample_audio[samples(6.0) : samples(12.0)]
    # In the first pause the detector's memory is replaced; in the second somebody speaks before it is.
    audio = np.concatenate([call, noise(samples(9.0), 0.001), call, noise(samples(4.0), 0.001), call])
    assert np.array_equal(judged(detector, audio, *lengths), judged(detector, audio, 1_000))


def test_sessions_do_not_disturb_each_other(detector: SileroDetector, sample_audio: Audio) -> None:
    pieces = [sample_audio[samples(start) : samples(start + 6.0)] for start in (6.0, 12.0, 18.0, 24.0)]
    alone = [judged(detector, piece, 4) for piece in pieces]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda piece: judged(detector, piece, 4), pieces))
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one, other)


def test_no_audio_has_no_answer_and_changes_nothing(detector: SileroDetector) -> None:
    state = SpeechState.initial()
    probabilities, after = detector.detect(np.zeros(0, np.float32), state)
    assert probabilities.shape == (0,)
    assert after is state


@pytest.mark.parametrize("size", [1, 511, 513])
def test_a_broken_chunk_is_refused(detector: SileroDetector, size: int) -> None:
    with pytest.raises(ValueError, match=f"{size} samples are not a whole number of 512"):
        detector.detect(np.zeros(size, np.float32), SpeechState.initial())
