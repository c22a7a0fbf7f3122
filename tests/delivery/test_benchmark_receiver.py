"""The receiver of the suite `webhooks`, told by the real sender: it answers what it says it answers."""

from __future__ import annotations

import json

import pytest

from benchmarks.resilience.webhook_receiver import RETRY_AFTER, Receiver, receiving
from benchmarks.resilience.webhooks import judge
from live_asr.delivery.post import Patience
from live_asr.storage.database import Database, Delivery
from tests.delivery.running_sender import SECRET, Sending, sending

BODY = json.dumps({"sessionId": "a1", "number": 7, "revision": 1, "metadata": {"labels": "full"}}).encode()


async def first_try_and_end(run: Sending, url: str) -> tuple[Delivery, Delivery]:
    """Add a delivery; return it after its first try, and as it is when there is no further one."""
    run.add(url, body=BODY)
    first = delivery = await run.next_try()
    while delivery.state == "pending":
        run.clock.now = delivery.next_at
        run.sender.wake()
        delivery = await run.next_try()
    return first, delivery


@pytest.mark.parametrize(
    ("answer", "state", "said"),
    [
        ("200", "delivered", None),
        ("500", "pending", "It answered 500."),
        ("429", "pending", "It answered 429."),
        ("410", "dead", "It answered 410: it wants no more of these."),
        ("redirect", "pending", "It answered 307: redirects are not followed."),
        ("hang", "pending", "It did not answer within 0.5 s."),
        ("reset", "pending", "It closed the connection before it answered."),
        ("kept, then reset", "pending", "It closed the connection before it answered."),
    ],
)
async def test_each_answer_is_met_by_the_sender_as_it_is_called_and_has_one_effect(
    database: Database, answer: str, state: str, said: str | None
) -> None:
    receiver = Receiver(SECRET, 1, (answer,))
    async with receiving(receiver) as url, sending(database, patience=Patience(total=0.5)) as run:
        began = run.clock.now
        first, last = await first_try_and_end(run, url)
        assert (first.state, first.last_error) == (state, said)
        if answer == "429":
            assert first.next_at - began >= RETRY_AFTER
        assert sum(request.effect for request in receiver.requests) == 1
        verdict = judge(["a1"], receiver.requests, {"a1": last.state})
        assert not any((verdict.lost, verdict.doubled, verdict.forged, verdict.open, verdict.followed))


async def test_what_was_refused_for_good_is_refused_again(database: Database) -> None:
    receiver = Receiver(SECRET, 1, ("410",))
    async with receiving(receiver) as url, sending(database) as run:
        _, dead = await first_try_and_end(run, url)
        for _ in range(3):
            database.retry(dead.id, now=run.clock.now)
            assert (await run.next_try()).state == "dead"
        assert [(request.answer, request.effect) for request in receiver.requests] == [
            ("410", True),
            *[("410", False)] * 3,
        ]
