"""The database: the same tests on SQLite and on PostgreSQL."""

from __future__ import annotations

import logging
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy

from live_asr.config.settings import StorageSettings
from live_asr.core.errors import ConfigError, StorageError
from live_asr.storage import tables
from live_asr.storage.database import Database, NewDelivery, database_url, sqlite_url
from tests.storage.stored import NEWS, SPEAKER, START, delivery_of, finish

# Sessions ---------------------------------------------------------------------------------------------


def test_a_session_is_read_back_as_it_was_opened(database: Database) -> None:
    database.add_session("a1", START, created_at=1234567890.125)
    found = database.session("a1")
    assert found is not None
    assert (found.id, found.state, found.created_at, found.start) == ("a1", "open", 1234567890.125, START)
    assert (found.ended_at, found.duration, found.language, found.revision) == (None, None, None, 0)
    assert (found.labels, found.error, list(found.speakers), found.names) == (None, None, [], {})


def test_a_session_that_was_never_opened_is_none(database: Database) -> None:
    assert database.session("a1") is None


def test_opening_a_session_a_second_time_changes_nothing(database: Database) -> None:
    database.add_session("a1", START, created_at=1.0)
    database.set_state("a1", "streaming")
    database.add_session("a1", {}, created_at=2.0)
    found = database.session("a1")
    assert found is not None and (found.state, found.created_at, found.start) == ("streaming", 1.0, START)


def test_a_session_that_ended_is_read_back_with_its_result(database: Database) -> None:
    database.add_session("a1", START, created_at=1.0)
    database.finish_session(
        "a1",
        state="done",
        ended_at=99.5,
        duration=12.345,
        language="vi",
        revision=1,
        labels="full",
        speakers=[SPEAKER],
    )
    found = database.session("a1")
    assert found is not None
    assert (found.state, found.ended_at, found.duration, found.language) == ("done", 99.5, 12.345, "vi")
    assert (found.revision, found.labels, list(found.speakers)) == (1, "full", [SPEAKER])


def test_a_session_that_failed_keeps_why(database: Database) -> None:
    database.add_session("a1", START, created_at=1.0)
    error = {"code": "internal", "message": "The full pass died."}
    database.finish_session("a1", state="failed", ended_at=2.0, error=error, delivery=NEWS)
    found = database.session("a1")
    assert found is not None and (found.state, found.error) == ("failed", error)
    assert delivery_of(database, "a1").state == "pending"


def test_a_session_that_is_over_stays_as_it_is_and_is_told_of_once(database: Database) -> None:
    finish(database, "a1")
    first = delivery_of(database, "a1")
    database.finish_session(
        "a1", state="failed", ended_at=60.0, delivery=NewDelivery("https://b.example", b"{}")
    )
    database.set_state("a1", "streaming")
    found = database.session("a1")
    assert found is not None and (found.state, found.ended_at) == ("done", 50.0)
    assert delivery_of(database, "a1") == first


def test_a_session_that_many_threads_end_at_once_is_told_of_once(database: Database) -> None:
    database.add_session("a1", START, created_at=1.0)

    def end(number: int) -> None:
        database.finish_session("a1", state="done", ended_at=float(number), delivery=NEWS)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(end, range(24)))
    assert len(database.deliveries()) == 1


def test_what_many_threads_write_is_all_there(database: Database) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: finish(database, f"a{number}"), range(60)))
    assert len(database.sessions(limit=100)) == len(database.deliveries()) == 60
    assert len({delivery.id for delivery in database.deliveries()}) == 60


