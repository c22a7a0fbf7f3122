"""Who speaks when in a whole recording: pyannote with real weights on a real telephone call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pyannote.core import Annotation, Segment, Timeline
from pyannote.database.util import load_rttm
from pyannote.metrics.diarization import DiarizationErrorRate

from live_asr.core.speaker_clusters import SpeakerOptions
from live_asr.core.speaker_tracker import SpeakerTracker
from live_asr.core.types import CHUNK_SAMPLES, Turn, samples, seconds
from live_asr.full_pass.blocks import as_float
from live_asr.full_pass.diarization import Diarizer, LocalPipeline, PretrainedPipeline
from live_asr.models.embedding import open_encoder
from live_asr.models.interfaces import SpeechState
from live_asr.models.segmentation import SpeakerSegmentation
from live_asr.models.silero import SileroDetector
from live_asr.weights.onnx_conversion import converted
from live_asr.weights.store import resolve

Pcm = NDArray[np.int16]

pytestmark = pytest.mark.filterwarnings("ignore")  # pyannote's own, about means of nothing


@pytest.fixture(scope="module")
def diarizer(local_pipeline: LocalPipeline) -> Diarizer:
    return Diarizer(local_pipeline)


@pytest.fixture(scope="module")
def call(sample_pcm: bytes) -> Pcm:
    return np.frombuffer(sample_pcm, np.int16)


@pytest.fixture(scope="module")
def stages() -> list[tuple[str, float]]:
    """What `turns` told of its progress."""
    return []


@pytest.fixture(scope="module")
def turns(diarizer: Diarizer, call: Pcm, stages: list[tuple[str, float]]) -> tuple[Turn, ...]:
    """The call, diarized once for all tests that only look at it."""
    return diarizer.diarize(call, on_stage=lambda *told: stages.append(told))


def annotation(turns: Sequence[Turn], at: float = 0.0) -> Annotation:
    """Return turns as pyannote.metrics takes them; `at` is where in the recording they count from."""
    found = Annotation()
    for index, turn in enumerate(turns):
        found[Segment(at + seconds(turn.start_sample), at + seconds(turn.end_sample)), index] = turn.speaker
    return found


def error_rate(turns: Sequence[Turn], wav: Path, duration: float = 30.0, at: float = 0.0) -> float:
    """Diarization error rate without collar, overlaps scored, of the call from second `at` on."""
    (reference,) = load_rttm(str(wav.with_suffix(".rttm"))).values()
    rate = DiarizationErrorRate(collar=0.0, skip_overlap=False)
    return float(rate(reference, annotation(turns, at), uem=Timeline([Segment(at, at + duration)])))


def speakers(turns: Sequence[Turn]) -> list[str]:
    """Who speaks, in the order of their first turns."""
    return list(dict.fromkeys(turn.speaker for turn in turns))


def test_at_most_six_per_cent_of_the_call_is_wrong(turns: tuple[Turn, ...], sample_wav: Path) -> None:
    assert error_rate(turns, sample_wav) <= 0.06


def test_turns_are_in_order_and_their_speakers_numbered_as_they_are_first_heard(
    turns: tuple[Turn, ...], call: Pcm
) -> None:
    assert speakers(turns) == ["SPEAKER_00", "SPEAKER_01"]
    assert list(turns) == sorted(turns, key=lambda turn: turn.start_sample)
    assert all(0 <= turn.start_sample < turn.end_sample <= call.size for turn in turns)


def test_two_who_speak_at_once_both_have_turns(turns: tuple[Turn, ...]) -> None:
    at = samples(14.5)  # in the RTTM of the call both speak then
    assert {turn.speaker for turn in turns if turn.start_sample <= at < turn.end_sample} == {
        "SPEAKER_00",
        "SPEAKER_01",
    }


def test_progress_goes_through_the_stages_and_never_back(
    turns: tuple[Turn, ...], stages: list[tuple[str, float]]
) -> None:
    assert turns
    shares = [share for _, share in stages]
    assert shares == sorted(shares) and shares[0] < 0.1 and shares[-1] == 1.0
    assert list(dict.fromkeys(stage for stage, _ in stages)) == ["segmentation", "embeddings", "clustering"]


def test_the_same_two_are_found_where_the_call_comes_twice_in_blocks_of_its_own_length(
    diarizer: Diarizer, call: Pcm, sample_wav: Path
) -> None:
    silence = np.zeros(samples(1.0), np.int16)
    twice = np.concatenate([call, silence, call])
    found = diarizer.diarize(twice, block_samples=samples(31.0))
    middle = call.size + silence.size // 2
    second = [
        Turn(
            turn.start_sample - call.size - silence.size,
            turn.end_sample - call.size - silence.size,
            turn.speaker,
        )
        for turn in found
        if turn.start_sample >= middle
    ]
    assert len(speakers(found)) == 2
    assert error_rate([turn for turn in found if turn.end_sample <= middle], sample_wav) <= 0.08
    assert error_rate(second, sample_wav) <= 0.08
    # One numbering for both halves: who speaks last in the call is the same one each time.
    assert found[-1].speaker == [turn for turn in found if turn.end_sample <= middle][-1].speaker


def test_no_more_speakers_are_found_than_allowed(diarizer: Diarizer, call: Pcm) -> None:
    assert speakers(diarizer.diarize(call, max_speakers=1)) == ["SPEAKER_00"]


# With what was heard live -------------------------------------------------------------------------------

Listen = Callable[[Pcm], tuple[Turn, ...]]


@pytest.fixture(scope="module")
def listen(models_dir: Path, encoder_file: Path, detector_file: Path) -> Listen:
    """Hear a recording as a live session does: who spoke when."""
    segmentation = SpeakerSegmentation(converted(resolve("segmentation-3.0", models_dir=models_dir)))
    encoder, detector = open_encoder(encoder_file), SileroDetector(detector_file)

    def heard(pcm: Pcm) -> tuple[Turn, ...]:
        tracker = SpeakerTracker(SpeakerOptions.of_encoder(encoder.equal_error_distance))
        audio = as_float(pcm)
        tracker.receive_audio(audio)
        whole = audio[: audio.size // CHUNK_SAMPLES * CHUNK_SAMPLES]
        tracker.receive_probabilities(detector.detect(whole, SpeechState.initial())[0])
        tracker.finish()
        while (wanted := tracker.wanted()) is not None:
            kind, voice = wanted
            if kind == "segmentation":
                tracker.receive_activity(segmentation.segment(voice))
            else:
                tracker.receive_embedding(encoder.embed(voice))
        return tracker.turns()

    return heard


def in_turn(call: Pcm) -> tuple[Pcm, tuple[Turn, ...]]:
    """Make a talk of three turns out of the call; Diane's are slowed down, which lowers her voice."""
    talk = np.zeros(0, np.int16)
    said: list[Turn] = []
    for start, end, slower, who in [
        (10.6, 14.45, 1.2, "Diane"),
        (14.75, 17.9, 1.0, "Sheila"),
        (18.6, 21.45, 1.2, "Diane"),
    ]:
        spoken = call[samples(start) : samples(end)]
        at = np.arange(int(spoken.size * slower)) / slower
        slowed = np.interp(at, np.arange(spoken.size), spoken).astype(np.int16)
        said.append(Turn(talk.size, talk.size + slowed.size, who))
        talk = np.concatenate([talk, slowed, np.zeros(samples(0.5), np.int16)])
    return talk, tuple(said)


