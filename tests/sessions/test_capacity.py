"""How many sessions a machine is believed to carry, and when somebody who is refused finds a place."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from live_asr.sessions.capacity import (
    LONGER_STEPS,
    MAX_LOAD,
    MIN_SHARE,
    STEPS_A_SECOND,
    Capacity,
    Machine,
)
from live_asr.sessions.endings import LATEST, MARGIN, SOONEST, Endings

TWO_LANES = Machine(lanes=2, step_seconds=0.1)


def after(capacity: Capacity, audio: float, cost: float) -> Capacity:
    """Let sessions speak for so many seconds in all, each of which takes `cost` seconds of a lane."""
    for _ in range(int(audio)):
        capacity.note_audio(1.0)
        capacity.note_work(cost)
    return capacity


def test_the_first_session_is_judged_by_what_a_typical_step_was_measured_to_take() -> None:
    assert Capacity(TWO_LANES).session_cost == pytest.approx(LONGER_STEPS * STEPS_A_SECOND * 0.1)
    assert Capacity(TWO_LANES).places == 15  # 80 % of two lanes, at 0.105 of one each
    assert Capacity(Machine(lanes=8, step_seconds=0.1)).places == 60
    assert Capacity(Machine(lanes=2, step_seconds=0.3)).places == 5, "base on a small machine"


@pytest.mark.parametrize(
    ("cost", "places"),
    [
        pytest.param(0.30, 7, id="dearer than believed: a busy machine"),
        pytest.param(0.15, 15, id="as believed"),
        pytest.param(0.12, 19, id="cheaper: some of them listen"),
        pytest.param(0.00, 21, id="who is silent may begin to speak"),
    ],
)
def test_what_sessions_take_is_learned_from_the_work_that_is_done(cost: float, places: int) -> None:
    capacity = after(Capacity(TWO_LANES), 3000, cost)
    assert capacity.places == places
    assert capacity.load_of(places) <= MAX_LOAD < capacity.load_of(places + 1)


def test_lanes_that_come_and_go_change_the_places_and_not_what_was_learned() -> None:
    capacity = after(Capacity(TWO_LANES), 3000, 0.12)
    cost = capacity.session_cost
    capacity.use(replace(TWO_LANES, lanes=4))
    assert (capacity.session_cost, capacity.places) == (cost, 38)
    capacity.use(replace(TWO_LANES, lanes=4, step_seconds=0.2))
    assert capacity.session_cost == Capacity(replace(TWO_LANES, step_seconds=0.2)).session_cost


def test_what_other_servers_take_of_the_same_lanes_is_not_given_twice() -> None:
    machine = Machine(lanes=4, step_seconds=0.1)
    alone, shared = Capacity(machine), Capacity(replace(machine, others=1.6))
    assert shared.places == alone.places // 2
    assert shared.load_of(shared.places) <= MAX_LOAD < shared.load_of(shared.places + 1)
    assert Capacity(replace(machine, others=4.0)).places == 0
    assert Capacity(replace(machine, lanes=0)).places == 1


def test_on_a_device_that_does_batches_sessions_may_turn_out_far_cheaper_than_one_step_alone() -> None:
    capacity = after(Capacity(Machine(lanes=2, step_seconds=0.02, most_batch=24)), 3000, 0.008)
    assert capacity.places == pytest.approx(200, abs=2)


def test_what_was_learned_long_ago_is_forgotten_as_more_is_heard() -> None:
    capacity = after(after(Capacity(TWO_LANES), 3000, 0.4), 3000, 0.12)
    assert capacity.session_cost == pytest.approx(LONGER_STEPS * 0.12, rel=0.05)


def test_another_device_is_another_machine_and_the_same_one_is_not() -> None:
    capacity = after(Capacity(TWO_LANES), 3000, 0.4)
    learned = capacity.session_cost
    capacity.use(Machine(lanes=2, step_seconds=0.1))
    assert capacity.session_cost == learned
    capacity.use(Machine(lanes=2, step_seconds=0.2))
    assert capacity.session_cost == pytest.approx(LONGER_STEPS * STEPS_A_SECOND * 0.2)


@given(
    work=st.lists(st.tuples(st.floats(0, 100), st.floats(0, 1000)), max_size=50),
    lanes=st.integers(1, 64),
    step=st.none() | st.floats(0.001, 60),
)
def test_whatever_was_seen_there_is_a_place_and_no_more_than_the_machine_carries(
    work: list[tuple[float, float]], lanes: int, step: float | None
) -> None:
    machine = Machine(lanes, step)
    capacity = Capacity(machine)
    for audio, busy in work:
        capacity.note_audio(audio)
        capacity.note_work(busy)
    assert capacity.places >= 1
    assert capacity.places == 1 or capacity.load_of(capacity.places) <= MAX_LOAD + 1e-6
    assert capacity.session_cost >= MIN_SHARE * machine.session_cost


# When there is a place ------------------------------------------------------------------------------------


def test_a_session_that_is_known_to_end_makes_a_place_when_it_does() -> None:
    endings = Endings()
    assert endings.retry_after([100.0] * 4, [7.0, 3.0], now=0.0) == 3.0 + MARGIN


def test_who_is_refused_after_somebody_else_comes_back_after_them() -> None:
    endings = Endings()
    told = [endings.retry_after([100.0] * 4, [3.0, 7.0], now=0.0) for _ in range(3)]
    assert told[:2] == [3.0 + MARGIN, 7.0 + MARGIN]
    assert told == sorted(told)
    # Once the first has come back, and got the place or not, there is one fewer before the next.
    assert endings.retry_after([100.0] * 4, [1.0, 3.0, 9.0], now=5.0) == 9.0 + MARGIN


def test_short_sessions_give_places_back_soon_and_long_ones_late() -> None:
    short, long = Endings(), Endings()
    for _ in range(100):
        short.note(10.0)
        long.note(3600.0)
    # Of ten sessions of ten seconds one ends each second, in four of five cases within 1.8.
    assert short.retry_after([5.0] * 10, [], now=0.0) == pytest.approx(1.8, rel=0.3)
    assert long.retry_after([5.0] * 10, [], now=0.0) == LATEST


@given(
    ages=st.lists(st.floats(0, 1e6), max_size=20),
    known=st.lists(st.floats(0, 1e6), max_size=20),
    times=st.lists(st.floats(0, 1e6), min_size=1, max_size=20),
)
def test_nobody_is_told_to_come_at_once_nor_in_an_hour(
    ages: list[float], known: list[float], times: list[float]
) -> None:
    endings = Endings()
    for now in sorted(times):
        assert SOONEST <= endings.retry_after(ages, known, now) <= LATEST


def test_a_place_is_there_in_four_of_five_cases_for_whoever_comes_back_when_told() -> None:
    """Sessions of all lengths, refused clients that each take the place which they were promised."""
    dice, there = random.Random(0), []
    for _ in range(400):
        endings, places, mean = Endings(), 8, 20.0
        for _ in range(60):
            endings.note(dice.expovariate(1 / mean))
        ages = [dice.expovariate(1 / mean) for _ in range(places)]
        left = sorted(dice.expovariate(1 / mean) for _ in range(places))
        for waiting in range(3):
            there.append(left[waiting] <= endings.retry_after(ages, [], now=0.0))
    assert sum(there) / len(there) >= 0.8
