"""What a session waits for, as OpenTelemetry's spans, and which session a log line is about."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from live_asr.core.errors import EngineError
from live_asr.core.messages import Stop
from live_asr.server.logs import JsonFormatter, TextFormatter
from live_asr.sessions import tracing
from tests.sessions.registering import START, Client, running
from tests.sessions.scripted_engine import SECONDS, pcm


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use(provider.get_tracer("live_asr"))
    yield exporter
    tracing.use(None)
    provider.shutdown()


async def test_a_session_is_a_span_with_its_decodes_and_its_full_pass_below_it(
    exporter: InMemorySpanExporter, tmp_path: Path
) -> None:
    async with running(tmp_path) as server:
        client = Client(await server.registry.open(replace(START, final_pass=True, diarize=True)))
        client.runner.receive_audio(pcm())
        client.runner.receive(Stop())
        await client.until("final")
        await server.done(client.opened.id)
    spans = exporter.get_finished_spans()
    (session,) = [span for span in spans if span.name == "session"]
    decodes = [span for span in spans if span.name == "decode"]
    (full_pass,) = [span for span in spans if span.name == "full pass"]
    assert session.attributes is not None and full_pass.attributes is not None
    assert session.attributes["live_asr.session"] == client.opened.id
    assert session.attributes["live_asr.audio_seconds"] == SECONDS
    assert session.attributes["live_asr.words"] == 10
    assert full_pass.attributes["live_asr.recording_seconds"] == SECONDS
    assert len(decodes) >= 3
    for span in (*decodes, full_pass):
        assert span.parent is not None and span.parent.span_id == session.context.span_id
        assert span.context.trace_id == session.context.trace_id


async def test_a_log_line_says_which_session_it_is_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines: list[str] = []

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler = Keeping()
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("live_asr")
    logger.addHandler(handler)
    try:
        async with running(tmp_path) as server:
            server.engine.recognize_faults = iter([EngineError("It is ill.")])
            clients = [Client(await server.registry.open(START)) for _ in range(2)]
            for client in clients:
                client.runner.receive_audio(pcm())
                client.runner.receive(Stop())
                await client.until("final")
    finally:
        logger.removeHandler(handler)
    (told,) = [line for line in map(json.loads, lines) if "It is ill." in line["message"]]
    assert told["session"] in {client.opened.id for client in clients}
    assert told["session"] in told["message"]


def test_a_line_for_people_names_its_session_once() -> None:
    formatter = TextFormatter("%(levelname)s %(message)s")

    def line(message: str) -> str:
        return formatter.format(logging.LogRecord("live_asr", logging.INFO, "", 0, message, (), None))

    assert line("all is well") == "INFO all is well"
    token = tracing.session_id.set("a1b2")
    try:
        assert line("all is well") == "INFO session a1b2: all is well"
        assert line("session a1b2 failed") == "INFO session a1b2 failed"
    finally:
        tracing.session_id.reset(token)
