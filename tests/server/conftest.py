"""Servers that several files of tests share."""

from __future__ import annotations

from typing import Any

import pytest

from tests.server.resuming import WAITS
from tests.started import Server


@pytest.fixture(scope="module")
def waiting(launch: Any) -> Server:
    """A server that waits for those who are lost."""
    server: Server = launch(**WAITS)
    return server
