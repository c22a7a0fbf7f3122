"""A full pass beside sessions that take all there is ends within the length of its recording."""

from __future__ import annotations

import pytest

from live_asr.sessions.capacity import Capacity, Machine
from live_asr.sessions.reserve import LEAST_SECONDS, PATIENCE, RESERVED, Reserve

ALONE = 0.25
"""Seconds a second of recording that a pass takes with the machine for itself."""


@pytest.mark.parametrize("recording", [5.0, 60.0, 600.0, 7200.0])
@pytest.mark.parametrize("left", [0.0, 0.05, 0.3])
def test_a_pass_ends_in_time_whatever_live_sessions_leave(recording: float, left: float) -> None:
    reserve, now, done = Reserve(), 100.0, 0.0
    step = recording / 1000
    while done < ALONE * recording:
        reserve.begin("a", recording, now)
        done += step * max(left, reserve.share(now))
        now += step
    assert now - 100.0 <= max(LEAST_SECONDS, recording) * 1.002
    reserve.end("a")
    assert reserve.share(now) == 0.0


def test_a_pass_that_goes_well_costs_live_sessions_nothing() -> None:
    reserve = Reserve()
    reserve.begin("a", 1000.0, 0.0)
    reserve.begin("a", 1000.0, 300.0)  # said again, which begins nothing
    assert reserve.share(PATIENCE * 1000.0) == 0.0
    assert reserve.share(PATIENCE * 1000.0 + 1) == RESERVED
    reserve.begin("b", 10.0, 401.0)
    reserve.end("a")
    assert reserve.share(402.0) == 0.0


def test_nobody_is_let_in_on_what_is_left_to_a_pass() -> None:
    share = 0.0
    capacity = Capacity(Machine(lanes=2, step_seconds=0.1), reserved=lambda: share)
    assert capacity.places == 15
    share = RESERVED
    assert capacity.places == 7
