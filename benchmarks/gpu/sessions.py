"""Real sessions in real time, more and more of them until commits are late; then a full pass beside some."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass

import numpy as np

from benchmarks.base.matching import errors, matches
from benchmarks.base.measure import joined, percentile
from benchmarks.base.options import Options
from benchmarks.base.processes import BenchServer, watched
from benchmarks.base.reference import Reference
from benchmarks.base.speech import Clip
from benchmarks.base.streaming import Recorder, SessionLog, play
from benchmarks.gpu.kept import Clock, Kept
from benchmarks.speakers.passing import pass_of
from live_asr.cli.bench import next_count

LIMIT = 2.0
"""Seconds that the 95th percentile of the commit latencies may be."""
SPREAD_SECONDS = 3.0
"""Over which sessions begin, so that their steps do not line up."""
WAVE_OVERHEAD = 6.0
"""Seconds that a wave takes beside its audio: beginning, ending, counting."""
GRACE = 30.0
"""Seconds past its time after which a full pass is given up."""


@dataclass(frozen=True, slots=True)
class Wave:
    """What came of so many sessions at once; times are seconds."""

    sessions: int
    p50: float
    p95: float
    words: int
    """That were committed and could be timed."""
    wer: float | None
    """Of the live texts together, 0 to 1; None where nobody wrote down what is said."""
    failed: int
    failure: str
    """Of the first one that failed."""
    lateness: float
    """The worst delay of this client behind its own schedule."""
    server_cores: float
    """Kept busy by the server's processes."""

    @property
    def holds(self) -> bool:
        """Whether so many are carried."""
        return self.failed == 0 and self.p95 <= LIMIT


async def play_wave(url: str, clip: Clip, count: int, language: str | None) -> list[SessionLog]:
    """Play a clip in so many sessions at once, in real time."""

    async def later(place: int) -> SessionLog:
        await asyncio.sleep(SPREAD_SECONDS * place / count)
        return await play(url, clip, language=language)

    return list(await asyncio.gather(*map(later, range(count))))


def wave_of(logs: list[SessionLog], reference: Reference, cores: float) -> Wave:
    """Measure the sessions of a wave; the words' times are the reference's."""
    latencies = [took for log in logs for took in commit_latencies(log, reference)]
    failures = [log.failure for log in logs if log.failure]
    truth = logs[0].clip.truth
    found = [errors(_text(log), truth) for log in logs if truth]
    wer = sum(one.total for one in found) / sum(one.words for one in found) if found else None
    return Wave(
        len(logs),
        percentile(latencies, 50),
        percentile(latencies, 95),
        len(latencies),
        wer,
        len(failures),
        failures[0] if failures else "",
        max(log.lateness for log in logs),
        cores,
    )


def commit_latencies(log: SessionLog, reference: Reference) -> list[float]:
    """Return the seconds from the end of each word, as it was sent, until it was committed."""
    pieces = [
        (str(word["text"]), arrival.time)
        for arrival in log.of_type("commit")
        for word in arrival.message["words"]
    ]
    live = joined(pieces)
    said = joined((word.text, word.end) for word in reference.words)
    pairs = matches([word for word, _ in said], [word for word, _ in live])
    return [live[right][1] - log.sent_at(said[left][1]) for left, right in pairs]


def _text(log: SessionLog) -> str:
    return "".join(str(arrival.message.get("text", "")) for arrival in log.of_type("commit"))


