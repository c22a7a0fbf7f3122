"""How many sessions a server takes by itself: what the machine carries, and what it tells of that."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families as families
from scripted_pass import ScriptedPass, found
from serving import Served, serving
from talking import call

SECOND_BYTES = 32_000


async def metric(served: Served, name: str) -> float:
    text = (await served.http.get("/metrics")).text
    return next(sample.value for family in families(text) for sample in family.samples if sample.name == name)


async def test_a_server_tells_what_it_carries_and_learns_what_sessions_take(
    tmp_path: Path, models_dir: Path, sample_pcm: bytes
) -> None:
    flags = {"server__admission": "load", "models__dir": str(tmp_path / "models")}
    async with serving(tmp_path, models_dir, ScriptedPass(found()), **flags) as served:
        assert len(json.loads((tmp_path / "models" / "measured.json").read_text())) == 1
        ready = (await served.http.get("/readyz")).json()
        assert ready["places"] == ready["places_free"] >= 1
        assert await metric(served, "live_asr_predicted_load") == 0
        before = served.state.registry._capacity.session_cost
        async with call(served.stream) as caller:
            assert (await caller.start(pace="fast"))["type"] == "ready"
            assert await metric(served, "live_asr_places_free") == await metric(served, "live_asr_places") - 1
            load = await metric(served, "live_asr_predicted_load")
            assert load > 0
            await caller.send(sample_pcm)
            await caller.finished()
        assert served.state.registry._capacity.session_cost != before


async def test_a_bound_is_kept_where_the_machine_carries_more_and_who_is_refused_hears_when_to_come_back(
    tmp_path: Path, models_dir: Path, sample_pcm: bytes
) -> None:
    flags = {"server__admission": "load", "server__max_sessions": 1, "models__dir": str(tmp_path / "models")}
    async with serving(tmp_path, models_dir, ScriptedPass(found()), **flags) as served:
        async with call(served.stream) as caller, call(served.stream) as other:
            await caller.start(pace="fast")
            error = await other.start()
            assert (error["code"], error["message"]) == ("server_full", "The only place is taken.")
            seconds = error["retry_after"]
            assert seconds == int(seconds) and 1 <= seconds <= 120
            assert error["hint"].startswith(f"Try again in {seconds:.0f} second")
            assert await other.closed() == 1013
            file = {"file": ("call.wav", b"RIFF", "audio/wav")}
            form = {"model": "whisper-1"}
            answer = await served.http.post("/v1/audio/transcriptions", files=file, data=form)
            assert (answer.status_code, int(answer.headers["retry-after"]) >= 1) == (429, True)
            full = await served.http.get("/readyz")
            assert (full.status_code, int(full.headers["retry-after"]) > 0) == (503, True)
            await caller.send(sample_pcm[14 * SECOND_BYTES : 16 * SECOND_BYTES])
            await caller.finished()
        async with asyncio.timeout(60):
            while (await served.http.get("/readyz")).status_code != 200:  # noqa: ASYNC110 - another's place
                await asyncio.sleep(0.05)
