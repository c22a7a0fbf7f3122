"""What the fuzzer's inputs are tried on, in a process of its own: it may crash, hang or grow.

`python -m benchmarks.fuzz_target messages|container|dialects` answers batches from its standard input, as
`serve` has it, for benchmarks.fuzzing; with files behind the name it tries each of them once and says what
came of it.
"""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import gc
import json
import os
import random
import re
import resource
import struct
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from live_asr.audio.decoder import open_decoder
from live_asr.core.errors import ClientError, LiveAsrError, MediaError
from live_asr.core.messages import (
    CLIENT_TYPES,
    SERVER_TYPES,
    AudioFormat,
    decode_client,
    decode_server,
    encode,
    error_message,
)
from live_asr.core.transcript import RecordError, Transcript
from live_asr.inference.memory import return_freed_memory

NUMBER = struct.Struct(">I")
"""Goes before each batch, input and answer: how many inputs, or bytes, follow."""
SEED_BYTES = 4
"""A container's input begins with so many bytes, from which follows how it is cut into chunks."""
CHUNK_BYTES = (1, 7, 100, 512, 3_200, 16_384, 65_536)
MAX_TINY = 300
"""So many chunks may be smaller than 100 ms of speech."""
MAX_PIECE_SAMPLES = 120 * 16_000
"""The decoder hands out about a minute at a time."""
MAX_SENTENCE = 1_000
"""Characters that an error's message may have, whatever was sent."""
MAX_MEMORY_BYTES = 8 * 2**30
"""Address space of the process: what asks for more is told no, before the machine has to be."""

FIELDS = {
    name.rstrip("_") for cls in (*CLIENT_TYPES.values(), *SERVER_TYPES.values()) for name in cls.__slots__
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one input."""

    kind: str
    """Of a few: for the tally."""
    signature: str
    """The same in more detail, without what the input chose itself: an input with a new one is kept."""
    fault: str | None = None
    """What must not be; None where all is well."""


Judge = Callable[[bytes], Outcome]


class UnsoundError(Exception):
    """A result that does not hold; its sentence says why."""


# Messages ----------------------------------------------------------------------------------------


def judge_message(data: bytes) -> Outcome:
    """Read a frame as either side would, as bytes and as text."""
    results = []
    for decode in (decode_client, decode_server):
        result, text = reading(decode, data), text_of(data)
        if reading(decode, text) != result and text.encode("utf-8", "replace") == data:
            raise UnsoundError("The same frame reads otherwise as text than as bytes.")
        results.append(result)
    return Outcome(results[0].partition(" ")[0], " / ".join(results))


def text_of(data: bytes) -> str:
    """Return bytes as text, with lone surrogates where there are such; other wrong bytes are replaced."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace")


def reading(decode: Callable[[bytes | str], Any], frame: bytes | str) -> str:
    """Return the signature of what a frame is read as. Raises UnsoundError where that does not hold."""
    try:
        message = decode(frame)
    except ClientError as error:
        return refusal(error, ("not_json", "bad_message"), 1007)
    written = encode(message)
    if encode(decode(written)) != written:
        raise UnsoundError(f"A `{message.type}` does not read back as it was written.")
    try:
        Transcript().apply(message)
    except RecordError as error:
        check_sentence(error)
    set_fields = sum(bool(getattr(message, name)) for name in type(message).__slots__)
    return f"{message.type} {set_fields} {len(written).bit_length()}"


def refusal(error: LiveAsrError, codes: Sequence[str], close_code: int) -> str:
    """Return the signature of a refusal. Raises UnsoundError for one that is not as documented."""
    if error.code not in codes or error.close_code != close_code:
        raise UnsoundError(f"Refused with the code {error.code!r}.")
    check_sentence(error)
    return f"{error.code} {shape_of(error.message)}"


def check_sentence(error: LiveAsrError) -> None:
    """Raise UnsoundError where an error does not say, in short, what was wrong and what to do."""
    if not error.message or not error.hint:
        raise UnsoundError(f"A refusal without message or hint: {error.code!r}.")
    if len(str(error)) > MAX_SENTENCE:
        raise UnsoundError(f"A refusal of {len(str(error))} characters: {error.message[:80]}")
    encode(error_message(error))


def shape_of(message: str) -> str:
    """Return a message without what the sender chose: quoted values, unknown names, numbers."""
    shape = message.partition(", not ")[0]
    shape = re.sub(r"`([^`]*)`", lambda name: name[0] if known(name[1]) else "`…`", shape)
    return re.sub(r"\d+", "#", re.sub(r"'[^']*'", "'…'", shape))


def known(path: str) -> bool:
    """Tell whether a field's path consists of names of the protocol."""
    return all(part in FIELDS for part in re.sub(r"\[\d+\]", "", path).split("."))


# Containers --------------------------------------------------------------------------------------


class ContainerJudge:
    """Decode inputs as a session does, one after the other, on one event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()

    def close(self) -> None:
        """Close the loop; idempotent."""
        self._loop.close()

    def __call__(self, data: bytes) -> Outcome:
        """Feed one input in chunks, and wait until the decoder's thread is gone."""
        chance, media = random.Random(data[:SEED_BYTES]), data[SEED_BYTES:]
        try:
            return self._loop.run_until_complete(hear(media, chance))
        except MediaError as error:
            signature = refusal(error, ("not_audio",), 1003)
            cause = f" ({type(error.__cause__).__name__})" if "cannot be decoded" in error.message else ""
            return Outcome(error.code + cause, signature)
        finally:
            for thread in threading.enumerate():
                if thread.name == "container-decoder":
                    thread.join()


