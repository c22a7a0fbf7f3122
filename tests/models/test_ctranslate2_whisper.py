"""A prefix that is computed in one pass: what is written behind it is what CTranslate2 writes by itself."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from live_asr.models import prefix_prompt
from live_asr.models.ctranslate2_whisper import OUTSIDE, WhisperModel
from live_asr.models.prefix_prompt import Traded
from live_asr.weights.store import resolve

MODELS = ["tiny.en", "base"]
WINDOWS = [(6.5, 12.5), (12.4, 22.0), (18.0, 29.5)]
"""Seconds of the call."""


class Both:
    """A model twice: with four tokens in other places, and as its files have it.

    Not in int8 where letters are compared: its rounding makes much of the order in which a sum is added up.
    And greedy: a beam divides the score of a hypothesis by its length, in which forced words count and those
    of a prompt do not.
    """

    def __init__(self, folder: Path, compute_type: str = "float32", beam_size: int = 1) -> None:
        from faster_whisper.feature_extractor import FeatureExtractor
        from faster_whisper.tokenizer import Tokenizer
        from tokenizers import Tokenizer as Tokens

        self.folder = folder
        self.fast, self.plain = (
            WhisperModel(
                folder,
                device="cpu",
                compute_type=compute_type,
                workers=1,
                beam_size=beam_size,
                prefix_at_once=at_once,
            )
            for at_once in (True, False)
        )
        tokens: Any = Tokens.from_file(str(folder / "tokenizer.json"))
        self.tokenizer: Any = Tokenizer(tokens, self.plain.is_multilingual, task="transcribe", language="en")
        self._features: Any = FeatureExtractor(feature_size=self.plain.mel_bins)
        self.prompt = [*self.tokenizer.sot_sequence, self.tokenizer.no_timestamps]

    def features(self, audio: NDArray[np.float32]) -> Any:
        return self._features(np.pad(audio, (0, 2 * 16_000)), padding=0)[None, :, : audio.size // 160 + 200]

    def write(self, model: WhisperModel, features: Any, prefix: Sequence[int] = (), **asked: Any) -> Any:
        asked = {"most_new_tokens": 48, "suppress_blank": True} | asked
        return model.write(model.encode(features), self.prompt, prefix, **asked)

    def write_many(
        self, model: WhisperModel, chosen: Any, prefixes: list[list[int]], most: Sequence[int] = (80, 80)
    ) -> list[Any]:
        return model.write_many(
            model.encode(chosen), self.prompt, prefixes, most_new_tokens=most, suppress_blank=True
        )


@pytest.fixture(scope="module", params=MODELS)
def both(request: pytest.FixtureRequest, models_dir: Path) -> Both:
    return Both(resolve(request.param, models_dir=models_dir).folder)


@pytest.fixture(scope="module")
def windows(both: Both, sample_audio: NDArray[np.float32]) -> list[Any]:
    return [both.features(sample_audio[int(a * 16_000) : int(b * 16_000)]) for a, b in WINDOWS]


def test_models_at_hand_compute_prefixes_at_once(both: Both) -> None:
    assert both.fast.prefix_at_once
    assert not both.plain.prefix_at_once


def test_what_follows_a_prefix_is_what_the_plain_model_writes(both: Both, windows: list[Any]) -> None:
    for features in windows:
        whole = both.write(both.plain, features).tokens
        assert both.write(both.fast, features).tokens == whole, "without a prefix"
        for forced in (1, len(whole) // 2, len(whole) - 1):
            fast, plain = (both.write(each, features, whole[:forced]) for each in (both.fast, both.plain))
            assert fast.tokens == plain.tokens
            assert fast.no_speech_probability == pytest.approx(plain.no_speech_probability, abs=1e-3)


def test_the_token_outside_may_stand_anywhere_in_a_prefix(both: Both, windows: list[Any]) -> None:
    features = windows[1]
    whole = both.write(both.plain, features).tokens
    for forced in ([OUTSIDE], [*whole[:4], OUTSIDE], [*whole[:4], OUTSIDE, *whole[4:9]]):
        fast, plain = (both.write(each, features, forced).tokens for each in (both.fast, both.plain))
        assert fast == plain


def test_a_prefix_leaves_the_cap_to_what_is_new(both: Both, windows: list[Any]) -> None:
    whole = both.write(both.plain, windows[2]).tokens
    for most in (1, 4):
        written = both.write(both.fast, windows[2], whole[:6], most_new_tokens=most)
        assert len(written.tokens) == most
        assert written.cut_short
    assert not both.write(both.fast, windows[2], whole[:6], most_new_tokens=80).cut_short


def test_words_are_aligned_and_languages_found_as_in_the_plain_model(both: Both, windows: list[Any]) -> None:
    whole = both.write(both.plain, windows[1]).tokens
    fast, plain = (
        each.align(each.encode(windows[1]), both.tokenizer.sot_sequence, [whole], [960])[0]
        for each in (both.fast, both.plain)
    )
    assert fast.alignments == plain.alignments
    assert fast.text_token_probs == pytest.approx(plain.text_token_probs, abs=1e-3)
    if both.plain.is_multilingual:
        fast, plain = (each.detect_language(each.encode(windows[1])) for each in (both.fast, both.plain))
        assert fast[0][0] == plain[0][0] == "en"
        assert dict(fast)["en"] == pytest.approx(dict(plain)["en"], abs=1e-3)


def test_several_windows_are_written_as_each_by_itself(both: Both, windows: list[Any]) -> None:
    chosen = np.concatenate([windows[1][:, :, :800], windows[2][:, :, :800]])
    fast, plain = (
        [one.tokens for one in both.write_many(each, chosen, [[], []])] for each in (both.fast, both.plain)
    )
    assert fast == plain
    assert all(fast)
    assert plain == [both.write(both.plain, one[None], most_new_tokens=80).tokens for one in chosen]


def test_windows_that_are_written_at_once_each_go_on_behind_a_prefix_of_their_own(
    both: Both, windows: list[Any]
) -> None:
    chosen = np.concatenate([windows[1][:, :, :800], windows[2][:, :, :800]])
    whole = [both.write(both.plain, one[None], most_new_tokens=80).tokens for one in chosen]
    written = both.write_many(both.plain, chosen, [whole[0][:3], whole[1][:8]], most=(80, 4))
    assert written[0].tokens[: len(whole[0]) - 3] == whole[0][3:]
    assert written[1].tokens == whole[1][8:12]
    assert written[1].cut_short
    assert not written[1].out_of_room


def test_as_it_is_used_the_words_are_nearly_those_of_the_plain_model(
    models_dir: Path, sample_audio: NDArray[np.float32]
) -> None:
    both = Both(resolve("base", models_dir=models_dir).folder, "int8", 2)
    same = total = 0
    for a, b in WINDOWS:
        features = both.features(sample_audio[int(a * 16_000) : int(b * 16_000)])
        whole = both.write(both.plain, features).tokens
        for forced in (1, len(whole) // 2):
            fast, plain = (
                both.write(each, features, whole[:forced]).tokens for each in (both.fast, both.plain)
            )
            blocks = SequenceMatcher(None, fast, plain, autojunk=False).get_matching_blocks()
            same += sum(block.size for block in blocks)
            total += len(plain)
    assert same >= 0.85 * total, f"{same} of {total}"


@pytest.mark.parametrize("missing", ["<|notimestamps|>", "<|en|>"])
def test_a_model_with_unusual_files_is_used_as_it_is_and_the_log_says_so(
    models_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, missing: str
) -> None:
    for file in resolve("base", models_dir=models_dir).folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    names = tmp_path / "vocabulary.json"
    tokens = json.loads(names.read_text())
    names.unlink()
    tokens[tokens.index(missing)] = "<|nothing|>"
    names.write_text(json.dumps(tokens))
    with caplog.at_level(logging.WARNING):
        model = WhisperModel(tmp_path, device="cpu", compute_type="int8", workers=1, beam_size=2)
    assert not model.prefix_at_once
    assert "decoded by itself, which is slow" in caplog.text
    assert missing in caplog.text


def test_where_ctranslate2_forces_the_prompt_the_plain_model_is_used_and_the_log_says_so(
    both: Both, windows: list[Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    @contextmanager
    def as_it_is(folder: Path) -> Iterator[Traded]:
        """The model's own files, in which no text lies between the special tokens."""
        tokens = prefix_prompt._vocabulary(folder)
        place = tokens.index("<|notimestamps|>")
        yield Traded(folder, {place: place}, tokens)

    monkeypatch.setattr("live_asr.models.ctranslate2_whisper.traded_places", as_it_is)
    with caplog.at_level(logging.WARNING):
        model = WhisperModel(both.folder, device="cpu", compute_type="float32", workers=1, beam_size=1)
    assert not model.prefix_at_once
    assert "does not take it for the prompt" in caplog.text
    whole = both.write(both.plain, windows[0]).tokens
    written = both.write(model, windows[0], whole[:3]).tokens
    assert written[: len(whole) - 3] == whole[3:]
