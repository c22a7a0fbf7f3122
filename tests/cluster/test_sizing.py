"""How many workers a pool is to have, as sessions come and go."""

from __future__ import annotations

import pytest

from live_asr.cluster.sizing import GROW_AFTER, TARGET_LOAD, Sizing

IDLE = 60.0


@pytest.fixture
def sizing() -> Sizing:
    return Sizing(1, 4, IDLE)


def test_it_grows_once_more_is_wanted_for_a_moment(sizing: Sizing) -> None:
    wanted = 2 * TARGET_LOAD * 2.0  # two workers of two lanes each
    assert sizing.follow(wanted, 2.0, 0.0) == 1
    assert sizing.follow(wanted, 2.0, GROW_AFTER - 0.1) == 1
    assert sizing.follow(wanted, 2.0, GROW_AFTER) == 2
    assert sizing.follow(wanted, 2.0, 1000.0) == 2


def test_it_stays_within_its_bounds(sizing: Sizing) -> None:
    assert sizing.follow(1000.0, 2.0, 0.0) == 1
    assert sizing.follow(1000.0, 2.0, GROW_AFTER) == 4
    assert sizing.follow(0.0, 2.0, 10.0) == 4
    assert sizing.follow(0.0, 2.0, 10.0 + IDLE) == 1


def test_a_burst_leaves_no_worker_and_a_lull_ends_none(sizing: Sizing) -> None:
    sizing.adopt(2)
    assert sizing.follow(3.0, 2.0, 0.0) == 2
    assert sizing.follow(2.0, 2.0, 1.0) == 2, "the burst is over"
    assert sizing.follow(3.0, 2.0, GROW_AFTER + 0.5) == 2, "it counts from anew"
    assert sizing.follow(0.0, 2.0, 10.0) == 2
    assert sizing.follow(2.0, 2.0, IDLE) == 2, "the lull is over"
    assert sizing.follow(0.0, 2.0, IDLE + 20.0) == 2
    assert sizing.follow(0.0, 2.0, 2 * IDLE + 20.0) == 1


def test_it_goes_down_no_farther_than_to_the_most_that_was_wanted_meanwhile(sizing: Sizing) -> None:
    sizing.adopt(4)
    assert sizing.follow(0.0, 2.0, 0.0) == 4
    assert sizing.follow(3.0, 2.0, IDLE / 2) == 4
    assert sizing.follow(0.0, 2.0, IDLE) == 3


def test_it_goes_by_what_another_server_has_decided(sizing: Sizing) -> None:
    sizing.adopt(3)
    assert sizing.workers == 3
    sizing.adopt(9)
    assert sizing.workers == 4
    sizing.adopt(0)
    assert sizing.workers == 1
