"""Sessions' spans to an OpenTelemetry collector, where the environment names one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from live_asr.sessions import tracing

log = logging.getLogger(__name__)

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""OpenTelemetry's own variables; all others of its exporter and its batches are read, too."""
SWITCH = "OTEL_SDK_DISABLED"
SERVICE = "live-asr"


def start_tracing(environment: Mapping[str, str]) -> Callable[[], None]:
    """Have spans exported where one of `ENDPOINTS` says where to; return what ends that, and sends the last.

    A missing package costs a warning: the variables may be set for all of a cluster's programs.
    """
    is_off = environment.get(SWITCH, "").lower() == "true"
    if is_off or not any(environment.get(name) for name in ENDPOINTS):
        return lambda: None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as missing:
        log.warning('traces are not sent, %s is missing: pip install "live-asr[otel]"', missing.name)
        return lambda: None
    named = {} if environment.get("OTEL_SERVICE_NAME") else {"service.name": SERVICE}
    provider = TracerProvider(resource=Resource.create(named))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    tracing.use(provider.get_tracer("live_asr"))

    def stop() -> None:
        tracing.use(None)
        provider.shutdown()

    return stop
