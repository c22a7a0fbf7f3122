"""Those who watch sessions: each message is encoded once, and nobody is waited for.

What a viewer has not had yet is a position in a list that all viewers of a session share, so that a slow
one costs no memory: it skips what is not kept, and catches up with what is.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import orjson

from live_asr.core.errors import LiveAsrError, StorageError, Unavailable
from live_asr.core.messages import (
    KEPT,
    Commit,
    Error,
    Lag,
    Partial,
    Progress,
    ServerMessage,
    Speech,
    Stopped,
    encode,
    error_message,
)
from live_asr.storage.database import OVER, Database
from live_asr.storage.journal import Journal

if TYPE_CHECKING:
    from live_asr.sessions.following import Following

FLUSH_INTERVAL = 0.25
"""Seconds between two writes to the viewers of a session: four a second look fluent."""
LAG_INTERVAL = 2.0
"""Seconds after which `lag` goes out although nothing else does; else it rides along."""
HEARTBEAT = 15.0
"""Seconds of silence after which something is said, so that nobody between takes the line for dead."""
HEARTBEAT_CHUNK = b": here\n\n"
WAITING_HELD = 5.0
"""Seconds for which what was read of a session that waits to be taken up serves all its viewers."""
RECENT = 256
"""Kept messages that are held for viewers who come back, while nobody watches."""
LARGEST_CHUNK_BYTES = 64 * 1024
"""A viewer who catches up gets so much at once."""
THIS_MACHINE = ("127.0.0.1", "::1")
PASSING = (Partial, Speech, Lag, Progress)
"""What viewers get of the messages that are not kept; of each the newest."""

GIVEN = ("names", "title")
"""What people say of a session besides: the speakers' names, and what it is called."""

Load = Callable[[], Awaitable[Sequence[bytes]]]
"""Reads the events of all kept messages that are on disk, from the first one on."""


