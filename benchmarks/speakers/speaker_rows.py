"""The lines of the suite `speakers`: what was measured with one model, held against what must hold."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import reduce
from math import isnan, nan
from operator import add
from typing import Any

from benchmarks.base.measure import percentile
from benchmarks.base.options import Options
from benchmarks.base.report import Row, Table, fact, limit
from benchmarks.speakers.speaker_measures import SETTLED_AFTER, Labelling
from benchmarks.speakers.speakers import Outcome, Revision, SpeakerRuns, details, run_model
from benchmarks.table.rows import BUSY_CORES

FULL_DER, LIVE_DER = 6.0, 12.0
"""Percent, on `sample`."""
CONFUSED_TIMES, CONFUSED_ABOVE = 1.5, 3.0
"""Live confusion is at most so many times the full pass's, plus so many points."""
ROUNDING = 0.05
"""Points of DER by which the full pass may seem worse than pyannote itself: RTTM has whole milliseconds."""
COUNTED = ("conv2_public", "conv4_overlap_public")
"""Where the number of speakers must be right."""
WRONG_WORDS = 6.0
"""Percent on conv2_public after the full pass."""
CHANGES = 1.0
"""Per 10 minutes after the first half minute."""
CPU = 0.08
"""CPU seconds per second of speech."""
RTF = 0.5

Outcomes = Sequence[Outcome]


def run(options: Options, arguments: argparse.Namespace) -> tuple[list[Table], dict[str, Any]]:
    """Run the suite `speakers` with each model; return its tables and the numbers behind them."""
    found = {model: run_model(model, options, arguments.pace) for model in options.models}
    return [table_of(runs) for runs in found.values()], {
        model: details(runs) for model, runs in found.items()
    }


def table_of(runs: SpeakerRuns) -> Table:
    """Hold one model's runs against what must hold."""
    done = [outcome for outcome in runs.outcomes if outcome.live and outcome.full]
    rows = [
        *_diarization(done),
        *_counts(done),
        *_words(done),
        *_labels(done),
        *_cost(runs, done),
        *_kept(runs.outcomes),
    ]
    return Table(f"speakers, {runs.model}", rows, _notes(runs))


def _each(outcomes: Outcomes, show: Callable[[Outcome], str]) -> dict[str, str]:
    return {outcome.name: show(outcome) for outcome in outcomes}


def _named(outcomes: Outcomes, name: str) -> Outcome | None:
    return next((outcome for outcome in outcomes if outcome.name == name), None)


def _of(outcome: Outcome | None, revision: str) -> Revision | None:
    found: Revision | None = getattr(outcome, revision) if outcome is not None else None
    return found


def _diarization(outcomes: Outcomes) -> list[Row]:
    def der(revision: str, bound: float, name: str) -> Row:
        judged = _of(_named(outcomes, "sample"), revision)
        each = _each(outcomes, lambda outcome: str(getattr(outcome, revision).errors))
        if judged is None:
            return fact(name, "", each)
        return limit(f"{name}, of `sample`", judged.errors.percent, bound, "%", 1, each)

    rows = [
        der("full", FULL_DER, "DER of the full pass (missed + false alarm + confused)"),
        der("live", LIVE_DER, "DER of the live labels at `stopped`"),
    ]
    compared = [outcome for outcome in outcomes if outcome.stock is not None]
    if compared:
        above = {o.name: o.full.errors.percent - o.stock.percent for o in compared if o.full and o.stock}
        rows += [
            fact("DER of pyannote's pipeline by itself", "", _each(compared, lambda o: str(o.stock))),
            limit(
                "full pass above pyannote by itself, worst",
                max(above.values(), default=nan),
                ROUNDING,
                "points",
                each={name: f"{value:+.2f}" for name, value in above.items()},
            ),
        ]
    excess = {
        outcome.name: outcome.live.errors.confused_percent
        - CONFUSED_TIMES * outcome.full.errors.confused_percent
        - CONFUSED_ABOVE
        for outcome in outcomes
        if outcome.live and outcome.full
    }
    name = f"live confusion above {CONFUSED_TIMES:g} × the full pass's + {CONFUSED_ABOVE:g} points, worst"
    each = {name: f"{value:+.1f}" for name, value in excess.items()}
    rows.append(limit(name, max(excess.values(), default=nan), 0.0, "points", 1, each))
    return rows


def _counts(outcomes: Outcomes) -> list[Row]:
    def counts(revision: str) -> dict[str, str]:
        return _each(outcomes, lambda o: f"{getattr(o, revision).speakers} of {o.speakers}")

    judged = [outcome for outcome in outcomes if outcome.name in COUNTED]
    wrong = sum(1 for outcome in judged if outcome.full and outcome.full.speakers != outcome.speakers)
    name = "speakers miscounted by the full pass, of " + " and ".join(COUNTED)
    return [
        limit(name, wrong if judged else nan, 0, digits=0, each=counts("full")),
        fact("speakers live", "", counts("live")),
        fact("speakers by pyannote itself", "", _each(outcomes, lambda o: f"{o.stock_speakers}")),
    ]