class Sessions:
    """A server with one model, and what is played to it."""

    def __init__(
        self, model: str, clip: Clip, reference: Reference, options: Options, kept: Kept, *, device: str
    ) -> None:
        self.model, self.clip, self.reference = model, clip, reference
        self._options, self._kept = options, kept
        self._settings = {
            "LIVE_ASR_INFERENCE__DEVICE": device,
            "LIVE_ASR_SERVER__ADMISSION": "count",
            "LIVE_ASR_SERVER__MAX_SESSIONS": "100000",
        }
        self._name = f"sessions {model}"

    @property
    def waves(self) -> dict[int, Wave]:
        """What was measured, by how many sessions."""
        found = self._kept.under(f"{self._name}/")
        return {int(count): Wave(**body) for count, body in found.items() if count.isdigit()}

    @property
    def most(self) -> int:
        """The largest number of sessions that was carried; 0 where none was."""
        return max((count for count, wave in self.waves.items() if wave.holds), default=0)

    def measure(self, clock: Clock, *, first: int, most: int, pass_repeats: int) -> None:
        """Find the limit while there is time, then go over a recording of so many clips beside sessions.

        Raises ServerFailedError where the server does not come up.
        """
        wave_seconds = self.clip.duration + SPREAD_SECONDS + WAVE_OVERHEAD
        spared = 2 * wave_seconds if pass_repeats else 0.0
        if clock.left < wave_seconds or not self.missing(first, most, pass_repeats):
            return
        with BenchServer(self.model, models_dir=self._options.models_dir, settings=self._settings) as server:
            if f"{self._name}/ready" not in self._kept:
                self._kept.keep(f"{self._name}/ready", {"seconds": server.ready_after})
            while (count := self.following(first, most)) and (
                not self.waves or clock.left - spared >= wave_seconds
            ):
                self._options.say(f"{self.model}: {count} sessions, {clock.left:.0f} s left")
                self._kept.keep(f"{self._name}/{count}", asdict(self._wave(server, count)))
            if pass_repeats and f"{self._name}/pass" not in self._kept and clock.left:
                self._pass(server, pass_repeats, clock)

    def missing(self, first: int, most: int, pass_repeats: int) -> list[str]:
        """Name what is not measured yet."""
        count = self.following(first, most)
        passes = pass_repeats and f"{self._name}/pass" not in self._kept
        return [*([f"{count} sessions"] if count else []), *(["full pass"] if passes else [])]

    def following(self, first: int, most: int) -> int | None:
        """Return how many sessions to try next; None where the limit is known."""
        broke = [count for count, wave in self.waves.items() if not wave.holds]
        return next_count(self.most, min(broke, default=None), first, most)

    def _wave(self, server: BenchServer, count: int) -> Wave:
        # Memory and metrics are not what is measured here: a look at each end is enough.
        with watched(server, interval=3600.0) as usage:
            logs = asyncio.run(play_wave(server.url, self.clip, count, self._options.language))
        seconds = usage.samples[-1].time - usage.samples[0].time
        return wave_of(logs, self.reference, usage.cpu_seconds / seconds)

    def _pass(self, server: BenchServer, repeats: int, clock: Clock) -> None:
        beside = max(1, self.most // 2)
        truth = None if self.clip.truth is None else " ".join([self.clip.truth] * repeats)
        recorded = Clip(f"{self.clip.name} x {repeats}", np.tile(self.clip.audio, repeats), truth)
        seconds, language = recorded.duration, self._options.language
        self._options.say(f"{self.model}: full pass over {seconds:.0f} s beside {beside} sessions")

        async def both() -> tuple[SessionLog, list[SessionLog]]:
            recorder = Recorder(
                server.url, recorded, pace="fast", language=language, start={"final_pass": True}
            )
            async with asyncio.TaskGroup() as tasks:
                long = tasks.create_task(recorder.run())
                await recorder.stopped()
                logs = await play_wave(server.url, self.clip, beside, language)
            return long.result(), logs

        async def in_time() -> tuple[SessionLog, list[SessionLog]]:
            async with asyncio.timeout(clock.left + GRACE):
                return await both()

        with watched(server, interval=3600.0) as usage:
            try:
                log, logs = asyncio.run(in_time())
            except TimeoutError:
                return  # said to be missing
        done = pass_of(log, 0.0, usage.others_cores)
        took = usage.samples[-1].time - usage.samples[0].time
        final = log.first("final")
        self._kept.keep(
            f"{self._name}/pass",
            {
                "failure": done.failure,
                "recording": seconds,
                "seconds": None if np.isnan(done.seconds) else done.seconds,
                "wer": errors(str(final.message["text"]), truth).rate if final and truth else None,
                "beside": asdict(wave_of(logs, self.reference, usage.cpu_seconds / took)),
            },
        )
