"""What was measured, kept at once so that a run that was cut goes on where it was; and what time is left."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(slots=True)
class Kept:
    """Results by their names, in a file that is whole at any moment; `path` None keeps them in memory."""

    path: Path | None = None
    about: dict[str, Any] = field(default_factory=dict)
    """What has to be the same for results to belong together: machine, versions, what was asked for."""
    found: dict[str, Any] = field(default_factory=dict)
    from_before: int = 0
    """How many are of an earlier run."""

    @classmethod
    def resumed(cls, path: Path, about: dict[str, Any]) -> Kept:
        """Take up a run that was cut, or begin where there is none of this kind."""
        kept = cls(path, json.loads(json.dumps(about)))
        try:
            body = json.loads(path.read_text())
        except (OSError, ValueError):
            return kept
        if body.get("about") == kept.about:
            kept.found = body["found"]
            kept.from_before = len(kept.found)
        return kept

    def __contains__(self, name: str) -> bool:
        return name in self.found

    def keep(self, name: str, result: Any) -> None:
        """Note a result and write all of them."""
        self.found[name] = result
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            partial = self.path.with_suffix(f".{os.getpid()}")
            partial.write_text(json.dumps({"about": self.about, "found": self.found}, indent=1) + "\n")
            partial.replace(self.path)

    def under(self, start: str) -> dict[str, Any]:
        """Return the results whose names begin so, by the rest of their names."""
        return {
            name.removeprefix(start): found for name, found in self.found.items() if name.startswith(start)
        }

    def done(self) -> None:
        """Forget the file: the next run begins at the beginning."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Clock:
    """When a run, or a part of one, has to be done."""

    ends: float
    """`time.monotonic()` seconds."""

    @classmethod
    def of(cls, seconds: float) -> Clock:
        """Start one that runs so long."""
        return cls(time.monotonic() + seconds)

    @property
    def left(self) -> float:
        """Seconds, never below 0."""
        return max(0.0, self.ends - time.monotonic())

    def share(self, part: float, spared: float = 0.0) -> Clock:
        """Return the clock of a part that may take so much of what is left but for `spared` seconds."""
        return Clock.of(max(0.0, self.left - spared) * part)