def _words(outcomes: Outcomes) -> list[Row]:
    known = [outcome for outcome in outcomes if outcome.full and outcome.full.words]
    if not known:
        return []

    def rates(revision: str) -> dict[str, str]:
        def show(outcome: Outcome) -> str:
            words = getattr(outcome, revision).words
            return f"{words.cp_wer:.1f} / {words.wer:.1f}"

        return _each(known, show)

    def share(outcome: Outcome, revision: str) -> float:
        words = getattr(outcome, revision).words
        return 100 * words.wrong / words.compared if words.compared else nan

    def shares(revision: str) -> dict[str, str]:
        return _each(known, lambda outcome: f"{share(outcome, revision):.1f} %")

    judged = _named(known, "conv2_public")
    name = "words with the wrong speaker, full pass"
    worst = share(judged, "full") if judged else nan
    return [
        fact("cpWER / WER of the full pass, %", "", rates("full")),
        fact("cpWER / WER live, %", "", rates("live")),
        limit(f"{name}, of conv2_public", worst, WRONG_WORDS, "%", 1, shares("full"))
        if judged
        else fact(name, "", shares("full")),
        fact("words with the wrong speaker or none, live", "", shares("live")),
    ]


def _labels(outcomes: Outcomes) -> list[Row]:
    all_of_it: Labelling = reduce(add, (o.labelling for o in outcomes if o.labelling), Labelling())
    minutes = sum(max(outcome.duration - SETTLED_AFTER, 0.0) for outcome in outcomes) / 60
    seen = {outcome.name: outcome.labelling for outcome in outcomes if outcome.labelling}

    def percent(part: int, found: Labelling) -> str:
        return f"{100 * part / found.words:.0f} %" if found.words else "-"

    in_time = [o.labelling.delays for o in outcomes if o.labelling and o.pace == "realtime"]
    delays = [delay for found in in_time for delay in found]
    unmapped = {o.name: ", ".join(o.unmapped) or "none" for o in outcomes if o.unmapped is not None}
    lost = sum(len(outcome.unmapped or []) for outcome in outcomes)
    return [
        limit(
            "visible label changes per 10 minutes, after the first half minute",
            10 * all_of_it.changes / minutes if minutes else nan,
            CHANGES,
            each={name: f"{found.changes} ({found.changed_words} words)" for name, found in seen.items()},
        ),
        fact(
            "the same within the first half minute",
            str(all_of_it.early_changes),
            {name: str(found.early_changes) for name, found in seen.items()},
        ),
        fact(
            "words labelled when committed",
            percent(all_of_it.at_once, all_of_it),
            {name: percent(found.at_once, found) for name, found in seen.items()},
        ),
        fact(
            "words without a label at `stopped`",
            percent(all_of_it.never, all_of_it),
            {name: percent(found.never, found) for name, found in seen.items()},
        ),
        fact(
            "from commit to a label that came later, p50 / p95, played in real time",
            f"{percentile(delays, 50):.2f} / {percentile(delays, 95):.2f} s" if delays else "none came later",
        ),
        limit("live labels that no final speaker claims", lost, 0, digits=0, each=unmapped),
    ]


def _cost(runs: SpeakerRuns, outcomes: Outcomes) -> list[Row]:
    rows = []
    if runs.cost is not None:
        cost = runs.cost
        rows += [
            limit(
                f"CPU for the labels, per second of speech, {cost.clip}",
                cost.with_speakers - cost.without,
                CPU,
                "s",
                3,
            ),
            fact(
                "the inference process with them / without",
                f"{cost.with_speakers:.3f} / {cost.without:.3f} s",
            ),
        ]
    factors = {o.name: o.full_pass_seconds / o.duration for o in outcomes}
    long_ones = [o for o in outcomes if o.duration > 60] or list(outcomes)
    # A process that starts takes seconds of its own, which half a minute of sound does not pay for.
    pooled = sum(o.full_pass_seconds for o in long_ones) / max(sum(o.duration for o in long_ones), 1e-9)
    each = {name: f"{factor:.2f}" for name, factor in factors.items()}
    name = "real-time factor of the full pass, of recordings over a minute"
    return [*rows, limit(name, pooled if long_ones else nan, RTF, each=each)]


def _kept(outcomes: Outcomes) -> list[Row]:
    breaches = sum(len(outcome.breaches or []) for outcome in outcomes)
    failed = [outcome.name for outcome in outcomes if not (outcome.live and outcome.full)]
    from_live = [outcome.name for outcome in outcomes if outcome.labels != "full"]
    return [
        limit("sessions that failed", len(failed), 0, digits=0, each=dict.fromkeys(failed, "failed")),
        limit("sessions whose final labels are the live ones", len(from_live), 0, digits=0),
        limit("breaches of the protocol", breaches, 0, digits=0),
    ]


def _notes(runs: SpeakerRuns) -> list[str]:
    notes = [
        "DER in percent of speech, no collar, overlap scored, against `.vad.rttm` where there is one.",
        "Played in real time: "
        + (", ".join(o.name for o in runs.outcomes if o.pace == "realtime") or "none")
        + "; the others as fast as the server takes them.",
    ]
    notes += [f"{o.name} failed: {o.failure}" for o in runs.outcomes if o.failure]
    notes += [f"{o.name}: {breach}" for o in runs.outcomes for breach in o.breaches or []]
    busy = [o for o in runs.outcomes if o.others_cores > BUSY_CORES and not isnan(o.others_cores)]
    notes += [
        f"{o.name}: other processes kept {o.others_cores:.1f} cores busy; its times are void" for o in busy
    ]
    return notes
