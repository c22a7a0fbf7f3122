"""What is told of sessions over HTTP, from a real disk and a real database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from threading import current_thread, main_thread
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scripted_pass import ScriptedPass, turn, words

from live_asr.config.settings import Settings, StorageSettings
from live_asr.core.errors import LiveAsrError
from live_asr.core.export import Record, to_rttm, to_txt, to_vtt
from live_asr.core.messages import Commit, KeptMessage, Label, Start, encode, to_dict, wire_word
from live_asr.core.session import Session
from live_asr.core.transcript import Transcript
from live_asr.core.types import samples
from live_asr.sessions.catalogue import Catalogue
from live_asr.sessions.finalizer import Finalizer
from live_asr.sessions.metrics import Metrics
from live_asr.storage.database import Database, sqlite_url
from live_asr.storage.file_journal import FileJournal

FAULT = LiveAsrError("The server ended before this session did.", code="interrupted")


class Live:
    """The live sessions: stands in for `SessionRegistry` by what is asked of it."""

    def __init__(self) -> None:
        self.runners: dict[str, SimpleNamespace] = {}

    def runner_of(self, session_id: str) -> SimpleNamespace | None:
        return self.runners.get(session_id)


class Shelf:
    """A catalogue, and what is written for it to find."""

    def __init__(self, folder: Path) -> None:
        self.store = FileJournal(folder / "sessions", interval=0.01)
        self.database = Database(sqlite_url(folder / "live-asr.db"))
        self.finalizer = Finalizer(
            Settings(storage=StorageSettings(data=folder)),
            self.store,
            self.database,
            ScriptedPass(),
            wake=lambda: None,
            metrics=Metrics(),
        )
        self.registry = Live()
        self.catalogue = Catalogue(self.registry, self.finalizer, self.store, self.database)  # type: ignore[arg-type]

    async def live(self, text: str, *speakers: str) -> Transcript:
        """Keep what a live session said, words of half a second, and return it; it never stops."""
        spool = self.spool = await self.store.open("a1", {"start": to_dict(Start())})
        self.database.add_session("a1", to_dict(Start()), created_at=1.0)
        transcript = Transcript()
        said = [replace(word, speaker=label) for word, label in zip(words(text), speakers, strict=True)]
        messages: list[KeptMessage] = []
        if said:
            messages.append(Commit(1, tuple(map(wire_word, said)), "".join(word.text for word in said), 0))
            messages.append(Label(2, 0.5, 1.0, speakers[0]))
        for message in messages:
            transcript.apply(message)
            spool.append_message(encode(message))
        await spool.settled()
        return transcript


@pytest.fixture
async def shelf(tmp_path: Path) -> AsyncIterator[Shelf]:
    shelf = Shelf(tmp_path)
    await shelf.store.start()
    shelf.database.prepare()
    yield shelf
    await shelf.store.close()
    shelf.database.close()


async def test_the_speakers_of_a_failed_session_are_those_of_its_exports_and_can_be_named(
    shelf: Shelf,
) -> None:
    transcript = await shelf.live("one two three four", "S1", "S3", "S2", "S2")
    heard = (turn(0.0, 1.1, "S1"), turn(0.9, 2.0, "S2"))
    await shelf.finalizer.fail(
        "a1", Start(), transcript, FAULT, spool=shelf.spool, turns=heard, received_samples=samples(9.0)
    )

    status = await shelf.catalogue.status("a1")
    assert [(speaker["label"], speaker["live_labels"]) for speaker in status.stored.speakers] == [
        ("S1", ["S1", "S3"]),
        ("S2", ["S2"]),
    ]
    assert [speaker["duration"] for speaker in status.stored.speakers] == [1.1, 1.1]
    names = {speaker["label"]: f"<{speaker['label']}>" for speaker in status.stored.speakers}
    await shelf.catalogue.set_names("a1", names)
    record = await shelf.catalogue.record("a1")
    assert to_txt(record) == "<S1>: one two\n\n<S2>: three four\n"
    assert "<v &lt;S1&gt;>one two" in to_vtt(record)
    assert to_rttm(record) == (
        "SPEAKER a1 1 0.000 1.100 <NA> <NA> S1 <NA> <NA>\nSPEAKER a1 1 0.900 1.100 <NA> <NA> S2 <NA> <NA>\n"
    )


async def test_a_failed_session_is_as_long_as_its_audio_was(shelf: Shelf) -> None:
    transcript = await shelf.live("")
    await shelf.finalizer.fail("a1", Start(), transcript, FAULT, received_samples=samples(600.0))
    assert (await shelf.catalogue.status("a1")).duration == 600.0
    record = await shelf.catalogue.record("a1")
    assert (record.duration_samples, record.segments) == (samples(600.0), ())


async def test_a_failed_session_whose_folder_takes_nothing_has_its_speakers_all_the_same(
    shelf: Shelf,
) -> None:
    transcript = await shelf.live("one two", "S1", "S1")
    folder = shelf.store.folder / "a1" / "turns-live.json"
    folder.mkdir()  # in the place of the file
    await shelf.finalizer.fail(
        "a1", Start(), transcript, FAULT, spool=shelf.spool, turns=(turn(0.0, 0.9, "S1"),)
    )
    status = await shelf.catalogue.status("a1")
    assert [(speaker["label"], speaker["duration"]) for speaker in status.stored.speakers] == [("S1", 0.9)]


async def test_what_a_live_session_said_is_gone_through_in_a_thread_and_nothing_that_follows_is_in_it(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    transcript = await shelf.live("one two", "S1", "S1")
    session = Session("a1", Start())
    session.transcript = transcript
    session.receive_audio(np.zeros(samples(3.0), np.float32))
    shelf.registry.runners["a1"] = SimpleNamespace(session=session)
    seen: list[bool] = []
    make = Record.of

    def watched(*args: Any, **kwargs: Any) -> Record:
        seen.append(current_thread() is main_thread())
        transcript.apply(Label(3, 0.0, 1.0, "S2"))  # the session goes on meanwhile
        return make(*args, **kwargs)

    monkeypatch.setattr(Record, "of", watched)
    record = await shelf.catalogue.record("a1")
    assert seen == [False]
    assert [(segment.speaker, segment.text) for segment in record.segments] == [("S1", "one two")]
    assert record.duration_samples == samples(3.0)
