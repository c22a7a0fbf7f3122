"""Who said it, in numbers: diarization error, words with the wrong speaker, labels that changed.

No clock and no I/O. Turns and words go in, and the messages of a session; numbers come out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jiwer
import numpy as np
from whisper_normalizer.english import EnglishTextNormalizer

from benchmarks.base.matching import key
from benchmarks.base.streaming import Arrival, SessionLog

SETTLED_AFTER = 30.0
"""Seconds of a session in which labels may change for nothing: nobody knows the voices yet."""
NOBODY = "nobody"
"""The speaker of words that have none, where a metric wants a name."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Somebody speaks from `start` to `end`, in seconds."""

    start: float
    end: float
    speaker: str


@dataclass(frozen=True, slots=True)
class Said:
    """Words on end by one speaker, times in seconds; `speaker` None where nobody knows."""

    start: float
    end: float
    speaker: str | None
    text: str


# Turns --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DiarizationErrors:
    """Parts of the diarization error, in seconds of speech; two who speak at once count twice."""

    speech: float
    missed: float
    false_alarm: float
    confused: float

    @property
    def percent(self) -> float:
        """The diarization error rate."""
        return self.of_speech(self.missed + self.false_alarm + self.confused)

    @property
    def confused_percent(self) -> float:
        """The share of speech that is somebody else's."""
        return self.of_speech(self.confused)

    def of_speech(self, duration: float) -> float:
        """Return a duration in percent of all speech; nan where nobody speaks."""
        return 100 * duration / self.speech if self.speech else float("nan")

    def __str__(self) -> str:
        parts = (self.missed, self.false_alarm, self.confused)
        return f"{self.percent:.1f} ({' + '.join(f'{self.of_speech(part):.1f}' for part in parts)})"


def read_rttm(text: str) -> list[Turn]:
    """Read the turns of an RTTM file; raises ValueError for a line that is none of it."""
    turns = []
    for line in filter(str.strip, text.splitlines()):
        fields = line.split()
        if len(fields) < 9 or fields[0] != "SPEAKER":
            raise ValueError(f"no line of RTTM: {line!r}")
        start = float(fields[3])
        turns.append(Turn(start, start + float(fields[4]), fields[7]))
    return turns


def speech_seconds(turns: Iterable[Turn]) -> float:
    """Return for how long anybody speaks; two at once count once."""
    total, covered = 0.0, 0.0
    for turn in sorted(turns, key=lambda turn: turn.start):
        total += max(turn.end - max(turn.start, covered), 0.0)
        covered = max(covered, turn.end)
    return total


def diarization_errors(said: Sequence[Turn], found: Sequence[Turn], duration: float) -> DiarizationErrors:
    """Compare turns with the true ones over the whole recording: no collar, overlapped speech scored."""
    from pyannote.core import Annotation, Segment, Timeline
    from pyannote.metrics.diarization import DiarizationErrorRate

    def annotation(turns: Sequence[Turn]) -> Any:
        result = Annotation()
        for place, turn in enumerate(turns):
            result[Segment(turn.start, turn.end), place] = turn.speaker
        return result

    metric = DiarizationErrorRate(collar=0.0, skip_overlap=False)
    all_of_it = Timeline([Segment(0.0, duration)])
    parts = metric(annotation(said), annotation(found), uem=all_of_it, detailed=True)
    return DiarizationErrors(
        speech=parts["total"],
        missed=parts["missed detection"],
        false_alarm=parts["false alarm"],
        confused=parts["confusion"],
    )


# Words --------------------------------------------------------------------------------------------


def read_stm(text: str) -> list[Said]:
    """Read the utterances of an STM file, their tags left out, in order of their start."""
    said = []
    for line in filter(str.strip, text.splitlines()):
        if line.startswith(";;"):
            continue
        _, _, speaker, start, end, words = line.split(maxsplit=5)
        if words.startswith("<"):
            words = words.partition(">")[2]
        said.append(Said(float(start), float(end), speaker, words.strip()))
    return sorted(said, key=lambda utterance: utterance.start)


def words_of(transcript: Mapping[str, Any]) -> list[Said]:
    """Return the words of a transcript as the server's JSON has it, pieces of one word joined.

    Whisper splits `forty-two`; what no space separates is one word, and its first piece says whose.
    """
    words: list[Said] = []
    for segment in transcript["segments"]:
        for place, word in enumerate(segment["words"]):
            text = str(word["text"])
            if place and words and not text[:1].isspace():
                before = words[-1]
                words[-1] = replace(before, end=word["end"], text=before.text + text.rstrip())
            else:
                words.append(Said(word["start"], word["end"], word["speaker"], text.strip()))
    return words


def cp_word_errors(said: Sequence[Said], heard: Sequence[Said]) -> tuple[float, float]:
    """Return the concatenated minimum-permutation word error rate and the plain one, in percent.

    MeetEval's cpWER: each speaker's words on end, each heard speaker held against the one that suits best.
    The plain one takes all words in order of time, whoever said them. Both after the English normaliser.
    """
    import meeteval

    normalise = EnglishTextNormalizer()

    def pieces(spoken: Sequence[Said], *, alike: bool) -> Any:
        return meeteval.io.SegLST(
            [
                {
                    "session_id": "clip",
                    "speaker": "all" if alike else piece.speaker or NOBODY,
                    "words": normalise(piece.text),
                    "start_time": piece.start,
                    "end_time": piece.end,
                }
                for piece in sorted(spoken, key=lambda piece: piece.start)
            ]
        )

    def rate(*, alike: bool) -> float:
        found = meeteval.wer.cpwer(pieces(said, alike=alike), pieces(heard, alike=alike))["clip"]
        return 100 * float(found.error_rate)

    return rate(alike=False), rate(alike=True)


