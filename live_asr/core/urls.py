"""What may be shown of a URL that others were given to call, and who reaches an address."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit


def receiver_of(url: str) -> str:
    """Return scheme, host and port of a URL, without what may be secret; "" for what is no URL."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return ""
    host = parts.hostname or ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}"


def is_reached_by_others(host: str) -> bool:
    """Tell whether other machines reach an address to listen on."""
    if host == "localhost":
        return False
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return True
