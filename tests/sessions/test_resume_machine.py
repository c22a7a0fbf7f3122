"""A session, its connections and its server's deaths in any order: nothing comes twice, early or not at all.

The runner, its log and its readers, the taking up and the client's buffers are the real ones. Networks, disk
and time are in the hands of the test, so that they may be as unlucky as they like.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from live_asr.audio.decoder import open_decoder
from live_asr.client.outgoing import Outgoing
from live_asr.core.checkpoint import Checkpoint
from live_asr.core.errors import StorageError
from live_asr.core.messages import (
    Ack,
    AudioFormat,
    Commit,
    Error,
    KeptMessage,
    Label,
    Partial,
    Ready,
    RecognizerInfo,
    Resume,
    Start,
    UtteranceMessage,
    WireWord,
    decode_server,
)
from live_asr.core.session import Session
from live_asr.core.transcript import Transcript
from live_asr.core.types import seconds
from live_asr.inference.ipc import Loaded
from live_asr.sessions import audience
from live_asr.sessions.audience import Viewer, kept_events
from live_asr.sessions.metrics import Metrics
from live_asr.sessions.resume import OpenSession, Resumption, digest_of
from live_asr.sessions.runner import SessionRunner
from live_asr.sessions.shedding import Cadence

T = TypeVar("T")
START = Start(language="en", diarize=False, final_pass=False)
LOADED = Loaded(RecognizerInfo("scripted", ("en",), "cpu", "none"), "loudness")
WINDOW_BYTES = 200
TURNS = 20
"""Turns of the loop after which everything waits for something that the test has not done yet."""


class Disk:
    """What a session has on disk, in the part of a spool and of its store. It syncs when it is told to."""

    error: StorageError | None = None

    def __init__(self, audio: bytes = b"", lines: tuple[bytes, ...] = ()) -> None:
        self.audio = bytearray(audio)
        self.lines = list(lines)
        self.safe_bytes, self.kept_count = len(audio), len(lines)
        self.under_way: tuple[int, int] | None = None
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def appended_bytes(self) -> int:
        return len(self.audio)

    @property
    def appended_count(self) -> int:
        return len(self.lines)

    def listen(self, listener: SessionRunner) -> None:
        """It is told by the test."""

    def append_audio(self, data: bytes) -> None:
        self.audio += data

    def append_message(self, message: bytes) -> None:
        self.lines.append(message)

    def set_state(self, state: bytes) -> None:
        """It is not of interest here."""

    async def kept(self, count: int) -> None:
        while self.kept_count < count:
            self._waiting.append(asyncio.get_running_loop().create_future())
            await self._waiting[-1]

    def begin(self) -> None:
        self.under_way = len(self.audio), len(self.lines)

    def end(self) -> None:
        """What was there at the beginning of the sync is on disk."""
        assert self.under_way is not None
        self.safe_bytes, self.kept_count = self.under_way
        self.under_way = None
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
        self._waiting = []

    # As a store

    def about(self, session_id: str) -> dict[str, Any]:
        return {"token": digest_of("token")}

    def messages(self, session_id: str) -> Iterator[bytes]:
        return iter([line + b"\n" for line in self.lines[: self.kept_count]])


class Inline(ThreadPoolExecutor):
    """Does at once what is meant for a thread: the order of things is the test's alone."""

    def submit(self, call: Callable[..., T], /, *args: Any, **named: Any) -> Future[T]:
        done: Future[T] = Future()
        try:
            done.set_result(call(*args, **named))
        except BaseException as error:
            done.set_exception(error)
        return done


class Connection:
    """One socket: what is on its way, and what either end believes of it."""

    def __init__(self) -> None:
        self.up: deque[bytes] = deque()
        self.down: deque[bytes] = deque()
        self.opened: OpenSession | None = None
        self.opening: asyncio.Task[OpenSession] | None = None
        self.is_cut = False

    def to_client(self, message: bytes) -> None:
        if not self.is_cut:
            self.down.append(message)