def test_pages_of_sessions_show_each_once_newest_first(database: Database) -> None:
    for number in range(23):  # several were opened at the same instant
        database.add_session(f"a{number:02}", START, created_at=float(number // 4))
    seen: list[tuple[float, str]] = []
    before = None
    while page := database.sessions(limit=5, before=before):
        seen += [(session.created_at, session.id) for session in page]
        before = page[-1].id
    assert len(seen) == 23
    assert seen == sorted(seen, reverse=True)


def test_nothing_follows_a_session_that_there_is_not(database: Database) -> None:
    finish(database, "a1")
    assert database.sessions(before="b2") == []


def test_the_unfinished_sessions_are_those_neither_done_nor_failed(database: Database) -> None:
    states = ["open", "streaming", "draining", "finalizing"]
    for number, state in enumerate(states):
        database.add_session(state, START, created_at=float(number))
        database.set_state(state, state)
    finish(database, "done")
    database.add_session("failed", START, created_at=9.0)
    database.finish_session("failed", state="failed", ended_at=10.0)
    assert [session.id for session in database.unfinished()] == states


def test_names_are_replaced(database: Database) -> None:
    finish(database, "a1")
    database.set_names("a1", {"SPEAKER_00": "Anna", "S2": "Bộ"})
    database.set_names("a1", {"SPEAKER_00": "Änna"})
    found = database.session("a1")
    assert found is not None and found.names == {"SPEAKER_00": "Änna"}


def test_erasing_a_session_erases_its_pending_delivery_and_no_other(database: Database) -> None:
    finish(database, "a1")
    finish(database, "b2")
    assert database.delete_session("a1")
    assert database.session("a1") is None
    assert [delivery.session_id for delivery in database.deliveries()] == ["b2"]
    assert not database.delete_session("a1")


# The outbox -------------------------------------------------------------------------------------------


def test_a_new_delivery_is_due_at_once_and_has_an_id_of_its_own(database: Database) -> None:
    finish(database, "a1", at=50.0)
    finish(database, "b2", at=50.0)
    found = database.due(50.0, limit=10)
    assert {delivery.session_id for delivery in found} == {"a1", "b2"}
    assert len({delivery.id for delivery in found}) == 2
    assert all(delivery.id.startswith("msg_") for delivery in found)
    first = found[0]
    assert (first.url, first.body, first.state, first.attempts) == (NEWS.url, NEWS.body, "pending", 0)
    assert (first.last_status, first.last_error) == (None, None)


def test_a_delivery_is_not_due_before_its_time_nor_once_it_is_settled(database: Database) -> None:
    finish(database, "a1", at=50.0)
    delivery = delivery_of(database, "a1")
    database.record_try(delivery.id, state="pending", next_at=80.0, last_status=500, last_error="no")
    assert database.due(79.9, limit=10) == []
    assert [found.id for found in database.due(80.0, limit=10)] == [delivery.id]
    database.record_try(delivery.id, state="delivered", next_at=80.0, last_status=200, last_error=None)
    assert database.due(1e12, limit=10) == []
    kept = delivery_of(database, "a1")
    assert (kept.id, kept.state, kept.attempts, kept.last_status) == (delivery.id, "delivered", 2, 200)


def test_what_is_due_longest_comes_first_without_what_has_enough_attention(database: Database) -> None:
    for number, host in enumerate(["a", "b", "a", "c"]):
        finish(database, f"s{number}", NewDelivery(f"https://{host}.example/x", b"{}"), at=float(10 - number))
    assert [delivery.session_id for delivery in database.due(99.0, limit=3)] == ["s3", "s2", "s1"]
    in_flight = [delivery_of(database, "s3").id]
    found = database.due(99.0, limit=9, without=in_flight, receivers=["https://a.example"])
    assert [delivery.session_id for delivery in found] == ["s1"]


def test_retrying_makes_a_dead_delivery_due_with_all_its_tries_before_it(database: Database) -> None:
    finish(database, "a1")
    delivery = delivery_of(database, "a1")
    for _ in range(7):
        database.record_try(delivery.id, state="dead", next_at=60.0, last_status=500, last_error="no")
    retried = database.retry(delivery.id, now=100.0)
    assert retried is not None
    assert (retried.state, retried.next_at, retried.attempts, retried.tries) == ("pending", 100.0, 7, 0)
    assert [found.id for found in database.due(100.0, limit=1)] == [delivery.id]


def test_retrying_makes_a_pending_delivery_due_now(database: Database) -> None:
    finish(database, "a1")
    delivery = delivery_of(database, "a1")
    database.record_try(delivery.id, state="pending", next_at=9e9, last_status=503, last_error="no")
    database.retry(delivery.id, now=100.0)
    assert [found.id for found in database.due(100.0, limit=1)] == [delivery.id]


def test_retrying_all_that_is_dead_leaves_the_others_as_they_are(database: Database) -> None:
    for name, state in [("a1", "dead"), ("b2", "dead"), ("c3", "pending"), ("d4", "delivered")]:
        finish(database, name)
        delivery = delivery_of(database, name)
        database.record_try(delivery.id, state=state, next_at=200.0, last_status=500, last_error="no")
    assert database.retry_dead(now=100.0) == 2
    assert {delivery.session_id for delivery in database.due(100.0, limit=9)} == {"a1", "b2"}
    assert database.retry_dead(now=100.0) == 0


def test_a_try_that_fails_after_another_was_asked_for_leaves_the_delivery_due(database: Database) -> None:
    finish(database, "a1")
    begun = delivery_of(database, "a1")
    database.retry(begun.id, now=70.0)
    failure = {"next_at": 9e9, "last_status": 500, "last_error": "no"}
    tried = database.record_try(begun.id, state="dead", due_at=begun.next_at, **failure)
    assert tried is not None
    assert (tried.state, tried.next_at, tried.attempts, tried.tries) == ("pending", 70.0, 1, 0)
    assert tried.last_error == "no"


def test_a_try_that_succeeds_after_another_was_asked_for_settles_it(database: Database) -> None:
    finish(database, "a1")
    begun = delivery_of(database, "a1")
    database.retry(begun.id, now=70.0)
    database.record_try(
        begun.id, state="delivered", due_at=begun.next_at, next_at=71.0, last_status=200, last_error=None
    )
    assert database.due(1e12, limit=1) == []


def test_nothing_that_may_be_secret_is_in_what_python_shows_of_a_delivery(database: Database) -> None:
    new = NewDelivery("https://someone:hunter2@hooks.example.com/", b"hunter2")
    database.add_session("a1", {"webhook": {"url": new.url}}, created_at=1.0)
    database.finish_session("a1", state="done", ended_at=2.0, delivery=new)
    assert "hunter2" not in f"{new!r} {delivery_of(database, 'a1')!r} {database.session('a1')!r}"


def test_a_delivered_one_is_not_retried_and_an_unknown_one_is_none(database: Database) -> None:
    finish(database, "a1")
    delivery = delivery_of(database, "a1")
    database.record_try(delivery.id, state="delivered", next_at=60.0, last_status=200, last_error=None)
    kept = database.retry(delivery.id, now=100.0)
    assert kept is not None and kept.state == "delivered"
    assert database.due(1e12, limit=1) == []
    assert database.retry("msg_unknown", now=100.0) is None


def test_a_try_of_a_delivery_that_was_erased_meanwhile_is_nothing(database: Database) -> None:
    finish(database, "a1")
    delivery = delivery_of(database, "a1")
    database.delete_session("a1")
    tried = database.record_try(delivery.id, state="pending", next_at=1.0, last_status=None, last_error="x")
    assert tried is None


def test_deliveries_are_listed_by_state_and_counted(database: Database) -> None:
    for name in ("a1", "b2", "c3"):
        finish(database, name)
    dead = delivery_of(database, "b2")
    database.record_try(dead.id, state="dead", next_at=60.0, last_status=410, last_error="gone")
    assert [delivery.id for delivery in database.deliveries(state="dead")] == [dead.id]
    assert database.count_deliveries() == {"pending": 2, "delivered": 0, "dead": 1}
    assert len(database.deliveries(limit=2)) == 2


# The database itself ----------------------------------------------------------------------------------


def test_preparing_again_and_by_many_at_once_keeps_what_is_there(url: str) -> None:
    databases = [Database(url) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(Database.prepare, databases))
    finish(databases[0], "a1")
    databases[1].prepare()
    assert databases[1].session("a1") is not None
    for database in databases:
        database.close()
        database.close()


def test_whether_a_server_made_the_tables_can_be_asked_without_making_any(url: str, tmp_path: Path) -> None:
    database = Database(url)
    assert not database.is_prepared()
    assert list(tmp_path.iterdir()) == []
    database.prepare()
    assert database.is_prepared()
    database.close()


def test_tables_of_another_version_are_refused_with_both_numbers(url: str) -> None:
    database = Database(url)
    database.prepare()
    database.close()
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE live_asr_schema SET version = 7")
    engine.dispose()
    with pytest.raises(StorageError, match="version 7; this live-asr knows 1"):
        database.prepare()
    database.close()


def test_another_process_reads_and_writes_while_this_one_does(database: Database, url: str) -> None:
    code = (
        "import sys; from live_asr.storage.database import Database, NewDelivery\n"
        "database = Database(sys.argv[1])\n"
        "for number in range(40):\n"
        "    database.add_session(f'b{number}', {}, created_at=1.0)\n"
        "    database.finish_session(f'b{number}', state='done', ended_at=2.0,"
        " delivery=NewDelivery('https://b.example', b'{}'))\n"
        "    database.deliveries()\n"
        "database.close()\n"
    )
    other = subprocess.Popen([sys.executable, "-c", code, url])
    written = 0
    while other.poll() is None and written < 2000:
        database.add_session(f"a{written}", {}, created_at=1.0)
        written += 1
    assert other.wait() == 0
    assert len(database.sessions(limit=9999)) == 40 + written


def test_an_end_that_the_database_refuses_leaves_no_half_behind(database: Database, url: str) -> None:
    finish(database, "a1")
    database.add_session("b2", START, created_at=1.0)
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        others = " CASCADE" if engine.dialect.name == "postgresql" else ""
        connection.exec_driver_sql(f"DROP TABLE deliveries{others}")
    engine.dispose()
    with pytest.raises(StorageError):
        database.finish_session("b2", state="done", ended_at=2.0, delivery=NEWS)
    assert [session.id for session in database.unfinished()] == ["b2"]


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_database_serves_one_server_until_that_lets_go(
    database: Database, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "TIMEOUT", 1)
    database.hold()
    second = Database(url)
    with pytest.raises(StorageError, match="Another live-asr uses the database") as refusal:
        second.hold()
    assert "secret" not in str(refusal.value)
    second.add_session("a1", START, created_at=1.0)  # who only looks, or mends, needs no hold
    database.close()
    second.hold()
    second.close()


# Where it is, and what it says when it is not there ----------------------------------------------------


def test_sqlite_syncs_every_commit_and_its_file_is_its_owners_alone(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path / "live-asr.db"))
    database.prepare()
    finish(database, "a1")
    with database._reading() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    database.close()


def test_what_was_erased_from_sqlite_is_in_none_of_its_files(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path / "live-asr.db"))
    database.prepare()
    finish(database, "a1", NewDelivery(NEWS.url, b"what nobody may read again" * 400))
    assert any(b"nobody may read" in path.read_bytes() for path in tmp_path.iterdir())
    database.delete_session("a1")
    assert not any(b"nobody may read" in path.read_bytes() for path in tmp_path.iterdir())
    database.close()  # the last connection carries the journal over and removes it
    assert [path.name for path in tmp_path.iterdir()] == ["live-asr.db"]
    assert b"nobody may read" not in (tmp_path / "live-asr.db").read_bytes()


