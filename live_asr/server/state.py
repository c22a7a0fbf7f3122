"""What a running server is made of."""

from __future__ import annotations

from dataclasses import dataclass

from live_asr.config.settings import Settings
from live_asr.delivery.webhook import WebhookSender
from live_asr.inference.engine import Engine
from live_asr.jobs.http_queue import WaitingJobs
from live_asr.server.access import Access
from live_asr.server.audit import Audit
from live_asr.server.client_secrets import ClientSecrets
from live_asr.server.exports import Exports
from live_asr.server.links import Links
from live_asr.server.rates import Rate
from live_asr.sessions.archive import Archive
from live_asr.sessions.audience import Viewers
from live_asr.sessions.catalogue import Catalogue
from live_asr.sessions.finalizer import FullPassRunner
from live_asr.sessions.following import Following
from live_asr.sessions.metrics import Metrics
from live_asr.sessions.registry import SessionRegistry
from live_asr.sessions.retention import Retention
from live_asr.storage.database import Database
from live_asr.storage.journal import Journal


@dataclass(frozen=True, slots=True)
class ServerState:
    """The parts that start and end with it, and that routes and sockets reach for."""

    settings: Settings
    access: Access
    audit: Audit
    rate: Rate
    links: Links
    engine: Engine
    full_pass: FullPassRunner
    store: Journal
    database: Database
    sender: WebhookSender
    registry: SessionRegistry
    catalogue: Catalogue
    exports: Exports
    viewers: Viewers
    following: Following
    retention: Retention
    metrics: Metrics
    client_secrets: ClientSecrets
    jobs: WaitingJobs
    archive: Archive | None
    """Where sessions go that are over; None where they stay."""
