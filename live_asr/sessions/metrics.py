"""What the server counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

DECODE_BUCKETS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0)


class Metrics:
    """One server's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.sessions = Gauge("live_asr_sessions", "Sessions that are live now", registry=self.registry)
        self.places = Gauge("live_asr_places", "Sessions that there may be at once", registry=self.registry)
        self.places_free = Gauge(
            "live_asr_places_free", "Sessions that would be taken now", registry=self.registry
        )
        self.load = Gauge(
            "live_asr_predicted_load",
            "Share of the recogniser's time that the sessions are predicted to take",
            registry=self.registry,
        )
        self.viewers = Gauge("live_asr_viewers", "Viewers of sessions now", registry=self.registry)
        self.sessions_total = Counter(
            "live_asr_sessions_opened", "Sessions opened since the start", registry=self.registry
        )
        self.sessions_resumed = Counter(
            "live_asr_sessions_resumed",
            "Sessions taken up again after a lost connection",
            registry=self.registry,
        )
        self.refused = Counter(
            "live_asr_connections_refused", "Connections refused, by code", ["code"], registry=self.registry
        )
        self.wrong_tokens = Counter(
            "live_asr_wrong_tokens", "Wrong tokens that were presented", registry=self.registry
        )
        self.audio_seconds = Counter(
            "live_asr_audio_seconds", "Seconds of audio taken", registry=self.registry
        )
        self.decode_seconds = Histogram(
            "live_asr_decode_seconds", "One decode", buckets=DECODE_BUCKETS, registry=self.registry
        )
        self.queue_seconds = Histogram(
            "live_asr_queue_seconds", "A decode's wait", buckets=DECODE_BUCKETS, registry=self.registry
        )
        self.shed = Gauge(
            "live_asr_shedding_sessions",
            "Sessions that do without something while the recogniser is loaded, by what",
            ["what"],
            registry=self.registry,
        )
        self.engine_restarts = Counter(
            "live_asr_engine_restarts", "Inference processes replaced", registry=self.registry
        )
        self.final_passes = Counter(
            "live_asr_final_passes",
            "Full passes over recordings, by what became of them",
            ["outcome"],
            registry=self.registry,
        )
        self.webhook_tries = Counter(
            "live_asr_webhook_tries",
            "Tries to deliver a webhook, by the state they left it in",
            ["state"],
            registry=self.registry,
        )
        self.loop_stall = Gauge(
            "live_asr_event_loop_stall_seconds",
            "The longest the event loop was held since the start",
            registry=self.registry,
        )
