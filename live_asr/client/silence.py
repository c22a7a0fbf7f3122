"""Noticing that nobody is there: a dead network says nothing, and takes what is sent for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

LOOKS = 8
"""How often a connection is looked at before it is given up as silent."""


async def until_silent(
    lost_after: float, heard_count: Callable[[], int], patience: Callable[[], int]
) -> None:
    """Return when nothing was heard for `lost_after` seconds, times what `patience` says; 0 is for ever.

    Looks are counted rather than time: while the program or the machine stood still, nobody listened.
    """
    silent_looks, heard_before = 0, -1
    while True:
        await asyncio.sleep(lost_after / LOOKS)
        times, heard = patience(), heard_count()
        silent_looks = silent_looks + 1 if times > 0 and heard == heard_before else 0
        if 0 < times * LOOKS <= silent_looks:
            return
        heard_before = heard
