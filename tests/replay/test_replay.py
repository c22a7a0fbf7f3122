"""The replay command, as a user runs it: a process with arguments, output, a status and files."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import sys
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from scripted_peer import READY, Peer, commit, final, peer, write_tone
from websockets.http11 import Request

from live_asr.core.messages import (
    Ack,
    Commit,
    Error,
    FinalSegment,
    FinalSpeaker,
    Label,
    Lag,
    Notice,
    Partial,
    Progress,
    Start,
    Stop,
    Stopped,
    UtteranceMessage,
    WireWord,
)

EXTENSIONS = ("vtt", "srt", "txt", "json")


@dataclass
class Ran:
    status: int
    output: str
    errors: str


@asynccontextmanager
async def replaying(
    *arguments: str | Path, environment: dict[str, str] | None = None, **pipes: int
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the command, and end it if the test has not seen its end."""
    pipes = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE, **pipes}
    command = [sys.executable, "-m", "live_asr.cli", "replay", *map(str, arguments)]
    given = {**os.environ, "TERM": "xterm-256color", **(environment or {})}
    given.pop("NO_COLOR", None)
    process = await asyncio.create_subprocess_exec(*command, env=given, **pipes)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def replay(*arguments: str | Path) -> Ran:
    async with replaying(*arguments) as process:
        output, errors = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode is not None
        return Ran(process.returncode, output.decode(), errors.decode())


async def good_server(peer: Peer) -> None:
    """Take a file, acknowledge it, and say one sentence about it."""
    await peer.open()
    while isinstance(frame := await peer.socket.recv(), bytes):
        peer.audio += frame
        await peer.say(Ack(len(peer.audio)))
    words = (WireWord(" Hello", 0.0, 0.4, 0.9, None), WireWord(" there.", 0.4, 1.0, 0.9, None))
    await peer.say(
        Partial(" Hello", words[:1], 0.0, 0.4),
        Commit(1, words, " Hello there.", 0),
        UtteranceMessage(2, 0, 0.0, 1.0, "Hello there.", None, "en"),
        Stopped(3, 1.0, " Hello there."),
        final_of(4),
    )
    await peer.socket.close(1000)


def final_of(seq: int):
    words = (WireWord(" Hello", 0.0, 0.4, 0.9, None), WireWord(" there.", 0.4, 1.0, 0.9, None))
    return final(seq, "Hello there.", (FinalSegment(0.0, 1.0, None, "Hello there.", words),))


RTTM = "SPEAKER s-1 1 0.000 1.200 <NA> <NA> SPEAKER_00 <NA> <NA>\n"
RTTM_PATH = "/v1/sessions/s-1/transcript.rttm"


async def two_speakers(peer: Peer) -> None:
    """Answer a file as a dialogue of two, with a full pass that takes the first for the second."""
    await peer.open()
    await peer.message()
    await peer.say(
        commit(1, " Hello."),
        UtteranceMessage(2, 0, 0.0, 1.0, "Hello.", None, "en"),
        Label(3, 0.0, 1.0, "S1"),
        commit(4, " Hi!", "S2", utterance=1),
        UtteranceMessage(5, 1, 3.0, 4.0, "Hi!", "S2", "en"),
        Stopped(6, 4.0, " Hello. Hi!"),
        Progress("segmentation", 0.25),
        Progress("embeddings", 0.5),
    )
    segments = tuple(
        FinalSegment(start, start + 1, speaker, text, (WireWord(f" {text}", start, start + 1, 0.9, speaker),))
        for start, speaker, text in [(0.0, "SPEAKER_00", "Hello."), (3.0, "SPEAKER_01", "Hi!")]
    )
    speakers = FinalSpeaker("SPEAKER_00", ("S1",), 3.0, 1), FinalSpeaker("SPEAKER_01", ("S2",), 1.0, 1)
    await peer.say(final(7, "Hello. Hi!", segments, speakers, {"rttm": RTTM_PATH}))
    await peer.socket.close(1000)


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    return write_tone(tmp_path / "talk.wav", duration=0.3)


