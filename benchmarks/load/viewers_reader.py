"""Watches a session many times over, in a process of its own: `python -m benchmarks.load.viewers_reader`.

Its arguments are the server's port, the session and how often. It prints a line once all are connected, and
when the session is over what the largest of them came to and the body of one, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys


async def read_events(port: int, session: str, connected: asyncio.Semaphore) -> bytes:
    """Watch a session to its end; return all bytes as they came, with the framing of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
    request = f"GET /v1/sessions/{session}/events HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"
    writer.write(request.encode())
    head = await reader.readuntil(b"\r\n\r\n")
    connected.release()
    body = await reader.read(-1)
    writer.close()
    return head + body


async def read_many(port: int, session: str, count: int) -> None:
    """Watch a session `count` times, and print what came."""
    connected = asyncio.Semaphore(0)
    watching = [asyncio.create_task(read_events(port, session, connected)) for _ in range(count)]
    for _ in range(count):
        await connected.acquire()
    print("watching", flush=True)
    bodies = await asyncio.gather(*watching)
    least, most = min(map(len, bodies)), max(map(len, bodies))
    print(json.dumps({"least_bytes": least, "most_bytes": most, "body": bodies[0].decode()}))


if __name__ == "__main__":
    asyncio.run(read_many(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
