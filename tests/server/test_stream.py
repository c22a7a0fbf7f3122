"""`/v1/stream` with the real model and a real call: what a client gets that does everything right."""

from __future__ import annotations

import asyncio
import io
import random
from collections.abc import Callable
from itertools import accumulate, pairwise

import av
import httpx
import numpy as np
import pytest
import soxr
from numpy.typing import NDArray
from talking import Caller, Message, call, likeness, plain_words, recite

from live_asr import __version__
from live_asr.core.audio import alaw_table, mulaw_table
from tests.started import Server

Samples = NDArray[np.float32]
SECOND_BYTES = 32_000
STILL_THE_SAME = 0.8
"""So many of the words must survive a telephone's encoding, or steps that came late."""


@pytest.fixture(scope="module")
def speech(sample_pcm: bytes) -> bytes:
    """Nine seconds of the call in which both speak."""
    return sample_pcm[14 * SECOND_BYTES : 23 * SECOND_BYTES]


@pytest.fixture(scope="module")
def samples(speech: bytes) -> Samples:
    return np.frombuffer(speech, "<i2").astype(np.float32) / 32768


@pytest.fixture(scope="module")
def recording(server: Server, sample_pcm: bytes) -> Caller:
    """What was heard of the whole call, sent as a recording, and what the full pass made of it."""
    return asyncio.run(recite(server.stream, sample_pcm, final_pass=True))


@pytest.fixture(scope="module")
def excerpt(server: Server, speech: bytes) -> Caller:
    """What was heard of the nine seconds, sent as a recording."""
    return asyncio.run(recite(server.stream, speech))


@pytest.fixture(scope="module")
def talk(server: Server, speech: bytes) -> Caller:
    """What was heard of the nine seconds, spoken in real time, and of a word cut short by `finalize`."""

    async def run() -> Caller:
        async with call(server.stream) as caller:
            await caller.start()
            await caller.speak(speech[: 5 * SECOND_BYTES])
            await caller.say("finalize")
            await caller.speak(speech[5 * SECOND_BYTES :])
            await caller.finished()
        return caller

    return asyncio.run(run())


# A recording --------------------------------------------------------------------------------------


def test_ready_says_what_a_client_needs(recording: Caller) -> None:
    ready = recording.heard[0]
    assert ready["type"] == "ready"
    assert ready["session"].isalnum()
    assert len(ready["token"]) > 20
    assert (ready["received_bytes"], ready["last_seq"]) == (0, 0)
    assert ready["max_unacked_bytes"] == 1_048_576
    recognizer = ready["models"]["recognizer"]
    assert (recognizer["name"], recognizer["languages"], recognizer["device"]) == ("tiny.en", ["en"], "cpu")
    assert recognizer["compute_type"].startswith("int8")
    assert ready["models"]["speech_detector"] == {"name": "silero-vad"}
    assert ready["server"] == {"name": "live-asr", "version": __version__}


def test_the_call_is_written_down(recording: Caller) -> None:
    assert likeness(recording.words, plain_words("this is diane in new jersey and i'm sheila")) > 0.85


def test_commits_concatenate_to_the_transcript_and_their_words_to_them(recording: Caller) -> None:
    for commit in recording.all("commit"):
        assert "".join(word["text"] for word in commit["words"]) == commit["text"]
    (stopped,) = recording.all("stopped")
    assert recording.text == stopped["text"]


def test_words_follow_each_other_within_the_audio(recording: Caller) -> None:
    words = [word for commit in recording.all("commit") for word in commit["words"]]
    times = [time for word in words for time in (word["start"], word["end"])]
    assert times == sorted(times)
    assert 0 <= times[0] < times[-1] <= 30
    assert all(0 < word["probability"] <= 1 for word in words)


def test_kept_messages_are_numbered_without_gaps_and_others_not_at_all(recording: Caller) -> None:
    kept = [message for message in recording.heard if "seq" in message]
    assert [message["seq"] for message in kept] == list(range(1, len(kept) + 1))
    assert {message["type"] for message in kept} - {"label"} == {"commit", "utterance", "stopped", "final"}


def test_acknowledgements_grow_to_all_that_was_sent_and_never_beyond(
    recording: Caller, sample_pcm: bytes
) -> None:
    positions = [position for position, _ in recording.acks]
    assert positions == sorted(set(positions))
    assert all(position <= sent for position, sent in recording.acks)
    assert positions[-1] == len(sample_pcm)


def test_each_utterance_is_the_sum_of_its_commits(recording: Caller) -> None:
    utterances = recording.all("utterance")
    assert [u["utterance"] for u in utterances] == list(range(len(utterances)))
    for utterance in utterances:
        commits = [c for c in recording.all("commit") if c["utterance"] == utterance["utterance"]]
        assert "".join(c["text"] for c in commits).strip() == utterance["text"]
        assert utterance["start"] == commits[0]["words"][0]["start"]
        assert utterance["end"] == commits[-1]["words"][-1]["end"]
        assert utterance["language"] == "en"


