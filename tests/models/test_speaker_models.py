"""The models that tell speakers apart, with their real weights on a real call."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from live_asr.core.errors import WeightsError
from live_asr.core.types import samples
from live_asr.models.embedding import kaldi_features, open_encoder
from live_asr.models.interfaces import SpeakerEncoder
from live_asr.models.segmentation import FRAME_SAMPLES, SpeakerSegmentation
from live_asr.weights.onnx_conversion import MODEL_FILE, RECEIPT, converted
from live_asr.weights.store import Weights, resolve

Audio = NDArray[np.float32]


@pytest.fixture(scope="module")
def encoder(models_dir: Path) -> SpeakerEncoder:
    return open_encoder(converted(resolve("campplus", models_dir=models_dir)))


@pytest.fixture(scope="module")
def segmentation(models_dir: Path) -> SpeakerSegmentation:
    return SpeakerSegmentation(converted(resolve("segmentation-3.0", models_dir=models_dir)))


def between(audio: Audio, start: float, end: float) -> Audio:
    return audio[samples(start) : samples(end)]


def test_a_voice_is_nearer_to_itself_than_to_the_other_one(
    encoder: SpeakerEncoder, sample_audio: Audio
) -> None:
    # Who speaks when is in the call's RTTM.
    sheila, sheila_again = between(sample_audio, 22, 24.5), between(sample_audio, 25, 27.5)
    diane = between(sample_audio, 11.2, 14.2)
    one, same, other = (encoder.embed(voice) for voice in (sheila, sheila_again, diane))
    assert one @ same > one @ other + 0.2


def test_an_embedding_is_a_vector_of_length_1(encoder: SpeakerEncoder, sample_audio: Audio) -> None:
    embedding = encoder.embed(between(sample_audio, 22, 23))
    assert embedding.shape == (192,)
    assert embedding.dtype == np.float32
    assert np.linalg.norm(embedding) == pytest.approx(1.0, abs=1e-5)


def test_a_voice_at_half_the_volume_is_the_same_voice(encoder: SpeakerEncoder, sample_audio: Audio) -> None:
    voice = between(sample_audio, 22, 25)
    assert encoder.embed(voice) @ encoder.embed(voice * 0.5) > 0.97


def test_too_little_of_a_voice_is_refused(encoder: SpeakerEncoder) -> None:
    with pytest.raises(ValueError, match="too few"):
        encoder.embed(np.ones(3999, np.float32))


@pytest.mark.filterwarnings(
    "ignore:\\ntorchcodec:UserWarning"
)  # pyannote says so on import; nothing of it is used
def test_features_are_kaldis(sample_audio: Audio) -> None:
    """The reference is torchaudio's port of Kaldi, which pyannote brings along."""
    from live_asr.full_pass.diarization import import_pyannote

    import_pyannote()
    import torch
    from torchaudio.compliance import kaldi

    audio = between(sample_audio, 10, 12)
    theirs = kaldi.fbank(torch.from_numpy(audio[None]), num_mel_bins=80, dither=0.0).numpy()
    ours = kaldi_features(audio)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < 0.02


def test_the_network_in_onnx_is_the_one_in_torch(models_dir: Path, encoder: SpeakerEncoder) -> None:
    import torch

    from live_asr.models.campplus import load

    network = load(resolve("campplus", models_dir=models_dir).folder / "campplus_cn_en_common.pt")
    noise = np.random.default_rng(1).normal(0, 0.1, samples(2.3)).astype(np.float32)
    features = kaldi_features(noise)
    features -= features.mean(axis=0)
    with torch.no_grad():
        theirs = network(torch.from_numpy(features[None])).numpy()[0]
    theirs /= np.linalg.norm(theirs)
    assert np.abs(encoder.embed(noise) - theirs).max() < 1e-4