def passages(words: Sequence[Said]) -> list[Said]:
    """Join neighbouring words of one speaker, so that the normaliser sees numbers and names whole."""
    joined: list[Said] = []
    for word in words:
        if joined and joined[-1].speaker == word.speaker:
            before = joined[-1]
            joined[-1] = replace(before, end=word.end, text=f"{before.text} {word.text}")
        else:
            joined.append(word)
    return joined


def wrong_speakers(said: Sequence[Said], heard: Sequence[Said]) -> tuple[int, int]:
    """Count the words that have the wrong speaker or none, and the words that could be compared.

    Said and heard words are aligned in order of time; a pair counts, equal or not, and a word that was
    lost or invented does not. Labels are matched with names so that most words are right.
    """
    true = [(key(word), piece.speaker) for piece in said for word in piece.text.split() if key(word)]
    found = [(key(word), piece.speaker) for piece in heard for word in piece.text.split() if key(word)]
    if not (true and found):
        return 0, 0
    alignment = jiwer.process_words(
        " ".join(word for word, _ in true), " ".join(word for word, _ in found)
    ).alignments[0]
    pairs: Counter[tuple[str, str]] = Counter()
    compared = 0
    for chunk in alignment:
        if chunk.type not in ("equal", "substitute"):
            continue
        length = chunk.ref_end_idx - chunk.ref_start_idx
        for offset in range(length):
            name = true[chunk.ref_start_idx + offset][1]
            label = found[chunk.hyp_start_idx + offset][1]
            compared += 1
            if name is not None and label is not None:
                pairs[name, label] += 1
    return compared - _most_right(pairs), compared


def _most_right(pairs: Mapping[tuple[str, str], int]) -> int:
    """Return how many pairs agree under the one-to-one matching of names and labels that suits best."""
    from scipy.optimize import linear_sum_assignment

    names = sorted({name for name, _ in pairs})
    labels = sorted({label for _, label in pairs})
    counts = np.array([[pairs.get((name, label), 0) for label in labels] for name in names])
    if not counts.size:
        return 0
    rows, columns = linear_sum_assignment(counts, maximize=True)
    return int(counts[rows, columns].sum())


# Labels while the session is live -------------------------------------------------------------------


@dataclass(slots=True)
class Labelling:
    """What a viewer saw of the labels of one session."""

    words: int = 0
    """Committed."""
    at_once: int = 0
    """Words that had a label when they were committed."""
    never: int = 0
    """Words that had none when the live transcript was complete."""
    delays: list[float] = field(default_factory=list)
    """Seconds from commit to label of the words that got it later."""
    changes: int = 0
    """Messages after the first half minute by which a shown label became another one."""
    changed_words: int = 0
    """The words in them."""
    early_changes: int = 0
    """Such messages before."""
    shown: set[str] = field(default_factory=set)
    """Every label that was ever shown."""

    def __add__(self, other: Labelling) -> Labelling:
        """Pool two sessions."""
        return Labelling(
            self.words + other.words,
            self.at_once + other.at_once,
            self.never + other.never,
            self.delays + other.delays,
            self.changes + other.changes,
            self.changed_words + other.changed_words,
            self.early_changes + other.early_changes,
            self.shown | other.shown,
        )


@dataclass(slots=True)
class _Shown:
    start: float
    end: float
    utterance: Any
    speaker: str | None
    committed: float
    labelled: float | None


def labelling(log: SessionLog) -> Labelling:
    """Follow every word's label from commit to `stopped`.

    A `label` is about the words whose middle lies between its times; an `utterance` names the speaker of
    those of its words that have none. When a change happens is told by the speech committed until then.
    """
    result = Labelling()
    words: list[_Shown] = []
    for arrival in log.arrivals:
        message = arrival.message
        match message.get("type"):
            case "commit":
                words += _committed(arrival)
            case "label":
                inside = [
                    word for word in words if message["from"] <= (word.start + word.end) / 2 <= message["to"]
                ]
                position = words[-1].end if words else 0.0
                _relabel(inside, message["speaker"], arrival.time, position, result)
            case "utterance" if message["speaker"] is not None:
                for word in words:
                    if word.utterance == message["utterance"] and word.speaker is None:
                        word.speaker, word.labelled = message["speaker"], arrival.time
            case "stopped":
                break
        result.shown |= {word.speaker for word in words if word.speaker is not None}
    result.words = len(words)
    for word in words:
        if word.labelled is None:
            result.never += 1
        elif word.labelled == word.committed:
            result.at_once += 1
        else:
            result.delays.append(word.labelled - word.committed)
    return result


def _committed(arrival: Arrival) -> list[_Shown]:
    message, now = arrival.message, arrival.time
    return [
        _Shown(
            word["start"],
            word["end"],
            message["utterance"],
            word["speaker"],
            now,
            None if word["speaker"] is None else now,
        )
        for word in message["words"]
    ]


def _relabel(words: list[_Shown], speaker: str, now: float, position: float, result: Labelling) -> None:
    changed = 0
    for word in words:
        if word.labelled is None:
            word.labelled = now
        elif word.speaker != speaker:
            changed += 1
        word.speaker = speaker
    if not changed:
        return
    if position < SETTLED_AFTER:
        result.early_changes += 1
        return
    result.changes += 1
    result.changed_words += changed


def unmapped(log: SessionLog, shown: Iterable[str]) -> list[str]:
    """Return the labels that were shown and that no speaker of `final` claims."""
    final = log.first("final")
    speakers = final.message["speakers"] if final is not None else []
    claimed = {label for speaker in speakers for label in speaker["live_labels"]}
    return sorted(set(shown) - claimed)
