"""Connections that are cut by a proxy, in speech in real time, and what is lost by it.

The same speech is played twice to one server, each time alone with the machine: uncut first, then cut. What a
live session says depends on its audio alone as long as decodes keep up, so nothing else may differ. Two
sessions at once would load each other, and a loaded server lengthens its steps and says other words.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.base.matching import differences, errors, matches, unlike
from benchmarks.base.options import Options
from benchmarks.base.processes import BenchServer, watched
from benchmarks.base.recordings import joined
from benchmarks.base.report import Row, Table, fact, limit
from benchmarks.base.speech import RATE_HZ, Clip, MissingSpeechError, looped
from benchmarks.resilience.cutting import Cut, Proxy, proxy
from benchmarks.resilience.listening import Heard, Talk
from benchmarks.table.rows import BUSY_CORES

SECONDS = 600.0
COUNT = 20
"""Cuts in all."""
BLACK_HOLE = 5.0
"""Seconds for which nothing passes, without an end."""
KINDS: tuple[Cut | None, ...] = ("half-open", "torn", "reset", None, "close")
"""In turn; None is the black hole."""


async def cut_all(between: Proxy, seconds: float, count: int, chance: random.Random) -> list[str]:
    """Cut all connections `count` times, at instants spread over the session; return how and when."""
    done: list[str] = []
    now = asyncio.get_running_loop().time
    began = now()
    for number in range(count):
        at = seconds * (number + chance.uniform(0.2, 0.8)) / count
        await asyncio.sleep(max(0.0, began + at - now()))
        how = KINDS[number % len(KINDS)]
        done.append(f"{how or 'black hole'} at {now() - began:.1f} s")
        if how is not None:
            await between.cut(how)
            continue
        between.silence()
        between.accepts = False
        await asyncio.sleep(BLACK_HOLE)
        between.accepts = True
        await between.cut("reset")
    return done


def cuts(
    model: str, options: Options, *, seconds: float | None, count: int, seed: int
) -> tuple[Table, dict[str, Any]]:
    """Play speech in real time, uncut and over connections that are cut."""
    try:
        source = joined(options)
    except MissingSpeechError as missing:
        options.say(f"left out: {missing}")
        source = options.clip("sample", 30.0)
    clip = looped(source, seconds or SECONDS)

    async def played(url: str) -> Heard:
        talk = Talk()
        await talk.speak(url, clip)
        return talk.heard

    async def cut(url: str) -> tuple[Heard, list[str]]:
        async with proxy(url) as between:
            cutting = asyncio.create_task(
                cut_all(between, clip.duration, count, random.Random(f"{seed} cuts"))
            )
            heard = await played(between.url)
            cutting.cancel()  # where the session ended before its time
            await asyncio.gather(cutting, return_exceptions=True)
            return heard, [] if cutting.cancelled() else cutting.result()

    with BenchServer(model, models_dir=options.models_dir) as server:
        address = f"http://127.0.0.1:{server.port}"
        options.say(f"{model}: {clip.duration:.0f} s of speech, uncut")
        with watched(server) as usage:
            whole = asyncio.run(played(address))
        uncut_decodes, busy = usage.decodes, usage.others_cores
        options.say(f"{model}: {clip.duration:.0f} s of speech with {count} cuts, seed {seed}")
        with watched(server) as usage:
            torn, made = asyncio.run(cut(address))
        listed = json.loads(server.get("/v1/sessions")[1])["sessions"]
        failed = "" if torn.failure is None else server.output()
    rows = [
        *lost_rows(clip, torn, made, count, sessions=len(listed) - 1),
        *text_rows(whole, torn),
        *label_rows(whole.words, torn.words),
        fact("decodes, uncut / cut", f"{uncut_decodes:.0f} / {usage.decodes:.0f}"),
    ]
    busy = max(busy, usage.others_cores)
    notes = [f"{name}: {heard.failure}" for name, heard in (("uncut", whole), ("cut", torn)) if heard.failure]
    notes += [failed] if failed else []
    notes += [f"cut: {how}" for how in made]
    notes += [f"uncut → cut: {found}" for found in differences(torn.live_text, whole.live_text)]
    notes.append(f"seed {seed}; other processes kept up to {busy:.2f} cores busy")
    if busy > BUSY_CORES:
        notes.append(f"over {BUSY_CORES:g}: a machine that is busy with other things gives other words")
    title = f"{model}: {len(made)} cuts in {clip.duration / 60:.1f} minutes"
    return Table(title, rows, notes), {"uncut": asdict(whole), "cut": asdict(torn), "cuts": made}


def lost_rows(clip: Clip, heard: Heard, made: Sequence[str], count: int, *, sessions: int) -> list[Row]:
    """Hold what is left of a cut session against what was said; `sessions` is how many it became."""
    missing = 2 * len(clip.audio) - 2 * round((heard.duration or 0.0) * RATE_HZ)
    gaps = sum(later != earlier + 1 for earlier, later in zip([0, *heard.seqs], heard.seqs, strict=False))
    kinds = Counter(how.partition(" at ")[0] for how in made)
    others = sessions - 1 + len(set(heard.sessions)) - 1
    return [
        limit("bytes lost", max(0, missing), 0, digits=0),
        limit("bytes sent and never acknowledged", 2 * len(clip.audio) - heard.acked_bytes, 0, digits=0),
        limit("sessions beside the one that was opened", others, 0, digits=0),
        limit("numbers of messages doubled, missing or out of order", gaps, 0, digits=0),
        limit("sessions that failed", int(heard.failure is not None), 0, digits=0),
        limit("cuts that were not made", count - len(made), 0, digits=0),
        fact("cuts", str(len(made)), {kind: str(number) for kind, number in kinds.items()}),
        fact("times resumed", str(heard.resumed)),
        fact("longest time away", f"{max(heard.away, default=0.0):.1f} s"),
    ]


def text_rows(whole: Heard, torn: Heard) -> list[Row]:
    """Compare the committed words of both sessions, as they are and after the usual normaliser."""
    raw = unlike(torn.live_text.split(), whole.live_text.split())
    normalised = errors(torn.live_text, whole.live_text)
    return [
        limit("committed words unlike the uncut session's, letter for letter", raw, 0, digits=0),
        limit("the same after the normaliser", normalised.total, 0, digits=0),
        fact("words", str(len(whole.live_text.split()))),
        fact("notices, uncut / cut", f"{_counted(whole.notices)} / {_counted(torn.notices)}"),
    ]


def label_rows(whole: Sequence[tuple[str, str | None]], torn: Sequence[tuple[str, str | None]]) -> list[Row]:
    """Compare the live labels of the words that both sessions have: does each name stand for the same one?"""
    pairs = matches([text for text, _ in whole], [text for text, _ in torn])
    met: dict[str | None, Counter[str | None]] = {}
    for left, right in pairs:
        met.setdefault(whole[left][1], Counter())[torn[right][1]] += 1
    others = [label for label, found in met.items() if found.most_common(1)[0][0] != label]
    unequal = sum(whole[left][1] != torn[right][1] for left, right in pairs)
    labels = {label for _, label in whole}, {label for _, label in torn}
    return [
        limit("live labels that name somebody else after a cut", len(others), 0, digits=0),
        limit("live labels that only one of both has", len(labels[0] ^ labels[1]), 0, digits=0),
        fact("words with another label", f"{unequal} of {len(pairs)}"),
        fact("live labels", str(len(labels[0] - {None}))),
    ]


def _counted(notices: Sequence[str]) -> str:
    return ", ".join(f"{count} {code}" for code, count in Counter(notices).items()) or "none"
