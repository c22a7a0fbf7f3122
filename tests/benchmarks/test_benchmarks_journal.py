"""The arithmetic of the suite `journal`."""

from __future__ import annotations

import numpy as np

from benchmarks.base.speech import Clip
from benchmarks.base.streaming import Arrival, SessionLog
from benchmarks.load.journal import Hour, Look, acknowledged_after, hour_table


def test_each_piece_waits_for_the_first_acknowledgement_that_covers_it() -> None:
    log = SessionLog(Clip("said", np.zeros(4_800, np.int16), None))
    log.sent_ends, log.sent_times = [1_600, 3_200, 4_800], [1.0, 1.1, 1.2]
    log.arrivals = [
        Arrival(1.25, 10, {"type": "ack", "bytes": 3_200}),
        Arrival(1.5, 10, {"type": "ack", "bytes": 6_400}),
    ]
    np.testing.assert_allclose(acknowledged_after(log), [0.25, 0.4])  # the last was never acknowledged


def look(seconds: float, audio: int) -> Look:
    return Look(seconds, {"journal_audio": audio, "sessions": round(seconds)}, {}, round(seconds), 0)


def missed(sizes: list[int]) -> list[str]:
    course = Hour([look(10.0 * number, size) for number, size in enumerate(sizes)])
    return [row.metric for row in hour_table(course).rows if row.passed is False]


def test_a_table_that_grows_with_what_is_finished_does_not_hold() -> None:
    assert missed([1, 5, 9, 8, 9, 9, 8]) == []
    assert missed([1, 2, 3, 4, 5, 6, 7]) == [
        "journal_audio: median of the last third over that of the second"
    ]


def test_one_high_wave_is_no_growth() -> None:
    assert missed([8, 9, 8, 9, 8, 9, 8, 12, 8, 9]) == []