# What is written ----------------------------------------------------------------------------------


async def test_four_transcripts_are_written_next_to_the_file(talk: Path) -> None:
    async with peer(good_server) as url:
        ran = await replay(talk, "--url", url)
    assert ran.status == 0, ran.errors
    assert talk.with_suffix(".txt").read_text() == "Hello there.\n"
    assert "00:00:00.000 --> 00:00:01.000\nHello there." in talk.with_suffix(".vtt").read_text()
    assert "00:00:00,000 --> 00:00:01,000\nHello there." in talk.with_suffix(".srt").read_text()
    content = json.loads(talk.with_suffix(".json").read_text())
    assert (content["session"], content["language"], content["text"]) == ("s-1", "en", "Hello there.")


async def test_into_a_pipe_it_prints_captions_in_plain_lines_and_all_else_on_stderr(talk: Path) -> None:
    async with peer(good_server) as url:
        ran = await replay(talk, "--url", url)
    assert ran.output == "[00:00] Hello there.\n"
    assert "Wrote " in ran.errors
    assert "\x1b" not in ran.output + ran.errors


async def test_sentences_of_a_long_utterance_are_printed_one_by_one(talk: Path) -> None:
    sentence = " This sentence is long enough to be shown on a line of its own."

    async def script(peer: Peer) -> None:
        await peer.open()
        await peer.message()
        parts = [sentence, sentence, " And the rest"]
        for seq, text in enumerate(parts, start=1):
            await peer.say(Commit(seq, (WireWord(text, seq * 10.0, seq * 10.0 + 5, 0.9, None),), text, 0))
        await peer.finish(seq=4)

    async with peer(script) as url:
        ran = await replay(talk, "--url", url)
    assert ran.output.splitlines() == [
        f"[00:10]{sentence}",
        f"[00:20]{sentence}",
        "[00:30] And the rest",
    ]


async def test_options_reach_the_server(talk: Path) -> None:
    starts: list[Start] = []

    async def script(peer: Peer) -> None:
        starts.append(await peer.open())
        assert peer.socket.request is not None
        assert peer.socket.request.headers["Authorization"] == "Bearer t0ken"
        await peer.message()
        await peer.finish()

    async with peer(script) as url:
        options = ["--pace", "realtime", "--language", "de", "--task", "translate", "--vocabulary", "Fugue"]
        ran = await replay(talk, "--url", url, "--token", "t0ken", *options)
    assert ran.status == 0, ran.errors
    (start,) = starts
    assert (start.pace, start.language, start.task, start.vocabulary) == (
        "realtime",
        "de",
        "translate",
        ("Fugue",),
    )
    assert (start.diarize, start.min_speakers, start.max_speakers, start.final_pass) == (
        True,
        None,
        None,
        True,
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--speakers", "2"), (True, 2, 2, True)),
        (("--min-speakers", "2", "--max-speakers", "5"), (True, 2, 5, True)),
        (("--no-diarize", "--no-final-pass"), (False, None, None, False)),
    ],
)
async def test_what_is_asked_about_speakers_reaches_the_server(
    talk: Path, options: tuple[str, ...], expected: tuple[object, ...]
) -> None:
    starts: list[Start] = []

    async def script(peer: Peer) -> None:
        starts.append(await peer.open())
        await peer.message()
        await peer.finish()

    async with peer(script) as url:
        ran = await replay(talk, "--url", url, *options)
    assert ran.status == 0, ran.errors
    (start,) = starts
    assert (start.diarize, start.min_speakers, start.max_speakers, start.final_pass) == expected


async def test_numbers_of_speakers_that_contradict_each_other_are_refused_in_a_line(talk: Path) -> None:
    ran = await replay(talk, "--url", "http://127.0.0.1:1", "--min-speakers", "4", "--max-speakers", "2")
    assert ran.status == 2
    assert ran.errors.startswith("Error: --min-speakers 4 is more than --max-speakers 2.")


