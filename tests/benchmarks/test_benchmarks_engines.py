"""The arithmetic of the suite `engines`."""

from __future__ import annotations

import os

import psutil
import pytest

from benchmarks.load.engines import HERE, RAY, Run, cpu_of, table_of


def one(p95: float, cpu: float, text: str = "as it was said", failure: str | None = None) -> Run:
    return Run("talk", 1.0, p95, cpu, 0.01, text, failure)


@pytest.mark.parametrize(
    ("by_ray", "missed"),
    [
        (one(2.05, 0.23), []),
        (one(2.07, 0.20), ["commit p95, Ray's above the own process's"]),
        (one(2.0, 0.24), ["CPU of what serves sessions, Ray's over the own process's"]),
        (one(2.0, 0.2, failure="closed"), ["sessions that failed"]),
    ],
)
def test_what_ray_may_cost(by_ray: Run, missed: list[str]) -> None:
    table = table_of("tiny.en", {HERE: [one(2.0, 0.2)] * 2, RAY: [by_ray] * 2})
    assert [row.metric for row in table.rows if row.passed is False] == missed


def test_a_process_counts_with_what_it_took_and_what_it_is_for() -> None:
    ((serves, seconds),) = cpu_of([psutil.Process()]).values()
    assert serves == any("live_asr" in part for part in psutil.Process(os.getpid()).cmdline())
    assert seconds > 0
