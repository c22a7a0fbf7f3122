"""The suite `load`: clients in processes of their own, real servers, and the arithmetic of its tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.base.options import Options
from benchmarks.base.processes import BenchServer, knows_admission
from benchmarks.base.reference import Reference, ReferenceWord
from benchmarks.base.speech import Clip
from benchmarks.base.streaming import Arrival, SessionLog
from benchmarks.load.clients import (
    Seat,
    Visit,
    Wave,
    groups_of,
    in_turn,
    lag_between,
    latencies_of,
    play_wave,
    text_of,
)
from benchmarks.load.suite import (
    HERE,
    THERE,
    Bench,
    Cost,
    Search,
    beyond_table,
    cost_of,
    limit_table,
    mixed_table,
    simulated_table,
    stable_table,
)
from benchmarks.run import SUITES, parser
from tests.started import MODEL, ROOT

SILENT = Clip("silent", np.zeros(16_000, np.int16), None)
WAVE = Wave(4, 1.0, 2.0, 300, 0.05, 0.05, 0, "", 0.2, 0.1, 0.0, 0.01, 0.005, 0.01)


def verdicts(table: Any) -> dict[str, bool | None]:
    return {row.metric: row.passed for row in table.rows}


def visited(*told: float, admitted: bool = True) -> Visit:
    log = SessionLog(SILENT, failure=None if admitted else "server_full: All places are taken.")
    if admitted:
        log.arrivals.append(Arrival(1.0, 10, {"type": "ready"}))
    return Visit(log, tuple(0.1 for _ in told), told)


@pytest.fixture
def bench(models_dir: Path) -> Bench:
    options = Options((MODEL,), ("sample",), 8.0, 1, "en", models_dir)
    return Bench(options, MODEL, {HERE: None}, 0.05, 2, 1)


# Arithmetic --------------------------------------------------------------------------------------------


def test_a_promise_is_kept_where_a_place_was_there_the_next_time() -> None:
    met = [visited(), visited(5.0), visited(5.0, 7.0), visited(5.0, 7.0, 9.0, admitted=False)]
    assert [(one.kept_promises, one.promises) for one in met] == [(0, 0), (1, 1), (1, 2), (0, 2)]
    found = beyond_table("tiny.en", 2, WAVE, met, {})
    assert verdicts(found)["of 5 who came back when told to, found a place"] is False
    good = beyond_table("tiny.en", 2, WAVE, [visited(), visited(5.0)], {})
    assert verdicts(good)["of 1 who came back when told to, found a place"] is True
    assert verdicts(good)["slowest refusal"] is True


def test_clients_are_divided_among_processes_and_play_in_turn() -> None:
    seats = in_turn([SILENT, replace(SILENT, name="other")], 23)
    assert [seat.clip.name for seat in seats[:3]] == ["silent", "other", "silent"]
    groups = groups_of("ws://nowhere", seats, None)
    assert sorted(len(group.seats) for group in groups) == [7, 8, 8]
    assert {seat.after for group in groups for seat in group.seats} == {seat.after for seat in seats}


def test_the_search_ends_between_what_held_and_what_did_not() -> None:
    search = Search({4: WAVE, 8: WAVE, 16: replace(WAVE, p95=5.1)})
    assert (search.held, search.following(64)) == (8, 12)
    search.waves[12] = replace(WAVE, failed=1)
    assert search.following(64) == 10


def test_both_trees_are_held_against_each_other() -> None:
    few = {1: [WAVE, WAVE], 4: [WAVE, WAVE]}
    there = Search({4: WAVE, 8: WAVE, 9: replace(WAVE, p95=6.0)}, few)
    dear = {count: [replace(wave, cpu_share=0.16) for wave in waves] for count, waves in few.items()}
    here = Search({4: WAVE, 12: WAVE, 13: replace(WAVE, p95=6.0)}, dear)
    found = limit_table("tiny.en", {THERE: there, HERE: here})
    assert {metric for metric, passed in verdicts(found).items() if passed is False} == set()
    other = limit_table("tiny.en", {THERE: here, HERE: there})
    assert {metric for metric, passed in verdicts(other).items() if passed is False} == {
        "the same, here over there",
        "1 session: CPU a second of audio, here over there",
        "4 sessions: CPU a second of audio, here over there",
    }


def test_words_of_a_clip_that_was_cut_are_not_taken_for_those_behind_the_cut() -> None:
    said = tuple(ReferenceWord(f" {word}", at, at + 0.5) for at, word in enumerate(["the", "cat", "the"]))
    log = SessionLog(replace(SILENT, audio=np.zeros(24_000, np.int16)), sent_ends=[24_000], sent_times=[10.0])
    words = [{"text": " the"}]
    log.arrivals.append(Arrival(12.0, 30, {"type": "commit", "text": " the", "words": words}))
    whole = Reference("tiny.en", "en", "", said)
    assert latencies_of(log, {"silent": whole}) == [2.0]
    log.sent_ends, log.sent_times = [8_000, 24_000], [5.0, 10.0]
    assert latencies_of(log, {"silent": whole}) == [7.0]


def test_a_lag_that_grows_is_not_stable() -> None:
    log = SessionLog(SILENT, started=100.0)
    for second in range(300):
        body = {"type": "lag", "seconds": second / 100}
        log.arrivals.append(Arrival(100.0 + second, 30, body))
    assert lag_between([log], 99.5, 101.5) == pytest.approx(1.005)
    growing = stable_table("tiny.en", 300.0, WAVE, [log])
    assert growing.rows[0].passed is False
    steady = SessionLog(SILENT, started=100.0)
    steady.arrivals = [replace(told, message={"type": "lag", "seconds": 2.0}) for told in log.arrivals]
    assert stable_table("tiny.en", 300.0, WAVE, [steady]).rows[0].passed is True


@pytest.mark.parametrize(("p95", "holds"), [(2.4, True), (2.6, False)])
def test_trouble_may_cost_others_a_quarter(p95: float, holds: bool) -> None:
    waves = {"alone": [WAVE] * 2, "beside": [replace(WAVE, p95=p95)] * 2}
    assert mixed_table("tiny.en", waves, "").rows[0].passed is holds


def test_the_servers_own_cost_is_held_against_the_other_tree() -> None:
    cheap, dear = Cost(0.006, 0.003, 0.004, WAVE), Cost(0.0157, 0.0103, 0.0113, WAVE)
    found = verdicts(simulated_table({50: {HERE: [cheap], THERE: [dear]}}))
    metric = "50 sessions: CPU of {}, a session and second, here over there"
    assert found[metric.format("the server process")] is True
    assert found[metric.format("speech detection")] is True
    other = verdicts(simulated_table({50: {HERE: [dear], THERE: [cheap]}}))
    assert other[metric.format("the server process")] is False


def test_the_command_line_reads_what_the_suite_asks() -> None:
    given = ["load", "--against", "/elsewhere", "--most", "8", "--parts", "limit,mixed", "--seconds", "9"]
    arguments = parser().parse_args(given)
    assert (arguments.against, arguments.most, arguments.seconds) == (Path("/elsewhere"), 8, 9.0)
    assert set(SUITES["load"].clips) == {"talk5_lj", "conv2_public"}
    with pytest.raises(ValueError, match="names another checkout"):
        SUITES["load"].run(Options(("tiny.en",), (), 9.0, 1, None, None), arguments)


def test_checkouts_before_admission_by_load_are_told(tmp_path: Path) -> None:
    assert knows_admission(None)
    assert knows_admission(ROOT)
    assert not knows_admission(tmp_path)


# Real servers ------------------------------------------------------------------------------------------


def test_sessions_from_other_processes_are_measured(bench: Bench) -> None:
    with bench.server() as server:
        wave, visits = bench.wave(server, in_turn(bench.clips, 2), "two sessions")
    assert (wave.sessions, wave.failed, wave.failure) == (2, 0, "")
    assert wave.words >= 2
    assert wave.cpu_share > 0.01
    assert all(text_of(visit.log).strip() for visit in visits)


def test_who_is_refused_is_told_when_to_come_back(bench: Bench) -> None:
    settings = {"LIVE_ASR_SERVER__MAX_SESSIONS": "1"}
    with BenchServer(MODEL, models_dir=bench.options.models_dir, settings=settings) as server:
        wave, visits = play_wave(server, [Seat(bench.clips[0]), Seat(bench.clips[0])], {}, "en")
    (admitted,) = [visit for visit in visits if visit.was_admitted]
    (refused,) = [visit for visit in visits if not visit.was_admitted]
    assert (admitted.told, refused.promises) == ((), 0)
    assert refused.told[0] >= 1 and refused.refused_after[0] > 0
    assert wave.failed == 1 and "server_full" in wave.failure


def test_a_simulated_device_takes_whispers_place_in_a_server(bench: Bench) -> None:
    with bench.server(simulated=True) as server:
        cost = cost_of(bench, server, 2, 12.0)  # nobody speaks in the first seven
    assert (cost.wave.sessions, cost.wave.failed, cost.wave.failure) == (2, 0, "")
    assert cost.wave.words >= 4
    assert cost.server > 0
    assert 0 < cost.detection <= cost.inference
