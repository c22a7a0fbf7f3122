"""What the server counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from live_asr.storage.records import DEAD, DELIVERY_STATES, PENDING

DECODE_BUCKETS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0)
LATENCY_BUCKETS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.5, 10.0, 15.0, 30.0, 60.0)
STALL_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
BATCH_BUCKETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)


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
        self.sessions_by_state = Gauge(
            "live_asr_sessions_by_state",
            "Sessions that are worked for, by where they are in their life",
            ["state"],
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
        self.lag_seconds = Histogram(
            "live_asr_lag_seconds",
            "How far live captions are behind their audio, once a second of a session",
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.commit_latency_seconds = Histogram(
            "live_asr_commit_latency_seconds",
            "From when the end of a live word arrived until it was committed",
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.first_appearance_seconds = Histogram(
            "live_asr_first_appearance_seconds",
            "From when the end of a live word arrived until it was first shown, committed or not",
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.work_waiting = Gauge(
            "live_asr_work_waiting", "Work that waits for a lane, by kind", ["work"], registry=self.registry
        )
        self.work_age = Gauge(
            "live_asr_work_oldest_seconds",
            "For how long the oldest work has waited for a lane, by kind",
            ["work"],
            registry=self.registry,
        )
        self.batch_size = Histogram(
            "live_asr_batch_size",
            "Pieces of work that a lane was given at once, by kind",
            ["work"],
            buckets=BATCH_BUCKETS,
            registry=self.registry,
        )
        self.lanes = Gauge(
            "live_asr_lanes", "Pieces of work that the recogniser does at once", registry=self.registry
        )
        self.lane_busy_seconds = Counter(
            "live_asr_lane_busy_seconds",
            "Seconds that lanes were busy, of all together",
            registry=self.registry,
        )
        self.encoder_seconds = Counter(
            "live_asr_encoder_seconds",
            "Seconds that the recogniser's encoder took, of all lanes together",
            registry=self.registry,
        )
        self.decoded_tokens = Counter(
            "live_asr_decoded_tokens", "Tokens that the recogniser's decoder wrote", registry=self.registry
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
        self.final_passes_pending = Gauge(
            "live_asr_final_passes_pending",
            "Sessions that wait for their full pass or are in it",
            registry=self.registry,
        )
        self.final_passes_age = Gauge(
            "live_asr_final_passes_oldest_seconds",
            "For how long the oldest of them has waited",
            registry=self.registry,
        )
        self.webhooks = Gauge(
            "live_asr_webhooks",
            "Webhooks in the outbox that were not delivered: pending, or dead",
            ["state"],
            registry=self.registry,
        )
        self.objects = Gauge(
            "live_asr_objects",
            "Objects that are to be put into the object store (waiting) or to be erased there (doomed)",
            ["state"],
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
        self.loop_lag = Histogram(
            "live_asr_event_loop_lag_seconds",
            "How late the event loop came to what was due, looked at fifty times a second",
            buckets=STALL_BUCKETS,
            registry=self.registry,
        )
        self._begin_at_nothing()

    def note_spent(self, encoder_seconds: float, tokens: int) -> None:
        """Count what the recogniser has done."""
        self.encoder_seconds.inc(encoder_seconds)
        self.decoded_tokens.inc(tokens)

    def _begin_at_nothing(self) -> None:
        """Have those be there from the start that an alert looks at: it sees no first step out of nowhere."""
        for outcome in ("done", "failed", "cancelled"):
            self.final_passes.labels(outcome)
        for state in DELIVERY_STATES:
            self.webhook_tries.labels(state)
        for state in (PENDING, DEAD):
            self.webhooks.labels(state)
        self.refused.labels("server_full")
