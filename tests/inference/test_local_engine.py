"""The inference process: it may be killed, hang or fail, and whoever asked gets an answer."""

from __future__ import annotations

import asyncio
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from live_asr.core.errors import EngineError
from live_asr.core.types import DecodeRequest, samples
from live_asr.inference.engine import Newest, StaleWork
from live_asr.inference.ipc import Load, Recognize, Recognized
from live_asr.inference.local_engine import MAX_ATTEMPTS, MAX_DEATHS, WORK_NAMES, LocalEngine
from live_asr.inference.scheduler import FILE_BUDGET, FINAL_BUDGET, STEP_BUDGET
from live_asr.models.interfaces import SpeechState
from live_asr.weights.onnx_conversion import converted
from live_asr.weights.store import resolve

Audio = NDArray[np.float32]
TIMEOUT = 60.0
"""Seconds after which a test gives up waiting for another process."""


@pytest.fixture
def load(recognizer_dir: Path, detector_file: Path) -> Load:
    """What to load; one decode at a time, so that the order of work shows."""
    return Load(
        recognizer_name="tiny.en",
        recognizer_folder=recognizer_dir,
        detector_name="silero-vad",
        detector_file=detector_file,
        device="cpu",
        compute_type="int8",
        workers=1,
        beam_size=1,
    )


@asynccontextmanager
async def running(
    load: Load, *, hung_after: float = 30.0, on_restart: Callable[[], None] = lambda: None
) -> AsyncIterator[LocalEngine]:
    engine = LocalEngine(load, timeout=hung_after, on_restart=on_restart)
    try:
        await engine.start()
        yield engine
    finally:
        await engine.close()


@pytest.fixture
async def engine(load: Load) -> AsyncIterator[LocalEngine]:
    async with running(load) as engine:
        yield engine


class Asker:
    """Asks for pieces of the sample call."""

    def __init__(self, audio: Audio) -> None:
        self.audio = audio

    def step(
        self,
        engine: LocalEngine,
        start: float = 12.4,
        end: float = 14.3,
        *,
        budget: float = STEP_BUDGET,
        language: str | None = "en",
    ) -> asyncio.Task[Recognized]:
        """Ask for the words between two times; they are on their way to the process at the next `await`."""
        request = DecodeRequest(
            samples(start), samples(end), (), 60, samples(10.0), samples(2.0), language=language
        )
        audio = self.audio[samples(start) : samples(end)]
        return asyncio.create_task(engine.recognize(request, audio, budget))


@pytest.fixture
def ask(sample_audio: Audio) -> Asker:
    return Asker(sample_audio)


