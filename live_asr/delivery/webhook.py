"""The sender: takes deliveries from the outbox and tries them until they are taken or given up.

All state is in the database. A delivery that was in flight when the server died is simply due when it is
back, with the same `webhook-id`; a receiver that remembers ids sees one effect.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, replace

import httpcore

from live_asr import __version__
from live_asr.config.settings import WebhookSettings
from live_asr.core.errors import StorageError
from live_asr.delivery.addresses import guard
from live_asr.delivery.fetch import fetched
from live_asr.delivery.payload import notice_of, webhook_body
from live_asr.delivery.post import (
    ForbiddenTarget,
    GuardedNetwork,
    Patience,
    Resolve,
    Target,
    post,
    tls_context,
)
from live_asr.delivery.receivers import Receivers
from live_asr.delivery.schedule import DELAYS, delay_before_next, read_retry_after
from live_asr.delivery.signature import signed_headers, webhook_secret
from live_asr.storage.database import DEAD, DELIVERED, PENDING, Database, Delivery
from live_asr.storage.jobs import delivery_id_of

__all__ = ["Outcome", "WebhookSender", "notice_of", "webhook_body", "webhook_secret"]

log = logging.getLogger(__name__)

POLL = 1.0
"""Seconds between two looks into the outbox: another process may have made something due."""
MAX_AT_ONCE = 128
MAX_REPEATED = 64
"""Of them, tries that are not the first: those who hang leave room for who is told for the first time."""
MAX_LOOKED_UP = 32
"""Names at once."""
MAX_TAKEN = 24
"""Out of the outbox at once: each may be some megabytes."""
CHECK_TIMEOUT = 2.0
"""Seconds that a name server has while a client waits for `ready`."""
MAX_PER_RECEIVER = 6
"""Tries at once to one receiver, so that one that hangs leaves room for the others."""
GRACE = 3.0
"""Seconds that tries in flight get to end when the server is told to stop."""
OUR_FAULT = "The server failed to send it; its log says why."
"""All that is said of a fault of our own where somebody else may read it."""
TOO_LARGE = 413
GONE = 410
"""The one status by which a receiver says that it wants no more."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one try."""

    status: int | None = None
    """The answer's HTTP status; None where there was none."""
    error: str | None = None
    """Why it failed, as a sentence; None where the receiver took it."""
    hopeless: bool = False
    """Whether another try would end in the same way."""
    retry_after: float | None = None
    """Seconds for which the receiver wants to be left alone."""


