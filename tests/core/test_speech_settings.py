"""What of changing settings holds for a recording as a whole."""

from __future__ import annotations

import pytest

from live_asr.core.messages import Start, Updated
from live_asr.core.speech_settings import whole_recording


def updated(time: float, language: str | None, *vocabulary: str) -> Updated:
    return Updated(1, time, language, (), vocabulary, True)


@pytest.mark.parametrize(
    ("start", "updates", "language"),
    [
        ("de", [], "de"),
        (None, [], None),
        ("de", [updated(9.0, "de")], "de"),
        ("de", [updated(9.0, "es")], None),
        ("de", [updated(9.0, "es"), updated(20.0, "de")], None),
        (None, [updated(9.0, "es")], None),
        ("de", [updated(0.5, "es")], "es"),
        (None, [updated(0.0, "es"), updated(0.7, "fr")], "fr"),
        ("de", [updated(9.0, None)], None),
    ],
)
def test_a_language_counts_that_was_in_force_for_every_word(
    start: str | None, updates: list[Updated], language: str | None
) -> None:
    assert whole_recording(Start(language=start), updates, first_word=0.7).language == language


def test_the_last_vocabulary_counts_and_the_last_choice() -> None:
    start = Start(languages=("en", "de"), vocabulary=("one",))
    assert whole_recording(start, [], 0.0).languages == ("en", "de")
    last = whole_recording(start, [updated(3.0, None, "two"), updated(5.0, None, "three", "four")], 0.0)
    assert (last.languages, last.vocabulary) == ((), ("three", "four"))
