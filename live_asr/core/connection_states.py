"""A connection's life as a table: whether a session's client is there, is waited for, or has been given up.

It stands beside the table of the session itself (`core/session`): a session goes on while its client is
away, and a client that has sent all is there until it has heard the end. Whoever drives a session holds
one state of each, and does what they say: sockets and clocks are its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType


class ConnectionState(Enum):
    """Where the connection between a session and its client is in its life."""

    ATTACHED = "attached"
    """The client is there, and may send."""
    AWAITED = "awaited"
    """The client is gone, and waited for."""
    STOPPED = "stopped"
    """The client is there and has sent all: it hears how the session ends."""
    GONE = "gone"
    """The client has sent all and is gone; it may come back to hear the end."""
    GIVEN_UP = "given up"
    """The client is gone, and was not waited for any longer: the session ends as if stopped."""
    LATE = "late"
    """The client came back after that: it hears how the session ends, and what it sends is dropped."""
    LEFT = "left"
    """The session is not worked for any more: it lies on disk as it is, to be taken up again."""
    OVER = "over"
    """The session is done or has failed."""


class ConnectionEvent(Enum):
    """What can happen to a connection, past tense."""

    CAME_BACK = "came back"
    """A client took the session up, over whatever connection there was."""
    LOST = "lost"
    """The client is gone, however it went, or has been sent away."""
    STOPPED = "stopped"
    """The client said `stop`."""
    EXPIRED = "expired"
    """Nobody is waited for any longer, or there was nothing to wait for."""
    SUSPENDED = "suspended"
    """The server leaves the sessions whose client could send more, and brings the others to their end."""
    INTERRUPTED = "interrupted"
    """The server leaves the session wherever it is."""
    ENDED = "ended"
    """The session is done or has failed."""


class Sent(Enum):
    """What becomes of that which a client sends."""

    TAKEN = "taken"
    REFUSED = "refused"
    """Nothing may follow `stop`."""
    DROPPED = "dropped"
    """It comes too late, which is not the client's fault."""
    IGNORED = "ignored"
    """Nobody works for the session."""


_S, _E = ConnectionState, ConnectionEvent
_LEAVE_ANY = {_E.INTERRUPTED: _S.LEFT, _E.ENDED: _S.OVER}
_LEAVE_OPEN = {_E.SUSPENDED: _S.LEFT, **_LEAVE_ANY}

TRANSITIONS: Mapping[ConnectionState, Mapping[ConnectionEvent, ConnectionState]] = MappingProxyType(
    {
        _S.ATTACHED: {
            _E.CAME_BACK: _S.ATTACHED,
            _E.LOST: _S.AWAITED,
            _E.STOPPED: _S.STOPPED,
            **_LEAVE_OPEN,
        },
        _S.AWAITED: {
            _E.CAME_BACK: _S.ATTACHED,
            _E.STOPPED: _S.GONE,
            _E.EXPIRED: _S.GIVEN_UP,
            **_LEAVE_OPEN,
        },
        _S.STOPPED: {_E.CAME_BACK: _S.STOPPED, _E.LOST: _S.GONE, **_LEAVE_ANY},
        _S.GONE: {_E.CAME_BACK: _S.STOPPED, **_LEAVE_ANY},
        _S.GIVEN_UP: {_E.CAME_BACK: _S.LATE, **_LEAVE_ANY},
        _S.LATE: {_E.CAME_BACK: _S.LATE, _E.LOST: _S.GIVEN_UP, **_LEAVE_ANY},
        _S.LEFT: {_E.ENDED: _S.OVER},
        _S.OVER: {},
    }
)
"""What may happen when, and what comes of it. A pair that is not here changes nothing: most of what happens
to a connection is told by more than one, who cannot know of each other."""

SENT: Mapping[ConnectionState, Sent] = MappingProxyType(
    {
        _S.ATTACHED: Sent.TAKEN,
        _S.AWAITED: Sent.TAKEN,  # it was on its way when the client was lost
        _S.STOPPED: Sent.REFUSED,
        _S.GONE: Sent.REFUSED,
        _S.GIVEN_UP: Sent.DROPPED,
        _S.LATE: Sent.DROPPED,
        _S.LEFT: Sent.IGNORED,
        _S.OVER: Sent.IGNORED,
    }
)


def after(state: ConnectionState, event: ConnectionEvent) -> ConnectionState:
    """Return the state that `event` leads to; `state` itself where it changes nothing."""
    return TRANSITIONS[state].get(event, state)
