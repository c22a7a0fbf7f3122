"""Tasks that serve one client, and end with each other."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

Work = Coroutine[Any, Any, Any]


async def together(wanted: Iterable[Work], *beside: Work) -> list[Any]:
    """Do all of this at once, until what is wanted is done; return its results.

    Raises the first failure of any of them. Whatever happens, none of them goes on afterwards.
    """
    tasks = [asyncio.create_task(work) for work in wanted]
    others = [asyncio.create_task(work) for work in beside]
    waiting = {*tasks, *others}
    try:
        while not waiting.isdisjoint(tasks):
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        return [task.result() for task in tasks]
    finally:
        for task in (*tasks, *others):
            task.cancel()
        await asyncio.gather(*tasks, *others, return_exceptions=True)
