"""What operators expect: an audit log, certificates that may be replaced, rates, and pages from elsewhere."""

from __future__ import annotations

import asyncio
import json
import ssl
import stat
from pathlib import Path

import pytest
import trustme
from scripted_pass import ScriptedPass, found
from serving import serving, settings_of
from standing import standing
from talking import call

from live_asr.core.errors import ConfigError
from live_asr.server.run import check_certificate

SESSION = "a" * 24
TOKEN = "the-server-s-own"
RIGHT = {"Authorization": f"Bearer {TOKEN}"}
WARNINGS = {"x-live-asr-warning", "live-asr-warning", "dg-request-id", "dg-error"}
"""Headers in which dialects tell what has no effect, and whose answer it is."""

# Audit -----------------------------------------------------------------------------------------------


async def test_the_audit_log_tells_who_did_what_and_never_a_word(
    tmp_path: Path, models_dir: Path, sample_pcm: bytes
) -> None:
    log = tmp_path / "audit.log"
    flags = {"server__token": TOKEN, "server__audit_log": str(log)}
    async with serving(tmp_path, models_dir, ScriptedPass(found()), **flags) as served:
        async with call(served.stream, additional_headers=RIGHT) as caller:
            session = (await caller.start(pace="fast", title="Swordfish"))["session"]
            await caller.send(sample_pcm[14 * 32_000 : 17 * 32_000])
            said = (await caller.finished())["text"].strip()
        path = f"/v1/sessions/{session}"
        for method, part, body in (
            *(("GET", "", None), ("GET", "/transcript.vtt", None), ("GET", "/events", None)),
            *(("PATCH", "", {"title": "Marlin"}), ("PUT", "/names", {"S1": "Ann"}), ("DELETE", "", None)),
        ):
            await served.http.request(method, path + part, json=body, headers=RIGHT)
        await served.http.get("/v1/sessions", headers=RIGHT)
        wrong = {"Authorization": "Bearer no-such-token", "X-Forwarded-For": "203.0.113.9"}
        assert (await served.http.get("/v1/sessions", headers=wrong)).status_code == 401
        await served.http.get("/healthz")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    seen = [(line["event"], line.get("status")) for line in lines]
    assert seen == [
        *(("open", None), ("read", 200), ("export", 200), ("watch", 200), ("rename", 200), ("rename", 200)),
        *(("erase", 204), ("list", 200), ("wrong_token", None), ("list", 401)),
    ]
    assert {line["session"] for line in lines[:7]} == {session}
    assert lines[1]["name"] == "server.token" and lines[1]["address"] == "127.0.0.1"
    assert lines[-2]["address"] == "203.0.113.9"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    text = log.read_text()
    assert said and not any(
        secret in text for secret in (said, "Swordfish", "Marlin", "Ann", TOKEN, "no-such")
    )


async def test_an_audit_log_that_cannot_be_written_is_a_wrong_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="audit log"):
        async with standing(tmp_path, server__audit_log=str(tmp_path / "nowhere" / "audit.log")):
            pass


# Rates -----------------------------------------------------------------------------------------------


async def test_an_address_and_a_token_send_so_many_requests(tmp_path: Path) -> None:
    async with standing(tmp_path, server__requests_per_minute=3) as server:

        async def ask(**headers: str) -> int:
            answer = await server.http.get("/v1/sessions", headers=headers)
            if answer.status_code == 429:
                assert int(answer.headers["retry-after"]) >= 1
                assert "server.requests_per_minute" in answer.json()["detail"]
            return answer.status_code

        far = {"X-Forwarded-For": "203.0.113.9"}
        assert [await ask(**far) for _ in range(4)] == [200, 200, 200, 429]
        assert await ask(**{"X-Forwarded-For": "203.0.113.10"}) == 200
        assert [await ask() for _ in range(9)] == [200] * 9, "programs on this machine"
        assert (await server.http.get("/healthz", headers=far)).status_code == 200


# Pages from elsewhere --------------------------------------------------------------------------------


async def test_pages_of_allowed_origins_read_answers_and_no_others(tmp_path: Path) -> None:
    named = {"server__allowed_origins": "https://Talks.example:443", "server__token": TOKEN}
    async with standing(tmp_path, **named) as server:
        asked = {
            "Access-Control-Request-Method": "PUT",
            "Access-Control-Request-Headers": "authorization,if-match",
        }
        for origin, allowed in (("https://talks.example", True), ("https://evil.example", False)):
            page = {"Origin": origin}
            before = await server.http.options("/v1/sessions", headers=page | asked)
            assert (before.status_code == 200) is allowed
            for headers in (page, page | RIGHT):  # what is refused, too: the page is to say why
                answer = await server.http.get("/v1/sessions", headers=headers)
                told = answer.headers.get("access-control-allow-origin")
                assert told == (origin if allowed else None)
                shown = answer.headers.get("access-control-expose-headers", "").lower().split(", ")
                assert (not allowed) or {*WARNINGS, "retry-after", "x-request-id"} <= {*shown}
            assert "access-control-allow-credentials" not in answer.headers


# TLS -------------------------------------------------------------------------------------------------


def write(authority: trustme.CA, folder: Path) -> dict[str, str]:
    issued = authority.issue_cert("localhost")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    issued.private_key_pem.write_to_path(key)
    certificate.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    return {"server__tls_cert": str(certificate), "server__tls_key": str(key)}


async def test_a_certificate_that_is_replaced_is_used_from_the_next_connection_on(tmp_path: Path) -> None:
    first, second = trustme.CA(), trustme.CA()
    async with standing(tmp_path, **write(first, tmp_path)) as server:
        port = int(server.url.rpartition(":")[2])

        async def status(authority: trustme.CA) -> bytes:
            trusting = ssl.create_default_context()
            authority.configure_trust(trusting)
            reader, writer = await asyncio.open_connection("localhost", port, ssl=trusting)
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = await reader.readline()
            writer.close()
            await writer.wait_closed()
            return answer

        assert b" 200 " in await status(first)
        (tmp_path / "cert.pem").write_text("half a certif")  # as it may look for a moment
        assert b" 200 " in await status(first)
        write(second, tmp_path)
        async with asyncio.timeout(60):
            while True:
                try:
                    assert b" 200 " in await status(second)
                    break
                except ssl.SSLError:
                    continue  # until the server has looked


def test_a_certificate_without_its_key_is_a_wrong_setting(tmp_path: Path) -> None:
    files = write(trustme.CA(), tmp_path)
    check_certificate(settings_of(tmp_path, **files).server)
    with pytest.raises(ConfigError, match="belong together"):
        check_certificate(settings_of(tmp_path, server__tls_cert=files["server__tls_cert"]).server)
    trustme.CA().issue_cert("localhost").private_key_pem.write_to_path(tmp_path / "key.pem")
    with pytest.raises(ConfigError, match="cannot be used"):
        check_certificate(settings_of(tmp_path, **files).server)
