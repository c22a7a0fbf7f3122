"""What operators see: the metrics of a server at work, and the dashboard and alerts that are made of them."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families as families
from scripted_pass import ScriptedPass, found
from serving import serving
from talking import call, wav

from live_asr.server.gauges import watch_outbox
from live_asr.sessions.metrics import Metrics
from live_asr.storage.database import Database, NewDelivery, sqlite_url
from live_asr.storage.records import DEAD, DELIVERED, PENDING
from tests.conftest import ROOT, Server

OPERATIONS = ROOT / "docs" / "operations"
ALERTS = OPERATIONS / "alerts.yml"
SECOND_BYTES = 32_000
QUANTITIES = re.compile(r"\b(live_asr_\w+)(?:\{([^}]*)\})?")


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    read: dict[str, Any] = json.loads((OPERATIONS / "dashboard.json").read_text())
    return read


def expressions() -> Iterator[str]:
    """All that Prometheus is asked for, by alerts and dashboard."""
    for rule in rules():
        yield rule["expr"]
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", []):
            yield target["expr"]
    for variable in dashboard()["templating"]["list"]:
        yield variable.get("definition", "")


def names_in(metrics: str) -> set[str]:
    """Return the names by which Prometheus knows what a server tells, whether it has a value yet or not."""
    told = re.findall(r"^# TYPE (\w+) (\w+)$", metrics, re.MULTILINE)
    parts = {"histogram": ("_bucket", "_sum", "_count")}
    return {name + part for name, kind in told for part in parts.get(kind, ("",))}


def test_alerts_and_dashboard_ask_for_metrics_that_a_server_has(server: Server) -> None:
    there = names_in(httpx.get(f"{server.url}/metrics").text)
    wanted = {name for expression in expressions() for name, _ in QUANTITIES.findall(expression)}
    wanted = {name for name in wanted if not name.startswith("live_asr_pool_")}  # of clusters alone
    assert "live_asr_commit_latency_seconds_bucket" in wanted
    assert wanted <= there


def test_what_an_alert_looks_for_by_a_label_is_there_before_it_happens(server: Server) -> None:
    """Else a counter would come out of nowhere at 1, in which Prometheus sees no increase."""
    told = httpx.get(f"{server.url}/metrics").text
    for rule in rules():
        for name, labels in QUANTITIES.findall(rule["expr"]):
            if "increase(" in rule["expr"] and labels:
                assert f"\n{name}{{{labels}}} " in told, rule["alert"]


def test_every_alert_says_what_it_asks_of_a_person() -> None:
    paper = (OPERATIONS / "README.md").read_text()
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
        assert {"summary", "action"} <= set(rule["annotations"]), rule["alert"]
    assert re.findall(r"^\| `(LiveAsr\w+)`", paper, re.MULTILINE) == [rule["alert"] for rule in rules()]


def test_prometheus_takes_the_alerts() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool, of Debian's package prometheus, is not installed")
    done = subprocess.run(
        [promtool, "check", "rules", str(ALERTS)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"{len(rules())} rules found" in done.stdout + done.stderr


def test_the_panels_of_the_dashboard_are_told_apart_and_lie_beside_each_other() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells


def test_every_metric_that_a_server_has_for_its_operators_is_explained(server: Server) -> None:
    """Those of a worker's jobs are in the worker's own paper."""
    told = httpx.get(f"{server.url}/metrics").text
    names = {name for name, _ in re.findall(r"^# TYPE (\w+) (\w+)$", told, re.MULTILINE)}
    explained = set(re.findall(r"`(live_asr_\w+)[`{]", (ROOT / "docs" / "operations.md").read_text()))
    unexplained = {name for name in names - explained if not name.endswith("_created")}
    assert {name for name in unexplained if not name.startswith("live_asr_jobs_")} == set()


@pytest.mark.parametrize("is_container", [False, True], ids=["raw", "container"])
async def test_a_server_at_work_measures_how_late_words_are_and_what_its_lanes_do(
    tmp_path: Path, models_dir: Path, sample_pcm: bytes, is_container: bool
) -> None:
    speech = sample_pcm[14 * SECOND_BYTES : 18 * SECOND_BYTES]
    form = {"audio": {"encoding": "container"}} if is_container else {}
    async with serving(tmp_path, models_dir, ScriptedPass(found())) as served:

        async def told() -> dict[tuple[str, str], float]:
            text = (await served.http.get("/metrics")).text
            return {
                (sample.name, next(iter(sample.labels.values()), "")): sample.value
                for family in families(text)
                for sample in family.samples
            }

        async with call(served.stream) as caller:
            await caller.start(final_pass=True, **form)
            assert (await told())["live_asr_sessions_by_state", "open"] == 1
            await caller.send(wav(speech) if is_container else speech)
            await caller.finished()
        commits = [message for message in caller.heard if message["type"] == "commit"]
        words = [word for message in commits for word in message["words"]]
        metrics = await told()
        assert len(words) > 3
        assert metrics["live_asr_commit_latency_seconds_count", ""] == len(words)
        assert metrics["live_asr_first_appearance_seconds_count", ""] > 0
        assert metrics["live_asr_commit_latency_seconds_sum", ""] > 0
        assert metrics["live_asr_batch_size_count", "final"] >= 1
        assert metrics["live_asr_batch_size_sum", "step"] == metrics["live_asr_batch_size_count", "step"] >= 1
        assert metrics["live_asr_lanes", ""] >= 1
        assert metrics["live_asr_lane_busy_seconds_total", ""] > 0
        assert metrics["live_asr_event_loop_lag_seconds_count", ""] > 0
        assert metrics["live_asr_final_passes_total", "done"] == 1
        assert metrics["live_asr_final_passes_pending", ""] == 0
        assert metrics["live_asr_webhooks", DEAD] == 0


async def test_webhooks_that_were_not_delivered_are_counted_from_the_outbox(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path / "live-asr.db"))
    database.prepare()
    for number, state in enumerate((PENDING, PENDING, DEAD, DELIVERED)):
        session = f"a{number}"
        database.add_session(session, {}, created_at=1.0)
        news = NewDelivery("http://127.0.0.1:9/hook", b"{}")
        database.finish_session(session, state="done", ended_at=2.0, delivery=news)
        (delivery,) = database.deliveries(session_id=session)
        database.record_try(delivery.id, state=state, next_at=3.0, last_status=None, last_error=None)
    metrics = Metrics()
    task = asyncio.create_task(watch_outbox(database, metrics.webhooks))

    def told() -> dict[str, float]:
        (family,) = metrics.webhooks.collect()
        return {sample.labels["state"]: sample.value for sample in family.samples}

    async with asyncio.timeout(60):
        while told() != {PENDING: 2, DEAD: 1}:  # noqa: ASYNC110 - it tells nobody that it has counted
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    database.close()