def written(answer: Recognized) -> str:
    return "".join(word.text for word in answer.hypothesis.words)


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that another process brings about."""
    async with asyncio.timeout(TIMEOUT):
        while not condition():  # noqa: ASYNC110 - no event tells of another process
            await asyncio.sleep(0.01)


async def soon(answer: Awaitable[Recognized]) -> Recognized:
    return await asyncio.wait_for(answer, TIMEOUT)


def process_of(engine: LocalEngine) -> int:
    assert engine.process_id is not None
    return engine.process_id


# Answers ------------------------------------------------------------------------------------------------


async def test_it_says_what_it_loaded_and_answers(engine: LocalEngine, ask: Asker) -> None:
    assert engine.loaded is not None
    assert (engine.loaded.recognizer.name, engine.loaded.detector_name) == ("tiny.en", "silero-vad")
    assert engine.loaded.recognizer.languages == ("en",)
    answer = await soon(ask.step(engine))
    assert "New Jersey" in written(answer)
    assert answer.waited >= 0 and answer.took > 0


async def test_its_libraries_start_no_threads_that_would_spin_for_work(engine: LocalEngine) -> None:
    environment = psutil.Process(process_of(engine)).environ()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        assert environment[name] == "1"


async def test_it_judges_speech_with_the_state_of_the_call_before(engine: LocalEngine, ask: Asker) -> None:
    audio = ask.audio[samples(12.4) : samples(12.4) + 64 * 512]
    whole = await engine.detect(audio, SpeechState.initial())
    first = await engine.detect(audio[: 20 * 512], SpeechState.initial())
    second = await engine.detect(audio[20 * 512 :], first.state)
    assert np.array_equal(np.concatenate([first.probabilities, second.probabilities]), whole.probabilities)
    assert whole.probabilities.max() > 0.9


async def test_many_ask_at_once_and_each_gets_its_own_answer(engine: LocalEngine, ask: Asker) -> None:
    pieces = [(12.4, 14.3), (14.3, 17.8), (17.8, 20.2), (24.0, 28.5)]
    words = ["Diane", "Texas", "Chicago", "Yankee"]
    answers = await asyncio.gather(*(soon(ask.step(engine, *piece)) for piece in pieces))
    for word, answer in zip(words, answers, strict=True):
        assert word in written(answer)
    assert engine.waiting_count == 0


async def test_what_somebody_waits_for_overtakes_what_can_wait(engine: LocalEngine, ask: Asker) -> None:
    finished: list[str] = []

    def noted(task: asyncio.Task[Recognized], name: str) -> asyncio.Task[Recognized]:
        task.add_done_callback(lambda _: finished.append(name))
        return task

    work = [noted(ask.step(engine, budget=STEP_BUDGET + 5), f"step {n}") for n in range(4)]
    work.append(noted(ask.step(engine, budget=FINAL_BUDGET), "final"))
    await soon(asyncio.gather(*work))  # type: ignore[arg-type]
    assert finished.index("final") <= 1, "at most the step that was under way comes first"


async def test_speech_is_judged_while_decodes_wait(engine: LocalEngine, ask: Asker) -> None:
    decodes = [ask.step(engine) for _ in range(3)]
    await asyncio.sleep(0)
    await engine.detect(np.zeros(512, np.float32), SpeechState.initial())
    assert not decodes[-1].done()
    await soon(asyncio.gather(*decodes))  # type: ignore[arg-type]


async def test_work_that_cannot_be_done_fails_for_who_asked_and_nobody_else(
    engine: LocalEngine, ask: Asker
) -> None:
    before = engine.process_id
    good, bad = ask.step(engine), ask.step(engine, language="vi")
    with pytest.raises(EngineError, match="does not know the language 'vi'"):
        await soon(bad)
    with pytest.raises(EngineError, match="not a whole number"):
        await engine.detect(np.zeros(100, np.float32), SpeechState.initial())
    assert "New Jersey" in written(await soon(good))
    assert engine.process_id == before


async def test_what_waits_for_a_lane_takes_newer_audio_along_or_is_dropped(
    engine: LocalEngine, ask: Asker
) -> None:
    def newer(start: float, end: float) -> Newest:
        request = DecodeRequest(samples(start), samples(end), (), 60, samples(10.0), 0, language="en")
        return lambda: (request, ask.audio[request.start_sample : request.end_sample])

    async def asked(newest: Newest) -> Recognized:
        request, audio = newer(12.4, 14.3)() or pytest.fail("there is something")
        return await engine.recognize(request, audio, STEP_BUDGET, newest=newest)

    def broken() -> None:
        raise ZeroDivisionError

    busy = ask.step(engine)
    tasks = [asyncio.create_task(asked(newest)) for newest in (newer(14.3, 17.8), lambda: None, broken)]
    answers = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), TIMEOUT)
    assert isinstance(answers[0], Recognized) and "Texas" in written(answers[0])
    assert answers[0].hypothesis.end_sample == samples(17.8)
    assert isinstance(answers[1], StaleWork) and isinstance(answers[2], ZeroDivisionError)
    assert "New Jersey" in written(await soon(busy))


async def test_who_stops_waiting_leaves_nothing_behind(engine: LocalEngine, ask: Asker) -> None:
    gone, stays = ask.step(engine), ask.step(engine)
    await asyncio.sleep(0)
    assert engine.waiting_count == 2
    gone.cancel()
    assert "New Jersey" in written(await soon(stays))
    assert gone.cancelled()
    assert engine.waiting_count == 0
    assert "Texas" in written(await soon(ask.step(engine, 14.3, 17.8)))


# A process that dies ------------------------------------------------------------------------------------


async def test_a_process_that_is_killed_in_the_middle_of_its_work_costs_nobody_the_answer(
    load: Load, ask: Asker
) -> None:
    restarts: list[None] = []
    async with running(load, on_restart=lambda: restarts.append(None)) as engine:
        expected = await soon(ask.step(engine))
        before = process_of(engine)
        assert engine.changed_at == -math.inf
        answers = [ask.step(engine), ask.step(engine, 14.3, 17.8)]
        judged = asyncio.create_task(engine.detect(np.zeros(5_120, np.float32), SpeechState.initial()))
        await asyncio.sleep(0)
        began = time.monotonic()
        os.kill(before, signal.SIGKILL)
        again, other = [await soon(answer) for answer in answers]
        assert again.hypothesis == expected.hypothesis
        assert "Texas" in written(other)
        assert (await judged).probabilities.shape == (10,)
        assert process_of(engine) != before
        assert len(restarts) == 1
        assert began < engine.changed_at <= time.monotonic()
        assert engine.waiting_count == 0


async def test_a_process_that_hangs_is_replaced_and_the_work_done(load: Load, ask: Asker) -> None:
    async with running(load, hung_after=4.0) as engine:
        before = process_of(engine)
        os.kill(before, signal.SIGSTOP)
        assert "New Jersey" in written(await soon(ask.step(engine)))
        assert process_of(engine) != before
        assert not psutil.pid_exists(before)


async def test_work_asked_while_there_is_no_process_is_done_by_the_next(load: Load, ask: Asker) -> None:
    async with running(load) as engine:
        os.kill(process_of(engine), signal.SIGKILL)
        await until(lambda: not engine.is_up)
        assert engine.process_id is None
        assert "New Jersey" in written(await soon(ask.step(engine)))
        assert engine.is_up


async def test_work_that_ends_one_process_after_another_is_given_up_and_other_work_goes_on(
    load: Load, ask: Asker
) -> None:
    async with running(load) as engine:
        fatal = ask.step(engine, 0.0, 30.0)
        await asyncio.sleep(0)
        for _ in range(MAX_ATTEMPTS):
            await until(lambda: engine.is_up)
            before = process_of(engine)
            os.kill(before, signal.SIGKILL)
            await until(lambda before=before: engine.process_id != before)  # type: ignore[misc]
        with pytest.raises(EngineError, match="one inference process after another"):
            await asyncio.wait_for(fatal, TIMEOUT)
        assert "New Jersey" in written(await soon(ask.step(engine)))


async def test_work_that_waits_long_is_no_hung_process(load: Load, ask: Asker) -> None:
    restarts: list[None] = []
    hung_after = 5.0
    async with running(load, hung_after=hung_after, on_restart=lambda: restarts.append(None)) as engine:
        urgent = [ask.step(engine), ask.step(engine)]
        waits = ask.step(engine, budget=3600.0)
        began = time.monotonic()
        while time.monotonic() - began < 2 * hung_after:  # what is more urgent is never out
            urgent.append(ask.step(engine))
            await soon(urgent.pop(0))
        await soon(asyncio.gather(waits, *urgent))  # type: ignore[arg-type]
        assert "New Jersey" in written(waits.result())
        assert waits.result().waited > hung_after
        assert restarts == []


async def test_what_was_under_way_when_processes_died_is_done_by_itself_and_given_up_alone(
    load: Load, ask: Asker
) -> None:
    """Two windows are under way at once: each process dies as soon as the deadly one is begun."""
    async with running(replace(load, workers=2)) as engine:
        deadly, beside = ask.step(engine, 0.0, 30.0), ask.step(engine, 1.0, 30.0)
        waiting = [ask.step(engine) for _ in range(6)]
        died: set[int] = set()

        def is_under_way(start_sample: int) -> bool:
            return any(
                job.begun_at is not None and job.work.request.start_sample == start_sample
                for job in engine._sent.values()
                if isinstance(job.work, Recognize)
            )

        while not deadly.done():
            await until(lambda: deadly.done() or (engine.is_up and is_under_way(0)))
            if deadly.done():
                break
            died.add(process_of(engine))
            assert len(died) == 1 or len(engine._sent) == 1, "the second has nothing else to do"
            os.kill(process_of(engine), signal.SIGKILL)
            await until(lambda: not engine.is_up)
        with pytest.raises(EngineError, match="one inference process after another"):
            await deadly
        assert len(died) == MAX_DEATHS
        assert written(await soon(beside))
        assert all("New Jersey" in written(answer) for answer in await asyncio.gather(*map(soon, waiting)))


async def test_a_sigterm_or_ctrl_c_to_the_whole_group_leaves_the_process_to_the_server(
    engine: LocalEngine, ask: Asker
) -> None:
    before = process_of(engine)
    os.kill(before, signal.SIGTERM)
    os.kill(before, signal.SIGINT)
    assert "New Jersey" in written(await soon(ask.step(engine)))
    assert engine.process_id == before


ORPHAN = """
import asyncio, sys
from pathlib import Path
from live_asr.inference.ipc import Load
from live_asr.inference.local_engine import LocalEngine

