"""What a language may be called, and which is meant by what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from live_asr.core.errors import ClientError
from live_asr.core.languages import NAMES, as_spelt, check_known, code_of, nearest_language
from live_asr.core.messages import Start, Update, client_from_dict

OF_BASE = tuple(sorted(set(NAMES) - {"yue"}))
"""What models before the large third one know."""


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("en", "en"),
        ("EN", "en"),
        ("en-US", "en"),
        ("en_US", "en"),
        ("en_US.UTF-8", "en"),
        ("pt-BR", "pt"),
        ("zh-Hant-TW", "zh"),
        ("cmn", "zh"),
        ("cmn-Hans-CN", "zh"),
        ("arz", "ar"),
        ("yue", "yue"),
        ("zh-yue", "yue"),
        ("nb", "no"),
        ("nb-NO", "no"),
        ("nn", "nn"),
        ("iw", "he"),
        ("fil", "tl"),
        ("tl", "tl"),
        ("jv", "jw"),
        ("deu", "de"),
        ("ger", "de"),
        ("english", "en"),
        ("German", "de"),
        (" Haitian Creole ", "ht"),
        ("Deutsch", "de"),
        ("français", "fr"),
        ("mandarin", "zh"),
        ("klingon", None),
        ("tlh", None),
        ("xx", None),
        ("e", None),
        ("-", None),
    ],
)
def test_tags_codes_and_names_stand_for_whispers_code(written: str, code: str | None) -> None:
    assert code_of(written) == code


@pytest.mark.parametrize("written", ["auto", "AUTO", "multi", "mul", "und", "detect"])
def test_a_wish_to_have_it_detected_is_one(written: str) -> None:
    assert client_from_dict({"type": "start", "language": written}) == Start()
    assert client_from_dict({"type": "update", "language": written}) == Update(language="auto")


@given(st.text(min_size=1, max_size=35))
def test_what_was_read_is_read_as_itself(written: str) -> None:
    assert as_spelt(as_spelt(written)) == as_spelt(written)


def test_a_list_holds_each_language_once_and_no_wish_to_detect() -> None:
    start = client_from_dict({"type": "start", "languages": ["en-GB", "english", "pt-BR"]})
    assert start == Start(languages=("en", "pt"))
    with pytest.raises(ClientError) as refused:
        client_from_dict({"type": "start", "languages": ["en", "auto"]})
    assert "`languages[1]`" in refused.value.message


@pytest.mark.parametrize(
    ("written", "nearest"),
    [
        ("englsh", "en"),
        ("Spanisch", "es"),
        ("gsw", "de"),
        ("arz", "ar"),
        ("yue", "zh"),
        ("tlh", None),
        ("中文", None),
    ],
)
def test_the_nearest_language_is_the_one_that_was_meant(written: str, nearest: str | None) -> None:
    assert nearest_language(written, OF_BASE) == nearest


def test_a_refusal_names_the_nearest_and_no_list_of_a_hundred() -> None:
    with pytest.raises(ClientError) as refused:
        check_known((None, "auto", "de", "yue"), "base", OF_BASE)
    assert refused.value.code == "language_unsupported"
    assert "'yue'" in refused.value.message
    assert refused.value.hint == "Did you mean zh (Chinese)? Give null to have the language detected."
    with pytest.raises(ClientError) as refused:
        check_known(("de",), "tiny.en", ("en",))
    assert refused.value.hint == "It knows: en. Give null to have the language detected."
