"""What is done with a session once it is over, on the real server: found, named, corrected, heard, erased."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
from docx import Document
from scripted_pass import ScriptedPass, found, turn
from serving import MODEL, NOBODY, Served, serving, settings_of
from talking import TIMEOUT, Caller, call

from live_asr.server.run import load_of
from live_asr.weights.onnx_conversion import converted
from live_asr.weights.resolver import ModelSet, Voices
from live_asr.weights.store import resolve

SECOND_BYTES = 32_000
SPEECH = slice(14 * SECOND_BYTES, 18 * SECOND_BYTES)
TURNS = (turn(0.0, 1.0, "SPEAKER_00"), turn(1.0, 2.0, "SPEAKER_01"))


def full_pass(text: str = "misses Thornton was there") -> ScriptedPass:
    return ScriptedPass(found(text, TURNS))


async def spoken(served: Served, sound: bytes, **start: Any) -> tuple[str, Caller]:
    """Bring a session to its end; return its id and who spoke."""
    async with call(served.stream, additional_headers=headers_of(served)) as caller:
        session = (await caller.start(pace="fast", final_pass=True, **start))["session"]
        await caller.send(sound)
        await caller.finished()
    return session, caller


def headers_of(served: Served) -> dict[str, str]:
    secret = served.state.settings.server.token
    return {} if secret is None else {"Authorization": f"Bearer {secret.get_secret_value()}"}


async def tag_of(served: Served, session: str) -> dict[str, str]:
    answer = await served.http.get(f"/v1/sessions/{session}/transcript.json", headers=headers_of(served))
    return {"If-Match": answer.headers["etag"]}


async def text_of(served: Served, session: str, extension: str, **params: Any) -> str:
    answer = await served.http.get(f"/v1/sessions/{session}/transcript.{extension}", params=params)
    assert answer.status_code == 200, answer.text
    return answer.text


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Look again and again until this holds."""
    async with asyncio.timeout(TIMEOUT):
        while True:
            if await holds():
                return
            await asyncio.sleep(0.05)


# Who may ----------------------------------------------------------------------------------------------


CHANGES = [
    ("DELETE", "", None),
    ("PATCH", "", {"title": "Mine"}),
    ("PUT", "/names", {"S1": "Nobody"}),
    ("POST", "/corrections", {"edits": [{"segment": 0, "text": "Nothing"}]}),
    ("DELETE", "/corrections", None),
    ("GET", "/audio", None),
]


@pytest.mark.parametrize("token", [None, "s3cret-word"])
async def test_who_has_the_audiences_link_changes_nothing(
    tmp_path: Path, models_dir: Path, sample_pcm: bytes, token: str | None
) -> None:
    flags = {"server__token": token} if token else {}
    async with serving(tmp_path, models_dir, full_pass(), storage__keep_audio=True, **flags) as served:
        session, caller = await spoken(served, sample_pcm[SPEECH])
        elsewhere = {"X-Forwarded-For": "203.0.113.9"}
        address = f"/v1/sessions/{session}"
        link = (await served.http.get(address, headers=headers_of(served))).json()["watch"]
        watching = {"Authorization": f"Bearer {link.partition('#token=')[2]}"} if token else elsewhere
        tag = await tag_of(served, session)
        for method, path, body in CHANGES:
            address = f"/v1/sessions/{session}{path}"
            answer = await served.http.request(method, address, json=body, headers=watching | tag)
            assert answer.status_code == 403, (method, path, answer.text)
            detail = answer.json()["detail"]
            assert "token" in detail and detail.endswith("."), detail
        asking = headers_of(served) if token else elsewhere
        info = (await served.http.get(f"/v1/sessions/{session}", headers=asking)).json()
        assert info["may_change"] is (token is not None)
        for key in [caller.key, headers_of(served)] if token else [caller.key]:
            answer = await served.http.put(f"/v1/sessions/{session}/names", json={"S1": "Ann"}, headers=key)
            assert answer.status_code == 200
        other = {"Authorization": "Bearer wrong"}
        assert (await served.http.delete(f"/v1/sessions/{session}", headers=other)).status_code in (401, 403)
        assert (await served.http.delete(f"/v1/sessions/{session}", headers=caller.key)).status_code == 204


async def test_without_a_token_programs_on_the_servers_own_machine_need_no_key(
    tmp_path: Path, models_dir: Path, sample_pcm: bytes
) -> None:
    async with serving(tmp_path, models_dir, full_pass()) as served:
        session, _ = await spoken(served, sample_pcm[SPEECH])
        address = f"/v1/sessions/{session}"
        assert (await served.http.get(address)).json()["may_change"] is True
        assert (await served.http.put(f"{address}/names", json={"S1": "Ann"})).status_code == 200
        wrong = {"Authorization": "Bearer wrong"}
        assert (await served.http.delete(address, headers=wrong)).status_code == 403
        assert (await served.http.delete(address)).status_code == 204
        assert (await served.http.delete(address)).status_code == 404


