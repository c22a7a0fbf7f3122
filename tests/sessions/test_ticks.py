"""Live sessions hear together what came: few of them at once, many by the tick."""

from __future__ import annotations

import asyncio

from live_asr.sessions.ticks import FREE, LONGEST_SECONDS, Ticks


async def test_few_sessions_wait_for_nobody() -> None:
    ticks = Ticks()
    ticks.count = FREE
    loop = asyncio.get_running_loop()
    later: list[str] = []
    loop.call_soon(later.append, "the loop")
    await ticks.next()
    assert later == []  # it did not even give the loop a turn


async def test_many_go_on_together_and_one_that_has_gone_holds_up_nobody() -> None:
    ticks = Ticks()
    ticks.count = FREE + 1
    went_on: list[int] = []

    async def one(number: int) -> None:
        await ticks.next()
        went_on.append(number)

    tasks = [asyncio.create_task(one(number)) for number in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await tasks[0]
    await tasks[2]
    assert went_on == [0, 2]
    await one(3)  # and there is another tick
    assert went_on == [0, 2, 3]


def test_ticks_are_the_rarer_the_more_sessions_there_are_up_to_a_bound() -> None:
    ticks = Ticks()
    found = []
    for ticks.count in (0, FREE, FREE + 4, FREE + 20, 1000):
        found.append(ticks.seconds)
    assert found == sorted(found)
    assert (found[1], found[-1]) == (0.0, LONGEST_SECONDS)
