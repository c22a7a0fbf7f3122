"""What Realtime clients are told, from what a session says; and what their updates ask of it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from live_asr.core.messages import (
    Commit,
    Finalized,
    Lag,
    Notice,
    ServerMessage,
    Speech,
    UtteranceMessage,
    WireWord,
)
from live_asr.server.dialects.realtime.items import Event, Items
from live_asr.server.dialects.realtime.settings import LOGPROBS, BadRequest, SessionSettings


def commit(text: str, probability: float = 0.5) -> Commit:
    return Commit(1, (WireWord(text, 1.0, 1.4, probability, None),), text, 0)


def utterance() -> UtteranceMessage:
    return UtteranceMessage(2, 0, 1.0, 1.9, "", None, "en")


def told(items: Items, *messages: ServerMessage) -> list[Event]:
    return [event for message in messages for event in items.apply(message)]


def kinds(events: list[Event]) -> list[str]:
    return [event["type"].removeprefix("conversation.item.").removeprefix("input_audio_") for event in events]


def update(**session: Any) -> SessionSettings:
    return SessionSettings().changed({"type": "transcription", **session})


def of_input(**given: Any) -> SessionSettings:
    return update(audio={"input": given})


MANUAL = of_input(turn_detection=None)


def test_a_turn_is_told_from_its_first_sound_to_its_transcript() -> None:
    items = Items(SessionSettings(), is_beta=False)
    events = told(items, Speech("started", 0.9), commit(" Hello"), commit(" there."))
    events += told(items, Speech("ended", 2.1), commit(" You."), utterance())
    assert kinds(events) == [
        "buffer.speech_started",
        "transcription.delta",
        "transcription.delta",
        "buffer.speech_stopped",
        "buffer.committed",
        "added",
        "done",
        "transcription.delta",
        "transcription.completed",
    ]
    assert (events[0]["audio_start_ms"], events[3]["audio_end_ms"]) == (900, 2100)
    deltas = [event["delta"] for event in events if "delta" in event]
    assert deltas == ["Hello", " there.", " You."]
    assert events[-1]["transcript"] == "".join(deltas)
    assert events[-1]["usage"] == {"type": "duration", "seconds": 1.2}
    ids = {event["item_id"] for event in events if "item_id" in event} | {events[5]["item"]["id"]}
    assert len(ids) == 1
    following = told(items, Speech("started", 3.0), Speech("ended", 4.0))
    assert following[2]["previous_item_id"] in ids


def test_a_turn_goes_on_where_only_its_utterance_was_too_long() -> None:
    items = Items(SessionSettings(), is_beta=False)
    events = told(items, Speech("started", 0.9), commit(" a"), utterance(), commit(" b"))
    events += told(items, Speech("ended", 40.0), utterance())
    assert [event["transcript"] for event in events if "transcript" in event] == ["a b"]


def test_a_turn_without_words_has_an_empty_transcript_once_all_of_it_was_heard() -> None:
    items = Items(SessionSettings(), is_beta=True)
    events = told(items, Speech("started", 0.9), Speech("ended", 1.5), Lag(2.0, 1.2, 0.8))
    assert kinds(events) == ["buffer.speech_started", "buffer.speech_stopped", "buffer.committed", "created"]
    (completed,) = told(items, Lag(2.0, 1.6, 0.4))
    assert completed["transcript"] == ""


def test_what_the_client_commits_is_an_item_and_says_nothing_before() -> None:
    items = Items(MANUAL, is_beta=False)
    assert told(items, Speech("started", 0.9), commit(" One"), Speech("ended", 2.0), utterance()) == []
    events = list(items.commit(0.0, 3.0))
    assert kinds(events) == ["buffer.committed", "added", "done", "transcription.delta"]
    second = list(items.commit(3.0, 4.0))
    events += told(items, commit(" two."), Finalized(3.0))
    assert kinds(events)[-2:] == ["transcription.delta", "transcription.completed"]
    assert events[-1]["transcript"] == "One two."
    assert events[-1]["usage"]["seconds"] == 3.0
    events = told(items, commit(" Three."), Finalized(4.0))
    assert events[-1]["transcript"] == "Three."
    assert events[-1]["item_id"] == second[0]["item_id"]


def test_what_the_client_clears_is_never_told() -> None:
    items = Items(MANUAL, is_beta=False)
    told(items, commit(" secret"))
    items.clear()
    assert told(items, commit(" words"), Finalized(2.0)) == []
    events = list(items.commit(2.0, 3.0)) + told(items, commit(" Fine."), Finalized(3.0))
    assert events[-1]["transcript"] == "Fine."


def test_a_commit_within_a_turn_ends_it_and_one_in_silence_is_empty() -> None:
    items = Items(SessionSettings(), is_beta=False)
    events = told(items, Speech("started", 0.9), commit(" a"))
    events += list(items.commit(0.0, 1.5))
    events += told(items, Speech("ended", 1.5), utterance(), Finalized(1.5))
    assert [event["transcript"] for event in events if "transcript" in event] == ["a"]
    events = list(items.commit(1.5, 3.0)) + told(items, Finalized(3.0))
    assert [event["transcript"] for event in events if "transcript" in event] == [""]


def test_a_stretch_that_could_not_be_recognised_has_failed() -> None:
    items = Items(SessionSettings(), is_beta=False)
    events = told(items, Speech("started", 0.9), Notice("step_failed", "A stretch …"), Speech("ended", 2.0))
    events += told(items, commit(" a"), utterance())
    assert kinds(events)[-1] == "transcription.failed"
    told(items, Speech("started", 3.0))
    (failed,) = items.fail()
    assert failed["type"].endswith(".failed") and failed["error"]["type"] == "server_error"


def test_words_say_how_sure_they_are_if_asked() -> None:
    items = Items(update(include=[LOGPROBS]), is_beta=False)
    events = told(items, Speech("started", 0.9), commit(" a", 0.5))
    assert events[-1]["logprobs"] == [{"token": " a", "logprob": round(math.log(0.5), 4), "bytes": [32, 97]}]


# Settings -----------------------------------------------------------------------------------------------


def test_an_update_changes_what_it_names_and_the_session_says_what_is_in_force() -> None:
    settings = of_input(
        format={"type": "audio/pcmu"},
        transcription={"model": "gpt-4o-transcribe", "language": "en", "prompt": "Kubernetes, Nguyễn"},
        turn_detection={"type": "server_vad", "threshold": 0.6, "silence_duration_ms": 800},
    )
    start = settings.start()
    assert (start.audio.encoding, start.audio.sample_rate) == ("mulaw", 8000)
    assert (start.language, start.vocabulary) == ("en", ("Kubernetes", "Nguyễn"))
    assert (start.end_silence, start.vad_threshold) == (0.8, 0.6)
    shown = settings.changed({"include": [LOGPROBS]}).shown("sess_1")
    assert shown["audio"]["input"]["format"] == {"type": "audio/pcmu"}
    assert shown["audio"]["input"]["turn_detection"]["silence_duration_ms"] == 800
    assert shown["include"] == [LOGPROBS]
    assert "warnings" not in shown


def test_the_forms_of_the_beta_mean_the_same() -> None:
    beta = SessionSettings().changed(
        {
            "input_audio_format": "g711_alaw",
            "input_audio_transcription": {"model": "whisper-1", "language": "en"},
            "turn_detection": None,
        }
    )
    ga = of_input(
        format={"type": "audio/pcma"},
        transcription={"model": "whisper-1", "language": "en"},
        turn_detection=None,
    )
    assert beta == ga
    assert beta.shown_as_beta("sess_1")["input_audio_format"] == "g711_alaw"


def test_defaults_are_those_of_the_api_and_leave_the_servers_policy_alone() -> None:
    start = SessionSettings().start()
    assert (start.audio.encoding, start.audio.sample_rate) == ("pcm_s16le", 24_000)
    assert (start.end_silence, start.vad_threshold, start.diarize) == (None, None, False)


def test_the_apis_defaults_count_for_who_names_them() -> None:
    start = of_input(
        turn_detection={"type": "server_vad", "threshold": 0.5, "silence_duration_ms": 500}
    ).start()
    assert (start.end_silence, start.vad_threshold) == (0.5, 0.5)


def test_what_is_not_known_is_named_wherever_it_stands() -> None:
    settings = update(
        instructions="Be brief.",
        audio={
            "output": {"voice": "alloy"},
            "input": {
                "turn_detecton": None,
                "transcription": {"model": "x", "languag": "en", "language": "en", "languages": ["de"]},
                "turn_detection": {"type": "server_vad", "silence_ms": 300, "create_response": False},
            },
        },
    )
    assert [warning.split("`")[1] for warning in settings.warnings] == [
        *("instructions", "audio.output", "audio.input.turn_detecton"),
        *("transcription.languag", "turn_detection.silence_ms", "languages"),
    ]
    assert SessionSettings().changed(settings.changed({}).shown("sess_1")).warnings == ()
    assert SessionSettings().changed(settings.changed({}).shown_as_beta("sess_1")).warnings == ()
    assert len(update(**{f"unknown_{number}": 1 for number in range(1000)}).warnings) == 10


def test_a_prompt_too_long_to_be_words_to_expect_is_not_gone_through() -> None:
    settings = of_input(transcription={"prompt": "word, " * 50_000})
    assert settings.start().vocabulary == () and "`prompt`" in settings.warnings[0]


def test_what_cannot_be_had_is_shown_as_off_with_a_warning() -> None:
    settings = of_input(
        noise_reduction={"type": "near_field"},
        transcription={
            "model": "x",
            "prompt": "The speaker is talking about a long trip to Spain.",
            "delay": "low",
        },
        turn_detection={"type": "semantic_vad", "eagerness": "low"},
    )
    shown = settings.shown("sess_1")
    given = shown["audio"]["input"]
    assert given["noise_reduction"] is None
    assert given["transcription"] == {"model": "x"}
    assert given["turn_detection"]["silence_duration_ms"] == 2000
    assert [warning.split("`")[1] for warning in shown["warnings"]] == [
        "noise_reduction",
        "delay",
        "prompt",
        "semantic_vad",
    ]


@pytest.mark.parametrize(
    ("session", "param"),
    [
        ({"type": "realtime"}, "session.type"),
        ({"audio": {"input": 7}}, "session.audio.input"),
        ({"audio": {"input": {"format": {"type": "audio/opus"}}}}, "session.audio.input.format.type"),
        (
            {"audio": {"input": {"format": {"type": "audio/pcm", "rate": 16000}}}},
            "session.audio.input.format.rate",
        ),
        ({"audio": {"input": {"transcription": "x"}}}, "session.audio.input.transcription"),
        (
            {"audio": {"input": {"transcription": {"keywords": ["x" * 101]}}}},
            "session.audio.input.transcription",
        ),
        (
            {"audio": {"input": {"turn_detection": {"type": "server_vad", "threshold": 2}}}},
            "session.audio.input.turn_detection.threshold",
        ),
        (
            {"audio": {"input": {"turn_detection": {"type": "none"}}}},
            "session.audio.input.turn_detection.type",
        ),
        ({"input_audio_format": "mp3"}, "session.input_audio_format"),
        (
            {"audio": {"input": {"transcription": {"keywords": [["a"]]}}}},
            "session.audio.input.transcription.keywords",
        ),
        ({"include": ["everything"]}, "session.include"),
        ({"audio": 7}, "session.audio"),
        (
            {"audio": {"input": {"noise_reduction": {"type": "loud"}}}},
            "session.audio.input.noise_reduction.type",
        ),
        (
            {"audio": {"input": {"transcription": {"delay": "none"}}}},
            "session.audio.input.transcription.delay",
        ),
        (
            {"audio": {"input": {"turn_detection": {"prefix_padding_ms": "long"}}}},
            "session.audio.input.turn_detection.prefix_padding_ms",
        ),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(session: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        SessionSettings().changed(session)
    assert refused.value.param == param
