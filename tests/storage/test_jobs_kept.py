"""What the database keeps of jobs, in both kinds: one end for one job, whoever writes it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from live_asr.storage.database import NewDelivery
from live_asr.storage.jobs import JobDatabase, JobEnd, delivery_id_of

END = JobEnd(
    "a1",
    {"type": "start", "title": "talk.mp3"},
    1.0,
    "done",
    2.0,
    duration=30.0,
    language="en",
    revision=1,
    labels="full",
    text="hello there",
    delivery=NewDelivery("https://example.com/hook", b"{}", delivery_id_of("a1")),
)


@pytest.fixture
def jobs(url: str) -> Iterator[JobDatabase]:
    """The database, prepared."""
    database = JobDatabase(url)
    database.prepare()
    yield database
    database.close()


def test_a_job_s_end_is_a_session_and_its_delivery_once(jobs: JobDatabase) -> None:
    assert jobs.finish_job(END)
    assert not jobs.finish_job(replace(END, state="failed", text="other"))
    stored = jobs.session("a1")
    assert stored is not None
    assert (stored.state, stored.duration, stored.title) == ("done", 30.0, "talk.mp3")
    (delivery,) = jobs.deliveries()
    assert (delivery.id, delivery.state) == (delivery_id_of("a1"), "pending")
    assert [one.id for one in jobs.sessions(words=["hello"])] == ["a1"]
    assert jobs.unfinished() == [], "no server takes it for a session of its own that it has to end"


def test_of_many_who_end_the_same_job_at_once_one_does(url: str) -> None:
    databases = [JobDatabase(url) for _ in range(4)]
    databases[0].prepare()
    with ThreadPoolExecutor(4) as threads:
        ended = list(threads.map(lambda database: database.finish_job(END), databases))
    assert sorted(ended) == [False, False, False, True]
    assert len(databases[0].deliveries()) == 1
    for database in databases:
        database.close()


def test_what_is_kept_goes_with_the_session_that_it_was_made_for(jobs: JobDatabase) -> None:
    jobs.keep_result("k", "a1", b"result", created_at=1.0)
    jobs.keep_result("k", "a2", b"another", created_at=2.0)
    assert jobs.kept_result("k") == b"result"
    assert jobs.kept_result("none") is None
    jobs.finish_job(END)
    assert jobs.delete_session("a1")
    assert jobs.kept_result("k") is None


def test_a_job_waits_until_it_is_over(jobs: JobDatabase) -> None:
    assert jobs.add_job("a1", {"jobId": 1}, upload="a1", created_at=1.0)
    assert not jobs.add_job("a1", {"jobId": 2}, upload=None, created_at=2.0)
    assert jobs.add_job("a0", {"jobId": 3}, upload=None, created_at=3.0)
    jobs.begin_job("a1")
    jobs.begin_job("a1")
    jobs.give_job_back("a1")
    assert jobs.waiting() == [("a1", None), ("a0", None)]
    first = jobs.waiting_job("a1")
    assert first is not None
    assert (first.id, first.job, first.upload, first.attempts) == ("a1", {"jobId": 1}, "a1", 1)
    jobs.finish_job(END)
    assert jobs.waiting_job("a1") is None
    assert jobs.waiting() == [("a0", None)]


def test_one_token_leaves_room_for_the_others(jobs: JobDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("live_asr.storage.jobs.MAX_OF_ONE", 2)
    monkeypatch.setattr("live_asr.storage.jobs.MAX_WAITING", 5)

    def added(job_id: str, owner: str | None) -> bool:
        return jobs.add_job(job_id, {}, upload=None, created_at=1.0, owner=owner)

    assert [added(f"a{number}", "ann") for number in range(3)] == [True, True, False]
    assert added("b", "bob")
    assert [added(f"n{number}", None) for number in range(3)] == [True, True, False]


def test_what_was_kept_of_a_job_that_failed_is_forgotten_and_of_no_other(jobs: JobDatabase) -> None:
    jobs.keep_result("k1", "a1", b"result", created_at=1.0)
    jobs.keep_result("k2", "a2", b"result", created_at=1.0)
    jobs.finish_job(END)
    assert not jobs.forget_result("a1")
    assert jobs.forget_result("a2")
    assert (jobs.kept_result("k1"), jobs.kept_result("k2")) == (b"result", None)


def test_one_of_those_that_share_a_database_delivers_and_then_another(url: str) -> None:
    first, second = JobDatabase(url), JobDatabase(url)
    first.prepare()
    assert first.try_hold()
    if url.startswith("postgresql"):  # SQLite's file lies in a folder that is held
        assert not second.try_hold()
    first.close()
    assert second.try_hold()
    second.close()
