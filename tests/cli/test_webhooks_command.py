"""`live-asr webhooks`, as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from live_asr.cli.webhooks import wait_in_words
from live_asr.storage.database import Database, Delivery, NewDelivery, sqlite_url
from tests.conftest import ROOT

URL = "https://someone:hunter2@hooks.example.com/done?token=swordfish"


def webhooks(*words: str, data: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    where = [] if data is None else ["--data", str(data)]
    return subprocess.run(
        [sys.executable, "-m", "live_asr.cli", "webhooks", *words, *where],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A data folder's database, open beside the command, as a running server has it."""
    database = Database(sqlite_url(tmp_path / "live-asr.db"))
    database.prepare()
    yield database
    database.close()


def add(database: Database, session_id: str, state: str, error: str | None = None) -> Delivery:
    """Add a delivery that has been tried once."""
    database.add_session(session_id, {}, created_at=1.0)
    database.finish_session(session_id, state="done", ended_at=2.0, delivery=NewDelivery(URL, b"{}"))
    (delivery,) = database.deliveries(session_id=session_id)
    tried = database.record_try(
        delivery.id,
        state=state,
        next_at=time.time() + 3600,
        last_status=500 if error else 200,
        last_error=error,
    )
    assert tried is not None
    return tried


def test_list_shows_each_delivery_with_its_state_and_its_last_answer_but_no_secret(
    database: Database, tmp_path: Path
) -> None:
    pending = add(database, "a1", "pending", "It answered 500.")
    add(database, "b2", "delivered")
    done = webhooks("list", data=tmp_path)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if pending.id in line]
    assert line.split()[1:4] == ["a1", "pending", "1"]
    assert " https://hooks.example.com " in line
    assert line.rstrip().endswith("It answered 500.")
    assert done.stdout.splitlines()[-1] == "1 pending, 1 delivered, 0 dead"
    assert not any(secret in done.stdout for secret in ("hunter2", "swordfish", "/done"))


def test_list_can_be_narrowed_to_a_state_or_a_session(database: Database, tmp_path: Path) -> None:
    add(database, "a1", "pending", "It answered 500.")
    add(database, "b2", "dead", "It answered 500.")
    by_state = webhooks("list", "--state", "dead", data=tmp_path).stdout
    by_session = webhooks("list", "--session", "b2", data=tmp_path).stdout
    assert " b2 " in by_state and " a1 " not in by_state
    assert " b2 " in by_session and " a1 " not in by_session


def test_list_of_an_empty_outbox_counts_nothing(database: Database, tmp_path: Path) -> None:
    assert webhooks("list", data=tmp_path).stdout == "0 pending, 0 delivered, 0 dead\n"


def test_dead_shows_what_was_given_up_and_how_to_have_it_tried_again(
    database: Database, tmp_path: Path
) -> None:
    add(database, "a1", "pending", "It answered 500.")
    assert webhooks("dead", data=tmp_path).stdout == "No deliveries have been given up.\n"
    dead = add(database, "b2", "dead", "It answered 410: it wants no more of these.")
    shown = webhooks("dead", data=tmp_path).stdout
    assert dead.id in shown
    assert "It answered 410: it wants no more of these." in shown
    assert " a1 " not in shown
    assert "live-asr webhooks retry ID" in shown


def test_retry_makes_the_named_ones_due_now(database: Database, tmp_path: Path) -> None:
    wanted = [add(database, "a1", "dead", "no").id, add(database, "b2", "pending", "no").id]
    left = add(database, "c3", "dead", "no").id
    done = webhooks("retry", *wanted, data=tmp_path)
    assert done.stdout.splitlines() == [f"{delivery_id}: due now" for delivery_id in wanted]
    assert {delivery.id for delivery in database.due(time.time(), limit=9)} == set(wanted)
    assert [delivery.id for delivery in database.deliveries(state="dead")] == [left]


def test_retry_of_all_that_is_dead_leaves_the_pending_ones_in_their_time(
    database: Database, tmp_path: Path
) -> None:
    wanted = {add(database, name, "dead", "no").id for name in ("a1", "b2")}
    add(database, "c3", "pending", "no")
    assert webhooks("retry", "--all-dead", data=tmp_path).stdout == "2 due now\n"
    assert {delivery.id for delivery in database.due(time.time(), limit=9)} == wanted
    assert webhooks("retry", "--all-dead", data=tmp_path).stdout == "No deliveries have been given up.\n"


def test_what_cannot_be_retried_is_said_in_a_sentence(database: Database, tmp_path: Path) -> None:
    delivered = add(database, "a1", "delivered").id
    for words, sentence in [
        (["msg_unknown"], "Error: There is no delivery msg_unknown."),
        ([delivered], f"Error: {delivered} was delivered already."),
        ([], "Error: Name the deliveries to try again, or give --all-dead."),
    ]:
        done = webhooks("retry", *words, data=tmp_path)
        assert done.returncode == 2
        assert done.stderr.splitlines()[0] == sentence
        assert "Traceback" not in done.stderr


def test_a_folder_without_a_database_is_said_and_none_is_made(tmp_path: Path) -> None:
    done = webhooks("list", data=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"Error: There is no database yet for {tmp_path}.")
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_does_not_answer_is_said_without_its_password() -> None:
    url = "postgresql+psycopg://someone:hunter2@127.0.0.1:1/captions"
    done = webhooks("list", LIVE_ASR_STORAGE__DATABASE=url)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: The database captions at 127.0.0.1")
    assert "hunter2" not in done.stderr
    assert "Traceback" not in done.stderr


def test_help_names_the_three_commands() -> None:
    shown = webhooks("--help").stdout
    assert all(name in shown for name in ("list", "retry", "dead"))


@pytest.mark.parametrize(
    ("wait", "words"),
    [(-9, "now"), (0.4, "now"), (5, "in 5 s"), (99, "in 99 s"), (120, "in 2 min"), (21600, "in 6 h")],
)
def test_the_time_until_the_next_try_is_said_in_its_greatest_unit(wait: float, words: str) -> None:
    assert wait_in_words(wait) == words
