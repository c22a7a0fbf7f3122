"""Servers that share a database, whose time and whose end are the test's."""

from __future__ import annotations

import asyncio
from pathlib import Path

import sqlalchemy

from live_asr.storage.gateways import LEASE, Gateway
from live_asr.storage.jobs import JobDatabase
from live_asr.storage.postgres_journal import PostgresJournal


class Server:
    """One of several."""

    def __init__(self, url: str, folder: Path) -> None:
        self.now = 0.0
        self.database = JobDatabase(url)
        self.gateway = Gateway(lambda: self.now)
        self.journal = PostgresJournal(self.database, folder, interval=0.01, gateway=self.gateway)

    async def start(self) -> None:
        self.database.prepare()
        await self.journal.start()
        self.now = LEASE

    async def die(self) -> None:
        """Say nothing any more, as a process that was killed, until its lease is over."""
        assert self.journal._beating is not None
        self.journal._beating.cancel()
        await asyncio.gather(self.journal._beating, return_exceptions=True)
        with self.database.transaction(writes=True) as connection:
            expired = "UPDATE gateways SET alive_until = now() - interval '1 second' WHERE id = :id"
            connection.execute(sqlalchemy.text(expired), {"id": self.gateway.id})

    async def close(self) -> None:
        await self.journal.close()
        self.database.close()