def test_speech_starts_and_ends_in_turn(recording: Caller) -> None:
    speech = recording.all("speech")
    assert [s["state"] for s in speech] == ["started", "ended"] * (len(speech) // 2)
    assert [s["time"] for s in speech] == sorted(s["time"] for s in speech)


def test_partials_say_what_may_change_and_are_cleared_in_the_end(recording: Caller) -> None:
    partials = recording.all("partial")
    assert any(partial["text"] for partial in partials)
    assert (partials[-1]["text"], partials[-1]["words"]) == ("", [])
    for partial in partials:
        assert "".join(word["text"] for word in partial["words"]) == partial["text"]


def test_final_follows_stopped_and_says_who_said_what(recording: Caller) -> None:
    stopped, final = [message for message in recording.heard if "seq" in message][-2:]
    assert (stopped["type"], final["type"]) == ("stopped", "final")
    assert recording.heard[-1] == final
    assert (stopped["duration"], final["duration"]) == (30.0, 30.0)
    assert (final["revision"], final["language"], final["labels"]) == (1, "en", "full")
    assert likeness(plain_words(final["text"]), recording.words) > STILL_THE_SAME
    words = [word for segment in final["segments"] for word in segment["words"]]
    assert "".join(word["text"] for word in words) == final["text"]
    labels = [speaker["label"] for speaker in final["speakers"]]
    assert labels == ["SPEAKER_00", "SPEAKER_01"]
    assert {word["speaker"] for word in words} == set(labels)
    shown = {word["speaker"] for commit in recording.all("commit") for word in commit["words"]}
    shown |= {label["speaker"] for label in recording.all("label")}
    mapped = [live for speaker in final["speakers"] for live in speaker["live_labels"]]
    assert sorted(mapped) == sorted(shown - {None}), "every live label is mapped, and once"


def test_the_full_pass_tells_how_far_it_is_between_stopped_and_final(recording: Caller) -> None:
    kinds = [message["type"] for message in recording.heard if message["type"] != "ack"]
    after = kinds[kinds.index("stopped") + 1 :]
    assert after == ["progress"] * (len(after) - 1) + ["final"]
    fractions = [message["fraction"] for message in recording.all("progress")]
    assert fractions == sorted(fractions)
    assert 0 <= fractions[0] <= fractions[-1] <= 1
    stages = [message["stage"] for message in recording.all("progress")]
    assert stages[0] == "loading"
    assert set(stages) <= {"loading", "segmentation", "embeddings", "clustering", "recognition"}


def test_without_a_full_pass_final_repeats_the_live_record(excerpt: Caller) -> None:
    (stopped,), (final,) = excerpt.all("stopped"), excerpt.all("final")
    assert final["text"] == stopped["text"]
    assert excerpt.all("progress") == []
    words = [word for segment in final["segments"] for word in segment["words"]]
    live = [word for commit in excerpt.all("commit") for word in commit["words"]]
    assert [word | {"speaker": None} for word in words] == [word | {"speaker": None} for word in live]
    assert final["labels"] == "live"
    assert {word["speaker"] for word in words} <= {None, "SPEAKER_00", "SPEAKER_01", "SPEAKER_02"}


async def test_a_session_that_wants_no_speakers_gets_none(server: Server, speech: bytes) -> None:
    caller = await recite(server.stream, speech, diarize=False)
    (final,) = caller.all("final")
    assert (caller.all("label"), final["speakers"], final.get("labels")) == ([], [], None)
    words = [word for commit in caller.all("commit") for word in commit["words"]]
    assert {word["speaker"] for word in words} == {None}


def test_the_links_of_final_lead_to_the_transcript(server: Server, recording: Caller) -> None:
    (final,) = recording.all("final")
    assert set(final["links"]) == {"json", "vtt", "srt", "txt", "docx", "rttm"}
    for name, path in final["links"].items():
        answer = httpx.get(server.url + path)
        assert answer.status_code == 200, name
        assert answer.text.strip(), name
    fetched = httpx.get(server.url + final["links"]["json"]).json()
    assert (fetched["text"], fetched["revision"]) == (final["text"].strip(), 1)


# In real time -------------------------------------------------------------------------------------


def test_a_talk_is_acknowledged_at_least_once_a_second(talk: Caller, speech: bytes) -> None:
    # In the audio's own time: no acknowledgement may lag a second and what a loaded machine adds.
    assert all(sent - position <= 2 * SECOND_BYTES for position, sent in talk.acks)
    assert talk.acks[-1][0] == len(speech)


def test_a_talk_hears_how_far_behind_it_is(talk: Caller) -> None:
    lags = talk.all("lag")
    assert len(lags) >= 3
    for before, lag in pairwise(lags):
        assert before["received"] <= lag["received"] <= before["received"] + 2.5
    for lag in lags:
        assert lag["seconds"] == pytest.approx(max(0, lag["received"] - lag["committed"]), abs=0.002)


def test_finalize_in_mid_speech_commits_everything_before_it(talk: Caller) -> None:
    (finalized,) = talk.all("finalized")
    assert finalized["time"] == pytest.approx(5.0, abs=0.05)
    at = talk.heard.index(finalized)
    before = [word for m in talk.heard[:at] if m["type"] == "commit" for word in m["words"]]
    after = [word for m in talk.heard[at:] if m["type"] == "commit" for word in m["words"]]
    assert before
    assert before[-1]["end"] <= 5.1
    assert all(word["end"] > 5.0 for word in after)


def test_a_talk_gives_the_words_of_the_recording(talk: Caller, excerpt: Caller) -> None:
    assert likeness(talk.words, excerpt.words) >= STILL_THE_SAME


def test_partials_are_replaced_and_never_repeat_what_is_committed(talk: Caller) -> None:
    committed_end = 0.0
    for message in talk.heard:
        if message["type"] == "commit":
            committed_end = message["words"][-1]["end"]
        elif message["type"] == "partial" and message["words"]:
            assert message["words"][0]["start"] >= committed_end - 0.001
            assert (message["start"], message["end"]) == (
                message["words"][0]["start"],
                message["words"][-1]["end"],
            )


# What `start` may say -----------------------------------------------------------------------------


async def test_without_interim_no_partial_comes_and_every_other_wish_is_taken(
    server: Server, speech: bytes, excerpt: Caller
) -> None:
    heard = await recite(
        server.stream,
        speech,
        interim=False,
        language="en",
        task="transcribe",
        vocabulary=["Sheila", "Chicago", "Yankee"],
        diarize=False,
        min_speakers=1,
        max_speakers=2,
        final_pass=False,
        metadata={"jobId": 7, "room": "Große Aula", "live": True, "price": 1.5, "none": None},
    )
    assert heard.all("partial") == []
    assert likeness(heard.words, excerpt.words) >= STILL_THE_SAME


async def test_settings_change_in_a_running_session_and_a_language_that_is_unknown_ends_none(
    server: Server, speech: bytes
) -> None:
    async with call(server.stream) as caller:
        await caller.start(pace="fast", vocabulary=["Diane"])
        await caller.send(speech[: 4 * SECOND_BYTES])
        await caller.say("update", language="de", vocabulary=["Shyla"], interim=False)
        updated = await caller.until("updated")
        assert (updated["time"], updated["language"]) == (4.0, None)
        assert (updated["vocabulary"], updated["interim"]) == (["Shyla"], False)
        refused = await caller.until("notice")
        assert refused["code"] == "update_refused"
        assert "'de'" in refused["message"] and "It knows: en." in refused["message"]
        shown = len(caller.all("partial"))
        await caller.send(speech[4 * SECOND_BYTES :])
        await caller.finished()
        assert len(caller.all("partial")) == shown
        assert [message["seq"] for message in caller.heard if "seq" in message] == list(
            range(1, len(caller.all("commit") + caller.all("utterance") + caller.all("label")) + 4)
        )


@pytest.mark.parametrize(
    ("fields", "code", "named"),
    [
        ({"language": "vi"}, "language_unsupported", "vi"),
        ({"task": "translate"}, "task_unsupported", "translate"),
        ({"resume": {"session": "abc", "token": "def"}}, "session_unknown", "token"),
    ],
)
async def test_what_the_server_cannot_do_is_refused_by_name(
    server: Server, fields: Message, code: str, named: str
) -> None:
    async with call(server.stream) as caller:
        error = await caller.start(**fields)
        assert (error["type"], error["code"]) == ("error", code)
        assert named in error["message"] + error["hint"]
        assert await caller.closed() == 1008


# Whatever the audio comes in ----------------------------------------------------------------------


def by_table(table: Samples) -> Callable[[Samples], bytes]:
    """Return the encoder to a table of 256 samples: the nearest one's number."""
    order = np.argsort(table, kind="stable")

    def encode(samples: Samples) -> bytes:
        middles = (table[order][1:] + table[order][:-1]) / 2
        return order[np.searchsorted(middles, samples)].astype(np.uint8).tobytes()

    return encode


def at_rate(rate_hz: int, samples: Samples) -> Samples:
    return np.asarray(soxr.resample(samples, 16_000, rate_hz), np.float32)


def s16(samples: Samples) -> bytes:
    return (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()


def webm(samples: Samples) -> bytes:
    """Return what a browser's MediaRecorder makes: Opus in WebM."""
    file = io.BytesIO()
    with av.open(file, "w", "webm") as container:
        stream = container.add_stream("libopus", rate=48_000, layout="mono")
        pcm = np.frombuffer(s16(at_rate(48_000, samples)), np.int16)
        frame = av.AudioFrame.from_ndarray(pcm.reshape(1, -1), "s16", "mono")
        frame.sample_rate = 48_000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return file.getvalue()


FORMATS: dict[str, tuple[Message, Callable[[Samples], bytes]]] = {
    "float": ({"encoding": "pcm_f32le"}, lambda s: s.astype("<f4").tobytes()),
    "mu-law at 8 kHz": (
        {"encoding": "mulaw", "sample_rate": 8000},
        lambda s: by_table(mulaw_table())(at_rate(8000, s)),
    ),
    "A-law at 8 kHz": (
        {"encoding": "alaw", "sample_rate": 8000},
        lambda s: by_table(alaw_table())(at_rate(8000, s)),
    ),
    "stereo at 44.1 kHz": (
        {"encoding": "pcm_s16le", "sample_rate": 44_100, "channels": 2},
        lambda s: s16(np.repeat(at_rate(44_100, s), 2)),
    ),
    "48 kHz": ({"encoding": "pcm_s16le", "sample_rate": 48_000}, lambda s: s16(at_rate(48_000, s))),
    "Opus in WebM": ({"encoding": "container"}, webm),
}


@pytest.mark.parametrize("name", FORMATS)
async def test_audio_gives_the_same_words_whatever_it_comes_in(
    name: str, server: Server, samples: Samples, excerpt: Caller
) -> None:
    audio, encode = FORMATS[name]
    heard = await recite(server.stream, encode(samples), audio=audio)
    assert likeness(heard.words, excerpt.words) >= STILL_THE_SAME
    (stopped,) = heard.all("stopped")
    assert stopped["duration"] == pytest.approx(9.0, abs=0.1)
    assert heard.acks[-1][0] == heard.sent_bytes


async def test_chunks_of_any_size_give_the_same_transcript(
    server: Server, speech: bytes, excerpt: Caller
) -> None:
    sizes = random.Random(5)
    cuts = [0, *accumulate(sizes.choice([0, 1, 3, 511, 1024, 7777, 50_001]) for _ in range(200))]
    async with call(server.stream) as caller:
        await caller.start(pace="fast")
        for first, last in pairwise([*(cut for cut in cuts if cut < len(speech)), len(speech)]):
            await caller.socket.send(speech[first:last])
        caller.sent_bytes = len(speech)
        await caller.finished()
    assert caller.all("commit")[-1]["text"] == excerpt.all("commit")[-1]["text"]
    assert caller.text == excerpt.text


async def test_two_sessions_at_once_do_not_mix(
    server: Server, sample_pcm: bytes, speech: bytes, excerpt: Caller
) -> None:
    rest = sample_pcm[23 * SECOND_BYTES :]
    one, other = await asyncio.gather(recite(server.stream, speech), recite(server.stream, rest))
    assert one.heard[0]["session"] != other.heard[0]["session"]
    assert one.heard[0]["token"] != other.heard[0]["token"]
    assert likeness(one.words, excerpt.words) >= STILL_THE_SAME
    assert likeness(other.words, excerpt.words) < 0.5
    assert "yankee" in other.words
    assert "yankee" not in one.words


async def test_words_that_were_shown_are_not_lost_by_a_stop_in_mid_speech(
    server: Server, sample_pcm: bytes
) -> None:
    caller = await recite(server.stream, sample_pcm[: 14 * SECOND_BYTES])
    assert "i heard a" in " ".join(plain_words(caller.text))


async def test_a_live_client_whose_network_stalls_may_send_all_of_it_at_once(
    server: Server, samples: Samples, excerpt: Caller
) -> None:
    stereo = np.repeat(at_rate(48_000, samples), 2).astype("<f4").tobytes()
    audio = {"encoding": "pcm_f32le", "sample_rate": 48_000, "channels": 2}
    async with call(server.stream) as caller:
        ready = await caller.start(audio=audio)
        assert ready["max_unacked_bytes"] == 30 * 48_000 * 2 * 4
        for first in range(0, len(stereo), 2**20):
            await caller.socket.send(stereo[first : first + 2**20])
        final = await caller.finished()
    assert final["duration"] == pytest.approx(9.0, abs=0.01)
    assert likeness(caller.words, excerpt.words) > STILL_THE_SAME
