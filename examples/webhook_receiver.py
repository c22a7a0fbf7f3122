"""A receiver of webhooks: it checks the signature, remembers ids, and prints what was said.

    LIVE_ASR_WEBHOOK__SECRET=whsec_… .venv/bin/python examples/webhook_receiver.py [PORT] [FILE]

It needs `standardwebhooks` alone, which has versions for other languages too. The ids that it has seen are
kept in FILE (webhook-ids.txt unless named), so that it tells nothing twice, whoever is restarted.
"""

from __future__ import annotations

import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

LARGEST_BYTES = 64 * 1024 * 1024


def show(told: dict[str, Any]) -> None:
    """Do what the news is for; here, print it."""
    if told["status"] == "failed":
        print(f"{told['sessionId']} failed: {told['error']['message']}", flush=True)
    for segment in told["segments"]:
        print(f"{segment['startTime']:8.2f}  {segment['speakerLabel'] or '-'}: {segment['text']}", flush=True)


class Receiver(BaseHTTPRequestHandler):
    """Takes one request."""

    webhook: Webhook
    file: Path

    def do_POST(self) -> None:
        """Answer 204 for what is taken, or was taken before, and 400 for what is not signed with our key."""
        size_bytes = int(self.headers.get("Content-Length", 0))
        if size_bytes > LARGEST_BYTES:
            return self.answer(413)
        body = self.rfile.read(size_bytes)
        try:
            # The bytes as they came: JSON that was parsed and written again has another signature.
            told = self.webhook.verify(body, dict(self.headers))
        except (WebhookVerificationError, ValueError) as error:  # ValueError: headers that are nonsense
            print(f"refused: {error}", file=sys.stderr, flush=True)
            return self.answer(400)
        webhook_id = self.headers["webhook-id"]
        if webhook_id not in self.seen():
            show(told)
            # Only now: if this program dies while it shows, the news comes once more.
            with self.file.open("a") as file:
                file.write(webhook_id + "\n")
        return self.answer(204)

    def seen(self) -> set[str]:
        """Return the ids of what was taken before."""
        return set(self.file.read_text().split()) if self.file.exists() else set()

    def answer(self, status: int) -> None:
        """Answer without a body."""
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print no line for each request."""


def main(port: str = "9000", file: str = "webhook-ids.txt") -> None:
    """Receive until interrupted."""
    secret = os.environ.get("LIVE_ASR_WEBHOOK__SECRET")
    if not secret:
        sys.exit("Error: LIVE_ASR_WEBHOOK__SECRET is not set. The server's own key is in its webhook.secret.")
    Receiver.webhook = Webhook(secret)
    Receiver.file = Path(file)
    with HTTPServer(("127.0.0.1", int(port)), Receiver) as server:
        print(f"Receiving at http://127.0.0.1:{server.server_port}/", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main(*sys.argv[1:3])
