"""Part `recordings` of the suite `words`: what is written down of many recordings under many conditions.

The live text, the final one and the model's own single pass are held against what was said. The final text
must be no worse than either of the others, in the mean and on no recording, and leave out nothing they have.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from textwrap import shorten
from typing import Any

from benchmarks.matching import Errors
from benchmarks.options import Options
from benchmarks.processes import BenchServer, watched
from benchmarks.reference import Reference, reference
from benchmarks.report import Row, Table, fact, limit
from benchmarks.speech import MissingSpeechError
from benchmarks.streaming import Message, SessionLog
from benchmarks.words_ablation import Ablation
from benchmarks.words_detector import SpeechFinder
from benchmarks.words_material import Case, Material, case_of, chosen, load_material
from benchmarks.words_measures import (
    Outcome,
    Version,
    Word,
    final_words,
    gaps,
    live_words,
    mean_rate,
    sources,
    too_many,
    unsaid,
    version,
    worse_than_better,
)
from benchmarks.words_playing import play_all

MAX_SHOWN = 80
"""Letters of what stands in a gap."""


# Recordings under conditions --------------------------------------------------------------------------


def cases_for(model: str, options: Options, conditions: str) -> list[Case]:
    """Load all recordings that a model can be asked about, under their conditions; say what is not here."""
    detect = SpeechFinder(options)
    found: list[Case] = []
    for name in options.clips:
        try:
            material = load_material(name, options, detect)
        except MissingSpeechError as missing:
            options.say(f"left out: {missing}")
            continue
        if material.language == "en" or not model.endswith(".en"):
            each = [case_of(material, condition) for condition in chosen(name, conditions)]
            found += [case for case in each if case is not None]
    if not found:
        raise MissingSpeechError("There is no speech to play; set LIVE_ASR_BENCH_SPEECH to a folder of it.")
    return found


def start_of(case: Case, *, detect: bool) -> Message:
    """Return what a session is told; with `detect`, the language is for the server to find."""
    return {
        "final_pass": True,
        "language": None if detect else case.material.language,
        "vocabulary": list(case.vocabulary),
    }


def outcome_of(case: Case, log: SessionLog, single: Reference) -> Outcome:
    """Measure one session."""
    material: Material = case.material
    language, truth = material.language, material.clip.truth
    live, final = live_words(log), final_words(log)
    offline = offline_words(single)
    versions = [version(words, truth, language) for words in (live, final, offline)]
    written = {name for one in versions[:2] for name in unsaid(case.vocabulary, one.text, truth or "")}
    return Outcome(
        material.name,
        case.condition,
        language,
        round(case.clip.duration, 2),
        *versions,
        gaps=gaps(material.speech, final, live, offline),
        sources=sources(log),
        unsaid=sorted(written) if truth is not None else [],
        failure=log.failure,
    )


def offline_words(single: Reference) -> list[Word]:
    """Return the words of a single pass."""
    return [Word(word.text, word.start, word.end) for word in single.words]


def run(
    server: BenchServer, model: str, options: Options, arguments: argparse.Namespace
) -> tuple[list[Table], dict[str, Any]]:
    """Play all cases to a server; return the tables and the numbers behind them."""
    cases = cases_for(model, options, arguments.conditions)
    seconds = sum(case.clip.duration for case in cases)
    options.say(f"{model}: {len(cases)} sessions, {seconds / 60:.0f} minutes of audio")
    jobs = [(case.clip, start_of(case, detect=arguments.detect)) for case in cases]
    with watched(server) as usage:
        logs = play_all(server, jobs, options, arguments.together)
    outcomes = []
    ablation = Ablation(model, options) if arguments.ablation else None
    for case, log in zip(cases, logs, strict=True):
        language = None if arguments.detect else case.material.language
        single = reference(case.clip, model, options.weights(model), language)
        outcomes.append(outcome_of(case, log, single))
        if ablation is not None and log.failure is None:
            options.say(f"{model}: {case.clip.name}, {case.condition}, step by step")
            ablation.add(case, log, offline_words(single), live_words(log))
    before = earlier(arguments.against, model) if arguments.against else None
    notes = [
        f"{seconds / 60:.0f} minutes of audio, "
        f"for each second of which the server took {usage.cpu_seconds / seconds:.2f} CPU seconds",
    ]
    tables = [table_of(model, outcomes, before, notes), by_recording(model, outcomes)]
    behind: dict[str, Any] = {"outcomes": [asdict(outcome) for outcome in outcomes]}
    if ablation is not None:
        tables.append(ablation.table(model))
        behind["ablation"] = ablation.numbers()
    return tables, behind


def earlier(path: Path, model: str) -> dict[tuple[str, str], Errors]:
    """Read the live errors of another run's results, by recording and condition.

    Raises ValueError where there are none of this model.
    """
    try:
        found = json.loads(path.read_text())["details"][model]["recordings"]["outcomes"]
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"--against {path}: no outcomes of {model} in it ({error!r})") from error
    return {
        (one["recording"], one["condition"]): Errors(**one["live"]["errors"])
        for one in found
        if one["live"]["errors"] is not None and one["failure"] is None
    }


# The tables -------------------------------------------------------------------------------------------


def table_of(
    model: str, outcomes: Sequence[Outcome], before: dict[tuple[str, str], Errors] | None, notes: list[str]
) -> Table:
    """Hold one model's outcomes against what must hold."""
    done = [outcome for outcome in outcomes if outcome.failure is None]
    judged = [outcome for outcome in done if outcome.judged]
    rows = [*_means(judged), *_worst(judged), *_left_out(done), *_counts(done)]
    if before is not None:
        rows += _against(judged, before)
    rows.append(limit("sessions that failed", len(outcomes) - len(done), 0, digits=0))
    return Table(f"{model}: words", rows, [*notes, *_notes(outcomes)])


