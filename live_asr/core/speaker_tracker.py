"""Who is speaking, while they speak: incremental clustering of the speakers of a rolling window.

Coria et al., "Overlap-aware low-latency online speaker diarization based on end-to-end local
segmentation", ASRU 2021 (diart), from which the terms `tau`, `rho` and `delta` come. A segmentation model
tells up to three local speakers of a window apart. It finds changes of speaker well, but takes strangers
for one another across pauses. So what is told by its voice is a run, one local speaker's speech without a
pause; a run that continues one of the window before is known by that, and listened to only now and then.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from live_asr.core.audio import AudioBuffer
from live_asr.core.speaker_clusters import SpeakerClusters, SpeakerOptions
from live_asr.core.speaker_timeline import FRAME_SAMPLES, UNKNOWN, Timeline, live_label
from live_asr.core.types import CHUNK_SAMPLES, SpeakerLabel, Turn, samples

FloatArray = NDArray[np.float32]
T = TypeVar("T")

KNOWN = 0.3
"""Who speaks so much in a frame is known there."""
ENDED_SAMPLES = samples(0.5)
"""A run that stops so long before the window's end is over."""


@dataclass(frozen=True, slots=True)
class SegmentationRequest:
    """A window whose local speakers are wanted."""

    start_sample: int
    end_sample: int


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """A voice that is to be embedded: stretches of one local speaker alone, joined."""

    spans: tuple[tuple[int, int], ...]
    """(start_sample, end_sample) of each."""


@dataclass(slots=True)
class _Run:
    """A stretch of the window in which one local speaker speaks without a pause. Frames are the window's."""

    local: int
    first: int
    last: int
    clean: NDArray[np.intp]
    """Frames in which nobody else speaks."""
    speaker: int | None = None
    is_guessed: bool = False
    """Nobody listened to it."""
    listened: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, np.intp))
    """Frames that are about to be embedded."""

    @property
    def clean_samples(self) -> int:
        return len(self.clean) * FRAME_SAMPLES


@dataclass(slots=True)
class _Window:
    """The window at hand."""

    start_frame: int
    activity: FloatArray
    runs: list[_Run]
    waiting: list[_Run] = field(default_factory=list)


