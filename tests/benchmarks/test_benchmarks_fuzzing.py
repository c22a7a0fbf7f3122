"""The fuzzer: it notices what it is there to notice, and keeps the input that does it."""

from __future__ import annotations

import json
import random
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.fuzz_dialects import DialectJudge, dialects, seeds
from benchmarks.fuzz_inputs import (
    BYTEWISE,
    FORMS,
    LARGEST_FILE_BYTES,
    LARGEST_FRAME_BYTES,
    Corpus,
    Source,
    containers,
    documented,
    media,
    messages,
    retold,
)
from benchmarks.fuzz_process import Child, MemorySample, TargetDiedError
from benchmarks.fuzz_target import SEED_BYTES, ContainerJudge, chunks, judge_message, shape_of, tried
from benchmarks.fuzzing import Fuzzed, Fuzzer, Target, memory_rows, table_of
from benchmarks.report import Row

DRILL = (sys.executable, "-m", "tests.fuzz_drill")
CALM = [b"a", b"bb", b"ccc"]


def drill(tmp_path: Path, *inputs: bytes, hang: float = 20.0, batch: int = 3) -> Fuzzed:
    """Fuzz the drill with some inputs, once each, and then with some calm ones."""
    stop, left = threading.Event(), iter(range(30))

    def calm(corpus: Corpus, chance: random.Random) -> bytes:
        if next(left, None) is None:
            stop.set()
        return chance.choice(CALM)

    target = Target("drill", DRILL, Source([*inputs, *CALM], calm), batch)
    return Fuzzer(target, 1, tmp_path / "kept", stop, hang).run(300.0)


def kept(tmp_path: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (tmp_path / "kept").glob("*") if path.suffix != ".txt"}


def rows_of(found: Fuzzed) -> dict[str, Row]:
    return {row.metric: row for row in table_of(found, 1).rows}


# What it notices ---------------------------------------------------------------------------------


def test_a_crash_is_seen_with_its_signal_and_the_one_input_that_does_it_is_kept(tmp_path: Path) -> None:
    found = drill(tmp_path, b"x", b"a crash", b"y")
    assert kept(tmp_path) == {"drill-crash-000": b"a crash"}
    (finding,) = found.findings
    assert "SIGSEGV" in finding.what and "judge" in finding.what, "and where it was"
    assert found.inputs > 3, "the others were tried in the next process"
    assert rows_of(found)["crashes"].passed is False


def test_an_input_that_hangs_is_given_up_and_kept_with_where_it_hangs(tmp_path: Path) -> None:
    found = drill(tmp_path, b"x", b"do hang", hang=2.0)
    assert kept(tmp_path) == {"drill-hang-000": b"do hang"}
    assert "fuzz_drill.py" in found.findings[0].what
    assert rows_of(found)["hangs"].passed is False


@pytest.mark.parametrize(("word", "what"), [(b"raise", "KeyError"), (b"unsound", "It does not hold.")])
def test_an_error_that_is_not_documented_is_a_fault_and_the_process_lives_on(
    word: bytes, what: str, tmp_path: Path
) -> None:
    found = drill(tmp_path, word)
    assert kept(tmp_path) == {"drill-fault-000": word}
    assert what in found.findings[0].what
    assert len(found.lives) == 1
    assert rows_of(found)["undocumented errors and unsound results"].passed is False


def test_an_input_that_takes_much_memory_is_kept(tmp_path: Path) -> None:
    found = drill(tmp_path, *CALM, b"grow")
    assert kept(tmp_path)["drill-greed-000"] == b"grow"
    assert rows_of(found)["most memory for one input"].passed is False


def test_calm_inputs_pass(tmp_path: Path) -> None:
    found = drill(tmp_path)
    assert not found.findings and kept(tmp_path) == {}
    assert found.signatures == len(CALM)
    assert all(row.passed is not False for row in rows_of(found).values() if "memory" not in row.metric)


