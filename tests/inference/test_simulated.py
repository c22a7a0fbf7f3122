"""A device that is simulated, in the real inference process: batches across sessions, and their answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
from numpy.typing import NDArray

from live_asr.core.errors import EngineError
from live_asr.core.types import DecodeRequest, samples
from live_asr.inference.costs import CostTable, Simulated
from live_asr.inference.ipc import Load, Recognized
from live_asr.inference.local_engine import LocalEngine
from live_asr.inference.scheduler import FILE_BUDGET, STEP_BUDGET
from live_asr.inference.simulated import GAP_SECONDS, WORD_SECONDS, simulated_load
from live_asr.models.interfaces import SpeechState

TIMEOUT = 60.0
SLOW = CostTable(encode=((30, 0.02),), step=0.001, step_item=0.0, align=0.05, align_item=0.0)
"""The first batch takes long enough for others to come."""


@asynccontextmanager
async def running(load: Load, *, reserved: float = 0.0) -> AsyncIterator[LocalEngine]:
    engine = LocalEngine(load, reserved=lambda: reserved)
    try:
        await engine.start()
        yield engine
    finally:
        await engine.close()


def window(start: float, end: float) -> NDArray[np.float32]:
    return np.full(samples(end) - samples(start), 0.5, np.float32)


async def ask(
    engine: LocalEngine, start: float, end: float, budget: float = STEP_BUDGET, **more: object
) -> Recognized:
    asked = {"language": "en"} | more
    request = DecodeRequest(samples(start), samples(end), (), 60, samples(10.0), 0, **asked)  # type: ignore[arg-type]
    async with asyncio.timeout(TIMEOUT):
        return await engine.recognize(request, window(start, end), budget)


def first_word(answer: Recognized) -> str:
    return answer.hypothesis.words[0].text


def word_at(start: float) -> str:
    """Return the first word whose middle lies behind `start`."""
    return f" w{int((start + WORD_SECONDS / 2 + GAP_SECONDS) / (WORD_SECONDS + GAP_SECONDS))}"


async def test_windows_of_several_sessions_are_decoded_at_once_and_each_has_its_own_words() -> None:
    async with running(simulated_load(Simulated(SLOW, most_batch=8), lanes=1)) as engine:
        assert engine.loaded is not None and engine.loaded.most_batch == 8
        starts = [float(start) for start in range(9)]
        answers = await asyncio.gather(*(ask(engine, start, start + 4.0) for start in starts))
        assert [first_word(answer) for answer in answers] == [word_at(start) for start in starts]
        # The first was alone, as nobody else had come; the rest waited for it, and went together.
        waited = sorted(answer.waited for answer in answers)
        assert waited[0] < waited[1]
        assert len({answer.took for answer in answers}) < len(answers)
        assert engine.waiting_count == 0


async def test_a_window_of_a_batch_that_cannot_be_decoded_costs_no_other_anything() -> None:
    async with running(simulated_load(Simulated(SLOW), lanes=1)) as engine:
        busy = asyncio.create_task(ask(engine, 0.0, 2.0))
        await asyncio.sleep(0)
        good = [asyncio.create_task(ask(engine, start, start + 3.0)) for start in (5.0, 6.0)]
        request = DecodeRequest(0, samples(3.0), (), 60, samples(10.0), 0, language="en")
        bad = asyncio.create_task(engine.recognize(request, window(0.0, 1.0), STEP_BUDGET))
        with pytest.raises(EngineError, match="not the request's window"):
            await asyncio.wait_for(bad, TIMEOUT)
        assert [first_word(await answer) for answer in (busy, *good)] == [word_at(s) for s in (0.0, 5.0, 6.0)]


async def test_files_and_live_work_do_not_share_a_batch_and_what_tells_a_language_goes_alone() -> None:
    async with running(simulated_load(Simulated(SLOW), lanes=1)) as engine:
        answers = await asyncio.gather(
            ask(engine, 0.0, 2.0),
            *(ask(engine, 4.0, 6.0, FILE_BUDGET) for _ in range(3)),
            *(ask(engine, 8.0, 10.0) for _ in range(3)),
            ask(engine, 12.0, 14.0, language=None),
        )
        _, *rest = answers
        files, live, alone = rest[:3], rest[3:6], rest[6]
        assert len({answer.took for answer in live}) == len({answer.took for answer in files}) == 1
        assert max(answer.waited for answer in [*live, alone]) < min(answer.waited for answer in files)
        assert alone.took not in {answer.took for answer in [*live, *files]}


async def test_it_says_what_it_is_and_speech_is_told_by_loudness() -> None:
    async with running(simulated_load(Simulated(SLOW))) as engine:
        found = await engine.detect(window(0.0, 0.512), SpeechState.initial())
        assert found.probabilities.tolist() == [1.0] * 16
        assert engine.loaded is not None
        assert (engine.loaded.recognizer.name, engine.loaded.lanes) == ("scripted", 2)


async def test_a_lane_rests_for_the_share_that_is_reserved_and_loses_nothing() -> None:
    async with running(simulated_load(Simulated(SLOW, most_batch=1), lanes=1), reserved=0.75) as engine:
        answers = await asyncio.gather(*(ask(engine, start, start + 4.0) for start in (0.0, 1.0, 2.0)))
    assert [first_word(answer) for answer in answers] == [word_at(start) for start in (0.0, 1.0, 2.0)]
    waits = sorted(answer.waited for answer in answers)
    least = min(answer.took for answer in answers)
    assert waits[1] >= 4 * least and waits[2] >= 8 * least
