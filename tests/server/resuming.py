"""Cut a session off, come back to it, and hold what was told against what is kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from talking import TIMEOUT, Caller, Message, call

WAITS = {
    "LIVE_ASR_SERVER__RESUME_WINDOW": "60",
    # The longest steps there are, so that a loaded machine lengthens none and two runs hear the same windows.
    "LIVE_ASR_STREAMING__STEP": "1.5",
}


@asynccontextmanager
async def resumed(
    url: str, ready: Message, earlier: list[Message], **changes: Any
) -> AsyncIterator[tuple[Caller, Message]]:
    """Take a session up again, from the last kept message that was heard; wait while it is not there yet."""
    last_seq = max((m["seq"] for m in earlier if "seq" in m), default=0)
    wanted = {"session": ready["session"], "token": ready["token"], "last_seq": last_seq, **changes}
    deadline = asyncio.get_running_loop().time() + TIMEOUT
    while True:
        async with call(url) as caller:
            answer = await caller.start(resume=wanted)
            if answer.get("code") == "loading" and asyncio.get_running_loop().time() < deadline:
                continue
            caller.sent_bytes = answer.get("received_bytes", 0)
            yield caller, answer
            return


def record(*callers: Caller) -> list[Message]:
    """Return the kept messages that several connections heard, one after the other."""
    return [m for caller in callers for m in caller.heard if "seq" in m]


def check_record(kept: list[Message]) -> None:
    """The numbers have no gap and none comes twice; the commits are the text."""
    assert [m["seq"] for m in kept] == list(range(1, len(kept) + 1))
    stopped = next(m for m in kept if m["type"] == "stopped")
    assert "".join(m["text"] for m in kept if m["type"] == "commit") == stopped["text"]