def test_a_window_of_the_call_holds_two_who_take_turns(
    segmentation: SpeakerSegmentation, sample_audio: Audio
) -> None:
    window = between(sample_audio, 12, 22)
    activity = segmentation.segment(window)
    assert activity.shape == (len(window) // FRAME_SAMPLES, 3)
    assert activity.min() >= 0 and activity.max() <= 1.001

    def most(start: float, end: float) -> int:
        rows = activity[samples(start - 12) // FRAME_SAMPLES : samples(end - 12) // FRAME_SAMPLES]
        return int(rows.mean(axis=0).argmax())

    diane, sheila, diane_again = most(12.5, 14.2), most(15, 17.5), most(19, 21)
    assert diane == diane_again != sheila


def test_silence_holds_nobody(segmentation: SpeakerSegmentation) -> None:
    assert segmentation.segment(np.zeros(samples(10), np.float32)).max() < 0.5


@pytest.mark.parametrize("length", [0.08, 0.5, 3.0, 10.0])
def test_windows_of_any_length_are_segmented(segmentation: SpeakerSegmentation, length: float) -> None:
    count = samples(length)
    assert segmentation.segment(np.zeros(count, np.float32)).shape == (-(-count // FRAME_SAMPLES), 3)


# Conversion ---------------------------------------------------------------------------------------------


def weights_in(folder: Path) -> Weights:
    return Weights("voices", folder, "here", "MIT")


def test_weights_are_converted_once(models_dir: Path) -> None:
    weights = resolve("campplus", models_dir=models_dir)
    before = converted(weights).stat().st_mtime_ns
    assert converted(weights).stat().st_mtime_ns == before


def test_a_conversion_that_was_cut_short_is_made_anew(models_dir: Path, tmp_path: Path) -> None:
    source = resolve("campplus", models_dir=models_dir)
    converted(source)
    for name in ("campplus_cn_en_common.pt", MODEL_FILE, RECEIPT):
        (tmp_path / name).write_bytes((source.folder / name).read_bytes())
    (tmp_path / MODEL_FILE).write_bytes(b"half")
    assert converted(weights_in(tmp_path)).stat().st_size == (source.folder / MODEL_FILE).stat().st_size


def test_a_folder_with_a_model_of_its_own_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "wespeaker.onnx").write_bytes(b"anything")
    assert converted(weights_in(tmp_path)) == tmp_path / "wespeaker.onnx"


def test_a_folder_without_weights_is_refused_with_what_it_should_hold(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"neither an \.onnx file nor a checkpoint"):
        converted(weights_in(tmp_path))


def test_a_checkpoint_that_is_none_is_refused_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "campplus_cn_en_common.pt").write_bytes(b"no weights")
    with pytest.raises(WeightsError, match="could not be converted"):
        converted(weights_in(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["campplus_cn_en_common.pt"]


def test_a_receipt_that_cannot_be_read_is_none(models_dir: Path, tmp_path: Path) -> None:
    source = resolve("campplus", models_dir=models_dir)
    converted(source)
    for name in ("campplus_cn_en_common.pt", MODEL_FILE):
        (tmp_path / name).write_bytes((source.folder / name).read_bytes())
    (tmp_path / RECEIPT).write_text("{")
    assert json.loads((converted(weights_in(tmp_path)).parent / RECEIPT).read_text())["bytes"] > 1_000_000


# GE2E ---------------------------------------------------------------------------------------------------


def test_ge2e_tells_the_two_voices_of_the_call_apart_too(models_dir: Path, sample_audio: Audio) -> None:
    ge2e = open_encoder(converted(resolve("ge2e", models_dir=models_dir)))
    one, same, other = (
        ge2e.embed(between(sample_audio, *stretch)) for stretch in ((22, 24.5), (25, 27.5), (11.2, 14.2))
    )
    assert one.shape == (256,)
    assert one @ same > one @ other + 0.1


def test_a_model_that_is_no_encoder_is_refused(detector_file: Path) -> None:
    with pytest.raises(ValueError, match="no speaker encoder"):
        open_encoder(detector_file)
