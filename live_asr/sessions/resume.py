"""Taking a session up again: who may, and what they have missed."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from live_asr.core.checkpoint import Checkpoint
from live_asr.core.errors import ClientError, LiveAsrError, Unavailable
from live_asr.core.messages import Resume, Start, client_from_dict, decode_server
from live_asr.core.transcript import Transcript
from live_asr.inference.ipc import Loaded
from live_asr.sessions.connection import Outbox
from live_asr.sessions.runner import SessionRunner
from live_asr.storage.database import OVER, Database, StoredSession
from live_asr.storage.journal import Journal

log = logging.getLogger(__name__)

TOKEN_BYTES = 24


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A session and one connection to its client: new, or taken up again."""

    id: str
    token: str
    """The secret that takes it up."""
    loaded: Loaded
    """The models behind it."""
    runner: SessionRunner | None
    """What drives it; None where it is over, and `missed` is all that the client will hear."""
    outbox: Outbox
    """What the client is to hear from here on."""
    received_bytes: int = 0
    last_seq: int = 0
    """The last kept message so far."""
    missed: tuple[bytes, ...] = ()
    """Kept messages that the client has not had, as they go over the wire; before what is in `outbox`."""
    started_at: str | None = None
    """When the first audio came, or, of a new one, when it was opened: ISO 8601, UTC."""


class Resumption:
    """Lets the clients of one server's sessions take them up again; `runner_of` finds those that go on."""

    def __init__(
        self, store: Journal, database: Database, runner_of: Callable[[str], SessionRunner | None]
    ) -> None:
        self._store = store
        self._database = database
        self._runner_of = runner_of

    async def resume(self, wanted: Resume, loaded: Loaded) -> OpenSession:
        """Take a session up again for a client that has lost its connection; an older one is closed.

        One that is complete is taken up for what the client has missed. Raises ClientError `session_unknown`
        for one that there is not, that has failed, or that another token belongs to, and `bad_message`
        for a `last_seq` that there is not; Unavailable where it is not there yet.
        """
        if not await self.may_resume(wanted):
            raise unknown_session()
        runner = self._runner_of(wanted.session)
        if runner is not None and not runner.is_over:
            return await self._attach(runner, wanted, loaded)
        return await self._look_back(wanted, loaded)

    async def may_resume(self, wanted: Resume) -> bool:
        """Tell whether there is such a session, and this is its token."""
        try:
            about = await asyncio.to_thread(self._store.about, wanted.session)
        except KeyError:
            about = {}
        return is_token(wanted.token, about.get("token"))

    async def _attach(self, runner: SessionRunner, wanted: Resume, loaded: Loaded) -> OpenSession:
        check_position(wanted.last_seq, runner.session.transcript.last_seq)
        outbox = runner.attach()
        # From here on what is said waits in the box; what was said before is on disk, or soon.
        received_bytes, last_seq = runner.received_bytes, runner.session.transcript.last_seq
        try:
            await runner.spool.kept(runner.spool.appended_count)
            missed = await asyncio.to_thread(
                missed_messages, self._store, wanted.session, wanted.last_seq, last_seq
            )
        except KeyError:  # erased in the meantime
            raise unknown_session() from None
        except BaseException:
            runner.lose_client(outbox)
            raise
        return OpenSession(
            wanted.session,
            wanted.token,
            loaded,
            runner,
            outbox,
            received_bytes,
            last_seq,
            missed,
            started_at=runner.session.started_at,
        )

    async def _look_back(self, wanted: Resume, loaded: Loaded) -> OpenSession:
        """Hand out what was said in a session that is complete."""
        stored = await self._database.call(self._database.session, wanted.session)
        if stored is None or stored.state == "failed":
            raise unknown_session()
        if stored.state not in OVER:
            raise loading("The session is being resumed.")
        try:
            lines = await asyncio.to_thread(lambda: list(self._store.messages(wanted.session)))
            state = await asyncio.to_thread(self._store.state, wanted.session)
        except KeyError:
            raise unknown_session() from None
        check_position(wanted.last_seq, len(lines))
        outbox = Outbox(is_resumed=True)
        outbox.close()
        missed = tuple(line.rstrip() for line in lines[wanted.last_seq :])
        received_bytes = state.get("received_bytes", 0)
        return OpenSession(
            wanted.session,
            wanted.token,
            loaded,
            None,
            outbox,
            received_bytes,
            len(lines),
            missed,
            started_at=Checkpoint.from_dict(state).started_at,
        )


def loading(what: str) -> Unavailable:
    """Return the refusal of what will be there in a moment."""
    return Unavailable("loading", what, "Try again in a few seconds.", retry_after=3.0)


def new_token() -> str:
    """Return a secret that nobody guesses."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def digest_of(token: str) -> str:
    """Return what is kept of a token: who reads the disk cannot take sessions up with it."""
    return hashlib.sha256(token.encode()).hexdigest()


def is_token(token: str, digest: object) -> bool:
    """Tell whether a token is the one that was kept as `digest`, in the same time whatever it is."""
    kept = digest if isinstance(digest, str) else ""
    return hmac.compare_digest(digest_of(token), kept)


def missed_messages(store: Journal, session_id: str, after_seq: int, to_seq: int) -> tuple[bytes, ...]:
    """Read the kept messages of a session behind `after_seq` up to `to_seq` from disk. Blocks.

    Raises KeyError when there is no such session.
    """
    missed = []
    for line in store.messages(session_id):
        if after_seq < orjson.loads(line)["seq"] <= to_seq:
            missed.append(line.rstrip())
    return tuple(missed)


def check_position(last_seq: int, known_seq: int) -> None:
    """Refuse a client that has heard more than was ever said. Raises ClientError `bad_message`."""
    if last_seq > known_seq:
        raise ClientError(
            "bad_message",
            f"`resume.last_seq` is {last_seq}, but the session has {known_seq} kept messages.",
            "Give the `seq` of the last message that you have; 0 gets all of them.",
            close_code=1007,
        )


def unknown_session() -> ClientError:
    """Return the refusal of a session that is not there, or not the asker's: in the same words."""
    return ClientError(
        "session_unknown",
        "There is no session that this token can resume.",
        "Open a new session with a `start` without `resume`.",
    )


def shutting_down(
    hint: str = "Resume the session in a moment; what was acknowledged is kept.", *, close_code: int = 1012
) -> Unavailable:
    """Return the refusal of a server that ends."""
    return Unavailable(
        "shutting_down", "The server is shutting down.", hint, retry_after=5.0, close_code=close_code
    )


def read_transcript(store: Journal, session_id: str) -> Transcript:
    """Read a session's transcript back from its kept messages. Blocks. Raises KeyError as `messages` does."""
    transcript = Transcript()
    for line in store.messages(session_id):
        try:
            transcript.apply(decode_server(line))
        except LiveAsrError as error:
            # A disk that lost a stretch in the middle: what came before it is still what was said.
            log.warning("session %s can be read only in part: %s", session_id, error)
            break
    return transcript


def start_of(stored: StoredSession) -> Start:
    """Return what a session was opened with. Raises LiveAsrError where this version cannot read it."""
    start = client_from_dict(stored.start)
    if not isinstance(start, Start):
        raise LiveAsrError(f"Session {stored.id} was opened with a `{start.type}`.")
    return start


def remains_of(store: Journal, stored: StoredSession) -> tuple[Start, Transcript]:
    """Return what can be read of a session that cannot be taken up. Blocks."""
    try:
        start = start_of(stored)
    except LiveAsrError:
        start = Start()
    try:
        return start, read_transcript(store, stored.id)
    except (KeyError, OSError):
        return start, Transcript()
