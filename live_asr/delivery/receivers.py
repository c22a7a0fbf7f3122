"""Which receivers clients may name, and what is said of one that they may not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from live_asr.config.settings import WebhookSettings
from live_asr.core.errors import ClientError
from live_asr.delivery.addresses import METADATA, is_metadata, why_refused

PORTS = (80, 443)


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry of `webhook.allowed`: a host or a network, with any of the usual ports or one of its own."""

    host: str | None
    network: IPv4Network | IPv6Network | None
    port: int | None

    @classmethod
    def of(cls, entry: str) -> Listed:
        """Read an entry such as `hooks.example.org`, `10.0.0.0/8` or `[fd00::7]:8443`. Raises ValueError."""
        try:
            return cls(None, ip_network(entry.strip("[]"), strict=False), None)
        except ValueError:
            parts = urlsplit(f"//{entry}")
            host = (parts.hostname or "").removesuffix(".")
            if not host or parts.path or "@" in entry:
                raise ValueError(f"{entry!r} should be a host or a network, with a port or without") from None
            try:
                return cls(None, ip_network(host), parts.port)
            except ValueError:
                return cls(host, None, parts.port)


class Receivers:
    """Where deliveries may go; `settings` are the operator's."""

    def __init__(self, settings: WebhookSettings) -> None:
        self._settings = settings
        self._listed = [Listed.of(entry) for entry in settings.allowed]

    def why_not(self, host: str, address: str) -> str | None:
        """Return what kind of address it is that may not be called, e.g. "private"; None where it may.

        `host` is what the URL names, `address` what that leads to.
        """
        if is_metadata(address):
            return METADATA
        if self._settings.allow_private or self._is_listed(host, address, None):
            return None
        return why_refused(address)

    def _is_listed(self, host: str, address: str | None, port: int | None) -> bool:
        """Tell whether a host or an address is on the list; with a `port`, with that."""
        name = host.lower().removesuffix(".")
        for entry in self._listed:
            if port is not None and port != entry.port and (entry.port is not None or port not in PORTS):
                continue
            if entry.host == name:
                return True
            if entry.network is not None and address is not None and ip_address(address) in entry.network:
                return True
        return False

    async def check(
        self,
        url: str,
        resolve: Callable[[str, int], Awaitable[Sequence[str]]],
        *,
        is_known: bool,
        may_name: bool,
    ) -> None:
        """Refuse a receiver that a client names, while it can still be told. Raises ClientError.

        `is_known` tells whether the client presented a token, `may_name` whether that one has the scope. A
        host that is not found now is looked for again when there is something to deliver.
        """
        mode = self._settings.client_urls
        if mode == "auto":
            mode = "any" if is_known or self._settings.allow_private else "off"
        if mode == "off":
            raise _refused("Clients may not name receivers on this server.", "webhook.client_urls")
        if is_known and not may_name:
            raise ClientError(
                "webhook_refused", "This token may not name receivers.", "It needs the scope `webhook`."
            )
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            addresses = list(await resolve(host, port))
        except (OSError, TimeoutError, UnicodeError):
            addresses = []
        if mode == "allowlist" and not any(
            self._is_listed(host, address, port) for address in (*addresses, None)
        ):
            raise _refused("This receiver is not on the list.", "webhook.allowed")
        is_usual = port in PORTS or self._settings.allow_private
        if not is_usual and not any(self._is_listed(host, address, port) for address in (*addresses, None)):
            raise _refused(f"Receivers on port {port} have to be on the list.", "webhook.allowed")
        refused = [self.why_not(host, address) for address in addresses]
        if refused and None not in refused:
            # Of what kind its addresses are would tell what names there are in the network behind.
            raise _refused("The receiver's host is not one that may be called.", "webhook.allowed")


def _refused(why: str, setting: str) -> ClientError:
    return ClientError("webhook_refused", why, f"The operator can allow it by {setting}.")
