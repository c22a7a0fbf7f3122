"""The suite `troubles`: a talk in Chromium: reloads, killed tabs and servers, cut lines and deaf microphones.

What the browser gave is taken down beside the page, piece by piece, with the time at which it was heard. In
the end it is compared with the audio that the server has, in one session or several, and the words that the
page shows with those of as many sessions that get the very same audio, over the Python client and untroubled.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import random
import re
import shutil
import tempfile
import wave
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from playwright.async_api import BrowserContext, Error, Page, async_playwright

from benchmarks.base.matching import differences, missing_passages
from benchmarks.base.options import Options, seed_of
from benchmarks.base.processes import BenchServer, ServerFailedError, watched
from benchmarks.base.recordings import joined
from benchmarks.base.report import Row, Table, fact, limit
from benchmarks.base.speech import RATE_HZ, Clip, MissingSpeechError, Samples, decode, looped
from benchmarks.resilience.cuts import text_rows
from benchmarks.resilience.cutting import Proxy, proxy
from benchmarks.resilience.listening import Heard, Pause, Talk
from benchmarks.table.rows import BUSY_CORES
from live_asr.sessions.silence import SILENT_AFTER

SECONDS = 600.0
KINDS: dict[str, tuple[int, float]] = {
    "page reloaded": (4, 2.0),
    "tab killed": (3, 2.0),
    "server killed": (3, 15.0),
    "line cut for 5 s": (3, 8.0),
    "line cut for 60 s": (1, 65.0),
    "line cut for 200 s": (1, 210.0),
    "microphone away": (2, 8.0),
    "sound suspended": (2, 8.0),
    "page asleep": (1, 15.0),
}
"""How often, and for how many seconds at most each takes from its beginning until the page is live again."""
AWAY = 5.0
"""Seconds for which microphone and sound are away."""
ASLEEP = 12.0
CLOSE_TIMEOUT = 5.0
REST = 3.0
"""Seconds at least between two troubles."""
LIVE_AGAIN_MS = 120_000
DONE_MS = 1_800_000
"""Milliseconds: the full pass of the whole talk, of each of its sessions, is waited for."""
SLACK = 0.3
"""Seconds of sound that a killed page may have been given and taken down nowhere, or the other way round."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
)

BESIDE_THE_PAGE = """(() => {
    const RATE_HZ = 16000;
    const contexts = [], streams = [];
    let isForbidden = false, isPlugged = true;
    for (const kind of ["pointerdown", "keydown"])
        addEventListener(kind, () => (isForbidden = false), { capture: true });
    window.AudioContext = class extends AudioContext {
        constructor(options) {
            super({ ...options, sampleRate: RATE_HZ });
            contexts.push(this);
        }
        async resume() {
            if (isForbidden) throw new DOMException("No gesture.", "NotAllowedError");
            return super.resume();
        }
    };
    window.AudioWorkletNode = class extends AudioWorkletNode {
        constructor(...options) {
            super(...options);
            this.port.addEventListener("message", ({ data }) => {
                if (!data?.batch?.length) return;
                const samples = new Int16Array(data.batch.length);
                data.batch.forEach((sample, at) =>
                    (samples[at] = Math.round(Math.max(-1, Math.min(1, sample)) * 32767)));
                window.given(data.heardAt, btoa(String.fromCharCode(...new Uint8Array(samples.buffer))));
            });
        }
    };
    const open = navigator.mediaDevices?.getUserMedia.bind(navigator.mediaDevices);
    if (open) navigator.mediaDevices.getUserMedia = async (wanted) => {
        if (!isPlugged) throw new DOMException("Requested device not found", "NotFoundError");
        streams.push(await open(wanted));
        return streams.at(-1);
    };
    window.suspend = () => { isForbidden = true; return contexts.at(-1).suspend(); };
    window.plug = (plugged) => {
        isPlugged = plugged;
        if (!plugged) for (const track of streams.at(-1).getTracks()) {
            track.stop();
            track.dispatchEvent(new Event("ended"));
        }
        navigator.mediaDevices.dispatchEvent(new Event("devicechange"));
    };
})()"""
"""Takes down what the browser gives, and makes what has no switch of its own: a microphone that is unplugged,
and a sound that only a gesture wakes."""
IS_LIVE = """() => document.body.dataset.phase === "live"
    && document.getElementById("phase").textContent === "Live" """
COMMITTED = """() => [...new Set([...document.querySelectorAll("#transcript .committed")]
    .map((words) => words.parentElement))]
    .map((paragraph) => [...paragraph.querySelectorAll(".committed")]
        .map((words) => words.textContent).join("")).join(" ")"""


