"""What a webhook says, to the letter of the protocol."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from live_asr.core.messages import AudioFormat, ClockPoint, Final, FinalSegment, FinalSpeaker, Start, WireWord
from live_asr.core.types import Turn
from live_asr.delivery.payload import RESERVED, webhook_body


def word(text: str, start: float, probability: float, speaker: str | None) -> WireWord:
    return WireWord(text, start, start + 0.5, probability, speaker)


ANNA = (word(" Hello", 0.5, 0.9, "SPEAKER_00"), word(" there.", 1.0, 1.0, "SPEAKER_00"))
BEN = (word(" Hi.", 2.0, 0.5, "SPEAKER_01"),)
FINAL = Final(
    seq=9,
    revision=1,
    duration=205.8,
    language="vi",
    text=" Hello there. Hi.",
    segments=(
        FinalSegment(0.5, 1.5, "SPEAKER_00", "Hello there.", ANNA),
        FinalSegment(2.0, 2.5, "SPEAKER_01", "Hi.", BEN),
    ),
    speakers=(
        FinalSpeaker("SPEAKER_00", ("S1",), 1.0, 1),
        FinalSpeaker("SPEAKER_01", ("S2",), 0.5, 1),
    ),
    links={},
    labels="full",
    started_at="2026-11-21T14:05:09.164Z",
    clock=(ClockPoint(12.5, "2026-11-21T14:05:21.730Z"),),
)


def body(
    start: Start | None = None,
    final: Final | None = FINAL,
    turns: Sequence[Turn] = (),
    error: tuple[str, str] | None = None,
) -> dict[str, Any]:
    text = webhook_body(
        session_id="a1",
        start=start or Start(),
        final=final,
        turns=turns,
        error=error,
        processing_time=45.23456,
    )
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_session_that_went_well_is_told_as_the_protocol_writes_it() -> None:
    turns = (Turn(0, 24_000, "SPEAKER_00"), Turn(16_000, 40_000, "SPEAKER_01"))
    assert body(Start(metadata={"jobId": 123, "presentationId": 456}), turns=turns) == {
        "sessionId": "a1",
        "revision": 1,
        "status": "success",
        "jobId": 123,
        "presentationId": 456,
        "transcript": "Hello there. Hi.",
        "segments": [
            {
                "text": "Hello there.",
                "startTime": 0.5,
                "endTime": 1.5,
                "speakerLabel": "SPEAKER_00",
                "confidence": 0.95,
            },
            {
                "text": "Hi.",
                "startTime": 2.0,
                "endTime": 2.5,
                "speakerLabel": "SPEAKER_01",
                "confidence": 0.5,
            },
        ],
        "diarization": [
            {"aiSpeakerLabel": "SPEAKER_00", "totalDuration": 1.5, "segmentCount": 1, "confidence": 0.95},
            {"aiSpeakerLabel": "SPEAKER_01", "totalDuration": 1.5, "segmentCount": 1, "confidence": 0.5},
        ],
        "metadata": {
            "language": "vi",
            "duration": 205.8,
            "audioFormat": "pcm_s16le",
            "processingTime": 45.235,
            "labels": "full",
            "startedAt": "2026-11-21T14:05:09.164Z",
            "clock": [{"audio": 12.5, "at": "2026-11-21T14:05:21.730Z"}],
        },
    }


def test_without_turns_the_speakers_durations_are_those_of_the_record() -> None:
    assert [speaker["totalDuration"] for speaker in body()["diarization"]] == [1.0, 0.5]


def test_turns_of_one_speaker_that_overlap_count_once_and_a_silent_speaker_is_listed() -> None:
    turns = (
        Turn(16_000, 64_000, "SPEAKER_02"),
        Turn(0, 32_000, "SPEAKER_02"),
        Turn(17_000, 18_000, "SPEAKER_02"),
    )
    assert body(turns=turns)["diarization"][-1] == {
        "aiSpeakerLabel": "SPEAKER_02",
        "totalDuration": 4.0,
        "segmentCount": 0,
        "confidence": 0.0,
    }


def test_a_session_without_speakers_has_null_labels_and_no_diarization() -> None:
    final = Final(1, 0, 1.0, None, " Hi.", (FinalSegment(0, 1, None, "Hi.", BEN),), (), {})
    told = body(final=final)
    assert (told["revision"], told["metadata"]["labels"]) == (0, None)
    assert told["segments"][0]["speakerLabel"] is None
    assert told["diarization"] == []


def test_a_result_says_of_which_pass_its_speakers_are() -> None:
    told = body(final=replace(FINAL, labels="live"))
    assert (told["revision"], told["metadata"]["labels"]) == (1, "live")


def test_a_session_that_failed_says_why_and_what_was_heard() -> None:
    told = body(error=("internal", "It broke."))
    assert (told["status"], told["error"]) == ("failed", {"code": "internal", "message": "It broke."})
    assert told["transcript"] == "Hello there. Hi."


def test_a_session_that_failed_before_a_word_has_an_empty_transcript() -> None:
    start = Start(audio=AudioFormat(encoding="mulaw"), language="de")
    told = body(start, final=None, error=("internal", "It broke."))
    assert (told["transcript"], told["segments"], told["diarization"]) == ("", [], [])
    assert told["revision"] == 0
    assert (told["metadata"]["labels"], told["metadata"]["duration"]) == (None, 0.0)
    assert (told["metadata"]["language"], told["metadata"]["audioFormat"]) == ("de", "mulaw")


def test_metadata_that_clashes_with_a_name_of_ours_goes_below_client_metadata() -> None:
    told = body(
        Start(metadata={"status": "paid", "clientMetadata": 7, "room": "A1", "error": None, "labels": "x"})
    )
    assert (told["status"], told["room"], told["labels"]) == ("success", "A1", "x")
    assert told["clientMetadata"] == {"status": "paid", "clientMetadata": 7, "error": None}
    assert "error" not in told


SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text() | st.floats(allow_nan=False)


@given(st.dictionaries(st.text() | st.sampled_from(sorted(RESERVED)), SCALARS, max_size=9))
def test_every_key_of_the_clients_is_handed_back_and_none_replaces_ours(metadata: Mapping[str, Any]) -> None:
    metadata = {key: value for key, value in metadata.items() if value not in (float("inf"), float("-inf"))}
    told = body(Start(metadata=metadata))
    ours = body()
    handed_back = {**told, **told.get("clientMetadata", {})}
    assert {key: handed_back[key] for key in metadata} == metadata
    assert {key: told[key] for key in ours} == ours


def test_a_lone_surrogate_does_not_stop_the_news() -> None:
    final = Final(1, 0, 1.0, None, " \ud83d", (), (), {})
    assert body(final=final)["transcript"] == "?"
