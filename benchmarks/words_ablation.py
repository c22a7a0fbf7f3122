"""What each step of the full pass brings: the same recordings, with more and more of it, without a server.

The words that were shown live come from the sessions that were played; everything else is decoded here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from benchmarks.options import Options
from benchmarks.report import Table, fact
from benchmarks.speech import RATE_HZ
from benchmarks.streaming import SessionLog
from benchmarks.words_detector import open_detector
from benchmarks.words_material import Case
from benchmarks.words_measures import Gap, Version, Word, gaps, mean_rate, version

Step = tuple[str, frozenset[str]]

EVERYTHING = frozenset({"timestamps", "other ways", "holes", "live words"})
STEPS: tuple[Step, ...] = (
    ("one decode of each window, without timestamps", frozenset()),
    ("with timestamps", frozenset({"timestamps"})),
    ("and poor windows in other ways", frozenset({"timestamps", "other ways"})),
    ("and holes alone", frozenset({"timestamps", "other ways", "holes"})),
    ("and the live words: the full pass", EVERYTHING),
    ("the full pass without timestamps", EVERYTHING - {"timestamps"}),
)
"""Each with what it has of the full pass. The last one shows what the others can make up for."""


class Ablation:
    """Decode cases step by step, and count."""

    def __init__(self, model: str, options: Options) -> None:
        from live_asr.models.whisper import WhisperRecognizer

        folder = options.weights(model)  # used as the process of the full pass uses it
        self._recognizer = WhisperRecognizer(folder, name=model, workers=1, prefix_at_once=False)
        self._detector = open_detector(options)
        self._found: dict[str, list[tuple[Version, list[Gap]]]] = {name: [] for name, _ in STEPS}

    def add(self, case: Case, log: SessionLog, single: Sequence[Word], live: Sequence[Word]) -> None:
        """Take one session's recording through all steps."""
        from live_asr.full_pass.transcription import transcribe

        for name, parts in STEPS:
            with _only(parts):
                found, _ = transcribe(
                    case.clip.audio,
                    self._recognizer,
                    self._detector,
                    language=case.material.language,
                    vocabulary=case.vocabulary,
                    live=shown(log, case.material.language) if "live words" in parts else (),
                )
            words = [Word(one.text, one.start_sample / RATE_HZ, one.end_sample / RATE_HZ) for one in found]
            counted = version(words, case.material.clip.truth, case.material.language)
            self._found[name].append((counted, gaps(case.material.speech, words, live, single)))

    def table(self, model: str) -> Table:
        """Show the mean WER, and what is left out, after each step."""
        rows = []
        for name, outcomes in self._found.items():
            rate = mean_rate(version for version, _ in outcomes)
            left_out = [gap for _, found in outcomes for gap in found]
            length = sum(gap.end - gap.start for gap in left_out)
            measured = f"{rate:.2f} %, {len(left_out)} stretches left out, {length:.0f} s"
            rows.append(fact(name, measured))
        count = max(map(len, self._found.values()))
        return Table(f"{model}: the full pass, step by step", rows, [f"{count} recordings"])

    def numbers(self) -> dict[str, Any]:
        """Return what is behind the table: each step's errors, recording by recording."""
        return {
            name: [None if one.errors is None else one.errors.total for one, _ in outcomes]
            for name, outcomes in self._found.items()
        }


def shown(log: SessionLog, language: str) -> list[Any]:
    """Return what a session committed, as the full pass is told it."""
    from live_asr.core.types import Utterance, samples
    from live_asr.core.types import Word as CoreWord

    words = tuple(
        CoreWord(word["text"], samples(word["start"]), samples(word["end"]), word["probability"])
        for arrival in log.of_type("commit")
        for word in arrival.message["words"]
    )
    if not words:
        return []
    return [Utterance(0, words[0].start_sample, words[-1].end_sample, words, language=language)]


@contextmanager
def _only(parts: frozenset[str]) -> Iterator[None]:
    """Leave out of the full pass what is not among `parts`."""
    from live_asr.full_pass import transcription

    reader = transcription._Reader
    request = reader._request

    def untimed(self: Any, *arguments: Any) -> Any:
        return replace(request(self, *arguments), timestamps=False)

    def no_other_readings(*_: Any) -> Iterator[Any]:
        return iter(())

    def as_read(_: Any, reading: Any) -> Any:
        return reading.words

    with ExitStack() as changed:
        if "timestamps" not in parts:
            changed.enter_context(patch.object(reader, "_request", untimed))
        if "other ways" not in parts:
            changed.enter_context(patch.object(reader, "_other_readings", no_other_readings))
        if "holes" not in parts:
            changed.enter_context(patch.object(reader, "_with_holes_filled", as_read))
        yield
