"""What a server's settings say of the pool that it asks."""

from __future__ import annotations

from dataclasses import replace

from live_asr.config.settings import LOCAL_ENGINE, Settings
from live_asr.inference.ipc import Pool

IDLE_SECONDS = 300.0
"""For which a worker is not needed, until it leaves: it takes its time to come back."""
FULL_PASS_CPUS = 1.0
"""Of Ray's, that a full pass takes: it is the last in line for them."""
SHARED = ("models.recognizer", "inference.compute_type", "inference.beam_size", "inference.workers")
"""Settings that workers take from the server; where weights are is set where they run."""
FOR_PASSES = (
    *("models.recognizer", "models.speech_detector", "models.segmentation"),
    *("inference.compute_type", "final.pipeline", "final.recognizer"),
)
"""Those that decide what a full pass finds."""


def pool_of(settings: Settings) -> Pool | None:
    """Return the pool that live sessions are recognised by; None where it is this machine that does so."""
    if settings.inference.engine == LOCAL_ENGINE:
        return None
    cluster = settings.cluster
    return Pool(
        address=settings.inference.engine,
        namespace=cluster.namespace,
        settings=taken(settings, SHARED),
        device=settings.inference.device,
        least=cluster.min_workers,
        most=cluster.max_workers,
        cpus=cluster.worker_cpus,
        gpus=cluster.worker_gpus,
        idle_seconds=IDLE_SECONDS,
        decode_timeout=settings.inference.decode_timeout,
    )


def passes_of(settings: Settings) -> Pool | None:
    """Return where full passes are done; None where that is this machine."""
    pool = pool_of(settings)
    if pool is None or not settings.cluster.full_passes:
        return None
    gpus = settings.cluster.full_pass_gpus
    return replace(pool, settings=taken(settings, FOR_PASSES), cpus=FULL_PASS_CPUS, gpus=gpus)


def taken(settings: Settings, keys: tuple[str, ...]) -> tuple[tuple[str, object], ...]:
    """Return (`section.key`, value) of some settings."""
    return tuple(
        (key, getattr(getattr(settings, section), name)) for key in keys for section, name in [key.split(".")]
    )