async def hear(media: bytes, chance: random.Random) -> Outcome:
    """Decode one input; now and then its client is gone before the end."""
    decoder = open_decoder(AudioFormat("container"))
    leaves_at = chance.randrange(len(media) + 1) if chance.random() < 0.1 else len(media)
    heard_samples = 0
    try:
        for chunk in chunks(media[:leaves_at], chance):
            async for piece_samples in drained(decoder.feed, chunk, decoder):
                heard_samples += piece_samples
        if leaves_at == len(media):
            async for piece_samples in drained(decoder.finish, None, decoder):
                heard_samples += piece_samples
    finally:
        decoder.close()
    kind = "heard" if heard_samples else "silent"
    skipped = decoder.skipped_packets.bit_length()
    return Outcome(kind, f"{kind} {heard_samples:.1e} skipped {skipped}")


def chunks(media: bytes, chance: random.Random) -> list[bytes]:
    """Cut bytes as networks and clients do: all alike, or each of another size."""
    sizes = chance.choices(CHUNK_BYTES, k=8) if chance.random() < 0.5 else [chance.choice(CHUNK_BYTES)]
    cut, at = [], 0
    while at < len(media):
        size = sizes[len(cut) % len(sizes)]
        if len(cut) > MAX_TINY:  # byte by byte is slow: only the head, where formats are told
            size = max(size, 3_200)
        cut.append(media[at : at + size])
        at += size
    return cut


async def drained(call: Any, chunk: bytes | None, decoder: Any) -> AsyncIterator[int]:
    """Yield the lengths of all pieces that a chunk, or the end, gives. Raises UnsoundError for a bad one."""
    given = () if chunk is None else (chunk,)
    while True:
        piece = await call(*given)
        if piece.dtype != np.float32 or piece.ndim != 1 or not np.isfinite(piece).all():
            raise UnsoundError(f"Samples of {piece.dtype}, {piece.shape}, that are not all numbers.")
        if len(piece) > MAX_PIECE_SAMPLES:
            raise UnsoundError(f"A piece of {len(piece) / 16_000:.0f} s at once.")
        yield len(piece)
        if not decoder.has_more:
            return
        given = () if chunk is None else (b"",)


# The process -------------------------------------------------------------------------------------


def tried(judge: Judge, data: bytes) -> Outcome:
    """Judge one input; whatever is raised is a fault."""
    try:
        return judge(data)
    except UnsoundError as unsound:
        return Outcome("unsound", f"unsound {unsound}", str(unsound))
    except Exception as error:
        frame = error.__traceback__
        while frame is not None and frame.tb_next is not None:
            frame = frame.tb_next
        where = f"{Path(frame.tb_frame.f_code.co_filename).name}:{frame.tb_lineno}" if frame else "nowhere"
        name = type(error).__name__
        return Outcome(name, f"{name} {where}", f"{name} in {where}: {str(error)[:200]}")


def peak_mb() -> float:
    """Return the most memory that this process has held so far."""
    # Not `ru_maxrss`: that one begins with what the process that started this one held.
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 / 1e6 if found else 0.0


class _Mallinfo(ctypes.Structure):
    """What glibc's mallinfo2(3) returns."""

    _fields_ = (
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks")),
        *((name, ctypes.c_size_t) for name in ("fsmblks", "uordblks", "fordblks", "keepcost")),
    )


def tidied_mb() -> float:
    """Give back all that is not needed; return how much is in use, nan where there is no glibc that tells."""
    gc.collect()
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallinfo2"):
        return float("nan")
    library.malloc_trim(0)
    library.mallinfo2.restype = _Mallinfo
    info = library.mallinfo2()
    return round((info.uordblks + info.hblkhd) / 1e6, 6)


def answer(judge: Judge, data: bytes) -> dict[str, Any]:
    """Try one input and say what came of it, how long it took and how much memory there was at most."""
    began, cpu_began = time.perf_counter(), time.process_time()
    outcome = tried(judge, data)
    return {
        "kind": outcome.kind,
        "signature": outcome.signature,
        "fault": outcome.fault,
        "seconds": round(time.perf_counter() - began, 6),
        "cpu_seconds": round(time.process_time() - cpu_began, 6),
        "peak_mb": round(peak_mb(), 3),
    }


def serve(judge: Judge, asked: BinaryIO, answers: BinaryIO) -> None:
    """Answer batches until there are no more: each read as a whole before its first input is tried.

    An empty one is the request to give back what is not needed, and to say how much memory is in use then.
    """
    while head := asked.read(NUMBER.size):
        batch = [asked.read(read_number(asked)) for _ in range(NUMBER.unpack(head)[0])]
        body = json.dumps([answer(judge, data) for data in batch] or [{"in_use_mb": tidied_mb()}]).encode()
        answers.write(NUMBER.pack(len(body)) + body)
        answers.flush()


def read_number(stream: BinaryIO) -> int:
    """Read one number. Raises struct.error at the end of the stream."""
    found: int = NUMBER.unpack(stream.read(NUMBER.size))[0]
    return found


def prepare() -> BinaryIO:
    """Make this process like the server's, its death telling and its standard output ours alone."""
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
    return_freed_memory()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


def dialects() -> Judge:
    """Return the judge of what other programs' clients send; it imports the server."""
    from benchmarks.fuzz_dialects import DialectJudge

    return DialectJudge()


def main() -> None:
    """Serve, or try the files that were named."""
    name, *files = sys.argv[1:]
    makers: dict[str, Callable[[], Judge]] = {
        "messages": lambda: judge_message,
        "container": ContainerJudge,
        "dialects": dialects,
    }
    judge = makers[name]()
    if not files:
        serve(judge, sys.stdin.buffer, prepare())
        return
    faulthandler.enable()
    for file in files:
        print(file, answer(judge, Path(file).read_bytes()), flush=True)


if __name__ == "__main__":
    main()
