"""Messages of the server that the program has not read yet."""

from __future__ import annotations

from collections import OrderedDict

from live_asr.client.resuming import SessionMessage
from live_asr.core.messages import Ack, Lag, Partial, Progress

REPLACING = (Partial, Ack, Lag, Progress)
"""Of these only the newest is worth reading, so unread ones do not pile up."""


class Inbox:
    """A queue in which some messages take the place of older ones of their kind."""

    def __init__(self) -> None:
        self._messages: OrderedDict[object, SessionMessage] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, message: SessionMessage) -> None:
        """Add a message."""
        self._count += 1
        key: object = type(message) if isinstance(message, REPLACING) else self._count
        self._messages.pop(key, None)
        self._messages[key] = message

    def get(self) -> SessionMessage:
        """Take out the oldest. Raises KeyError when there is none."""
        return self._messages.popitem(last=False)[1]