class WebhookSender:
    """Delivers what the outbox holds, several at a time.

    `links` returns a session's transcripts by format, for a receiver to which its body is too large.
    `on_tried` is told of a delivery after each try, as it is then. The clock (Unix seconds), the dice
    (0 to 1), the resolver, the trusted authorities, the delays and the patience can be passed in. Where
    `trusts_own`, the address that the operator has set may be a private one, whatever the others may be.
    """

    def __init__(
        self,
        database: Database,
        settings: WebhookSettings,
        secret: str,
        *,
        links: Callable[[str], Mapping[str, str]] = lambda _: {},
        on_tried: Callable[[Delivery], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
        resolve: Resolve | None = None,
        tls: ssl.SSLContext | None = None,
        delays: Sequence[float] = DELAYS,
        patience: Patience | None = None,
        trusts_own: bool = False,
    ) -> None:
        self._database = database
        self._secret = secret
        self._links = links
        self._on_tried = on_tried
        self._clock = clock
        self._chance = chance
        self._tls = tls
        self._delays = delays
        self._patience = patience or Patience()
        # Threads of their own: a name server that hangs must not take those that write to the disk.
        self._resolvers = ThreadPoolExecutor(MAX_LOOKED_UP, thread_name_prefix="webhook names")
        self._resolve = resolve or self._look_up
        self._receivers_allowed = Receivers(settings)
        why_not = self._receivers_allowed.why_not
        self._network = GuardedNetwork(self._resolve, why_not=why_not)
        self._own = settings.url
        self._own_network = GuardedNetwork(
            self._resolve, why_not=guard(allow_private=True) if trusts_own else why_not
        )
        self._bearer = settings.bearer
        self._tries: dict[str, asyncio.Task[None]] = {}
        self._receivers: Counter[str] = Counter()
        self._repeated = 0
        """Tries in flight that are not the first."""
        self._wanted = asyncio.Event()
        self._closing = False
        self._work: asyncio.Task[None] | None = None
        self._fault = ""

    async def start(self) -> None:
        """Begin to deliver what is due, or go on after a pause. The database is prepared already."""
        self._closing = False
        if self._tls is None:
            self._tls = await asyncio.to_thread(tls_context)
        self._work = asyncio.create_task(self._deliver_forever(), name="webhook sender")

    async def close(self) -> None:
        """End, as `pause` does, for good. Idempotent."""
        await self.pause()
        self._resolvers.shutdown(wait=False, cancel_futures=True)

    async def pause(self) -> None:
        """Deliver no more until the next start: tries in flight get a moment, then they are made again then.

        Idempotent.
        """
        self._closing = True
        self._wanted.set()
        if self._work is not None:
            await asyncio.wait({self._work}, timeout=GRACE)  # a database that hangs keeps nobody here
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)
            self._work = None
        if self._tries:
            await asyncio.wait(set(self._tries.values()), timeout=GRACE)
        left = set(self._tries.values())
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def fetched(self, url: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Give what is at a URL that somebody names, guarded as deliveries are; see `fetch.fetched`."""
        assert self._tls is not None, "the sender is started"
        return fetched(url, network=self._network, tls=self._tls)

    async def check(self, url: str, *, is_known: bool, may_name: bool) -> None:
        """Refuse a receiver that a client names; see `Receivers.check`. Raises ClientError."""

        async def resolve(host: str, port: int) -> Sequence[str]:
            async with asyncio.timeout(CHECK_TIMEOUT):
                return await self._resolve(host, port)

        await self._receivers_allowed.check(url, resolve, is_known=is_known, may_name=may_name)

    def wake(self) -> None:
        """Look into the outbox at once. Call it on the event loop, after the row is committed."""
        self._wanted.set()

    # What is due ----------------------------------------------------------------------------------

    async def _deliver_forever(self) -> None:
        while not self._closing:
            self._wanted.clear()
            try:
                await self._begin_due()
                self._fault = ""
            except StorageError as error:
                if error.message != self._fault:  # once, not every second
                    log.error("the outbox cannot be read, webhooks wait: %s", error)
                self._fault = error.message
            except Exception as error:  # a fault of ours must not end the sender, which nobody would notice
                if repr(error) != self._fault:
                    log.exception("the outbox cannot be read, webhooks wait")
                self._fault = repr(error)
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL):
                    await self._wanted.wait()

    async def _begin_due(self) -> None:
        """Begin a try for all that is due, as far as there is room."""
        while (room := MAX_AT_ONCE - len(self._tries)) > 0 and not self._closing:
            busy = [name for name, count in self._receivers.items() if count >= MAX_PER_RECEIVER]
            found = await self._database.call(
                self._database.due,
                self._clock(),
                limit=min(room, MAX_TAKEN),
                without=tuple(self._tries),
                receivers=busy,
                is_first=self._repeated >= MAX_REPEATED,
            )
            if not found:
                return
            for delivery in found:
                is_room = delivery.tries == 0 or self._repeated < MAX_REPEATED
                if is_room and self._receivers[delivery.receiver] < MAX_PER_RECEIVER:
                    self._begin(delivery)

    def _begin(self, delivery: Delivery) -> None:
        def end(_: object) -> None:
            del self._tries[delivery.id]
            self._repeated -= delivery.tries > 0
            self._receivers -= Counter([delivery.receiver])  # which drops what has reached zero
            self._wanted.set()

        self._receivers[delivery.receiver] += 1
        self._repeated += delivery.tries > 0
        task = asyncio.create_task(self._try(delivery), name=f"webhook {delivery.id}")
        self._tries[delivery.id] = task
        task.add_done_callback(end)

    # One try --------------------------------------------------------------------------------------

    async def _try(self, delivery: Delivery) -> None:
        """Make a try and keep what became of it, whatever that is.

        A try that is not kept would be due again at once, and the receiver be called without end.
        """
        notice = None
        try:
            outcome = await self._send(delivery)
            if outcome.status == TOO_LARGE:
                links = self._links(delivery.session_id)
                notice = await asyncio.to_thread(notice_of, delivery.body, links)
            if notice is None:
                state, next_at = self._decide(delivery, outcome)
            else:
                outcome = replace(outcome, error="It answered 413: a notice with links is sent instead.")
                state, next_at = PENDING, self._clock()
        except Exception:
            log.exception("webhook %s: a fault of the server cost it a try", delivery.id)
            outcome = Outcome(error=OUR_FAULT)
            state, next_at = self._decide_plainly(delivery)
        tried = await self._record(delivery, outcome, state, next_at, notice)
        if tried is None:
            return  # the session was erased meanwhile
        if outcome.error is None:
            log.info("webhook %s was delivered to %s", tried.id, tried.receiver)
        elif tried.state == DEAD:
            log.error("giving up on webhook %s to %s: %s", tried.id, tried.receiver, outcome.error)
        else:
            wait = max(0.0, tried.next_at - self._clock())
            log.warning(
                "webhook %s to %s failed and is tried again in %.0f s: %s",
                *(tried.id, tried.receiver, wait, outcome.error),
            )
        self._on_tried(tried)

    async def _send(self, delivery: Delivery) -> Outcome:
        """Make the try; whatever the receiver does is an outcome."""
        assert self._tls is not None
        now = self._clock()
        headers = signed_headers(self._secret, delivery.id, delivery.body, now)
        headers["User-Agent"] = f"live-asr/{__version__}"
        is_own = delivery.url == self._own
        if is_own and self._bearer is not None:
            headers["Authorization"] = f"Bearer {self._bearer.get_secret_value()}"
        try:
            answer = await post(
                Target.of(delivery.url),
                delivery.body,
                headers,
                network=self._own_network if is_own else self._network,
                tls=self._tls,
                patience=self._patience,
            )
        except ForbiddenTarget as error:
            # Whoever put a job's there may have been a worker, whose own address it was, and come back.
            of_job = delivery.id == delivery_id_of(delivery.session_id)
            return Outcome(error=error.message, hopeless=not of_job)
        except httpcore.ConnectTimeout:
            return Outcome(error=f"It could not be reached within {self._patience.connect:g} s.")
        except (TimeoutError, httpcore.TimeoutException):
            return Outcome(error=f"It did not answer within {self._patience.total:g} s.")
        except httpcore.ConnectError as error:
            return Outcome(error=f"It could not be reached: {error}.")
        except httpcore.NetworkError:
            return Outcome(error="It closed the connection before it answered.")
        except httpcore.ProtocolError:
            return Outcome(error="It did not answer in HTTP.")
        return read_answer(answer.status, answer.retry_after, self._clock())

    def _decide(self, delivery: Delivery, outcome: Outcome) -> tuple[str, float]:
        """Return the delivery's new state and the Unix time of its next try."""
        now = self._clock()
        if outcome.error is None:
            return DELIVERED, now
        delay = delay_before_next(
            delivery.tries + 1, self._chance, retry_after=outcome.retry_after, delays=self._delays
        )
        return (DEAD, now) if outcome.hopeless or delay is None else (PENDING, now + delay)

    def _decide_plainly(self, delivery: Delivery) -> tuple[str, float]:
        """Do the same after a fault of ours, by nothing that may be at fault."""
        left = self._delays[delivery.tries :]
        return (PENDING, self._clock() + left[0]) if left else (DEAD, self._clock())

    async def _record(
        self, delivery: Delivery, outcome: Outcome, state: str, next_at: float, notice: bytes | None
    ) -> Delivery | None:
        """Keep what became of the try, however long the database takes to come back.

        Until it is kept the delivery counts as in flight: else it would be sent again every second.
        """
        status, reason = outcome.status, outcome.error
        while True:
            try:
                return await self._database.call(
                    self._database.record_try,
                    delivery.id,
                    state=state,
                    next_at=next_at,
                    last_status=status,
                    last_error=reason,
                    due_at=delivery.next_at,
                    body=notice,
                )
            except StorageError as error:
                log.error("what became of webhook %s cannot be kept yet: %s", delivery.id, error)
            except Exception:
                log.exception("what became of webhook %s cannot be kept yet", delivery.id)
                # Perhaps it is what was to be kept that cannot be: a text that is none to the database.
                status, reason = None, None if state == DELIVERED else OUR_FAULT
            await asyncio.sleep(POLL)

    async def _look_up(self, host: str, port: int) -> list[str]:
        found = await asyncio.get_running_loop().run_in_executor(
            self._resolvers, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return [str(address[0]) for *_, address in found]


def read_answer(status: int, retry_after: str | None, now: float) -> Outcome:
    """Say what an HTTP status means: 2xx is taken, 410 is final, all else is tried again."""
    if 200 <= status < 300:
        return Outcome(status)
    if status == GONE:
        return Outcome(status, "It answered 410: it wants no more of these.", hopeless=True)
    if 300 <= status < 400:
        return Outcome(status, f"It answered {status}: redirects are not followed.")
    wait = None if retry_after is None else read_retry_after(retry_after, now)
    return Outcome(status, f"It answered {status}.", retry_after=wait)
