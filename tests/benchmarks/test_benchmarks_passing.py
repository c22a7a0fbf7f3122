"""The arithmetic of the suites `pass` and `webhooks`."""

from __future__ import annotations

from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.pass_memory import (
    MemorySample,
    parse_rollup,
    phase_rows,
    phases,
    positions,
    write_looped,
)
from benchmarks.passing import (
    Live,
    Pass,
    PassRuns,
    factor_rows,
    latency_rows,
    pass_of,
    share_beside,
    table_of,
)
from benchmarks.speech import RATE_HZ, Clip
from benchmarks.streaming import Arrival, SessionLog
from benchmarks.webhook_receiver import ALL_ANSWERS, FOLLOWED, MAX_FAILURES, Request, answer_to
from benchmarks.webhooks import WebhookRuns, instants, judge
from benchmarks.webhooks import table_of as table_of_webhooks

STOPPED: dict[str, Any] = {"type": "stopped"}
FINAL: dict[str, Any] = {"type": "final", "revision": 1, "labels": "full"}


def log_of(*messages: tuple[float, dict[str, Any]], sent: tuple[float, ...] = ()) -> SessionLog:
    """Make the log of a session over 100 s of sound."""
    log = SessionLog(Clip("made up", np.zeros(100 * RATE_HZ, np.int16), None))
    log.arrivals = [Arrival(time, 1, body) for time, body in messages]
    log.sent_times = list(sent)
    return log


def passed(clip: str, seconds: float) -> Pass:
    return Pass(clip, 100.0, seconds, 20.0, 0.0, None)


def live(p95: float, beside: float = 1.0) -> Live:
    return Live(p95 / 2, p95, 200, beside, 0.0, None)


# The full pass -------------------------------------------------------------------------------------------


def test_a_pass_lasts_from_stopped_to_final() -> None:
    found = pass_of(log_of((5.0, STOPPED), (35.0, FINAL)), 25.0, 0.0)
    assert (found.factor, found.cpu_share, found.failure) == (0.3, 0.25, None)


def test_a_session_that_ends_with_its_live_transcript_has_no_pass_however_fast_it_was() -> None:
    found = pass_of(log_of((5.0, STOPPED), (5.1, FINAL | {"labels": "live"})), 0.0, 0.0)
    assert isnan(found.factor)
    assert found.failure == "no full pass: the labels of final are live"


def test_a_failed_session_has_no_pass() -> None:
    log = log_of((5.0, STOPPED))
    log.failure = "closed with 1011"
    assert isnan(pass_of(log, 0.0, 0.0).factor)


@pytest.mark.parametrize(
    ("sent", "share"),
    [
        ((10.0, 30.0), 1.0),
        ((30.0, 50.0), 0.5),
        ((0.0, 20.0), 0.75),
        ((50.0, 60.0), 0.0),
        ((), 0.0),
    ],
)
def test_only_what_was_sent_while_the_pass_ran_lies_beside_it(sent: tuple[float, ...], share: float) -> None:
    other = log_of((5.0, STOPPED), (40.0, FINAL))
    assert share_beside(log_of(sent=sent), other) == pytest.approx(share)


def test_a_session_lies_beside_no_pass_that_did_not_end() -> None:
    assert share_beside(log_of(sent=(10.0, 30.0)), log_of((5.0, STOPPED))) == 0.0


def test_the_worst_clip_is_judged_by_the_median_of_its_repeats() -> None:
    found = [passed("a", 20), passed("b", 90), passed("b", 40), passed("b", 45)]
    row = factor_rows("alone", found)[0]
    assert (row.measured, row.passed) == ("0.45", True)
    assert row.each == {"a": "0.20", "b": "0.45"}


def test_a_clip_without_a_pass_misses_the_target() -> None:
    assert factor_rows("alone", [passed("a", 20), passed("b", float("nan"))])[0].passed is False


def test_latency_beside_is_held_against_alone_by_medians() -> None:
    p95, p50, share = latency_rows([live(1.0), live(2.0), live(9.0)], [live(2.2), live(0.1), live(30.0)])
    assert (p95.measured, p95.passed) == ("1.10", True)
    assert (p50.measured, p50.passed) == ("1.10", None)
    assert share.measured == "100 %"


def test_latency_worse_by_over_15_percent_misses() -> None:
    assert latency_rows([live(1.0)], [live(1.16)])[0].passed is False


def test_latency_that_was_not_measured_misses() -> None:
    assert latency_rows([live(1.0)], [])[0].passed is False


def test_a_live_session_that_outlasts_the_pass_is_called_void() -> None:
    runs = PassRuns("base", live_alone=[live(1.0)], live_beside=[live(1.0, 0.5)], joined=[passed("a", 20)])
    assert "a live session lay beside its pass for 50 % only: its latency is void" in table_of(runs).notes


# Memory --------------------------------------------------------------------------------------------------


def sample(stage: str, fraction: float, own_mb: float) -> MemorySample:
    return MemorySample(0.0, stage, fraction, own_mb + 100, own_mb, 1.0)


def test_memory_is_read_from_the_kernels_sum() -> None:
    text = (
        "5581a000-7ffe6000 ---p 00000000 00:00 0 [rollup]\nRss: 900 kB\nPss: 500000 kB\nPss_Anon: 250000 kB\n"
    )
    assert parse_rollup(text) == (512.0, 256.0)


