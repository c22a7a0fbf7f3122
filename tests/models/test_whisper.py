"""Whisper in short windows: real weights on a real telephone call."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from live_asr.core.normalize import normalized
from live_asr.core.types import DecodeRequest, Hypothesis, Word, samples
from live_asr.models.whisper import WhisperRecognizer, merge_marks
from live_asr.weights.store import resolve

Audio = NDArray[np.float32]


@pytest.fixture(scope="module")
def tiny(recognizer_dir: Path) -> WhisperRecognizer:
    return WhisperRecognizer(recognizer_dir, name="tiny.en", workers=2)


@pytest.fixture(scope="module")
def base(models_dir: Path) -> WhisperRecognizer:
    """A model of many languages."""
    return WhisperRecognizer(resolve("base", models_dir=models_dir).folder, name="base", workers=1)


class Call:
    """The sample call, asked about by seconds."""

    def __init__(self, audio: Audio) -> None:
        self._audio = audio

    def recognize(
        self,
        recognizer: WhisperRecognizer,
        start: float,
        end: float,
        *,
        prefix: tuple[int, ...] = (),
        max_new_tokens: int = 100,
        **more: Any,
    ) -> Hypothesis:
        request = DecodeRequest(
            samples(start), samples(end), prefix, max_new_tokens, samples(10.0), samples(2.0), **more
        )
        return recognizer.recognize(request, self._audio[samples(start) : samples(end)])


@pytest.fixture(scope="module")
def call(sample_audio: Audio) -> Call:
    return Call(sample_audio)


def text(words: Sequence[Word]) -> str:
    return "".join(word.text for word in words)


def heard(words: Sequence[Word]) -> list[str]:
    return [normalized(word.text) for word in words]


def tokens(words: Sequence[Word]) -> tuple[int, ...]:
    return tuple(token for word in words for token in word.tokens)


# Words --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["tiny", "base"])
def test_what_is_said_is_written(model: str, call: Call, request: pytest.FixtureRequest) -> None:
    recognizer: WhisperRecognizer = request.getfixturevalue(model)
    written = text(call.recognize(recognizer, 12.4, 22.0, language="en").words)
    for said in ("Diane", "New Jersey", "Sheila", "Texas", "from Chicago"):
        assert said in written, written


def test_a_model_brings_nothing_along_that_reads_files_or_fetches_models(recognizer_dir: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from live_asr.models.whisper import WhisperRecognizer
WhisperRecognizer(Path({str(recognizer_dir)!r}), name="tiny.en", workers=1)
print(sorted({{"av", "huggingface_hub"}} & set(sys.modules)))
from faster_whisper import WhisperModel  # all of it is there for who asks
print(WhisperModel.__module__)
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\nfaster_whisper.transcribe\n"


def test_the_words_are_in_order_inside_the_window_and_about_where_they_are_said(
    tiny: WhisperRecognizer, call: Call
) -> None:
    words = call.recognize(tiny, 12.0, 21.0).words
    time = samples(12.0)
    for word in words:
        assert time <= word.start_sample <= word.end_sample <= samples(21.0)
        time = word.end_sample
    said = {normalized(word.text): (word.start_sample + word.end_sample) / 32_000 for word in words}
    assert 12.9 < said["diane"] < 13.6
    assert 17.2 < said["chicago"] < 20.2


def test_each_word_has_its_space_its_probability_and_its_tokens(tiny: WhisperRecognizer, call: Call) -> None:
    hypothesis = call.recognize(tiny, 12.4, 18.0)
    assert all(re.fullmatch(r" \S+", word.text) for word in hypothesis.words)
    assert all(0 < word.probability <= 1 and word.tokens for word in hypothesis.words)
    assert hypothesis.mean_log_probability < 0
    assert hypothesis.no_speech_probability < 0.5
    assert (hypothesis.language, hypothesis.language_probability) == ("en", 1.0)
    assert not hypothesis.capped


def test_a_window_of_silence_is_what_the_model_itself_does_not_believe_in(tiny: WhisperRecognizer) -> None:
    request = DecodeRequest(0, samples(3.0), (), 20, samples(10.0), samples(2.0))
    hypothesis = tiny.recognize(request, np.zeros(samples(3.0), np.float32))
    assert hypothesis.no_speech_probability > 0.6


def test_the_same_window_gives_the_same_words_from_any_thread(tiny: WhisperRecognizer, call: Call) -> None:
    first = call.recognize(tiny, 12.4, 18.0)
    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(lambda _: call.recognize(tiny, 12.4, 18.0), range(4)))
    assert answers == [first] * 4


# Prefix and cap -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("forced", [3, 8])
def test_forced_words_are_not_repeated_and_the_rest_follows(
    tiny: WhisperRecognizer, call: Call, forced: int
) -> None:
    whole = call.recognize(tiny, 12.4, 17.8).words
    rest = call.recognize(tiny, 12.4, 17.8, prefix=tokens(whole[:forced])).words
    assert heard(rest) == heard(whole[forced:])
    assert rest[0].start_sample >= whole[forced - 1].start_sample


@pytest.mark.parametrize("cap", [1, 5, 12])
@pytest.mark.parametrize("vocabulary", [(), ("Sheila", "Diane")], ids=["plain", "vocabulary"])
def test_the_decoder_stops_at_the_cap_and_says_so(
    tiny: WhisperRecognizer, call: Call, cap: int, vocabulary: tuple[str, ...]
) -> None:
    prefix = tokens(call.recognize(tiny, 12.4, 20.2).words[:4])
    hypothesis = call.recognize(
        tiny,
        12.4,
        20.2,
        prefix=prefix,
        max_new_tokens=cap,
        vocabulary=vocabulary,
        new_speech_samples=samples(5.0),
    )
    assert hypothesis.capped
    assert len(tokens(hypothesis.words)) == cap


def test_a_prompt_that_leaves_no_room_for_the_cap_counts_as_capped(
    tiny: WhisperRecognizer, call: Call
) -> None:
    prefix = tokens(call.recognize(tiny, 6.0, 7.5).words[:1]) * 100
    assert len(prefix) == 200
    names = tuple(f"Name{index}" for index in range(500))
    hypothesis = call.recognize(tiny, 6.0, 18.0, prefix=prefix, vocabulary=names)
    assert 0 < len(tokens(hypothesis.words)) < 100
    assert hypothesis.capped


# What it is told ----------------------------------------------------------------------------------------


def test_windows_of_several_sessions_are_decoded_at_once_as_each_by_itself(
    recognizer_dir: Path, call: Call, sample_audio: Audio
) -> None:
    plain = WhisperRecognizer(
        recognizer_dir,
        name="tiny.en",
        workers=1,
        compute_type="float32",
        beam_size=1,
        prefix_at_once=False,
    )
    assert plain.most_batch == 1, "on a CPU it brings nothing"
    known = tokens(call.recognize(plain, 6.5, 12.5).words)
    asked = [
        DecodeRequest(
            samples(start),
            samples(end),
            prefix,
            most,
            samples(13.0),
            samples(2.0),
            language="en",
            final=final,
        )
        for start, end, prefix, most, final in (
            (6.5, 12.5, (), 60, False),
            (6.5, 16.0, known[:6], 60, False),
            (6.5, 12.5, known, 60, True),  # nothing follows, so that it is asked once more
            (14.0, 26.0, (), 7, False),
        )
    ]
    windows = [sample_audio[request.start_sample : request.end_sample] for request in asked]
    together = plain.recognize_many(asked, windows)
    alone = [plain.recognize(*one) for one in zip(asked, windows, strict=True)]
    assert [text(one.words) for one in together] == [text(one.words) for one in alone]
    assert [one.capped for one in together] == [one.capped for one in alone]
    assert together[3].capped
    for one, other in zip(together, alone, strict=True):
        for word, same in zip(one.words, other.words, strict=True):
            assert abs(word.start_sample - same.start_sample) <= samples(0.1)
            assert abs(word.end_sample - same.end_sample) <= samples(0.1)


def test_a_spelling_is_taken_from_the_vocabulary(tiny: WhisperRecognizer, call: Call) -> None:
    plain = text(call.recognize(tiny, 14.3, 17.8).words)
    told = text(call.recognize(tiny, 14.3, 17.8, vocabulary=("Shyla", "Diane")).words)
    assert "Sheila" in plain
    assert "Shyla" in told


def test_a_vocabulary_of_any_length_leaves_room_for_the_words(tiny: WhisperRecognizer, call: Call) -> None:
    vocabulary = tuple(f"Name{index}" for index in range(500))
    written = text(call.recognize(tiny, 14.3, 17.8, vocabulary=vocabulary).words)
    assert "Chicago" in written


NAMES = """
    Margaret Thornton Núñez Siobhán Kowalczyk Oyelaran Ingeborg Takahashi Fitzgerald Abernathy Castellanos
    Villanueva Rasmussen Dubois Petrović Chandrasekhar Okonkwo Bjørnstad Vandenberg Montgomery Wellington
    Haverford Kirkpatrick Delacroix Rosenthal Eisenhardt Nakamura Fernández Lindqvist O'Donoghue McAllister
    Papadopoulos Szczepański Yevtushenko Abdulrahman Goldsmith Harrington Whitfield Bellweather Ashcroft
    Cunningham Pemberton Lancaster Sutherland Blackwood Fairchild Greenhalgh Hollingsworth Inglewood
    Jankowski
