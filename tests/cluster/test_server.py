"""A server whose recognition is done in a Ray cluster: the same words, and it says what it runs on."""

from __future__ import annotations

import json
import os
import re
import signal
from uuid import uuid4

import httpx
import psutil

from tests.ray_cluster import Cluster
from tests.server.talking import call, eventually, recite
from tests.started import MODEL, ROOT, Server, StartServer

DASHBOARD = ROOT / "docs" / "operations" / "dashboard.json"


def settings_of(cluster: Cluster, **more: str) -> dict[str, str]:
    namespace = f"test-{uuid4().hex[:8]}"
    engine = {"LIVE_ASR_INFERENCE__ENGINE": cluster.address, "LIVE_ASR_CLUSTER__NAMESPACE": namespace}
    return {**cluster.environment, **engine, **more}


async def test_a_recording_has_the_same_words_wherever_it_is_recognised(
    server: Server, start_server: StartServer, cluster: Cluster, sample_pcm: bytes
) -> None:
    here = await recite(server.stream, sample_pcm)
    there_server = start_server(**settings_of(cluster))
    there = await recite(there_server.stream, sample_pcm)
    assert there.text == here.text
    assert there.all("commit") == here.all("commit"), "word by word: times, probabilities and speakers"
    ready = json.loads(asked(there_server, "readyz"))
    assert (ready["model"], ready["device"]) == (MODEL, "cpu")
    assert there_server.metric("live_asr_lanes") == 1
    assert there_server.metric("live_asr_pool_workers") == 1
    shown = set(re.findall(r"live_asr_pool_\w+", DASHBOARD.read_text()))
    assert shown <= set(re.findall(r"^# TYPE (\w+)", asked(there_server, "metrics"), re.MULTILINE))
    await eventually(lambda: "live_asr_pool_windows_total{" in asked(there_server, "metrics"))


async def test_a_worker_that_is_killed_while_somebody_speaks_costs_no_word(
    server: Server, start_server: StartServer, cluster: Cluster, sample_pcm: bytes
) -> None:
    expected = (await recite(server.stream, sample_pcm)).text
    there = start_server(**settings_of(cluster, LIVE_ASR_CLUSTER__FULL_PASSES="0"))
    known = workers()
    async with call(there.stream) as caller:
        await caller.start(pace="fast")
        await caller.send(sample_pcm)
        await caller.until("commit")
        for pid in known & workers():
            os.kill(pid, signal.SIGKILL)
        await caller.finished()
        assert caller.text == expected
    assert there.metric("live_asr_pool_worker_deaths_total") >= 1


def asked(server: Server, path: str) -> str:
    return httpx.get(f"{server.url}/{path}").text


def workers() -> set[int]:
    """Return the processes of the cluster that recognise."""
    return {
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if any("RecognizerActor" in part for part in process.info["cmdline"] or ())
    }
