"""How the steps of a live session lengthen when the inference process is loaded."""

from __future__ import annotations

from dataclasses import dataclass

from live_asr.core.types import samples


@dataclass(frozen=True, slots=True)
class Cadence:
    """How steps lengthen when the inference process is loaded."""

    step_samples: int = samples(0.7)
    """Where answers come in time."""
    loaded_step_samples: int = samples(1.0)
    """Where they take longer than `loaded_latency`, waiting included."""
    overloaded_step_samples: int = samples(1.5)
    """Where they take longer than `overloaded_latency`."""
    loaded_latency: float = 0.5
    overloaded_latency: float = 1.0

    def step_for(self, latency: float) -> int:
        """Return the step for answers that take so many seconds, on average."""
        if latency > self.overloaded_latency:
            return max(self.step_samples, self.overloaded_step_samples)
        if latency > self.loaded_latency:
            return max(self.step_samples, self.loaded_step_samples)
        return self.step_samples
