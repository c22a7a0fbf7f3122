"""The key that deliveries are signed with, and the headers that carry the signature (Standard Webhooks)."""

from __future__ import annotations

import base64
import binascii
import secrets
from datetime import UTC, datetime
from pathlib import Path

from standardwebhooks import Webhook

from live_asr.config.settings import WebhookSettings
from live_asr.core.errors import ConfigError, StorageError
from live_asr.storage.secrets import kept_secret

SECRET_FILE = "webhook.secret"
PREFIX = "whsec_"
KEY_BYTES = 32
FEWEST_BYTES, MAX_BYTES = 24, 64
"""Length of a key, as the standard has it."""


def webhook_secret(settings: WebhookSettings, data: Path) -> str:
    """Return the key: the configured one, else the one kept in the data folder, else a new one kept there.

    The file is the owner's alone. Raises ConfigError for a configured key that is none, and StorageError
    for a kept one that is none or where none can be kept; no message repeats a key.
    """
    if settings.secret is not None:
        secret = settings.secret.get_secret_value().strip()
        if not is_secret(secret):
            raise ConfigError(
                "webhook.secret is no key of Standard Webhooks.",
                f"Write {PREFIX} and {FEWEST_BYTES} to {MAX_BYTES} random bytes in base64, "
                "or leave it unset: one is made then.",
            )
        return secret
    path = data / SECRET_FILE
    try:
        secret = kept_secret(path, lambda: PREFIX + base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode())
    except OSError as error:
        raise StorageError(
            f"The key of the webhooks cannot be kept in {path}: {error.strerror or error}.",
            "Use --data to name a folder that this user can write to, or set webhook.secret.",
        ) from error
    if not is_secret(secret):
        raise StorageError(
            f"{path} holds no key of Standard Webhooks.",
            "Put the key back, or remove the file: a new key is made then, and receivers must be told of it.",
        )
    return secret


def is_secret(text: str) -> bool:
    """Tell whether `text` is `whsec_` and the base64 of a key of a lawful length."""
    if not text.startswith(PREFIX):
        return False
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return False
    return FEWEST_BYTES <= len(key) <= MAX_BYTES


def signed_headers(secret: str, delivery_id: str, body: bytes, now: float) -> dict[str, str]:
    """Return `webhook-id`, `webhook-timestamp` and `webhook-signature`; `now` is Unix time in seconds."""
    signature = Webhook(secret).sign(delivery_id, datetime.fromtimestamp(int(now), UTC), body.decode())
    return {
        "webhook-id": delivery_id,
        "webhook-timestamp": str(int(now)),
        "webhook-signature": signature,
    }
