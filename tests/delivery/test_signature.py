"""The key of the webhooks, and the signature as the library of the standard checks it."""

from __future__ import annotations

import base64
import json
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from live_asr.config.settings import WebhookSettings
from live_asr.core.errors import ConfigError, StorageError
from live_asr.delivery.signature import is_secret, signed_headers, webhook_secret

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
BODY = json.dumps({"transcript": "Xin chào 🎤"}, ensure_ascii=False).encode()


def test_the_configured_key_is_used_and_nothing_is_kept(tmp_path: Path) -> None:
    assert webhook_secret(WebhookSettings(secret=SECRET), tmp_path) == SECRET
    assert list(tmp_path.iterdir()) == []


def test_without_one_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: webhook_secret(WebhookSettings(), data), range(8)))
    (secret,) = found
    assert is_secret(secret)
    (file,) = data.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert webhook_secret(WebhookSettings(), data) == secret
    assert webhook_secret(WebhookSettings(), tmp_path / "other") != secret


@pytest.mark.parametrize("secret", ["hunter2", "whsec_hunter2!", "whsec_aHVudGVyMg==", "whsec_" + "A" * 200])
def test_a_configured_key_that_is_none_is_refused_without_being_repeated(secret: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no key") as caught:
        webhook_secret(WebhookSettings(secret=secret), tmp_path)
    assert secret not in str(caught.value)


def test_a_kept_key_that_was_spoilt_is_refused_and_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "webhook.secret").write_text("hunter2")
    with pytest.raises(StorageError, match="holds no key") as caught:
        webhook_secret(WebhookSettings(), tmp_path)
    assert "hunter2" not in str(caught.value)
    assert (tmp_path / "webhook.secret").read_text() == "hunter2"


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be kept"):
        webhook_secret(WebhookSettings(), tmp_path / "file")


def test_the_library_accepts_the_signature_and_refuses_another_body_or_key() -> None:
    headers = signed_headers(SECRET, "msg_1", BODY, time.time())
    assert Webhook(SECRET).verify(BODY, headers)["transcript"] == "Xin chào 🎤"
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(BODY + b" ", headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(BODY, {**headers, "webhook-id": "msg_2"})
    with pytest.raises(WebhookVerificationError):
        Webhook(base64.b64encode(bytes(32)).decode()).verify(BODY, headers)


def test_an_old_signature_is_refused_by_the_library() -> None:
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(SECRET).verify(BODY, signed_headers(SECRET, "msg_1", BODY, time.time() - 600))
