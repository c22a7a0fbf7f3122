"""What live work leaves to a full pass that takes long. No I/O, no clock of its own."""

from __future__ import annotations

LEAST_SECONDS = 60.0
"""What any pass may take."""
RESERVED = 0.5
"""Of the lanes' time that is left free for a pass which would be late otherwise."""
PATIENCE = 0.4
"""Of the time that a pass may take, for which it has to do with what live work leaves by itself."""


class Reserve:
    """Sees to it that a full pass takes no longer than its recording, from when its turn has come.

    Alone it takes about a quarter of that on two cores. Beside live sessions that take all there is, in the
    idle class or on the same GPU, it would take for ever: so once it has been under way for long, lanes rest
    after each piece of work, and nobody is admitted whom there would be no time for then.
    """

    def __init__(self) -> None:
        self._passes: dict[str, tuple[float, float]] = {}
        """Those under way: since when, and how many seconds they may take."""

    def begin(self, name: str, recording_seconds: float, now: float) -> None:
        """Take note that a pass is under way, at this time of any one clock; the first call counts."""
        self._passes.setdefault(name, (now, max(LEAST_SECONDS, recording_seconds)))

    def end(self, name: str) -> None:
        """Take note that it is not, any more. Idempotent."""
        self._passes.pop(name, None)

    def share(self, now: float) -> float:
        """Return which share of the lanes' time is to be left free, 0 to 1."""
        late = any(now - since > PATIENCE * allowed for since, allowed in self._passes.values())
        return RESERVED if late else 0.0
