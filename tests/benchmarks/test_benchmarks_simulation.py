"""Many sessions on a device that is computed: the server's scheduler carries what it is meant to."""

from __future__ import annotations

import pytest

from benchmarks.load.simulation import LANES, main, simulate


def test_one_h200_carries_160_who_speak_all_the_time() -> None:
    outcome = simulate(160, seconds=30.0)
    assert outcome.p95 <= 2.0
    assert outcome.p50 >= 0.7  # nobody is quicker than the audio that two steps have to hear
    assert len(outcome.latencies) > 160 * 40


def test_batches_across_sessions_carry_more_than_one_window_at_a_time() -> None:
    alone, batched = (simulate(200, seconds=30.0, most_batch=most) for most in (1, 24))
    assert max(alone.batches) == 1 < max(batched.batches)
    assert batched.p95 < alone.p95


def test_whatever_is_too_much_delays_all_alike_and_starves_nobody() -> None:
    outcome = simulate(2000, seconds=60.0)
    assert outcome.device_share > 0.95
    # A word is committed after two turns of everybody, and a turn is what the encoder takes for all.
    assert outcome.p95 < 3 * 2000 * 0.004


def test_five_thousand_sessions_are_scheduled_for_thirty_devices() -> None:
    outcome = simulate(5000, devices=30, seconds=12.0)
    assert outcome.p95 <= 2.0
    assert len(outcome.batches) > 30 * LANES


def test_it_says_what_came_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--sessions", "5", "10", "--seconds", "12"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["sessions", "5", "10"]
