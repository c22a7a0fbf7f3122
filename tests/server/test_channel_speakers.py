"""Two channels that are two speakers, with the real model and a real call: live, in the end, and resumed."""

from __future__ import annotations

import asyncio
import io
import wave

import httpx
import numpy as np
import pytest
from talking import Caller, call, plain_words, recite

from tests.started import Server, StartServer

SECOND_BYTES = 32_000


@pytest.fixture(scope="module")
def sides(sample_pcm: bytes) -> tuple[bytes, bytes]:
    """Two stretches of the call, of 6 s each, as two who speak one after the other."""
    return sample_pcm[6 * SECOND_BYTES : 12 * SECOND_BYTES], sample_pcm[14 * SECOND_BYTES : 20 * SECOND_BYTES]


@pytest.fixture(scope="module")
def stereo(sides: tuple[bytes, bytes]) -> bytes:
    """The first speaks on the left, then the second on the right; `pcm_s16le`, two channels."""
    left, right = (np.frombuffer(side, "<i2") for side in sides)
    silence = np.zeros(16_000, "<i2")
    first = np.concatenate((left, silence, np.zeros_like(right), silence))
    second = np.concatenate((np.zeros_like(left), silence, right, silence))
    return np.stack((first, second), axis=1).tobytes()


AUDIO = {"channels": 2}


@pytest.fixture(scope="module")
def heard(server: Server, stereo: bytes) -> Caller:
    """What was heard of both, sent as a recording, and what the full pass made of it."""
    return asyncio.run(
        recite(server.stream, stereo, audio=AUDIO, channel_speakers=True, language="en", final_pass=True)
    )


async def alone(server: Server, side: bytes, before: float) -> list[str]:
    """Return the words of one side as the only one, as far into its session as in the stereo one."""
    silence = bytes(int(before * SECOND_BYTES)), bytes(SECOND_BYTES)
    caller = await recite(server.stream, silence[0] + side + silence[1], language="en", diarize=False)
    return caller.words


def words_of(caller: Caller, speaker: str) -> list[str]:
    said = [word for m in caller.all("commit") for word in m["words"] if word["speaker"] == speaker]
    return plain_words("".join(word["text"] for word in said))


async def test_each_channel_has_the_words_that_it_has_alone(
    server: Server, heard: Caller, sides: tuple[bytes, bytes]
) -> None:
    first, second = await alone(server, sides[0], 0.0), await alone(server, sides[1], 7.0)
    assert len(first) > 5 and len(second) > 5
    assert words_of(heard, "S1") == first
    assert words_of(heard, "S2") == second


def test_the_record_is_in_order_and_every_utterance_has_one_speaker(heard: Caller) -> None:
    utterances = heard.all("utterance")
    assert [u["start"] for u in utterances] == sorted(u["start"] for u in utterances)
    speakers = [u["speaker"] for u in utterances]
    assert speakers == sorted(speakers) and set(speakers) == {"S1", "S2"}
    assert {m["channel"] for m in heard.all("speech")} == {0, 1}
    assert not heard.all("label")


async def test_the_full_pass_keeps_the_channels_and_so_do_the_exports(server: Server, heard: Caller) -> None:
    (final,) = heard.all("final")
    assert final["labels"] == "full"
    starts = [segment["start"] for segment in final["segments"]]
    assert starts == sorted(starts)
    for segment in final["segments"]:
        assert segment["speaker"] == ("SPEAKER_00" if segment["start"] < 6.5 else "SPEAKER_01")
    assert [(one["label"], one["live_labels"]) for one in final["speakers"]] == [
        ("SPEAKER_00", ["S1"]),
        ("SPEAKER_01", ["S2"]),
    ]
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as http:
        rttm = (await http.get(final["links"]["rttm"])).text.splitlines()
    assert {line.split()[7] for line in rttm} == {"SPEAKER_00", "SPEAKER_01"}


async def test_a_stereo_file_is_heard_as_samples_are(server: Server, heard: Caller, stereo: bytes) -> None:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(stereo)
    contained = await recite(
        server.stream,
        out.getvalue(),
        audio={"encoding": "container"},
        channel_speakers=True,
        language="en",
    )
    assert [words_of(contained, s) for s in ("S1", "S2")] == [words_of(heard, s) for s in ("S1", "S2")]


async def test_a_session_whose_line_breaks_goes_on_with_both(
    start_server: StartServer, heard: Caller, stereo: bytes
) -> None:
    """Its audio comes in two halves, over two connections; the second is cut within the second speaker."""
    server = start_server(LIVE_ASR_SERVER__RESUME_WINDOW="60")
    cut = 9 * 2 * SECOND_BYTES
    opening = {"audio": AUDIO, "channel_speakers": True, "language": "en", "pace": "fast"}
    async with call(server.stream) as caller:
        ready = await caller.start(**opening)
        await caller.send(stereo[:cut])
        await caller.until("commit")
        last_seq = max(m["seq"] for m in caller.heard if "seq" in m)
        kept = caller.all("commit")
    async with call(server.stream) as again:
        resume = {"session": ready["session"], "token": ready["token"], "last_seq": last_seq}
        ready = await again.start(resume=resume)
        await again.send(stereo[ready["received_bytes"] :])
        await again.finished()
    again.heard = [*kept, *again.heard]
    assert [words_of(again, s) for s in ("S1", "S2")] == [words_of(heard, s) for s in ("S1", "S2")]


async def test_what_cannot_be_is_refused(server: Server) -> None:
    async with call(server.stream) as caller:
        refused = await caller.start(channel_speakers=True)
        assert (refused["code"], await caller.closed()) == ("bad_message", 1007)
        assert "audio.channels" in refused["message"]