# Finding ----------------------------------------------------------------------------------------------


async def test_sessions_are_found_by_title_by_name_and_by_what_was_said(
    tmp_path: Path, models_dir: Path, sample_pcm: bytes
) -> None:
    async with serving(tmp_path, models_dir, full_pass("Größere Häuser 100% teurer")) as served:
        first, caller = await spoken(served, sample_pcm[SPEECH], title="Town meeting")
        served.full_pass.answers = [found("quite something else", TURNS)]
        second, other = await spoken(served, sample_pcm[SPEECH])

        async def hits(q: str) -> list[str]:
            answer = await served.http.get("/v1/sessions", params={"q": q})
            assert answer.status_code == 200, answer.text
            return [one["session"] for one in answer.json()["sessions"]]

        assert await hits("") == [second, first]
        assert await hits("GRÖSSERE häuser") == [first]
        assert await hits("town teurer") == [first], "words may be in title and text"
        assert await hits("100%") == [first]
        assert await hits("1_0") == [], "no character stands for others"
        assert await hits("häuser something") == []
        listed = (await served.http.get("/v1/sessions", params={"q": "häuser"})).json()["sessions"][0]
        assert (listed["title"], listed["excerpt"]) == ("Town meeting", "Größere Häuser 100% teurer")

        answer = await served.http.patch(
            f"/v1/sessions/{second}", json={"title": " Rehearsal "}, headers=other.key
        )
        assert answer.json() == {"title": "Rehearsal"}
        await served.http.put(
            f"/v1/sessions/{second}/names", json={"SPEAKER_00": "Nguyễn"}, headers=other.key
        )
        assert await hits("rehearsal") == await hits("nguyễn") == [second]
        info = (await served.http.get(f"/v1/sessions/{second}")).json()
        assert info["title"] == "Rehearsal"
        answer = await served.http.patch(f"/v1/sessions/{second}", json={"title": ""}, headers=other.key)
        assert answer.json() == {"title": None}
        assert await hits("rehearsal") == []
        for body in ({"title": "x" * 201}, {"title": "a\nb"}, {"title": 3}, {"name": "x"}, []):
            answer = await served.http.patch(f"/v1/sessions/{first}", json=body, headers=caller.key)
            assert (answer.status_code, answer.json()["detail"][-1]) == (422, ".")
        for q in ("x" * 201, "a " * 11):
            answer = await served.http.get("/v1/sessions", params={"q": q})
            assert (answer.status_code, "q" in answer.json()["detail"]) == (422, True)
        assert (await served.http.delete(f"/v1/sessions/{first}", headers=caller.key)).status_code == 204
        assert await hits("häuser") == []


async def test_sessions_of_a_version_without_search_are_found_after_the_next_start(
    tmp_path: Path, models_dir: Path, sample_pcm: bytes
) -> None:
    async with serving(tmp_path, models_dir, full_pass("quite singular")) as served:
        session, _ = await spoken(served, sample_pcm[SPEECH])
        with served.state.database._writing() as connection:
            connection.exec_driver_sql("DELETE FROM texts")
    async with serving(tmp_path, models_dir, full_pass()) as served:

        async def is_found() -> bool:
            answer = await served.http.get("/v1/sessions", params={"q": "singular"})
            return bool(answer.json()["sessions"])

        await until(is_found)
        assert served.state.database.unread() == []
        assert (await served.http.get("/v1/sessions")).json()["sessions"][0]["session"] == session


# Correcting -------------------------------------------------------------------------------------------


