"""What the reducer makes of speakers: labels, names, the full pass and its result."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from reducing import LIVE, commit, reduced, word
from scripted_server import segment

from tests.started import Server

pytest_plugins = ["browsers"]

STOP = {"type": "page.stop_requested"}
STOPPED = {"type": "stopped", "duration": 20, "text": ""}
HEARD = commit(0, word(" One", 0, 1, "S1"), word(" two", 1, 2, "S2"))


@pytest.fixture(scope="module")
def page(silent_browser: Browser, server: Server) -> Page:
    """A page to import the module in."""
    opened = silent_browser.new_page()
    opened.goto(server.url)
    return opened


def speaker(label: str, *live_labels: str, duration: float = 1.0) -> dict[str, Any]:
    return {"label": label, "live_labels": list(live_labels), "duration": duration, "turns": 1}


def final(*segments: dict[str, Any], speakers: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    return {
        "type": "final",
        "revision": 1,
        "duration": 20,
        "language": "en",
        "segments": list(segments),
        "speakers": speakers,
        "labels": "full",
        **fields,
    }


def named(label: str, name: str) -> dict[str, Any]:
    return {"type": "page.speaker_named", "label": label, "name": name}


BOTH = final(
    segment("SPEAKER_00", 0, "Uno"),
    segment("SPEAKER_01", 1, "dos"),
    speakers=[speaker("SPEAKER_00", "S2"), speaker("SPEAKER_01", "S1", "S3", duration=3.0)],
)


def test_a_label_is_for_the_words_whose_middle_lies_between_its_times(page: Page) -> None:
    words = commit(0, word(" One", 0, 1), word(" two", 1, 2), word(" three", 2, 3))
    label = {"type": "label", "from": 0.6, "to": 1.6, "speaker": "S1"}
    state = reduced(page, *LIVE, words, label)
    assert [w["speaker"] for w in state["utterances"][0]["words"]] == [None, "S1", None]


def test_a_label_corrects_one_before_it_and_leaves_other_utterances_alone(page: Page) -> None:
    story = [HEARD, commit(1, word(" three", 5, 6, "S2"))]
    state = reduced(page, *LIVE, *story, {"type": "label", "from": 0, "to": 2, "speaker": "S3"})
    assert state["turns"] == [["S3"], ["S2"]]


def test_the_speaker_of_an_utterance_is_that_of_its_words_that_had_none(page: Page) -> None:
    words = commit(0, word(" One", 0, 1), word(" two", 1, 2, "S2"))
    ended = {"type": "utterance", "utterance": 0, "speaker": "S1", "language": "en"}
    state = reduced(page, *LIVE, words, ended)
    assert [w["speaker"] for w in state["utterances"][0]["words"]] == ["S1", "S2"]


def test_who_spoke_when_can_be_fetched_once_somebody_is_known(page: Page) -> None:
    unknown = commit(0, word(" One", 0, 1))
    label = {"type": "label", "from": 0, "to": 1, "speaker": "S1"}
    assert "rttm" not in reduced(page, *LIVE, unknown)["links"]
    assert reduced(page, *LIVE, unknown, label)["links"]["rttm"] == "/v1/sessions/abc/transcript.rttm"
    assert "rttm" in reduced(page, *LIVE, HEARD)["links"]
    links = {"rttm": "/elsewhere.rttm"}
    assert reduced(page, *LIVE, HEARD, {**BOTH, "links": links})["links"]["rttm"] == "/elsewhere.rttm"
    nobody = final(segment("", 0, "Uno"), speakers=[], labels=None, links=links)
    assert "rttm" not in reduced(page, *LIVE, unknown, nobody)["links"]


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        ("loading", "Finding out who spoke: getting ready."),
        ("segmentation", "Finding out who spoke: where each turn begins and ends, 42%."),
        ("embeddings", "Finding out who spoke: what each voice sounds like, 42%."),
        ("clustering", "Finding out who spoke: which voices are the same, 42%."),
        ("recognition", "Transcribing again, with the whole recording to go by, 42%."),
        ("constructor", "Finding out who spoke, 42%."),
    ],
)
def test_each_stage_of_the_full_pass_has_words(page: Page, stage: str, said: str) -> None:
    progress = {"type": "progress", "stage": stage, "fraction": 0.42}
    words = reduced(page, *LIVE, HEARD, STOP, STOPPED, progress)["words"]
    assert (words["title"], words["detail"]) == ("Finishing", said)


def test_before_the_full_pass_says_anything_the_page_says_what_it_is_for(page: Page) -> None:
    assert reduced(page, *LIVE, HEARD, STOP)["words"]["detail"] == "Finishing the last words."
    assert reduced(page, *LIVE, HEARD, STOP, STOPPED)["words"]["detail"] == "Finding out who spoke."
    nobody = commit(0, word(" One", 0, 1))
    assert reduced(page, *LIVE, nobody, STOP, STOPPED)["words"]["detail"] == "Going over it once more."


def test_the_final_text_takes_the_place_of_the_live_one_which_can_be_shown_again(page: Page) -> None:
    story = [*LIVE, HEARD, STOP, STOPPED, BOTH]
    state = reduced(page, *story)
    assert state["text"] == "Speaker 1: Uno\nSpeaker 2: dos"
    assert state["words"]["detail"].startswith("2 words by 2 speakers in 0:20.")
    live = reduced(page, *story, {"type": "page.live_shown", "isLiveShown": True})
    assert live["text"] == "Speaker 1: One\nSpeaker 2: two"
    assert live["count"] == 2


def test_a_final_without_words_leaves_those_heard_live(page: Page) -> None:
    state = reduced(page, *LIVE, HEARD, STOP, STOPPED, final(speakers=[]))
    assert (state["phase"], state["final"]) == ("done", None)
    assert state["text"] == "Speaker 1: One\nSpeaker 2: two"


def test_the_final_text_stays_while_a_new_session_is_being_opened(page: Page) -> None:
    story = [*LIVE, HEARD, STOP, STOPPED, BOTH, named("SPEAKER_00", "Ada")]
    state = reduced(page, *story, {"type": "page.permission_asked"}, {"type": "page.microphone_opened"})
    assert state["text"] == "Ada: Uno\nSpeaker 2: dos"
    previous = reduced(page, *story, *LIVE)["previous"]
    assert previous["cast"]["names"] == {"SPEAKER_00": "Ada"}
    assert (previous["revision"], previous["utterances"][0]["words"][0]["text"]) == (1, " Uno")


def test_labels_heard_live_only_are_called_so(page: Page) -> None:
    state = reduced(page, *LIVE, HEARD, STOP, STOPPED, {**BOTH, "labels": "live"})
    assert "The full pass failed: the speakers are as heard live." in state["words"]["detail"]
    assert "as heard live" not in reduced(page, *LIVE, HEARD, STOP, STOPPED, BOTH)["words"]["detail"]


def test_a_connection_that_ends_during_the_full_pass_is_admitted(page: Page) -> None:
    state = reduced(page, *LIVE, HEARD, STOP, STOPPED, {"type": "page.connection_closed"})
    assert state["phase"] == "done"
    assert "this is what was heard live" in state["words"]["detail"]


def test_long_speech_is_cut_into_paragraphs_at_pauses_and_sentences(page: Page) -> None:
    sentence = " ".join(["word"] * 29 + ["end."])
    parts = [segment("SPEAKER_00", start, sentence) for start in (0, 30, 60, 100)]
    utterances = reduced(page, *LIVE, HEARD, final(*parts, speakers=[speaker("SPEAKER_00", "S1")]))["shown"]
    assert [len(utterance["words"]) for utterance in utterances] == [60, 30, 30]


def test_a_mark_at_the_start_of_a_final_turn_joins_the_word_before_it(page: Page) -> None:
    marked = segment("SPEAKER_01", 1, "x dos")
    marked["words"][0]["text"] = "."
    told = final(segment("SPEAKER_00", 0, "Uno"), marked, speakers=BOTH["speakers"])
    assert reduced(page, *LIVE, HEARD, told)["text"] == "Speaker 1: Uno.\nSpeaker 2: dos"


def test_talk_is_shared_out_and_turns_that_nearly_touch_are_one(page: Page) -> None:
    told = final(
        segment("SPEAKER_00", 0, "one two"),
        segment("SPEAKER_01", 1, "over"),
        segment("SPEAKER_00", 2, "three"),
        segment("SPEAKER_00", 9, "late"),
        speakers=[speaker("SPEAKER_00", "S1", duration=3.0), speaker("SPEAKER_01", "S2", duration=1.0)],
    )
    first, second = reduced(page, *LIVE, HEARD, told)["final"]["talks"]
    assert first["turns"] == [{"start": 0, "end": 2.9}, {"start": 9, "end": 9.9}]
    assert second["turns"] == [{"start": 1, "end": 1.9}]
    assert (first["share"], second["share"]) == (0.75, 0.25)


def test_a_name_goes_over_to_the_final_speaker_unless_that_one_has_its_own(page: Page) -> None:
    story = [*LIVE, HEARD, named("S3", "Ben"), STOP, STOPPED, BOTH]
    assert reduced(page, *story)["who"]["SPEAKER_01"] == "Ben"
    own = reduced(page, *story, named("SPEAKER_01", "Bea"))
    assert (own["who"]["SPEAKER_01"], own["who"]["S3"], own["who"]["S1"]) == ("Bea", "Ben", "Bea")
    assert own["cast"]["names"] == {"S3": "Ben", "SPEAKER_01": "Bea"}


def test_an_empty_name_takes_the_name_away_wherever_it_came_from(page: Page) -> None:
    story = [*LIVE, HEARD, named("S3", "Ben"), STOP, STOPPED, BOTH, named("SPEAKER_01", "")]
    state = reduced(page, *story)
    assert state["cast"]["names"] == {}
    assert state["who"]["SPEAKER_01"] == "Speaker 2"


@pytest.mark.parametrize("name", ["__proto__", "constructor"])
def test_no_name_is_taken_for_something_else(page: Page, name: str) -> None:
    assert reduced(page, *LIVE, HEARD, named("S1", name))["who"]["S1"] == name


def test_a_final_speaker_keeps_the_colour_of_the_live_label_that_it_was(page: Page) -> None:
    colors = reduced(page, *LIVE, HEARD, STOP, STOPPED, BOTH)["colors"]
    assert (colors["SPEAKER_00"], colors["SPEAKER_01"]) == (colors["S2"], colors["S1"])
    apart = final(
        segment("SPEAKER_00", 0, "Uno"), speakers=[speaker("SPEAKER_00"), speaker("SPEAKER_01", "S1")]
    )
    colors = reduced(page, *LIVE, HEARD, apart)["colors"]
    assert colors["SPEAKER_00"] != colors["SPEAKER_01"] == colors["S1"]