@dataclass(slots=True)
class Given:
    """What the browser gave to the page."""

    pieces: list[bytes] = field(default_factory=list)
    """s16le, 16 kHz, mono."""
    heard_at: list[float] = field(default_factory=list)
    """When each ended, seconds of the clock."""

    def take(self, heard_at_ms: float, piece: str) -> None:
        """Take down a piece, in base64."""
        self.pieces.append(base64.b64decode(piece))
        self.heard_at.append(heard_at_ms / 1000)

    @property
    def audio(self) -> bytes:
        """All of it."""
        return b"".join(self.pieces)

    @property
    def gaps(self) -> float:
        """Seconds for which nothing was given between the first piece and the last."""
        whole = self.heard_at[-1] - self.heard_at[0] + len(self.pieces[0]) / (2 * RATE_HZ)
        return whole - len(self.audio) / (2 * RATE_HZ)


@dataclass(slots=True)
class Course:
    """A talk in Chromium, and what became of it."""

    given: Given
    made: list[str] = field(default_factory=list)
    """Kind and second of each trouble."""
    missed: list[str] = field(default_factory=list)
    """Troubles after which the page was not live again."""
    shown: str = ""
    """The committed words on the page, before the full pass."""
    said: float = 0.0
    """For how many seconds nothing was heard, as the page says in the end."""
    advice: str = ""
    sessions: list[str] = field(default_factory=list)
    """In order."""
    audio: list[bytes] = field(default_factory=list)
    """What the server has of each."""


def drawn(seconds: float, chance: random.Random) -> list[tuple[float, str]]:
    """Draw the troubles of a talk: those that fit into it, each with the time from the one before."""
    kinds = [kind for kind, (count, _) in KINDS.items() for _ in range(count)]
    chance.shuffle(kinds)
    chosen: list[str] = []
    free = seconds - REST
    for kind in kinds:
        if free >= KINDS[kind][1] + REST:
            chosen.append(kind)
            free -= KINDS[kind][1] + REST
    shares = [chance.random() for _ in chosen]
    return [(REST + free * share / sum(shares), kind) for share, kind in zip(shares, chosen, strict=True)]


class Stage:
    """A browser on a server behind a proxy, and what can happen there."""

    def __init__(self, context: BrowserContext, server: BenchServer, between: Proxy) -> None:
        self._context = context
        self._server = server
        self._between = between
        self.page: Page
        self._does: dict[str, Callable[[], Awaitable[None]]] = {
            "page reloaded": self._reload,
            "tab killed": self._kill_tab,
            "server killed": self._kill_server,
            "line cut for 5 s": lambda: self._cut(5),
            "line cut for 60 s": lambda: self._cut(60),
            "line cut for 200 s": lambda: self._cut(200),
            "microphone away": self._unplug,
            "sound suspended": self._suspend,
            "page asleep": self._sleep,
        }

    async def open(self) -> None:
        """Open the page in a new tab."""
        self.page = await self._context.new_page()
        await self.page.goto(self._between.url)

    async def make(self, kind: str) -> None:
        """Make a trouble, and wait until the page is live again.

        Raises Error or TimeoutError where it is not.
        """
        async with asyncio.timeout(KINDS[kind][1] + LIVE_AGAIN_MS / 1000):
            await self._does[kind]()
            await self.live()

    async def live(self) -> None:
        """Wait until the page says that it is live. Raises Error where it does not come to that."""
        await self.page.wait_for_function(IS_LIVE, timeout=LIVE_AGAIN_MS)

    async def _go_on(self) -> None:
        await self.page.get_by_role("button", name="Go on").click(timeout=LIVE_AGAIN_MS)

    async def _reload(self) -> None:
        await self.page.reload()
        await self._go_on()

    async def _kill_tab(self) -> None:
        killed = self.page
        self.page = await self._context.new_page()
        with suppress(Error):
            await killed.goto("chrome://crash")
        await self.page.goto(self._between.url)
        await self._go_on()
        with suppress(Error, TimeoutError):  # a tab that has crashed may never say that it is closed
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await killed.close()

    async def _kill_server(self) -> None:
        await asyncio.to_thread(self._server.kill)
        await asyncio.to_thread(self._server.start)

    async def _cut(self, seconds: float) -> None:
        self._between.accepts = False
        await self._between.cut("reset")
        await asyncio.sleep(seconds)
        self._between.accepts = True

    async def _unplug(self) -> None:
        await self.page.evaluate("plug(false)")
        await asyncio.sleep(AWAY)
        await self.page.evaluate("plug(true)")

    async def _suspend(self) -> None:
        await self.page.evaluate("suspend()")
        await asyncio.sleep(AWAY)
        await self.page.locator("#captions").click()

    async def _sleep(self) -> None:
        devtools = await self._context.new_cdp_session(self.page)
        await devtools.send("Page.setWebLifecycleState", {"state": "frozen"})
        await asyncio.sleep(ASLEEP)
        await devtools.send("Page.setWebLifecycleState", {"state": "active"})
        await devtools.detach()


