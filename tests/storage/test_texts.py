"""What sessions are called, found by, and made into by hand, in both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy
from stored import SPEAKER, START

from live_asr.storage.database import Database, Edition


def add(database: Database, session_id: str, text: str, at: float, **start: str) -> None:
    database.add_session(session_id, {**START, **start}, created_at=at)
    database.finish_session(session_id, state="done", ended_at=at + 1, text=text)


def found(database: Database, *words: str, **how: object) -> list[str]:
    return [session.id for session in database.sessions(words=words, **how)]  # type: ignore[arg-type]


@pytest.fixture
def library(database: Database) -> Database:
    add(database, "a", "Straße in Hà Nội, 50% off", 1.0)
    add(database, "b", "The glass isn’t heavy. A_B", 2.0, title="Glas\n\x00und  Straße")
    add(database, "c", "nothing of the kind", 3.0)
    return database


def test_all_words_are_found_in_any_case_and_any_form(library: Database) -> None:
    assert found(library, "STRASSE") == ["b", "a"]
    assert found(library, "strasse", "hà") == ["a"]
    assert found(library, "Hà") == ["a"], "letters made of two characters are the same ones"
    assert found(library, "isn't", "glas") == ["b"]
    assert found(library, "50%") == ["a"]
    assert (found(library, "a_b"), found(library, "a%b"), found(library, "a\\b")) == (["b"], [], [])
    assert found(library) == ["c", "b", "a"]


def test_pages_of_what_is_found_follow_each_other(library: Database) -> None:
    assert found(library, "strasse", limit=1) == ["b"]
    assert found(library, "strasse", limit=1, before="b") == ["a"]
    assert found(library, "strasse", limit=1, before="a") == []


def test_titles_and_names_are_found_as_they_are_now(library: Database) -> None:
    assert [session.title for session in library.sessions()] == [None, "Glas und Straße", None]
    library.set_title("c", "Über uns")
    library.set_names("c", {"S1": "Öle Öhm"})
    assert found(library, "über", "ÖHM") == ["c"]
    library.set_title("c", None)
    assert (found(library, "über"), found(library, "öhm")) == ([], ["c"])
    library.set_names("c", {})
    assert found(library, "öhm") == []
    library.set_title("gone", "x")
    library.set_names("gone", {"S1": "x"})
    stored = library.session("c")
    assert stored is not None and (stored.title, stored.names) == (None, {})


def test_an_excerpt_shows_the_word_that_was_searched_for_in_whole_words(database: Database) -> None:
    add(database, "a", "so it went on " * 100 + "until Thornton came " + "and stayed " * 100, 1.0)
    add(database, "b", "short", 2.0)
    database.add_session("c", START, created_at=3.0)
    shown = database.excerpts(["a", "b", "c"], "THORNTON")
    assert shown["a"].startswith("… ") and shown["a"].endswith(" …")
    assert "until Thornton came and stayed" in shown["a"] and len(shown["a"]) <= 210
    assert (shown["b"], "c" in shown) == ("short", False)
    assert database.excerpts(["a"])["a"].startswith("so it went on so")


def test_sessions_whose_text_is_not_there_yet_are_told(database: Database) -> None:
    for session_id in ("a", "b"):
        database.add_session(session_id, START, created_at=1.0)
        database.finish_session(session_id, state="done", ended_at=2.0)
    database.add_session("live", START, created_at=1.0)
    database.set_title("b", "Has a row already")
    assert sorted(database.unread()) == ["a", "b"]
    database.set_text("a", "")
    database.set_text("b", "said \x00 before")
    database.set_text("gone", "x")
    assert database.unread() == []
    assert found(database, "said", "row") == ["b"]


def edition(number: int, final: bytes | None = b"{}") -> Edition:
    return Edition(number, final, None if final is None else [{"start": 0.0, "end": 1.5, "speaker": "S1"}])


def keep(database: Database, kept: Edition, text: str = "corrected") -> bool:
    return database.set_edition("a", kept, revision=2, speakers=[SPEAKER], text=text)


def test_an_edition_replaces_the_one_before_it_and_no_other(library: Database) -> None:
    assert library.edition("a") is None
    assert not keep(library, edition(2))
    assert keep(library, edition(1))
    assert library.edition("a") == edition(1)
    assert not keep(library, edition(1), "refused")
    assert keep(library, edition(2, None), "back again")
    assert library.edition("a") == edition(2, None)
    stored = library.session("a")
    assert stored is not None and (stored.revision, stored.speakers) == (2, [SPEAKER])
    assert (found(library, "corrected"), found(library, "refused"), found(library, "back")) == ([], [], ["a"])


def test_of_two_editions_at_once_one_is_kept(library: Database) -> None:
    with ThreadPoolExecutor(2) as threads:
        kept = list(threads.map(lambda final: keep(library, edition(1, final)), (b"one", b"two")))
    assert sorted(kept) == [False, True]
    made = library.edition("a")
    assert made is not None and made.final == (b"one" if kept[0] else b"two")


def test_what_is_erased_is_erased_with_its_text_and_its_editions(library: Database, url: str) -> None:
    keep(library, edition(1))
    library.delete_session("a")
    assert not keep(library, edition(2))
    assert (library.edition("a"), library.excerpts(["a"]), found(library, "strasse")) == (None, {}, ["b"])


def test_a_database_of_a_version_without_texts_gets_their_tables(database: Database, url: str) -> None:
    add(database, "a", "said", 1.0)
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE texts")
        connection.exec_driver_sql("DROP TABLE editions")
        connection.exec_driver_sql("DROP TABLE objects")
        connection.exec_driver_sql("DROP TABLE alembic_version")
    engine.dispose()
    database.prepare()
    assert [session.id for session in database.sessions()] == database.unread() == ["a"]