def confused(turns: Sequence[Turn], said: Sequence[Turn]) -> float:
    """How much of the speech is given to somebody else, 0 to 1."""
    everything = Timeline([Segment(0, seconds(said[-1].end_sample))])
    parts = DiarizationErrorRate()(annotation(said), annotation(turns), uem=everything, detailed=True)
    return float(parts["confusion"] / parts["total"])


def test_in_a_short_talk_a_turn_that_the_pipeline_gives_to_the_wrong_one_goes_to_whom_it_was_heard_by(
    diarizer: Diarizer, listen: Listen, call: Pcm
) -> None:
    talk, said = in_turn(call)
    found = diarizer.diarize(talk, live_turns=listen(talk))
    assert confused(diarizer.diarize(talk), said) > 0.1
    assert confused(found, said) < 0.01
    assert speakers(found) == ["SPEAKER_00", "SPEAKER_01"]


def test_two_whom_the_live_labels_took_for_one_stay_two(
    diarizer: Diarizer, listen: Listen, call: Pcm, sample_wav: Path
) -> None:
    piece = call[samples(14) : samples(29)]
    heard = listen(piece)
    found = diarizer.diarize(piece, live_turns=heard)
    assert len(speakers(heard)) == 1
    assert speakers(found) == ["SPEAKER_00", "SPEAKER_01"]
    assert error_rate(found, sample_wav, duration=15.0, at=14.0) <= 0.08


