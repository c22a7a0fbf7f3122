"""Requests of pages that come from elsewhere: what their browsers may let them see (CORS)."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from live_asr.server.origins import is_listed


class AllowedOrigins(CORSMiddleware):
    """Let pages of the origins that `server.allowed_origins` names read answers, compared as origins are.

    No cookie plays a part: a page that has a token sends it as a header.
    """

    def __init__(self, app: ASGIApp, *, allowed: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=("*",) if "*" in allowed else (),
            allow_methods=("GET", "POST", "PUT", "PATCH", "DELETE"),
            allow_headers=(
                "Authorization",
                "Content-Type",
                "If-Match",
                "If-None-Match",
                "Last-Event-ID",
                "Range",
            ),
            expose_headers=(
                *("ETag", "Retry-After", "Content-Range", "X-Request-Id"),
                *("X-Live-ASR-Warning", "live-asr-warning", "dg-request-id", "dg-error"),  # of the dialects
                *("Deprecation", "Link"),
            ),
            max_age=600,
        )
        self._allowed = tuple(allowed)

    def is_allowed_origin(self, origin: str) -> bool:
        """Tell whether a page of this origin may."""
        return is_listed(origin, self._allowed)
