"""Record → JSON, WebVTT, SRT, plain text, RTTM.

Pure functions over a `Record`. They take about a quarter of a second for an hour of speech, so a server
renders off its event loop.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from live_asr.core.attribution import turns_of, with_unheard
from live_asr.core.cues import cues
from live_asr.core.messages import ClockPoint, Final, FinalSpeaker
from live_asr.core.passages import LONG_PAUSE_SAMPLES, columns_of, ends_sentence, label_before, passages
from live_asr.core.transcript import Transcript, final_segments_of
from live_asr.core.types import Segment, SpeakerLabel, Turn, Word, samples, seconds, speaker_number

_LINE_COLUMNS_OF_TEXT = 300
"""Width at which a line of plain text ends with its utterance, though the sentence goes on."""


@dataclass(frozen=True, slots=True)
class Record:
    """A transcript with what is known about it: what every export is made from."""

    session: str
    """The session's id."""
    segments: tuple[Segment, ...]
    """In order of their start."""
    duration_samples: int
    """Length of the audio."""
    language: str | None = None
    """ISO 639-1 code as Whisper spells it; None where nothing was said."""
    revision: int = 0
    """0 for the live record, 1 for the full pass's, 2 for what people made of that."""
    turns: tuple[Turn, ...] = ()
    """Who speaks when, in order of their start; those of several speakers may overlap."""
    names: Mapping[SpeakerLabel, str] = field(default_factory=dict)
    """What people call the speakers, by label."""
    started_at: str | None = None
    """When the first audio came: ISO 8601, UTC; None where that is not known."""
    clock: tuple[ClockPoint, ...] = ()
    """When positions of the audio were recorded, as the client said, in their order."""

    @classmethod
    def of(
        cls,
        session: str,
        transcript: Transcript,
        *,
        live: bool = False,
        turns: Sequence[Turn] = (),
        live_turns: Sequence[Turn] = (),
        names: Mapping[SpeakerLabel, str] | None = None,
        received_samples: int = 0,
        started_at: str | None = None,
    ) -> Record:
        """Make the record of a session's transcript as it stands: its best revision, or the live one.

        `turns` are the full pass's, `live_turns` those heard live; without them they are those of the words.
        `names` may hold live labels and final ones: a name given to one counts for what became of it, unless
        that has its own. `received_samples` is how much audio there is of a session that was not stopped.
        """
        if transcript.final is not None and not live:
            return cls.of_final(session, transcript.final, turns=turns, names=names)
        segments = transcript.live_segments()
        words = [word for segment in segments for word in segment.words]
        return cls(
            session=session,
            segments=segments,
            duration_samples=max(transcript.duration_samples, received_samples),
            language=transcript.live_language,
            turns=with_unheard(live_turns, words),
            names=names_of(transcript.final.speakers if transcript.final else (), names or {}),
            started_at=transcript.final.started_at if transcript.final else started_at,
            clock=transcript.clock,
        )

    @classmethod
    def of_final(
        cls,
        session: str,
        final: Final,
        *,
        turns: Sequence[Turn] = (),
        names: Mapping[SpeakerLabel, str] | None = None,
    ) -> Record:
        """Make the record of a result; without `turns` they are those of its words."""
        segments = final_segments_of(final)
        words = [word for segment in segments for word in segment.words]
        return cls(
            session=session,
            segments=segments,
            duration_samples=samples(final.duration),
            language=final.language,
            revision=final.revision,
            turns=tuple(turns) or turns_of(words),
            names=names_of(final.speakers, names or {}),
            started_at=final.started_at,
            clock=final.clock,
        )

    @property
    def text(self) -> str:
        """All words as one line."""
        return "".join(word.text for segment in self.segments for word in segment.words).strip()


def names_of(speakers: Iterable[FinalSpeaker], given: Mapping[SpeakerLabel, str]) -> dict[SpeakerLabel, str]:
    """Return the names of all labels, live and final, from those that people gave to some of them."""
    names = dict(given)
    for speaker in speakers:
        labels = (speaker.label, *speaker.live_labels)
        name = next((given[label] for label in labels if label in given), None)
        if name is not None:
            for label in labels:
                names.setdefault(label, name)
    return names


def shown_name(label: SpeakerLabel, names: Mapping[SpeakerLabel, str]) -> str:
    """Return what people read in place of a label, as on the page: its name, else `Speaker 2` for `S2` and
    for `SPEAKER_01`, which is the same number."""
    if label in names:
        return names[label]
    number = speaker_number(label)
    return label if number is None else f"Speaker {number + 1}"


# Formats ------------------------------------------------------------------------------------------


def to_json(record: Record) -> dict[str, Any]:
    """Render the record as plain data: seconds, segments and words under the wire's names."""
    return {
        "session": record.session,
        "revision": record.revision,
        "language": record.language,
        "duration": seconds(record.duration_samples),
        "started_at": record.started_at,
        "clock": [{"audio": point.audio, "at": point.at} for point in record.clock],
        "text": record.text,
        "names": dict(record.names),
        "segments": [
            {
                "start": seconds(segment.start_sample),
                "end": seconds(segment.end_sample),
                "speaker": segment.speaker,
                "text": segment.text,
                "words": [
                    {
                        "text": word.text,
                        "start": seconds(word.start_sample),
                        "end": seconds(word.end_sample),
                        "probability": round(word.probability, 3),
                        "speaker": word.speaker,
                    }
                    for word in segment.words
                ],
            }
            for segment in record.segments
        ],
    }


