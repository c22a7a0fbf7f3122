"""Jobs that have reached their age are erased, with all that was made of them."""

from __future__ import annotations

from pathlib import Path

from live_asr.core.types import Turn, Word
from live_asr.full_pass.process import FullPassResult
from live_asr.jobs.messages import Job
from live_asr.jobs.results import Options, Outcome, keep_session, start_of
from live_asr.jobs.retention import sweep
from live_asr.storage.database import NewDelivery, sqlite_url
from live_asr.storage.file_journal import FileJournal
from live_asr.storage.jobs import JobDatabase, JobEnd

OPTIONS = Options("en", (), True, None, None, "tiny.en")
FOUND = FullPassResult((Turn(0, 16_000, "SPEAKER_00"),), (Word(" Hello", 1600, 8000, 0.9),), "en", "scripted")


async def test_what_is_older_than_its_age_is_gone_and_the_rest_stays(tmp_path: Path) -> None:
    database, sessions = JobDatabase(sqlite_url(tmp_path / "live-asr.db")), tmp_path / "sessions"
    database.prepare()
    outcome = Outcome.of(FOUND, 32_000, "mp3")
    for session_id, ended_at in (("old", 1000.0), ("new", 90_000.0)):
        start = start_of(Job(session_id, "s3://b/k"), OPTIONS, "talk.mp3")
        keep_session(FileJournal(sessions), session_id, start, outcome)
        database.keep_result(f"key of {session_id}", session_id, outcome.to_bytes(), created_at=ended_at)
        database.finish_job(
            JobEnd(
                session_id,
                {},
                ended_at,
                "done",
                ended_at,
                delivery=NewDelivery("https://example.com/", b"{}"),
            )
        )
    assert await sweep(database, sessions, days=1, clock=lambda: 100_000.0) == 1
    assert [path.name for path in sessions.iterdir()] == ["new"]
    assert database.session("old") is None and database.session("new") is not None
    assert database.kept_result("key of old") is None
    kept = database.kept_result("key of new")
    assert kept is not None and Outcome.from_bytes(kept) == outcome
    assert [row.session_id for row in database.deliveries()] == ["new"]
    database.close()
