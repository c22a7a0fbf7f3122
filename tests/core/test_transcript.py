"""The record: it grows by messages, in order, and never takes back a word."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from live_asr.core.export import Record
from live_asr.core.messages import (
    Commit,
    Final,
    FinalSegment,
    KeptMessage,
    Label,
    Notice,
    Partial,
    Stopped,
    UtteranceMessage,
    WireWord,
    decode_server,
    encode,
)
from live_asr.core.transcript import RecordError, Transcript
from live_asr.core.types import samples


def wire_words(text: str, start: float = 0.0) -> tuple[WireWord, ...]:
    return tuple(
        WireWord(f" {part}", start + 0.5 * index, start + 0.5 * index + 0.5, 0.9, None)
        for index, part in enumerate(text.split())
    )


def commit(seq: int, text: str, start: float = 0.0, utterance: int = 0) -> Commit:
    words = wire_words(text, start)
    return Commit(seq, words, "".join(word.text for word in words), utterance)


def partial(text: str, start: float = 0.0) -> Partial:
    words = wire_words(text, start)
    return Partial("".join(word.text for word in words), words, start, start + 0.5 * len(words))


def over(seq: int, utterance: int = 0, language: str = "en", speaker: str | None = None) -> UtteranceMessage:
    return UtteranceMessage(seq, utterance, 0.0, 1.0, "", speaker, language)


def transcript_of(*messages: KeptMessage | Partial) -> Transcript:
    transcript = Transcript()
    for message in messages:
        transcript.apply(message)
    return transcript


# Growing ------------------------------------------------------------------------------------------


def test_commits_concatenate_to_the_text() -> None:
    transcript = transcript_of(commit(1, "Good morning,"), commit(2, "everyone.", 1.0))
    assert transcript.text == " Good morning, everyone."
    assert [word.text for word in transcript.words] == [" Good", " morning,", " everyone."]
    assert transcript.last_seq == 2


def test_a_new_transcript_is_empty() -> None:
    transcript = Transcript()
    assert (transcript.text, transcript.words, transcript.segments(), transcript.tail) == ("", (), (), ())
    assert (transcript.last_seq, transcript.duration_samples, transcript.language) == (0, 0, None)


def test_word_times_are_kept_in_samples() -> None:
    (word,) = transcript_of(commit(1, "Hello.", 2.25)).words
    assert (word.start_sample, word.end_sample) == (samples(2.25), samples(2.75))


def test_each_utterance_is_a_segment_and_so_is_the_open_one() -> None:
    transcript = transcript_of(commit(1, "One two."), over(2), commit(3, "Three", 3.0, utterance=1))
    assert [segment.text for segment in transcript.segments()] == ["One two.", "Three"]
    assert transcript.segments()[1].start_sample == samples(3.0)


def test_an_utterance_without_words_is_no_segment() -> None:
    assert transcript_of(over(1), over(2, utterance=1)).segments() == ()


def spoken_in(*utterances: tuple[str | None, float]) -> Transcript:
    """Make a transcript of utterances, each in a language and so many seconds long."""
    return transcript_of(
        *(
            UtteranceMessage(number + 1, number, 5.0, 5.0 + length, "", None, language)
            for number, (language, length) in enumerate(utterances)
        )
    )


@pytest.mark.parametrize(
    ("utterances", "language"),
    [
        ([("de", 1.0)], "de"),
        ([("cy", 0.6), ("en", 4.0)], "en"),
        ([("en", 4.0), ("de", 1.0), ("en", 1.0), ("de", 3.0)], "en"),
        ([("en", 2.0), ("de", 1.0), ("de", 1.0)], "de"),
        ([("en", 0.0), ("de", 0.0)], "de"),
        ([("en", 1.0), (None, 5.0)], "en"),
        ([(None, 1.0)], None),
    ],
    ids=[
        "the only one",
        "a wrong guess first",
        "most",
        "a tie",
        "without length",
        "unknown later",
        "unknown",
    ],
)
def test_the_language_is_what_was_spoken_longest_and_of_two_the_later(
    utterances: list[tuple[str | None, float]], language: str | None
) -> None:
    assert spoken_in(*utterances).language == language


def test_the_full_pass_s_language_is_the_session_s_and_the_live_record_keeps_its_own() -> None:
    transcript = transcript_of(
        commit(1, "Bore da"), over(2, language="cy"), Stopped(3, 4.0, " Bore da"), final(4)
    )
    assert (transcript.language, transcript.live_language) == ("en", "cy")
    assert Record.of("s1", transcript).language == "en"
    assert Record.of("s1", transcript, live=True).language == "cy"


def test_the_duration_is_the_last_words_end_until_stopped_says_how_long_the_audio_was() -> None:
    transcript = transcript_of(commit(1, "One two."))
    assert transcript.duration_samples == samples(1.0)
    transcript.apply(Stopped(2, 9.5, " One two."))
    assert transcript.duration_samples == samples(9.5)
    assert transcript.is_stopped


# Tail ---------------------------------------------------------------------------------------------


def test_each_partial_replaces_the_tail_and_an_empty_one_clears_it() -> None:
    transcript = transcript_of(partial("I sink"), partial("I think so"))
    assert "".join(word.text for word in transcript.tail) == " I think so"
    transcript.apply(Partial("", (), 0.0, 0.0))
    assert transcript.tail == ()
    assert transcript.last_seq == 0


def test_a_commit_takes_its_words_out_of_the_tail() -> None:
    transcript = transcript_of(partial("I think so too"), commit(1, "I think"))
    assert "".join(word.text for word in transcript.tail) == " so too"


def test_stopped_clears_the_tail() -> None:
    assert transcript_of(partial("and so"), Stopped(1, 2.0, "")).tail == ()


# Refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seq", [1, 3, 7])
def test_a_seq_that_is_doubled_or_skipped_is_refused_and_changes_nothing(seq: int) -> None:
    transcript = transcript_of(commit(1, "One"))
    with pytest.raises(RecordError, match=f"Message {seq} came where 2 was expected"):
        transcript.apply(commit(seq, "two", 1.0))
    assert (transcript.text, transcript.last_seq) == (" One", 1)


def test_words_for_an_utterance_that_is_over_are_refused() -> None:
    transcript = transcript_of(commit(1, "One."), over(2))
    with pytest.raises(RecordError, match="utterance 0, which is over"):
        transcript.apply(commit(3, "two"))
    assert transcript.last_seq == 2


def test_words_for_an_earlier_utterance_are_refused() -> None:
    with pytest.raises(RecordError, match="utterance 0, which is over"):
        transcript_of(commit(1, "Two.", utterance=1), commit(2, "One.", utterance=0))


def test_words_after_stopped_are_refused() -> None:
    with pytest.raises(RecordError, match="after `stopped`"):
        transcript_of(Stopped(1, 1.0, ""), commit(2, "Wait!"))


def test_messages_that_say_nothing_about_the_record_are_ignored() -> None:
    transcript = transcript_of(commit(1, "One"))
    transcript.apply(Notice("slow", "The captions come less often."))
    assert (transcript.text, transcript.last_seq) == (" One", 1)


# Speakers -----------------------------------------------------------------------------------------


def test_a_label_names_the_speaker_of_the_words_between_its_times_and_no_others() -> None:
    transcript = transcript_of(commit(1, "one two three four"), Label(2, 0.5, 1.5, "S1"))
    assert [word.speaker for word in transcript.words] == [None, "S1", "S1", None]
    assert transcript.text == " one two three four"


def test_a_label_reaches_back_into_the_utterances_it_covers() -> None:
    transcript = transcript_of(
        commit(1, "one two"), over(2), commit(3, "three four", 1.0, utterance=1), Label(4, 0.5, 1.5, "S2")
    )
    assert [word.speaker for word in transcript.words] == [None, "S2", "S2", None]


def test_an_utterance_is_cut_into_segments_where_its_speaker_changes() -> None:
    transcript = transcript_of(
        commit(1, "one two three four"), Label(2, 0.0, 1.0, "S1"), Label(3, 1.0, 2.0, "S2"), over(4)
    )
    assert [(segment.speaker, segment.text) for segment in transcript.segments()] == [
        ("S1", "one two"),
        ("S2", "three four"),
    ]


def test_an_utterances_speaker_names_the_words_that_had_none() -> None:
    transcript = transcript_of(commit(1, "one two"), Label(2, 0.0, 0.5, "S1"), over(3, speaker="S2"))
    assert [word.speaker for word in transcript.words] == ["S1", "S2"]


# The final revision -------------------------------------------------------------------------------


def final(seq: int) -> Final:
    segment = FinalSegment(0.0, 1.0, "SPEAKER_00", "Won too", wire_words("Won too"))
    return Final(seq, 1, 4.0, "en", "Won too", (segment,), (), {})


def test_the_final_revision_is_what_is_shown_and_the_live_one_stays() -> None:
    transcript = transcript_of(commit(1, "One two"), Stopped(2, 4.0, " One two"), final(3))
    assert [(s.speaker, s.text) for s in transcript.segments()] == [("SPEAKER_00", "Won too")]
    assert [s.text for s in transcript.live_segments()] == ["One two"]
    assert transcript.text == " One two"


def test_a_record_is_made_of_either_revision() -> None:
    transcript = transcript_of(commit(1, "One two"), Stopped(2, 4.0, " One two"), final(3))
    best, live = Record.of("s1", transcript), Record.of("s1", transcript, live=True)
    assert (best.text, best.revision, best.language) == ("Won too", 1, "en")
    assert (live.text, live.revision, live.duration_samples) == ("One two", 0, samples(4.0))


# Any session --------------------------------------------------------------------------------------

some_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
# (milliseconds of silence before, of length, text) of each word; per utterance, per commit.
some_word = st.tuples(st.integers(0, 3000), st.integers(0, 2000), some_texts)
some_session = st.lists(st.lists(st.lists(some_word, max_size=4), max_size=3), max_size=4)


def session_messages(spec: list[list[list[tuple[int, int, str]]]]) -> list[KeptMessage]:
    messages: list[KeptMessage] = []
    position_ms, text = 0, ""
    for index, commits in enumerate(spec):
        for content in commits:
            words = []
            for gap_ms, length_ms, word_text in content:
                start_ms = position_ms + gap_ms
                position_ms = start_ms + length_ms
                words.append(WireWord(word_text, start_ms / 1000, position_ms / 1000, 0.5, None))
            commit_text = "".join(word.text for word in words)
            text += commit_text
            messages.append(Commit(len(messages) + 1, tuple(words), commit_text, index))
        messages.append(UtteranceMessage(len(messages) + 1, index, 0.0, 0.0, "", "S1", "en"))
    messages.append(Stopped(len(messages) + 1, position_ms / 1000, text))
    return messages


@given(some_session)
def test_the_committed_text_only_grows_and_ends_as_the_commits_concatenated(spec: list) -> None:
    transcript = Transcript()
    for message in (messages := session_messages(spec)):
        before = transcript.text
        transcript.apply(message)
        assert transcript.text.startswith(before)
    assert transcript.text == "".join(m.text for m in messages if isinstance(m, Commit))


@given(some_session, st.integers(0, 20))
def test_a_copy_stays_as_it_was_and_can_go_on_by_itself(spec: list, count: int) -> None:
    messages = session_messages(spec)
    before, rest = messages[:count], messages[count:]
    transcript = transcript_of(*before)
    copy, at_first = transcript.copy(), Record.of("s", transcript)
    for message in rest:
        transcript.apply(message)
    relabelled = Label(transcript.last_seq + 1, 0.0, 1000.0, "S9")
    transcript.apply(relabelled)
    assert Record.of("s", copy) == at_first
    for message in (*rest, relabelled):
        copy.apply(message)
    assert Record.of("s", copy) == Record.of("s", transcript)
    assert (copy.last_seq, copy.language, copy.live_labels, copy.open_utterance) == (
        transcript.last_seq,
        transcript.language,
        transcript.live_labels,
        transcript.open_utterance,
    )


@given(some_session)
def test_a_transcript_rebuilt_from_the_kept_messages_is_the_same(spec: list) -> None:
    messages = session_messages(spec)
    live, rebuilt = transcript_of(*messages), Transcript()
    for message in messages:
        rebuilt.apply(decode_server(encode(message)))
    assert rebuilt.words == live.words
    assert Record.of("s", rebuilt) == Record.of("s", live)
