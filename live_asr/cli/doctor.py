"""The doctor: looks at everything that a server needs and says what to do about what it lacks."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from live_asr.config.settings import Settings
from live_asr.core.errors import LiveAsrError
from live_asr.core.types import CHUNK_SAMPLES, SAMPLE_RATE_HZ, DecodeRequest
from live_asr.models.device import cpu_count, look_for_gpu, pick_compute_type, pick_device, why_not_gpu
from live_asr.models.interfaces import SpeechState
from live_asr.storage.objects import ObjectStore
from live_asr.weights.manifest import find_entry, load_manifest
from live_asr.weights.resolver import ModelResolver
from live_asr.weights.store import AUTO, Weights, default_model

PACKAGES = (
    "faster-whisper",
    "ctranslate2",
    "onnxruntime",
    "av",
    "soxr",
    "numpy",
    "fastapi",
    "uvicorn",
    "websockets",
)
OLDEST_PYTHON = (3, 11)
LITTLE_SPACE_BYTES = 1 << 30
"""Below this the doctor warns: an hour of audio takes 115 MB at 16 kHz."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report."""

    state: Literal["ok", "warn", "fail"]
    subject: str
    found: str
    advice: str = ""
    """What to do; empty where nothing is to be done."""


def examine(settings: Settings) -> Iterator[Finding]:
    """Yield findings as they are made, the quick ones first; nothing is fetched.

    Needs weights on this machine for the last one, which decodes a second of audio with the real models.
    """
    yield _python()
    yield from _packages()
    device = _device(settings)
    yield device
    yield _folder("data folder", settings.storage.data, "--data or LIVE_ASR_STORAGE__DATA")
    yield _folder("models folder", settings.models.dir, "LIVE_ASR_MODELS__DIR")
    if settings.storage.objects is not None:
        yield _objects(settings.storage.objects)
    yield _port(settings)
    recognizer = None
    if device.state != "fail":  # which model it would be hangs on the device
        name = settings.models.recognizer
        if name == AUTO:
            name = default_model(pick_device(settings.inference.device))
        recognizer = yield from _weights("recogniser", "recognizer", name, settings)
    models = settings.models
    detector = yield from _weights("speech detector", "speech_detector", models.speech_detector, settings)
    yield from _weights("segmentation", "segmentation", models.segmentation, settings)
    yield from _weights("speaker encoder", "speaker_encoder", models.speaker_encoder, settings)
    if detector is not None:
        yield _attempt("detect speech", lambda: _detect(detector))
    if recognizer is not None:
        yield _attempt("decode one second", lambda: _decode(recognizer, settings))


def _python() -> Finding:
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info < OLDEST_PYTHON:
        return Finding("fail", "Python", version, "Install Python 3.11 or newer.")
    return Finding("ok", "Python", version)


def _packages() -> Iterator[Finding]:
    found, missing = [], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        yield Finding(
            "fail",
            "packages",
            f"missing: {', '.join(missing)}",
            'pip install "live-asr[server]" brings them.',
        )
    yield Finding("ok", "packages", ", ".join(found))


def _device(settings: Settings) -> Finding:
    wanted, gpus, cores = settings.inference.device, look_for_gpu().count, cpu_count()
    machine = f"{cores} CPU core{'s' * (cores != 1)}, {gpus} CUDA GPU{'s' * (gpus != 1)}"
    try:
        device = pick_device(wanted)
        compute_type = pick_compute_type(settings.inference.compute_type, device)
    except LiveAsrError as error:
        return Finding("fail", "device", machine, str(error))
    found = f"{machine}; using {device}, {compute_type}"
    if why := why_not_gpu(wanted):
        return Finding("warn", "device", found, why)
    if device == "cpu" and cores < 2:
        return Finding("warn", "device", found, "One core may be too slow for base: try --model tiny.en.")
    return Finding("ok", "device", found)