async def test_a_corrected_transcript_is_revision_2_everywhere_and_the_original_stays(
    tmp_path: Path, models_dir: Path, sample_pcm: bytes
) -> None:
    async with serving(tmp_path, models_dir, full_pass()) as served:
        session, caller = await spoken(served, sample_pcm[SPEECH])
        address = f"/v1/sessions/{session}/corrections"
        before = json.loads(await text_of(served, session, "json"))
        assert [s["text"] for s in before["segments"]] == ["misses Thornton", "was there"]
        tag = await tag_of(served, session)
        edits = [{"segment": 0, "word": 0, "text": "Margaret"}, {"segment": 1, "speaker": "SPEAKER_00"}]
        answer = await served.http.post(address, json={"edits": edits}, headers=caller.key | tag)
        assert (answer.status_code, answer.json()) == (200, {"revision": 2, "segments": 2})
        assert answer.headers["etag"] == (await tag_of(served, session))["If-Match"] != tag["If-Match"]

        after = json.loads(await text_of(served, session, "json"))
        assert (after["revision"], after["text"]) == (2, "Margaret Thornton was there")
        assert [(s["speaker"], s["text"]) for s in after["segments"]] == [
            ("SPEAKER_00", "Margaret Thornton"),
            ("SPEAKER_00", "was there"),
        ]
        assert [w["start"] for w in after["segments"][0]["words"]] == [
            w["start"] for w in before["segments"][0]["words"]
        ]
        assert json.loads(await text_of(served, session, "json", revision=1)) == before
        assert json.loads(await text_of(served, session, "json", revision=0))["revision"] == 0
        assert (await served.http.get(f"/v1/sessions/{session}/transcript.txt?revision=3")).status_code == 404
        info = (await served.http.get(f"/v1/sessions/{session}")).json()
        assert (info["revision"], [s["label"] for s in info["speakers"]]) == (2, ["SPEAKER_00"])
        assert "SPEAKER_01" in info["speakers"][0]["live_labels"], "whose lines were all given away"
        await served.http.put(f"/v1/sessions/{session}/names", json={"SPEAKER_01": "Ann"}, headers=caller.key)
        assert "Ann: Margaret Thornton was there" in await text_of(served, session, "txt")
        assert " SPEAKER_01 " not in await text_of(served, session, "rttm")
        assert "<v Ann>" in await text_of(served, session, "vtt")
        listed = (await served.http.get("/v1/sessions", params={"q": "margaret"})).json()["sessions"]
        assert [one["session"] for one in listed] == [session]
        events = (await served.http.get(f"/v1/sessions/{session}/events")).text
        assert "Margaret" in events.split('"type":"final"')[1]
        assert (await served.http.get("/v1/sessions", params={"q": "misses"})).json()["sessions"] == []

        taken = await served.http.request(
            "DELETE", address, headers=caller.key | await tag_of(served, session)
        )
        assert (taken.status_code, taken.json()["revision"]) == (200, 1)
        assert json.loads(await text_of(served, session, "json")) | {"names": {}} == before | {"names": {}}
        assert (await tag_of(served, session)) != tag, "nobody takes it for what it was before the correction"
        assert (await served.http.get(f"/v1/sessions/{session}")).json()["revision"] == 1
    async with serving(tmp_path, models_dir, full_pass()) as served:
        assert json.loads(await text_of(served, session, "json"))["text"] == "misses Thornton was there"


async def test_of_two_who_correct_the_same_the_second_is_told_and_changes_nothing(
    tmp_path: Path, models_dir: Path, sample_pcm: bytes
) -> None:
    async with serving(tmp_path, models_dir, full_pass()) as served:
        session, caller = await spoken(served, sample_pcm[SPEECH])
        headers = caller.key | await tag_of(served, session)

        async def correct(text: str) -> httpx.Response:
            body = {"edits": [{"segment": 0, "text": text}]}
            return await served.http.post(f"/v1/sessions/{session}/corrections", json=body, headers=headers)

        texts = ("One way", "Another way")
        answers = await asyncio.gather(*map(correct, texts))
        assert sorted(answer.status_code for answer in answers) == [200, 412]
        (refused,) = (answer for answer in answers if answer.status_code == 412)
        assert "fetch it once more" in refused.json()["detail"]
        made = texts[0 if answers[0].status_code == 200 else 1]
        assert json.loads(await text_of(served, session, "json"))["segments"][0]["text"] == made


REFUSED = [
    (b"", 422, "body"),
    (b"[]", 422, "body"),
    (b'{"edits": []}', 422, "edits"),
    (b'{"edits": [{"segment": 0}]}', 422, "`segment` and `text`"),
    (b'{"edits": [{"segment": 0, "text": "x", "speaker": "S1"}]}', 422, "`segment` and `text`"),
    (b'{"edits": [{"segment": -1, "text": "x"}]}', 422, "edits.0.segment"),
    (b'{"edits": [{"segment": 99, "text": "x"}]}', 422, "no segment 99"),
    (b'{"edits": [{"segment": 0, "text": "a\\nb"}]}', 422, "line breaks"),
    (b'{"edits": [{"segment": 0, "speaker": "Anna!"}]}', 422, "speaker"),
    (b'{"edits": [{"segment": 0, "speaker": "SPEAKER_07"}]}', 422, "SPEAKER_02"),
    (b'{"edits": [{"segment": 0, "words": "x"}]}', 422, "words"),
    (json.dumps({"edits": [{"segment": 0, "text": "x" * 5001}]}).encode(), 422, "5000"),
    (json.dumps({"edits": [{"segment": 0, "text": "x"}] * 1001}).encode(), 422, "1000"),
    (b" " * (1024 * 1024 + 1), 413, "parts"),
]


