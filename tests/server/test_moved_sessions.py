"""Two servers on one PostgreSQL and one bucket: what is said at one is played at the other, from there."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import av
import httpx
import numpy as np
import pytest
from talking import TIMEOUT, call, eventually, finished_record

from benchmarks.jobs.aws import BUCKET, Aws
from live_asr.storage.database import Database
from tests.postgres import new_database, postgres
from tests.started import MODEL, StartServer

SECOND_BYTES = 32_000


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with postgres() as url:
        yield new_database(url)


def rows_of_audio(url: str) -> int:
    database = Database(url)
    with database.transaction(writes=False) as connection:
        count: int = connection.exec_driver_sql("SELECT count(*) FROM journal_audio").scalar_one()
    database.close()
    return count


async def test_a_session_of_a_server_that_is_killed_is_in_the_bucket_and_played_at_the_other(
    start_server: StartServer, database: str, s3_server: Aws, sample_pcm: bytes
) -> None:
    settings = {
        **s3_server.environment,
        "LIVE_ASR_STORAGE__JOURNAL": database,
        "LIVE_ASR_STORAGE__OBJECTS": f"s3://{BUCKET}/talks",
        "LIVE_ASR_STORAGE__KEEP_AUDIO": "true",
    }
    one, other = start_server(**settings), start_server(**settings)
    speech = sample_pcm[14 * SECOND_BYTES : 20 * SECOND_BYTES]
    async with call(one.stream) as caller:
        ready = await caller.start(pace="fast")
        await caller.send(speech)
        await caller.when(lambda: bool(caller.acks) and caller.acks[-1][0] == len(speech))
        one.process.kill()
        await caller.closed()
    one.process.wait()
    session = ready["session"]
    done = await finished_record(other.url, session)
    await eventually(lambda: f"session {session} is in s3://{BUCKET}/talks" in other.log.read_text())
    assert await asyncio.to_thread(rows_of_audio, database) == 0
    kept = s3_server.s3.get_object(Bucket=BUCKET, Key=f"talks/{session}/result.json")["Body"].read()
    assert json.loads(kept)["text"] == done["text"]
    async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT, follow_redirects=True) as http:
        audio = (await http.get(f"{other.url}/v1/sessions/{session}")).json()["audio"]
        played = await http.get(other.url + audio)
        assert played.url.port != httpx.URL(other.url).port, "it comes from the bucket"
        with av.open(BytesIO(played.content), format="flac") as container:
            frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
        assert np.concatenate(frames, axis=1).astype("<i2").tobytes() == speech
        assert (await http.delete(f"{other.url}/v1/sessions/{session}")).status_code == 204
    assert "Contents" not in s3_server.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"talks/{session}/")
    assert "Traceback" not in other.log.read_text()


async def test_a_server_that_may_not_use_its_object_store_ends_and_says_why(
    s3_server: Aws, models_dir: Path, tmp_path: Path
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "live_asr.cli", "serve", "--port", "0", "--model", MODEL),
        *("--data", str(tmp_path)),
        env={
            **os.environ,
            **s3_server.environment,
            "LIVE_ASR_MODELS__DIR": str(models_dir),
            "LIVE_ASR_STORAGE__OBJECTS": "s3://no-such-bucket/talks",
        },
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    assert process.returncode == 1
    said = errors.decode()
    assert "The object store s3://no-such-bucket/talks has no such bucket" in said
    assert "Traceback" not in said