async def test_each_printed_line_names_its_speaker(talk: Path) -> None:
    async with peer(two_speakers, {RTTM_PATH: RTTM}) as url:
        ran = await replay(talk, "--url", url)
    assert ran.status == 0, ran.errors
    assert ran.output == "[00:00] S1: Hello.\n[00:03] S2: Hi!\n"


async def test_the_full_pass_is_followed_and_its_speakers_are_summed_up_on_stderr(talk: Path) -> None:
    async with peer(two_speakers, {RTTM_PATH: RTTM}) as url:
        ran = await replay(talk, "--url", url)
    followed = [line for line in ran.errors.splitlines() if line.startswith("Full pass")]
    assert followed[-1] == "Full pass: embeddings"  # an earlier one may have been overtaken unread
    assert "SPEAKER_00  00:03   75%  1 turn  live S1" in ran.errors
    assert "SPEAKER_01  00:01   25%  1 turn  live S2" in ran.errors


async def test_files_have_the_full_passs_speakers_and_the_servers_turns(talk: Path) -> None:
    asked: list[Request] = []
    async with peer(two_speakers, {RTTM_PATH: RTTM}, asked) as url:
        ran = await replay(talk, "--url", url, "--token", "t0ken")
    assert ran.status == 0, ran.errors
    assert talk.with_suffix(".rttm").read_text() == RTTM
    assert talk.with_suffix(".txt").read_text() == "Speaker 1: Hello.\n\nSpeaker 2: Hi!\n"
    assert "<v Speaker 2>Hi!" in talk.with_suffix(".vtt").read_text()
    assert [request.headers["Authorization"] for request in asked] == ["Bearer t0ken"]


async def test_turns_that_cannot_be_fetched_cost_a_line_and_not_the_transcripts(talk: Path) -> None:
    async with peer(two_speakers) as url:
        ran = await replay(talk, "--url", url)
    assert ran.status == 0, ran.errors
    assert "The turns could not be fetched" in ran.errors
    assert talk.with_suffix(".vtt").exists()


async def test_a_reference_of_the_users_own_is_not_overwritten(talk: Path) -> None:
    own = talk.with_suffix(".rttm")
    own.write_text("SPEAKER talk 1 0.000 1.000 <NA> <NA> Anna <NA> <NA>\n")
    async with peer(two_speakers, {RTTM_PATH: RTTM}) as url:
        ran = await replay(talk, "--url", url)
    assert ran.status == 0, ran.errors
    assert "Anna" in own.read_text()
    assert talk.with_name("talk.wav.rttm").read_text() == RTTM


async def test_output_names_a_folder_that_is_made_if_need_be(talk: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out" / "transcripts"
    async with peer(good_server) as url:
        ran = await replay(talk, "--url", url, "--output", folder)
    assert ran.status == 0, ran.errors
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"talk.{e}" for e in EXTENSIONS)
    assert not talk.with_suffix(".vtt").exists()


async def test_files_that_differ_by_extension_alone_get_transcripts_of_their_own(talk: Path) -> None:
    other = write_tone(talk.with_name("talk.wave"), duration=0.2)
    async with peer(good_server) as url:
        ran = await replay(talk, other, "--url", url)
    assert ran.status == 0, ran.errors
    assert talk.with_name("talk.vtt").exists()
    assert talk.with_name("talk.wave.vtt").exists()


async def test_a_text_of_the_users_own_is_not_overwritten(talk: Path) -> None:
    own = talk.with_suffix(".txt")
    own.write_text("What I am going to say.")
    async with peer(good_server) as url:
        ran = await replay(talk, "--url", url)
    assert ran.status == 0, ran.errors
    assert own.read_text() == "What I am going to say."
    assert talk.with_name("talk.wav.txt").read_text() == "Hello there.\n"


async def test_a_second_replay_overwrites_what_the_first_has_written(talk: Path) -> None:
    async with peer(good_server) as url:
        await replay(talk, "--url", url)
        talk.with_suffix(".txt").write_text("changed")
        await replay(talk, "--url", url)
    assert talk.with_suffix(".txt").read_text() == "Hello there.\n"
    assert not talk.with_name("talk.wav.txt").exists()


