"""The result of a session: what the full pass found over what was heard live."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from live_asr.core.messages import Commit, Label, Stopped, UtteranceMessage, wire_word
from live_asr.core.result import Result, live_result, make_result
from live_asr.core.transcript import Transcript
from live_asr.core.types import Turn, Word, samples

LINKS = {"json": "/s.json"}


def words(text: str, start: float, speaker: str | None = None) -> tuple[Word, ...]:
    """Make words of half a second each."""
    return tuple(
        Word(f" {part}", samples(start + 0.5 * n), samples(start + 0.5 * n + 0.5), 0.9, (), speaker)
        for n, part in enumerate(text.split())
    )


def turn(start: float, end: float, speaker: str) -> Turn:
    return Turn(samples(start), samples(end), speaker)


class Live:
    """A live transcript as a session makes it."""

    def __init__(self) -> None:
        self.transcript = Transcript()

    def _seq(self) -> int:
        return self.transcript.last_seq + 1

    def say(self, utterance: int, text: str, start: float, speaker: str | None = None) -> None:
        said = words(text, start, speaker)
        whole = "".join(word.text for word in said)
        self.transcript.apply(Commit(self._seq(), tuple(map(wire_word, said)), whole, utterance))
        end = start + 0.5 * len(said)
        self.transcript.apply(UtteranceMessage(self._seq(), utterance, start, end, whole.strip(), None, "en"))

    def label(self, start: float, end: float, speaker: str) -> None:
        self.transcript.apply(Label(self._seq(), start, end, speaker))

    def stop(self, duration: float = 10.0) -> Transcript:
        self.transcript.apply(Stopped(self._seq(), duration, self.transcript.text))
        return self.transcript


def conversation() -> Live:
    live = Live()
    live.say(0, "one two", 0.0, "S1")
    live.say(1, "three four", 2.0, "S2")
    return live


def said_by(result: Result) -> list[tuple[str | None, str]]:
    return [(segment.speaker, segment.text) for segment in result.final.segments]


def who(result: Result) -> list[tuple[str, tuple[str, ...], float, int]]:
    return [(s.label, s.live_labels, s.duration, s.turns) for s in result.final.speakers]


def test_the_full_pass_s_words_and_turns_replace_the_live_ones() -> None:
    turns = (turn(0.0, 1.2, "SPEAKER_00"), turn(2.0, 3.0, "SPEAKER_01"))
    found = words("won too", 0.0) + words("three for", 2.0)
    result = make_result(conversation().stop(), LINKS, turns=turns, words=found, language="de")
    assert said_by(result) == [("SPEAKER_00", "won too"), ("SPEAKER_01", "three for")]
    assert who(result) == [("SPEAKER_00", ("S1",), 1.2, 1), ("SPEAKER_01", ("S2",), 1.0, 1)]
    final = result.final
    assert (final.labels, final.language, final.revision, final.links) == ("full", "de", 1, LINKS)
    assert (final.text, final.duration, final.seq) == (" won too three for", 10.0, 6)
    assert result.turns == turns


def test_turns_without_words_are_given_to_the_live_words() -> None:
    result = make_result(conversation().stop(), LINKS, turns=(turn(0.0, 4.0, "SPEAKER_00"),))
    assert said_by(result) == [("SPEAKER_00", "one two"), ("SPEAKER_00", "three four")]
    assert who(result) == [("SPEAKER_00", ("S1", "S2"), 4.0, 1)]
    assert (result.final.labels, result.final.language) == ("full", "en")


def test_words_without_turns_get_the_live_labels_under_their_final_names() -> None:
    live = conversation()
    result = make_result(live.stop(), LINKS, words=words("one too", 0.0) + words("three four", 2.0))
    assert said_by(result) == [("SPEAKER_00", "one too"), ("SPEAKER_01", "three four")]
    assert who(result) == [("SPEAKER_00", ("S1",), 1.0, 1), ("SPEAKER_01", ("S2",), 1.0, 1)]
    assert result.final.labels == "live"


def test_a_pass_that_finds_nothing_leaves_the_live_words_and_labels() -> None:
    live = Live()
    live.say(0, "one two", 0.0, "S2")
    live.say(1, "three", 2.0)
    live.say(2, "four", 4.0, "S1")
    result = make_result(live.stop(), LINKS)
    assert said_by(result) == [("SPEAKER_01", "one two"), (None, "three"), ("SPEAKER_00", "four")]
    assert [speaker.live_labels for speaker in result.final.speakers] == [("S2",), ("S1",)]
    assert result.turns == (turn(0.0, 1.0, "SPEAKER_01"), turn(4.0, 4.5, "SPEAKER_00"))
    assert result.final.text == live.transcript.text
    assert result.final.labels == "live"


def test_a_session_in_which_nobody_is_told_apart_has_no_speakers() -> None:
    live = Live()
    live.say(0, "one two", 0.0)
    for result in (
        make_result(live.stop(), LINKS),
        make_result(live.transcript, LINKS, words=words("one too", 0.0)),
    ):
        assert (result.final.labels, result.final.speakers, result.turns) == (None, (), ())
        assert [segment.speaker for segment in result.final.segments] == [None]


def test_a_label_that_lost_all_its_words_becomes_the_speaker_who_got_them() -> None:
    live = conversation()
    live.say(2, "five", 4.0, "S3")
    live.label(4.0, 4.5, "S4")
    live.label(4.0, 4.5, "S2")
    full = make_result(live.stop(), LINKS, turns=(turn(0.0, 1.0, "A"), turn(2.0, 4.5, "B")))
    assert who(full) == [("A", ("S1",), 1.0, 1), ("B", ("S2", "S3", "S4"), 2.5, 1)]
    kept = make_result(live.transcript, LINKS)
    assert [speaker.live_labels for speaker in kept.final.speakers] == [("S1",), ("S2", "S3", "S4")]


def test_labels_that_took_words_from_each_other_are_mapped_all_the_same() -> None:
    live = conversation()
    live.label(0.0, 1.0, "S2")
    live.label(2.0, 3.0, "S1")
    live.label(0.0, 3.0, "S3")
    result = make_result(live.stop(), LINKS, turns=(turn(0.0, 3.0, "A"),))
    assert who(result) == [("A", ("S1", "S2", "S3"), 3.0, 1)]


def test_speakers_keep_the_numbers_that_they_were_known_by_live() -> None:
    live = Live()
    live.say(0, "one two", 0.0, "S2")
    live.say(1, "three four", 2.0, "S1")
    live.stop()
    turns = (turn(0.0, 1.0, "SPEAKER_00"), turn(2.0, 3.0, "SPEAKER_01"))
    result = make_result(live.transcript, LINKS, turns=turns)
    assert said_by(result) == [("SPEAKER_01", "one two"), ("SPEAKER_00", "three four")]
    assert result.turns == (turn(0.0, 1.0, "SPEAKER_01"), turn(2.0, 3.0, "SPEAKER_00"))
    assert who(result) == [("SPEAKER_01", ("S2",), 1.0, 1), ("SPEAKER_00", ("S1",), 1.0, 1)]


def test_a_speaker_whom_nobody_clearly_was_live_gets_a_number_that_is_left() -> None:
    live = Live()
    live.say(0, "one", 0.0, "S1")
    live.say(1, "two three four", 1.0, "S1")
    live.say(2, "five", 5.0, "S3")
    live.stop()
    turns = (turn(0.0, 0.5, "SPEAKER_00"), turn(1.0, 2.5, "SPEAKER_01"), turn(5.0, 5.5, "SPEAKER_02"))
    result = make_result(live.transcript, LINKS, turns=turns)
    spoken = [("SPEAKER_01", "one"), ("SPEAKER_00", "two three four"), ("SPEAKER_02", "five")]
    assert said_by(result) == spoken


def test_an_empty_session_has_an_empty_result() -> None:
    result = make_result(Live().stop(0.0), {})
    assert (result.final.text, result.final.segments, result.final.speakers) == ("", (), ())


def test_who_has_words_and_was_never_heard_is_a_speaker_with_the_turns_of_the_words() -> None:
    live = conversation()
    heard = (turn(0.0, 1.2, "S1"), turn(4.0, 5.0, "S3"))  # S3 has no words
    result = make_result(live.stop(), LINKS, live_turns=heard)
    assert said_by(result) == [("SPEAKER_00", "one two"), ("SPEAKER_01", "three four")]
    assert who(result) == [("SPEAKER_00", ("S1",), 1.2, 1), ("SPEAKER_01", ("S2",), 1.0, 1)]
    assert result.turns == (turn(0.0, 1.2, "SPEAKER_00"), turn(2.0, 3.0, "SPEAKER_01"))


def test_of_a_session_that_failed_the_live_labels_stand_and_the_audio_counts_that_nobody_spoke_in() -> None:
    live = conversation()
    live.say(2, "five", 4.0, "S3")
    live.label(4.0, 4.5, "S2")
    result = live_result(
        live.transcript, LINKS, live_turns=(turn(0.0, 1.2, "S1"),), received_samples=samples(600)
    )
    assert said_by(result) == [("S1", "one two"), ("S2", "three four"), ("S2", "five")]
    assert who(result) == [("S1", ("S1",), 1.2, 1), ("S2", ("S2", "S3"), 1.5, 2)]
    final = result.final
    assert (final.revision, final.labels, final.duration, final.language) == (0, "live", 600.0, "en")
    assert result.turns == (turn(0.0, 1.2, "S1"), turn(2.0, 3.0, "S2"), turn(4.0, 4.5, "S2"))


LABELS = ["S1", "S2", "S3", "S4"]
some_label = st.sampled_from(LABELS)
some_utterance = st.tuples(st.integers(1, 4), st.none() | some_label)
some_change = st.tuples(st.integers(0, 20), st.integers(0, 20), some_label)
some_turn = st.tuples(st.integers(0, 20), st.integers(0, 6), some_label)
some_turns = st.lists(some_turn, max_size=5)


@given(
    utterances=st.lists(some_utterance, min_size=1, max_size=5),
    changes=st.lists(some_change, max_size=3),
    heard=some_turns,
    found=st.just([]) | some_turns,
    pass_words=st.integers(0, 10),
)
def test_every_label_of_a_word_became_one_speaker_and_every_speaker_of_a_segment_is_told(
    utterances: list[tuple[int, str | None]],
    changes: list[tuple[int, int, str]],
    heard: list[tuple[int, int, str]],
    found: list[tuple[int, int, str]],
    pass_words: int,
) -> None:
    live, at = Live(), 0.0
    for number, (count, speaker) in enumerate(utterances):
        live.say(number, "word " * count, at, speaker)
        at += 0.5 * count + 0.5
    for first, last, speaker in changes:
        live.label(first / 2, last / 2, speaker)
    result = make_result(
        live.stop(),
        LINKS,
        live_turns=[turn(start / 2, (start + length) / 2, who) for start, length, who in heard],
        turns=[turn(start / 2, (start + length) / 2, f"SPEAKER_0{who[1]}") for start, length, who in found],
        words=words("other " * pass_words, 0.0),
    )
    speakers = result.final.speakers
    claimed = [label for speaker in speakers for label in speaker.live_labels]
    assert len(claimed) == len(set(claimed))
    assert {word.speaker for word in live.transcript.words} - {None} <= set(claimed)
    assert {segment.speaker for segment in result.final.segments} - {None} <= {s.label for s in speakers}
    assert {one.speaker for one in result.turns} == {s.label for s in speakers}
    if speakers:
        assert set(claimed) == set(live.transcript.live_labels)


# Channels that are speakers ---------------------------------------------------------------------------


def test_words_that_have_their_speakers_keep_them_and_all_is_in_order_of_time() -> None:
    live = Live()
    live.say(0, "one two", 0.0, "S1")
    live.say(1, "fore", 0.4, "S2")
    found = words("one two.", 0.0, "SPEAKER_00") + words("five six", 4.0, "SPEAKER_00")
    found += words("four", 0.4, "SPEAKER_01")
    result = make_result(live.stop(), LINKS, words=found, language="en", has_speakers=True)
    assert said_by(result) == [
        ("SPEAKER_00", "one two."),
        ("SPEAKER_01", "four"),
        ("SPEAKER_00", "five six"),
    ]
    assert result.final.labels == "full"
    assert result.final.text == " one two. four five six"
    assert [(turn.speaker, turn.start_sample) for turn in result.turns] == [
        ("SPEAKER_00", 0),
        ("SPEAKER_01", samples(0.4)),
        ("SPEAKER_00", samples(4.0)),
    ]
    assert [(one.label, one.live_labels) for one in result.final.speakers] == [
        ("SPEAKER_00", ("S1",)),
        ("SPEAKER_01", ("S2",)),
    ]


def test_words_of_the_live_record_in_a_full_pass_get_the_speakers_of_its_turns() -> None:
    live = conversation()
    found = words("one two", 0.0, "S2")  # as they come out of the live record, whoever was meant then
    result = make_result(live.stop(), LINKS, turns=(turn(0.0, 4.0, "SPEAKER_00"),), words=found)
    assert {speaker for speaker, _ in said_by(result)} == {result.final.speakers[0].label}


def test_the_second_channel_is_the_second_speaker_though_the_first_says_nothing() -> None:
    live = Live()
    live.say(0, "one two", 0.0, "S2")
    found = words("one two", 0.0, "SPEAKER_01")
    result = make_result(live.stop(), LINKS, words=found, has_speakers=True)
    assert [(one.label, one.live_labels) for one in result.final.speakers] == [("SPEAKER_01", ("S2",))]
    assert [speaker for speaker, _ in said_by(make_result(live.transcript, LINKS))] == ["SPEAKER_01"]


def test_the_live_record_reads_in_order_of_time_though_one_was_committed_later() -> None:
    live = Live()
    live.say(0, "three four", 1.0, "S1")
    live.say(1, "one", 0.2, "S2")
    assert [segment.text for segment in live.stop().live_segments()] == ["one", "three four"]
