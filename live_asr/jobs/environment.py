"""The environment of a worker that this one replaces, read as settings; ours (`LIVE_ASR_…`) come first."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from live_asr.core.errors import ConfigError
from live_asr.delivery.signature import FEWEST_BYTES, MAX_BYTES, PREFIX, is_secret

HUB_TOKEN = "HUGGINGFACE_TOKEN"
ENGINE = "ASR_ENGINE"
ENGINES = ("", "whisper", "faster-whisper", "faster_whisper", "fasterwhisper", "local", "live-asr")
"""What may be asked for: there is one engine here."""
ENDPOINT = "WEBHOOK_ENDPOINT"
DEFAULT_ENDPOINT = "/api/v1/webhooks/asr-complete"
"""What such workers call where NODE_API_URL is a host alone."""
MODELS = {"large": "large-v3", "large-v3-turbo": "large-v3-turbo", "turbo": "large-v3-turbo"}
"""Names of models that are called otherwise here."""
LEVELS = {"warn": "warning", "critical": "error", "fatal": "error", "trace": "debug", "notset": "debug"}
MAX_POLL = 20
"""Seconds; SQS holds a request no longer."""


def _as_it_is(value: str) -> object:
    return value


def _poll(value: str) -> object:
    try:
        return min(MAX_POLL, max(0, round(float(value))))
    except ValueError:
        return value  # which the setting refuses, by its name


def _model(value: str) -> object:
    return MODELS.get(value, value)


def _compute_type(value: str) -> object:
    return "auto" if value == "default" else value


def _level(value: str) -> object:
    return LEVELS.get(value.lower(), value.lower())


def _key(value: str) -> object:
    """Return a secret as a key of Standard Webhooks: what is none is taken by its bytes, of any number.

    HMAC fills a short key with zeros and takes a long one's digest; doing so here changes no signature.
    """
    if is_secret(value):
        return value
    key = value.encode()
    key = hashlib.sha256(key).digest() if len(key) > MAX_BYTES else key.ljust(FEWEST_BYTES, b"\0")
    return PREFIX + base64.b64encode(key).decode()


SETTINGS: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "AWS_REGION": ("jobs.region", _as_it_is),
    "AWS_S3_BUCKET": ("jobs.bucket", _as_it_is),
    "AWS_SQS_ASR_QUEUE_URL": ("jobs.queue_url", _as_it_is),
    "WHISPER_MODEL": ("models.recognizer", _model),
    "WHISPER_LANGUAGE": ("streaming.language", _as_it_is),
    "WHISPER_DEVICE": ("inference.device", _as_it_is),
    "WHISPER_COMPUTE_TYPE": ("inference.compute_type", _compute_type),
    "DIARIZATION_ENABLED": ("jobs.diarize", _as_it_is),
    "MIN_SPEAKERS": ("jobs.min_speakers", _as_it_is),
    "MAX_SPEAKERS": ("jobs.max_speakers", _as_it_is),
    "POLL_INTERVAL": ("jobs.poll_wait", _poll),
    "MAX_WORKERS": ("jobs.lanes", _as_it_is),
    "LOG_LEVEL": ("server.log_level", _level),
}
"""Variable → setting, and how it is read."""
BY_OTHERS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
"""Names that boto3 reads by itself."""


def read_usual_names(environment: Mapping[str, str]) -> dict[str, tuple[object, str]]:
    """Return the settings that such an environment holds: value and variable by `section.key`.

    What is empty is not set. Raises ConfigError for an engine that is not here.
    """
    engine = environment.get(ENGINE, "").strip()
    if engine.lower() not in ENGINES:
        raise ConfigError(
            f"{ENGINE} is {engine!r}, and live-asr recognises with Whisper alone.",
            "Set it to whisper, or leave it unset.",
        )
    found: dict[str, tuple[object, str]] = {}
    for name, (setting, read) in SETTINGS.items():
        value = environment.get(name, "").strip()
        if value:
            found[setting] = (read(value), name)
    address = environment.get("NODE_API_URL", "").strip()
    if address:
        found["webhook.url"] = (_address(address, environment), "NODE_API_URL")
    secret = environment.get("WEBHOOK_SECRET", "").strip()
    if secret:
        found["webhook.secret"] = (_key(secret), "WEBHOOK_SECRET")
        found["webhook.bearer"] = (secret, "WEBHOOK_SECRET")
    return found


def _address(address: str, environment: Mapping[str, str]) -> str:
    """Return the whole address of a receiver: NODE_API_URL is often its host alone."""
    endpoint = environment.get(ENDPOINT, "").strip()
    try:
        has_path = urlsplit(address).path.strip("/") != ""
    except ValueError:
        return address  # which the setting refuses, by its name
    if endpoint:
        return address.rstrip("/") + "/" + endpoint.lstrip("/")
    return address if has_path else address.rstrip("/") + DEFAULT_ENDPOINT
