"""`reduce(state, message)` is pure, so it is tested alone, in the engine that runs it."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from reducing import ASKED, LIVE, OPENED, READY, commit, reduced, word

from tests.started import Server

pytest_plugins = ["browsers"]


@pytest.fixture(scope="module")
def page(talking_browser: Browser, server: Server) -> Page:
    """A page to import the module in."""
    opened = talking_browser.new_page()
    opened.goto(server.url)
    return opened


def test_a_session_goes_from_asking_to_done(page: Page) -> None:
    stop = {"type": "page.stop_requested"}
    stopped = {"type": "stopped", "duration": 2.5, "text": ""}
    final = {"type": "final", "duration": 2.5, "links": {"txt": "/elsewhere.txt"}}
    story = [ASKED, OPENED, READY, stop, stopped, final]
    phases = [reduced(page, *story[: n + 1])["phase"] for n in range(len(story))]
    assert phases == ["asking", "connecting", "live", "finishing", "finishing", "done"]
    done = reduced(page, *story)
    assert done["elapsed"] == 2.5
    assert done["links"]["txt"] == "/elsewhere.txt"
    assert done["links"]["vtt"] == "/v1/sessions/abc/transcript.vtt"


@pytest.mark.parametrize("name", ["tomorrow", "constructor", "__proto__", "page.tomorrow"])
def test_a_message_of_an_unknown_type_changes_nothing(page: Page, name: str) -> None:
    assert reduced(page, *LIVE, {"type": name, "text": "x"}) == reduced(page, *LIVE)


def test_commits_of_one_utterance_are_one_paragraph_and_of_another_the_next(page: Page) -> None:
    state = reduced(
        page,
        *LIVE,
        commit(0, word(" Hello", 0, 0.4)),
        commit(0, word(" there.", 0.4, 0.8)),
        {
            "type": "utterance",
            "utterance": 0,
            "start": 0,
            "end": 0.8,
            "text": "Hello there.",
            "language": "en",
        },
        commit(1, word(" Bye.", 2, 2.3)),
    )
    assert state["text"] == "Hello there.\nBye."
    assert [(u["complete"], u["language"]) for u in state["utterances"]] == [(True, "en"), (False, None)]
    assert state["count"] == 3


def test_a_partial_replaces_the_one_before_and_an_empty_one_clears_it(page: Page) -> None:
    first = {"type": "partial", "text": " Hell", "words": [word(" Hell", 0, 0.4)]}
    second = {"type": "partial", "text": " Hello", "words": [word(" Hello", 0, 0.4)]}
    empty = {"type": "partial", "text": "", "words": []}
    assert [w["text"] for w in reduced(page, *LIVE, first, second)["tail"]] == [" Hello"]
    assert reduced(page, *LIVE, first, empty)["tail"] == []


def test_words_leave_the_tail_when_they_are_committed(page: Page) -> None:
    partial = {"type": "partial", "words": [word(" Hello", 0, 0.4), word(" there", 0.42, 0.8)]}
    state = reduced(page, *LIVE, partial, commit(0, word(" Hello,", 0.02, 0.41)))
    assert state["text"] == "Hello,"
    assert [w["text"] for w in state["tail"]] == [" there"]


def test_a_label_names_the_speaker_of_the_words_between_its_times(page: Page) -> None:
    state = reduced(
        page,
        *LIVE,
        commit(0, word(" One", 0, 1), word(" two", 1, 2), word(" three", 2, 3), word(" four", 3, 4)),
        {"type": "label", "from": 0, "to": 2, "speaker": "S1"},
        {"type": "label", "from": 2, "to": 3, "speaker": "S2"},
    )
    assert state["turns"] == [["S1", "S2"]], "a word without a speaker stays with the one before it"
    assert state["text"] == "Speaker 1: One two\nSpeaker 2: three four"


def test_progress_of_a_file_only_grows_and_ends_at_one(page: Page) -> None:
    file = {"type": "page.file_chosen", "name": "a.wav", "size": 1000}
    lag = {"type": "lag", "received": 10.0, "committed": 5.0, "seconds": 5.0}
    earlier = {**lag, "committed": 2.0}
    ack = {"type": "ack", "bytes": 500}
    assert reduced(page, file, READY, ack)["file"]["fraction"] == 0
    assert reduced(page, file, READY, ack, lag)["file"]["fraction"] == 0.25
    assert reduced(page, file, READY, ack, lag, earlier)["file"]["fraction"] == 0.25
    stopped = {"type": "stopped", "duration": 20, "text": ""}
    assert reduced(page, file, READY, ack, lag, stopped)["file"]["fraction"] == 1


def test_silence_is_counted_in_seconds_of_sound_and_ended_by_any_sound(page: Page) -> None:
    silence = {"type": "page.sound_captured", "duration": 1.0, "level": 0.0}
    quiet = reduced(page, *LIVE, *[silence] * 5)
    assert quiet["hearing"] == "No sound"
    assert "No sound for 5 s" in quiet["words"]["detail"]
    sound = {"type": "page.sound_captured", "duration": 0.1, "level": 0.1}
    heard = reduced(page, *LIVE, *[silence] * 5, sound)
    assert heard["hearing"] == "Hearing sound"
    assert heard["words"]["detail"] == ""
    assert reduced(page, ASKED, OPENED, sound)["hearing"] == "Hearing sound", "even before the server answers"


def test_a_server_that_says_nothing_for_long_is_mentioned_until_it_speaks(page: Page) -> None:
    sound = {"type": "page.sound_captured", "duration": 1.0, "level": 0.1}
    assert "The server hasn't answered for 7 s" in reduced(page, *LIVE, *[sound] * 7)["words"]["detail"]
    ack = {"type": "ack", "bytes": 1}
    assert reduced(page, *LIVE, *[sound] * 7, ack)["words"]["detail"] == ""


def test_sound_that_had_to_be_left_out_is_admitted(page: Page) -> None:
    dropped = {"type": "page.sound_dropped", "duration": 0.75}
    stopped, final = {"type": "stopped", "duration": 1, "text": ""}, {"type": "final", "duration": 1}
    spoken = commit(0, word(" Hello", 0, 1))
    story = [*LIVE, spoken, dropped, dropped, stopped, final]
    for n in range(len(LIVE) + 3, len(story) + 1):
        words = reduced(page, *story[:n])["words"]
        assert "1.5 s of sound had to be left out" in words["detail"]
    assert (words["title"], words["tone"]) == ("Done, with gaps", "bad")


def test_an_interrupted_connection_is_said_to_lose_nothing_until_it_is_back(page: Page) -> None:
    interrupted, resumed = {"type": "page.connection_interrupted"}, {"type": "page.connection_resumed"}
    spoken = commit(0, word(" Hello", 0, 1))
    away = reduced(page, *LIVE, spoken, interrupted)
    assert (away["phase"], away["words"]["title"], away["text"]) == ("live", "Reconnecting", "Hello")
    assert "Nothing is lost" in away["words"]["detail"]
    back = reduced(page, *LIVE, spoken, interrupted, resumed, commit(0, word(" again", 1, 2)))
    assert (back["words"]["title"], back["text"]) == ("Live", "Hello again")


def test_a_tail_without_words_is_shown_as_it_is(page: Page) -> None:
    tail = {"type": "partial", "text": " as viewers get it", "start": 1.0, "end": 2.0}
    for without in (tail, {**tail, "words": []}):
        assert [w["text"] for w in reduced(page, *LIVE, without)["tail"]] == [" as viewers get it"]
        assert reduced(page, *LIVE, tail, {**without, "text": ""})["tail"] == []


def test_a_closed_connection_is_lost_only_while_words_are_missing(page: Page) -> None:
    closed = {"type": "page.connection_closed"}
    stop = {"type": "page.stop_requested"}
    stopped = {"type": "stopped", "duration": 1, "text": ""}
    error = {"type": "error", "code": "internal", "message": "It broke.", "hint": "Try again."}
    assert reduced(page, *LIVE, closed)["phase"] == "lost"
    assert reduced(page, *LIVE, stop, closed)["phase"] == "lost"
    assert reduced(page, *LIVE, stop, stopped, closed)["phase"] == "done"
    assert reduced(page, *LIVE, error, closed)["words"]["cause"] == "It broke. Try again."


def test_a_full_server_counts_down_from_what_it_said(page: Page) -> None:
    full = {"type": "error", "code": "server_full", "message": "All places are taken.", "retry_after": 4.2}
    second = {"type": "page.second_passed"}
    assert reduced(page, ASKED, OPENED, full)["retryIn"] == 5
    state = reduced(page, ASKED, OPENED, full, second, second)
    assert state["words"]["detail"] == "The server is at capacity. Trying again in 3 s."


def test_a_notice_is_kept_once_and_can_be_dismissed(page: Page) -> None:
    notice = {"type": "notice", "code": "degraded", "message": "Slower captions."}
    again = {**notice, "message": "Much slower captions."}
    assert [n["message"] for n in reduced(page, *LIVE, notice, again)["notices"]] == ["Much slower captions."]
    dismissed = {"type": "page.notice_dismissed", "code": "degraded"}
    assert reduced(page, *LIVE, notice, dismissed)["notices"] == []


def test_a_new_start_leaves_nothing_of_the_session_before(page: Page) -> None:
    story = [*LIVE, commit(0, word(" Hello", 0, 0.4)), {"type": "page.connection_closed"}]
    again = reduced(page, *story, *LIVE)
    assert again.pop("previous")["utterances"][0]["words"] == [word(" Hello", 0, 0.4)]
    fresh = reduced(page, *LIVE)
    del fresh["previous"]
    assert again == fresh


@pytest.mark.parametrize(
    "failure",
    [
        {"type": "page.microphone_failed", "reason": "denied"},
        {"type": "page.connection_closed"},
        {"type": "error", "code": "server_full", "message": "Full."},
    ],
)
def test_a_start_that_fails_leaves_the_transcript_before_it(page: Page, failure: dict[str, Any]) -> None:
    story = [*LIVE, commit(0, word(" Hello", 0, 0.4)), {"type": "page.connection_closed"}]
    state = reduced(page, *story, ASKED, OPENED, failure)
    assert state["text"] == "Hello"
    assert state["links"]["txt"] == "/v1/sessions/abc/transcript.txt"
    assert state["previous"] is None


def test_a_tail_that_was_never_confirmed_stays_and_is_called_lost(page: Page) -> None:
    partial = {"type": "partial", "words": [word(" Hello", 0, 0.4)]}
    assert not reduced(page, *LIVE, partial)["isTailLost"]
    lost = reduced(page, *LIVE, partial, {"type": "page.connection_closed"})
    assert ([w["text"] for w in lost["tail"]], lost["isTailLost"]) == ([" Hello"], True)


def test_a_mark_that_comes_late_joins_the_word_before_it(page: Page) -> None:
    first = commit(0, word(" simple", 0, 1))
    assert reduced(page, *LIVE, first, commit(1, word(", in", 2, 3)))["text"] == "simple,\nin"
    assert (
        reduced(page, *LIVE, first, commit(1, word(".", 2, 3), word(" Next", 3, 4)))["text"]
        == "simple.\nNext"
    )
    assert reduced(page, *LIVE, first, commit(1, word(" .5", 2, 3)))["text"] == "simple\n.5"
    assert reduced(page, *LIVE, commit(0, word(", in", 2, 3)))["text"] == "in"
    turns = commit(0, word(" One", 0, 1, "S1"), word(", two", 1, 2, "S2"))
    assert reduced(page, *LIVE, turns)["text"] == "Speaker 1: One,\nSpeaker 2: two"


def test_errors_of_the_server_are_put_into_words_for_readers(page: Page) -> None:
    error = {"type": "error", "code": "shutting_down", "message": "The server is shutting down.", "hint": ""}
    words = reduced(page, *LIVE, error)["words"]
    assert words["detail"] == "The server is restarting. Press Start in a moment."
    assert words["cause"] == "The server is shutting down."
    unknown = {**error, "code": "constructor"}
    assert reduced(page, *LIVE, unknown)["words"]["detail"].startswith("The server ended the captions.")


def test_the_language_is_known_while_live_once_an_utterance_told_it(page: Page) -> None:
    utterance = {"type": "utterance", "utterance": 0, "language": "de"}
    story = [*LIVE, commit(0, word(" Ja", 0, 1))]
    assert reduced(page, *story)["detected"] is None
    assert reduced(page, *story, utterance)["detected"] == "de"
    assert reduced(page, *story, utterance, {"type": "page.connection_closed"})["detected"] is None


def test_the_clock_of_a_recording_shows_what_is_done_of_what_has_arrived(page: Page) -> None:
    file = {"type": "page.file_chosen", "name": "the.talk.mp4", "size": 1000}
    lag = {"type": "lag", "received": 65.0, "committed": 5.0, "seconds": 60.0}
    state = reduced(page, file, READY, lag)
    assert (state["clock"], state["name"]) == ("0:05 / 1:05", "the.talk")
    assert reduced(page, file, READY, {"type": "stopped", "duration": 65, "text": ""})["clock"] == "1:05"


def test_a_session_that_follows_stands_behind_the_one_before(page: Page) -> None:
    continued = {"isContinued": True, "place": {"utterances": 1, "seconds": 10.0, "speakers": 1}}
    state = reduced(
        page,
        *LIVE,
        commit(0, word(" said", 1, 2, "S1"), word(" before", 2, 3, "S1")),
        {"type": "partial", "words": [word(" lost", 3, 4)]},
        {"type": "page.session_followed"},
        {**READY, "session": "def", **continued},
        commit(1, word(" said", 11, 12, "S2"), word(" after", 12, 13, "S2")),
    )
    assert state["text"] == "Speaker 1: said before\nSpeaker 2: said after"
    assert state["tail"] == [] and state["phase"] == "live" and not state["isReconnecting"]
    assert state["utterances"][0]["complete"], "what the other one said is complete"
    assert state["address"] == "/v1/sessions/def"
    assert state["links"] == {}, "no server has all of it"
    assert [part["address"] for part in state["parts"]] == ["/v1/sessions/abc", "/v1/sessions/def"]
    again = reduced(page, *LIVE, commit(0, word(" gone", 1, 2)), *LIVE)
    assert again["text"] == "", "a session that follows none begins with nothing"
    assert len(again["parts"]) == 1


MOVED = """async ([place, message]) => {
    const { Placed } = await import("/web/state/parts.js");
    const placed = new Placed(place);
    return [placed.of(message), placed.after(5)];
}"""


def test_what_a_later_session_says_is_moved_behind_the_earlier_ones(page: Page) -> None:
    place = {"utterances": 3, "seconds": 60.5, "speakers": 2}
    message = {**commit(1, word(" hello", 1, 2, "S1"), word(" there", 2, 3)), "seq": 7}
    moved, after = page.evaluate(MOVED, [place, message])
    assert moved["utterance"] == 4 and moved["seq"] == 7
    assert moved["words"] == [word(" hello", 61.5, 62.5, "S3"), word(" there", 62.5, 63.5)]
    assert after == {"utterances": 5, "seconds": 65.5, "speakers": 3}
    label, _ = page.evaluate(MOVED, [place, {"type": "label", "from": 1, "to": 2, "speaker": "S2"}])
    assert (label["from"], label["to"], label["speaker"]) == (61.5, 62.5, "S4")
    stopped, _ = page.evaluate(MOVED, [place, {"type": "stopped", "duration": 2}])
    assert stopped["duration"] == 62.5


NAMES_BY_PART = """async ([names, parts]) =>
    (await import("/web/state/parts.js")).namesByPart(names, parts)"""


def test_names_reach_each_session_under_its_own_labels(page: Page) -> None:
    parts = [
        {"address": "/a", "utterances": 0, "seconds": 0, "speakers": 0, "finals": 0},
        {"address": "/b", "utterances": 4, "seconds": 9, "speakers": 2, "finals": 2},
    ]
    names = {"S1": "Anna", "S3": "Ben", "SPEAKER_01": "Carl", "SPEAKER_02": "Dora"}
    assert page.evaluate(NAMES_BY_PART, [names, parts]) == [
        {"address": "/a", "names": {"S1": "Anna", "SPEAKER_01": "Carl"}},
        {"address": "/b", "names": {"S1": "Ben", "SPEAKER_00": "Dora"}},
    ]
    alone = [{"address": "/a", "utterances": 0, "seconds": 0, "speakers": 0}]
    assert page.evaluate(NAMES_BY_PART, [names, alone]) == [{"address": "/a", "names": names}]


def test_a_session_without_a_result_keeps_what_was_heard_live_among_the_others(page: Page) -> None:
    continued = {"isContinued": True, "place": {"utterances": 1, "seconds": 10.0, "speakers": 1}}
    final = {
        "type": "final",
        "revision": 1,
        "duration": 5.0,
        "labels": "full",
        "segments": [
            {
                "start": 1.0,
                "end": 2.0,
                "speaker": "SPEAKER_00",
                "text": "After.",
                "words": [word(" After.", 1.0, 2.0, "SPEAKER_00")],
            }
        ],
        "speakers": [{"label": "SPEAKER_00", "live_labels": ["S1"], "duration": 1.0, "turns": 1}],
    }
    state = reduced(
        page,
        *LIVE,
        commit(0, word(" Before.", 1, 2, "S1")),
        {"type": "page.session_followed"},
        {**READY, "session": "def", **continued},
        commit(1, word(" after", 11, 12, "S2")),
        {"type": "stopped", "duration": 15.0},
        {"type": "page.concluded", "finals": [None, final]},
    )
    assert state["phase"] == "done" and state["duration"] == 15.0
    assert state["text"] == "Speaker 1: Before.\nSpeaker 2: After."
    assert state["shown"][1]["words"][0]["start"] == 11.0
    live = {one["label"]: one["live_labels"] for one in state["cast"]["speakers"]}
    assert live == {"SPEAKER_00": ["S1"], "SPEAKER_01": ["S2"]}


@pytest.mark.parametrize(
    ("message", "detail"),
    [
        ({"type": "page.microphone_lost"}, "The microphone is gone: plug it in again or choose another."),
        (
            {"type": "page.sound_slept", "isAsleep": True},
            "The browser has put the sound to sleep: click anywhere to go on.",
        ),
    ],
)
def test_a_page_that_hears_nothing_says_why_whatever_else_there_is_to_say(
    page: Page, message: dict[str, Any], detail: str
) -> None:
    for before in (
        [],
        [{"type": "page.connection_interrupted"}],
        [{"type": "page.sound_dropped", "duration": 3}],
    ):
        state = reduced(page, *LIVE, *before, message)
        assert state["words"]["detail"] == detail
        assert state["hearing"] == "No sound"


def test_seconds_in_which_nothing_could_be_heard_are_summed_up_in_the_end(page: Page) -> None:
    missed = [{"type": "page.sound_missed", "duration": 150.2}, {"type": "page.sound_missed", "duration": 50}]
    said = commit(0, word(" hello", 1, 2))
    final = {"type": "final", "duration": 20, "segments": [], "speakers": []}
    state = reduced(page, *LIVE, said, *missed, {"type": "stopped", "duration": 20}, final)
    assert "The microphone was off for 3 min 20 s of it." in state["words"]["detail"]
