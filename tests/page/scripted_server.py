"""The server's side of the page's socket, spoken by a test."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from playwright.sync_api import WebSocketRoute
from visiting import WORKING, Visit

Turn = tuple[str, float, str]
"""A speaker, the second at which the turn begins, and its text."""


def segment(speaker: str, start: float, text: str) -> dict[str, Any]:
    """Return a segment of `final`, a second for each word."""
    words = [
        {"text": f" {word}", "start": start + n, "end": start + n + 0.9, "speaker": speaker}
        for n, word in enumerate(text.split())
    ]
    return {"start": start, "end": words[-1]["end"], "speaker": speaker, "text": text, "words": words}


def talk(segments: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return for how long and how often somebody talks."""
    return {"duration": round(sum(s["end"] - s["start"] for s in segments), 3), "turns": len(segments)}


class ScriptedServer:
    """The server's side of the page's socket, spoken by a test."""

    def __init__(self, opened: Visit) -> None:
        self._visit = opened
        self._route: WebSocketRoute | None = None
        self.heard: list[str | bytes] = []
        self.addresses: list[str] = []
        """Where the page has looked for a server, in turn."""
        self.refuse = False
        """Whether sockets are closed as soon as they are opened: nobody is there."""
        opened.page.route_web_socket(re.compile("/v1/stream$"), self._connected)

    def _connected(self, route: WebSocketRoute) -> None:
        self.addresses.append(route.url)
        if self.refuse:
            route.close(code=1012)
            return
        self._route = route
        route.on_message(lambda message: self.heard.append(message))

    def say(self, **message: Any) -> None:
        """Send a message to the page."""
        assert self._route is not None
        self._route.send(json.dumps(message))

    def lose(self, code: int = 1012) -> None:
        """Close the page's socket."""
        assert self._route is not None
        self._route.close(code=code)

    def fail(self, message: str) -> None:
        """Fail, and have no such session when the page comes back to it."""
        known = len(self.starts)
        self.say(type="error", code="internal", message=message, hint="")
        self.lose(1011)
        self.wait_until(lambda: len(self.starts) > known)
        self.say(type="error", code="session_unknown", message="There is no such session.", hint="")
        self.lose(1008)

    def come_back(self, received_bytes: int, last_seq: int = 0) -> None:
        """Lose the page's socket, forget what it has sent, and answer when it takes the session up again."""
        self.heard.clear()
        self.lose()
        self.wait_until(lambda: bool(self.starts))
        self.heard.clear()
        self.greet(received_bytes, last_seq)

    def greet(
        self,
        received_bytes: int = 0,
        last_seq: int = 0,
        window_bytes: int = 2**20,
        session: str = "abc",
        **more: Any,
    ) -> None:
        """Answer that the session is open."""
        self.say(
            type="ready",
            session=session,
            token="t",
            received_bytes=received_bytes,
            last_seq=last_seq,
            max_unacked_bytes=window_bytes,
            **more,
        )

    @property
    def starts(self) -> list[dict[str, Any]]:
        """The `start` messages that the page has sent, of all its sockets."""
        return self.all("start")

    def all(self, kind: str) -> list[dict[str, Any]]:
        """Return the messages of this type that the page has sent."""
        told = [json.loads(message) for message in self.heard if isinstance(message, str)]
        return [message for message in told if message["type"] == kind]

    @property
    def audio(self) -> bytes:
        """The audio that the page has sent."""
        return b"".join(message for message in self.heard if isinstance(message, bytes))

    @property
    def heard_bytes(self) -> int:
        """How much audio the page has sent."""
        return sum(len(message) for message in self.heard if isinstance(message, bytes))

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until what the page has sent fulfils this."""
        deadline = time.monotonic() + WORKING / 1000
        while not condition():
            shown = self._visit.page.inner_text("body") if time.monotonic() > deadline else None
            assert shown is None, f"the page has not sent it; it shows:\n{shown}"
            self._visit.page.wait_for_timeout(10)  # the only way to let Playwright hand over what has come

    def open(self) -> None:
        """Press Start and answer that the session is open."""
        self._visit.page.get_by_role("button", name="Start").click()
        self.wait_until(lambda: bool(self.heard))
        self.greet()
        self._visit.expect_phase("live")

    def commit(
        self,
        utterance: int,
        text: str,
        speaker: str | None = None,
        start: float | None = None,
        seq: int = 1,
    ) -> None:
        """Commit this text, a second for each word."""
        begin = 60 * utterance if start is None else start
        words = [
            {"text": f" {word}", "start": begin + n, "end": begin + n + 0.9, "speaker": speaker}
            for n, word in enumerate(text.split())
        ]
        self.say(type="commit", seq=seq, utterance=utterance, words=words, text=f" {text}")

    def label(self, speaker: str, start: float, end: float) -> None:
        """Tell who said the words between these times."""
        self.say(type="label", seq=1, speaker=speaker, **{"from": start, "to": end})

    def stop(self, duration: float) -> None:
        """Press Stop, and answer that every word is there."""
        self._visit.stop()
        self.wait_until(lambda: '{"type":"stop"}' in self.heard)
        self.say(type="stopped", seq=1, duration=duration, text="")

    def conclude(self, *turns: Turn, live_labels: Mapping[str, Sequence[str]], labels: str = "full") -> None:
        """Send the full pass's result: these turns, a second for each of their words."""
        segments = [segment(*turn) for turn in turns]
        speakers = [
            {
                "label": label,
                "live_labels": list(live),
                **talk([s for s in segments if s["speaker"] == label]),
            }
            for label, live in live_labels.items()
        ]
        self.say(
            type="final",
            seq=1,
            revision=1,
            duration=max(s["end"] for s in segments),
            language="en",
            text="".join(f" {s['text']}" for s in segments),
            segments=segments,
            speakers=speakers,
            labels=labels,
            links={},
        )

    def finish(self, utterance: int) -> None:
        """End an utterance."""
        self.say(type="utterance", seq=1, utterance=utterance, start=0, end=1, text="", language="en")

    def suggest(self, text: str, start: float) -> None:
        """Send this tail."""
        words = [{"text": f" {word}", "start": start, "end": start + 1} for word in text.split()]
        self.say(type="partial", text=f" {text}", words=words, start=start, end=start + 1)
