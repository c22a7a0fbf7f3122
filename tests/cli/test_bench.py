"""`live-asr bench`: real sessions against a server of its own, and what is drawn of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from live_asr.cli.bench import BenchOptions, Wave, held_of, next_count, percentile, report, speech_of
from live_asr.cli.bench_playing import cpu_seconds_of
from live_asr.cli.bench_plot import Point, plot
from live_asr.core.errors import MediaError

SVG = "{http://www.w3.org/2000/svg}"


def wave(sessions: int, p95: float, *, failed: int = 0) -> Wave:
    return Wave(sessions, p95 / 2, p95, 40, failed, "lost" if failed else "", 0.5, 0.4, 0.1, 0.01)


def test_what_was_found_is_a_table_and_a_sentence() -> None:
    options = BenchOptions(Path("talk.wav"), "tiny.en")
    waves = [wave(4, 1.5), wave(8, 3.2), wave(9, 5.5), wave(16, 9.0)]
    told = report(options, waves, 7)
    assert "This machine holds 8 sessions of tiny.en at p95 ≤ 5 s." in told
    assert "takes 7 to begin with" in told
    assert len([line for line in told.splitlines() if " s " in line and "%" in line]) == 4
    assert held_of([wave(4, 1.5, failed=1)], 5.0) == 0
    assert "does not hold one session" in report(options, [wave(1, 6.0)], 1)
    assert "holds 4 sessions or more" in report(options, [wave(4, 1.5)], 4)


def test_the_search_closes_in_from_both_sides() -> None:
    tried, held, broke = [], 0, None
    while count := next_count(held, broke, 1, 64):
        tried.append(count)
        held, broke = (count, broke) if count <= 11 else (held, count)
    assert tried == [1, 2, 4, 8, 16, 12, 10, 11]


def test_percentiles_are_values_that_were_seen() -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 3.0
    assert percentile([1.0], 0.95) == 1.0
    assert percentile([], 0.5) != percentile([], 0.5)


def test_the_plot_is_svg_with_a_line_of_each_kind() -> None:
    points = [Point(1, 0.8, 1.5, 0.3), Point(4, 1.0, 2.5, 1.1), Point(8, float("nan"), 40.0, 1.9)]
    root = ElementTree.fromstring(plot(points, target=5.0, held=4, predicted=6))
    lines = [found.get("points", "").split() for found in root.iter(f"{SVG}polyline")]
    assert list(map(len, lines)) == [2, 3, 3]
    texts = [found.text for found in root.iter(f"{SVG}text")]
    assert {"p50", "p95", "cores", "holds: 4", "predicted: 6"} <= set(texts)
    without = ElementTree.fromstring(plot([Point(1, 0.8, 1.5)], target=5.0, held=1, predicted=1))
    assert len(list(without.iter(f"{SVG}polyline"))) == 2


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux tells by /proc")
def test_the_cpu_of_a_process_is_that_of_its_children_too() -> None:
    code = "import sys; sum(range(10**7)); print('done', flush=True); sys.stdin.read()"
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None and child.stdin is not None
    child.stdout.readline()
    own, all_of_it = cpu_seconds_of(child.pid), cpu_seconds_of(os.getpid())
    child.stdin.close()
    child.stdout.close()
    child.wait()
    assert own is not None and all_of_it is not None
    assert 0 < own < all_of_it
    assert cpu_seconds_of(child.pid) is None


def test_a_recording_with_no_sound_to_speak_of_is_refused(sample_wav: Path, tmp_path: Path) -> None:
    assert len(speech_of(sample_wav, 5.0)) >= 15 * 32_000
    short = tmp_path / "short.wav"
    short.write_bytes(sample_wav.read_bytes()[:44_000])
    with pytest.raises(MediaError, match="less than 4 s"):
        speech_of(short, 5.0)


def test_a_machine_is_measured_and_drawn(models_dir: Path, tmp_path: Path) -> None:
    picture = tmp_path / "bench.svg"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LIVE_ASR_")}
    arguments = ["--model", "tiny.en", "--device", "cpu", "--seconds", "8", "--most", "2", "--target", "600"]
    done = subprocess.run(
        [sys.executable, "-m", "live_asr.cli", "bench", *arguments, "--plot", str(picture)],
        cwd=tmp_path,
        env=inherited | {"LIVE_ASR_MODELS__DIR": str(models_dir)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "This machine holds 2 sessions or more of tiny.en at p95 ≤ 600 s." in done.stdout
    assert "holds: 2" in picture.read_text()
