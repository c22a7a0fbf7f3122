"""How much silence a file's clock wants between its stretches of sound."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from live_asr.core.timeline import FREE_SILENCE, LATEST_BEGINNING, MAX_GAP, Timeline, origin

FRAME = 0.02


def silences(
    times: list[float | None], formats: str = "matroska,webm", start: float | None = None, size: int = 80
) -> list[float]:
    """Return the silence before each frame of 20 ms."""
    timeline: Timeline[int] = Timeline(formats, start)
    placed = [found for index, time in enumerate(times) for found in timeline.place(index, time, FRAME, size)]
    placed += timeline.finish()
    assert [index for _, index in placed] == list(range(len(times))), "each frame once, in order"
    return [round(silence, 3) for silence, _ in placed]


def test_frames_that_follow_each_other_have_nothing_between() -> None:
    assert silences([n * FRAME for n in range(50)]) == [0.0] * 50


def test_a_track_that_begins_late_is_silent_until_then() -> None:
    assert silences([4.0, 4.02, 4.04], start=0.0) == [4.0, 0.0, 0.0]
    assert silences([4.0, 4.02, 4.04], "mov,mp4,m4a,3gp,3g2,mj2", start=4.0) == [4.0, 0.0, 0.0]


def test_a_gap_is_as_long_as_the_clock_says() -> None:
    assert silences([0.0, 0.02, 60.04, 60.06]) == [0.0, 0.0, 60.0, 0.0]


def test_a_clock_that_has_run_for_long_asks_for_no_silence() -> None:
    assert silences([95_443.7, 95_443.72], "mpegts", start=95_443.7) == [0.0, 0.0]
    assert silences([86_400.0, 86_400.02], start=86_400.0) == [0.0, 0.0]


def test_jitter_puts_nothing_in() -> None:
    assert silences([0.0, 0.03, 0.035, 0.08, 0.075]) == [0.0] * 5


def test_sound_that_overlaps_is_all_kept() -> None:
    assert silences([0.0, 0.02, 0.01, 0.02, 0.08]) == [0.0] * 5


def test_a_single_damaged_timestamp_does_no_harm() -> None:
    assert silences([0.0, 0.02, 500.0, 0.06, 0.08]) == [0.0] * 5


def test_a_clock_that_begins_anew_goes_on_from_there() -> None:
    assert silences([0.0, 9.0, 9.02, 0.0, 0.02, 5.0, 5.02]) == [0.0, 8.98, 0.0, 0.0, 0.0, 4.96, 0.0]


def test_formats_without_a_clock_have_none() -> None:
    assert silences([0.0, 7.0, 7.02], "wav") == [0.0] * 3


def test_a_gap_that_is_too_long_is_told_and_left_out() -> None:
    timeline: Timeline[int] = Timeline("matroska,webm")
    found = [*timeline.place(0, 0.0, FRAME, 80), *timeline.place(1, 7200.0, FRAME, 80), *timeline.finish()]
    assert [silence for silence, _ in found] == [0.0, 0.0]
    (gap,) = timeline.skipped
    assert gap.length > MAX_GAP / 2
    assert "1:59:59" in gap.notice().message or "2:00:00" in gap.notice().message


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=200), st.sampled_from(["mpegts", "matroska,webm"]))
def test_no_timestamps_ask_a_small_file_for_hours(times: list[float], formats: str) -> None:
    asked = sum(silences(list(times), formats, size=80))
    assert asked <= FREE_SILENCE + len(times)


def test_where_a_file_begins_on_its_clock() -> None:
    assert origin("matroska,webm", 4.0) == 0.0
    assert origin("matroska,webm", LATEST_BEGINNING + 1) == LATEST_BEGINNING + 1
    assert origin("mpegts", 1.4) == 1.4
    assert origin("mov,mp4", -0.02) == -0.02
