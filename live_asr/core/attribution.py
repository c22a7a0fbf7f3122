"""Words × turns: who said which word, and which live label became which speaker.

Words come from the recogniser, turns from the diarizer, and neither knows of the other: their times differ
by a tenth of a second or two, and where people talk at once a word lies in several turns.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate

from live_asr.core.passages import ends_sentence
from live_asr.core.types import Segment, SpeakerLabel, Turn, Word, samples

REACH_SAMPLES = samples(0.5)
"""A word outside all turns belongs to one that is at most this far away, since both have errors."""
MAX_MOVED_WORDS = 4
"""A change of speaker is moved over at most so many words to where a sentence ends."""
MIN_GAP_SAMPLES = samples(0.5)
"""A shorter silence between two words of one speaker, with nobody else's between, is no end of a turn."""
PAUSE_SAMPLES = samples(0.8)
"""A silence between words that ends a segment, whatever is said."""
SENTENCE_SEGMENT_SAMPLES = samples(4.0)
"""A segment so long ends with its sentence."""
MAX_SEGMENT_SAMPLES = samples(30.0)
"""A segment ends here though its sentence goes on, as in languages that write no full stops."""


def attribute(words: Iterable[Word], turns: Iterable[Turn]) -> tuple[Word, ...]:
    """Return the words, in their order, each with the speaker whose turns cover most of it.

    Where several cover the same of it, as in overlapped speech, it goes to the one who was speaking, else to
    the one who goes on alone. Outside all turns it goes to the nearest within reach, else to whoever said the
    word before. A change of speaker within a sentence is moved to its end or beginning where that is a few
    words away and both speak there. Without turns no word has a speaker.
    """
    words = tuple(words)
    field = _Field(turns)
    if field.is_empty:
        return tuple(replace(word, speaker=None) for word in words)
    candidates = list(field.candidates(words))
    going_on: list[SpeakerLabel | None] = []
    following: SpeakerLabel | None = None
    for speakers in reversed(candidates):
        following = speakers[0] if len(speakers) == 1 else following
        going_on.append(following)
    # Languages that write no spaces have no pieces of words, only words.
    writes_spaces = 2 * sum(word.text[:1].isspace() for word in words) > len(words)
    attributed: list[Word] = []
    speaker: SpeakerLabel | None = None
    for word, speakers, after in zip(words, candidates, reversed(going_on), strict=True):
        if writes_spaces and attributed and not word.text[:1].isspace():
            pass  # "-two" is whose "forty" was
        elif not speakers:
            speaker = speaker or after or field.nearest(word)[0]
        elif speaker not in speakers:
            speaker = after if after in speakers else speakers[0]
        attributed.append(replace(word, speaker=speaker))
    return tuple(_changing_between_sentences(attributed, field))


def _changing_between_sentences(words: list[Word], field: _Field) -> list[Word]:
    """Move changes of speaker to the nearest end of a sentence, where who gets the words speaks near them.

    People take turns where sentences end, and speak into each other's last words: which of the two covers
    most of those says little.
    """
    words = list(words)
    for index in range(1, len(words)):
        before, after = words[index - 1].speaker, words[index].speaker
        if before == after or ends_sentence(words[index - 1].text):
            continue
        for count in range(1, MAX_MOVED_WORDS + 1):
            earlier, later = words[max(0, index - count) : index], words[index : index + count]
            begins = index > count and ends_sentence(words[index - count - 1].text)
            if begins and field.all_near(earlier, before, after):
                words[index - count : index] = [replace(word, speaker=after) for word in earlier]
                break
            ends = len(later) == count and ends_sentence(later[-1].text)
            if ends and field.all_near(later, after, before):
                words[index : index + count] = [replace(word, speaker=before) for word in later]
                break
    return words


def final_segments(words: Iterable[Word]) -> tuple[Segment, ...]:
    """Cut words into segments that can be shown: one speaker each, about a sentence, no pause inside."""
    segments: list[Segment] = []
    open_words: list[Word] = []

    def close() -> None:
        if open_words:
            start = min(word.start_sample for word in open_words)
            end = max(word.end_sample for word in open_words)
            segments.append(Segment(start, end, tuple(open_words), open_words[0].speaker))
            open_words.clear()

    for word in words:
        if open_words and _ends_before(word, open_words):
            close()
        open_words.append(word)
    close()
    return tuple(segments)


def turns_of(words: Iterable[Word]) -> tuple[Turn, ...]:
    """Make turns from labelled words: what a speaker says on end, in order of time."""
    turns: list[Turn] = []
    for word in words:
        if word.speaker is None:
            continue
        last = turns[-1] if turns else None
        goes_on = last is not None and last.speaker == word.speaker
        if last is not None and goes_on and word.start_sample - last.end_sample < MIN_GAP_SAMPLES:
            turns[-1] = replace(
                last,
                start_sample=min(last.start_sample, word.start_sample),
                end_sample=max(last.end_sample, word.end_sample),
            )
        else:
            turns.append(Turn(word.start_sample, word.end_sample, word.speaker))
    return tuple(sorted(turns, key=lambda turn: (turn.start_sample, turn.end_sample, turn.speaker)))


def with_unheard(turns: Sequence[Turn], words: Sequence[Word]) -> tuple[Turn, ...]:
    """Return turns as heard, and for each speaker of words who was never heard, those of these words.

    A label may come from a word's neighbours alone. In order of their start.
    """
    missing = {word.speaker for word in words} - {turn.speaker for turn in turns} - {None}
    if not missing:
        return tuple(turns)
    added = [turn for turn in turns_of(words) if turn.speaker in missing]
    return tuple(sorted([*turns, *added], key=lambda turn: turn.start_sample))


