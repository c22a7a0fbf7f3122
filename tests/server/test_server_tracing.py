"""Traces are sent where OpenTelemetry's own variables say, to somebody who really listens there."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest

from live_asr.server.tracing import start_tracing
from live_asr.sessions import tracing


@pytest.fixture
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    got: list[tuple[str, bytes]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", got
    server.shutdown()
    thread.join()
    server.server_close()


def test_spans_arrive_at_a_collector(
    collector: tuple[str, list[tuple[str, bytes]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    address, got = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
    stop = start_tracing({"OTEL_EXPORTER_OTLP_ENDPOINT": address})
    with tracing.span("session", session="a1b2"), tracing.span("decode", words=3, left_out=None):
        pass
    stop()
    assert [path for path, _ in got] == ["/v1/traces"]
    body = got[0][1]
    assert all(part in body for part in (b"a1b2", b"decode", b"live_asr.words", b"live-asr"))
    assert b"left_out" not in body


def test_nothing_is_sent_where_nobody_wants_it() -> None:
    for environment in (
        {},
        {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
    ):
        stop = start_tracing(environment)
        with tracing.span("session") as span:
            span.set_attribute("live_asr.words", 1)
        assert type(span).__module__ == tracing.__name__
        stop()