def test_the_database_is_a_file_in_the_data_folder_unless_a_url_names_another(tmp_path: Path) -> None:
    assert database_url(StorageSettings(data=tmp_path)) == f"sqlite:///{tmp_path}/live-asr.db"
    other = "postgresql+psycopg://someone:secret@db.example/captions"
    assert database_url(StorageSettings(data=tmp_path, database=other)) == other


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("live-asr.db", "URL of the database cannot be read"),
        ("mysql://someone:hunter2@db.example/x", "mysql is not supported"),
        ("postgresql+hunter2://someone@db.example/x", "driver of postgresql"),
    ],
)
def test_a_url_of_no_database_that_we_know_is_refused_in_a_sentence(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Database(url)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_a_server_that_does_not_answer_is_a_sentence_without_the_password(scheme: str) -> None:
    database = Database(f"{scheme}://someone:hunter2@127.0.0.1:1/captions")
    with pytest.raises(StorageError) as caught:
        database.prepare()
    assert "captions at 127.0.0.1" in caught.value.message
    assert caught.value.hint
    assert "hunter2" not in str(caught.value)
    database.close()


def test_a_file_that_is_no_database_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "live-asr.db").write_bytes(b"The quick brown fox jumps over the lazy dog. " * 99)
    database = Database(sqlite_url(tmp_path / "live-asr.db"))
    with pytest.raises(StorageError, match="not a database"):
        database.prepare()
    database.close()


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    database = Database(sqlite_url(tmp_path / "file" / "live-asr.db"))
    with pytest.raises(StorageError, match="cannot be opened"):
        database.prepare()


