"""The suite `gpu` measures what there is, on a CPU too, and goes on where it was cut."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.base.options import Options
from benchmarks.gpu import suite
from benchmarks.gpu.calls import FIRST, Calls, Order, cell_name, lanes_name
from benchmarks.gpu.kept import Clock, Kept
from benchmarks.gpu.sessions import Wave
from benchmarks.gpu.shapes import TURBO, Shape, written
from benchmarks.gpu.tables import costs_of, tables_of
from live_asr.cli.bench import next_count
from live_asr.inference.costs import H200
from tests.started import MODEL

SMALL = Shape("small", width=64, heads=2, encoder_layers=2, decoder_layers=2, mel_bins=128)
PLAN = replace(
    suite.CPU,
    windows=(10.0,),
    batches=(1, 2),
    compute_types=("int8",),
    clip_seconds=14.0,
    most_sessions=1,
)
CALLED = f"{MODEL} int8"


@pytest.fixture
def options(models_dir: Path) -> Options:
    return Options((MODEL,), ("sample",), PLAN.clip_seconds, 1, "en", models_dir)


# A model of a shape ----------------------------------------------------------------------------------------


def test_a_model_of_a_shape_is_called_as_a_trained_one_and_writes_as_long_as_it_may(tmp_path: Path) -> None:
    audio = tmp_path / "audio.npy"
    np.save(audio, np.zeros(16_000, np.float32))
    with written(SMALL) as folder:
        calls = Calls(Order(str(folder), "cpu", "int8", str(audio), (), (), 10.0))
        features = calls.features(10.0, 2)
        encoded = calls.model.encode(features)
        tokens = calls.write(encoded, 2, 12)
        calls.align(encoded, tokens, 10.0)
        languages = calls.model.detect_language(encoded)
    assert features.shape == (2, 128, 1000)
    assert list(map(len, tokens)) == [12, 12]
    assert calls.model.is_multilingual and calls.model.prefix_at_once
    assert len(languages) == SMALL.languages


def test_turbos_shape_has_as_many_tokens_as_turbo() -> None:
    tokens = TURBO.vocabulary
    assert len(set(tokens)) == len(tokens) == 51_866
    assert (tokens.index("<|startoftranscript|>"), tokens.index("<|notimestamps|>")) == (50_258, 50_364)


# What is kept ----------------------------------------------------------------------------------------------


def test_a_run_that_was_cut_is_taken_up_and_one_of_another_machine_is_not(tmp_path: Path) -> None:
    path = tmp_path / "gpu.cut.json"
    first = Kept.resumed(path, {"gpu": "one", "windows": (10.0, 30.0)})
    first.keep("tiny.en int8/first", {"load": 0.5})
    again = Kept.resumed(path, {"gpu": "one", "windows": (10.0, 30.0)})
    assert (again.found, again.from_before) == ({"tiny.en int8/first": {"load": 0.5}}, 1)
    other = Kept.resumed(path, {"gpu": "another", "windows": (10.0, 30.0)})
    assert (other.found, other.from_before) == ({}, 0)
    path.write_text('{"about"')
    assert Kept.resumed(path, first.about).found == {}


# The search for the limit --------------------------------------------------------------------------------


def test_sessions_double_until_it_is_too_many_and_then_the_limit_is_closed_in_on() -> None:
    tried, held, broke = [], 0, None
    while count := next_count(held, broke, first=16, most=1024):
        tried.append(count)
        held, broke = (count, broke) if count <= 100 else (held, count)
    assert tried == [16, 32, 64, 128, 96, 112, 104]
    assert next_count(0, 16, first=16, most=1024) == 8
    assert next_count(0, 1, first=1, most=64) is None
    assert next_count(64, None, first=1, most=64) is None


def test_a_wave_holds_with_commits_in_time_and_nobody_lost() -> None:
    wave = Wave(4, 1.0, 1.9, 300, 0.04, 0, "", 0.01, 1.5)
    assert wave.holds
    assert not replace(wave, p95=2.1).holds
    assert not replace(wave, failed=1).holds
    assert not replace(wave, p95=float("nan")).holds


# Costs -----------------------------------------------------------------------------------------------------


def test_costs_that_were_measured_come_back_as_the_table_they_were_made_with() -> None:
    cells = {
        (window, batch): {
            "encode": H200.encoding(window, batch),
            "step": H200.step + batch * H200.step_item,
            "align": H200.align + batch * H200.align_item,
        }
        for window, _ in H200.encode
        for batch in (1, 8, 24)
    }
    assert costs_of(cells) == H200
    assert costs_of({cell: found for cell, found in cells.items() if cell[1] == 1}) is None


# All of it, on a CPU -------------------------------------------------------------------------------------


def test_calls_are_measured_and_what_is_kept_is_not_measured_again(options: Options, tmp_path: Path) -> None:
    path = tmp_path / "gpu.cut.json"
    kept = Kept.resumed(path, {"device": "cpu"})
    assert suite.measure(PLAN, options, kept, Clock.of(300), device="cpu", parts=("calls",)) == []
    names = [FIRST, cell_name(10.0, 1), cell_name(10.0, 2), lanes_name(1)]
    assert sorted(kept.under(f"{CALLED}/")) == sorted(names)
    assert kept.found[f"{CALLED}/{cell_name(10.0, 1)}"]["tokens"] > 4  # it heard somebody speak
    titles = [table.title for table in tables_of(kept)]
    assert titles[1:] == [f"{CALLED}: calls", f"{CALLED}: two lanes"]

    cut = Kept.resumed(path, {"device": "cpu"})
    measured = dict(cut.found)
    del cut.found[f"{CALLED}/{cell_name(10.0, 2)}"]
    assert suite.measure(PLAN, options, cut, Clock.of(300), device="cpu", parts=("calls",)) == []
    anew = [name for name in measured if cut.found[name] != measured[name]]
    assert anew == [f"{CALLED}/{cell_name(10.0, 2)}"]


def test_what_time_did_not_suffice_for_is_said(options: Options) -> None:
    notes = suite.measure(PLAN, options, Kept(), Clock.of(0), device="cpu", parts=("calls",))
    assert notes == [f"{CALLED}: first, 10 s x 1, 10 s x 2, lanes x 1 (no time was left)"]


def test_a_session_is_played_to_a_real_server_and_its_words_are_held_against_what_was_said(
    options: Options,
) -> None:
    kept = Kept()
    assert suite.measure(PLAN, options, kept, Clock.of(300), device="cpu", parts=("sessions",)) == []
    wave = Wave(**kept.found[f"sessions {MODEL}/1"])
    assert (wave.sessions, wave.failed, wave.failure) == (1, 0, "")
    assert wave.words > 5
    assert wave.wer is not None and wave.wer < 0.6
    assert kept.found[f"sessions {MODEL}/ready"]["seconds"] > 0
    (table,) = tables_of(kept)
    assert [row.metric for row in table.rows][:2] == ["1 sessions", "carried with commits within 2 s (p95)"]