def to_vtt(record: Record) -> str:
    """Render the record as WebVTT (W3C), with a voice tag where the speaker is known."""
    blocks = ["WEBVTT\n"]
    for cue in cues(named_segments(record), record.duration_samples):
        lines = [_escape_vtt(line) for line in cue.lines]
        if cue.speaker is not None:
            lines[0] = f"<v {_escape_vtt(cue.speaker)}>{lines[0]}"
        timing = f"{_clock(cue.start_ms, '.')} --> {_clock(cue.end_ms, '.')}"
        blocks.append("\n".join([timing, *lines]) + "\n")
    return "\n".join(blocks)


def to_srt(record: Record) -> str:
    """Render the record as SubRip; where speakers are known, each turn opens with the speaker's name.

    The format has no escapes: an arrow in the text becomes a typographic one, the rest stays as it is.
    """
    blocks = []
    for number, cue in enumerate(
        cues(named_segments(record), record.duration_samples, label_turns=True), start=1
    ):
        timing = f"{_clock(cue.start_ms, ',')} --> {_clock(cue.end_ms, ',')}"
        lines = [line.replace("-->", "→") for line in cue.lines]
        blocks.append("\n".join([str(number), timing, *lines]) + "\n")
    return "\n".join(blocks)


def to_txt(record: Record) -> str:
    """Render the record as paragraphs: a new one where the speaker changes or pauses for long.

    A paragraph has a line for each utterance, as a talk may have no long pause in an hour; one that ends
    within a sentence shares its line with the next.
    """
    return "\n".join(
        label_before(one.speaker, one.lines[0]) + "\n".join(one.lines) + "\n" for one in paragraphs(record)
    )


class Paragraph(NamedTuple):
    """What one speaker says without a long pause."""

    speaker: str | None
    """What people call who speaks; None where nobody is told apart."""
    start_sample: int
    lines: list[str]


def paragraphs(record: Record) -> Iterator[Paragraph]:
    """Yield the record as it is read: none of the paragraphs is empty."""
    for passage in passages(named_segments(record)):
        paragraph: Paragraph | None = None
        end_sample = 0
        for line in _text_lines(passage.utterances):
            text = " ".join("".join(word.text for word in line).split())
            if not text:
                continue
            if paragraph is not None and line[0].start_sample - end_sample >= LONG_PAUSE_SAMPLES:
                yield paragraph
                paragraph = None
            if paragraph is None:
                paragraph = Paragraph(passage.speaker, line[0].start_sample, [])
            paragraph.lines.append(text)
            end_sample = line[-1].end_sample
        if paragraph is not None:
            yield paragraph


def to_rttm(record: Record) -> str:
    """Render who speaks when as RTTM (NIST's Rich Transcription Time Marked), a line for each turn.

    Speakers stand there by their labels, since the format has no place for spaces in a name.
    """
    lines = []
    for turn in record.turns:
        start, duration = seconds(turn.start_sample), seconds(turn.end_sample - turn.start_sample)
        if duration > 0:
            times = f"{start:.3f} {duration:.3f}"
            lines.append(f"SPEAKER {record.session} 1 {times} <NA> <NA> {turn.speaker} <NA> <NA>\n")
    return "".join(lines)


def named_segments(record: Record) -> Iterator[Segment]:
    """Yield the segments with what people read in place of labels: names, else numbers."""
    for segment in record.segments:
        if segment.speaker is None:
            yield segment
        else:
            yield replace(segment, speaker=shown_name(segment.speaker, record.names))


def _text_lines(utterances: Iterable[Sequence[Word]]) -> Iterator[list[Word]]:
    """Yield the words of each line; none spans a long pause."""
    line: list[Word] = []
    for utterance in utterances:
        for word in utterance:
            if line and word.start_sample - line[-1].end_sample >= LONG_PAUSE_SAMPLES:
                yield line
                line = []
            line.append(word)
        text = "".join(word.text for word in line)
        if ends_sentence(text) or columns_of(text) >= _LINE_COLUMNS_OF_TEXT:
            yield line
            line = []
    if line:
        yield line


def _json_text(record: Record) -> str:
    return json.dumps(to_json(record), ensure_ascii=False, indent=2) + "\n"


class Format(NamedTuple):
    """How a record is rendered, and what the result is."""

    render: Callable[[Record], str]
    media_type: str


FORMATS: dict[str, Format] = {
    "json": Format(_json_text, "application/json"),
    "vtt": Format(to_vtt, "text/vtt; charset=utf-8"),
    "srt": Format(to_srt, "application/x-subrip; charset=utf-8"),
    "txt": Format(to_txt, "text/plain; charset=utf-8"),
    "rttm": Format(to_rttm, "text/plain; charset=utf-8"),
}
"""File name extension → how to render it. All text is UTF-8 with `\\n` line ends."""


def _clock(position_ms: int, separator: str) -> str:
    total_seconds, ms = divmod(position_ms, 1000)
    minutes, secs = divmod(total_seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{secs:02}{separator}{ms:03}"


def _escape_vtt(text: str) -> str:
    # Escaping ">" as well means that "-->" cannot occur.
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
