"""A target for the fuzzer's own tests: it crashes, hangs, grows or errs when it is told to."""

from __future__ import annotations

import os
import signal
import sys
import threading

from benchmarks.fuzz.target import Outcome, UnsoundError, prepare, serve

HELD: list[bytes] = []


def judge(data: bytes) -> Outcome:
    """Do what the input says."""
    if b"crash" in data:
        os.kill(os.getpid(), signal.SIGSEGV)
    if b"hang" in data:
        threading.Event().wait()
    if b"raise" in data:
        raise KeyError(data)
    if b"unsound" in data:
        raise UnsoundError("It does not hold.")
    if b"grow" in data:
        HELD.append(os.urandom(300_000_000))
    if b"leak" in data:
        os.open(os.devnull, os.O_RDONLY)
    return Outcome("fine", f"fine {len(data)}")


if __name__ == "__main__":
    serve(judge, sys.stdin.buffer, prepare())
