"""What a presenter gives to an audience: a link to one session, and the same as a picture for phones."""

from __future__ import annotations

import io

import segno

QUIET_ZONE = 2
"""Light modules around the code; the page shows it on white."""


def watch_path(token: str | None, session_id: str, root_path: str = "") -> str:
    """Return the path of the page for the audience of a session, with what lets them watch it.

    `token` is None where nobody is asked for one.
    """
    path = f"{root_path}/watch/{session_id}"
    return path if token is None else f"{path}#token={token}"


def qr_svg(text: str) -> bytes:
    """Return a QR code as an SVG that takes the size it is given."""
    out = io.BytesIO()
    segno.make(text, error="m", micro=False).save(
        out, kind="svg", border=QUIET_ZONE, light="#fff", omitsize=True, xmldecl=False, svgclass=None
    )
    return out.getvalue()
