"""What may be shown of a URL that others were given to call."""

from __future__ import annotations

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