# What goes wrong ----------------------------------------------------------------------------------


async def test_bad_files_cost_a_line_each_and_the_good_one_is_replayed(talk: Path, tmp_path: Path) -> None:
    letter, folder = tmp_path / "letter.txt", tmp_path / "folder"
    letter.write_text("Dear Sir or Madam,\n")
    folder.mkdir()
    async with peer(good_server) as url:
        ran = await replay(tmp_path / "missing.wav", letter, talk, folder, "--url", url)
    assert ran.status == 1
    complaints = [line for line in ran.errors.splitlines() if line.startswith("Error: ")]
    assert len(complaints) == 3
    assert "missing.wav does not exist" in complaints[0]
    assert "letter.txt" in complaints[1]
    assert "folder is a folder" in complaints[2]
    assert "Traceback" not in ran.errors
    assert talk.with_suffix(".vtt").exists()


async def test_no_server_at_the_address_is_one_line(talk: Path, unused_tcp_port: int) -> None:
    ran = await replay(talk, "--url", f"http://127.0.0.1:{unused_tcp_port}")
    assert ran.status == 1
    assert f"Error: {talk}: No server answers at" in ran.errors
    assert "Traceback" not in ran.errors
    assert not talk.with_suffix(".vtt").exists()


async def test_an_output_folder_that_cannot_be_is_said_before_anything_is_sent(talk: Path) -> None:
    ran = await replay(talk, "--url", "http://127.0.0.1:1", "--output", talk / "out")
    assert ran.status == 1
    assert "cannot be written to" in ran.errors
    assert "--output" in ran.errors


async def test_what_was_heard_before_the_server_failed_is_written(talk: Path) -> None:
    async def script(peer: Peer) -> None:
        start = await peer.message()
        assert isinstance(start, Start)
        if start.resume is not None:
            await peer.say(Error("session_unknown", "There is none.", "Open another."))
        else:
            await peer.say(READY, Commit(1, (WireWord(" Hello", 0.0, 0.4, 0.9, None),), " Hello", 0))
            await peer.say(Error("internal", "The server has lost its mind.", "Try again."))
        await peer.socket.close(1011)

    async with peer(script) as url:
        ran = await replay(talk, "--url", url)
    assert ran.status == 1
    assert "Reconnecting: The server has lost its mind." in ran.errors
    assert f"Error: {talk}: The server has lost its mind. Try again." in ran.errors
    assert talk.with_suffix(".txt").read_text() == "Hello\n"


async def test_a_file_whose_session_ended_while_the_server_was_out_of_reach_is_written_and_an_error(
    tmp_path: Path,
) -> None:
    talk = write_tone(tmp_path / "talk.wav", duration=30.0)

    async def script(peer: Peer) -> None:
        start = await peer.message()
        assert isinstance(start, Start)
        if start.resume is None:
            await peer.say(READY)
            await peer.audio_of(1)
            peer.socket.transport.abort()
            return
        await peer.say(READY)
        await peer.audio_of(1)
        await peer.say(Notice("audio_dropped", "What came later was not heard."))
        await peer.say(commit(1, " Hello"), Stopped(2, 1.0, " Hello"), final(3, " Hello"))
        await peer.socket.close(1000)

    async with peer(script) as url:
        ran = await replay(talk, "--url", url)
    assert ran.status == 1
    said = ["Reconnecting: The connection was lost", "Connected again.", "What came later was not heard."]
    places = [
        ran.errors.index(sentence) for sentence in [*said, f"Error: {talk}: The server was out of reach"]
    ]
    assert places == sorted(places)
    assert talk.with_suffix(".json").exists()


async def test_a_model_for_a_server_that_has_its_own_is_said_to_do_nothing(talk: Path) -> None:
    async with peer(good_server) as url:
        ran = await replay(talk, "--url", url, "--model", "base")
    assert ran.status == 0, ran.errors
    assert "--model and --device do nothing with --url" in ran.errors


