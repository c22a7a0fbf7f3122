"""A session's states, and what it says under a recogniser that does all it can to spoil the record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from driving import Driver
from hypothesis import given, settings
from hypothesis import strategies as st

from live_asr.core.clock import MAX_POINTS
from live_asr.core.errors import ClientError
from live_asr.core.messages import (
    KEPT,
    AudioFormat,
    ClockPoint,
    Commit,
    Final,
    Finalized,
    Notice,
    Partial,
    Pause,
    Paused,
    ServerMessage,
    Speech,
    Start,
    Stopped,
    Time,
    Timed,
    Update,
    Updated,
    UtteranceMessage,
)
from live_asr.core.result import make_result
from live_asr.core.session import TRANSITIONS, Session, SessionEvent, SessionState
from live_asr.core.streaming_policy import StreamingPolicyOptions
from live_asr.core.transcript import Transcript
from live_asr.core.types import Word, samples
from live_asr.models.scripted import (
    Mishap,
    ScriptedRecognizer,
    UnreliableRecognizer,
    audio_of,
    numbered,
    spoken,
)

S, E = SessionState, SessionEvent


def new_session(**start: Any) -> Session:
    return Session("test", Start(**{"pace": "fast", "language": "en", **start}))


# Rule 4: every (state, event) pair is in the table, or raises and changes nothing ----------------------


def session_in(state: SessionState) -> Session:
    """Bring a session into `state` by what may happen to it."""
    session = new_session()
    if state is S.OPEN:
        return session
    session.receive_audio(audio_of(spoken("one two three"), samples(1.0)))
    if state is S.STREAMING:
        return session
    if state is S.FAILED:
        session.receive_break()
        return session
    session.receive_stop()
    if state is S.DRAINING:
        return session
    Driver(session, ScriptedRecognizer(spoken("one two three"))).work()
    if state is S.DONE:
        session.finish(make_result(session.transcript, {}).final)
    return session


AT = "2026-11-21T14:05:09.120Z"
HAPPENINGS: dict[SessionEvent, Callable[[Session], None]] = {
    E.AUDIO_RECEIVED: lambda session: session.receive_audio(np.zeros(512, np.float32)),
    E.FINALIZE_RECEIVED: Session.receive_finalize,
    E.CLIENT_SILENT: Session.receive_silence,
    E.UPDATE_RECEIVED: lambda session: session.receive_update(Update(language="en")),
    E.TIME_RECEIVED: lambda session: session.receive_time(Time(AT, audio_seconds=1.0)),
    E.PAUSE_RECEIVED: lambda session: session.receive_pause(Pause()),
    E.STOP_RECEIVED: Session.receive_stop,
    E.CLIENT_LOST: Session.receive_loss,
    E.FINISHED: lambda session: session.finish(make_result(session.transcript, {}).final),
    E.BROKEN: Session.receive_break,
}


@pytest.mark.parametrize("state", list(S), ids=lambda state: state.value)
def test_each_state_can_be_reached(state: SessionState) -> None:
    assert session_in(state).state is state


@pytest.mark.parametrize(("state", "event"), list(product(S, HAPPENINGS)), ids=lambda value: value.value)
def test_an_event_leads_where_the_table_says_or_is_refused_and_changes_nothing(
    state: SessionState, event: SessionEvent
) -> None:
    session = session_in(state)
    session.messages()
    before = checkpoint(session)
    if event in TRANSITIONS[state]:
        HAPPENINGS[event](session)
        expected = TRANSITIONS[state][event]
        if state is S.OPEN and expected is S.DRAINING:
            expected = TRANSITIONS[expected][E.DRAINED]  # there is no audio to drain: that is over at once
        assert session.state is expected
        return
    with pytest.raises(ClientError) as refusal:
        HAPPENINGS[event](session)
    assert refusal.value.code == "unexpected_message"
    assert state.value in refusal.value.message and event.value in refusal.value.message
    assert refusal.value.hint
    assert checkpoint(session) == before
    assert session.messages() == []


def checkpoint(session: Session) -> tuple[object, ...]:
    lag = session.lag()
    return session.state, session.backlog_samples, session.transcript.last_seq, session.transcript.text, lag


@pytest.mark.parametrize("state", list(S), ids=lambda state: state.value)
def test_every_state_has_a_row_in_the_table(state: SessionState) -> None:
    assert state in TRANSITIONS


def test_only_a_draining_session_can_be_drained() -> None:
    assert [state for state in S if E.DRAINED in TRANSITIONS[state]] == [S.DRAINING]


def test_nothing_that_happens_brings_a_session_that_is_over_back() -> None:
    for state in (S.DONE, S.FAILED):
        assert set(TRANSITIONS[state].values()) == {state}


# Its course ---------------------------------------------------------------------------------------------


def course(session: Session, script: Sequence[Word], duration: float) -> list[ServerMessage]:
    driver = Driver(session, ScriptedRecognizer(script))
    driver.hear(audio_of(script, samples(duration)))
    session.receive_stop()
    driver.work()
    return session.messages()


def test_a_session_that_is_stopped_before_any_audio_is_complete_at_once() -> None:
    session = new_session()
    session.receive_stop()
    assert session.messages() == [Stopped(1, 0.0, "")]
    session.finish(make_result(session.transcript, {"txt": "/t.txt"}).final)
    (final,) = session.messages()
    assert isinstance(final, Final)
    assert (final.seq, final.text, final.duration, final.segments) == (2, "", 0.0, ())
    assert session.state is S.DONE


@pytest.mark.parametrize("length", [1, 100, 511, 512, 513, 1_600])
def test_a_session_that_is_stopped_within_its_first_100_ms_says_how_long_it_was(length: int) -> None:
    session = new_session()
    driver = Driver(session, ScriptedRecognizer(()))
    driver.hear(audio_of(spoken("on"), length))
    session.receive_stop()
    driver.work()
    stopped = session.messages()[-1]
    assert isinstance(stopped, Stopped)
    assert stopped.duration == round(length / 16_000, 3)


def test_messages_come_in_the_order_speech_words_utterance_stopped() -> None:
    messages = course(new_session(), spoken("we speak of many things today", 0.5), 4.0)
    kinds = [message.type for message in messages if not isinstance(message, Partial)]
    assert kinds[0] == "speech"
    assert kinds[-3:] == ["utterance", "speech", "stopped"]
    assert set(kinds[1:-3]) == {"commit"}
    assert [m.state for m in messages if isinstance(m, Speech)] == ["started", "ended"]


def test_partials_show_what_commits_do_not_yet_hold() -> None:
    script = spoken("we speak of many things today", 0.5)
    messages = course(new_session(), script, 4.0)
    shown = Transcript()
    whole = "".join(word.text for word in script)
    for message in messages:
        shown.apply(message)
        if isinstance(message, Partial) and message.words:
            text = shown.text + "".join(word.text for word in shown.tail[:-1])
            assert whole.startswith(text)


def test_a_client_that_wants_no_partials_gets_none_and_the_same_record() -> None:
    script = spoken("we speak of many things today", 0.5)
    with_partials = course(new_session(), script, 4.0)
    without = course(new_session(interim=False), script, 4.0)
    assert any(isinstance(message, Partial) for message in with_partials)
    assert without == [message for message in with_partials if not isinstance(message, Partial)]


def test_the_final_record_is_the_live_one() -> None:
    script = numbered([*spoken("one two three", 0.5), *spoken("four five", 4.0)])
    session = new_session()
    messages = course(session, script, 6.0)
    links = {"json": "/v1/sessions/test/transcript.json"}
    session.finish(make_result(session.transcript, links).final)
    (final,) = session.messages()
    stopped = messages[-1]
    assert isinstance(final, Final) and isinstance(stopped, Stopped)
    assert final.text == stopped.text == " one two three four five"
    assert [segment.text for segment in final.segments] == ["one two three", "four five"]
    assert (final.seq, final.duration, final.language) == (stopped.seq + 1, 6.0, "en")


def test_finalize_in_mid_speech_commits_what_was_heard_and_the_session_goes_on() -> None:
    script = spoken("one two three four five six seven eight", 0.0)
    audio = audio_of(script, samples(4.0))
    session = new_session()
    driver = Driver(session, ScriptedRecognizer(script))
    driver.hear(audio[: samples(1.2)])
    session.receive_finalize()
    driver.work()
    messages = session.messages()
    assert messages[-1] == Finalized(1.2)
    assert session.transcript.text == " one two three four"
    driver.hear(audio[samples(1.2) :])
    session.receive_stop()
    driver.work()
    assert session.transcript.text == " one two three four five six seven eight"


def test_finalize_in_silence_is_answered_at_once_and_commits_nothing() -> None:
    session = new_session()
    driver = Driver(session, ScriptedRecognizer(()))
    driver.hear(np.zeros(samples(1.0), np.float32))
    session.receive_finalize()
    assert session.messages() == [Finalized(1.0)]
    assert driver.requests == []


def test_finalize_before_any_audio_is_answered() -> None:
    session = new_session()
    session.receive_finalize()
    assert session.messages() == [Finalized(0.0)]
    assert session.state is S.OPEN


def test_silence_in_mid_speech_commits_what_was_heard_unanswered_and_the_session_goes_on() -> None:
    script = spoken("one two three four five six seven eight", 0.0)
    audio = audio_of(script, samples(4.0))
    session = new_session()
    driver = Driver(session, ScriptedRecognizer(script))
    driver.hear(audio[: samples(1.2)])
    session.receive_silence()
    driver.work()
    assert session.transcript.text == " one two three four"
    before = session.messages()
    assert [m.text for m in before if isinstance(m, UtteranceMessage)] == ["one two three four"]
    session.receive_silence()
    assert session.messages() == []
    driver.hear(audio[samples(1.2) :])
    session.receive_stop()
    driver.work()
    assert session.transcript.text == " one two three four five six seven eight"
    assert not any(isinstance(message, Finalized) for message in [*before, *session.messages()])


def test_settings_change_behind_the_audio_that_came_before_them() -> None:
    script = spoken("one two three four five six seven eight", 0.0)
    audio = audio_of(script, samples(4.0))
    session = new_session()
    driver = Driver(session, ScriptedRecognizer(script))
    session.receive_audio(audio[: samples(1.2)])
    session.receive_update(Update(vocabulary=("eight",), interim=False))
    assert session.messages() == []
    driver.work()
    assert session.messages()[-1] == Updated(1, 1.2, "en", (), ("eight",), False)
    driver.hear(audio[samples(1.2) :])
    session.receive_stop()
    driver.work()
    assert not any(isinstance(message, Partial) for message in session.messages())
    assert session.transcript.text == " one two three four five six seven eight"
    assert [request.vocabulary for request in driver.requests[:1]] == [()]
    assert driver.requests[-1].vocabulary == ("eight",)


def test_an_update_of_nothing_is_answered_with_what_is_in_force() -> None:
    session = new_session(language=None, languages=("de", "en"), vocabulary=("a", "b"))
    session.receive_update(Update())
    assert session.messages() == [Updated(1, 0.0, None, ("de", "en"), ("a", "b"), True)]
    session.receive_update(Update(language="de"))
    session.receive_update(Update(language="auto", languages=()))
    assert session.messages() == [
        Updated(2, 0.0, "de", ("de", "en"), ("a", "b"), True),
        Updated(3, 0.0, None, (), ("a", "b"), True),
    ]


def test_a_pause_commits_what_was_said_before_it_and_closes_the_utterance() -> None:
    script = spoken("one two three four five six seven eight", 0.0)
    audio = audio_of(script, samples(4.0))
    session = new_session()
    driver = Driver(session, ScriptedRecognizer(script))
    session.receive_audio(audio[: samples(1.5)])
    session.receive_pause(Pause())
    driver.work()
    told = session.messages()
    assert [type(message) for message in told[-3:]] == [UtteranceMessage, Speech, Paused]
    assert told[-1] == Paused(session.transcript.last_seq, 1.5, True)
    assert session.transcript.is_paused
    before = session.transcript.text
    assert before.startswith(" one two three four")
    session.receive_pause(Pause(paused=False))
    assert session.messages() == [Paused(session.transcript.last_seq, 1.5, False)]
    driver.hear(audio[samples(1.5) :])
    session.receive_stop()
    driver.work()
    assert session.transcript.text.startswith(before)
    assert session.transcript.text.endswith(" seven eight")
    assert not session.transcript.is_paused


def test_each_of_two_finalizes_is_answered_and_nothing_is_committed_twice() -> None:
    script = spoken("one two three four five", 0.0)
    session = new_session()
    driver = Driver(session, ScriptedRecognizer(script))
    driver.hear(audio_of(script, samples(1.5)))
    session.receive_finalize()
    session.receive_finalize()
    driver.work()
    session.receive_finalize()
    driver.work()
    assert [m for m in session.messages() if isinstance(m, Finalized)] == [Finalized(1.5)] * 3
    assert session.transcript.text == " one two three four five"


def test_finalize_waits_for_a_decode_that_is_under_way() -> None:
    script = spoken("one two three four five", 0.0)
    session = new_session()
    driver = Driver(session, ScriptedRecognizer(script))
    session.receive_audio(audio_of(script, samples(1.5)))
    while driver.judge():
        pass
    session.receive_finalize()
    assert not any(isinstance(message, Finalized) for message in session.messages())
    driver.work()
    assert session.messages()[-1] == Finalized(1.5)


@pytest.mark.parametrize("at", [0.0, 0.1, 0.4, 1.0, 1.5, 3.0])
def test_a_client_lost_at_any_point_leaves_everything_that_was_heard(at: float) -> None:
    script = spoken("one two three four five", 0.3)
    audio = audio_of(script, samples(4.0))
    lost, stopped = new_session(), new_session()
    for session in (lost, stopped):
        driver = Driver(session, ScriptedRecognizer(script))
        if at:
            driver.hear(audio[: samples(at)])
        if session is lost:
            session.receive_loss()
            session.receive_loss()
        else:
            session.receive_stop()
        driver.work()
        assert session.state is S.FINALIZING
    assert lost.messages() == stopped.messages()


def test_a_client_lost_while_its_session_drains_changes_nothing() -> None:
    script = spoken("one two three four five", 0.3)
    session = new_session()
    session.receive_audio(audio_of(script, samples(2.0)))
    session.receive_stop()
    session.receive_loss()
    Driver(session, ScriptedRecognizer(script)).work()
    assert [m.type for m in session.messages()].count("stopped") == 1
    assert session.transcript.text == " one two three four five"


def test_lag_is_what_was_received_and_is_neither_committed_nor_silence() -> None:
    script = spoken("one two three four five", 1.0)
    session = new_session()
    driver = Driver(session, ScriptedRecognizer(script))
    driver.hear(audio_of(script, samples(1.0)))
    assert session.lag().seconds < 0.033
    session.receive_audio(audio_of(spoken("one two three four five"), samples(2.0)))
    assert session.lag().received == 3.0
    assert session.lag().seconds > 2.0
    driver.hear(np.zeros(samples(0.2), np.float32))
    assert session.transcript.text == " one two three four five"
    assert session.lag().seconds < 0.033


# Rules 2 and 5: whatever the recogniser does ------------------------------------------------------------

PHRASES = st.lists(
    st.tuples(st.floats(0.05, 4.0), st.integers(1, 25), st.floats(0.1, 0.6)), min_size=0, max_size=5
)
MISHAPS = st.lists(st.sampled_from(Mishap), max_size=60)


def script_of(phrases: Sequence[tuple[float, int, float]]) -> tuple[Word, ...]:
    """Script phrases of (pause before it, words, seconds of each word)."""
    words: list[Word] = []
    time = 0.0
    for pause, count, length in phrases:
        time += pause
        words += spoken(" ".join(f"w{len(words) + i}" for i in range(count)), time, word=length)
        time += count * length
    return numbered(words)


@settings(max_examples=250, deadline=None)
@given(
    phrases=PHRASES,
    mishaps=MISHAPS,
    cuts=st.lists(st.integers(0, samples(40.0)), max_size=12),
    finalizes=st.sets(st.integers(0, 11)),
    lost=st.booleans(),
    pace=st.sampled_from(["realtime", "fast"]),
    step=st.floats(0.2, 5.0),
)
def test_the_record_only_grows_and_is_complete_whatever_the_recogniser_does(
    phrases: list[tuple[float, int, float]],
    mishaps: list[Mishap],
    cuts: list[int],
    finalizes: set[int],
    lost: bool,
    pace: str,
    step: float,
) -> None:
    script = script_of(phrases)
    audio = audio_of(script, (script[-1].end_sample if script else 0) + samples(0.4))
    session = new_session(pace=pace, language=None)
    session.set_step(samples(step))
    driver = Driver(session, UnreliableRecognizer(ScriptedRecognizer(script), mishaps))
    messages: list[ServerMessage] = []
    for index, piece in enumerate(np.split(audio, sorted(cut for cut in cuts if cut < len(audio)))):
        driver.hear(piece)
        if index in finalizes:
            session.receive_finalize()
            driver.work()
        messages += session.messages()
    if lost:
        session.receive_loss()
    else:
        session.receive_stop()
    driver.work()
    messages += session.messages()
    assert session.state is S.FINALIZING
    assert_sound(messages, len(audio))
    for request in driver.requests:
        assert 0 <= request.start_sample < request.end_sample <= len(audio)
        assert request.end_sample - request.start_sample < samples(25.0)
        assert 0 < request.max_new_tokens <= 200


def assert_sound(messages: Sequence[ServerMessage], length_samples: int) -> None:
    """Check all that must hold of the messages of any session that was stopped."""
    kept = [message for message in messages if isinstance(message, KEPT)]
    assert [message.seq for message in kept] == list(range(1, len(kept) + 1))
    client, text = Transcript(), ""
    for message in messages:
        client.apply(message)
        assert client.text.startswith(text)
        text = client.text
    stopped = kept[-1]
    assert isinstance(stopped, Stopped)
    assert stopped.text == text
    assert stopped.duration == round(length_samples / 16_000, 3)
    assert client.tail == ()
    commits = [message for message in kept if isinstance(message, Commit)]
    assert all(commit.words and commit.text == "".join(w.text for w in commit.words) for commit in commits)
    time = 0.0
    for word in (word for commit in commits for word in commit.words):
        assert time <= word.start <= word.end <= stopped.duration
        time = word.end
    complete = [message for message in kept if isinstance(message, UtteranceMessage)]
    assert [message.utterance for message in complete] == list(range(len(complete)))
    for message in complete:
        words = [w for commit in commits if commit.utterance == message.utterance for w in commit.words]
        assert message.text == "".join(word.text for word in words).strip()
        assert (message.start, message.end) == (words[0].start, words[-1].end)
    assert {commit.utterance for commit in commits} == {message.utterance for message in complete}
    spoken_states = [message.state for message in messages if isinstance(message, Speech)]
    assert spoken_states == ["started", "ended"] * (len(spoken_states) // 2)


OPTIONS = st.tuples(
    st.floats(2, 20),
    st.floats(0, 15),
    st.floats(0.2, 5),
    st.floats(0.2, 5),
    st.floats(0, 3),
    st.floats(5, 600),
)


@settings(max_examples=150, deadline=None)
@given(phrases=PHRASES, mishaps=MISHAPS, numbers=OPTIONS)
def test_the_record_is_sound_under_every_setting_that_is_allowed(
    phrases: list[tuple[float, int, float]], mishaps: list[Mishap], numbers: tuple[float, ...]
) -> None:
    script = script_of(phrases)
    audio = audio_of(script, (script[-1].end_sample if script else 0) + samples(0.4))
    session = Session("test", Start(pace="fast"), options_of(*numbers))
    driver = Driver(session, UnreliableRecognizer(ScriptedRecognizer(script), mishaps))
    driver.hear(audio)
    session.receive_stop()
    driver.work()
    assert_sound(session.messages(), len(audio))
    for request in driver.requests:
        assert request.end_sample - request.start_sample <= samples(28.0)


def options_of(
    trim: float, carry: float, step: float, first: float, guard: float, longest: float
) -> StreamingPolicyOptions:
    defaults = StreamingPolicyOptions()
    return replace(
        defaults,
        window=replace(
            defaults.window,
            trim_above_samples=samples(trim),
            carry_samples=samples(carry),
            step_samples=samples(step),
            first_step_samples=samples(first),
        ),
        edge_guard_samples=samples(guard),
        longest_utterance_samples=samples(longest),
    )


@settings(max_examples=100, deadline=None)
@given(
    phrases=PHRASES,
    numbers=OPTIONS,
    cuts=st.lists(st.integers(0, samples(40.0)), max_size=12),
    pace=st.sampled_from(["realtime", "fast"]),
)
def test_a_recogniser_that_reads_well_loses_and_doubles_no_word_under_any_setting(
    phrases: list[tuple[float, int, float]], numbers: tuple[float, ...], cuts: list[int], pace: str
) -> None:
    script = script_of([(pause, count, max(0.2, length)) for pause, count, length in phrases])
    audio = audio_of(script, (script[-1].end_sample if script else 0) + samples(0.7))
    session = Session("test", Start(pace=pace, language="en"), options_of(*numbers))
    driver = Driver(session, ScriptedRecognizer(script))
    for piece in np.split(audio, sorted(cut for cut in cuts if cut < len(audio))):
        driver.hear(piece)
    session.receive_stop()
    driver.work()
    assert session.transcript.text == "".join(word.text for word in script)


# What the client's clock says ---------------------------------------------------------------------------


def test_positions_are_taken_in_seconds_or_in_samples_of_the_client_s_own_rate() -> None:
    session = new_session(audio=AudioFormat("mulaw", 8000, 2))
    session.receive_time(Time("2026-11-21T14:05:09.000Z", audio_seconds=0.5))
    session.receive_time(Time("2026-11-21T14:05:21.000Z", sample=100_000))
    # The recording pauses: the same position, later.
    session.receive_time(Time("2026-11-21T15:00:00.000Z", sample=100_000))
    assert session.messages() == [
        Timed(1, 0.5, "2026-11-21T14:05:09.000Z"),
        Timed(2, 12.5, "2026-11-21T14:05:21.000Z"),
        Timed(3, 12.5, "2026-11-21T15:00:00.000Z"),
    ]
    assert session.transcript.clock[1:] == (
        ClockPoint(12.5, "2026-11-21T14:05:21.000Z"),
        ClockPoint(12.5, "2026-11-21T15:00:00.000Z"),
    )
    assert make_result(session.transcript, {}).final.clock == session.transcript.copy().clock


def test_samples_of_a_container_cannot_be_counted() -> None:
    session = new_session(audio=AudioFormat("container"))
    with pytest.raises(ClientError, match="container") as refusal:
        session.receive_time(Time(AT, sample=0))
    assert (refusal.value.code, refusal.value.close_code) == ("bad_message", 1007)
    session.receive_time(Time(AT, audio_seconds=2.0))
    assert session.messages() == [Timed(1, 2.0, AT)]


@pytest.mark.parametrize(
    ("next_time", "reason"),
    [
        (
            Time("2026-11-21T14:05:30.000Z", audio_seconds=9.999),
            "9.999 s is not taken: that of 10 s is known",
        ),
        (Time("2026-11-21T14:05:08.999Z", audio_seconds=12.0), "it was 2026-11-21T14:05:09.120Z at 10 s"),
    ],
)
def test_a_time_that_goes_back_is_passed_over_and_no_talk_ends_for_it(next_time: Time, reason: str) -> None:
    session = new_session()
    session.receive_time(Time(AT, audio_seconds=10.0))
    session.receive_time(next_time)
    _, notice = session.messages()
    assert isinstance(notice, Notice) and notice.code == "time_refused" and reason in notice.message
    session.receive_time(Time(AT, audio_seconds=12.0))
    assert session.messages() == [Timed(2, 12.0, AT)]


def test_of_times_without_end_so_many_are_taken() -> None:
    session = new_session()
    for position in range(MAX_POINTS + 2):
        session.receive_time(Time(AT, audio_seconds=position))
    said = session.messages()
    assert [type(m) for m in said] == [Timed] * MAX_POINTS + [Notice] * 2
    assert len(session.transcript.clock) == MAX_POINTS
