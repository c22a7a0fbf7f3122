"""Who has how many of a server's places: one client, by address or by token, leaves some to others."""

from __future__ import annotations

from collections import Counter

from live_asr.sessions.admission import Client, server_full

OF_THE_SERVER = "server."
"""How the ids of tokens begin that were made with the server's own: each is somebody else's."""


class Places:
    """The places that sessions have, and whose they are.

    `most` is how many there are, and `bound` how many of them one client may have; where it is None, that is
    three quarters for those from elsewhere, and all for programs on this machine and for the server's own
    token.
    """

    def __init__(self, most: int, bound: int | None) -> None:
        self.most = most
        """How many places there are; may be changed at any time."""
        self._bound = bound
        self._whose: dict[str, tuple[str, ...]] = {}
        self._taken: Counter[str] = Counter()

    def check(self, client: Client) -> None:
        """Raise Unavailable `server_full` where a client may not have one more."""
        for key, what, is_bounded in _keys(client):
            may = self._bound or (max(1, self.most * 3 // 4) if is_bounded else self.most)
            if self._taken[key] >= may:
                raise server_full(may, what)

    def take(self, session_id: str, client: Client) -> None:
        """Take note that a session of a client has a place. Raises as `check` does."""
        self.check(client)
        self.take_again(session_id, client)

    def take_again(self, session_id: str, client: Client) -> None:
        """Take note of the place of a session that was admitted before, whatever the bound is."""
        self._whose[session_id] = tuple(key for key, _, _ in _keys(client))
        self._taken.update(self._whose[session_id])

    def give_back(self, session_id: str) -> None:
        """Take note that a session has no place any more. Idempotent."""
        self._taken.subtract(self._whose.pop(session_id, ()))
        self._taken = +self._taken  # without those that have none


def _keys(client: Client) -> list[tuple[str, str, bool]]:
    """Return by what a client is counted: a key, what that is, and whether it is bounded by itself."""
    keys = []
    if client.address is not None:
        keys.append((f"address {client.address}", "address", not is_this_machine(client.address)))
    if client.owner is not None:
        keys.append((f"token {root_of(client.owner)}", "token", True))
    return keys


def root_of(owner: str | None) -> str | None:
    """Return the token that another one was made with; itself where the operator made it."""
    if owner is None or owner.startswith(OF_THE_SERVER):
        return owner
    return owner.partition(".")[0]


def key_of(client: Client) -> str:
    """Return by what a client takes turns with others: its token, else its address."""
    return root_of(client.owner) or client.address or ""


def is_this_machine(address: str) -> bool:
    """Tell whether an address is that of the server's own machine."""
    return address in ("127.0.0.1", "::1")
