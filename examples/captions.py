"""Captions of what is being said, and by whom, in the terminal.

    .venv/bin/python examples/captions.py talk.wav
    arecord --quiet --format S16_LE --rate 16000 --file-type raw | .venv/bin/python examples/captions.py -

It needs `live_asr`, which `make install` puts into .venv, and a server, at http://localhost:8765 unless a
second argument names another. A WAV file is sent as fast as it sounds;
"-" takes raw PCM (16 bit, 16 kHz, mono) from a pipe.
"""

from __future__ import annotations

import asyncio
import os
import sys
import wave
from collections.abc import AsyncIterator

from live_asr.client import DEFAULT_URL, LiveSession, SessionError, connect
from live_asr.core.messages import Commit, Final, Progress, UtteranceMessage

CHUNK = 0.1  # seconds
BYTES_PER_SAMPLE = 2
USAGE = "Usage: captions.py FILE.wav|- [URL]"


async def recorded(file: wave.Wave_read) -> AsyncIterator[bytes]:
    """Yield the file's sound at the pace of a microphone."""
    clock = asyncio.get_running_loop().time
    begun, sent = clock(), 0.0
    while pcm := file.readframes(int(file.getframerate() * CHUNK)):
        sent += CHUNK
        await asyncio.sleep(begun + sent - clock())
        yield pcm


async def piped() -> AsyncIterator[bytes]:
    """Yield what another program records, as it comes."""
    while pcm := await asyncio.to_thread(os.read, sys.stdin.fileno(), 65_536):
        yield pcm


async def send(session: LiveSession, sound: AsyncIterator[bytes]) -> None:
    """Send the sound to its end, and then wait for the last words."""
    async for pcm in sound:
        await session.send(pcm)
    await session.stop()


async def main(path: str, url: str = DEFAULT_URL) -> None:
    """Print the captions of one recording or pipe."""
    if path == "-":
        sound, rate, channels = piped(), 16_000, 1
    else:
        try:
            file = wave.open(path)  # noqa: SIM115  it is read until the program ends
        except (wave.Error, EOFError):
            sys.exit(f"Error: {path} is no WAV file with PCM. For others there is `live-asr replay`.")
        if file.getsampwidth() != BYTES_PER_SAMPLE:
            sys.exit(f"Error: {path} has {8 * file.getsampwidth()} bits a sample; this example sends 16.")
        sound, rate, channels = recorded(file), file.getframerate(), file.getnchannels()
    async with connect(url, sample_rate=rate, channels=channels) as session, asyncio.TaskGroup() as tasks:
        tasks.create_task(send(session, sound))
        async for message in session:
            if isinstance(message, Commit):
                print(message.text, end="", flush=True)  # committed words never change
            elif isinstance(message, UtteranceMessage):
                print(f"  [{message.speaker or '?'}]")  # who said it, as far as known by now
            elif isinstance(message, Progress):
                print(f"\rFull pass: {message.fraction:.0%} ", end="", file=sys.stderr, flush=True)
            elif isinstance(message, Final):
                for speaker in message.speakers:
                    heard_as = ", ".join(speaker.live_labels)
                    print(f"{speaker.label} spoke for {speaker.duration:.0f} s; live: {heard_as}")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(USAGE)
    try:
        asyncio.run(main(*sys.argv[1:]))
    except* (SessionError, OSError) as errors:
        sys.exit(f"Error: {errors.exceptions[0]}")
