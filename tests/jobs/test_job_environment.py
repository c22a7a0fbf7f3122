"""The environment of a worker that is replaced, as it stands, and where each setting came from."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from live_asr.config.settings import Loaded, load_settings
from live_asr.core.errors import ConfigError
from live_asr.delivery.signature import signed_headers, webhook_secret
from live_asr.jobs.environment import read_usual_names
from tests.started import MODEL, ROOT

USUAL = {
    "AWS_ACCESS_KEY_ID": "AKIA",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_REGION": "ap-southeast-1",
    "AWS_S3_BUCKET": "recordings",
    "AWS_SQS_ASR_QUEUE_URL": "https://sqs.ap-southeast-1.amazonaws.com/1/asr",
    "NODE_API_URL": "http://localhost:8080",
    "WEBHOOK_SECRET": "your_webhook_secret",
    "ASR_ENGINE": "whisper",
    "WHISPER_MODEL": "large",
    "WHISPER_LANGUAGE": "vi",
    "WHISPER_DEVICE": "cpu",
    "WHISPER_COMPUTE_TYPE": "int8",
    "DIARIZATION_ENABLED": "true",
    "HUGGINGFACE_TOKEN": "hf_x",
    "MIN_SPEAKERS": "1",
    "MAX_SPEAKERS": "5",
    "POLL_INTERVAL": "5",
    "MAX_WORKERS": "3",
    "LOG_LEVEL": "INFO",
}
"""All names that such a `.env` has."""


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work where no live-asr.toml lies."""
    monkeypatch.chdir(tmp_path)


def load(**environment: str) -> Loaded:
    return load_settings(environment=environment, usual_names=read_usual_names)


def test_all_names_work_as_they_stand() -> None:
    loaded = load(**USUAL)
    settings = loaded.settings
    jobs = settings.jobs
    assert jobs.queue_url == "https://sqs.ap-southeast-1.amazonaws.com/1/asr"
    assert (jobs.region, jobs.bucket, jobs.lanes, jobs.poll_wait) == ("ap-southeast-1", "recordings", 3, 5)
    assert (jobs.diarize, jobs.min_speakers, jobs.max_speakers) == (True, 1, 5)
    assert (settings.models.recognizer, settings.streaming.language) == ("large-v3", "vi")
    assert (settings.inference.device, settings.inference.compute_type) == ("cpu", "int8")
    assert settings.server.log_level == "info"
    assert settings.webhook.url == "http://localhost:8080/api/v1/webhooks/asr-complete"
    assert settings.webhook.bearer is not None and settings.webhook.secret is not None
    assert settings.webhook.bearer.get_secret_value() == "your_webhook_secret"
    assert loaded.origins["models.recognizer"] == "WHISPER_MODEL"
    assert loaded.origins["webhook.url"] == "NODE_API_URL"
    assert loaded.origins["server.port"] == "default"


def test_ours_come_first_and_files_last_and_what_is_empty_is_not_set(tmp_path: Path) -> None:
    (tmp_path / "live-asr.toml").write_text("[jobs]\nlanes = 7\nmin_speakers = 2\n")
    loaded = load(**USUAL | {"MIN_SPEAKERS": ""}, LIVE_ASR_MODELS__RECOGNIZER="tiny")
    assert loaded.settings.models.recognizer == "tiny"
    assert loaded.origins["models.recognizer"] == "LIVE_ASR_MODELS__RECOGNIZER"
    assert (loaded.settings.jobs.lanes, loaded.settings.jobs.min_speakers) == (3, 2)


def test_nobody_but_the_worker_reads_them() -> None:
    assert load_settings(environment=USUAL).settings.models.recognizer == "auto"


@pytest.mark.parametrize(
    ("address", "endpoint", "url"),
    [
        ("https://api.example.com", "", "https://api.example.com/api/v1/webhooks/asr-complete"),
        ("https://api.example.com/", "hooks/asr", "https://api.example.com/hooks/asr"),
        ("https://api.example.com/hooks/asr?x=1", "", "https://api.example.com/hooks/asr?x=1"),
    ],
)
def test_the_platform_s_address_is_its_host_or_all_of_it(address: str, endpoint: str, url: str) -> None:
    settings = load(NODE_API_URL=address, WEBHOOK_ENDPOINT=endpoint).settings
    assert settings.webhook.url == url


@pytest.mark.parametrize("secret", ["s", "your_webhook_secret", "gehört ß", "x" * 40, "x" * 100])
def test_any_secret_signs_as_its_bytes_do_by_the_standard_s_own_library(secret: str, tmp_path: Path) -> None:
    settings = load(WEBHOOK_SECRET=secret).settings.webhook
    headers = signed_headers(webhook_secret(settings, tmp_path), "msg_1", b"{}", time.time())
    by_its_bytes = Webhook("whsec_" + base64.b64encode(secret.encode()).decode())
    assert by_its_bytes.verify(b"{}", headers) == {}


def test_a_key_of_the_standard_s_is_taken_as_it_is(tmp_path: Path) -> None:
    key = "whsec_" + base64.b64encode(bytes(range(32))).decode()
    assert webhook_secret(load(WEBHOOK_SECRET=key).settings.webhook, tmp_path) == key


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("ASR_ENGINE", "google", "ASR_ENGINE is 'google'"),
        ("MAX_WORKERS", "many", "(set by MAX_WORKERS)"),
        ("WHISPER_DEVICE", "tpu", "(set by WHISPER_DEVICE)"),
        ("NODE_API_URL", "localhost", "(set by NODE_API_URL)"),
        ("LOG_LEVEL", "loud", "(set by LOG_LEVEL)"),
        ("POLL_INTERVAL", "often", "(set by POLL_INTERVAL)"),
    ],
)
def test_what_cannot_be_is_refused_by_the_name_that_was_set(name: str, value: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(**{name: value})
    assert fault in caught.value.message


def test_the_command_line_shows_where_each_came_from_and_keeps_secrets() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "live_asr.cli", "config", "--worker"],
        capture_output=True,
        text=True,
        env={**os.environ, **USUAL, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]])},
        check=True,
    ).stdout
    lines = {line.split()[0]: line for line in said.splitlines()}
    assert lines["jobs.lanes"].split()[1:] == ["3", "MAX_WORKERS"]
    assert lines["models.recognizer"].split()[1:] == ["large-v3", "WHISPER_MODEL"]
    assert lines["webhook.secret"].split()[1:] == ["********", "WEBHOOK_SECRET"]
    assert "your_webhook_secret" not in said


def test_the_worker_s_weights_are_pulled_by_the_names_of_its_environment(models_dir: Path) -> None:
    more = {
        "WHISPER_MODEL": MODEL,
        "WHISPER_LANGUAGE": "en",
        "LIVE_ASR_MODELS__DIR": str(models_dir),
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]]),
    }
    done = subprocess.run(
        [sys.executable, "-m", "live_asr.cli", "models", "pull", "--worker"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **USUAL, **more},
    )
    assert f"{MODEL}: {models_dir}" in done.stdout, done.stderr


def test_a_worker_without_a_queue_says_what_to_set() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "live_asr.cli", "worker"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]])},
        check=False,
    )
    assert done.returncode == 2
    assert "AWS_SQS_ASR_QUEUE_URL" in done.stderr