async def test_a_correction_that_cannot_be_made_is_refused_in_a_sentence(
    tmp_path: Path, models_dir: Path, sample_pcm: bytes
) -> None:
    async with serving(tmp_path, models_dir, full_pass()) as served:
        async with call(served.stream) as caller:
            session = (await caller.start(pace="fast", final_pass=True))["session"]
            address = f"/v1/sessions/{session}/corrections"
            tag = await tag_of(served, session)
            body = json.dumps({"edits": [{"segment": 0, "text": "x"}]}).encode()
            early = await served.http.post(address, content=body, headers=caller.key | tag)
            assert (early.status_code, "not over" in early.json()["detail"]) == (409, True)
            await caller.send(sample_pcm[SPEECH])
            await caller.finished()
        headers = caller.key | await tag_of(served, session)
        before = await text_of(served, session, "json")
        for content, status, part in REFUSED:
            answer = await served.http.post(address, content=content, headers=headers)
            assert (answer.status_code, part in answer.json()["detail"]) == (status, True), answer.text
        missing = await served.http.post(address, content=body, headers=caller.key)
        assert (missing.status_code, "If-Match" in missing.json()["detail"]) == (428, True)
        assert await text_of(served, session, "json") == before


# Hearing --------------------------------------------------------------------------------------------------


async def test_kept_audio_is_played_from_any_place(
    tmp_path: Path, models_dir: Path, sample_pcm: bytes
) -> None:
    audio = sample_pcm[SPEECH]
    async with serving(tmp_path, models_dir, full_pass(), storage__keep_audio=True) as served:
        session, caller = await spoken(served, audio)

        async def is_compressed() -> bool:
            return (served.folder(session) / "audio.flac").exists()

        await until(is_compressed)
        address = (await served.http.get(f"/v1/sessions/{session}", headers=caller.key)).json()["audio"]
        elsewhere = {"X-Forwarded-For": "203.0.113.9"}
        info = (await served.http.get(f"/v1/sessions/{session}", headers=elsewhere)).json()
        assert info["audio"] is None, "the audience reads"
        whole = await served.http.get(address)
        assert (whole.status_code, whole.headers["content-type"]) == (200, "audio/flac")
        with av.open(io.BytesIO(whole.content)) as container:
            heard = np.concatenate([frame.to_ndarray().ravel() for frame in container.decode(audio=0)])
        assert heard.astype("<i2").tobytes() == audio
        piece = await served.http.get(address, headers={"Range": "bytes=100-299"})
        assert (piece.status_code, piece.content) == (206, whole.content[100:300])
        assert piece.headers["content-range"] == f"bytes 100-299/{len(whole.content)}"
        other = address[:-1] + ("A" if address[-1] != "A" else "B")
        wrong = await served.http.get(other, headers=elsewhere)
        assert wrong.status_code == 403


async def test_raw_audio_that_no_flac_can_hold_is_played_as_wav(
    tmp_path: Path, models_dir: Path, sample_pcm: bytes
) -> None:
    samples = np.frombuffer(sample_pcm[SPEECH], "<i2").astype("<f4") / 32768
    async with serving(tmp_path, models_dir, full_pass(), storage__keep_audio=True) as served:
        encoding = {"encoding": "pcm_f32le", "sample_rate": 16_000, "channels": 1}
        session, caller = await spoken(served, samples.tobytes(), audio=encoding)
        address = f"/v1/sessions/{session}/audio"
        whole = await served.http.get(address, headers=caller.key)
        assert (whole.status_code, whole.headers["content-type"]) == (200, "audio/wav")
        assert int(whole.headers["content-length"]) == len(whole.content) == 44 + samples.nbytes
        with av.open(io.BytesIO(whole.content)) as container:
            heard = np.concatenate([frame.to_ndarray().ravel() for frame in container.decode(audio=0)])
        assert np.array_equal(heard, samples)
        size = len(whole.content)
        for wanted, first, end in (
            ("0-9", 0, 10),
            ("40-99", 40, 100),
            ("100-", 100, size),
            ("-8", size - 8, size),
        ):
            piece = await served.http.get(address, headers=caller.key | {"Range": f"bytes={wanted}"})
            assert (piece.status_code, piece.content) == (206, whole.content[first:end]), wanted
            assert piece.headers["content-range"] == f"bytes {first}-{end - 1}/{size}"
        beyond = await served.http.get(address, headers=caller.key | {"Range": f"bytes={size}-"})
        assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")