class ResumeMachine(RuleBasedStateMachine):
    """One session, its one client, and somebody who watches it now and then."""

    @initialize(peace=st.integers(0, 12))
    def begin(self, peace: int) -> None:
        """Between two misfortunes so many things happen that are none."""
        self.patched = pytest.MonkeyPatch()
        self.patched.setattr(audience, "FLUSH_INTERVAL", 0.0)
        self.peace = self.good_steps = peace
        self.loop = asyncio.new_event_loop()
        self.loop.set_default_executor(Inline(1))
        self.spoken = bytearray()
        self.outgoing = Outgoing()
        self.heard = Transcript()
        self.acked_bytes = 0
        self.is_ready = False
        self.viewer: Viewer | None = None
        self.seen_seq = 0
        self.disk = Disk()
        self.runner: SessionRunner
        self.turn(lambda: self.start_server(Session("s", START)))
        self.connections: list[Connection] = [Connection()]
        outbox = self.runner.outbox
        assert outbox is not None
        self.greet(self.connection, OpenSession("s", "token", LOADED, self.runner, outbox))

    def turn(self, action: Callable[[], T]) -> T:
        """Do something on the loop, and let everything follow that does."""

        async def act() -> T:
            result = action()
            for _ in range(TURNS):
                await asyncio.sleep(0)
            return result

        return self.loop.run_until_complete(act())

    @property
    def connection(self) -> Connection:
        return self.connections[-1]

    # The server ----------------------------------------------------------------------------------

    def start_server(self, session: Session) -> None:
        async def finalize(runner: SessionRunner) -> None:
            raise AssertionError("nobody has stopped it")

        self.runner = SessionRunner(
            session,
            self.disk,  # type: ignore[arg-type]
            decoder=open_decoder(AudioFormat()),
            engine=None,  # type: ignore[arg-type]
            cadence=Cadence(),
            metrics=Metrics(),
            max_unacked_bytes=WINDOW_BYTES,
            finalize=finalize,
            resume_window=1e6,
        )
        self.resumption = Resumption(self.disk, None, lambda _: self.runner)  # type: ignore[arg-type]

    def greet(self, connection: Connection, opened: OpenSession) -> None:
        connection.opened = opened
        ready = f'{{"type":"ready","session":"s","token":"token","received_bytes":{opened.received_bytes}'
        ready += (
            f',"last_seq":{opened.last_seq},"max_unacked_bytes":{WINDOW_BYTES},"server":{{"name":"","version"'
        )
        ready += ':""},"models":{"recognizer":{"name":"","languages":[],"device":"","compute_type":""},'
        ready += '"speech_detector":{"name":""}}}'
        for message in (ready.encode(), *opened.missed):
            connection.to_client(message)

    @rule(commit=st.booleans(), count=st.integers(1, 3))
    def says_words(self, commit: bool, count: int) -> None:
        transcript = self.runner.session.transcript
        for _ in range(count):
            start = seconds(transcript.words_end_sample)
            word = WireWord(f" w{transcript.last_seq}", start, start + 0.5, 0.9, None)
            if commit:
                self.say(Commit(transcript.last_seq + 1, (word,), word.text, transcript.open_utterance[0]))
            else:
                self.turn(
                    lambda shown=word: self.runner.tell(Partial(shown.text, (shown,), shown.start, shown.end))
                )

    @precondition(lambda self: self.runner.session.transcript.words)
    @rule(speaker=st.sampled_from(["S1", "S2"]))
    def says_who(self, speaker: str) -> None:
        transcript = self.runner.session.transcript
        self.say(Label(transcript.last_seq + 1, 0.0, seconds(transcript.words_end_sample), speaker))

    @precondition(lambda self: self.runner.session.transcript.open_utterance[1])
    @rule()
    def ends_the_utterance(self) -> None:
        transcript = self.runner.session.transcript
        index, _ = transcript.open_utterance
        self.say(UtteranceMessage(transcript.last_seq + 1, index, 0.0, 0.0, "", None, "en"))

    def say(self, message: KeptMessage) -> None:
        self.runner.session.transcript.apply(message)
        self.turn(lambda: self.runner.tell(message))

    @precondition(lambda self: self.disk.under_way is None)
    @rule()
    def disk_begins_to_sync(self) -> None:
        self.disk.begin()

    @precondition(lambda self: self.disk.under_way is not None)
    @rule()
    def disk_has_synced(self) -> None:
        def sync() -> None:
            self.disk.end()
            self.runner.acknowledge(self.disk.safe_bytes)
            self.runner.release(self.disk.kept_count)

        self.turn(sync)

    @rule(count=st.integers(1, 9))
    def server_reads(self, count: int) -> None:
        """What is on its way arrives, over any connection; only the newest one counts."""
        for connection in self.connections:
            if connection.opened is None:
                continue
            for _ in range(min(count, len(connection.up))):
                data, outbox = connection.up.popleft(), connection.opened.outbox
                if self.runner.outbox is outbox:
                    self.turn(lambda audio=data: self.runner.receive_audio(audio))

    @rule(count=st.integers(1, 9))
    def server_sends(self, count: int) -> None:
        for connection in self.connections:
            for _ in range(count):
                opened = connection.opened
                message = self.taken(opened.outbox.get()) if opened is not None else None
                if message is None:
                    break
                connection.to_client(message)

    def taken(self, get: Coroutine[Any, Any, bytes | None]) -> bytes | None:
        """Take out what may be sent now; None where there is nothing, or never will be."""
        taking = self.turn(lambda: self.loop.create_task(get))
        if taking.done():
            return taking.result()
        self.turn(taking.cancel)
        return None

    # The network ---------------------------------------------------------------------------------

    @precondition(lambda self: self.good_steps >= self.peace)
    @rule(is_lost=st.booleans(), is_noticed=st.booleans())
    def line_is_cut(self, is_lost: bool, is_noticed: bool) -> None:
        """The client sees it. What it has sent may arrive yet; the server may see it, now or never."""
        self.good_steps = 0
        connection = self.connection
        connection.is_cut = True
        connection.down.clear()
        self.is_ready = False
        if is_lost:
            connection.up.clear()
        if is_noticed and connection.opened is not None and self.is_awaited():
            outbox = connection.opened.outbox
            self.turn(lambda: self.runner.lose_client(outbox))

    def is_awaited(self) -> bool:
        """Tell whether the server waits for a client that it loses: who sent no audio has lost none."""
        return self.runner.received_bytes > 0 or self.runner._is_restored

    # The end of a server -------------------------------------------------------------------------

    @precondition(lambda self: self.good_steps >= self.peace)
    @rule(in_time=st.booleans())
    def server_dies(self, in_time: bool) -> None:
        """What is not on disk is gone; what was being written may be, or not."""
        self.good_steps = 0
        if in_time and self.disk.under_way is not None:
            self.disk.end()
        for connection in self.connections:
            if connection.opening is not None:
                self.turn(connection.opening.cancel)
            connection.is_cut = True
        self.connections = [Connection()]
        self.connection.is_cut, self.is_ready = True, False
        self.viewer = None
        old = self.disk
        self.disk = Disk(bytes(old.audio[: old.safe_bytes]), tuple(old.lines[: old.kept_count]))
        record = Transcript()
        for line in self.disk.lines:
            record.apply(decode_server(line))

        def come_back() -> None:
            self.start_server(Session.restored("s", START, record, Checkpoint()))
            self.runner.restore()
            for message in self.runner.session.messages():  # as is done first when it is run
                self.runner.tell(message)

        self.turn(come_back)

    # The client ----------------------------------------------------------------------------------

    @rule(length=st.integers(1, 60))
    def somebody_speaks(self, length: int) -> None:
        audio = bytes((len(self.spoken) + index) % 251 for index in range(length))
        self.spoken += audio
        self.outgoing.add(audio)

    @precondition(lambda self: self.is_ready)
    @rule(count=st.integers(1, 9))
    def client_sends(self, count: int) -> None:
        for _ in range(count):
            item = self.outgoing.next(WINDOW_BYTES)
            if isinstance(item, bytes):
                self.connection.up.append(item)

    @rule(count=st.integers(1, 20))
    def client_reads(self, count: int) -> None:
        down = self.connection.down
        for _ in range(min(count, len(down))):
            message = decode_server(down.popleft())
            self.heard.apply(message)  # refuses what is doubled or left out
            assert self.heard.last_seq <= self.disk.kept_count, "heard before it was on disk"
            match message:
                case Ready():
                    self.outgoing.go_on_from(message.received_bytes)
                    self.is_ready = True
                case Ack():
                    assert self.acked_bytes <= message.bytes <= self.disk.safe_bytes
                    self.acked_bytes = message.bytes
                    self.outgoing.acknowledge(message.bytes)
                case Error():
                    raise AssertionError(f"the client is sent away: {message}")

    # Who watches ---------------------------------------------------------------------------------

    @rule()
    def viewer_reads(self) -> None:
        """Somebody who watches gets what there is; one who comes again has seen so much."""
        if self.viewer is None:

            async def load() -> Sequence[bytes]:
                return kept_events(self.disk, "s")  # type: ignore[arg-type]

            joining = self.turn(lambda: self.loop.create_task(self.runner.audience.join(self.seen_seq, load)))
            self.viewer = joining.result()  # nobody is sent away
        while (chunk := self.taken(self.viewer.get())) is not None:
            for seq in map(int, re.findall(rb"^id: (\d+)$", chunk, re.MULTILINE)):
                assert seq == self.seen_seq + 1, "seen twice, or left out"
                assert seq <= self.disk.kept_count, "seen before it was on disk"
                self.seen_seq = seq

    @precondition(lambda self: self.viewer is not None)
    @rule()
    def viewer_leaves(self) -> None:
        assert self.viewer is not None
        self.viewer.leave()
        self.viewer = None

    @precondition(lambda self: self.connection.is_cut)
    @rule()
    def client_comes_back(self) -> None:
        """Over another socket; the server may have no idea yet that the one before is dead."""
        connection = Connection()
        self.connections.append(connection)
        wanted = Resume("s", "token", self.heard.last_seq)
        connection.opening = self.turn(lambda: self.loop.create_task(self.resumption.resume(wanted, LOADED)))

    @rule(rounds=st.integers(1, 3))
    def all_goes_well(self, rounds: int) -> None:
        """Everything that waits for something gets it; audio arrives while the disk is busy."""
        if self.connection.is_cut:
            self.client_comes_back()
        for _ in range(rounds):
            if self.is_ready:
                self.client_sends(50)
            if self.disk.under_way is None:
                self.disk.begin()
            self.server_reads(50)
            self.disk_has_synced()
            self.who_waits_is_let_in()
            self.server_sends(50)
            self.client_reads(500)

    @invariant()
    def steps_are_counted(self) -> None:
        self.good_steps = getattr(self, "good_steps", 0) + 1

    @invariant()
    def who_waits_is_let_in(self) -> None:
        """As the server's handler goes on once a session is opened; over a dead socket it finds that out."""
        for connection in getattr(self, "connections", ()):
            opening = connection.opening
            if opening is None or not opening.done():
                continue
            connection.opening = None
            self.greet(connection, opening.result())
            if connection.is_cut and connection.opened is not None and self.is_awaited():
                outbox = connection.opened.outbox
                self.turn(lambda lost=outbox: self.runner.lose_client(lost))

    @invariant()
    def what_has_arrived_is_what_was_said(self) -> None:
        if hasattr(self, "disk"):
            assert self.disk.audio == self.spoken[: len(self.disk.audio)]
            assert self.runner.received_bytes == len(self.disk.audio)
            assert self.runner.audience.last_seq <= self.disk.kept_count, "seen before it was on disk"
            assert self.outgoing.acked_bytes <= self.disk.safe_bytes
            assert self.runner.session.transcript.text.startswith(self.heard.text)

    def teardown(self) -> None:
        """Let all go well at last: the client has the whole record, the server all audio."""
        if not hasattr(self, "loop"):
            return
        try:
            self.line_is_cut(is_lost=False, is_noticed=False)
            self.all_goes_well(10 + len(self.spoken) // WINDOW_BYTES * 3)
            self.what_has_arrived_is_what_was_said()
            assert self.disk.audio == self.spoken
            assert self.outgoing.unacked_bytes == 0
            record = self.runner.session.transcript
            assert (self.heard.last_seq, self.heard.words) == (record.last_seq, record.words)
            self.viewer_reads()
            assert self.seen_seq == record.last_seq
        finally:
            self.patched.undo()
            self.turn(self.runner.close)
            self.loop.close()


TestResuming = ResumeMachine.TestCase
TestResuming.settings = settings(deadline=None, max_examples=120, stateful_step_count=50)