def _folder(subject: str, folder: Path, variable: str) -> Finding:
    """Write a file there, or in the nearest folder above that exists: the server makes what is missing."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(b"live-asr")
            file.flush()
            os.fsync(file.fileno())
        free_bytes = shutil.disk_usage(existing).free
    except OSError as error:
        advice = f"Make it writable, or name another folder with {variable}."
        return Finding("fail", subject, f"{folder} cannot be written to ({error.strerror})", advice)
    found = f"{folder}, {free_bytes / 1e9:.1f} GB free"
    if free_bytes < LITTLE_SPACE_BYTES:
        return Finding("warn", subject, found, f"Free some space, or name another folder with {variable}.")
    return Finding("ok", subject, found)


def _objects(url: str) -> Finding:
    """Put an object there, read it and erase it, as the server does before it listens."""
    try:
        asyncio.run(ObjectStore(url).check())
    except LiveAsrError as error:
        return Finding("fail", "object store", error.message, error.hint)
    return Finding("ok", "object store", f"{url} takes, gives and erases")


def _port(settings: Settings) -> Finding:
    host, port = settings.server.host, settings.server.port
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as listener:
            # As the server does: a port whose last connections still linger counts as free.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as error:
        advice = "Is a server running already? Else choose another with --port."
        return Finding("warn", "port", f"{host}:{port} cannot be used ({error.strerror})", advice)
    return Finding("ok", "port", f"{host}:{port} is free")


def _weights(
    subject: str, kind: str, name: str, settings: Settings
) -> Generator[Finding, None, Weights | None]:
    """Yield the finding, and return the weights where they are held."""
    try:
        weights = ModelResolver(settings, offline=True).bring(name, kind)
    except LiveAsrError as error:
        if error.code != "weights_unreachable" or settings.models.offline:
            yield Finding("fail", subject, error.message, error.hint)
        else:
            yield Finding("warn", subject, f"{name} is not here yet", _how_to_bring(name))
        return None
    yield Finding("ok", subject, f"{weights.name}, verified, from {weights.source}")
    return weights


def _how_to_bring(name: str) -> str:
    packages = find_entry(name, load_manifest()).packages
    size = f" ({packages[0].size_bytes / 1e6:.0f} MB)" if packages else ""
    return f"`live-asr serve` or `live-asr models pull {name}` brings it{size}."


def _attempt(subject: str, work: Callable[[], str]) -> Finding:
    try:
        return Finding("ok", subject, work())
    except (RuntimeError, ValueError, OSError, ImportError) as error:  # what the models' libraries raise
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        return Finding("fail", subject, first_line, "Check device, compute_type and the model.")


def _detect(weights: Weights) -> str:
    from live_asr.models.silero import SileroDetector

    detector = SileroDetector(weights.model_file)
    chunks = SAMPLE_RATE_HZ // CHUNK_SAMPLES
    started = time.perf_counter()
    detector.detect(np.zeros(chunks * CHUNK_SAMPLES, np.float32), SpeechState.initial())
    return f"one second in {(time.perf_counter() - started) * 1000:.0f} ms"


def _decode(weights: Weights, settings: Settings) -> str:
    from live_asr.models.whisper import WhisperRecognizer

    device = pick_device(settings.inference.device)
    compute_type = pick_compute_type(settings.inference.compute_type, device)
    started = time.perf_counter()
    recognizer = WhisperRecognizer(
        weights.folder, name=weights.name, device=device, compute_type=compute_type, workers=1
    )
    loaded = time.perf_counter()
    noise = np.random.default_rng(0).normal(0, 0.001, SAMPLE_RATE_HZ).astype(np.float32)
    request = DecodeRequest(
        start_sample=0,
        end_sample=noise.size,
        prefix=(),
        max_new_tokens=16,
        min_window_samples=10 * SAMPLE_RATE_HZ,
        padding_samples=2 * SAMPLE_RATE_HZ,
        language="en",
    )
    recognizer.recognize(request, noise)
    done = time.perf_counter()
    return (
        f"{recognizer.info.name} on {device}, {recognizer.info.compute_type}: "
        f"loaded in {loaded - started:.1f} s, decoded in {done - loaded:.1f} s"
    )
