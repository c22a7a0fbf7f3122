"""Who presents: a client that speaks to the real server, or what a server would have said for one."""

from __future__ import annotations

import json
from typing import Any

from playwright.sync_api import Route
from visiting import Visit
from websockets.sync.client import ClientConnection

SECOND_BYTES = 32_000
SPEECH = slice(14 * SECOND_BYTES, 22 * SECOND_BYTES)
"""Of the telephone call: a sentence with "Chicago" in it."""

Message = dict[str, Any]


class Presenter:
    """A client that speaks and waits."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._socket.send(json.dumps({"type": "start", "pace": "fast", "final_pass": False}))
        ready = json.loads(self._socket.recv())
        self.session: str = ready["session"]
        self.key = {"Authorization": f"Bearer {ready['token']}"}

    def speak(self, audio: bytes) -> None:
        """Send audio, and wait until its words are committed."""
        for first in range(0, len(audio), SECOND_BYTES):
            self._socket.send(audio[first : first + SECOND_BYTES])
        self._until("finalize", "finalized")

    def stop(self) -> None:
        """End the session, and wait for its result."""
        self._until("stop", "final")

    def _until(self, said: str, answer: str) -> None:
        self._socket.send(json.dumps({"type": said}))
        while json.loads(self._socket.recv())["type"] != answer:
            pass


def said(utterance: int, speaker: str | None, text: str) -> Message:
    """Return the commit of these words, a second for each."""
    words = [
        {"text": f" {word}", "start": 10 * utterance + n, "end": 10 * utterance + n + 1, "speaker": speaker}
        for n, word in enumerate(text.split())
    ]
    return {"type": "commit", "seq": 1, "utterance": utterance, "words": words, "text": f" {text}"}


def suggested(text: str, start: float) -> Message:
    """Return this tail, as viewers get it."""
    return {"type": "partial", "text": f" {text}", "words": [], "start": start, "end": start + 1}


OVER: list[Message] = [
    {"type": "stopped", "seq": 2, "duration": 30.0, "text": ""},
    {"type": "final", "seq": 3, "revision": 1, "duration": 30.0, "text": "", "segments": [], "links": {}},
]
"""How a session ends."""


class Feed:
    """The server's answer to those who watch the session `abc`, piece by piece."""

    def __init__(self, opened: Visit) -> None:
        self._next: list[Message] = []
        opened.page.route("**/v1/sessions/abc/events", self._answer)

    def _answer(self, route: Route) -> None:
        pieces, self._next = self._next, []
        if not pieces:
            route.abort()  # the page comes back by itself
            return
        route.fulfill(body="".join(f"data: {json.dumps(message)}\n\n" for message in pieces))

    def say(self, *messages: Message) -> None:
        """Have these said when the page asks next."""
        self._next += messages
