"""The speakers' colours, as eyes of every kind see them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser
from visiting import OpenPage

from tests.started import Server

pytest_plugins = ["browsers"]

PALETTE = """(selector) => {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    const style = getComputedStyle(document.querySelector(selector));
    return [...Array(8).keys()].map((voice) => {
        canvas.fillStyle = style.getPropertyValue(`--voice-${voice}`);
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
    });
}"""

SIGHT = {
    "usual": np.eye(3),
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}
"""What each kind of colour vision sees of linear RGB (Machado, Oliveira and Fernandes 2009, severity 1)."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("selector", ["html", "#stage"])
def test_colours_are_told_apart_with_any_colour_vision(
    silent_browser: Browser, server: Server, visit: OpenPage, scheme: str, selector: str
) -> None:
    """Distances are of Oklab, where about 0.02 is the least that is seen side by side."""
    opened = visit(silent_browser, server.url, color_scheme=scheme)
    encoded = np.array(opened.page.evaluate(PALETTE, selector)) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    for sight, matrix in SIGHT.items():
        seen = oklab(np.clip(linear @ np.array(matrix).T, 0, 1))
        apart = np.linalg.norm(seen[:, None] - seen[None], axis=-1) + 9 * np.eye(len(seen))
        assert apart.min() > 0.04, sight
        assert apart[:4, :4].min() > 0.06, sight


def oklab(linear: Any) -> Any:
    """Return colours of linear sRGB, of shape (n, 3), as Oklab."""
    cones = [[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]]
    opponents = [[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]]
    return np.cbrt(linear @ np.array(cones).T) @ np.array(opponents).T
