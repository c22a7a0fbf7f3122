"""Many sessions at once, on a device that is simulated in the real inference process."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
from scripted_pass import ScriptedPass, found
from serving import serving
from talking import call

from live_asr.inference.costs import CostTable, Simulated
from live_asr.inference.simulated import GAP_SECONDS, WORD_SECONDS, simulated_load

SESSIONS = 24
SECONDS = 6
SLOW = CostTable(encode=((30, 0.01),), step=0.002, step_item=0.0, align=0.05, align_item=0.0)
"""So slow that one window at a time would never do."""


async def test_each_of_many_sessions_has_all_its_words_in_order(tmp_path: Path, models_dir: Path) -> None:
    load = simulated_load(Simulated(SLOW))
    loud = np.full(16_000 * SECONDS, 16_000, "<i2").tobytes()
    spoken = round((SECONDS - WORD_SECONDS) / (WORD_SECONDS + GAP_SECONDS))
    expected = [f"w{index}" for index in range(spoken)]
    full_pass = ScriptedPass(found())

    async with serving(tmp_path, models_dir, full_pass, load=load, server__max_sessions=SESSIONS) as served:

        async def talk(pace: str) -> list[str]:
            async with call(served.stream) as caller:
                ready = await caller.start(pace=pace, language="en", diarize=False)
                assert ready["type"] == "ready", ready
                await caller.send(loud)
                await caller.finished()
                failed = [notice for notice in caller.all("notice") if notice["code"] != "degraded"]
                assert failed == []
                return caller.text.split()

        heard = await asyncio.gather(*(talk("fast" if n % 4 == 0 else "realtime") for n in range(SESSIONS)))
        for words in heard:
            assert words[: len(expected)] == expected
        async with asyncio.timeout(60):
            while served.state.registry.free_places < SESSIONS:  # noqa: ASYNC110 - the last of them ends
                await asyncio.sleep(0.05)
        assert served.state.engine.waiting_count == 0