def _by_condition(outcomes: Sequence[Outcome], show: Callable[[list[Outcome]], str]) -> dict[str, str]:
    conditions = dict.fromkeys(outcome.condition for outcome in outcomes)
    return {name: show([one for one in outcomes if one.condition == name]) for name in conditions}


def _means(judged: Sequence[Outcome]) -> list[Row]:
    def means(some: Iterable[Outcome]) -> tuple[float, float, float]:
        some = list(some)
        return (
            mean_rate(one.live for one in some),
            mean_rate(one.final for one in some),
            mean_rate(one.single for one in some),
        )

    def above(some: Iterable[Outcome], other: int) -> float:
        found = means(some)
        return round(found[1] - found[other], 4)  # of means that are equal, the last bit says nothing

    def slashed(some: Iterable[Outcome]) -> str:
        return " / ".join(f"{value:.1f}" for value in means(some))

    return [
        fact("mean WER live / final / single pass", f"{slashed(judged)} %", _by_condition(judged, slashed)),
        *(
            limit(
                f"mean WER of the final text above {name}",
                above(judged, other),
                0.0,
                "points",
                each=_by_condition(judged, lambda some, other=other: f"{above(some, other):+.2f}"),  # type: ignore[misc]
            )
            for name, other in (("the single pass's", 2), ("the live text's", 0))
        ),
    ]


def _worst(judged: Sequence[Outcome]) -> list[Row]:
    worse = [outcome for outcome in judged if worse_than_better(outcome)]
    return [
        limit(
            "recordings on which the final text is worse than the better of the two",
            len(worse) if judged else float("nan"),
            0,
            digits=0,
            each=_by_condition(judged, lambda some: str(sum(map(worse_than_better, some)))),
        )
    ]


def _left_out(outcomes: Sequence[Outcome]) -> list[Row]:
    def longest(some: Iterable[Outcome]) -> float:
        return max((gap.end - gap.start for one in some for gap in one.gaps), default=0.0)

    def count(some: Iterable[Outcome]) -> int:
        return sum(len(one.gaps) for one in some)

    return [
        limit(
            "stretches of 1.5 s of speech without a word in the final text where another has words",
            count(outcomes),
            0,
            digits=0,
            each=_by_condition(outcomes, lambda some: str(count(some))),
        ),
        fact(
            "the longest of them",
            f"{longest(outcomes):.1f} s",
            _by_condition(outcomes, lambda some: f"{longest(some):.1f}"),
        ),
    ]