async def test_where_no_audio_is_kept_none_is_offered(
    tmp_path: Path, models_dir: Path, sample_pcm: bytes
) -> None:
    async with serving(tmp_path, models_dir, full_pass()) as served:
        session, caller = await spoken(served, sample_pcm[SPEECH])
        assert (await served.http.get(f"/v1/sessions/{session}", headers=caller.key)).json()["audio"] is None
        answer = await served.http.get(f"/v1/sessions/{session}/audio", headers=caller.key)
        assert (answer.status_code, answer.json()["detail"]) == (
            404,
            "The audio of this session is not kept.",
        )


# Documents and numbers --------------------------------------------------------------------------------


async def test_a_document_has_title_speakers_times_and_what_was_said(
    tmp_path: Path, models_dir: Path, sample_pcm: bytes
) -> None:
    async with serving(tmp_path, models_dir, full_pass()) as served:
        session, caller = await spoken(served, sample_pcm[SPEECH], title="Fish & <chips>")
        await served.http.put(f"/v1/sessions/{session}/names", json={"SPEAKER_00": "Ann"}, headers=caller.key)
        info = (await served.http.get(f"/v1/sessions/{session}")).json()
        answer = await served.http.get(info["links"]["docx"])
        assert answer.headers["content-type"].endswith("wordprocessingml.document")
        document = Document(io.BytesIO(answer.content))
        texts = [paragraph.text for paragraph in document.paragraphs]
        assert texts[0] == "Fish & <chips>" == document.core_properties.title
        assert texts[1].endswith("0:00:04") and info["created"][:10] in texts[1]
        assert texts[2:] == ["Ann  0:00:00", "misses Thornton", "Speaker 2  0:00:01", "was there"]


async def test_files_call_the_speakers_by_the_numbers_that_they_had_live(
    tmp_path: Path, models_dir: Path, sample_pcm: bytes
) -> None:
    async with serving(tmp_path, models_dir, full_pass()) as served:
        session, _ = await spoken(served, sample_pcm[SPEECH])
        assert await text_of(served, session, "txt") == (
            "Speaker 1: misses Thornton\n\nSpeaker 2: was there\n"
        )
        assert "Speaker 2: was there" in await text_of(served, session, "srt")


async def test_who_was_speaker_1_live_is_speaker_1_in_the_end(
    tmp_path: Path, models_dir: Path, encoder_file: Path, sample_pcm: bytes
) -> None:
    recognizer, detector, segmentation = (
        resolve(name, models_dir=models_dir) for name in (MODEL, "silero-vad", "segmentation-3.0")
    )
    voices = Voices("segmentation-3.0 + campplus", converted(segmentation), encoder_file)
    load = load_of(settings_of(tmp_path), ModelSet(recognizer, detector, voices, recognizer, NOBODY, ()))
    # The pass hears somebody before the one whom the captions knew as the first.
    turns = (turn(0.0, 0.2, "SPEAKER_00"), turn(0.2, 4.0, "SPEAKER_01"))
    last_heard = ScriptedPass(found("misses Thornton was there", turns))
    async with serving(tmp_path, models_dir, last_heard, load=load) as served:
        session, caller = await spoken(served, sample_pcm[SPEECH])
        said = [*caller.all("label"), *(word for one in caller.all("commit") for word in one["words"])]
        assert {one["speaker"] for one in said} - {None} == {"S1"}
        (final,) = caller.all("final")
        known = {speaker["label"]: speaker["live_labels"] for speaker in final["speakers"]}
        assert known == {"SPEAKER_01": [], "SPEAKER_00": ["S1"]}
        assert "Speaker 1: misses Thornton was there" in await text_of(served, session, "txt")


@pytest.mark.parametrize("extension", ["txt", "srt"])
async def test_a_name_in_latin_letters_does_not_turn_a_hebrew_line_of_a_file(
    tmp_path: Path, models_dir: Path, sample_pcm: bytes, extension: str
) -> None:
    hebrew = "שלום לכולם"
    async with serving(tmp_path, models_dir, ScriptedPass(found(hebrew, TURNS[:1]))) as served:
        session, caller = await spoken(served, sample_pcm[SPEECH])
        await served.http.put(f"/v1/sessions/{session}/names", json={"SPEAKER_00": "Ada"}, headers=caller.key)
        assert f"\u2068Ada\u2069: {hebrew}" in (await text_of(served, session, extension)).splitlines()
