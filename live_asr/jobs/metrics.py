"""What a worker counts: for Prometheus, and for CloudWatch in its embedded metric format."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import TextIO

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

NAMESPACE = "live-asr"
FACTOR_BUCKETS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0)


class JobMetrics:
    """One worker's metrics; in `registry` where there is one already, else in one of their own."""

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        *,
        emf: TextIO | None = None,
        queue: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.registry = registry or CollectorRegistry()
        self._emf = emf
        self._queue = queue
        self._clock = clock
        self._done = Counter("live_asr_jobs_done", "Jobs that succeeded", registry=self.registry)
        self._failed = Counter(
            "live_asr_jobs_failed", "Jobs that failed for good, by code", ["code"], registry=self.registry
        )
        self._retried = Counter(
            "live_asr_jobs_retried",
            "Jobs given back to be tried again, by code",
            ["code"],
            registry=self.registry,
        )
        self._kept = Counter(
            "live_asr_jobs_answered_from_kept",
            "Jobs whose recording was known with the same options",
            registry=self.registry,
        )
        self._audio = Counter(
            "live_asr_jobs_audio_seconds", "Seconds of audio recognised", registry=self.registry
        )
        self._factor = Histogram(
            "live_asr_jobs_real_time_factor",
            "Seconds of recognition per second of audio",
            buckets=FACTOR_BUCKETS,
            registry=self.registry,
        )
        self.running = Gauge("live_asr_jobs_running", "Jobs that run now", registry=self.registry)
        self._progress = Gauge(
            "live_asr_jobs_progress", "How far the job of a lane is, 0 to 1", ["lane"], registry=self.registry
        )
        self._age = Gauge(
            "live_asr_jobs_queue_age_seconds",
            "Age of the message that was received last",
            registry=self.registry,
        )
        self._depth = Gauge("live_asr_jobs_queue_depth", "Messages that wait, about", registry=self.registry)

    def received(self, age: float) -> None:
        """Count a message that was received, so many seconds after it was sent."""
        self._age.set(age)
        self._write({"QueueAge": (round(age, 3), "Seconds")})

    def waiting(self, depth: int) -> None:
        """Take note of how many messages wait."""
        self._depth.set(depth)
        self._write({"QueueDepth": (depth, "Count")})

    def progress(self, lane: int, fraction: float) -> None:
        """Take note of how far the job of a lane is, 0 to 1."""
        self._progress.labels(str(lane)).set(fraction)

    def done(self, audio_seconds: float, work_seconds: float, *, is_new: bool) -> None:
        """Count a job that succeeded; one that is not new was known already."""
        self._done.inc()
        if not is_new:
            self._kept.inc()
            self._write({"JobsDone": (1, "Count"), "JobsFailed": (0, "Count")})
            return
        factor = work_seconds / audio_seconds if audio_seconds else 0.0
        self._audio.inc(audio_seconds)
        self._factor.observe(factor)
        self._write(
            {
                "JobsDone": (1, "Count"),
                "JobsFailed": (0, "Count"),
                "AudioSeconds": (round(audio_seconds, 3), "Seconds"),
                "RealTimeFactor": (round(factor, 4), "None"),
            }
        )

    def failed(self, code: str) -> None:
        """Count a job that failed for good."""
        self._failed.labels(code).inc()
        self._write({"JobsDone": (0, "Count"), "JobsFailed": (1, "Count")}, {"ErrorCode": code})

    def retried(self, code: str) -> None:
        """Count a job that is tried again."""
        self._retried.labels(code).inc()

    def _write(
        self, values: Mapping[str, tuple[float, str]], properties: Mapping[str, str] | None = None
    ) -> None:
        """Write one line of CloudWatch's embedded metric format."""
        if self._emf is None:
            return
        metrics = [{"Name": name, "Unit": unit} for name, (_, unit) in values.items()]
        line = {
            "_aws": {
                "Timestamp": int(self._clock() * 1000),
                "CloudWatchMetrics": [
                    {"Namespace": NAMESPACE, "Dimensions": [["Queue"]], "Metrics": metrics}
                ],
            },
            "Queue": self._queue,
            **{name: value for name, (value, _) in values.items()},
            **(properties or {}),
        }
        self._emf.write(json.dumps(line, separators=(",", ":")) + "\n")
        self._emf.flush()


def emf_stream(wanted: bool) -> TextIO | None:
    """Return where embedded metrics go: stdout, or nowhere."""
    return sys.stdout if wanted else None
