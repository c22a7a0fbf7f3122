"""The sender, against receivers on real sockets and with a real database."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpcore
import pytest
import trustme
from standardwebhooks import Webhook

from live_asr.config.settings import WebhookSettings
from live_asr.core.errors import StorageError
from live_asr.delivery import webhook
from live_asr.delivery.post import ForbiddenTarget, GuardedNetwork, Patience, Target
from live_asr.delivery.receivers import Receivers
from live_asr.delivery.webhook import MAX_PER_RECEIVER, WebhookSender
from live_asr.storage.database import Database, Delivery, NewDelivery, sqlite_url
from tests.delivery.receiver import Flood, Received, answer, babble, hang, receiving, reset
from tests.delivery.running_sender import BODY, SECRET, sending


def signed(request: Received) -> bool:
    """Tell whether the library makes the same signature, whenever that was."""
    at = datetime.fromtimestamp(int(request.headers["webhook-timestamp"]), UTC)
    expected = Webhook(SECRET).sign(request.id, at, request.body.decode())
    return expected == request.headers["webhook-signature"]


# What receivers answer --------------------------------------------------------------------------------


async def test_a_receiver_that_answers_200_gets_the_body_once_and_signed(database: Database) -> None:
    async with receiving(answer(200, body=b"thanks")) as receiver, sending(database) as run:
        delivery = await run.tell(receiver.url)
        assert (delivery.state, delivery.attempts, delivery.last_status) == ("delivered", 1, 200)
        assert delivery.last_error is None
        (request,) = receiver.requests
        assert Webhook(SECRET).verify(request.body, request.headers) == json.loads(BODY)
        assert (request.id, request.target) == (delivery.id, "/hook")
        assert request.headers["content-type"] == "application/json"
        assert request.headers["host"] == f"127.0.0.1:{receiver.port}"
        assert request.headers["user-agent"].startswith("live-asr/")


@pytest.mark.parametrize("status", [201, 204, 299])
async def test_any_2xx_is_a_yes(database: Database, status: int) -> None:
    async with receiving(answer(status)) as receiver, sending(database) as run:
        assert (await run.tell(receiver.url)).state == "delivered"


@pytest.mark.parametrize("status", [400, 401, 404, 409, 429, 500, 502, 503])
async def test_any_other_status_is_tried_again_in_5_seconds(database: Database, status: int) -> None:
    async with receiving(answer(status)) as receiver, sending(database) as run:
        delivery = await run.tell(receiver.url)
        assert (delivery.state, delivery.last_status) == ("pending", status)
        assert delivery.last_error == f"It answered {status}."
        assert delivery.next_at == pytest.approx(run.clock.now + 5)


async def test_a_receiver_that_never_says_yes_is_tried_seven_times_with_one_id(database: Database) -> None:
    async with receiving(answer(500)) as receiver, sending(database) as run:
        delivery = await run.tell(receiver.url)
        waits = []
        while delivery.state == "pending":
            waits.append(delivery.next_at - run.clock.now)
            run.clock.now = delivery.next_at
            run.sender.wake()
            delivery = await run.next_try()
        assert waits == pytest.approx([5, 30, 120, 600, 3600, 21600])
        assert (delivery.state, delivery.attempts) == ("dead", 7)
        assert {request.id for request in receiver.requests} == {delivery.id}
        assert len(receiver.requests) == 7
        assert all(signed(request) for request in receiver.requests)


async def test_a_receiver_that_recovers_gets_it(database: Database) -> None:
    async with receiving(answer(500), reset, answer(200)) as receiver, sending(database) as run:
        delivery = await run.tell(receiver.url)
        while delivery.state == "pending":
            run.clock.now = delivery.next_at
            run.sender.wake()
            delivery = await run.next_try()
        assert (delivery.state, delivery.attempts, delivery.last_error) == ("delivered", 3, None)


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_in_seconds_is_waited_for(database: Database, status: int) -> None:
    async with receiving(answer(status, "Retry-After: 900")) as receiver, sending(database) as run:
        delivery = await run.tell(receiver.url)
        assert 900 <= delivery.next_at - run.clock.now <= 1.2 * 900


async def test_retry_after_as_a_date_is_waited_for(database: Database) -> None:
    async with sending(database) as run:
        date = datetime.fromtimestamp(run.clock.now + 900, UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
        async with receiving(answer(429, f"Retry-After: {date}")) as receiver:
            delivery = await run.tell(receiver.url)
            assert 899 <= delivery.next_at - run.clock.now <= 1.2 * 900


async def test_410_stops_at_once(database: Database) -> None:
    async with receiving(answer(410)) as receiver, sending(database) as run:
        delivery = await run.tell(receiver.url)
        assert (delivery.state, delivery.last_status, delivery.attempts) == ("dead", 410, 1)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_a_failure_and_is_not_followed(database: Database, status: int) -> None:
    async with receiving(answer(200)) as other:
        moved = answer(status, f"Location: {other.url}")
        async with receiving(moved) as receiver, sending(database) as run:
            delivery = await run.tell(receiver.url)
            assert delivery.state == "pending"
            assert delivery.last_error == f"It answered {status}: redirects are not followed."
            assert other.requests == []


async def test_a_receiver_that_hangs_costs_a_try(database: Database) -> None:
    patience = Patience(total=0.2)
    async with receiving(hang) as receiver, sending(database, patience=patience) as run:
        delivery = await run.tell(receiver.url)
        assert (delivery.state, delivery.last_status) == ("pending", None)
        assert delivery.last_error == "It did not answer within 0.2 s."


async def test_a_receiver_that_breaks_off_after_the_body_is_told_again_with_the_same_id(
    database: Database,
) -> None:
    async with receiving(reset, answer(200)) as receiver, sending(database) as run:
        delivery = await run.tell(receiver.url)
        assert delivery.last_error == "It closed the connection before it answered."
        run.clock.now = delivery.next_at
        run.sender.wake()
        assert (await run.next_try()).state == "delivered"
        first, second = receiver.requests
        assert (first.id, first.body) == (second.id, second.body)


async def test_of_an_endless_answer_only_the_beginning_is_read(database: Database) -> None:
    flood = Flood()
    async with receiving(flood) as receiver, sending(database) as run:
        assert (await run.tell(receiver.url)).state == "delivered"
        await asyncio.wait_for(flood.cut.wait(), 60)
        assert flood.sent_bytes < 64_000_000  # what the sockets between us hold


async def test_an_answer_that_stops_within_its_body_is_a_yes(database: Database) -> None:
    async def stall(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()
        await hang(request, writer)

    async with receiving(stall) as receiver, sending(database, patience=Patience(total=0.2)) as run:
        assert (await run.tell(receiver.url)).state == "delivered"


async def test_what_is_no_http_costs_a_try(database: Database) -> None:
    async with receiving(babble) as receiver, sending(database) as run:
        assert (await run.tell(receiver.url)).last_error == "It did not answer in HTTP."


async def test_a_receiver_that_is_not_there_costs_a_try(database: Database) -> None:
    async with receiving(answer(200)) as receiver:
        gone = receiver.url
    async with sending(database) as run:
        delivery = await run.tell(gone)
        assert delivery.state == "pending"
        assert "could not be reached" in (delivery.last_error or "")


async def test_a_name_that_nobody_knows_costs_a_try(database: Database) -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        raise OSError(-2, "Name or service not known")

    async with sending(database, resolve=resolve) as run:
        delivery = await run.tell("https://nowhere.example.com/")
        assert delivery.state == "pending"
        assert (
            delivery.last_error
            == "It could not be reached: its name is not known: Name or service not known."
        )


# Where deliveries may go ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "2130706433", "127.1", "0x7f.1", "[::ffff:7f00:1]"]
)
async def test_this_machine_is_refused_however_it_is_written(database: Database, host: str) -> None:
    async with receiving(answer(200)) as receiver, sending(database, allow_private=False) as run:
        delivery = await run.tell(f"http://{host}:{receiver.port}/hook")
        assert (delivery.state, delivery.attempts) == ("dead", 1)
        assert "has an address that is" in (delivery.last_error or "")
        assert receiver.requests == []


async def test_a_name_is_judged_by_the_address_it_leads_to_and_asked_for_once_a_try(
    database: Database,
) -> None:
    asked: list[str] = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["10.1.2.3"] if len(asked) % 2 else ["127.0.0.1"]  # rebinding: another answer each time

    async with sending(database, allow_private=False, resolve=resolve) as run:
        delivery = await run.tell("https://hooks.example.com/")
        assert delivery.state == "dead"
        assert delivery.last_error == "The URL's host has an address that is private."
        assert "10.1.2.3" not in delivery.last_error  # the inner network's names are nobody's business
        assert asked == ["hooks.example.com"]


async def test_a_dead_one_that_is_retried_is_checked_again_without_being_told(database: Database) -> None:
    addresses = ["169.254.169.254"]

    async def resolve(host: str, port: int) -> Sequence[str]:
        return addresses

    async with sending(database, allow_private=False, resolve=resolve) as run:
        delivery = await run.tell("https://hooks.example.com/")
        assert delivery.state == "dead"
        database.retry(delivery.id, now=run.clock.now)  # as another process does
        delivery = await run.next_try()
        assert (delivery.state, delivery.attempts) == ("dead", 2)


async def test_of_several_addresses_only_those_that_may_be_called_are_connected_to() -> None:
    connected: list[str] = []

    class Unreachable(httpcore.AsyncNetworkBackend):
        async def connect_tcp(self, host: str, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
            connected.append(host)
            raise httpcore.ConnectError("unreachable")

    async def resolve(host: str, port: int) -> Sequence[str]:
        return ["10.0.0.1", "1.1.1.1", "::1", "1.1.1.1", "2606:4700::1111"]

    network = GuardedNetwork(resolve, why_not=Receivers(WebhookSettings()).why_not, network=Unreachable())
    with pytest.raises(httpcore.ConnectError):
        await network.connect_tcp("hooks.example.com", 443, 1.0)
    assert connected == ["1.1.1.1", "2606:4700::1111"]


@pytest.mark.parametrize(
    "url", ["ftp://example.com/", "file:///etc/passwd", "/hook", "http://", "http://[x/", "http://a..b/"]
)
async def test_what_is_no_web_address_is_dead_at_once(database: Database, url: str) -> None:
    async with sending(database) as run:
        delivery = await run.tell(url)
        assert (delivery.state, delivery.attempts) == ("dead", 1)
        assert (delivery.last_error or "").startswith("The URL")


async def test_no_proxy_is_taken_from_the_environment(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with receiving(answer(200)) as receiver, sending(database) as run:
        assert (await run.tell(receiver.url)).state == "delivered"


# URLs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "host", "target"),
    [
        ("https://example.com", "example.com", b"/"),
        ("https://example.com:443/a b?c=ä&d=%20", "example.com", b"/a%20b?c=%C3%A4&d=%20"),
        ("http://[2001:db8::1]:8080/x", "[2001:db8::1]:8080", b"/x"),
        ("https://bücher.example/é", "xn--bcher-kva.example", b"/%C3%A9"),
    ],
)
def test_a_url_is_sent_as_http_writes_it(url: str, host: str, target: bytes) -> None:
    found = Target.of(url)
    assert (found.host, found.url.target, found.authorization) == (host, target, None)


def test_a_url_that_cannot_be_read_is_refused_without_being_repeated() -> None:
    with pytest.raises(ForbiddenTarget) as caught:
        Target.of("http://someone:hunter2@[x/")
    assert "hunter2" not in str(caught.value)


async def test_user_information_is_sent_as_authorization_and_stands_in_no_log(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "live_asr")
    async with receiving(answer(500), answer(410)) as receiver, sending(database) as run:
        url = f"http://someone:hunter%3A2@127.0.0.1:{receiver.port}/hook?token=swordfish"
        delivery = await run.tell(url)
        run.clock.now = delivery.next_at
        run.sender.wake()
        await run.next_try()
        request = receiver.requests[0]
        expected = base64.b64encode(b"someone:hunter:2").decode()
        assert request.headers["authorization"] == f"Basic {expected}"
        assert request.target == "/hook?token=swordfish"
    assert f"to http://127.0.0.1:{receiver.port} failed" in caplog.text
    for secret in ("hunter", "swordfish", SECRET, SECRET.removeprefix("whsec_"), "Xin chào"):
        assert secret not in caplog.text


# TLS --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """An authority that nobody else trusts."""
    return trustme.CA()


async def loopback(host: str, port: int) -> Sequence[str]:
    return ["127.0.0.1"]


async def test_over_tls_the_name_asked_for_is_the_hosts_and_not_the_address(
    database: Database, authority: trustme.CA
) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("hooks.example.com").configure_cert(server)
    asked: list[str] = []
    server.sni_callback = lambda _, name, __: asked.append(name)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with (
        receiving(answer(200), tls=server) as receiver,
        sending(database, resolve=loopback, tls=trusting) as run,
    ):
        delivery = await run.tell(f"https://hooks.example.com:{receiver.port}/")
        assert delivery.state == "delivered"
        assert asked == ["hooks.example.com"]
        assert receiver.requests[0].headers["host"] == f"hooks.example.com:{receiver.port}"


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_certificate_of_another_name_or_of_nobody_known_is_refused(
    database: Database, authority: trustme.CA, trusted: bool
) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("other.example.com" if trusted else "hooks.example.com").configure_cert(server)
    trusting = ssl.create_default_context()
    if trusted:
        authority.configure_trust(trusting)
    async with (
        receiving(answer(200), tls=server) as receiver,
        sending(database, resolve=loopback, tls=trusting) as run,
    ):
        delivery = await run.tell(f"https://hooks.example.com:{receiver.port}/")
        assert delivery.state == "pending"
        assert "certificate verify failed" in (delivery.last_error or "")
        assert receiver.requests == []


# Many at once, and what goes wrong here ---------------------------------------------------------------


async def test_a_receiver_that_hangs_holds_up_no_other(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "GRACE", 0.01)
    async with receiving(hang) as slow, receiving(answer(200)) as quick, sending(database) as run:
        for number in range(30):
            run.add(slow.url, f"slow{number}")
        await slow.received(MAX_PER_RECEIVER)
        for number in range(30):
            run.add(quick.url, f"quick{number}")
        told = {(await run.next_try()).session_id for _ in range(30)}
        assert told == {f"quick{number}" for number in range(30)}
        assert slow.most_connections == MAX_PER_RECEIVER


async def test_many_receivers_that_hang_hold_up_nobody_who_is_told_for_the_first_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "GRACE", 0.01)

    async def resolve(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    async with (
        receiving(hang) as slow,
        receiving(answer(200)) as quick,
        sending(database, resolve=resolve) as run,
    ):
        for number in range(webhook.MAX_AT_ONCE + 2):
            session_id = f"slow{number:03}"
            database.add_session(session_id, {}, created_at=run.clock.now)
            hung = NewDelivery(f"http://h{number}.example:{slow.port}/", b"{}")
            database.finish_session(session_id, state="done", ended_at=run.clock.now, delivery=hung)
            (delivery,) = database.deliveries(session_id=session_id)
            database.record_try(
                delivery.id, state="pending", next_at=run.clock.now, last_status=None, last_error="slow"
            )
        run.sender.wake()
        await slow.received(webhook.MAX_REPEATED)
        assert (await run.tell(quick.url)).state == "delivered"
        assert slow.most_connections == webhook.MAX_REPEATED


async def test_what_becomes_due_in_another_process_is_noticed(database: Database, tmp_path: Path) -> None:
    async with receiving(answer(410), answer(200)) as receiver, sending(database) as run:
        delivery = await run.tell(receiver.url)
        other = Database(sqlite_url(tmp_path / "live-asr.db"))
        other.retry(delivery.id, now=run.clock.now)
        other.close()
        assert (await run.next_try()).state == "delivered"


async def test_what_a_server_left_pending_is_sent_by_the_next(database: Database) -> None:
    async with receiving(answer(500), answer(200)) as receiver:
        async with sending(database) as run:
            delivery = await run.tell(receiver.url)
        async with sending(database) as run:
            run.clock.now = delivery.next_at
            run.sender.wake()
            assert (await run.next_try()).id == delivery.id
            assert [request.id for request in receiver.requests] == [delivery.id] * 2


async def test_a_try_in_flight_when_the_sender_is_closed_is_made_anew_by_the_next(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "GRACE", 0.01)
    async with receiving(hang, answer(200)) as receiver:
        async with sending(database) as run:
            run.add(receiver.url)
            await receiver.received(1)
        async with sending(database) as run:
            assert (await run.next_try()).state == "delivered"
        assert len({request.id for request in receiver.requests}) == 1


async def test_a_session_erased_while_it_is_told_of_troubles_nobody(database: Database) -> None:
    async def erase(request: Received, writer: asyncio.StreamWriter) -> None:
        database.delete_session("a1")
        await answer(500)(request, writer)

    async with receiving(erase, answer(200)) as receiver, sending(database) as run:
        run.add(receiver.url)
        await receiver.received(1)
        run.add(receiver.url, "b2")
        assert (await run.next_try()).session_id == "b2"
        assert database.deliveries(session_id="a1") == []


async def test_a_result_that_the_database_does_not_take_at_first_is_not_sent_twice(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "POLL", 0.01)
    record, refusals = database.record_try, [1, 2, 3]

    def refuse(*arguments: Any, **named: Any) -> Delivery | None:
        if refusals:
            refusals.pop()
            raise StorageError("locked")
        return record(*arguments, **named)

    monkeypatch.setattr(database, "record_try", refuse)
    async with receiving(answer(200)) as receiver, sending(database) as run:
        assert (await run.tell(receiver.url)).state == "delivered"
        assert len(receiver.requests) == 1


async def test_an_outbox_that_cannot_be_read_is_said_once_and_read_again(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(webhook, "POLL", 0.01)
    due, refusals = database.due, [1, 2, 3]

    def refuse(*arguments: Any, **named: Any) -> list[Delivery]:
        if refusals:
            refusals.pop()
            raise StorageError("The database is away.")
        return due(*arguments, **named)

    monkeypatch.setattr(database, "due", refuse)
    async with receiving(answer(200)) as receiver, sending(database) as run:
        assert (await run.tell(receiver.url)).state == "delivered"
    assert caplog.text.count("The database is away.") == 1


async def test_a_fault_of_ours_costs_a_try_and_not_the_sender(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        if host == "bad.example.com":
            raise RuntimeError("a bug")
        return ["127.0.0.1"]

    async with receiving(answer(200)) as receiver, sending(database, resolve=resolve) as run:
        delivery = await run.tell("https://bad.example.com/")
        assert delivery.state == "pending"
        assert "a bug" in caplog.text
        run.add(f"http://good.example.com:{receiver.port}/", "b2")
        assert (await run.next_try()).state == "delivered"


async def test_closing_twice_and_without_a_start_is_harmless(database: Database) -> None:
    sender = WebhookSender(database, WebhookSettings(), SECRET)
    await sender.close()
    await sender.close()
