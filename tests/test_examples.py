"""The examples, run as their README says, against the real server."""

from __future__ import annotations

import asyncio
import shutil
import socket
import sys
import threading
import wave
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jiwer
import pytest
from playwright.async_api import async_playwright, expect
from whisper_normalizer.english import EnglishTextNormalizer

BEGIN, END = 6, 20  # seconds of the call: the first has no speech, the rest is more of the same
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.fixture(scope="module")
def talk(sample_wav: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The part of the call in which somebody says something, as a WAV file."""
    path = tmp_path_factory.mktemp("examples") / "talk.wav"
    with wave.open(str(sample_wav)) as source, wave.open(str(path), "wb") as target:
        source.setpos(BEGIN * 16_000)
        target.setparams(source.getparams())
        target.writeframes(source.readframes((END - BEGIN) * 16_000))
    return path


@pytest.fixture(scope="module")
def words_found(sample_wav: Path) -> Callable[[str], float]:
    """Return the share, 0 to 1, of the talk's words that captions have."""
    rows = [line.split(maxsplit=5) for line in sample_wav.with_suffix(".stm").read_text().splitlines()]
    said = " ".join(text for _, _, _, start, _, text in rows if float(start) < END)
    normalize = EnglishTextNormalizer()

    def share(captions: str) -> float:
        measured = jiwer.process_words(normalize(said), normalize(captions))
        return measured.hits / (measured.hits + measured.substitutions + measured.deletions)

    return share


# captions.py --------------------------------------------------------------------------------------


async def captions(*arguments: str, stdin: bytes | None = None) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLES / "captions.py"),
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(stdin), 120)
    finally:
        if process.returncode is None:
            process.kill()
    return process.returncode, output.decode(), errors.decode()


async def test_the_python_example_prints_the_captions_of_a_wav_file(server, talk: Path, words_found) -> None:
    status, output, errors = await captions(str(talk), server.url)
    assert status == 0, errors
    assert words_found(output) > 0.6, output


async def test_the_python_example_prints_the_captions_of_a_pipe(
    server, sample_pcm: bytes, words_found
) -> None:
    status, output, errors = await captions("-", server.url, stdin=sample_pcm[BEGIN * 32_000 : END * 32_000])
    assert status == 0, errors
    assert words_found(output) > 0.6, output


async def test_the_python_example_says_in_a_line_that_there_is_no_server(talk: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and does not listen
        status, _, errors = await captions(str(talk), f"http://127.0.0.1:{unused.getsockname()[1]}")
    assert status == 1
    assert errors.startswith("Error: No server answers at")
    assert "Traceback" not in errors


async def test_the_python_example_without_arguments_says_how_it_is_used() -> None:
    status, _, errors = await captions()
    assert status == 1
    assert errors == "Usage: captions.py FILE.wav|- [URL]\n"


@pytest.mark.parametrize("content", [b"", b"ID3 this is no WAV file at all"])
async def test_the_python_example_says_that_a_file_is_no_wav(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "talk.mp3"
    file.write_bytes(content)
    status, _, errors = await captions(str(file))
    assert status == 1
    assert errors.startswith(f"Error: {file} is no WAV file")
    assert "Traceback" not in errors


# browser.html -------------------------------------------------------------------------------------


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def page_origin() -> Iterator[str]:
    """The origin of a static server of the examples, on a port that is not live-asr's."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(EXAMPLES))) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def chromium() -> str:
    """The browser's executable; without one the test is skipped."""
    for name in ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome"):
        if path := shutil.which(name):
            return path
    pytest.skip("no Chromium on this machine: install it (Debian and Ubuntu: apt-get install chromium)")


async def test_the_browser_example_shows_the_captions_of_a_microphone(
    start_server, page_origin: str, talk: Path, chromium: str, words_found
) -> None:
    server = start_server(LIVE_ASR_SERVER__ALLOWED_ORIGINS=page_origin)
    flags = [
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={talk}%noloop",
        "--autoplay-policy=no-user-gesture-required",
        "--no-sandbox",
    ]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=flags)
        page = await browser.new_page()
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        await page.goto(f"{page_origin}/browser.html?server={server.url.replace('http', 'ws', 1)}")
        await page.get_by_role("button", name="Start").click()
        await expect(page.get_by_role("status")).to_have_text("Listening", timeout=15_000)
        await expect(page.locator("#committed")).to_contain_text("New Jersey", timeout=60_000)
        await expect(page.locator("#committed")).to_contain_text("Chicago", timeout=60_000)
        await page.get_by_role("button", name="Stop").click()
        await expect(page.get_by_role("status")).to_have_text("Done", timeout=120_000)
        shown = await page.locator("#committed").text_content()
        await expect(page.locator("#tail")).to_have_text("")
        await page.get_by_role("button", name="Start").click()  # and once more
        await expect(page.get_by_role("status")).to_have_text("Listening", timeout=15_000)
        await page.get_by_role("button", name="Stop").click()
        await expect(page.get_by_role("status")).to_have_text("Done", timeout=120_000)
        await browser.close()
    # A busy machine's browser leaves gaps in what its pretended microphone hears.
    assert words_found(shown or "") > 0.5, shown
    assert problems == []


async def test_the_browser_example_says_that_there_is_no_server(page_origin: str, chromium: str) -> None:
    flags = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--no-sandbox"]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=flags)
        page = await browser.new_page()
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            await page.goto(f"{page_origin}/browser.html?server=ws://127.0.0.1:{unused.getsockname()[1]}")
            await page.get_by_role("button", name="Start").click()
            await expect(page.get_by_role("status")).to_have_text("No connection to the server.")
        await browser.close()