async def main():
    engine = LocalEngine(
        Load(
            recognizer_name="tiny.en",
            recognizer_folder=Path(sys.argv[1]),
            detector_name="silero-vad",
            detector_file=Path(sys.argv[2]),
            device="cpu",
            compute_type="int8",
            workers=1,
            beam_size=1,
        )
    )
    await engine.start()
    print(engine.process_id, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_server_that_is_killed_leaves_no_process_behind(load: Load) -> None:
    arguments = [sys.executable, "-c", ORPHAN, str(load.recognizer_folder), str(load.detector_file)]
    server = await asyncio.create_subprocess_exec(*arguments, stdout=subprocess.PIPE)
    assert server.stdout is not None
    inference = psutil.Process(int(await asyncio.wait_for(server.stdout.readline(), TIMEOUT)))
    server.kill()
    await server.wait()
    await until(lambda: not inference.is_running() or inference.status() == psutil.STATUS_ZOMBIE)


# Beginning and end --------------------------------------------------------------------------------------


async def test_broken_weights_are_named_with_the_reason(load: Load, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(load.recognizer_folder, broken)
    with (broken / "model.bin").open("r+b") as file:
        file.truncate(1_000_000)
    engine = LocalEngine(replace(load, recognizer_folder=broken))
    with pytest.raises(EngineError, match=r"could not be loaded: \w+Error: .+") as refusal:
        await engine.start()
    assert "Traceback" not in str(refusal.value)
    assert engine.loaded is None and not engine.is_up
    with pytest.raises(EngineError, match="not running"):
        await engine.detect(np.zeros(512, np.float32), SpeechState.initial())
    await engine.close()


async def test_a_detector_that_is_no_model_is_named_with_the_reason(load: Load, tmp_path: Path) -> None:
    file = tmp_path / "silero.onnx"
    file.write_bytes(b"not a model")
    engine = LocalEngine(replace(load, detector_file=file))
    with pytest.raises(EngineError, match="could not be loaded"):
        await engine.start()
    await engine.close()


async def test_closing_leaves_no_process_and_refuses_more_work(load: Load, ask: Asker) -> None:
    async with running(load) as engine:
        process = psutil.Process(process_of(engine))
        unanswered = ask.step(engine, 0.0, 30.0)
        await asyncio.sleep(0)
        await engine.close()
        await engine.close()
        assert not process.is_running()
        with pytest.raises(EngineError, match="shut down"):
            await unanswered
        with pytest.raises(EngineError, match="not running"):
            await engine.detect(np.zeros(512, np.float32), SpeechState.initial())
        assert engine.waiting_count == 0


async def test_a_process_says_which_models_it_has_loaded(
    load: Load, encoder_file: Path, models_dir: Path
) -> None:
    segmentation_file = converted(resolve("segmentation-3.0", models_dir=models_dir))
    telling = replace(load, segmentation_file=segmentation_file, encoder_file=encoder_file)
    for wanted, encoder in ((load, None), (telling, "campplus")):
        async with running(wanted) as engine:
            assert engine.loaded is not None
            names = engine.loaded.recognizer.name, engine.loaded.speaker_encoder_name
            assert names == ("tiny.en", encoder)


async def test_closing_while_models_load_ends_the_wait_for_them(load: Load) -> None:
    engine = LocalEngine(load)
    children = set(psutil.Process().children())
    starting = asyncio.create_task(engine.start())
    await until(lambda: set(psutil.Process().children()) - children)
    await engine.close()
    with pytest.raises(EngineError, match="shut down"):
        await asyncio.wait_for(starting, TIMEOUT)
    assert not [child for child in set(psutil.Process().children()) - children if child.is_running()]


async def test_an_engine_that_was_never_started_refuses_work_and_can_be_closed(load: Load) -> None:
    engine = LocalEngine(load)
    with pytest.raises(EngineError, match="not running"):
        await engine.detect(np.zeros(512, np.float32), SpeechState.initial())
    await engine.close()


async def test_it_tells_what_waits_for_a_lane_by_kind_and_what_a_lane_was_given(
    load: Load, ask: Asker
) -> None:
    given: list[tuple[str, int]] = []
    engine = LocalEngine(load, on_batch=lambda work, count: given.append((work, count)))
    try:
        await engine.start()
        first, second = ask.step(engine), ask.step(engine)
        file = ask.step(engine, budget=FILE_BUDGET)
        await asyncio.sleep(0)
        assert [len(engine.waits(name)) for name in ("detect", "step", "final", "file")] == [0, 1, 0, 1]
        assert min(engine.waits("step") + engine.waits("file")) >= 0
        await asyncio.gather(*map(soon, (first, second, file)))
        assert [engine.waits(name) for name in WORK_NAMES] == [[]] * len(WORK_NAMES)
        assert given == [("step", 1), ("step", 1), ("file", 1)]
    finally:
        await engine.close()


async def test_detections_of_one_moment_go_together_and_are_those_of_each_alone(
    load: Load, sample_audio: Audio
) -> None:
    pieces = [
        sample_audio[samples(start) :][: 512 * count] for start, count in ((7.0, 3), (9.0, 8), (15.0, 1))
    ]
    async with running(load) as engine:
        alone = [await engine.detect(piece, SpeechState.initial()) for piece in pieces]
        together = await asyncio.gather(*(engine.detect(piece, SpeechState.initial()) for piece in pieces))
        bad, good = await asyncio.gather(
            engine.detect(pieces[0][:100], SpeechState.initial()),
            engine.detect(pieces[1], SpeechState.initial()),
            return_exceptions=True,
        )
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one.probabilities, other.probabilities)
        assert np.array_equal(one.state.memory.hidden, other.state.memory.hidden)
        assert np.array_equal(one.state.context, other.state.context)
    assert isinstance(bad, EngineError)
    assert np.array_equal(good.probabilities, alone[1].probabilities)


async def test_what_encoder_and_decoder_did_is_told_with_the_signs_of_life(
    load: Load, sample_audio: Audio
) -> None:
    told: list[tuple[float, int]] = []
    come = asyncio.Event()

    def note(encoder_seconds: float, tokens: int) -> None:
        told.append((encoder_seconds, tokens))
        come.set()

    engine = LocalEngine(load, on_spent=note)
    try:
        await engine.start()
        window = sample_audio[samples(15.0) : samples(20.0)]
        request = DecodeRequest(0, window.size, (), 40, samples(10.0), 0, language="en")
        answer = await engine.recognize(request, window, STEP_BUDGET)
        written = sum(len(word.tokens) for word in answer.hypothesis.words)
        assert written > 0
        async with asyncio.timeout(TIMEOUT):
            while sum(tokens for _, tokens in told) < written:
                come.clear()
                await come.wait()
    finally:
        await engine.close()
    assert sum(seconds for seconds, _ in told) > 0