async def test_a_file_without_words_is_said_to_have_none(talk: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.open()
        await peer.message()
        await peer.finish()

    async with peer(script) as url:
        ran = await replay(talk, "--url", url)
    assert ran.status == 0, ran.errors
    assert "no words were recognised" in ran.errors


async def test_a_file_that_says_it_is_longer_than_it_is_gets_a_warning(tmp_path: Path) -> None:
    talk = write_tone(tmp_path / "talk.wav", duration=60.0, rate_hz=8000, channels=1)
    async with peer(good_server) as url:  # which hears one second
        ran = await replay(talk, "--url", url)
    assert "ended early: 1 s of 60 s were heard" in ran.errors


async def test_a_file_that_is_heard_to_its_end_gets_no_warning(tmp_path: Path) -> None:
    talk = write_tone(tmp_path / "talk.wav", duration=1.1, rate_hz=8000, channels=1)
    async with peer(good_server) as url:
        ran = await replay(talk, "--url", url)
    assert "early" not in ran.errors
    assert "no words" not in ran.errors


async def test_a_server_that_wants_a_token_makes_it_name_the_flag(talk: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.say(Error("unauthorized", "This server asks for a token.", "Send a header."))
        await peer.socket.close(1008)

    async with peer(script) as url:
        ran = await replay(talk, "--url", url)
    assert ran.status == 1
    assert "This server asks for a token. Give the server's token with --token" in ran.errors


@pytest.mark.parametrize(
    ("language", "hint"),
    [
        ("Germn", "Did you mean de (German)?"),
        ("x", "Give a tag like en, pt-BR"),
    ],
)
async def test_what_is_no_language_is_answered_with_the_nearest(talk: Path, language: str, hint: str) -> None:
    ran = await replay(talk, "--url", "http://127.0.0.1:1", "--language", language)
    assert ran.status == 2
    assert hint in ran.errors
    assert not talk.with_suffix(".vtt").exists()


@pytest.mark.parametrize("language", ["english", "en-US", "EN", "pt_BR", "auto"])
async def test_tags_and_names_of_languages_are_taken(talk: Path, language: str) -> None:
    ran = await replay(talk, "--url", "http://127.0.0.1:1", "--language", language)
    assert ran.status == 1
    assert "Connect call failed" in ran.errors


# Ctrl-C -------------------------------------------------------------------------------------------


async def test_ctrl_c_stops_the_session_and_writes_what_was_heard(tmp_path: Path) -> None:
    talk = write_tone(tmp_path / "long.wav", duration=60.0, rate_hz=8000, channels=1)
    heard = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.open()
        await peer.audio_of(6400)
        heard.set()
        assert isinstance(await peer.message(), Stop)
        await peer.say(Commit(1, (WireWord(" Hello", 0.0, 0.2, 0.9, None),), " Hello", 0))
        await peer.say(Stopped(2, 0.2, " Hello"))
        await peer.socket.close(1000)

    async with peer(script) as url, replaying(talk, "--url", url, "--pace", "realtime") as process:
        await asyncio.wait_for(heard.wait(), 30)
        process.send_signal(signal.SIGINT)
        _, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 130, errors.decode()
    assert "Traceback" not in errors.decode()
    assert talk.with_suffix(".txt").read_text() == "Hello\n"


async def test_a_second_ctrl_c_does_not_wait_for_the_server(tmp_path: Path) -> None:
    talk = write_tone(tmp_path / "long.wav", duration=60.0, rate_hz=8000, channels=1)
    stopped = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.open()
        await peer.say(Commit(1, (WireWord(" Hello", 0.0, 0.2, 0.9, None),), " Hello", 0))
        await peer.audio_of(6400)
        process.send_signal(signal.SIGINT)
        assert isinstance(await peer.message(), Stop)
        stopped.set()
        await peer.message()  # and says nothing more

    async with peer(script) as url, replaying(talk, "--url", url, "--pace", "realtime") as process:
        await asyncio.wait_for(stopped.wait(), 30)
        process.send_signal(signal.SIGINT)
        _, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 130, errors.decode()
    assert "Traceback" not in errors.decode()
    assert talk.with_suffix(".txt").read_text() == "Hello\n"


# In a terminal ------------------------------------------------------------------------------------


async def shown_in_a_terminal(
    *arguments: str | Path, drawn: asyncio.Event | None = None, sign: str = "behind"
) -> str:
    """Run the command in a terminal of its own, and return all that it wrote there.

    `drawn` is set as soon as the terminal shows `sign`, by default how far the captions are behind.
    """
    ours, theirs = pty.openpty()
    async with replaying(*arguments, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = bytearray()
        with suppress(OSError):  # how a terminal says that nobody writes to it any more
            while chunk := await asyncio.to_thread(os.read, ours, 65_536):
                shown += chunk
                if drawn is not None and sign.encode() in shown:
                    drawn.set()
        await asyncio.wait_for(process.wait(), 30)
    os.close(ours)
    assert process.returncode == 0, shown.decode()
    return shown.decode()


async def test_in_a_terminal_the_tail_is_dim_and_the_bar_tells_position_and_lag(talk: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.open()
        await peer.message()
        await peer.say(
            Commit(1, (WireWord(" Hello", 0.0, 0.4, 0.9, None),), " Hello", 0),
            Partial(" their", (WireWord(" their", 0.4, 1.0, 0.5, None),), 0.4, 1.0),
            Lag(62.0, 61.2, 0.8),
        )
        await drawn.wait()  # the picture is drawn ten times a second, and messages come faster
        await peer.finish(seq=2, text=" Hello")

    drawn = asyncio.Event()
    async with peer(script) as url:
        shown = await shown_in_a_terminal(talk, "--url", url, drawn=drawn)
    assert "talk.wav" in shown
    assert "Hello\x1b[2;3m their" in shown
    assert "01:02 / 00:00 · 0.8 s behind" in shown


async def test_in_a_terminal_a_coloured_label_stands_where_the_speaker_changes(talk: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.open()
        await peer.message()
        for seq, (text, speaker, utterance) in enumerate(
            [(" One", "S1", 0), (" two", "S1", 1), (" three", "S2", 2)], start=1
        ):
            await peer.say(commit(seq, text, speaker, utterance))
        await peer.finish(seq=4, text=" One two three")

    async with peer(script) as url:
        shown = await shown_in_a_terminal(talk, "--url", url)
    assert "[00:00] \x1b[1;36mS1: \x1b[0mOne" in shown
    assert "[00:01] two" in shown
    assert "[00:02] \x1b[1;33mS2: \x1b[0mthree" in shown


async def test_in_a_terminal_a_corrected_label_shows_in_what_is_still_open(talk: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.open()
        await peer.message()
        await peer.say(commit(1, " Hello", "S1"), Label(2, 0.0, 1.0, "S2"), Lag(1.0, 1.0, 0.5))
        await drawn.wait()
        await peer.finish(seq=3, text=" Hello")

    drawn = asyncio.Event()
    async with peer(script) as url:
        shown = await shown_in_a_terminal(talk, "--url", url, drawn=drawn)
    assert "S2: \x1b[0mHello" in shown
    assert "[00:00] \x1b[1;36mS1" not in shown


async def test_in_a_terminal_the_full_pass_has_the_bar_and_the_summary_a_timeline(talk: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.open()
        await peer.message()
        await peer.say(commit(1, " Hello", "S1"), Stopped(2, 1.0, " Hello"), Progress("embeddings", 0.5))
        await drawn.wait()
        words = (WireWord(" Hello", 0.0, 1.0, 0.9, "SPEAKER_00"),)
        segments = (FinalSegment(0.0, 1.0, "SPEAKER_00", "Hello", words),)
        speakers = (FinalSpeaker("SPEAKER_00", ("S1",), 1.0, 1),)
        await peer.say(final(3, "Hello", segments, speakers))
        await peer.socket.close(1000)

    drawn = asyncio.Event()
    async with peer(script) as url:
        shown = await shown_in_a_terminal(talk, "--url", url, drawn=drawn, sign="embeddings")
    assert "full pass: embeddings 50%" in shown
    assert "█" * 30 in shown
    assert "100%  1 turn" in shown


async def test_labels_cannot_steer_the_terminal(talk: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.open()
        await peer.message()
        await peer.say(commit(1, " Hello", "\x1b]0;owned\x07"))
        await peer.finish(seq=2)

    async with peer(script) as url:
        shown = await shown_in_a_terminal(talk, "--url", url)
    assert "\x1b]0;owned" not in shown


async def test_recognised_text_cannot_steer_the_terminal(talk: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.open()
        await peer.message()
        text = "\x1b]0;owned\x07 [red]plain[/red]"
        await peer.say(Commit(1, (WireWord(text, 0.0, 1.0, 0.9, None),), text, 0))
        await peer.finish(seq=2)

    async with peer(script) as url:
        shown = await shown_in_a_terminal(talk, "--url", url)
    assert "\x1b]0;owned" not in shown
    assert "[red]plain[/red]" in shown


# The real thing -----------------------------------------------------------------------------------


def folders_in(folder: Path) -> list[Path]:
    """List what a temporary folder holds."""
    return list(folder.iterdir())


def own_server_of(process: asyncio.subprocess.Process) -> list[psutil.Process]:
    """List the processes that the command has started."""
    return psutil.Process(process.pid).children(recursive=True)


async def test_without_a_url_it_starts_a_server_of_its_own_and_ends_it(
    sample_wav: Path, models_dir: Path, tmp_path: Path
) -> None:
    environment = {
        "LIVE_ASR_MODELS__DIR": str(models_dir),
        "TMPDIR": str(tmp_path),
        # The database of a server that stays is none of its business, so it does not matter that it is wrong.
        "LIVE_ASR_STORAGE__DATABASE": f"sqlite:///{tmp_path}/missing/folder/sessions.db",
    }
    arguments = (sample_wav, "--output", tmp_path / "out", "--model", "tiny.en")
    async with replaying(*arguments, environment=environment) as process:
        assert process.stdout is not None
        first_line = await asyncio.wait_for(process.stdout.readline(), 120)
        started = own_server_of(process)
        output, errors = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, errors.decode()
    assert "Starting a server" in errors.decode()
    assert first_line.startswith(b"[00:")
    assert len(output.decode().splitlines()) > 2
    assert (tmp_path / "out" / "sample.vtt").read_text().count("-->") > 3
    assert b" S1: " in first_line + output
    assert "2 speakers" in errors.decode()
    assert " SPEAKER_01 " in (tmp_path / "out" / "sample.rttm").read_text()
    assert started
    assert not any(server.is_running() for server in started)
    assert not any(path.name.startswith("live-asr") for path in folders_in(tmp_path))


async def test_a_server_that_cannot_start_is_an_error_with_its_last_words(talk: Path, tmp_path: Path) -> None:
    ran = await replay(talk, "--model", "tiny.en", "--device", "abacus")
    assert ran.status in (1, 2)
    assert "abacus" in ran.errors
    assert "Traceback" not in ran.errors


async def test_ctrl_c_ends_the_server_of_its_own_too(
    sample_pcm: bytes, models_dir: Path, tmp_path: Path
) -> None:
    environment = {"LIVE_ASR_MODELS__DIR": str(models_dir), "TMPDIR": str(tmp_path)}
    talk = tmp_path / "sample.wav"
    with wave.open(str(talk), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(sample_pcm[14 * 32_000 :])  # at once somebody speaks
    arguments = (talk, "--output", tmp_path / "out", "--model", "tiny.en", "--pace", "realtime")
    async with replaying(*arguments, environment=environment) as process:
        assert process.stdout is not None
        await asyncio.wait_for(process.stdout.readline(), 120)
        started = own_server_of(process)
        process.send_signal(signal.SIGINT)
        _, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 130, errors.decode()
    assert "Traceback" not in errors.decode()
    assert (tmp_path / "out" / "sample.txt").read_text().strip()
    assert started
    assert not any(server.is_running() for server in started)
    assert not any(path.name.startswith("live-asr") for path in folders_in(tmp_path))
