"""Who is next where several wait, and how fast live audio may come."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from live_asr.sessions.fair_queue import TooManyWait, Turns
from live_asr.sessions.limits import BURST, CATCHING_UP, RealTime


class Work:
    """Work that waits for its turn, and says what becomes of it."""

    def __init__(self, turns: Turns, log: list[str], whose: str, name: str) -> None:
        self.positions: list[int] = []
        self.may_end = asyncio.Event()
        self.task = asyncio.create_task(self._run(turns, log, whose, name))

    async def _run(self, turns: Turns, log: list[str], whose: str, name: str) -> None:
        async with turns.turn(whose, self.positions.append):
            log.append(name)
            await self.may_end.wait()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_who_brings_forty_lets_others_in_between() -> None:
    turns, log = Turns(1, 100), list[str]()
    many = [Work(turns, log, "many", f"many {number}") for number in range(40)]
    await settle()
    one = Work(turns, log, "one", "one")
    other = Work(turns, log, "other", "other")
    await settle()
    assert (one.positions[-1], other.positions[-1]) == (1, 2), "behind one of the forty"
    assert many[1].positions[-1] == 0
    for work in (many[0], many[1], one, other, *many[2:]):
        work.may_end.set()
        await work.task
    assert log == ["many 0", "many 1", "one", "other", *(f"many {number}" for number in range(2, 40))]


async def test_several_at_a_time_and_no_more() -> None:
    turns, log = Turns(2, 100), list[str]()
    works = [Work(turns, log, whose, whose) for whose in "abc"]
    await settle()
    assert log == ["a", "b"]
    assert works[2].positions == [0]
    works[1].may_end.set()
    await works[1].task
    await settle()
    assert log == ["a", "b", "c"]
    for work in works:
        work.may_end.set()
    await asyncio.gather(*(work.task for work in works))


async def test_one_client_has_a_bound_and_who_leaves_makes_room() -> None:
    turns, log = Turns(1, 2), list[str]()
    working, first, second = (Work(turns, log, "a", name) for name in "123")
    await settle()
    with pytest.raises(TooManyWait):
        async with turns.turn("a"):
            pass
    first.task.cancel()
    await settle()
    assert second.positions[-1] == 0
    async with AsyncExitStack() as stack:
        waiting = asyncio.create_task(stack.enter_async_context(turns.turn("b")))
        working.may_end.set()
        second.may_end.set()
        await second.task
        await waiting
    assert log == ["1", "3"]


async def test_a_turn_that_is_taken_and_not_wanted_any_more_is_given_on() -> None:
    turns, log = Turns(1, 9), list[str]()
    working, gone, next_one = (Work(turns, log, name, name) for name in "abc")
    await settle()
    working.may_end.set()
    await working.task  # in this very turn of the loop `b` is let in
    gone.task.cancel()
    next_one.may_end.set()
    await next_one.task
    assert "c" in log


async def test_two_that_are_cancelled_at_once_give_their_places_on() -> None:
    turns, log = Turns(1, 10), list[str]()
    running, waiting = Work(turns, log, "a", "1"), Work(turns, log, "a", "2")
    await settle()
    running.task.cancel()
    waiting.task.cancel()
    ended = await asyncio.gather(running.task, waiting.task, return_exceptions=True)
    assert [type(error) for error in ended] == [asyncio.CancelledError] * 2
    last = Work(turns, log, "b", "3")
    last.may_end.set()
    async with asyncio.timeout(60):
        await last.task
    assert log == ["1", "3"]


def test_live_audio_may_come_as_fast_as_it_is_spoken_and_catch_up() -> None:
    now = 1000.0
    pace = RealTime(lambda: now)
    assert pace.wait_for(5.0) == 0, "what there was by then does not count"
    assert pace.wait_for(5.0 + BURST) == 0
    assert pace.wait_for(5.0 + BURST + 60.0) == 60.0 / CATCHING_UP
    now += 60.0 / CATCHING_UP
    assert pace.wait_for(5.0 + BURST + 60.0) == 0
    assert pace.allowed(1000.0) == 5.0 + BURST + 60.0, "as much of it as has had its time"
    now += 3600.0
    assert pace.wait_for(3600.0) == 0
    assert pace.allowed(3600.0) == 3600.0