def test_no_more_than_enough_inputs_of_one_fault_are_kept(tmp_path: Path) -> None:
    found = drill(tmp_path, *[b"raise"] * 30)
    assert found.count("fault") == 30
    assert len(kept(tmp_path)) == 20


def test_a_target_that_answers_nothing_at_all_ends_the_run(tmp_path: Path) -> None:
    target = Target("none", (sys.executable, "-c", "raise SystemExit('no such thing')"), Source(CALM, min), 1)
    with pytest.raises(RuntimeError, match="no such thing"):
        Fuzzer(target, 1, tmp_path, threading.Event()).run(60.0)


def test_a_child_shows_what_it_holds_on_to() -> None:
    child = Child(DRILL)
    try:
        child.ask([b"a"], 20.0)
        before = child.look()
        child.ask([b"leak"] * 5, 20.0)
        assert child.look().descriptors == before.descriptors + 5
        with pytest.raises(TargetDiedError) as died:
            child.ask([b"crash"], 20.0)
        assert died.value.kind == "crash"
    finally:
        child.end()


def life(leak_mb_per_hour: float, seconds: float = 3600.0, descriptors: int = 0) -> list[MemorySample]:
    """A process of 50 MB that leaks so much, in a saw of 5 MB, and leaves files open from its middle on."""
    return [
        MemorySample(
            at,
            int(at * 10),
            50 + leak_mb_per_hour * at / 3600,
            100 + leak_mb_per_hour * at / 3600 + at % 60 / 12,
            9 + descriptors * (at > seconds / 2),
            3,
        )
        for at in np.arange(0.0, seconds, 5.0)
    ]


@pytest.mark.parametrize(("leak", "passed"), [(0.0, True), (3.0, True), (20.0, False)])
def test_memory_that_grows_all_the_time_is_told_from_one_that_only_goes_up_and_down(
    leak: float, passed: bool
) -> None:
    in_use, resident, left = memory_rows(life(leak))
    assert (in_use.passed, resident.passed, left.passed) == (passed, passed, True)


def test_the_slope_of_a_short_run_is_shown_and_not_judged() -> None:
    assert [row.passed for row in memory_rows(life(20.0, 200.0))] == [None, None, True]


def test_descriptors_left_behind_are_a_miss_and_a_life_too_short_to_tell_is_no_pass() -> None:
    assert memory_rows(life(0.0, descriptors=4))[2].passed is False
    assert [row.passed for row in memory_rows([])] == [False]


# What it makes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", BYTEWISE, ids=lambda operation: operation.__name__)
def test_a_mutation_takes_any_bytes_and_is_the_seeds(operation: Callable[..., bytes]) -> None:
    for data in (b"", b"a", bytes(range(256)) * 5):
        assert operation(data, random.Random(3)) == operation(data, random.Random(3))
    changed = {operation(bytes(range(256)), random.Random(seed)) for seed in range(30)}
    assert len(changed) > 10


def test_a_message_is_changed_where_a_program_would() -> None:
    chance = random.Random(4)
    changed = [retold(documented()[0], chance) for _ in range(300)]
    kinds = {judge_message(data).kind for data in changed}
    assert {"start", "bad_message", "not_json"} <= kinds


@pytest.fixture
def container_judge() -> Iterator[ContainerJudge]:
    judge = ContainerJudge()
    yield judge
    judge.close()


@pytest.fixture(scope="module")
def sources() -> dict[str, Source]:
    """Both sources, of a tone instead of speech."""
    tone = (8000 * np.sin(np.arange(32_000) / 10)).astype(np.int16)
    return {"messages": messages(), "container": containers(tone)}


