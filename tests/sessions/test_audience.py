"""Viewers of a session, without sockets: what each gets, in which order, and what is held for them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from live_asr.core.errors import LiveAsrError, Unavailable
from live_asr.core.messages import Ack, Commit, Partial, Speech, Stopped, encode
from live_asr.sessions import audience as viewers
from live_asr.sessions.audience import Audience, Viewer, Viewers, event_of
from live_asr.storage.database import Database
from live_asr.storage.file_journal import FileJournal

TIMEOUT = 10.0


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flush in the next turn of the loop: nothing here is about pace."""
    monkeypatch.setattr(viewers, "FLUSH_INTERVAL", 0.0)


def publish(audience: Audience, *messages: Commit | Partial | Speech | Stopped | Ack) -> None:
    for message in messages:
        audience.publish(message, encode(message))


def commit(seq: int) -> Commit:
    return Commit(seq, (), f" word {seq}", 0)


def event(message: Commit) -> bytes:
    return event_of(encode(message), message.seq)


async def nothing() -> Sequence[bytes]:
    raise AssertionError("all that was asked for is held")


async def all_of(viewer: Viewer) -> bytes:
    got = b""
    async with asyncio.timeout(TIMEOUT):
        while (chunk := await viewer.get()) is not None:
            got += chunk
    return got


async def test_viewers_who_are_up_to_date_get_the_same_bytes() -> None:
    audience = Audience()
    watching = [await audience.join(0, nothing) for _ in range(3)]
    publish(audience, commit(1), commit(2))
    async with asyncio.timeout(TIMEOUT):
        chunks = [await viewer.get() for viewer in watching]
        publish(audience, commit(3))
        again = [await viewer.get() for viewer in watching]
    assert chunks == [event(commit(1)) + event(commit(2))] * 3
    assert all(chunk is again[0] for chunk in again)


async def test_a_viewer_who_comes_late_gets_the_record_and_the_tail_that_holds() -> None:
    audience = Audience()
    publish(audience, commit(1), Partial(" old", (), 0.0, 1.0), commit(2), Partial(" new", (), 1.0, 2.0))
    await asyncio.sleep(0)
    viewer = await audience.join(0, nothing)
    audience.close()
    got = await all_of(viewer)
    assert got.startswith(event(commit(1)) + event(commit(2)))
    assert b" old" not in got


async def test_the_tail_before_a_commit_is_not_given_to_who_comes_after_it() -> None:
    audience = Audience()
    publish(audience, Partial(" hello", (), 0.0, 1.0), commit(1))
    early = await audience.join(0, nothing)
    await early.get()
    late = await audience.join(0, nothing)
    async with asyncio.timeout(TIMEOUT):
        assert await late.get() == event(commit(1))
    audience.close()
    assert await all_of(late) == b""


async def test_what_is_for_the_client_alone_is_not_told() -> None:
    audience = Audience()
    viewer = await audience.join(0, nothing)
    publish(audience, Ack(1), commit(1))
    audience.close()
    assert await all_of(viewer) == event(commit(1))


async def test_a_session_that_failed_says_so_as_the_last_thing() -> None:
    audience = Audience()
    viewer = await audience.join(0, nothing)
    publish(audience, commit(1))
    audience.close(LiveAsrError("It broke.", code="internal"))
    got = await all_of(viewer)
    assert got.startswith(event(commit(1)))
    assert b'"code":"internal"' in got


async def test_of_what_is_published_at_once_a_viewer_gets_the_newest_tail_alone() -> None:
    audience = Audience()
    viewer = await audience.join(0, nothing)
    publish(audience, commit(1), *(Partial(f" tail {number}", (), 0.0, 1.0) for number in range(2)))
    async with asyncio.timeout(TIMEOUT):
        first = await viewer.get()
    assert first is not None
    assert first.startswith(event(commit(1)))
    assert b"tail 1" in first
    assert b"tail 0" not in first


async def test_a_long_record_is_held_only_while_somebody_watches_and_read_again_for_the_next() -> None:
    audience = Audience()
    record = [commit(seq) for seq in range(1, 1001)]
    publish(audience, *record)
    assert audience.held_count <= 2 * viewers.RECENT
    loads = 0

    async def load() -> Sequence[bytes]:
        nonlocal loads
        loads += 1
        return [event(message) for message in record[:900]]

    both = [await audience.join(0, load), await audience.join(0, load)]
    await audience.join(990, nothing)
    assert (loads, audience.held_count) == (1, 1000)
    audience.close()
    assert await all_of(both[0]) == await all_of(both[1]) == b"".join(map(event, record))
    for viewer in list(both):
        viewer.leave()


async def test_a_disk_that_is_behind_asks_viewers_to_come_again() -> None:
    audience = Audience(last_seq=5)

    async def load() -> Sequence[bytes]:
        return [event(commit(1))]

    with pytest.raises(Unavailable):
        await audience.join(0, load)
    assert len(audience) == 0


async def test_a_session_that_is_taken_up_by_another_run_goes_on_for_its_viewers() -> None:
    audience = Audience(last_seq=2)
    viewer = await audience.join(2, nothing)
    publish(audience, commit(3))
    audience.close()
    assert await all_of(viewer) == event(commit(3))


async def test_a_session_that_waits_to_be_taken_up_is_read_once_for_all_who_watch_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(f"sqlite:///{tmp_path}/live-asr.db")
    database.prepare()
    store = FileJournal(tmp_path)
    await store.start()
    spool = await store.open("a1", {})
    spool.append_message(encode(commit(1)))
    await store.close()
    database.add_session("a1", {"type": "start"}, created_at=0.0)
    reads: list[str] = []
    read = viewers.kept_events

    def counted(store: FileJournal, session_id: str) -> list[bytes]:
        reads.append(session_id)
        return read(store, session_id)

    monkeypatch.setattr(viewers, "kept_events", counted)
    desk = Viewers(lambda _: None, store, database, most=10)
    for _ in range(3):
        watching = await desk.watch("a1", 0)
        assert watching is not None
        assert await all_of(watching) == event(commit(1))
        watching.leave()
    assert reads == ["a1"]
    desk.forget("a1")
    assert await desk.watch("a1", 0) is not None
    assert reads == ["a1", "a1"]
    database.close()
