"""The arithmetic of the suite `beside`."""

from __future__ import annotations

import pytest

from benchmarks.beside import Runs, details, table_of
from benchmarks.measure import SessionMeasures
from benchmarks.passing import Pass
from benchmarks.processes import Sample, Usage
from benchmarks.table import Run


def live(latency: float, cpu_seconds: float, text: str = " Hello.", failure: str | None = None) -> Run:
    """Make one live session of 10 s."""
    session = SessionMeasures("made up", 10.0, failure, text)
    session.commit_latencies = session.first_latencies = [latency]
    return Run([session], Usage([Sample(0.0, 0.0, {1: 100}), Sample(10.0, cpu_seconds, {1: 100})]))


def passed(seconds: float) -> Pass:
    return Pass("made up", 100.0, seconds, 10.0, 0.0, None)


def rows(runs: Runs) -> dict[str, tuple[str, bool | None]]:
    return {row.metric: (row.measured, row.passed) for row in table_of("tiny.en", runs).rows}


@pytest.mark.parametrize(("latency", "holds"), [(1.02, True), (1.05, False)])
def test_medians_of_both_trees_are_compared_clip_by_clip(latency: float, holds: bool) -> None:
    there, here = [live(1.0, 3.0), live(9.0, 3.0), live(1.0, 3.0)], [live(latency, 3.0)] * 3
    found = rows(Runs(live={"one": {"there": there, "here": here}, "two": {"there": here, "here": here}}))
    ratio = (latency + 1) / 2
    assert found["commit latency p95, here / there"] == (f"{ratio:.3f}", ratio <= 1.03)
    assert found["CPU seconds per second of audio, live, here / there"] == ("1.000", True)
    one = rows(Runs(live={"one": {"there": there, "here": here}}))
    assert one["first appearance p50, here / there"][1] is holds


def test_other_words_and_failures_are_told() -> None:
    runs = Runs(live={"one": {"there": [live(1, 3)], "here": [live(1, 3, " Hello!", "closed with 1011")]}})
    found = rows(runs)
    assert found["one: the same words"][0] == "no"
    assert found["sessions that failed"] == ("1", False)
    assert details(runs)["live"]["one"]["here"][0]["sessions"][0]["failure"] == "closed with 1011"


@pytest.mark.parametrize(("seconds", "holds"), [(12.0, True), (12.5, False)])
def test_a_full_pass_may_take_a_fifth_longer(seconds: float, holds: bool) -> None:
    found = rows(Runs(passes={"one": {"there": [passed(10.0)], "here": [passed(seconds)]}}))
    assert found["full pass, seconds per second of audio, here / there"][1] is holds
