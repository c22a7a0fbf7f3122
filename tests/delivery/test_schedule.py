"""When a delivery is tried again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from live_asr.delivery.schedule import DELAYS, JITTER, delay_before_next, read_retry_after

NOON = 1_795_262_400.0  # 2026-11-21 12:00:00 UTC
DAY = 24 * 3600.0


def middle() -> float:
    return 0.5


def test_the_tries_are_5_s_30_s_2_min_10_min_1_h_and_6_h_apart_and_then_end() -> None:
    delays = [delay_before_next(tries, middle) for tries in range(1, 9)]
    assert delays == [5, 30, 120, 600, 3600, 21600, None, None]


@given(tries=st.integers(1, len(DELAYS)), chance=st.floats(0, 1))
def test_a_delay_is_a_fifth_longer_or_shorter_at_most(tries: int, chance: float) -> None:
    delay = delay_before_next(tries, lambda: chance)
    assert delay is not None
    assert delay == pytest.approx(DELAYS[tries - 1], rel=JITTER + 1e-9)


@given(tries=st.integers(1, len(DELAYS)), chance=st.floats(0, 1), asked=st.floats(0, 1e9))
def test_a_receiver_is_never_tried_before_it_asked_to_be_nor_later_than_a_day(
    tries: int, chance: float, asked: float
) -> None:
    delay = delay_before_next(tries, lambda: chance, retry_after=asked)
    assert delay is not None
    assert delay >= min(asked, DAY)
    assert delay >= DELAYS[tries - 1] * (1 - JITTER)
    assert delay <= DAY


def test_a_receiver_that_asks_for_time_gets_no_more_tries_than_others() -> None:
    assert delay_before_next(7, middle, retry_after=1.0) is None


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("9" * 400, DAY),
        ("Sat, 21 Nov 2026 12:01:30 GMT", 90.0),
        ("Saturday, 21-Nov-26 12:01:30 GMT", 90.0),
        ("Sat Nov 21 12:01:30 2026", 90.0),
        ("Sat, 21 Nov 2026 11:00:00 GMT", 0.0),
        ("Sat, 21 Nov 2099 11:00:00 GMT", DAY),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("", None),
        ("²", None),
        ("Sat, 99 Nov 2026 11:00:00 GMT", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(value: str, wait: float | None) -> None:
    assert read_retry_after(value, NOON) == wait


NUMBERS = st.integers(-(10**24), 10**24).map(str) | st.text("0123456789+-:", max_size=12)
DATES = st.tuples(*[NUMBERS] * 5).flatmap(
    lambda parts: st.sampled_from(
        [
            "Mon, {} Jan {} {}:{} {}".format(*parts),
            "Monday, {}-Jan-{} {}:{} {}".format(*parts),
            "Mon Jan {} {}:{}:{} {}".format(*parts),
            "Mon, 01 Jan 2027 00:00:00 {}".format(*parts),
        ]
    )
)


@given(st.text() | DATES)
def test_whatever_retry_after_holds_it_is_seconds_within_a_day_or_nothing(value: str) -> None:
    wait = read_retry_after(value, NOON)
    assert wait is None or 0 <= wait <= DAY
