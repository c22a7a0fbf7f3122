"""The arithmetic of the suites `resilience` and `viewers`, and of the command that runs all suites."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosedError

from benchmarks import cuts, frozen, kills, run, viewers
from benchmarks.cutting import CUTS, proxy
from benchmarks.fast import Gone, likeness_rows, speed_rows
from benchmarks.listening import Heard
from benchmarks.matching import missing_passages, unlike
from benchmarks.options import parts_of
from benchmarks.processes import INFERENCE
from benchmarks.report import Row, Table
from benchmarks.speech import RATE_HZ, Clip
from benchmarks.streaming import Arrival, SessionLog
from benchmarks.viewers import Round, bytes_of_repeating
from benchmarks.webhook_receiver import Request

DOCS = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
CLIP = Clip("made up", np.zeros(10 * RATE_HZ, np.int16), None)


def missed(rows: list[Row]) -> list[str]:
    return [row.metric for row in rows if row.passed is False]


# The command ---------------------------------------------------------------------------------------------


def test_every_suite_has_its_command_in_the_documentation() -> None:
    text = DOCS.read_text()
    assert [suite for suite in run.SUITES if f"python -m benchmarks.run {suite}" not in text] == []


def test_parts_are_all_where_none_were_asked_for_and_unknown_ones_are_refused() -> None:
    known = ("cuts", "kills")
    assert parts_of(argparse.Namespace(parts=None), known) == known
    assert parts_of(argparse.Namespace(parts="kills"), known) == ("kills",)
    with pytest.raises(ValueError, match="no kils; there are cuts, kills"):
        parts_of(argparse.Namespace(parts="kils"), known)


# Cuts ----------------------------------------------------------------------------------------------------


def heard(text: str, **changes: Any) -> Heard:
    """What a client had of ten seconds that went well."""
    words = [(f" {word}", "S1") for word in text.split()]
    given: dict[str, Any] = {
        "session": "a",
        "sessions": ["a", "a"],
        "live_text": text,
        "words": words,
        "duration": 10.0,
        "seqs": [1, 2, 3],
        "acked_bytes": 2 * len(CLIP.audio),
    }
    return Heard(**given | changes)


def lost(one: Heard, *, sessions: int = 1, made: int = 2) -> list[str]:
    return missed(cuts.lost_rows(CLIP, one, ["reset at 1.0 s", "torn at 2.0 s"][:made], 2, sessions=sessions))


def test_a_cut_session_that_lost_nothing_misses_nothing() -> None:
    assert lost(heard("one two")) == []
    assert missed(cuts.text_rows(heard("one two"), heard("one two"))) == []


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"duration": 9.9}, "bytes lost"),
        ({"duration": None}, "bytes lost"),
        ({"acked_bytes": 1000}, "bytes sent and never acknowledged"),
        ({"sessions": ["a", "b"]}, "sessions beside the one that was opened"),
        ({"seqs": [1, 2, 2, 3]}, "numbers of messages doubled, missing or out of order"),
        ({"seqs": [1, 3]}, "numbers of messages doubled, missing or out of order"),
        ({"seqs": [2, 3]}, "numbers of messages doubled, missing or out of order"),
        ({"failure": "overrun: too fast"}, "sessions that failed"),
    ],
)
def test_each_loss_by_a_cut_is_seen(changes: dict[str, Any], what: str) -> None:
    assert lost(heard("one two", **changes)) == [what]


def test_a_second_session_on_the_server_and_a_cut_that_was_not_made_are_seen() -> None:
    assert lost(heard("one"), sessions=2) == ["sessions beside the one that was opened"]
    assert lost(heard("one"), made=1) == ["cuts that were not made"]


def test_a_spelling_that_differs_counts_before_the_normaliser_alone() -> None:
    raw, normalised, *_ = cuts.text_rows(heard("fourteen cats."), heard("14 cats"))
    assert (raw.measured, normalised.measured) == ("2", "0")


def test_words_that_differ_are_counted_once_whichever_text_is_longer() -> None:
    assert unlike(list("abc"), list("axcd")) == unlike(list("axcd"), list("abc")) == 2


def test_a_label_that_becomes_another_persons_after_a_cut_is_seen() -> None:
    whole = [("a", "S1"), ("b", "S1"), ("c", "S2"), ("d", "S2")]
    assert missed(cuts.label_rows(whole, whole)) == []
    assert missed(cuts.label_rows(whole, [("a", "S1"), ("b", "S2"), ("c", "S2"), ("d", "S2")])) == []
    swapped = [("a", "S2"), ("b", "S2"), ("c", "S1"), ("d", "S1")]
    assert missed(cuts.label_rows(whole, swapped)) == ["live labels that name somebody else after a cut"]
    new = [("a", "S1"), ("b", "S1"), ("c", "S2"), ("d", "S3")]
    assert missed(cuts.label_rows(whole, new)) == ["live labels that only one of both has"]


def test_every_way_to_cut_has_its_turn() -> None:
    assert set(cuts.KINDS) == {*CUTS, None}


async def test_a_torn_frame_reaches_the_server_in_part_and_then_the_connection_ends() -> None:
    got: list[bytes | str] = []
    ended = asyncio.Event()

    async def take(socket: ServerConnection) -> None:
        try:
            async for frame in socket:
                got.append(frame)
        except ConnectionClosedError:
            pass
        ended.set()

    async with serve(take, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with (
            proxy(f"http://127.0.0.1:{port}") as between,
            connect(f"ws://127.0.0.1:{between.port}", proxy=None, ping_interval=None) as socket,
        ):
            await socket.send(b"whole")
            await (await socket.ping())
            cutting = asyncio.create_task(between.cut("torn"))
            await asyncio.sleep(0)
            await socket.send(b"x" * 3200)
            await cutting
            await asyncio.wait_for(ended.wait(), 10)
    assert got == [b"whole"]


# Kills ---------------------------------------------------------------------------------------------------

BYTES = 256_000


def life(number: int, instant: kills.Instant | None, **changes: Any) -> kills.Life:
    """A session whose client sent everything, and that came to its end."""
    talk = Heard(session=f"s{number}", acked_bytes=BYTES, live_text="well then")
    given: dict[str, Any] = {
        "state": "done",
        "kept_bytes": BYTES,
        "labels": "full",
        "segments": [("well then", "SPEAKER_00", 0.0, 1.0)],
        "webhook": "delivered",
        "killed": "" if instant is None else instant.victim,
    }
    return kills.Life(number, instant, talk, **given | changes)


def request(session: str, webhook_id: str = "") -> Request:
    return Request(webhook_id or f"msg_{session}", session, "200", True, "d", 1)


def table_of(
    *changes: dict[str, Any], came_back: bool = True, requests: list[Request] | None = None
) -> Table:
    instant = kills.Instant("speech", "server", 0.5, came_back)
    lives = [life(0, None), *(life(number, instant, **each) for number, each in enumerate(changes, start=1))]
    told = [request(one.heard.session) for one in lives] if requests is None else requests
    return kills.table_of("tiny.en", kills.KillRuns(4, BYTES, lives, told))


def test_kills_that_cost_nothing_miss_nothing() -> None:
    assert missed(table_of({}, {}).rows) == []


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"state": "streaming"}, ["sessions stuck"]),
        ({"state": "failed"}, ["sessions failed"]),
        ({"labels": "live"}, ["final transcripts without the full pass"]),
        (
            {"segments": [("well", "SPEAKER_00", 0.0, 1.0)]},
            ["final transcripts unlike the unkilled session's"],
        ),
        ({"webhook": "pending"}, ["webhooks forged, changed or still open"]),
        (
            {"kept_bytes": BYTES - 32},
            ["acknowledged bytes lost", "sessions cut short though their client came back"],
        ),
    ],
)
def test_each_harm_of_a_kill_is_seen_and_told(changes: dict[str, Any], what: list[str]) -> None:
    table = table_of(changes)
    assert missed(table.rows) == what
    assert "webhook" in changes or any(note.startswith("session 1, killed in speech") for note in table.notes)


def test_a_client_that_is_gone_may_leave_less_than_the_whole_but_not_less_than_was_acknowledged() -> None:
    less: dict[str, Any] = {"kept_bytes": BYTES // 2, "segments": [("well", None, 0.0, 1.0)]}
    assert missed(table_of(less, came_back=False).rows) == ["acknowledged bytes lost"]
    instant = kills.Instant("speech", "server", 0.5, comes_back=False)
    gone = life(1, instant, **less)
    gone.heard.acked_bytes = BYTES // 2
    runs = kills.KillRuns(4, BYTES, [life(0, None), gone], [request("s0"), request("s1")])
    assert missed(kills.table_of("tiny.en", runs).rows) == []


@pytest.mark.parametrize(
    "requests", [[request("s0")], [request("s0"), request("s1"), request("s1", "msg_other")]]
)
def test_no_effect_and_two_effects_are_not_exactly_one(requests: list[Request]) -> None:
    assert missed(table_of({}, requests=requests).rows) == ["webhook effects that are not exactly one"]


def test_kills_are_spread_over_the_phases_and_their_victims_whatever_the_seed() -> None:
    drawn = kills.instants(4, 100)
    assert Counter(instant.phase for instant in drawn) == kills.PHASES
    assert sum(instant.comes_back for instant in drawn) == 50
    speech = {(instant.victim, instant.comes_back) for instant in drawn if instant.phase == "speech"}
    assert speech == {(victim, back) for victim in ("server", INFERENCE) for back in (True, False)}
    assert kills.instants(4, 100) == drawn != kills.instants(5, 100)
    assert set(Counter(instant.phase for instant in kills.instants(4, 8))) == set(kills.PHASES)


# Frozen inference ----------------------------------------------------------------------------------------


def lagging(*lags: tuple[float, float]) -> SessionLog:
    log = SessionLog(CLIP)
    log.arrivals = [Arrival(at, 1, {"type": "lag", "seconds": behind}) for at, behind in lags]
    return log


def test_a_session_has_caught_up_when_it_is_near_for_good() -> None:
    assert frozen.caught_up(lagging((1, 0.5), (5, 40), (6, 4.0), (7, 6.0), (9, 3.0), (10, 1.0)), 4.0) == (
        5.0,
        True,
    )


def test_a_session_that_never_fell_back_or_had_caught_up_before_the_thaw_took_no_time() -> None:
    assert frozen.caught_up(lagging((1, 0.5), (5, 1.0)), 4.0) == (0.0, True)
    assert frozen.caught_up(lagging((1, 30.0), (2, 1.0), (5, 1.0)), 4.0) == (0.0, True)


def test_a_session_that_was_behind_to_its_end_has_caught_up_with_it_or_not_at_all() -> None:
    log = lagging((5, 40.0))
    assert np.isnan(frozen.caught_up(log, 4.0)[0])
    log.arrivals.append(Arrival(11.0, 1, {"type": "stopped"}))
    assert frozen.caught_up(log, 4.0) == (7.0, False)


def test_growth_is_over_the_most_before_the_freeze() -> None:
    watch = frozen.Watch(froze=2.0, memory=[(0.0, 90), (1.0, 100), (3.0, 160), (9.0, 120)])
    assert watch.growth_bytes == 60
    assert watch.during([(1.0, 9.9), (2.5, 0.1)]) == []
    watch.thawed = 3.0
    assert watch.during([(1.0, 9.9), (2.5, 0.1), (3.0, 9.9)]) == [0.1]


def frozen_run(text: str = "cats dogs mice birds bees", *, seconds: float = 10.0) -> frozen.FrozenRun:
    log = lagging((5.0, 1.0))
    log.arrivals += [
        Arrival(6.0, 1, {"type": "commit", "seq": 1, "text": text, "words": [], "utterance": 0}),
        Arrival(7.0, 1, {"type": "stopped", "seq": 2, "duration": seconds, "text": text}),
        Arrival(8.0, 1, {"type": "final", "seq": 3}),
    ]
    log.arrivals[1].message["words"] = [{"text": text, "start": 0.0, "end": 1.0}]
    log.pings, log.ping_times = [0.01], [3.0]
    watch = frozen.Watch(2.0, 4.0, [(3.0, 0.01)], [(1.0, 100), (3.0, 200)])
    return frozen.FrozenRun([log], watch, ["cats dogs mice birds bees"])


def test_frozen_sessions_that_lost_nothing_miss_nothing() -> None:
    assert missed(frozen.rows({"as configured": frozen_run()})) == []


def test_the_worse_of_both_ways_is_judged() -> None:
    slow = frozen_run()
    slow.watch.healths = [(3.0, frozen.UNANSWERED)]
    rows = frozen.rows({"as configured": frozen_run(), "told to wait": slow})
    assert missed(rows) == ["`GET /healthz` p99 while frozen"]


def test_a_server_that_nobody_asked_while_it_was_frozen_has_not_held() -> None:
    unasked = frozen_run()
    unasked.watch.healths = []
    assert missed(frozen.rows({"as configured": frozen_run(), "told to wait": unasked})) == [
        "`GET /healthz` p99 while frozen"
    ]


@pytest.mark.parametrize(
    ("found", "what"),
    [
        (frozen_run("cats bees"), ["passages missing, 3 words and more"]),
        (frozen_run(seconds=9.0), ["bytes lost", "breaches of the protocol"]),
    ],
)
def test_each_loss_by_a_freeze_is_seen(found: frozen.FrozenRun, what: list[str]) -> None:
    assert missed(frozen.rows({"as configured": found})) == what


def test_a_passage_is_missing_where_nothing_stands_for_it() -> None:
    assert missing_passages("a b g h", "a b c d e f g h") == ["c d e f"]
    assert missing_passages("a b x y z w g h", "a b c d e f g h") == []
    assert missing_passages("a d", "a b c d") == []
    assert missing_passages("", "a b c") == ["a b c"]


# Speed ---------------------------------------------------------------------------------------------------


def test_speed_is_held_against_the_engines_by_medians() -> None:
    engine = [Gone(seconds, "") for seconds in (2.0, 2.0, 9.0)]
    fine = speed_rows(CLIP, [Gone(seconds, "") for seconds in (2.2, 1.0, 50.0)], engine)[0]
    assert (fine.measured, fine.passed) == ("0.91", True)
    assert speed_rows(CLIP, [Gone(2.3, "")], engine)[0].passed is False
    assert speed_rows(CLIP, [Gone(float("nan"), "")], engine)[0].passed is False


def test_other_words_at_another_pace_miss() -> None:
    one, other = Gone(1.0, "one two"), Gone(1.0, "one too")
    assert missed(likeness_rows(one, one, one, one, one)) == []
    assert len(missed(likeness_rows(other, one, one, one, one))) == 1


# Viewers -------------------------------------------------------------------------------------------------


def said(utterance: int, text: str) -> dict[str, Any]:
    words = [{"text": text, "start": 0.0, "end": 1.0}]
    return {"type": "commit", "utterance": utterance, "text": text, "words": words}


def test_a_server_that_repeats_sends_all_lines_whenever_one_changes() -> None:
    messages = [said(0, " one"), {"type": "partial", "text": " two"}, {"type": "lag"}, said(1, " two")]
    lines = [{"speaker": "S1", "text": text, "start": 0.0, "end": 1.0} for text in (" one", " two")]
    updates = [
        {"lines": lines[:1], "buffer": ""},
        {"lines": lines[:1], "buffer": " two"},
        {"lines": lines, "buffer": " two"},
    ]
    exact = sum(len(json.dumps(update, separators=(",", ":"))) for update in updates)
    assert exact <= bytes_of_repeating(messages) <= exact + len(updates)  # a comma after the last line


def watched(viewers_count: int, cpu: float, viewer_bytes: int = 100, seen: int = 5) -> Round:
    """Return what a session of as many minutes as it had viewers came to."""
    minute = 60.0 * viewers_count
    return Round(
        viewers_count, minute, cpu * minute, cpu * minute / 10, viewer_bytes, viewer_bytes, seen, 5, 0.0, 5000
    )


@pytest.mark.parametrize(
    ("many", "what"),
    [
        (watched(200, 0.36), []),
        (
            watched(200, 0.37),
            ["CPU of all processes for a second of audio, with 200 viewers over that with one"],
        ),
        (watched(200, 0.36, viewer_bytes=101), ["bytes to a viewer, over those of repeating all lines"]),
        (watched(200, 0.36, seen=4), ["viewers' sessions with another number of kept messages"]),
    ],
)
def test_what_many_viewers_cost_is_held_against_one(many: Round, what: list[str]) -> None:
    assert missed(viewers.table_of("tiny.en", [watched(1, 0.3)], [many]).rows) == what
