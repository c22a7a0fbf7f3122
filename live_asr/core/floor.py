"""Whose words come next where several channels are heard: one speaker at a time, as people read.

Who speaks first has the floor until they pause. What others say meanwhile waits to the end of a sentence, or
for `MAX_WAIT_SAMPLES`, then it is their turn; without that, two who talk at once would make a record of
alternating single words. Words that wait are shown in the tail.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from live_asr.core.passages import ends_sentence
from live_asr.core.streaming_policy import Committed
from live_asr.core.types import Utterance, Word, samples

MAX_WAIT_SAMPLES = samples(2.5)
"""So long, of audio, committed words wait for another speaker to come to an end."""

Said = Committed | Utterance


class Floor:
    """Put what is said on several channels into one order; `language_of` tells a channel's language."""

    def __init__(self, channels: int, language_of: Callable[[int], str | None]) -> None:
        self._language_of = language_of
        self._waiting: list[deque[tuple[int, Said]]] = [deque() for _ in range(channels)]
        """What each channel has said and nobody was told yet, with when it came."""
        self._holder: int | None = None
        self._told: list[Word] = []
        """What the holder has said since they took the floor."""

    def put(self, channel: int, said: Said, now_sample: int) -> None:
        """Take what was said on a channel."""
        self._waiting[channel].append((now_sample, said))

    def waiting(self, channel: int) -> list[Word]:
        """Return the words of a channel that wait."""
        return [
            word for _, said in self._waiting[channel] if isinstance(said, Committed) for word in said.words
        ]

    def take(self, now_sample: int, *, everything: bool = False) -> list[Said]:
        """Return what is to be told now, in order; with `everything` nothing waits any longer."""
        told: list[Said] = []
        while True:
            if self._holder is None:
                self._holder = self._first()
            if self._holder is None:
                return told
            others_wait = any(
                any(isinstance(said, Committed) for _, said in queue)
                for channel, queue in enumerate(self._waiting)
                if channel != self._holder
            )
            own = self._waiting[self._holder]
            if own:
                _, said = own.popleft()
                if isinstance(said, Utterance):
                    self._release(told, said.language)
                    continue
                told.append(said)
                self._told += said.words
                if others_wait and ends_sentence(said.words[-1].text):
                    self._release(told, self._language_of(self._holder))
            elif others_wait and (everything or self._oldest() <= now_sample - MAX_WAIT_SAMPLES):
                self._release(told, self._language_of(self._holder))
            else:
                return told

    def _first(self) -> int | None:
        """Return the channel whose waiting words begin first; None where none wait."""
        starts = {}
        for channel, queue in enumerate(self._waiting):
            while queue and isinstance(queue[0][1], Utterance):  # whose words were told before
                queue.popleft()
            if queue and isinstance(queue[0][1], Committed):
                starts[channel] = queue[0][1].words[0].start_sample
        return min(starts, key=lambda channel: starts[channel], default=None)

    def _oldest(self) -> int:
        """Return since when words of another than the holder wait."""
        return min(
            came
            for channel, queue in enumerate(self._waiting)
            if channel != self._holder
            for came, said in queue
            if isinstance(said, Committed)
        )

    def _release(self, told: list[Said], language: str | None) -> None:
        """Close what the holder has said, if anything, and free the floor."""
        if self._told:
            words = tuple(self._told)
            told.append(
                Utterance(0, words[0].start_sample, words[-1].end_sample, words, words[0].speaker, language)
            )
        self._told, self._holder = [], None