def live_to_final(
    live_words: Iterable[Word], spoken: Iterable[Turn | Word]
) -> Mapping[SpeakerLabel, SpeakerLabel]:
    """Map each live label to the final speaker who said most of its words.

    `spoken` says who speaks when in the end: turns, or words with speakers. Every label of `live_words` is
    mapped, as long as anybody speaks at all.
    """
    shares = shares_of_labels(live_words, spoken)
    return {label: share.most_common(1)[0][0] for label, share in shares.items()}


def shares_of_labels(
    live_words: Iterable[Word], spoken: Iterable[Turn | Word]
) -> dict[SpeakerLabel, Counter[SpeakerLabel]]:
    """Return for each live label in how many samples of its words each final speaker speaks."""
    labelled = [word for word in live_words if word.speaker is not None]
    turns = [Turn(one.start_sample, one.end_sample, one.speaker) for one in spoken if one.speaker is not None]
    shares: dict[SpeakerLabel, Counter[SpeakerLabel]] = {}
    for live, final in zip(labelled, attribute(labelled, turns), strict=True):
        if live.speaker is not None and final.speaker is not None:
            length_samples = max(1, live.end_sample - live.start_sample)
            shares.setdefault(live.speaker, Counter())[final.speaker] += length_samples
    return shares


def _ends_before(word: Word, before: Sequence[Word]) -> bool:
    """Tell whether a segment of these words ends before the next one."""
    last, start_sample = before[-1], before[0].start_sample
    length_samples = last.end_sample - start_sample
    return (
        word.speaker != last.speaker
        or word.start_sample - last.end_sample >= PAUSE_SAMPLES
        or (length_samples >= SENTENCE_SEGMENT_SAMPLES and ends_sentence(last.text))
        or word.end_sample - start_sample > MAX_SEGMENT_SAMPLES
    )


class _Field:
    """All turns, asked about by time."""

    def __init__(self, turns: Iterable[Turn]) -> None:
        self._turns = sorted(turns, key=lambda turn: (turn.start_sample, turn.end_sample, turn.speaker))
        self._starts = [turn.start_sample for turn in self._turns]
        # Of the first n + 1 turns, the one that ends last.
        self._latest = list(accumulate(self._turns, _later))
        self._own: dict[SpeakerLabel, tuple[list[int], list[int]]] = {}
        for turn in self._turns:
            starts, latest_ends = self._own.setdefault(turn.speaker, ([], []))
            starts.append(turn.start_sample)
            latest_ends.append(max(turn.end_sample, latest_ends[-1] if latest_ends else 0))

    @property
    def is_empty(self) -> bool:
        """Whether nobody ever speaks."""
        return not self._turns

    def candidates(self, words: Sequence[Word]) -> Iterator[tuple[SpeakerLabel, ...]]:
        """Yield for each word the speakers who may have said it, equally; none where nobody is in reach."""
        by_time = sorted(range(len(words)), key=lambda index: words[index].start_sample)
        found: list[tuple[SpeakerLabel, ...]] = [()] * len(words)
        active: list[Turn] = []
        coming = 0
        for index in by_time:
            word = words[index]
            end_sample = max(word.end_sample, word.start_sample + 1)
            while coming < len(self._turns) and self._starts[coming] < end_sample:
                active.append(self._turns[coming])
                coming += 1
            active = [turn for turn in active if turn.end_sample > word.start_sample]
            cover: Counter[SpeakerLabel] = Counter()
            heard_until: dict[SpeakerLabel, int] = {}  # a speaker's own turns may overlap, and count once
            for turn in active:
                begin = max(turn.start_sample, heard_until.get(turn.speaker, word.start_sample))
                end = min(turn.end_sample, end_sample)
                if end > begin:
                    cover[turn.speaker] += end - begin
                    heard_until[turn.speaker] = end
            most = max(cover.values(), default=0)
            if most > 0:
                found[index] = tuple(speaker for speaker, share in cover.items() if share == most)
            else:
                speaker, distance_samples = self.nearest(word)
                found[index] = (speaker,) if distance_samples <= REACH_SAMPLES else ()
        yield from found

    def all_near(self, words: Sequence[Word], now: SpeakerLabel | None, instead: SpeakerLabel | None) -> bool:
        """Tell whether all the words are now one's, and somebody else speaks in reach of each of them."""
        return all(word.speaker == now and self._is_near(word, instead) for word in words)

    def _is_near(self, word: Word, speaker: SpeakerLabel | None) -> bool:
        if speaker is None:
            return False
        starts, latest_ends = self._own[speaker]
        before = bisect_left(starts, word.end_sample + REACH_SAMPLES)
        return before > 0 and latest_ends[before - 1] > word.start_sample - REACH_SAMPLES

    def nearest(self, word: Word) -> tuple[SpeakerLabel, int]:
        """Return who speaks next to a word that is in no turn, and how far away, in samples."""
        following = bisect_left(self._starts, word.start_sample)
        sides: list[tuple[int, SpeakerLabel]] = []
        if following > 0:
            turn = self._latest[following - 1]
            sides.append((max(0, word.start_sample - turn.end_sample), turn.speaker))
        if following < len(self._turns):
            turn = self._turns[following]
            sides.append((max(0, turn.start_sample - word.end_sample), turn.speaker))
        distance_samples, speaker = min(sides, key=lambda side: side[0])
        return speaker, distance_samples


def _later(one: Turn, other: Turn) -> Turn:
    """Return the turn that ends later."""
    return one if one.end_sample > other.end_sample else other