def test_one_who_speaks_alone_in_a_short_recording_is_one_speaker(
    diarizer: Diarizer, listen: Listen, call: Pcm
) -> None:
    pause = np.zeros(samples(0.6), np.int16)
    first, second = call[samples(14.75) : samples(17.9)], call[samples(21.8) : samples(27.8)]
    alone = np.concatenate([first, pause, second, pause, first])
    assert speakers(diarizer.diarize(alone, live_turns=listen(alone))) == ["SPEAKER_00"]


def test_the_whole_call_is_told_as_well_as_without(
    diarizer: Diarizer, listen: Listen, call: Pcm, sample_wav: Path
) -> None:
    found = diarizer.diarize(call, live_turns=listen(call))
    assert speakers(found) == ["SPEAKER_00", "SPEAKER_01"]
    assert error_rate(found, sample_wav) <= 0.06


def test_the_number_of_speakers_that_a_client_names_holds_whatever_was_heard_live(
    diarizer: Diarizer, listen: Listen, call: Pcm
) -> None:
    heard = listen(call)
    assert len(speakers(heard)) == 2
    assert speakers(diarizer.diarize(call, max_speakers=1, live_turns=heard)) == ["SPEAKER_00"]
    one = [Turn(turn.start_sample, turn.end_sample, "S1") for turn in heard]
    assert len(speakers(diarizer.diarize(call, min_speakers=2, live_turns=one))) == 2


@pytest.mark.parametrize("length", [0.0, 0.05, 0.2, 12.0])
def test_where_nobody_speaks_there_are_no_turns(diarizer: Diarizer, length: float) -> None:
    assert diarizer.diarize(np.zeros(samples(length), np.int16)) == ()


def test_a_pipeline_in_a_folder_is_loaded_as_pyannote_publishes_them(
    local_pipeline: LocalPipeline, call: Pcm, tmp_path: Path
) -> None:
    # Pipelines that tell speakers apart come with models that only the hub has; this one needs none of them.
    (tmp_path / "config.yaml").write_text(
        "pipeline:\n"
        "  name: pyannote.audio.pipelines.VoiceActivityDetection\n"
        f"  params:\n    segmentation: {local_pipeline.segmentation_file}\n"
        "params:\n  min_duration_on: 0.0\n  min_duration_off: 0.0\n",
        encoding="utf-8",
    )
    published = Diarizer(PretrainedPipeline(str(tmp_path), "by hand"))
    found = published.diarize(call)
    assert published.name == "by hand"
    assert speakers(found) == ["SPEAKER_00"]
    assert 20 < sum(turn.end_sample - turn.start_sample for turn in found) / 16_000 < 24


def test_a_folder_that_holds_no_pipeline_says_so(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"config\.yaml"):
        Diarizer(PretrainedPipeline(str(tmp_path), "nothing"))