class SpeakerTracker:
    """Follow the speakers of one session.

    Asks for segmentations and embeddings one at a time, at positions that depend on the audio alone, so
    that any chunking gives the same labels.
    """

    def __init__(
        self,
        options: SpeakerOptions | None = None,
        *,
        min_speakers: int | None = None,
        max_speakers: int | None = None,
    ) -> None:
        self.options = options or SpeakerOptions()
        self._clusters = SpeakerClusters(max_speakers, min_speakers=min_speakers)
        self._buffer = AudioBuffer()
        self._speech: list[int] = []
        self._judged_sample = 0
        self._next_sample = self.options.step_samples
        self._end_sample: int | None = None
        self._window: _Window | None = None
        self._request: SegmentationRequest | EmbeddingRequest | None = None
        self._issued = False
        self._timeline = Timeline(self.options.memory_samples // FRAME_SAMPLES)
        self._heard_frames: set[int] = set()
        self.known_sample = 0
        """Everything before it has been looked at."""

    def restore(
        self, sample: int, voices: Sequence[Sequence[float]], count: int, turns: Iterable[Turn]
    ) -> int:
        """Begin at `sample` of a session in which `count` speakers were heard; before anything else.

        `voices` are their centroids, as far as they are known, `turns` what they said. Returns the first
        sample that is to be handed in.
        """
        options = self.options
        chunk_sample = sample // CHUNK_SAMPLES * CHUNK_SAMPLES
        start_sample = max(0, chunk_sample - options.window_samples)
        self._clusters.restore([np.array(voice, np.float32) for voice in voices], count)
        self._buffer = AudioBuffer(start_sample)
        self._judged_sample = self.known_sample = chunk_sample
        self._next_sample = self.last_window_before(chunk_sample) + options.step_samples
        self._timeline = Timeline.restored(
            options.memory_samples // FRAME_SAMPLES, chunk_sample, turns, count
        )
        return start_sample

    @property
    def voices(self) -> tuple[FloatArray, ...]:
        """The centroid of each speaker's voice; S1's first."""
        return self._clusters.sums

    # What arrives ------------------------------------------------------------------------------------

    def receive_audio(self, audio: FloatArray) -> None:
        """Take audio, shape (n,), 16 kHz mono."""
        self._buffer.append(audio)

    def receive_probabilities(self, probabilities: Iterable[float]) -> None:
        """Take the probability of speech of each 32 ms chunk, in order."""
        for probability in probabilities:
            if probability >= self.options.speech_probability:
                self._speech.append(self._judged_sample)
            self._judged_sample += CHUNK_SAMPLES
        self._advance()

    def finish(self) -> None:
        """Take note that no more audio comes: what is left is looked at as it is."""
        self._end_sample = self._buffer.end_sample
        self._advance()

    @property
    def is_wanting(self) -> bool:
        """Whether `wanted()` returns anything."""
        return self._request is not None and not self._issued

    def wanted(self) -> tuple[Literal["segmentation", "embedding"], FloatArray] | None:
        """Return what is to be computed next, and of which audio, once; None if nothing is."""
        if self._request is None or self._issued:
            return None
        self._issued = True
        if isinstance(self._request, SegmentationRequest):
            return "segmentation", self._buffer.slice(self._request.start_sample, self._request.end_sample)
        return "embedding", np.concatenate([self._buffer.slice(*span) for span in self._request.spans])

    def receive_activity(self, activity: FloatArray) -> None:
        """Take the answer to a segmentation, shape (frames, locals): how much each speaks, 0 to 1."""
        request = self._answered(SegmentationRequest)
        start_frame = request.start_sample // FRAME_SAMPLES
        self._window = _Window(start_frame, activity, self._runs(activity))
        for run in self._window.runs:
            run.speaker = self._continued(self._window, run)
            run.listened = self._unheard(self._window, run)
        self._window.waiting = [run for run in self._window.runs if run.listened.size]
        self._go_on()

    def receive_embedding(self, embedding: FloatArray) -> None:
        """Take the answer to an embedding: a vector of length 1."""
        self._answered(EmbeddingRequest)
        window = self._at_hand()
        run = window.waiting.pop(0)
        self._identify(window, run, embedding)
        self._go_on()

    def receive_failure(self) -> None:
        """Learn that what was asked for cannot be had; go on without it."""
        request = self._request
        self._request, self._issued = None, False
        if isinstance(request, SegmentationRequest):
            self._be_done_until(request.end_sample)
        else:
            self._at_hand().waiting.pop(0)
            self._go_on()

    @property
    def is_finished(self) -> bool:
        """Whether all audio has been looked at; after `finish`."""
        return (
            self._end_sample is not None and self.known_sample >= self._end_sample and self._request is None
        )

    def last_window_before(self, sample: int) -> int:
        """Return where the last window that ends by `sample` ends."""
        return sample - sample % self.options.step_samples

    def skip_to(self, sample: int) -> None:
        """Leave out windows that end before `sample`: better a few labels less than all of them late."""
        self._next_sample = max(self._next_sample, self.last_window_before(sample))

    # What is known -----------------------------------------------------------------------------------

    def turns(self) -> tuple[Turn, ...]:
        """Return who spoke when so far, overlaps included, in order of their start."""
        return self._timeline.turns()

    def turns_so_far(self) -> Callable[[], tuple[Turn, ...]]:
        """Return what gives the turns up to now, for another thread to call."""
        return self._timeline.copy().turns

    def label_between(
        self, start_sample: int, end_sample: int, previous: SpeakerLabel | None
    ) -> SpeakerLabel | None:
        """Return who speaks most in a word between two samples; None where nobody does, or nobody known yet.

        Of two who speak as much, `previous` is preferred: who speaks goes on.
        """
        shares = self._timeline.share_of_word(start_sample, end_sample)
        if shares is None:
            return None
        if previous is not None and shares[int(previous[1:])] > 0:
            shares[int(previous[1:])] += self.options.inertia
        best = int(shares.argmax())
        return None if best == UNKNOWN or shares[best] < self.options.least_share else live_label(best)

    # The window at hand ------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Pass over silence, and ask for the next window that holds speech, if its audio is there."""
        options = self.options
        while self._window is None and self._request is None:
            end_sample = self._next_sample
            if self._end_sample is not None:
                if self.known_sample >= self._end_sample:
                    return
                end_sample = min(end_sample, self._end_sample)
            if end_sample > min(self._buffer.end_sample, max(self._judged_sample, self._end_sample or 0)):
                return
            has_speech = any(
                chunk + CHUNK_SAMPLES > self.known_sample for chunk in self._speech if chunk < end_sample
            )
            self._speech = [chunk for chunk in self._speech if chunk >= end_sample]
            self._next_sample = end_sample + options.step_samples
            # Frames lie on one grid, so that windows that overlap can be compared.
            start_sample = max(0, end_sample - options.window_samples)
            start_sample += -start_sample % FRAME_SAMPLES
            if has_speech and end_sample - start_sample >= 4 * FRAME_SAMPLES:
                self._request, self._issued = SegmentationRequest(start_sample, end_sample), False
            else:
                self._forget_before(end_sample)

    def _be_done_until(self, sample: int) -> None:
        """Take note that everything before `sample` has been looked at, and go on."""
        self._window = None
        self._forget_before(sample)
        self._advance()

    def _forget_before(self, sample: int) -> None:
        self.known_sample = sample
        self._buffer.discard_before(sample - self.options.window_samples - self.options.step_samples)

    def _runs(self, activity: FloatArray) -> list[_Run]:
        """Cut the window into runs, in order of their start."""
        active = activity > self.options.tau_active
        alone = active.sum(axis=1) == 1
        runs = []
        for local in range(activity.shape[1]):
            frames = np.flatnonzero(active[:, local])
            breaks = np.flatnonzero(np.diff(frames) > self.options.pause_samples // FRAME_SAMPLES) + 1
            for piece in np.split(frames, breaks):
                if piece.size:
                    runs.append(_Run(local, int(piece[0]), int(piece[-1]) + 1, piece[alone[piece]]))
        return sorted(runs, key=lambda run: (run.first, run.local))

    def _continued(self, window: _Window, run: _Run) -> int | None:
        """Return whose run this was at the end of what was seen of it before; None if nobody's."""
        # Where somebody else speaks too, it is not told who of them was whom.
        frames = run.clean if run.clean.size else np.arange(run.first, run.last)
        rows = self._timeline.at(frames + window.start_frame, self._columns)[-samples(1.0) // FRAME_SAMPLES :]
        if not len(rows):
            return None
        mass = rows.sum(axis=0)
        best = int(mass.argmax())
        return best - 1 if best != UNKNOWN and mass[best] * FRAME_SAMPLES >= samples(0.1) else None

    def _unheard(self, window: _Window, run: _Run) -> NDArray[np.intp]:
        """Return the frames of a run that are to be listened to now; none where it is not time yet."""
        options = self.options
        most = options.longest_embedding_samples // FRAME_SAMPLES
        if run.speaker is None:
            frames, least = run.clean, options.match_samples
        else:
            known = np.fromiter(self._heard_frames, np.intp, len(self._heard_frames))
            frames = run.clean[~np.isin(run.clean + window.start_frame, known)]
            least = options.rho_update_samples
        return frames[-most:] if len(frames) * FRAME_SAMPLES >= least else frames[:0]

    def _go_on(self) -> None:
        """Listen to the next voice that is waiting, or be done with the window."""
        window = self._at_hand()
        if window.waiting:
            self._request, self._issued = EmbeddingRequest(self._spans(window, window.waiting[0])), False
            return
        for run in window.runs:
            has_ended = (len(window.activity) - run.last) * FRAME_SAMPLES >= ENDED_SAMPLES
            if has_ended and run.clean_samples < self.options.match_samples:
                guess = self._guess(window, run)
                run.speaker, run.is_guessed = (run.speaker, False) if guess is None else (guess, True)
        self._remember(window)
        self._be_done_until((window.start_frame + len(window.activity)) * FRAME_SAMPLES)

    def _spans(self, window: _Window, run: _Run) -> tuple[tuple[int, int], ...]:
        """Return the stretches of audio that are to be listened to."""
        breaks = np.flatnonzero(np.diff(run.listened) > 1) + 1
        return tuple(
            (
                (window.start_frame + int(piece[0])) * FRAME_SAMPLES,
                min((window.start_frame + int(piece[-1]) + 1) * FRAME_SAMPLES, self._buffer.end_sample),
            )
            for piece in np.split(run.listened, breaks)
        )

    def _identify(self, window: _Window, run: _Run, embedding: FloatArray) -> None:
        """Tell whose voice was listened to."""
        options = self.options
        listened_samples = len(run.listened) * FRAME_SAMPLES
        weight = listened_samples / samples(1.0)
        distances = self._clusters.distances(embedding)
        for speaker in self._present(window, run):
            distances[speaker] += 1.0  # who speaks at the same time is somebody else
        distances -= options.trust * self._expected(window, run)
        best = int(distances.argmin()) if len(distances) else None
        nearness = self._nearness_to_new(best)
        if best is not None and (distances[best] < nearness * options.delta_new or self._clusters.is_full):
            if run.speaker is None or distances[best] < distances[run.speaker] - options.delta_switch:
                run.speaker = best
            ranked = np.sort(distances)
            if len(ranked) < 2 or ranked[1] - ranked[0] >= options.delta_sure:
                self._clusters.update(best, embedding, weight)
        elif (
            listened_samples >= self._wanted_for_new(run, distances / nearness) and not self._clusters.is_full
        ):
            run.speaker = self._clusters.add(embedding, weight)
        if run.speaker is not None:
            self._heard_frames.update((run.listened + window.start_frame).tolist())

    def _present(self, window: _Window, run: _Run) -> set[int]:
        """Return who else surely speaks during a run."""
        return {
            other.speaker
            for other in window.runs
            if other is not run
            and other.speaker is not None
            and other.clean_samples >= self.options.match_samples
            and (min(other.last, run.last) - max(other.first, run.first)) * FRAME_SAMPLES >= samples(0.2)
        }

    def _guess(self, window: _Window, run: _Run) -> int | None:
        """Tell whose a run too short to be listened to is: whose the segmentation model takes it for."""
        expected = self._expected(window, run)
        if not expected.size:
            return None
        expected[list(self._present(window, run))] -= 1.0
        best = int(expected.argmax())
        if run.speaker is None or best == run.speaker:
            return best if expected[best] >= 0.3 else None
        alike = self._clusters.distance_between(best, run.speaker) < self.options.delta_alike
        return best if alike and expected[best] >= 0.5 else None

    def _nearness_to_new(self, nearest: int | None) -> float:
        """Return how much nearer than otherwise a new speaker may be to who is nearest, as a factor."""
        options, clusters = self.options, self._clusters
        if nearest is None or not clusters.lacks_speakers:
            return 1.0
        return options.eager if clusters.seconds_alike(nearest) >= options.well_known else 1.0

    def _wanted_for_new(self, run: _Run, distances: FloatArray) -> float:
        """Return how much of a voice makes it a new speaker, by how far it is from all known ones."""
        if not len(distances) or distances.min() >= self.options.delta_far:
            return self.options.new_soon_samples
        # One who goes on speaking is not made somebody else by a stretch that sounds a little different.
        return self.options.new_samples if run.speaker is None else math.inf

    def _expected(self, window: _Window, run: _Run) -> FloatArray:
        """Return for each speaker, from -1 to 1, how much the segmentation model takes the run for theirs.

        It tells the local speakers of a window apart: the other runs of this one are more likely the same
        person's, those of the others somebody else's.
        """
        shares = np.zeros((window.activity.shape[1], len(self._clusters)), np.float32)
        for other in window.runs:
            if other is not run and other.speaker is not None:
                shares[other.local, other.speaker] += other.last - other.first
        shares /= np.maximum(shares.sum(axis=1, keepdims=True), 1.0)
        others = np.delete(shares, run.local, axis=0)
        expected: FloatArray = shares[run.local] - others.max(axis=0, initial=0.0)
        return expected

    def _remember(self, window: _Window) -> None:
        """Write the window's activity into the timeline."""
        old = self._timeline.at(np.arange(len(window.activity)) + window.start_frame, self._columns)
        new = np.zeros((len(window.activity), self._columns), np.float32)
        # What was decided now, and whoever was unknown and is known now, is written anew.
        anew = np.zeros(len(window.activity), np.bool_)
        anew[: len(old)] = old[:, UNKNOWN] > self.options.tau_active
        for run in window.runs:
            frames = np.arange(run.first, run.last)
            owners = np.full(len(frames), UNKNOWN if run.speaker is None else run.speaker + 1)
            if run.is_guessed:
                anew[frames] = True
            else:
                # A run may hold a change of speaker that the model did not see: what is known stays, but
                # where several speak it is not known who of them this is.
                clean = run.clean[run.clean < len(old)]
                seen = old[clean, 1:]
                if seen.size:
                    known = seen.max(axis=1) >= KNOWN
                    owners[clean[known] - run.first] = seen.argmax(axis=1)[known] + 1
            if run.listened.size and run.speaker is not None:
                heard = slice(run.listened[0], run.listened[-1] + 1)
                owners[heard.start - run.first : heard.stop - run.first] = run.speaker + 1
                anew[heard] = True
            np.maximum.at(new, (frames, owners), window.activity[frames, run.local])
        blend = np.where(anew[: len(old)], 1.0, self.options.blend).astype(np.float32)[:, None]
        new[: len(old)] = (1 - blend) * old + blend * new[: len(old)]
        self._timeline.write(window.start_frame, new)
        self._heard_frames = {frame for frame in self._heard_frames if frame >= window.start_frame}

    @property
    def _columns(self) -> int:
        return len(self._clusters) + 1

    def _at_hand(self) -> _Window:
        if self._window is None:
            raise RuntimeError("no window is at hand")
        return self._window

    def _answered(self, kind: type[T]) -> T:
        request = self._request
        if not self._issued or not isinstance(request, kind):
            raise RuntimeError("that was not asked for")
        self._request, self._issued = None, False
        return request