def test_memory_of_a_kernel_that_does_not_say_is_unknown() -> None:
    assert all(map(isnan, parse_rollup("Rss: 900 kB\n")))


def test_pieces_are_written_over_and_over_to_the_sample(tmp_path: Path) -> None:
    pieces = [np.arange(3, dtype=np.int16), np.arange(10, 12, dtype=np.int16)]
    write_looped(tmp_path / "audio.pcm", pieces, 9)
    assert np.fromfile(tmp_path / "audio.pcm", "<i2").tolist() == [0, 1, 2, 10, 11, 0, 1, 2, 10]


def test_loading_belongs_to_no_phase_and_all_of_diarization_to_one() -> None:
    stages = ["loading", "segmentation", "embeddings", "clustering", "segmentation", "recognition"]
    found = phases([sample(stage, 0.1 * place, 1) for place, stage in enumerate(stages)])
    assert {name: len(each) for name, each in found.items()} == {"diarization": 4, "recognition": 1}


def test_a_phase_goes_over_the_whole_recording() -> None:
    found = positions([sample("recognition", fraction, 1) for fraction in (0.55, 0.775, 1.0)], 7200.0)
    assert found == pytest.approx([0.0, 3600.0, 7200.0])


def test_memory_that_grows_with_the_recording_misses() -> None:
    growing = [sample("recognition", place / 8, 100 + 100 * place) for place in range(9)]
    judged, shown = phase_rows("recognition", growing, 4 * 3600.0)
    assert (judged.measured, judged.passed) == ("4.50", False)
    assert shown.each == {"peak": "1000 MB", "first 30 minutes": "300 MB"}


def test_memory_that_stays_flat_holds() -> None:
    flat = [sample("recognition", place / 8, 300 + place % 2) for place in range(9)]
    assert phase_rows("recognition", flat, 4 * 3600.0)[0].passed is True


def test_a_recording_of_under_half_an_hour_shows_nothing_about_growth() -> None:
    short = [sample("recognition", place / 8, 300) for place in range(9)]
    assert phase_rows("recognition", short, 600.0)[0].passed is None


# Webhooks ------------------------------------------------------------------------------------------------


def request(
    session: str, webhook_id: str = "", effect: bool = True, digest: str = "d", answer: str = "200"
) -> Request:
    return Request(webhook_id or f"msg_{session}", session, answer, effect, digest, 1)


def test_one_effect_for_each_session_is_what_must_be() -> None:
    requests = [request("a", effect=False), request("a"), request("b"), request("b", effect=False)]
    found = judge(["a", "b"], requests, {"a": "delivered", "b": "delivered"})
    assert not any((found.lost, found.doubled, found.strange, found.forged, found.changed, found.open))


def test_a_session_without_an_effect_is_lost_even_where_its_delivery_was_tried() -> None:
    assert judge(["a", "b"], [request("a"), request("b", effect=False)], {}).lost == ["b"]


def test_two_ids_of_one_session_are_two_effects() -> None:
    assert judge(["a"], [request("a", "msg_1"), request("a", "msg_2")], {}).doubled == ["a"]


def test_an_effect_of_a_session_that_there_was_not_is_seen() -> None:
    assert judge([], [request("x")], {}).strange == ["x"]


def test_what_the_library_refuses_counts_as_forged() -> None:
    assert judge(["a"], [request("a"), request("", "msg_9", effect=False)], {}).forged == 1


def test_another_body_under_the_same_id_is_seen() -> None:
    assert judge(["a"], [request("a"), request("a", effect=False, digest="e")], {}).changed == ["msg_a"]


def test_a_delivery_that_the_server_still_means_to_make_is_open() -> None:
    assert judge(["a", "b"], [], {"a": "pending"}).open == ["a", "b"]


def test_a_delivery_that_was_refused_for_good_must_be_dead_and_no_other() -> None:
    requests = [request("a", answer="410"), request("b", answer="410"), request("c")]
    found = judge(["a", "b", "c"], requests, {"a": "dead", "b": "delivered", "c": "dead"})
    assert (found.open, found.lost) == (["b", "c"], [])


def test_a_redirect_that_was_followed_is_seen() -> None:
    assert judge(["a"], [request("a", effect=False, answer=FOLLOWED), request("a")], {}).followed == 1


def test_the_table_of_a_run_without_all_its_effects_misses_and_names_them() -> None:
    table = table_of_webhooks("tiny.en", WebhookRuns(7, sessions=["a"]))
    missed = [row.metric for row in table.rows if row.passed is False]
    assert "sessions that nobody was told of" in missed
    assert table.notes[:2] == ["seed 7", "**lost**: ['a']"]


def test_the_same_seed_kills_and_answers_in_the_same_way() -> None:
    assert instants(3, 30) == instants(3, 30) != instants(4, 30)
    assert [answer_to(3, 8, tries) for tries in range(3)] == [answer_to(3, 8, tries) for tries in range(3)]


def test_a_receiver_fails_in_every_way_at_first_and_takes_everything_later() -> None:
    assert {answer_to(1, number, 0, ALL_ANSWERS)[0] for number in range(200)} == set(ALL_ANSWERS)
    assert {answer_to(1, number, MAX_FAILURES, ALL_ANSWERS)[0] for number in range(200)} == {"200"}
