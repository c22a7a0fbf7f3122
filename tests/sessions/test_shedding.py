"""What a live session does without while the recogniser is loaded: in the stated order, and back again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from live_asr.core.relief import NO_RELIEF, Relief
from live_asr.core.types import samples
from live_asr.sessions.shedding import EXCUSED, MOST_EXCUSED, Cadence, Shed, Shedding


def after(waited: float, took: float, count: int = 50) -> Shedding:
    """Return what is shed once answers have taken so long for a while."""
    shedding = Shedding(Cadence())
    for _ in range(count):
        shedding.note(waited, took)
    return shedding


@pytest.mark.parametrize(
    ("waited", "took", "level", "step"),
    [
        pytest.param(0.0, 0.1, Shed.NOTHING, 0.7, id="in time"),
        pytest.param(0.1, 0.3, Shed.NOTHING, 0.7, id="a little late"),
        pytest.param(0.2, 0.2, Shed.SPEAKERS, 0.7, id="late"),
        pytest.param(0.25, 0.2, Shed.FIRST_WORDS, 0.7, id="later"),
        pytest.param(0.32, 0.15, Shed.LOOK_BACK, 0.7, id="later still"),
        pytest.param(0.5, 0.2, Shed.CADENCE, 1.0, id="loaded"),
        pytest.param(1.2, 0.2, Shed.CADENCE, 1.5, id="overloaded"),
        pytest.param(2.0, 0.2, Shed.AGREEMENT, 1.5, id="no time for a second decode"),
    ],
)
def test_what_is_shed_depends_on_how_late_answers_are(
    waited: float, took: float, level: Shed, step: float
) -> None:
    shedding = after(waited, took)
    assert (shedding.level, shedding.step_samples) == (level, samples(step))


def test_what_was_shed_comes_back_when_answers_do() -> None:
    shedding = after(3.0, 0.2)
    assert shedding.is_overloaded and shedding.level is Shed.AGREEMENT
    for _ in range(50):
        shedding.note(0.0, 0.1)
    assert not shedding.is_overloaded and shedding.level is Shed.NOTHING


def test_one_late_answer_is_no_load() -> None:
    shedding = after(0.0, 0.1)
    shedding.note(0.5, 0.1)
    assert shedding.level is Shed.NOTHING


def test_what_an_outage_made_late_is_no_load() -> None:
    shedding = after(0.0, 0.1)
    for since_change in (0.0, 3.0, EXCUSED - 0.1):
        shedding.note(6.0, 0.4, since_change=since_change)
    assert shedding.level is Shed.NOTHING and not shedding.is_overloaded
    for _ in range(20):
        shedding.note(6.0, 0.4, since_change=EXCUSED)
    assert shedding.level is Shed.AGREEMENT


def test_where_workers_come_and_go_all_the_time_that_is_load() -> None:
    shedding = after(0.0, 0.1)
    answers = 0
    while shedding.level is Shed.NOTHING:
        shedding.note(3.0, 0.2, since_change=2.0)
        answers += 1
        assert answers * 3.2 < MOST_EXCUSED + 10.0
    assert answers * 3.2 >= MOST_EXCUSED


def test_each_step_goes_with_those_before_it() -> None:
    assert after(0.2, 0.2).relief == NO_RELIEF
    assert after(0.25, 0.2).relief == Relief(first_words=True)
    assert after(0.5, 0.2).relief == Relief(first_words=True, look_back=True)
    assert after(2.0, 0.2).relief == Relief(first_words=True, look_back=True, agreement=True)


@pytest.mark.parametrize("took", [0.4, 0.7, 5.0])
def test_a_slow_model_alone_has_longer_steps_and_all_else_as_it_should_be(took: float) -> None:
    shedding = after(0.0, took)
    assert shedding.relief == NO_RELIEF
    assert not shedding.speakers_give_way
    assert shedding.level is (Shed.CADENCE if took > 0.5 else Shed.NOTHING)


@given(st.floats(0, 10), st.floats(0, 10))
def test_the_later_answers_come_the_more_is_shed(one: float, other: float) -> None:
    less, more = sorted([one, other])
    assert after(less, 0.1).level <= after(more, 0.1).level