async def talk(
    server: BenchServer, microphone: Path, seconds: float, chance: random.Random, say: Callable[[str], None]
) -> Course:
    """Talk in Chromium for so long, with troubles; the full pass is waited for."""
    course = Course(Given())
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if program is None:
        raise ServerFailedError("There is no Chromium on this machine: install it.")
    hears = f"--use-file-for-fake-audio-capture={microphone}"
    async with proxy(f"http://127.0.0.1:{server.port}") as between, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=[*FLAGS, hears])
        context = await browser.new_context()
        await context.expose_function("given", lambda at_ms, piece: course.given.take(at_ms, piece))
        await context.add_init_script(BESIDE_THE_PAGE)
        stage = Stage(context, server, between)
        await stage.open()
        await stage.page.get_by_role("button", name="Start").click()
        await stage.live()
        now = asyncio.get_running_loop().time
        began = now()
        for pause, kind in drawn(seconds, chance):
            await asyncio.sleep(pause)
            course.made.append(f"{kind} at {now() - began:.1f} s")
            say(f"  {course.made[-1]}")
            try:
                await stage.make(kind)
            except (Error, TimeoutError) as error:
                what = str(error).splitlines()[:1] or ["no answer from the browser"]
                course.missed.append(f"{course.made[-1]}: {what[0]}")
                break
        await asyncio.sleep(max(REST, began + seconds - now()))
        await stage.page.get_by_role("button", name="Stop").click()
        asked = stage.page.get_by_role("dialog", name="Stop the captions?")
        await asked.get_by_role("button", name="Stop").click()
        with suppress(Error):
            again = stage.page.locator("#start:enabled")
            await again.wait_for(timeout=DONE_MS)
            course.shown = await stage.page.evaluate(COMMITTED)
            await stage.page.wait_for_selector('body[data-phase="done"]', timeout=DONE_MS)
        course.advice = await stage.page.locator("#advice").inner_text()
        course.said = seconds_said(course.advice)
        await browser.close()
    return course


def seconds_said(advice: str) -> float:
    """Return for how many seconds the microphone was off, as the page says; 0 where it says nothing of it."""
    found = re.search(r"The microphone was off for (?:(\d+) min ?)?(?:([\d.]+) s)?", advice)
    return 60 * float(found[1] or 0) + float(found[2] or 0) if found else 0.0


def heard_of(server: BenchServer, course: Course) -> None:
    """Take down what the server has: its sessions, and their audio."""
    listed = json.loads(server.get("/v1/sessions")[1])["sessions"]
    course.sessions = [session["session"] for session in reversed(listed)]
    for session in course.sessions:
        folder = server.data / "sessions" / session
        raw, packed = folder / "audio.bin", folder / "audio.flac"
        course.audio.append(raw.read_bytes() if raw.exists() else decode(packed).tobytes())


def audio_rows(course: Course) -> list[Row]:
    """Hold the server's audio against the browser's, and what the page says against what was not given."""
    given, had, gaps = course.given.audio, b"".join(course.audio), course.given.gaps
    lengths = f"{len(given) / (2 * RATE_HZ):.1f} / {len(had) / (2 * RATE_HZ):.1f}"
    reloads = sum(kind.startswith(("page reloaded", "tab killed")) for kind in course.made)
    missing = (len(given) - len(had)) / (2 * RATE_HZ)
    unlike = pieces_unlike(course.given.pieces, had)
    return [
        limit("seconds given and not with the server", max(0.0, missing - reloads * SLACK), 0),
        limit("pieces that the server has not as they were given", max(0, unlike - 3 * reloads), 0, digits=0),
        limit(
            "seconds not given and not told of, or the other way",
            abs(gaps - course.said),
            1 + SLACK * reloads,
        ),
        fact("seconds given / with the server", lengths),
        fact("seconds not given / told of", f"{gaps:.1f} / {course.said:.1f}"),
        fact("sessions", str(len(course.sessions))),
    ]


def pieces_unlike(pieces: Sequence[bytes], had: bytes) -> int:
    """Count the pieces that `had` does not hold in their order; silence is not looked for."""
    at, unlike = 0, 0
    for piece in pieces:
        found = had.find(piece, at) if any(piece) else at
        if found < 0:
            unlike += 1
        else:
            at = found + (len(piece) if any(piece) else 0)
    return unlike


