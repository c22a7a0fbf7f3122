"""Which work comes next."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from live_asr.inference.deadline_queue import DeadlineQueue
from live_asr.inference.scheduler import FILE_BUDGET, FINAL_BUDGET, STEP_BUDGET


def drained(queue: DeadlineQueue[str]) -> list[str]:
    return [queue.pop() for _ in range(len(queue))]


def test_the_earliest_deadline_comes_first() -> None:
    queue: DeadlineQueue[str] = DeadlineQueue()
    for item, deadline in [("late", 9.0), ("soon", 1.0), ("later", 5.0)]:
        queue.push(item, deadline)
    assert drained(queue) == ["soon", "later", "late"]


def test_equal_deadlines_come_in_the_order_they_came() -> None:
    queue: DeadlineQueue[str] = DeadlineQueue()
    for item in "abcde":
        queue.push(item, 1.0)
    assert drained(queue) == list("abcde")


def test_an_empty_queue_gives_nothing() -> None:
    with pytest.raises(IndexError):
        DeadlineQueue[str]().pop()


def test_items_need_not_be_comparable() -> None:
    queue: DeadlineQueue[dict[str, int]] = DeadlineQueue()
    queue.push({"a": 1}, 1.0)
    queue.push({"b": 2}, 1.0)
    assert queue.pop() == {"a": 1}


def test_a_last_decode_overtakes_a_step_that_came_just_before_it() -> None:
    queue: DeadlineQueue[str] = DeadlineQueue()
    queue.push("step", 0.0 + STEP_BUDGET)
    queue.push("final", 0.1 + FINAL_BUDGET)
    assert queue.pop() == "final"


def test_a_file_waits_but_not_for_ever() -> None:
    queue: DeadlineQueue[str] = DeadlineQueue()
    queue.push("file", 0.0 + FILE_BUDGET)
    served = []
    for tick in range(100):
        queue.push("step", tick * 0.1 + STEP_BUDGET)
        served.append(queue.pop())
    assert 40 < served.index("file") < 46, "when steps that come now are due later than it"


def test_no_session_waits_behind_the_backlog_of_another() -> None:
    """Each session has one decode outstanding, so a turn of all comes before the next of any."""
    queue: DeadlineQueue[str] = DeadlineQueue()
    for session in "abcd":
        queue.push(session, STEP_BUDGET)
    served = []
    for turn in range(12):
        session = queue.pop()
        served.append(session)
        queue.push(session, 0.2 * (turn + 1) + STEP_BUDGET)
    assert served == list("abcd") * 3


@given(st.lists(st.one_of(st.none(), st.floats(0, 100)), max_size=60))
def test_whatever_is_pushed_and_popped_nothing_is_lost_and_each_pop_is_the_most_urgent(
    moves: list[float | None],
) -> None:
    queue: DeadlineQueue[int] = DeadlineQueue()
    held: dict[int, float] = {}
    for number, deadline in enumerate(moves):
        if deadline is not None:
            queue.push(number, deadline)
            held[number] = deadline
        elif held:
            item = queue.pop()
            assert (held[item], item) == min((due, other) for other, due in held.items())
            del held[item]
        assert len(queue) == len(held)