@pytest.mark.parametrize(
    ("name", "most_bytes"),
    [("messages", LARGEST_FRAME_BYTES), ("container", LARGEST_FILE_BYTES + SEED_BYTES)],
)
def test_inputs_are_the_seeds_and_no_larger_than_a_server_takes(
    name: str, most_bytes: int, sources: dict[str, Source]
) -> None:
    source = sources[name]

    def made() -> list[bytes]:
        chance = random.Random(5)
        return [source.make(Corpus(source.seeds), chance) for _ in range(300)]

    inputs = made()
    assert inputs == made()
    assert max(map(len, inputs)) <= most_bytes
    assert len(set(inputs)) > 250


def test_every_seed_is_read(sources: dict[str, Source], container_judge: ContainerJudge) -> None:
    assert {tried(container_judge, data).kind for data in sources["container"].seeds} == {"heard"}
    assert len(sources["container"].seeds) > 0.8 * len(FORMS)
    assert not [data for data in documented() if judge_message(data).kind == "not_json"]


def test_mutated_messages_and_files_are_read_or_refused_as_documented(
    sources: dict[str, Source], container_judge: ContainerJudge
) -> None:
    judges = {"messages": judge_message, "container": container_judge}
    for name, source in sources.items():
        chance, corpus = random.Random(6), Corpus(source.seeds)
        for _ in range(200):
            assert tried(judges[name], source.make(corpus, chance)).fault is None


def test_a_corpus_keeps_a_bounded_number_of_bytes() -> None:
    corpus, chance = Corpus([bytes(100_000)]), random.Random(7)
    for size in range(1, 200_000, 500):
        corpus.keep(bytes(size), chance)
    corpus.keep(bytes(200_001), chance)
    assert sum(map(len, corpus.kept)) <= 8 * 1024 * 1024
    assert max(map(len, corpus.kept)) <= 200_000


def test_chunks_are_all_of_the_bytes() -> None:
    data = random.Random(8).randbytes(100_000)
    for seed in range(20):
        assert b"".join(chunks(data, random.Random(seed))) == data


def test_the_shape_of_a_message_holds_nothing_of_what_was_sent() -> None:
    one = shape_of("`metadata.zzz` must be a number within 64 bits, not 12.")
    assert one == shape_of("`metadata.yyy` must be a number within 32 bits, not 'x'.")
    assert shape_of("`language` must be a string, not 3.").startswith("`language`")


def test_media_are_written_in_the_forms_that_browsers_record_and_files_have() -> None:
    written = media(np.zeros(32_000, np.int16))
    assert {"recorder.webm", "opus.ogg", "music.mp3", "index-last.m4a", "fragments.mp4", "plain.wav"} <= set(
        written
    )
    assert written["index-last.m4a"].index(b"mdat") < written["index-last.m4a"].index(b"moov")
    assert written["index-first.m4a"].index(b"moov") < written["index-first.m4a"].index(b"mdat")
    assert json.loads(documented()[0])["type"] == "start"


# What other programs' clients send ---------------------------------------------------------------


@pytest.fixture
def reader() -> Iterator[DialectJudge]:
    judge = DialectJudge()
    yield judge
    judge.close()


def test_what_clients_send_is_read_by_each_decoder(reader: DialectJudge) -> None:
    outcomes = [tried(reader, seed) for seed in seeds()]
    assert [outcome.fault for outcome in outcomes if outcome.fault] == []
    assert {outcome.kind for outcome in outcomes} == {"read", "refused"}, "redact is refused"
    assert sum(outcome.kind == "read" for outcome in outcomes) >= 8


@pytest.mark.parametrize("seed", range(8))
def test_what_is_nearly_that_is_read_or_refused_by_a_sentence(seed: int, reader: DialectJudge) -> None:
    source, chance = dialects(), random.Random(seed)
    corpus, known = Corpus(source.seeds), set()
    for _ in range(600):
        data = source.make(corpus, chance)
        outcome = tried(reader, data)
        assert outcome.fault is None, (data, outcome)
        if outcome.signature not in known:
            known.add(outcome.signature)
            corpus.keep(data, chance)
    assert len(known) > 50
