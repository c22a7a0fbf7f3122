"""The result of a session: `final` and its turns, from the live record and what the full pass found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count

from live_asr.core.attribution import (
    attribute,
    final_segments,
    live_to_final,
    shares_of_labels,
    turns_of,
    with_unheard,
)
from live_asr.core.messages import Final, FinalSegment, FinalSpeaker, wire_word
from live_asr.core.transcript import Transcript
from live_asr.core.types import Segment, SpeakerLabel, Turn, Word, seconds, speaker_number


@dataclass(frozen=True, slots=True)
class Result:
    """What a session comes to."""

    final: Final
    turns: tuple[Turn, ...]
    """Who spoke when, under the final labels; turns of several speakers may overlap."""


def make_result(
    transcript: Transcript,
    links: Mapping[str, str],
    *,
    turns: Sequence[Turn] = (),
    words: Sequence[Word] = (),
    live_turns: Sequence[Turn] = (),
    language: str | None = None,
    started_at: str | None = None,
    revision: int = 1,
    has_speakers: bool = False,
) -> Result:
    """Make the result of a session whose live transcript is complete, changing nothing.

    `turns` and `words` are what the full pass found, each empty where it found nothing or was not asked: then
    the live words stand, and the live labels, renamed, if there are any, with `live_turns` as heard; in
    `revision` 0 under their live names. With `has_speakers` words keep those that they have, since channels
    are speakers.
    `started_at` is when the first audio came. Takes a tenth of a second for an hour of words: it may be
    called from another thread once `stopped` is said.
    """
    live_words = transcript.words
    labels: str | None = "full"
    renamed: Mapping[SpeakerLabel, SpeakerLabel]
    said = _by_speaker(words) if has_speakers else ()
    if said:
        turns = sorted((turn for own in said for turn in turns_of(own)), key=lambda turn: turn.start_sample)
        heard_again = set(_speakers_of(turns))
        shown = {label: label for label in transcript.live_labels}
        numbered = _numbered(list(shown), shown)
        renamed = {live: final for live, final in numbered.items() if final in heard_again}
    elif turns:
        turns = with_live_numbers(turns, live_words)
        renamed = live_to_final(live_words, turns)
    else:
        in_use = {word.speaker for word in live_words}
        heard = with_unheard([turn for turn in live_turns if turn.speaker in in_use], live_words)
        in_order = _speakers_of(heard)
        own = {label: label for label in in_order}
        renamed = _numbered(in_order, own) if revision else own
        turns = [replace(turn, speaker=renamed[turn.speaker]) for turn in heard]
        labels = "live" if turns else None
    if said:
        cut = (segment for own in said for segment in final_segments(own))
        segments = tuple(sorted(cut, key=lambda segment: segment.start_sample))
    elif words or labels == "full":
        segments = final_segments(attribute(words or live_words, turns))
    else:
        segments = tuple(
            Segment(
                segment.start_sample,
                segment.end_sample,
                _relabelled(segment.words, renamed),
                renamed.get(segment.speaker) if segment.speaker is not None else None,
            )
            for segment in transcript.live_segments()
        )
    final = Final(
        seq=transcript.last_seq + 1,
        revision=revision,
        duration=seconds(transcript.duration_samples),
        language=(language if words else None) or transcript.language,
        text="".join(word.text for segment in segments for word in segment.words),
        segments=tuple(map(wire_segment, segments)),
        speakers=speakers_of(turns, _all_mapped(transcript.live_labels, renamed, turns)),
        links=dict(links),
        labels=labels,
        started_at=started_at,
        clock=transcript.clock,
    )
    return Result(final, tuple(turns))


def live_result(
    transcript: Transcript,
    links: Mapping[str, str],
    *,
    live_turns: Sequence[Turn] = (),
    received_samples: int = 0,
    started_at: str | None = None,
) -> Result:
    """Return what there is of a session that failed: revision 0, whose speakers keep their live labels.

    That is what its exports show, and what names are given to. `received_samples` is how much audio there
    was: a transcript that was never stopped does not tell.
    """
    result = make_result(transcript, links, live_turns=live_turns, started_at=started_at, revision=0)
    duration = max(result.final.duration, seconds(received_samples))
    return replace(result, final=replace(result.final, duration=duration))


def _by_speaker(words: Iterable[Word]) -> list[list[Word]]:
    """Return what each speaker said, in order."""
    said: dict[SpeakerLabel | None, list[Word]] = {}
    for word in words:
        said.setdefault(word.speaker, []).append(word)
    return list(said.values())


def final_label(number: int) -> SpeakerLabel:
    """Name the speaker with this number, counted from 0."""
    return f"SPEAKER_{number:02}"


def with_live_numbers(turns: Sequence[Turn], live_words: Sequence[Word]) -> tuple[Turn, ...]:
    """Return turns whose speakers have the numbers under which they were known live, where that is clear.

    It is where a live label and a final speaker have most of their words from each other. All others get the
    numbers that are left, in the order in which they are first heard. Labels without numbers stay.
    """
    in_order = _speakers_of(turns)
    if any(speaker_number(label) is None for label in in_order):
        return tuple(turns)
    shares = shares_of_labels(live_words, turns)
    sources: dict[SpeakerLabel, Counter[SpeakerLabel]] = {}
    for live, share in shares.items():
        for final, length_samples in share.items():
            sources.setdefault(final, Counter())[live] += length_samples
    known = {final: _most_of(source) for final, source in sources.items()}
    clear = {final: live for final, live in known.items() if _most_of(shares[live]) == final}
    renamed = _numbered(in_order, clear)
    return tuple(replace(turn, speaker=renamed[turn.speaker]) for turn in turns)


def _most_of(share: Counter[SpeakerLabel]) -> SpeakerLabel:
    return share.most_common(1)[0][0]


def _numbered(
    labels: Sequence[SpeakerLabel], live: Mapping[SpeakerLabel, SpeakerLabel]
) -> dict[SpeakerLabel, SpeakerLabel]:
    """Name speakers by the numbers of their live labels, those that have none by what is left."""
    numbers: dict[SpeakerLabel, int] = {}
    for label in labels:
        number = speaker_number(live[label]) if label in live else None
        if number is not None and number not in numbers.values():
            numbers[label] = number
    left = (number for number in count() if number not in numbers.values())
    for label in labels:
        if label not in numbers:
            numbers[label] = next(left)
    return {label: final_label(number) for label, number in numbers.items()}


def _speakers_of(turns: Iterable[Turn]) -> list[SpeakerLabel]:
    """Return the labels of these turns, in the order of their first one."""
    return list(dict.fromkeys(turn.speaker for turn in turns))


def _relabelled(words: Iterable[Word], names: Mapping[SpeakerLabel, SpeakerLabel]) -> tuple[Word, ...]:
    return tuple(
        replace(word, tokens=(), speaker=names.get(word.speaker) if word.speaker is not None else None)
        for word in words
    )


def _all_mapped(
    shown: Mapping[SpeakerLabel, SpeakerLabel | None],
    mapped: Mapping[SpeakerLabel, SpeakerLabel],
    turns: Sequence[Turn],
) -> Mapping[SpeakerLabel, SpeakerLabel]:
    """Map the labels too that were shown and lost all their words: each went where its words went."""
    complete: dict[SpeakerLabel, SpeakerLabel] = {}
    for label in shown:
        heir: SpeakerLabel | None = label
        passed: set[SpeakerLabel] = set()
        while heir is not None and heir not in mapped and heir not in passed:
            passed.add(heir)
            heir = shown.get(heir)
        if heir is not None and heir in mapped:
            complete[label] = mapped[heir]
        elif turns:
            complete[label] = turns[0].speaker
    return complete


def speakers_of(
    turns: Sequence[Turn], mapped: Mapping[SpeakerLabel, SpeakerLabel]
) -> tuple[FinalSpeaker, ...]:
    """Return who speaks in these turns, in their order; `mapped` tells what other labels became of whom."""
    own: dict[SpeakerLabel, list[Turn]] = {}
    for turn in turns:
        own.setdefault(turn.speaker, []).append(turn)
    return tuple(
        FinalSpeaker(
            label,
            tuple(live for live, final in mapped.items() if final == label),
            seconds(sum(turn.end_sample - turn.start_sample for turn in spoken)),
            len(spoken),
        )
        for label, spoken in own.items()
    )


def wire_segment(segment: Segment) -> FinalSegment:
    """Return a segment as clients see it."""
    return FinalSegment(
        seconds(segment.start_sample),
        seconds(segment.end_sample),
        segment.speaker,
        segment.text,
        tuple(map(wire_word, segment.words)),
    )
