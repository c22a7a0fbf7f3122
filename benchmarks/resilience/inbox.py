"""A platform's API: takes webhooks in a thread, verifies their signatures, and remembers ids."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook


@dataclass
class Told:
    """One request whose signature holds."""

    id: str
    path: str
    authorization: str | None
    body: dict[str, Any]


@dataclass
class Inbox:
    """What has come so far; `answer` gives the status of each request, by how many there were before."""

    secret: str
    answer: Callable[[int], int] = lambda _: 200
    told: list[Told] = field(default_factory=list)
    forged: int = 0
    port: int = 0
    arrived: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def of(self, job_id: object) -> list[Told]:
        """Return what was told of a job, each `webhook-id` once."""
        found = {told.id: told for told in self.told if told.body.get("jobId") == job_id}
        return list(found.values())

    @property
    def effects(self) -> dict[str, object]:
        """The job of each `webhook-id`."""
        return {told.id: told.body.get("jobId") for told in self.told}


@contextmanager
def inbox(secret: str) -> Iterator[Inbox]:
    """Listen for as long as the block lasts."""
    box = Inbox(secret)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            try:
                told = Webhook(secret).verify(body, headers)
            except Exception:
                box.forged += 1
                self.send_error(400)
                return
            status = box.answer(len(box.told))
            box.told.append(Told(headers["webhook-id"], self.path, headers.get("authorization"), told))
            box.arrived.set()
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    box.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield box
    finally:
        server.shutdown()
        server.server_close()