def _counts(outcomes: Sequence[Outcome]) -> list[Row]:
    def share(which: str, kind: str) -> Callable[[list[Outcome]], str]:
        def show(some: list[Outcome]) -> str:
            found = [version.errors for one in some if (version := getattr(one, which)).errors is not None]
            words = max(sum(errors.words for errors in found), 1)
            return f"{100 * sum(getattr(errors, kind) for errors in found) / words:.1f}"

        return show

    def all_three(kind: str, some: list[Outcome]) -> str:
        return " / ".join(share(which, kind)(some) for which in ("live", "final", "single"))

    rows = [
        fact(
            f"words {kind}, live / final / single pass, pooled",
            f"{all_three(kind, list(outcomes))} %",
            _by_condition(outcomes, lambda some, kind=kind: all_three(kind, some)),  # type: ignore[misc]
        )
        for kind in ("lost", "invented", "changed")
    ]
    told = [outcome for outcome in outcomes if outcome.unsaid]
    rows.append(
        fact(
            "words to expect that were written and not said",
            str(sum(len(one.unsaid) for one in told)),
            _by_condition(told, lambda some: str(sum(len(one.unsaid) for one in some))),
        )
    )
    named = sorted({source for outcome in outcomes for source in outcome.sources})
    for source in named:
        written = sum(sum(outcome.sources.values()) for outcome in outcomes)
        here = sum(outcome.sources.get(source, 0) for outcome in outcomes)
        rows.append(fact(f"words of the final text out of `{source}`", f"{here} of {written}"))
    return rows


def _against(judged: Sequence[Outcome], before: dict[tuple[str, str], Errors]) -> list[Row]:
    pairs = [
        (outcome, outcome.live.errors, before[outcome.recording, outcome.condition])
        for outcome in judged
        if outcome.live.errors is not None and (outcome.recording, outcome.condition) in before
    ]
    if not pairs:
        return [limit("mean WER of the live text above the earlier one's", float("nan"), 0.0, "points")]
    above = sum(100 * (now.rate - then.rate) for _, now, then in pairs) / len(pairs)
    worse = [outcome for outcome, now, then in pairs if too_many(now, then.total)]
    return [
        limit(
            f"mean WER of the live text above the earlier one's, {len(pairs)} recordings",
            round(above, 4),
            0.0,
            "points",
        ),
        limit(
            "recordings on which the live text is worse than the earlier one",
            len(worse),
            0,
            digits=0,
            each=_by_condition(worse, lambda some: ", ".join(one.recording for one in some)),
        ),
    ]


def _notes(outcomes: Sequence[Outcome]) -> list[str]:
    notes = []
    for outcome in outcomes:
        name = f"{outcome.recording}, {outcome.condition}"
        if outcome.failure is not None:
            notes.append(f"**{name} failed**: {outcome.failure}")
            continue
        if worse_than_better(outcome):
            notes.append(f"**{name}**: errors live / final / single pass {_totals(outcome)}")
        notes += [
            f"{name}: nothing from {gap.start:.1f} to {gap.end:.1f} s; "
            f"live {shorten(gap.live, MAX_SHOWN)!r}, single pass {shorten(gap.single, MAX_SHOWN)!r}"
            for gap in outcome.gaps
        ]
        if outcome.unsaid:
            notes.append(f"{name}: written and not said: {', '.join(outcome.unsaid)}")
    return notes


def _totals(outcome: Outcome) -> str:
    found = [one.errors for one in (outcome.live, outcome.final, outcome.single)]
    said = next((errors.words for errors in found if errors is not None), 0)
    return " / ".join("?" if errors is None else str(errors.total) for errors in found) + f" of {said}"


def by_recording(model: str, outcomes: Sequence[Outcome]) -> Table:
    """Show each recording under each condition."""

    def shown(version: Version) -> str:
        if version.errors is None:
            return f"{version.words} words"
        return f"{100 * version.errors.rate:.1f}"

    def cell(outcome: Outcome) -> str:
        worse = " **worse**" if worse_than_better(outcome) else ""
        return " / ".join(shown(one) for one in (outcome.live, outcome.final, outcome.single)) + worse

    names = dict.fromkeys(outcome.recording for outcome in outcomes)
    rows = []
    for name in names:
        these = [outcome for outcome in outcomes if outcome.recording == name]
        plain = next((one for one in these if one.condition == "plain"), these[0])
        said = "" if plain.live.errors is None else f"{plain.live.errors.words} words"
        rows.append(fact(f"{name} ({plain.language})", said, {one.condition: cell(one) for one in these}))
    return Table(f"{model}: WER live / final / single pass, %", rows)