"""


@pytest.mark.parametrize("start", [13.0, 18.6, 25.6])
def test_a_name_that_nobody_says_is_not_written(base: WhisperRecognizer, call: Call, start: float) -> None:
    told = call.recognize(
        base,
        start,
        start + 0.8,
        language="en",
        vocabulary=tuple(NAMES.split()),
        new_speech_samples=samples(0.8),
    )
    assert heard(told.words)  # which words is a matter of the processor: each piece breaks off within one
    assert not {normalized(name) for name in NAMES.split()} & set(heard(told.words))


def test_it_is_told_how_many_words_to_expect_found_room(tiny: WhisperRecognizer, call: Call) -> None:
    def used(*vocabulary: str) -> int | None:
        return call.recognize(tiny, 14.3, 15.3, vocabulary=vocabulary).vocabulary_count

    assert used() == 0
    assert used("Shyla", "Diane") == 2
    assert used(*NAMES.split()) in range(30, 50)
    assert used("x y " * 25, *["a b c d " * 12] * 9, "Diane") in range(3, 8)


def test_the_language_is_judged_by_what_is_asked_for_whatever_is_written(
    base: WhisperRecognizer, call: Call
) -> None:
    beliefs = call.recognize(
        base, 12.4, 20.2, language="de", judged_from_sample=samples(14.3)
    ).language_beliefs
    assert beliefs[0][0] == "en"
    assert beliefs[0][1] > 0.9
    assert sum(belief for _, belief in beliefs) <= 1.001
    assert call.recognize(base, 12.4, 14.3, language="de").language_beliefs == ()


def test_a_language_is_chosen_out_of_those_that_there_are(base: WhisperRecognizer, call: Call) -> None:
    chosen = call.recognize(base, 14.3, 20.2, languages=("de", "fr"))
    assert chosen.language in ("de", "fr")
    assert {code for code, _ in chosen.language_beliefs} == {"de", "fr"}
    assert sum(belief for _, belief in chosen.language_beliefs) == pytest.approx(1.0)


def test_a_language_that_the_model_does_not_know_is_refused(
    tiny: WhisperRecognizer, base: WhisperRecognizer, call: Call
) -> None:
    with pytest.raises(ValueError, match=r"tiny\.en does not know the language 'vi'"):
        call.recognize(tiny, 12.4, 14.3, language="vi")
    with pytest.raises(ValueError, match="base does not know the language 'klingon'"):
        call.recognize(base, 12.4, 14.3, language="klingon")


def test_a_window_over_30_s_is_refused(tiny: WhisperRecognizer) -> None:
    request = DecodeRequest(0, samples(30.1), (), 20, samples(10.0), samples(2.0))
    with pytest.raises(ValueError, match=r"at most 30 s, this one 30\.1 s"):
        tiny.recognize(request, np.zeros(samples(30.1), np.float32))


def test_a_window_of_30_s_and_one_of_a_moment_are_not(tiny: WhisperRecognizer, sample_audio: Audio) -> None:
    for length in (1, 160, 30 * 16_000):
        request = DecodeRequest(0, length, (), 5, samples(10.0), samples(2.0))
        assert tiny.recognize(request, sample_audio[:length]).end_sample == length


def test_a_model_says_which_languages_it_writes(tiny: WhisperRecognizer, base: WhisperRecognizer) -> None:
    assert tiny.info.languages == ("en",)
    assert {"en", "vi", "de", "zh"} <= set(base.info.languages)
    assert len(base.info.languages) == 99
    assert (base.info.name, base.info.device) == ("base", "cpu")
    assert base.info.compute_type.startswith("int8")


def test_a_language_that_is_not_given_is_detected(base: WhisperRecognizer, call: Call) -> None:
    hypothesis = call.recognize(base, 12.4, 20.2)
    assert hypothesis.language == "en"
    assert 0.8 < hypothesis.language_probability <= 1.0
    assert "Jersey" in text(hypothesis.words)


def test_what_is_asked_for_in_another_language_is_written_in_it(base: WhisperRecognizer, call: Call) -> None:
    hypothesis = call.recognize(base, 14.3, 20.2, language="de")
    assert (hypothesis.language, hypothesis.language_probability) == ("de", 1.0)
    assert hypothesis.words


def test_translating_english_leaves_it_english(base: WhisperRecognizer, call: Call) -> None:
    hypothesis = call.recognize(base, 14.3, 20.2, task="translate")
    assert hypothesis.language == "en"
    assert "Chicago" in text(hypothesis.words)


# Marks --------------------------------------------------------------------------------------------------


def merged(*texts: str) -> list[str]:
    """Return the texts of words of one token and 100 samples each, once their marks are merged."""
    words = [Word(text, 100 * index, 100 * (index + 1), 0.9, (index,)) for index, text in enumerate(texts)]
    after = merge_marks(words)
    assert text(after) == "".join(texts), "no character is lost"
    assert tokens(after) == tokens(words), "no token is lost, and their order stays"
    times = [time for word in after for time in (word.start_sample, word.end_sample)]
    assert times == sorted(times)
    return [word.text for word in after]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], []),
        ([" Hello", ",", " you", "."], [" Hello,", " you."]),
        ([" what", "?", "!"], [" what?!"]),
        ([' "', "No", ',"', " she"], [' "No,"', " she"]),
        ([" (", "maybe", ")", " yes"], [" (maybe)", " yes"]),
        ([" rock", "'", " roll"], [" rock'", " roll"]),
        ([" -", " yes"], [" - yes"]),
        ([" well", "-", "known"], [" well-", "known"]),
        ([" 50", "%", " of"], [" 50%", " of"]),
        ([" 3", ".", "5"], [" 3.", "5"]),
        ([" and", ' "'], [" and", ' "']),
        (["你", "好", "。", "我"], ["你", "好。", "我"]),
        (["何", "?", "!"], ["何?!"]),
        ([" don't", " 'tis"], [" don't", " 'tis"]),
        ([" —", " he"], [" —", " he"]),
    ],
)
def test_a_mark_goes_with_the_word_it_belongs_to(texts: list[str], expected: list[str]) -> None:
    assert merged(*texts) == expected


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([".", " And"], [". And"]),
        (["'", "s", " it"], ["'s", " it"]),
        (["?"], ["?"]),
        (["...", " So", "."], ["... So."]),
    ],
)
def test_a_closing_mark_at_the_start_travels_with_the_next_word(
    texts: list[str], expected: list[str]
) -> None:
    assert merged(*texts) == expected


def test_a_mark_makes_its_word_neither_longer_nor_less_certain() -> None:
    word, mark = Word(" so", 0, 100, 0.9, (1,)), Word(".", 100, 9_000, 0.4, (2,))
    assert merge_marks([word, mark]) == [Word(" so.", 0, 100, 0.9, (1, 2))]


def test_a_mark_at_the_start_does_not_move_the_next_word() -> None:
    mark, word = Word(".", 0, 5_000, 0.4, (1,)), Word(" And", 5_000, 6_000, 0.9, (2,))
    assert merge_marks([mark, word]) == [Word(". And", 5_000, 6_000, 0.9, (1, 2))]
