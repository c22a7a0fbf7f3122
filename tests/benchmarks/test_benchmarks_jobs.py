"""The suite `jobs` judges by effects: each id once, however often it was asked."""

from __future__ import annotations

import numpy as np

from benchmarks.jobs import KillRun, judge, kill_table
from benchmarks.jobs_speed import looped
from benchmarks.recordings import Recording
from benchmarks.speaker_measures import Said, Turn
from benchmarks.speech import RATE_HZ, Clip

RUBBISH = ["rubbish 0", "rubbish 1"]


def run_of(*told: tuple[str, int, str], dead: list[str] | None = None) -> KillRun:
    return KillRun(1, jobs=[0, 1], told=list(told), dead=RUBBISH if dead is None else dead)


def test_a_job_that_is_told_again_under_its_id_has_one_effect() -> None:
    found = judge(run_of(("a", 0, "success"), ("a", 0, "success"), ("b", 1, "success")), RUBBISH)
    assert (found.lost, found.doubled, found.failed, found.strange) == ([], [], [], [])
    assert (found.wrongly_dead, found.missing_dead) == (0, 0)
    rows = kill_table(run_of(("a", 0, "success"), ("b", 1, "success")), RUBBISH).rows
    assert all(row.passed in (True, None) for row in rows)


def test_what_does_not_hold_is_found() -> None:
    run = run_of(
        ("a", 0, "success"), ("b", 0, "success"), ("c", 7, "failed"), dead=["rubbish 0", "rubbish 0", "{}"]
    )
    found = judge(run, RUBBISH)
    assert (found.lost, found.doubled, found.strange) == ([1], [0], [7])
    assert (found.wrongly_dead, found.missing_dead) == (1, 2)
    assert judge(run_of(("a", 0, "failed")), RUBBISH).failed == [0]


def test_recordings_follow_each_other_with_their_words_and_turns_at_their_places() -> None:
    clip = Clip("one", np.zeros(2 * RATE_HZ, np.int16), None)
    one = Recording(clip, None, [Turn(0.5, 1.0, "A")], [Said(0.5, 1.0, "A", "hello")])  # type: ignore[arg-type]
    audio, words, turns = looped([one], 5.0)
    assert len(audio) == 6 * RATE_HZ
    assert words == "hello hello hello"
    assert [turn.start for turn in turns] == [0.5, 2.5, 4.5]