class Audience:
    """All viewers of one session."""

    def __init__(self, last_seq: int = 0) -> None:
        self._events: list[bytes] = []
        self._first_seq = last_seq + 1
        """`seq` of the first event held, or of the next one where none is."""
        self._flushed_seq = last_seq
        """Viewers may have what is kept up to here."""
        self._pending: list[tuple[type[ServerMessage] | None, bytes]] = []
        """What goes out with the next flush, in order; what is kept without its type."""
        self._newest: dict[type[ServerMessage], bytes] = {}
        """What is not kept and holds now."""
        self._standing = b""
        """That as it was at the last flush: for those who come in the middle."""
        self._given: dict[str, bytes] = {}
        """Names and title as events, as far as they are known: empty where none was given."""
        self.given = b""
        """All of that: what viewers are told before the record, and again where people change it."""
        self._round = 0
        self._shared: tuple[int, bytes] = (last_seq + 1, b"")
        """What was flushed last: the `seq` it begins with, and its text."""
        self._viewers: set[Viewer] = set()
        self._flushed = asyncio.Event()
        self._flushed_at = float("-inf")
        self._timer: asyncio.Handle | None = None
        self._due = 0.0
        self._beat: asyncio.Handle | None = None
        self._loading = asyncio.Lock()
        self.is_ended = False
        """Whether nothing will ever follow what is kept."""
        self._is_over = False

    @classmethod
    def of_kept(cls, events: Sequence[bytes]) -> Audience:
        """Return that of a session which another server works for: its kept events so far."""
        audience = cls()
        audience._events = list(events)
        audience._flushed_seq = audience.last_seq
        audience._round = 1
        return audience

    @classmethod
    def of_past(cls, events: Sequence[bytes], error: LiveAsrError | None, *, is_ended: bool) -> Audience:
        """Return that of a session which nobody works for: its kept events, and why it failed, if it did.

        `is_ended` tells whether nothing will ever follow; else who watches has to come again.
        """
        audience = cls.of_kept(events)
        if error is not None:
            # With an id, so that who has had it is not told again, which they would come back for.
            audience._standing = event_of(encode(error_message(error)), audience.last_seq + 1)
        audience._is_over = True
        audience.is_ended = is_ended
        return audience

    @property
    def last_seq(self) -> int:
        """`seq` of the last kept message; 0 before the first."""
        return self._first_seq + len(self._events) - 1

    def is_all(self, last_id: int) -> bool:
        """Tell whether nothing follows the event with this id, ever: `final`, or why the session failed."""
        return self.is_ended and last_id >= max(self.last_seq + bool(self._standing), 1)

    @property
    def held_count(self) -> int:
        """How many kept messages are held in memory."""
        return len(self._events)

    def __len__(self) -> int:
        return len(self._viewers)

    # What the session hands in -----------------------------------------------------------------------

    def publish(self, message: ServerMessage, encoded: bytes) -> None:
        """Hand a message to all viewers; what is for the client alone goes no further."""
        if self._is_over or not isinstance(message, KEPT + PASSING):
            return
        if isinstance(message, KEPT):
            self.keep(message.seq, encoded)
            if isinstance(message, Commit | Stopped):  # the tail before it holds the same words
                self._newest.pop(Partial, None)
            return
        event = _event_of_passing(message, encoded)
        self._pending = [one for one in self._pending if one[0] is not type(message)]
        self._newest[type(message)] = event
        self._pending.append((type(message), event))
        self._schedule(LAG_INTERVAL if isinstance(message, Lag) else FLUSH_INTERVAL)

    def keep(self, seq: int, encoded: bytes) -> None:
        """Hand a message that is kept to all viewers, whatever it says."""
        if seq != self.last_seq + 1:  # of a record that was taken up elsewhere
            self._events, self._first_seq = [], seq
        event = event_of(encoded, seq)
        self._events.append(event)
        self._forget_old()
        self._pending.append((None, event))
        self._schedule(FLUSH_INTERVAL)

    def name(self, names: Mapping[str, str]) -> None:
        """Take the names that people gave to the speakers; who watches is told."""
        self._give("names", dict(names))

    def entitle(self, title: str | None) -> None:
        """Take what people call the session; who watches is told."""
        self._give("title", title or "")

    @property
    def knows_all_given(self) -> bool:
        """Whether names and title are known; else `is_given` tells of each."""
        return len(self._given) == len(GIVEN)

    def is_given(self, kind: str) -> bool:
        """Tell whether it is known what people gave of this kind, `names` or `title`."""
        return kind in self._given

    def _give(self, kind: str, value: Mapping[str, str] | str) -> None:
        is_needed = bool(value or self._given.get(kind))  # nobody is told that there never was one
        self._given[kind] = event_of(orjson.dumps({"type": kind, kind: value})) if is_needed else b""
        self.given = b"".join(self._given.values())
        if self.given and not self._is_over:
            self._schedule(FLUSH_INTERVAL)

    def close(self, error: LiveAsrError | None = None) -> None:
        """Say why the session failed, if it did, and end all streams. Idempotent."""
        if self._is_over:
            return
        self._newest = {} if error is None else {Error: event_of(encode(error_message(error)))}
        self._pending += self._newest.items()
        self._is_over = True
        self._flush()
        if self._beat is not None:
            self._beat.cancel()
            self._beat = None

    # What viewers do ---------------------------------------------------------------------------------

    async def join(self, after_seq: int, load: Load) -> Viewer:
        """Let somebody watch from behind `after_seq` on; `load` is called where that is no longer held.

        Raises Unavailable where the disk is not as far yet: come back in a moment. Call `leave` in the end.
        """
        viewer = Viewer(self, min(after_seq, self.last_seq) + 1)
        self._viewers.add(viewer)
        if self._beat is None and not self._is_over:
            self._beat = asyncio.get_running_loop().call_later(HEARTBEAT, self._say_something)
        try:
            if viewer.next_seq < self._first_seq:
                await self._load(load)
        except BaseException:
            self.leave(viewer)
            raise
        return viewer

    def leave(self, viewer: Viewer) -> None:
        """Take note that somebody watches no longer. Idempotent."""
        self._viewers.discard(viewer)
        self._forget_old()
        if not self._viewers and self._beat is not None:
            self._beat.cancel()
            self._beat = None

    async def _load(self, load: Load) -> None:
        async with self._loading:
            if self._first_seq == 1:  # somebody else came at the same time
                return
            older = await load()
            if len(older) < self._first_seq - 1:
                raise Unavailable(
                    "not_yet",
                    "The record of this session is not complete on disk yet.",
                    "Try again in a moment.",
                    retry_after=1.0,
                )
            self._events[:0] = older[: self._first_seq - 1]
            self._first_seq = 1

    def _forget_old(self) -> None:
        surplus = len(self._events) - RECENT
        if not self._viewers and surplus > RECENT:
            del self._events[:surplus]
            self._first_seq += surplus

    async def next_of(self, viewer: Viewer) -> bytes | None:
        """Wait for what `viewer` has not had yet; None when that was all."""
        while True:
            told, viewer.told = viewer.told, self.given
            if self.given and self.given is not told:
                return self.given  # before the record: `final`, which may be in it, is the last event
            first_seq, text = self._shared
            if viewer.round == self._round - 1 and viewer.next_seq == first_seq:
                viewer.round, viewer.next_seq = self._round, self._flushed_seq + 1
                return text
            if viewer.next_seq <= self._flushed_seq:
                if viewer.next_seq < self._first_seq:
                    return None  # it came back to a record that is not held: it will come again
                return self._page(viewer)
            if viewer.round < self._round:
                viewer.round = self._round
                if self._standing:
                    return self._standing
            if self._is_over:
                return None
            await self._flushed.wait()

    def _page(self, viewer: Viewer) -> bytes:
        """Take some of what is kept, from where the viewer is."""
        at, taken_bytes = viewer.next_seq - self._first_seq, 0
        found = []
        for event in self._events[at : self._flushed_seq - self._first_seq + 1]:
            found.append(event)
            taken_bytes += len(event)
            if taken_bytes >= LARGEST_CHUNK_BYTES:
                break
        viewer.next_seq += len(found)
        return b"".join(found)

    # When something goes out -------------------------------------------------------------------------

    def _schedule(self, interval: float) -> None:
        """Flush when `interval` has passed since the last time; in a later turn of the loop in any case."""
        loop = asyncio.get_running_loop()
        when = max(loop.time(), self._flushed_at + interval)
        if self._timer is not None:
            if self._due <= when:
                return
            self._timer.cancel()
        self._due = when
        self._timer = loop.call_at(when, self._flush)

    def _flush(self) -> None:
        first_seq = self._flushed_seq + 1
        text = b"".join(event for _, event in self._pending)
        self._pending = []
        self._flushed_seq = self.last_seq
        self._standing = b"".join(self._newest.values())
        self._send(first_seq, text)

    def _say_something(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() - self._flushed_at >= HEARTBEAT and self._timer is None:
            self._send(self._flushed_seq + 1, HEARTBEAT_CHUNK)
        self._beat = loop.call_at(max(self._flushed_at + HEARTBEAT, loop.time() + 1.0), self._say_something)

    def _send(self, first_seq: int, text: bytes) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._flushed_at = asyncio.get_running_loop().time()
        self._round += 1
        self._shared = (first_seq, text)
        woken, self._flushed = self._flushed, asyncio.Event()
        woken.set()


class Viewer:
    """One who watches: where they are in the record."""

    __slots__ = ("_audience", "next_seq", "round", "told")

    def __init__(self, audience: Audience, next_seq: int) -> None:
        self._audience = audience
        self.next_seq = next_seq
        """`seq` of the first kept message that they have not had."""
        self.told: bytes | None = None  # of names and title
        self.round = -2
        """The last flush that they have had; none yet."""

    async def get(self) -> bytes | None:
        """Wait for what comes next, as Server-Sent Events; None when nothing more comes."""
        return await self._audience.next_of(self)

    def leave(self) -> None:
        """Watch no longer. Idempotent."""
        self._audience.leave(self)


class Viewers:
    """Let people watch sessions, live ones and those that are over, as many as the server allows.

    `following` reads on in those that go on at other servers; without it who watches these comes again and
    again.
    """

    def __init__(
        self,
        live: Callable[[str], Audience | None],
        store: Journal,
        database: Database,
        *,
        most: int,
        count: Callable[[int], None] = lambda _: None,
        following: Following | None = None,
    ) -> None:
        self._live = live
        self._following = following
        self._store = store
        self._database = database
        self._most = most
        self._count = count
        self._watching: Counter[str] = Counter()
        """Viewers now: all of them, of each session, from each address."""
        self._ended: WeakValueDictionary[str, Audience] = WeakValueDictionary()
        self._waiting: dict[str, tuple[float, Audience]] = {}
        """Sessions that wait to be taken up, as they were last read, and until when that is good enough."""

    @contextmanager
    def seat(self, session_id: str, address: str | None = None) -> Iterator[None]:
        """Hold one of the places for viewers. Raises Unavailable where all are taken that there may be.

        One session has three quarters of them at most, and one address half, unless it is this machine's.
        """
        bounds = [("", self._most, ""), (session_id, self._most * 3 // 4, " of this session")]
        if address is not None and address not in THIS_MACHINE:
            bounds.append((f"from {address}", self._most // 2, " of your address"))
        for key, most, whose in bounds:
            if self._watching[key] >= max(most, 1):
                raise Unavailable(
                    "viewers_full",
                    f"All {max(most, 1)} places for viewers{whose} are taken.",
                    "Try again in a minute.",
                    retry_after=60.0,
                )
        keys = [key for key, _, _ in bounds]
        self._watching.update(keys)
        self._count(self._watching[""])
        try:
            yield
        finally:
            self._watching.subtract(keys)
            self._count(self._watching[""])
            for key in keys[1:]:
                if not self._watching[key]:
                    del self._watching[key]

    async def watch(self, session_id: str, after_seq: int) -> Viewer | None:
        """Let somebody watch from behind `after_seq` on; None where all that there is came before it.

        Raises KeyError when there is no such session, Unavailable as `Audience.join` does, StorageError when
        disk or database refuse.
        """
        audience = await self._audience(session_id)
        if not audience.knows_all_given:  # nobody has watched it since the server began
            with suppress(StorageError):  # what is said can be followed without them
                stored = await self._database.call(self._database.session, session_id)
                if stored is not None and not audience.is_given("names"):
                    audience.name(stored.names)
                if stored is not None and not audience.is_given("title"):
                    audience.entitle(stored.title)
        if audience.is_all(after_seq):
            return None

        async def load() -> Sequence[bytes]:
            return await asyncio.to_thread(kept_events, self._store, session_id)

        return await audience.join(after_seq, load)

    async def _audience(self, session_id: str) -> Audience:
        for going_on in (self._live(session_id), self._followed(session_id)):
            if going_on is not None:
                return going_on
        now = asyncio.get_running_loop().time()
        self._waiting = {key: value for key, value in self._waiting.items() if value[0] > now}
        if session_id in self._waiting:
            return self._waiting[session_id][1]
        known = self._ended.get(session_id)
        if known is not None:
            return known
        stored = await self._database.call(self._database.session, session_id)
        if stored is None:
            raise KeyError(session_id)
        events = await asyncio.to_thread(kept_events, self._store, session_id)
        if self._following is not None and stored.state not in OVER:
            return self._following.follow(stored, events)
        edition = await self._database.call(self._database.edition, session_id)
        if edition is not None and edition.final is not None and stored.state == "done" and events:
            events[-1] = event_of(edition.final, len(events))  # in place of the `final` that it corrects
        error = stored.error and LiveAsrError(stored.error["message"], code=stored.error["code"])
        audience = Audience.of_past(events, error or None, is_ended=stored.state in OVER)
        if audience.is_ended:
            self._ended[session_id] = audience
        else:  # its viewers come again and again; reading it once for all of them is enough
            self._waiting[session_id] = now + WAITING_HELD, audience
        return audience

    def _followed(self, session_id: str) -> Audience | None:
        return None if self._following is None else self._following.audience_of(session_id)

    def name(self, session_id: str, names: Mapping[str, str]) -> None:
        """Tell those who watch a session how its speakers are called from now on."""
        for audience in self._audiences(session_id):
            audience.name(names)

    def entitle(self, session_id: str, title: str | None) -> None:
        """Tell those who watch a session what it is called from now on."""
        for audience in self._audiences(session_id):
            audience.entitle(title)

    def _audiences(self, session_id: str) -> list[Audience]:
        _, waiting = self._waiting.get(session_id, (0.0, None))
        found = (
            self._live(session_id),
            self._followed(session_id),
            self._ended.get(session_id),
            waiting,
        )
        return [audience for audience in found if audience is not None]

    def forget(self, session_id: str) -> None:
        """Hold nothing any more of a session that was erased. Idempotent."""
        self._ended.pop(session_id, None)
        self._waiting.pop(session_id, None)
        if self._following is not None:
            self._following.end(session_id)


def kept_events(store: Journal, session_id: str) -> list[bytes]:
    """Read the kept messages of a session as events. Blocks; raises KeyError when there is no such one."""
    events: list[bytes] = []
    for line in store.messages(session_id):
        message = line.strip()
        try:
            seq = orjson.loads(message)["seq"]
        except (ValueError, KeyError, TypeError):
            break
        if seq != len(events) + 1:  # a disk that lost a stretch in the middle
            break
        events.append(event_of(message, seq))
    return events


def event_of(text: bytes, seq: int | None = None) -> bytes:
    """Return a message as a Server-Sent Event; `seq` is its id, where it is kept."""
    return b"data: %b\n\n" % text if seq is None else b"id: %d\ndata: %b\n\n" % (seq, text)


def _event_of_passing(message: ServerMessage, encoded: bytes) -> bytes:
    """Return what is not kept as viewers get it: the tail without its words, which are most of it."""
    return event_of(encode(replace(message, words=())) if isinstance(message, Partial) else encoded)
