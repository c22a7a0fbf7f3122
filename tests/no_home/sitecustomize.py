"""A user without a home: with this folder in PYTHONPATH and no HOME, a process has a number and no name."""

from __future__ import annotations

import pwd


def _unknown(uid: int) -> pwd.struct_passwd:
    raise KeyError(f"getpwuid(): uid not found: {uid}")


pwd.getpwuid = _unknown
