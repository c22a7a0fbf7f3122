"""What workers are called: servers find each other's, and only those that say the same words."""

from __future__ import annotations

from dataclasses import replace

from live_asr.cluster.names import Names
from live_asr.cluster.pool import pool_of
from live_asr.config.settings import load_settings
from live_asr.inference.ipc import Pool


def pool(**flags: object) -> Pool:
    asked = {"inference.engine": "ray://head:10001"} | {
        name.replace("__", "."): v for name, v in flags.items()
    }
    found = pool_of(load_settings(flags=asked, environment={}).settings)
    assert found is not None
    return found


def test_a_machine_that_recognises_by_itself_has_no_pool() -> None:
    assert pool_of(load_settings(environment={}).settings) is None


def test_servers_of_the_same_settings_share_workers_however_they_reach_them() -> None:
    one = pool()
    other = replace(one, address="10.0.0.1:6379", most=3, idle_seconds=1.0)
    assert Names(one).of(0) == Names(other).of(0)
    assert Names(one).slot_of(Names(other).of(17)) == 17


def test_servers_whose_words_would_differ_do_not() -> None:
    names = {
        Names(pool(**flags)).of(0)
        for flags in (
            {},
            {"models__recognizer": "small"},
            {"inference__beam_size": 1},
            {"inference__device": "cpu"},
        )
    }
    assert len(names) == 4
    assert Names(pool()).slot_of(Names(pool(models__recognizer="small")).of(0)) is None
    assert Names(pool()).slot_of("somebody else") is None
