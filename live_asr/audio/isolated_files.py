"""Files of strangers that lie on the disk, read by FFmpeg in a process of its own, as streams are."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from threading import Timer
from typing import IO

import numpy as np

from live_asr.audio.decoder_worker import DURATION, FILE
from live_asr.audio.isolated_decoder import answer_of, broken, fault_of, start_worker
from live_asr.core.audio import Samples
from live_asr.core.errors import DecoderDied, DecoderError

log = logging.getLogger(__name__)

MAX_PIECE_BYTES = 64 * 1024 * 1024
"""The largest answer that is taken: a piece has a few seconds."""
IS_PLACE_SHARED = sys.platform == "win32"
"""Whether a process that is given a file moves its owner's place; see `decoder_worker.Standing`."""
DURATION_TIMEOUT = 30.0
"""Seconds after which a file that does not tell how long it is has said nothing."""


def file_samples(file: IO[bytes]) -> Generator[tuple[Samples, str], None, None]:
    """Yield a file's samples from its beginning, 16 kHz mono float32, and its format's name with each piece.

    `file` has a descriptor, and nothing of it is copied. Blocks; close the iterator, and the process ends.
    Raises MediaError for what is no audio, DecoderDied where the process dies, DecoderError where there can
    be none.
    """
    file.seek(0)
    with _reading(FILE, file) as pipe:
        while True:
            try:
                about, body = answer_of(pipe, MAX_PIECE_BYTES)
                samples, name = np.frombuffer(body, np.float32), str(about.get("format") or "")
                fault = fault_of(about) if about.get("fault") else None
            except EOFError as error:
                raise DecoderDied("The process that decodes this file has ended.") from error
            except (ValueError, TypeError) as error:  # whoever answers so is no decoder any more
                raise broken() from error
            yield samples, name
            if fault is not None:
                raise fault
            if about.get("done"):
                return


def duration_of(file: IO[bytes]) -> float | None:
    """Return how many seconds a file says that it lasts; None where it does not, or nobody can tell.

    Blocks. `file` has a descriptor. Its place stays where it is, and somebody else may read it meanwhile,
    unless IS_PLACE_SHARED: then it is at the beginning afterwards.
    """
    if IS_PLACE_SHARED:
        file.seek(0)
    try:
        with _reading(DURATION, file, DURATION_TIMEOUT) as pipe:
            duration = answer_of(pipe)[0].get("duration")
    except (OSError, EOFError, ValueError, DecoderError) as error:
        log.info("how long a file is cannot be told: %s", error)
        return None
    finally:
        if IS_PLACE_SHARED:
            file.seek(0)
    if not isinstance(duration, int | float) or not math.isfinite(duration) or duration < 0:
        return None
    return float(duration)


@contextmanager
def _reading(does: str, file: IO[bytes], patience: float | None = None) -> Iterator[IO[bytes]]:
    """Have a process read a file, and end it at the end, or after so many seconds."""
    process = start_worker(does, stdin=file)
    assert process.stdout is not None
    timer = None if patience is None else Timer(patience, process.kill)
    if timer is not None:
        timer.start()
    try:
        yield process.stdout
    finally:
        if timer is not None:
            timer.cancel()
        process.kill()
        process.wait()
        process.stdout.close()
