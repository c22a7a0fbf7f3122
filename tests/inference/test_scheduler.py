"""Which work a lane takes next: the most urgent, in batches of a kind, and files once there is time."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Hashable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from live_asr.core.types import DecodeRequest, samples
from live_asr.inference.costs import H200, LearnedCosts
from live_asr.inference.scheduler import (
    BATCH_SECONDS,
    FILE_BUDGET,
    FINAL_BUDGET,
    MAX_CREDIT,
    STEP_BUDGET,
    Job,
    Scheduler,
    budget_of,
    kind_of,
)

LIVE_BUDGETS = st.sampled_from([FINAL_BUDGET, STEP_BUDGET, 1.2])
REQUEST = DecodeRequest(0, samples(8.0), (), 60, samples(10.0), samples(2.0), language="en")


def items(batch: list[Job[str]]) -> list[str]:
    return [job.item for job in batch]


def taken(scheduler: Scheduler[str], now: float = 0.0) -> list[list[str]]:
    """Take all that waits."""
    return list(iter(lambda: items(scheduler.take(now)), []))


# The order of urgency ---------------------------------------------------------------------------------


def test_the_most_urgent_comes_first_and_of_equals_the_first() -> None:
    scheduler: Scheduler[str] = Scheduler()
    for item, now, budget in (
        *(("step", 0.0, STEP_BUDGET), ("step too", 0.0, STEP_BUDGET)),
        *(("final", 0.1, FINAL_BUDGET), ("later", 0.2, STEP_BUDGET)),
    ):
        scheduler.add(item, now, budget)
    assert taken(scheduler) == [["final"], ["step"], ["step too"], ["later"]]
    assert scheduler.take(1.0) == []


def test_what_nobody_wants_any_more_is_not_taken() -> None:
    scheduler: Scheduler[str] = Scheduler()
    jobs = [scheduler.add(item, 0.0, STEP_BUDGET) for item in "abc"]
    for _ in range(2):
        scheduler.withdraw(jobs[0])
    assert len(scheduler) == 2
    assert taken(scheduler) == [["b"], ["c"]]


def test_who_is_behind_is_more_urgent_but_not_by_much() -> None:
    def budget(lag: float) -> float:
        return budget_of(final=False, live=True, lag=lag)

    assert budget(0.0) == budget(0.7) == STEP_BUDGET
    assert STEP_BUDGET - MAX_CREDIT < budget(1.0) < STEP_BUDGET
    assert budget(3600.0) == pytest.approx(STEP_BUDGET - MAX_CREDIT)
    assert budget_of(final=True, live=True) == FINAL_BUDGET
    assert budget_of(final=True, live=False, lag=9.0) == FILE_BUDGET


# Batches ----------------------------------------------------------------------------------------------


def test_a_batch_is_the_most_urgent_and_the_most_urgent_of_its_kind() -> None:
    scheduler: Scheduler[str] = Scheduler(most=3)
    for item, budget, kind in (
        *(("a1", 0.5, "a"), ("b1", 0.3, "b"), ("a2", 0.4, "a"), ("b2", 0.6, "b")),
        *(("alone", 0.35, None), ("a3", 0.9, "a"), ("a4", 0.8, "a"), ("lone", 0.7, None)),
    ):
        scheduler.add(item, 0.0, budget, kind=kind)
    assert taken(scheduler) == [["b1", "b2"], ["alone"], ["a2", "a1", "a4"], ["lone"], ["a3"]]


def test_a_batch_is_filled_as_long_as_it_is_predicted_to_be_short() -> None:
    def predict(kind: Hashable, count: int) -> float:
        assert kind == "a"
        return 0.03 + 0.02 * count

    scheduler: Scheduler[str] = Scheduler(most=100, predict=predict)
    for index in range(10):
        scheduler.add(str(index), 0.0, STEP_BUDGET, kind="a")
    assert [len(batch) for batch in taken(scheduler)] == [4, 4, 2]
    assert predict("a", 4) <= BATCH_SECONDS < predict("a", 5)


@pytest.mark.parametrize(
    ("changed", "alike"),
    [
        pytest.param({"end_sample": samples(7.0)}, True, id="as short a window"),
        pytest.param({"prefix": (1, 2, 3)}, False, id="with words before it"),
        pytest.param({"end_sample": samples(10.5)}, False, id="a longer window"),
        pytest.param({"final": True}, False, id="the last of an utterance"),
        pytest.param({"language": "de"}, False, id="another language"),
        pytest.param({"vocabulary": ("Gödel",)}, False, id="words to expect"),
    ],
)
def test_windows_that_can_be_decoded_at_once_are_of_a_kind(changed: dict[str, object], alike: bool) -> None:
    assert (kind_of(replace(REQUEST, **changed)) == kind_of(REQUEST)) is alike  # type: ignore[arg-type]


def test_a_window_whose_language_is_to_be_found_is_decoded_by_itself() -> None:
    assert kind_of(replace(REQUEST, language=None)) is None
    assert kind_of(replace(REQUEST, judged_from_sample=0)) is None


def test_a_device_on_which_one_window_takes_long_does_batches_too() -> None:
    scheduler: Scheduler[str] = Scheduler(most=9, predict=lambda kind, count: 0.3 + 0.05 * count)
    for index in range(9):
        scheduler.add(str(index), 0.0, STEP_BUDGET, kind="a")
    assert [len(batch) for batch in taken(scheduler)] == [4, 4, 1]


def test_windows_that_come_alone_teach_nothing_against_batches() -> None:
    costs = LearnedCosts(0.03, 0.004)
    for _ in range(500):
        costs.learn("a", 1, 0.09)
    assert costs.predict("a", 1) == pytest.approx(0.09, rel=0.01)
    assert costs.predict("a", 2) < BATCH_SECONDS


@pytest.mark.parametrize("sizes", [[1], [24], [1, 24], [4, 8, 16]])
def test_what_a_batch_takes_is_learned_and_stays_sound(sizes: list[int]) -> None:
    costs = LearnedCosts(0.1, 0.1)
    assert costs.predict("new", 2) == pytest.approx(0.3)
    for count in itertools.islice(itertools.cycle(sizes), 3000):
        costs.learn("a", count, 0.02 + 0.004 * count)
    for count in sizes:
        assert costs.predict("a", count) == pytest.approx(0.02 + 0.004 * count, rel=0.01)
    for count in range(1, 25):
        costs.learn("a", count, 0.04 + 0.008 * count)
    for _ in range(200):
        for count in (1, 24):
            costs.learn("a", count, 0.04 + 0.008 * count)
    assert costs.predict("a", 12) == pytest.approx(0.04 + 0.008 * 12, rel=0.05)
    assert costs.predict("new", 2) == pytest.approx(0.3)


def test_the_table_of_costs_adds_up() -> None:
    assert H200.batch(10, 20) == pytest.approx(2.3e-3 + 20 * 0.806e-3 + 3.5e-3)
    assert H200.encoding(12.5, 4) == pytest.approx(12e-3)
    assert H200.encoding(60.0) == H200.encoding(30.0)


# Properties -------------------------------------------------------------------------------------------

MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("add"), LIVE_BUDGETS | st.just(FILE_BUDGET), st.sampled_from(["a", "b", None])),
        st.tuples(st.just("withdraw"), st.integers(0, 99), st.none()),
        st.tuples(st.just("take"), st.none(), st.none()),
        st.tuples(st.just("wait"), st.floats(0, 3), st.none()),
    ),
    max_size=80,
)


@given(moves=MOVES, most=st.integers(1, 4))
def test_whatever_comes_nothing_is_lost_and_the_most_urgent_is_taken(
    moves: list[tuple[str, float, str | None]], most: int
) -> None:
    scheduler: Scheduler[int] = Scheduler(most=most)
    waiting: dict[int, Job[int]] = {}
    now = 0.0
    for number, (move, value, kind) in enumerate(moves):
        if move == "add":
            waiting[number] = scheduler.add(number, now, value, kind=kind)
        elif move == "wait":
            now += value
        elif move == "withdraw" and waiting:
            scheduler.withdraw(waiting.pop(sorted(waiting)[int(value) % len(waiting)]))
        elif move == "take":
            batch = scheduler.take(now)
            assert bool(batch) is bool(waiting)
            if batch:
                first = batch[0]
                rivals = [job for job in waiting.values() if job.is_live is first.is_live]
                assert (first.deadline, first.number) == min((job.deadline, job.number) for job in rivals)
                assert (
                    first.is_live
                    or not any(job.is_live for job in waiting.values())
                    or (first.deadline <= now)
                )
            for job in batch:
                assert waiting.pop(job.item) is job
                assert (job.kind, job.is_live) == (batch[0].kind, batch[0].is_live)
            assert len(batch) <= most and (len(batch) < 2 or batch[0].kind is not None)
        assert len(scheduler) == len(waiting)


@given(
    live=st.integers(1, 12),
    files=st.integers(0, 6),
    lanes=st.integers(1, 3),
    most=st.integers(1, 4),
    takes=st.lists(st.floats(0.01, 2.0), min_size=1, max_size=7),
    budgets=st.lists(LIVE_BUDGETS, min_size=1, max_size=5),
)
def test_nobody_starves_and_a_file_keeps_a_live_session_for_no_more_than_one_batch(
    live: int, files: int, lanes: int, most: int, takes: list[float], budgets: list[float]
) -> None:
    """All ask again as soon as they are answered, whatever their urgency and however slow the lanes."""
    scheduler: Scheduler[str] = Scheduler(most=most)
    asked: dict[str, int] = {}
    """How many batches had been taken when each of those that wait asked."""
    kept_by_files: dict[str, int] = {}
    answered = dict.fromkeys([*(f"live {n}" for n in range(live)), *(f"file {n}" for n in range(files))], 0)
    next_budget, next_take = itertools.cycle(budgets), itertools.cycle(takes)
    count = 0

    def ask(name: str, now: float) -> None:
        asked[name], kept_by_files[name] = count, 0
        budget = FILE_BUDGET if name.startswith("file") else next(next_budget)
        scheduler.add(name, now, budget, kind=hash(name) % 2)

    for name in answered:
        ask(name, 0.0)
    free: list[tuple[float, int, list[str]]] = [(0.0, lane, []) for lane in range(lanes)]
    shortest, longest = min(takes), max(takes)
    # As long as somebody's budget reaches, those with shorter ones may go first: so many batches at most.
    ahead = lanes * (FILE_BUDGET / shortest + 2)
    while count < 40 * (live + files):
        now, lane, done = heapq.heappop(free)
        for name in done:
            answered[name] += 1
            ask(name, now)
        batch = scheduler.take(now)
        count += bool(batch)
        for job in batch:
            del asked[job.item]
            if job.is_live:
                assert kept_by_files[job.item] <= 1
        if batch and not batch[0].is_live:
            for name in asked:
                kept_by_files[name] += 1
        for name, since in asked.items():
            bound = ahead + 2 * (live + files) if name.startswith("live") else ahead + 4 * (live + files) ** 2
            assert count - since <= bound, name
        heapq.heappush(free, (now + (next(next_take) if batch else longest), lane, items(batch)))
    if count > 4 * ahead:
        assert all(answered[name] for name in answered if name.startswith("live"))
