"""Sessions and deliveries to be stored."""

from __future__ import annotations

from live_asr.storage.database import Database, Delivery, NewDelivery

START = {"type": "start", "metadata": {"jobId": 123, "room": "Saal Ä\u0000"}, "language": None}
SPEAKER = {"label": "SPEAKER_00", "live_labels": ["S1"], "duration": 4.5, "turns": 2}
NEWS = NewDelivery("https://hooks.example.com/done", b'{"sessionId":"a1"}')


def finish(
    database: Database, session_id: str, delivery: NewDelivery | None = NEWS, at: float = 50.0
) -> None:
    """Open a session and end it well."""
    database.add_session(session_id, START, created_at=at - 10)
    database.finish_session(session_id, state="done", ended_at=at, delivery=delivery)


def delivery_of(database: Database, session_id: str) -> Delivery:
    (found,) = database.deliveries(session_id=session_id)
    return found
