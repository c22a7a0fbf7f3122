"""The benchmarks' own arithmetic: a harness that counts wrongly makes every promise worthless."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest
import websockets
from websockets.asyncio.server import ServerConnection, serve

from benchmarks import endurance
from benchmarks.matching import Errors, differences, errors, keys, matches
from benchmarks.measure import changed_afterwards, joined, latencies, live_words, measure, violations
from benchmarks.processes import Sample, Usage, parse_metrics
from benchmarks.reference import Reference, ReferenceWord
from benchmarks.report import Table, fact, limit, limits
from benchmarks.speech import RATE_HZ, Clip, Spoken, nonspeech, words_between
from benchmarks.streaming import Arrival, SessionLog, play

Message = dict[str, Any]


def log_of(*messages: tuple[float, Message], seconds: float = 3.0, truth: str | None = None) -> SessionLog:
    """Make a log whose audio was sent from time 0 in chunks of 100 ms, each when it was full."""
    log = SessionLog(Clip("made up", np.zeros(round(seconds * RATE_HZ), np.int16), truth))
    for chunk in range(1, round(seconds * 10) + 1):
        log.sent_ends.append(chunk * RATE_HZ // 10)
        log.sent_times.append(chunk / 10)
    log.stop_time = seconds
    log.arrivals = [Arrival(time, len(json.dumps(body)), body) for time, body in messages]
    return log


def commit(text: str, seq: int, start: float = 0.0, utterance: int = 0) -> Message:
    words = [
        {
            "text": f" {word}",
            "start": round(start + 0.1 * place, 3),
            "end": round(start + 0.1 * place + 0.1, 3),
        }
        for place, word in enumerate(text.split())
    ]
    joined_text = "".join(str(word["text"]) for word in words)
    return {"type": "commit", "seq": seq, "words": words, "text": joined_text, "utterance": utterance}


def partial(text: str) -> Message:
    return {"type": "partial", "text": text, "words": []}


def stopped(text: str, seq: int, duration: float = 3.0) -> Message:
    return {"type": "stopped", "seq": seq, "duration": duration, "text": text}


# Matching --------------------------------------------------------------------------------------------


def test_deletions_insertions_and_substitutions_are_told_apart() -> None:
    found = errors("the cat sat down now", "the black cat sat dawn")
    assert (found.words, found.lost, found.invented, found.changed) == (5, 1, 1, 1)


def test_spelling_that_the_normaliser_makes_equal_is_no_error() -> None:
    assert errors(" Fourteen fifty-five, Mr. Smith's colour.", "1455 mister smith's color").total == 0


def test_words_out_of_nothing_are_invented_and_nothing_out_of_words_is_lost() -> None:
    assert errors("you you", "") == Errors(0, 0, 2, 0)
    assert errors("", "one too many") == Errors(3, 3, 0, 0)


def test_differences_are_named_with_what_was_said_and_what_was_heard() -> None:
    assert differences("the black cat sat on dawn", "the cat sat on it dawn yes") == [
        "∅ → black",
        "it → ∅",
        "yes → ∅",
    ]


def test_errors_pool_by_words_and_not_by_texts() -> None:
    assert (Errors(10, 1, 0, 0) + Errors(90, 0, 0, 0)).rate == pytest.approx(0.01)


def test_matching_finds_equal_words_across_lost_and_new_ones() -> None:
    assert matches(["a", "b", "c", "d"], ["a", "x", "c", "d", "e"]) == [(0, 0), (2, 2), (3, 3)]


def test_an_open_end_costs_nothing_and_a_closed_one_does() -> None:
    assert matches(["the"], ["the", "cat", "the"], open_end=True) == [(0, 0)]
    assert matches(["cat", "sat"], ["the", "cat", "sat", "on"], open_end=True) == [(0, 1), (1, 2)]


def test_keys_leave_out_case_and_marks() -> None:
    assert keys("It's  -- ONE, 'two'.") == ["it's", "one", "two"]


def test_pieces_without_a_space_between_them_are_one_word_from_its_last_letters_on() -> None:
    assert joined([(" forty", 1.0), ("-two", 2.0), (".", 3.0), (" x", 4.0)]) == [
        ("fortytwo", 2.0),
        ("x", 4.0),
    ]


# Latency ---------------------------------------------------------------------------------------------


def test_latency_counts_from_when_the_words_last_sample_was_sent() -> None:
    log = log_of(
        (0.9, partial("hello word")),
        (1.4, partial("hello world and")),
        (2.0, commit("Hello, world", 1)),
        (2.6, commit("again.", 2)),
    )
    words = (
        ReferenceWord(" Hello", 0.0, 0.51),
        ReferenceWord(" world", 0.6, 1.0),
        ReferenceWord(" again", 1.2, 1.9),
    )
    committed, first = latencies(log, words)
    assert committed == pytest.approx([2.0 - 0.6, 2.0 - 1.0, 2.6 - 1.9])
    assert first == pytest.approx([0.9 - 0.6, 1.4 - 1.0, 2.6 - 1.9])


def test_a_reference_word_that_never_came_has_no_latency() -> None:
    log = log_of((1.0, commit("one three", 1)))
    words = tuple(ReferenceWord(f" {word}", 0.0, 0.5) for word in ("one", "two", "three"))
    assert len(latencies(log, words)[0]) == 2


def test_a_word_said_twice_is_shown_in_its_own_place() -> None:
    log = log_of((1.0, commit("no", 1)), (1.5, partial("no")), (2.0, commit("no", 2)))
    assert [(word.committed, word.first_shown) for word in live_words(log)] == [(1.0, 1.0), (2.0, 1.5)]


def test_a_word_after_the_last_chunk_counts_from_the_last_chunk() -> None:
    assert log_of(seconds=1.0).sent_at(1.7) == 1.0


# The record ------------------------------------------------------------------------------------------


def test_a_record_that_only_grew_has_no_changed_words() -> None:
    log = log_of(
        (1.0, commit("one two", 1)),
        (1.1, {"type": "utterance", "seq": 2, "utterance": 0, "text": "one two"}),
        (3.2, stopped("one two", 3)),
        (3.3, {"type": "final", "seq": 4}),
    )
    assert changed_afterwards(log) == 0
    assert violations(log) == []


def test_a_stopped_that_differs_in_one_letter_counts_as_one_changed_word() -> None:
    log = log_of((1.0, commit("one two", 1)), (3.2, stopped("one Two", 2)))
    assert changed_afterwards(log) == 1


def test_an_utterance_that_differs_from_its_commits_counts() -> None:
    said = {"type": "utterance", "seq": 3, "utterance": 1, "text": "three"}
    log = log_of((1.0, commit("one", 1)), (1.5, commit("two", 2, utterance=1)), (1.6, said))
    assert changed_afterwards(log) == 1


def test_a_gap_in_seq_a_wrong_text_and_a_time_that_runs_back_are_breaches() -> None:
    wrong = commit("one", 1, start=1.0) | {"text": " two"}
    log = log_of((1.0, wrong), (1.2, commit("three", 3, start=0.2)), (3.1, {"type": "final", "seq": 4}))
    found = " ".join(violations(log))
    assert "seq 3 came where 2 was due" in found
    assert "' two' is not its words" in found
    assert "' three' at 0.2" in found


def test_the_longest_silence_of_a_message_type_counts_from_first_chunk_to_last() -> None:
    log = log_of((0.5, {"type": "ack", "bytes": 1}), (1.0, {"type": "ack", "bytes": 2}))
    assert measure(log).ack_gap == pytest.approx(2.0)


def test_a_session_measured_as_a_whole_holds_what_its_log_says() -> None:
    log = log_of((2.0, commit("a cat sat", 1)), (3.4, commit("down", 2)), (3.5, stopped("a cat sat down", 3)))
    log.clip = Clip("cat", log.clip.audio, "a cat sat down")
    words = tuple(ReferenceWord(f" {word}", 0.0, 1.0) for word in ("a", "bat", "sat", "down"))
    found = measure(log, Reference("tiny.en", "en", " a bat sat down", words))
    assert found.text == " a cat sat down"
    assert found.against_truth == Errors(4, 0, 0, 0)
    assert found.reference_against_truth == Errors(4, 0, 0, 1)
    assert found.against_reference == Errors(4, 0, 0, 1)
    assert found.end_to_last_commit == pytest.approx(0.4)
    assert found.end_to_stopped == pytest.approx(0.5)
    assert found.bytes_per_second == pytest.approx(sum(a.size_bytes for a in log.arrivals) / 3.0)


# Truth, sounds, tables -------------------------------------------------------------------------------


def test_an_utterance_across_the_cut_gives_words_by_its_share_of_time() -> None:
    spoken = [Spoken(0.0, 2.0, "one two"), Spoken(3.0, 7.0, "three four five six")]
    assert words_between(spoken, 0.0, 5.0) == "one two three four"
    assert words_between(spoken, 5.0, 9.0) == "five six"


def test_every_sound_without_words_is_as_long_as_asked_and_the_same_each_time() -> None:
    first, again = nonspeech(1.0), nonspeech(1.0)
    assert {len(clip.audio) for clip in first} == {RATE_HZ}
    assert [clip.digest for clip in first] == [clip.digest for clip in again]
    assert {clip.truth for clip in first} == {""}


def test_metrics_are_read_with_their_labels_and_comments_are_not() -> None:
    body = '# HELP x y\nlive_asr_a 1.5\nlive_asr_b{kind="step"} 2e-3\n'
    assert parse_metrics(body) == {"live_asr_a": 1.5, 'live_asr_b{kind="step"}': 0.002}


def test_a_row_passes_at_its_limit_and_misses_above_it_and_without_a_number() -> None:
    assert limit("x", 1.0, 1.0).passed
    assert not limits("x", [0.5, 2.6], [1.3, 2.5]).passed
    assert not limit("x", float("nan"), 1.0).passed
    assert fact("x", "y").passed is None


def test_a_table_has_a_column_for_every_clip_that_a_row_names() -> None:
    text = Table("t", [limit("x", 1.0, 2.0, "s", each={"a": "1", "b": "2"}), fact("y", "z")]).markdown()
    assert "|  | target | measured |  | a | b |" in text
    assert "| x | ≤ 2 s | 1.00 s | pass | 1 | 2 |" in text


def test_a_stall_is_placed_where_it_was_first_seen() -> None:
    usage = Usage([Sample(float(at), 0.0, {}, stall=0.01 if at < 3 else 0.2) for at in range(1, 6)])
    assert (usage.stall_ms, usage.stall_at) == (200.0, 2.0)


def test_memory_that_grows_by_a_megabyte_a_minute_has_a_slope_of_sixty_an_hour() -> None:
    assert endurance.slope([0.0, 60.0, 120.0], [1.0, 2.0, 3.0]) == pytest.approx(60.0)


def test_the_cost_of_each_part_of_a_session_follows_the_audio_and_not_the_clock() -> None:
    lags = [(float(at), {"type": "lag", "committed": at * 3.0}) for at in range(1, 20)]
    log = log_of(*lags, (20.0, stopped("", 1, 60.0)), seconds=60.0)
    usage = Usage([Sample(float(at), 6.0 * at, {1: 1}) for at in range(21)])
    run = endurance.LongRun(log, usage, {1: "server"})
    assert endurance.cost_by_part(run) == pytest.approx([2.0] * 6)


# The client ------------------------------------------------------------------------------------------


async def scripted(socket: ServerConnection) -> None:
    """Answer as a server would that commits one word for each 100 ms and finishes when asked."""
    start = json.loads(await socket.recv())
    ready = {"type": "ready", "session": "s", "max_unacked_bytes": 6400}
    await socket.send(json.dumps(ready))
    if start["pace"] == "realtime" and start["language"] == "xx":
        refusal = {"type": "error", "code": "language_unsupported", "message": "No xx.", "hint": "Use en."}
        await socket.send(json.dumps(refusal))
        await socket.close(1008)
        return
    heard_bytes = 0
    async for frame in socket:
        if isinstance(frame, str):
            break
        heard_bytes += len(frame)
        await socket.send(json.dumps({"type": "ack", "bytes": heard_bytes}))
    await socket.send(json.dumps(commit("word", 1)))
    await socket.send(json.dumps(stopped("word", 2, heard_bytes / 2 / RATE_HZ)))
    await socket.send(json.dumps({"type": "final", "seq": 3}))


async def test_a_fast_client_stays_within_the_window_and_hears_the_session_to_its_end() -> None:
    clip = Clip("noise", np.arange(2 * RATE_HZ, dtype=np.int16), None)
    async with serve(scripted, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        log = await asyncio.wait_for(play(f"ws://127.0.0.1:{port}", clip, pace="fast"), 20)
    assert log.failure is None
    assert log.close_code == 1000
    assert log.sent_ends[-1] == len(clip.audio)
    stop = log.first("stopped")
    assert stop is not None and stop.message["duration"] == clip.duration
    assert log.pings


async def test_a_real_time_client_sends_no_sample_before_it_could_have_been_recorded() -> None:
    clip = Clip("noise", np.zeros(RATE_HZ // 2, np.int16), None)
    async with serve(scripted, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        log = await asyncio.wait_for(play(f"ws://127.0.0.1:{port}", clip), 20)
    ready = log.first("ready")
    assert ready is not None
    assert all(
        sent - ready.time >= end / RATE_HZ for sent, end in zip(log.sent_times, log.sent_ends, strict=True)
    )


async def test_a_refused_session_is_recorded_as_failed_with_the_servers_words() -> None:
    clip = Clip("noise", np.zeros(RATE_HZ, np.int16), None)
    async with serve(scripted, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        log = await asyncio.wait_for(play(f"ws://127.0.0.1:{port}", clip, language="xx"), 20)
    assert log.failure == "language_unsupported: No xx."


async def test_a_server_that_is_not_there_is_recorded_as_failed() -> None:
    clip = Clip("noise", np.zeros(RATE_HZ, np.int16), None)
    async with serve(scripted, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
    log = await asyncio.wait_for(play(f"ws://127.0.0.1:{port}", clip), 20)
    assert log.failure is not None
    assert websockets.__name__ not in log.failure
