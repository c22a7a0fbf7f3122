"""A full pass in a Ray cluster: one recording, with models of its own, in a process that ends with it."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from live_asr.cluster.actor import settings_of
from live_asr.cluster.full_passes import PassOrder
from live_asr.full_pass.process import FullPassJob, FullPassLoad, FullPassResult, Progress
from live_asr.full_pass.worker import Worker, be_quiet, step_back
from live_asr.inference.ipc import Failed
from live_asr.inference.memory import return_freed_memory
from live_asr.weights.resolver import ModelResolver, full_pass_load


class PassActor:
    """Take a recording in pieces, and go over it; two methods may run at once."""

    def __init__(self, order: PassOrder) -> None:
        self._order = order
        self._progress = Progress("loading", 0.0)
        self._answer: FullPassResult | Failed = Failed("there is no result")
        self._folder = tempfile.TemporaryDirectory(prefix="live-asr-", ignore_cleanup_errors=True)
        self._audio = Path(self._folder.name) / "audio.pcm"
        self._audio.touch()

    def write(self, data: bytes) -> None:
        """Take the next piece of the recording. Raises OSError."""
        with self._audio.open("ab") as file:
            file.write(data)

    def progress(self) -> Progress:
        """Say how far the pass is."""
        return self._progress

    def run(self, job: FullPassJob) -> FullPassResult | Failed:
        """Go over the recording that was written. Raises what settings and weights raise."""
        return_freed_memory()
        be_quiet()
        step_back()  # live workers of the same machine come first
        Worker(self._load(), self._take).do(replace(job, audio_file=self._audio))
        self._folder.cleanup()
        return self._answer

    def _load(self) -> FullPassLoad:
        """Bring what the pass needs, from where this machine has it."""
        settings = settings_of(self._order.pool)
        brought = ModelResolver(settings).bring_all()
        load = full_pass_load(settings, brought)
        if not self._order.diarizes:
            return replace(load, pipeline=None)
        if load.pipeline is None:
            raise RuntimeError(f"speakers cannot be told apart here: {brought.pipeline}")
        return load

    def _take(self, message: object) -> None:
        if isinstance(message, Progress):
            self._progress = message
        elif isinstance(message, FullPassResult | Failed):
            self._answer = message