def test_a_full_disk_is_called_a_full_disk(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path / "live-asr.db"))
    database.prepare()
    with pytest.raises(StorageError) as caught, database._writing() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")  # SQLite's own way to be full
        for number in range(99):
            connection.exec_driver_sql(
                "INSERT INTO sessions (id, state, created_at, revision, speakers, start, names)"
                " VALUES (?, 'open', 0, 0, '[]', ?, '{}')",
                (str(number), "x" * 5000),
            )
    assert caught.value.code == "storage_full"
    database.close()


def test_no_error_repeats_what_was_to_be_kept(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(StorageError) as caught, database._writing() as connection:
        row = {"id": "d", "session_id": "nobody", "url": "https://u:hunter2@h.example", "body": b"hunter2"}
        columns = ", ".join(row)
        values = ", ".join(f":{name}" for name in row)
        connection.execute(
            sqlalchemy.text(
                f"INSERT INTO deliveries ({columns}, receiver, state, attempts, tries, next_at, created_at)"
                f" VALUES ({values}, '', 'pending', 0, 0, 0, 0)"
            ),
            row,
        )
    assert "hunter2" not in f"{caught.value} {caught.value.__cause__} {caplog.text}"


def test_a_reader_sees_what_was_kept_while_another_writes(tmp_path: Path) -> None:
    path = tmp_path / "live-asr.db"
    database = Database(sqlite_url(path))
    database.prepare()
    finish(database, "a1")
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    try:
        assert database.session("a1") is not None
    finally:
        writer.execute("ROLLBACK")
        writer.close()
    database.close()


Use = Callable[[Database], object]


@pytest.mark.parametrize(
    "use",
    [
        lambda database: database.session("a1"),
        lambda database: database.sessions(),
        lambda database: database.due(1.0, limit=1),
        lambda database: database.delete_session("a1"),
    ],
)
def test_a_database_without_tables_is_a_sentence_whatever_is_asked(
    url: str, use: Use, tmp_path: Path
) -> None:
    (tmp_path / "deep").mkdir(exist_ok=True)
    database = Database(url)
    with pytest.raises(StorageError):
        use(database)
    database.close()
