"""Jobs that came to one of several servers: one of them does each, and another where that one is gone."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from live_asr.core.errors import Superseded
from live_asr.core.types import Turn
from live_asr.storage.database import NewDelivery
from live_asr.storage.jobs import JobEnd, delivery_id_of
from tests.storage.sharing import Server

Pair = tuple[Server, Server]
END = JobEnd(
    "a1",
    {"type": "start", "title": "talk.mp3"},
    1.0,
    "done",
    2.0,
    duration=30.0,
    revision=1,
    labels="full",
    text="hello there",
    delivery=NewDelivery("https://example.com/hook", b"{}", delivery_id_of("a1")),
)
FAILED = replace(END, state="failed", text=None, error={"code": "engine", "message": "It broke."})
SAID = [b'{"seq":1}', b'{"seq":2}']
TURNS = (Turn(0, 16_000, "SPEAKER_00"),)


def add(server: Server, job_id: str, upload: str | None = None) -> None:
    given = {"jobId": job_id, "audioUrl": "s3://b/k"}
    assert server.database.add_job(job_id, given, upload=upload, created_at=1.0)


async def test_a_job_is_one_server_s_until_that_one_is_gone(pair: Pair) -> None:
    one, other = pair
    add(one, "a1")
    taken = one.database.take_job("a1")
    assert taken is not None and taken.is_taken
    assert other.database.take_job("a1") is None
    assert other.database.waiting() == []
    assert one.database.waiting() == [("a1", None)], "it stays its own between two tries"
    seen = other.database.waiting_job("a1")
    assert seen is not None and seen.is_taken
    await one.die()
    seen = other.database.waiting_job("a1")
    assert seen is not None and not seen.is_taken
    assert other.database.waiting() == [("a1", None)]
    assert other.database.take_job("a1") is not None


async def test_who_was_not_there_itself_takes_the_jobs_of_nobody(pair: Pair) -> None:
    """The database was away: all servers were silent for too long, and none of them is gone."""
    one, other = pair
    for name in ("a1", "b2"):
        add(one, name)
    assert one.database.take_job("a1") is not None
    await one.die()
    await other.die()
    other.journal._beat()
    assert other.database.waiting() == [("b2", None)]
    assert other.database.take_job("a1") is None
    assert other.database.take_job("b2") is not None, "nobody had it"


async def test_servers_that_look_together_never_take_the_same_job(pair: Pair) -> None:
    for number in range(30):
        add(pair[0], f"j{number}")
    taken: list[list[str]] = [[], []]

    async def take(which: int) -> None:
        database = pair[which].database
        for job_id, _ in await database.call(database.waiting):
            if await database.call(database.take_job, job_id) is not None:
                taken[which].append(job_id)

    await asyncio.gather(take(0), take(1))
    assert len({*taken[0], *taken[1]}) == len(taken[0]) + len(taken[1]) == 30


async def test_a_job_that_is_given_back_is_anybody_s_and_has_lost_no_run(pair: Pair) -> None:
    one, other = pair
    add(one, "a1")
    assert one.database.take_job("a1") is not None
    one.database.begin_job("a1")
    one.database.give_job_back("a1")
    taken = other.database.take_job("a1")
    assert taken is not None and taken.attempts == 0
    one.database.give_job_back("a1")
    assert one.database.take_job("a1") is None, "it was the other one's by then"


async def test_the_end_of_a_job_is_kept_by_who_has_it_with_its_words_and_once(pair: Pair) -> None:
    one, other = pair
    add(one, "a1")
    assert one.database.take_job("a1") is not None
    await one.die()
    assert other.database.take_job("a1") is not None
    for end in (FAILED, END):
        keep = one.journal.keep_whole("a1", {}, [b'{"seq":1,"of":"one"}'], ())
        with pytest.raises(Superseded):
            one.database.finish_job(end, keep)
    assert one.database.session("a1") is None and one.database.deliveries() == []
    keep = other.journal.keep_whole("a1", {"session": "a1"}, SAID, TURNS)
    assert other.database.finish_job(END, keep)
    assert not other.database.finish_job(END, keep), "the answer to the first one was lost"
    assert not one.database.finish_job(FAILED)
    for server in pair:
        stored = server.database.session("a1")
        assert stored is not None and (stored.state, stored.duration) == ("done", 30.0)
        assert list(server.journal.messages("a1")) == SAID
        assert server.journal.turns("a1") == TURNS
        assert server.journal.about("a1") == {"session": "a1"}
        assert server.journal.kept_audio("a1") is None
        assert server.database.waiting() == []
    assert [delivery.id for delivery in one.database.deliveries()] == [delivery_id_of("a1")]
    assert one.journal.claim(8) == other.journal.claim(8) == []


async def test_a_job_whose_session_is_being_erased_may_come_about_again(pair: Pair) -> None:
    one, other = pair
    for said in (SAID[:1], SAID):
        add(one, "a1")
        assert one.database.take_job("a1") is not None
        assert one.database.finish_job(END, one.journal.keep_whole("a1", {}, said, ()))
        assert list(other.journal.messages("a1")) == said
        if said is not SAID:
            assert other.journal.mark_deleted("a1")
            assert other.database.delete_session("a1")
    other.journal.erase("a1")
    assert list(one.journal.messages("a1")) == SAID
