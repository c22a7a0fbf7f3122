"""What a running server is made of."""

from __future__ import annotations

from dataclasses import dataclass

from live_asr.config import Settings
from live_asr.inference.engine import Engine
from live_asr.sessions.catalogue import Catalogue
from live_asr.sessions.metrics import Metrics
from live_asr.sessions.registry import SessionRegistry


@dataclass(frozen=True, slots=True)
class ServerState:
    """The parts that routes and sockets reach for."""

    settings: Settings
    engine: Engine
    registry: SessionRegistry
    catalogue: Catalogue
    metrics: Metrics
