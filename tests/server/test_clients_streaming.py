"""The snippets of docs/clients-streaming.md, run as they stand but for the server's address."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import soxr
from talking import call, plain_words

from tests.started import ROOT, Server, StartServer

PAPER = ROOT / "docs" / "clients-streaming.md"
SECOND_BYTES = 32_000


@pytest.fixture(scope="module")
def wyoming_server(launch: StartServer) -> Server:
    return launch(LIVE_ASR_SERVER__WYOMING_PORT="0")


def snippet(section: str) -> str:
    """Return the Python of a section."""
    text = PAPER.read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    found = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.parametrize(
    ("section", "rate_hz"), [("Deepgram", 16_000), ("OpenAI Realtime", 24_000), ("Wyoming", 16_000)]
)
async def test_a_snippet_prints_the_words(
    wyoming_server: Server, sample_pcm: bytes, tmp_path: Path, section: str, rate_hz: int
) -> None:
    speech = sample_pcm[14 * SECOND_BYTES : 18 * SECOND_BYTES]
    async with call(wyoming_server.stream) as caller:
        await caller.start(pace="fast", diarize=False)
        await caller.send(speech)
        await caller.finished()
    file = tmp_path / "speech.pcm"
    samples = np.frombuffer(speech, "<i2")
    file.write_bytes((samples if rate_hz == 16_000 else soxr.resample(samples, 16_000, rate_hz)).tobytes())
    code = snippet(section)
    for address, actual in (
        ("localhost:8765", wyoming_server.url.removeprefix("http://")),
        ("localhost:10300", f"127.0.0.1:{wyoming_server.wyoming_port}"),
    ):
        code = code.replace(address, actual)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code, str(file)), stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(240):
        out, _ = await process.communicate()
    assert process.returncode == 0
    found = plain_words(out.decode())
    assert len(caller.words) > 5
    if rate_hz == 16_000:
        assert found == caller.words
    else:  # another rate is another sound, if hardly
        assert len(set(found) & set(caller.words)) >= 0.8 * len(set(caller.words))
