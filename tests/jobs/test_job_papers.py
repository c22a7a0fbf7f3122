"""What docs/worker.md and the examples beside it say is so."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest
import yaml

from live_asr.config.settings import known_keys
from live_asr.jobs.environment import BY_OTHERS, ENDPOINT, ENGINE, HUB_TOKEN, SETTINGS
from live_asr.jobs.messages import read_body
from tests.started import ROOT

PAPER = (ROOT / "docs" / "worker.md").read_text()
EXAMPLES = ROOT / "examples" / "worker"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.+?)```", PAPER, re.DOTALL)


def test_the_example_of_a_message_is_a_job_and_the_policy_is_json() -> None:
    message, policy = blocks("json")
    (job,) = read_body(message)
    assert (job.job_id, job.presentation_id, job.rest) == (123, 456, {"timestamp": "2026-01-22T10:30:00Z"})
    actions = [
        action
        for statement in json.loads(policy)["Statement"]
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    ]
    assert all(not action.endswith("*") for action in actions)
    terraform = (EXAMPLES / "main.tf").read_text()
    assert set(actions) == set(re.findall(r'"((?:sqs|s3):\w+)"', terraform))


def test_the_table_of_variables_names_all_that_are_read() -> None:
    table = PAPER.partition("## The environment")[2].partition("## ")[0]
    named = set(re.findall(r"`([A-Z][A-Z0-9_]+)`", table))
    read = {*SETTINGS, *BY_OTHERS, HUB_TOKEN, ENGINE, ENDPOINT, "NODE_API_URL", "WEBHOOK_SECRET"}
    assert read | {"AWS_ENDPOINT_URL"} == named


def test_every_setting_that_is_named_exists() -> None:
    sections = {key.partition(".")[0] for key in known_keys()}
    named = {
        name for name in re.findall(r"`([a-z]+\.[a-z_]+)[`=]", PAPER) if name.partition(".")[0] in sections
    }
    assert named and named <= known_keys().keys()


def test_moving_over_takes_five_lines() -> None:
    assert len(blocks("sh")[0].strip().splitlines()) == 5


def test_the_compose_file_runs_a_worker_that_keeps_its_outbox() -> None:
    service = yaml.safe_load((EXAMPLES / "compose.yaml").read_text())["services"]["worker"]
    assert service["command"] == [".venv/bin/live-asr", "worker"]
    assert "data:/data" in service["volumes"]
    assert service["build"]["target"] in (ROOT / "Dockerfile").read_text()
    assert (EXAMPLES / service["build"]["context"]).resolve() == ROOT
    assert "EXTRAS=server,jobs" in (ROOT / "Dockerfile").read_text()


@pytest.mark.skipif(shutil.which("terraform") is None, reason="there is no terraform here")
def test_the_snippet_for_terraform_is_well_formed() -> None:
    done = subprocess.run(
        ["terraform", "fmt", "-check", "main.tf"], cwd=EXAMPLES, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