def made_rows(course: Course, count: int) -> list[Row]:
    """Say which troubles were made, and hold that the page was live again after each."""
    kinds = Counter(how.partition(" at ")[0] for how in course.made)
    return [
        limit("troubles after which the page was not live again", len(course.missed), 0, digits=0),
        limit("troubles that were not made", count - len(course.made), 0, digits=0),
        fact("troubles", str(len(course.made)), {kind: str(number) for kind, number in kinds.items()}),
    ]


def pauses_of(given: Given, first: int, last: int) -> list[Pause]:
    """Return where the browser gave nothing for as long as ends what is said, between two bytes of it."""
    pauses = []
    at = len(given.pieces[0])
    for (before, now), piece in zip(pairwise(given.heard_at), given.pieces[1:], strict=True):
        absent = now - before - len(piece) / (2 * RATE_HZ)
        if absent >= SILENT_AFTER and first < at < last:
            pauses.append(Pause(at - first, absent))
        at += len(piece)
    return pauses


def untroubled(server: BenchServer, course: Course) -> Heard:
    """Play the audio of sessions in real time, over the Python client; return what was heard of all.

    Where the browser gave nothing, as without a microphone, nothing is sent for as long: what was said
    before is committed by that, whoever sends it.
    """
    whole = Heard()
    first = 0
    for each in course.audio:
        one = Talk()
        clip = Clip("given", np.frombuffer(each, np.int16), None)
        pauses = pauses_of(course.given, first, first + len(each))
        first += len(each)
        asyncio.run(one.speak(f"http://127.0.0.1:{server.port}", clip, pauses=pauses))
        whole.live_text += f" {one.heard.live_text}"
        whole.notices += one.heard.notices
    return whole


def as_wav(audio: Samples, folder: Path) -> Path:
    """Write what the microphone hears."""
    path = folder / "microphone.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
        file.writeframes(audio.tobytes())
    return path


def run(options: Options, arguments: argparse.Namespace) -> tuple[list[Table], dict[str, Any]]:
    """Talk through troubles with each model; return the tables and the numbers behind them."""
    seed, seconds = seed_of(arguments), arguments.seconds or SECONDS
    try:
        source = joined(options)
    except MissingSpeechError as missing:
        options.say(f"left out: {missing}")
        source = options.clip("sample", 30.0)
    clip = looped(source, seconds)
    tables: list[Table] = []
    behind: dict[str, Any] = {}
    settings = {"LIVE_ASR_STORAGE__KEEP_AUDIO": "true"}
    for model in options.models:
        count = len(drawn(seconds, random.Random(f"{seed} page")))
        options.say(f"{model}: {seconds:.0f} s in Chromium with {count} troubles, seed {seed}")
        with (
            tempfile.TemporaryDirectory(prefix="live-asr-bench-") as folder,
            BenchServer(model, models_dir=options.models_dir, settings=settings) as server,
        ):
            with watched(server) as usage:
                microphone = as_wav(clip.audio, Path(folder))
                course = asyncio.run(
                    talk(server, microphone, seconds, random.Random(f"{seed} page"), options.say)
                )
            busy = usage.others_cores
            heard_of(server, course)
            options.say(f"{model}: the same audio untroubled")
            whole = untroubled(server, course)
        torn = Heard(live_text=course.shown)
        passages = missing_passages(torn.live_text, whole.live_text)
        rows = [
            *made_rows(course, count),
            *audio_rows(course),
            limit("passages of three words and more that are missing", len(passages), 0, digits=0),
            *text_rows(whole, torn),
        ]
        notes = [f"trouble: {how}" for how in course.made]
        notes += [f"not live again: {how}" for how in course.missed]
        notes += [f"untroubled → page: {found}" for found in differences(torn.live_text, whole.live_text)]
        notes.append(f"the page's last words: {course.advice}")
        notes.append(f"seed {seed}; other processes kept up to {busy:.2f} cores busy, the browser among them")
        if busy > BUSY_CORES:
            notes.append(f"over {BUSY_CORES:g}: a machine that is busy with other things gives other words")
        title = f"{model}: {len(course.made)} troubles in {seconds / 60:.1f} minutes in Chromium"
        tables.append(Table(title, rows, notes))
        behind[model] = {"course": numbers(course), "untroubled": asdict(whole)}
    return tables, behind


def numbers(course: Course) -> dict[str, Any]:
    """Return a course without its audio."""
    return {name: value for name, value in asdict(course).items() if name not in ("given", "audio")}
