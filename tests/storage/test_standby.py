"""A standby that the database waits for has all that was acknowledged when the primary's machine is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

from live_asr.storage.tables import TIMEOUT
from tests.postgres import new_database, replicated
from tests.storage.sharing import Server

PIECE_BYTES = 3200
"""A tenth of a second of speech."""


def piece(number: int) -> bytes:
    return number.to_bytes(4, "big") * (PIECE_BYTES // 4)


async def test_a_standby_that_takes_over_has_all_that_was_acknowledged(tmp_path: Path) -> None:
    with replicated() as both:
        server = Server(new_database(both.url), tmp_path)
        await server.start()
        spool = await server.journal.open("a1", {})
        sent = 0

        async def speak(pieces: int) -> None:
            nonlocal sent
            for _ in range(pieces):
                spool.append_audio(piece(sent))
                sent += 1
                await asyncio.sleep(0.01)

        await speak(50)
        await asyncio.wait_for(spool.safe(50 * PIECE_BYTES), 30)

        # A primary whose standby is away acknowledges nothing, however long a statement may last.
        await asyncio.to_thread(both.freeze_standby)
        await asyncio.sleep(0.1)
        await speak(1)
        await asyncio.sleep(TIMEOUT + 1)
        assert spool.safe_bytes == 50 * PIECE_BYTES
        await asyncio.to_thread(both.thaw_standby)
        await asyncio.wait_for(spool.safe(51 * PIECE_BYTES), 30)

        speaking = asyncio.create_task(speak(100))
        await asyncio.wait_for(spool.safe(80 * PIECE_BYTES), 30)
        await asyncio.to_thread(both.lose_primary)
        await asyncio.to_thread(both.promote)
        await speaking
        await asyncio.wait_for(spool.settled(), 60)
        assert spool.error is None
        kept = b"".join([read async for read in server.journal.read_audio("a1", 0, sent * PIECE_BYTES)])
        assert kept == b"".join(map(piece, range(sent)))
        await server.close()
