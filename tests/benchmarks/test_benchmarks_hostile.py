"""The arithmetic of the suite `hostile`, and that its attackers reach a server."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.base.processes import Sample, Usage
from benchmarks.base.report import Row
from benchmarks.base.speech import RATE_HZ, Clip, decode
from benchmarks.base.streaming import Arrival, SessionLog
from benchmarks.resilience import hostile
from benchmarks.resilience.hostile_attacks import GONE, Attacker, silent_file
from tests.started import StartServer

SECONDS = 60
CLIP = Clip("made up", np.zeros(SECONDS * RATE_HZ, np.int16), None)
WORDS = [f" word{number}" for number in range(SECONDS)]
TOKEN = "long-enough-for-this"


def log_of(words: Sequence[str], *, late: float = 1.0, acked: int = 2 * len(CLIP.audio)) -> SessionLog:
    """A session in which a word is said each second and committed so late; the clock begins at 0."""
    log = SessionLog(CLIP)
    log.sent_ends = [(second + 1) * RATE_HZ for second in range(SECONDS)]
    log.sent_times = [float(second + 1) for second in range(SECONDS)]
    for second, text in enumerate(words):
        word = {"text": text, "start": float(second), "end": second + 1.0}
        commit = {"type": "commit", "seq": second + 1, "utterance": 0, "text": text, "words": [word]}
        log.arrivals.append(Arrival(second + 1 + late, 100, commit))
    log.arrivals.append(Arrival(SECONDS, 10, {"type": "ack", "bytes": acked}))
    stopped = {"type": "stopped", "seq": len(words) + 1, "text": "".join(words), "duration": float(SECONDS)}
    log.arrivals.append(Arrival(SECONDS, 10, stopped))
    log.arrivals.append(Arrival(SECONDS, 10, {"type": "final", "seq": len(words) + 2}))
    return log


def round_of(log: SessionLog, **changes: Any) -> hostile.Round:
    memory, stall = changes.pop("memory", 10**9), changes.pop("stall", 0.05)
    usage = Usage([Sample(0.0, 0.0, {1: 10**9}, stall=0.01), Sample(60.0, 50.0, {1: memory}, stall=stall)])
    return hostile.Round([log], usage, **{"disk_bytes": [10**6], **changes})


def missed(rows: list[Row]) -> list[str]:
    return [row.metric for row in rows if row.passed is False]


def failed(log: SessionLog) -> SessionLog:
    log.failure = "server_full"
    return log


@pytest.mark.parametrize(
    ("beside", "what"),
    [
        (round_of(log_of(WORDS, late=1.2)), []),
        (round_of(log_of(WORDS, late=1.3)), ["p95 of commits, over that alone"]),
        (round_of(failed(log_of(WORDS))), ["sessions of the four that failed"]),
        (round_of(log_of(WORDS, acked=0)), ["bytes of theirs not acknowledged"]),
        (
            round_of(log_of([*WORDS[:20], *WORDS[25:]])),
            ["passages of three words that they have alone and lack here"],
        ),
        (round_of(log_of(WORDS), restarts=1), ["processes replaced"]),
        (round_of(log_of(WORDS), stall=0.2), ["longest stall of the event loop"]),
        (round_of(log_of(WORDS), memory=4 * 10**9), ["memory of all processes, at most"]),
        (round_of(log_of(WORDS), disk_bytes=[1, 3 * 10**9, 1]), ["the data folder, at most"]),
        (
            round_of(log_of(WORDS), told={"wrong tokens": {"401": 5, "200": 1}}),
            ["strangers who were answered"],
        ),
    ],
)
def test_each_harm_is_seen(beside: hostile.Round, what: list[str]) -> None:
    assert missed(hostile.table_of("tiny.en", round_of(log_of(WORDS)), beside).rows) == what


def test_words_that_may_come_later_are_not_missed() -> None:
    last = SECONDS - int(hostile.SETTLING)
    assert hostile.text_until(log_of(WORDS), last) == "".join(WORDS[:last])
    beside = round_of(log_of(WORDS[: last + 2]))
    assert missed(hostile.table_of("tiny.en", round_of(log_of(WORDS)), beside).rows) == []


def test_a_small_file_holds_hours(tmp_path: Path) -> None:
    file = tmp_path / "long.flac"
    file.write_bytes(silent_file())
    assert file.stat().st_size < 2_000_000
    assert len(decode(file)) == 7200 * RATE_HZ


async def test_attacks_reach_a_server_and_are_answered(start_server: StartServer) -> None:
    server = await asyncio.to_thread(start_server, LIVE_ASR_SERVER__TOKEN=TOKEN)
    attacker = Attacker(int(server.url.rsplit(":", 1)[1]), TOKEN)

    async def once(name: str) -> Counter[str]:
        told: Counter[str] = Counter()
        with contextlib.suppress(*GONE):
            await attacker.attacks()[name][0](told)
        return told

    assert await once("many short sessions") == {"ready": 1}
    assert await once("places for nothing") == {"ready": 1}
    assert await once("another host's name") == {"401": 1}
    assert await once("wrong tokens") == {"401": 1}
    assert await once("webhooks inwards") == {"webhook_refused": 1}
    assert (await once("flood before the token")).keys() <= {"401"}
    while not (told := await once("exports"))["200"]:
        assert told.keys() <= {"never read"}
    assert await once("many short sessions") == {"ready": 1}, "it goes on"
