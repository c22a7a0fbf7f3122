"""The arithmetic of the suite `cluster`."""

from __future__ import annotations

import hashlib
from collections import Counter

import pytest

from benchmarks.load import cluster
from benchmarks.load.cluster import ClusterRuns, Kill
from benchmarks.resilience.kills import Life
from benchmarks.resilience.listening import Heard
from benchmarks.resilience.webhook_receiver import Request

WHOLE = 32_000
TEXT = "cats dogs mice birds bees ants"


def life(number: int) -> Life:
    """A session that went well."""
    heard = Heard(session=f"s{number}", live_text=TEXT, acked_bytes=WHOLE)
    return Life(number, None, heard, state="done", kept_bytes=WHOLE, labels="full", webhook="delivered")


def runs() -> ClusterRuns:
    """Two rounds in peace and one with a kill, which did no harm."""
    lives = [life(number) for number in range((cluster.PEACEFUL + 1) * cluster.SESSIONS)]
    requests = [
        Request(f"msg_{one.number}", one.heard.session, "200", True, hashlib.sha256(b"").hexdigest())
        for one in lives
    ]
    kills = [
        Kill(cluster.GATEWAY, 2, "gateway", gaps=[2.0, 2.5], whole_after=9.0),
        Kill(cluster.WORKER, 2, "worker", gaps=[1.0]),
    ]
    return ClusterRuns(1, [WHOLE] * cluster.SESSIONS, lives, kills, requests, [0.3])


def missed(found: ClusterRuns) -> list[str]:
    return [row.metric for row in cluster.table_of("tiny.en", found).rows if row.passed is False]


def test_kills_that_did_no_harm_miss_nothing() -> None:
    assert missed(runs()) == []


def test_what_a_kill_took_is_missed() -> None:
    found = runs()
    last = found.lives[-1]
    last.kept_bytes, last.state, last.webhook = WHOLE - 2, "streaming", "none"
    last.heard.live_text, last.heard.failure = "cats dogs ants", "lost"
    found.requests.pop()
    assert missed(found) == [
        "acknowledged bytes lost",
        "sessions stuck",
        "clients that did not get to the end",
        "sessions that lack audio",
        "webhook effects that are not exactly one",
        "webhooks forged, changed or still open",
        "sessions that lack a passage",
        "sessions with other committed words",
    ]


def test_captions_that_come_back_late_are_missed() -> None:
    found = runs()
    found.kills[0].gaps, found.kills[1].gaps = [2.9, 3.1, 3.2], [1.6]
    assert missed(found) == [
        "next caption after a kill of a gateway, median",
        "next caption after a kill of a worker, median",
    ]


def test_words_that_differ_in_peace_are_told_and_not_judged() -> None:
    found = runs()
    found.lives[cluster.SESSIONS].heard.live_text = "cats dogs"
    assert missed(found) == []


def test_a_cluster_that_did_not_come_up_is_a_failure() -> None:
    assert missed(ClusterRuns(1, [], failures=["it did not come up"])) == ["failures"]


def test_each_kind_has_its_share_of_the_kills_whatever_the_seed() -> None:
    drawn = cluster.victims(7, 40)
    assert set(Counter(drawn).values()) == {40 // len(cluster.VICTIMS)}
    assert cluster.victims(7, 40) == drawn != cluster.victims(8, 40)


def test_a_gap_ends_with_the_next_caption_if_there_is_one() -> None:
    assert cluster.gap_after(10.0, [9.0, 10.0, 11.5, 12.0]) == 1.5
    assert cluster.gap_after(12.0, [9.0, 12.0]) is None


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (["python", "-m", "live_asr.cli", "serve", "--port", "80"], ("gateway", "gateway")),
        (["ray::RecognizerActor.recognize"], ("worker", "worker")),
        (["ray::PassActor"], ("full pass", "full pass")),
        (["/here/gcs_server", "--log"], ("Ray's head", "gcs_server")),
        (["python", "-m", "live_asr.cluster.node", "3", "/tmp/ray1"], ("Ray's head", "node process")),
        (["/here/postgres", "-D", "data"], ("PostgreSQL", "postmaster")),
        (["postgres: postgres postgres [local] idle"], ("PostgreSQL", "backend")),
        (["postgres: checkpointer"], None),
        (["python", "-m", "live_asr.cluster.node", "3"], None),
        (["python", "-m", "live_asr.cli", "cluster", "up"], None),
        ([], None),
    ],
)
def test_what_may_die_is_known_by_its_command_line(line: list[str], kind: tuple[str, str] | None) -> None:
    assert cluster._kind(line) == kind
