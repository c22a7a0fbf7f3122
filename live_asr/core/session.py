"""A session's states as a table; things are received, messages drained.

The session knows nothing of sockets, files or models. Whoever drives it hands it what arrives, does the
detections and decodes it asks for, and sends the messages it makes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from live_asr.core.channels import Channels, ChannelSpeech
from live_asr.core.checkpoint import Checkpoint, shown_turns, speaker_count, voices_of
from live_asr.core.clock import objection
from live_asr.core.errors import ClientError
from live_asr.core.languages import named
from live_asr.core.live_labels import LiveLabels
from live_asr.core.messages import (
    ClockPoint,
    Commit,
    Final,
    Finalized,
    KeptMessage,
    Label,
    Lag,
    Notice,
    Partial,
    Pause,
    Paused,
    ServerMessage,
    Speech,
    Start,
    Stopped,
    Time,
    Timed,
    Update,
    UtteranceMessage,
    wire_word,
)
from live_asr.core.relief import NO_RELIEF, Relief
from live_asr.core.segmenter import SpeechEnded, SpeechStarted
from live_asr.core.speaker_clusters import SpeakerOptions
from live_asr.core.speaker_tracker import SpeakerTracker
from live_asr.core.speech_settings import SpeechSettings
from live_asr.core.streaming_policy import (
    Committed,
    LanguageChanged,
    MarkReached,
    StreamingPolicyOptions,
    TailChanged,
    VocabularyShortened,
)
from live_asr.core.streaming_policy import Event as CaptionEvent
from live_asr.core.transcript import Transcript
from live_asr.core.types import DecodeRequest, Hypothesis, Turn, Utterance, Word, seconds

FloatArray = NDArray[np.float32]


class SessionState(Enum):
    """Where a session is in its life."""

    OPEN = "open"
    """Accepted; no audio yet."""
    STREAMING = "streaming"
    """Audio arrives."""
    DRAINING = "draining"
    """No more audio; what was received is being committed."""
    FINALIZING = "finalizing"
    """The live transcript is complete; the final one is being made."""
    DONE = "done"
    FAILED = "failed"


class SessionEvent(Enum):
    """What can happen to a session, past tense."""

    AUDIO_RECEIVED = "audio"
    FINALIZE_RECEIVED = "finalize"
    CLIENT_SILENT = "silence"
    UPDATE_RECEIVED = "update"
    TIME_RECEIVED = "time"
    PAUSE_RECEIVED = "pause"
    STOP_RECEIVED = "stop"
    CLIENT_LOST = "lost"
    DRAINED = "drained"
    FINISHED = "finished"
    BROKEN = "broken"


_S, _E = SessionState, SessionEvent

TRANSITIONS: Mapping[SessionState, Mapping[SessionEvent, SessionState]] = MappingProxyType(
    {
        _S.OPEN: {
            _E.AUDIO_RECEIVED: _S.STREAMING,
            _E.FINALIZE_RECEIVED: _S.OPEN,
            _E.CLIENT_SILENT: _S.OPEN,
            _E.UPDATE_RECEIVED: _S.OPEN,
            _E.TIME_RECEIVED: _S.OPEN,
            _E.PAUSE_RECEIVED: _S.OPEN,
            _E.STOP_RECEIVED: _S.DRAINING,
            _E.CLIENT_LOST: _S.DRAINING,
            _E.BROKEN: _S.FAILED,
        },
        _S.STREAMING: {
            _E.AUDIO_RECEIVED: _S.STREAMING,
            _E.FINALIZE_RECEIVED: _S.STREAMING,
            _E.CLIENT_SILENT: _S.STREAMING,
            _E.UPDATE_RECEIVED: _S.STREAMING,
            _E.TIME_RECEIVED: _S.STREAMING,
            _E.PAUSE_RECEIVED: _S.STREAMING,
            _E.STOP_RECEIVED: _S.DRAINING,
            _E.CLIENT_LOST: _S.DRAINING,
            _E.BROKEN: _S.FAILED,
        },
        _S.DRAINING: {
            _E.CLIENT_LOST: _S.DRAINING,
            _E.DRAINED: _S.FINALIZING,
            _E.BROKEN: _S.FAILED,
        },
        _S.FINALIZING: {
            _E.CLIENT_LOST: _S.FINALIZING,
            _E.FINISHED: _S.DONE,
            _E.BROKEN: _S.FAILED,
        },
        _S.DONE: {_E.CLIENT_LOST: _S.DONE},
        _S.FAILED: {_E.CLIENT_LOST: _S.FAILED},
    }
)
"""What may happen when, and what comes of it. A pair that is not here is refused and changes nothing."""


class Session:
    """One client's stretch of speech, from `start` to `final`."""

    def __init__(
        self,
        session_id: str,
        start: Start,
        options: StreamingPolicyOptions | None = None,
        *,
        speakers: SpeakerOptions | None = None,
        transcript: Transcript | None = None,
    ) -> None:
        """Open a session, or go on with one that has said what is in `transcript`."""
        self.id = session_id
        self.start = start
        self.state = SessionState.OPEN
        self.started_at: str | None = None
        """When the first audio came: ISO 8601, UTC; None before that, and where it is not known."""
        self.transcript = transcript or Transcript()
        updates = self.transcript.updates
        self._settings = SpeechSettings.of(updates[-1] if updates else start)
        self._updates: deque[SpeechSettings] = deque()
        """What is to be in force next; in the order in which the captions come to it."""
        self._pauses: deque[bool] = deque()
        """The same of what `pause` asked for."""
        self._captions = Channels(
            options,
            channels=start.heard_channels,
            language=self._settings.language,
            languages=self._settings.languages,
            task=start.task,
            vocabulary=self._settings.vocabulary,
        )
        self._tracker: SpeakerTracker | None = None
        if speakers is not None and start.diarize and not start.channel_speakers:
            self._tracker = SpeakerTracker(
                speakers, min_speakers=start.min_speakers, max_speakers=start.max_speakers
            )
        self._labels = LiveLabels(self._tracker) if self._tracker else None
        self._utterance = 0
        self._spoken: list[Word] = []
        """Committed words of the open utterance."""
        self._stopped_sample: int | None = None
        """Where the captions have stopped, while the last labels are awaited."""
        self._messages: list[ServerMessage] = []
        self._received_sample = 0
        self._tracker_from = 0

    @classmethod
    def restored(
        cls,
        session_id: str,
        start: Start,
        transcript: Transcript,
        checkpoint: Checkpoint,
        options: StreamingPolicyOptions | None = None,
        *,
        speakers: SpeakerOptions | None = None,
    ) -> Session:
        """Return a session of which this much is known: what it said, and what was written beside it.

        It goes on where that ends, as if nothing had been where both were written together, and wants its
        audio from the beginning. Else the utterance that was open is closed: what follows is another one. One
        that has said `stopped` is finalizing.
        """
        session = cls(
            session_id,
            start,
            options,
            speakers=None if transcript.is_stopped else speakers,
            transcript=transcript,
        )
        session.started_at = checkpoint.started_at
        if transcript.is_stopped:
            session.state = SessionState.FINALIZING
            return session
        checkpoint = checkpoint.beside(transcript, session._captions.count)
        session._captions.restore(checkpoint.memories)
        if session._tracker is not None and session._labels is not None:
            session._tracker_from = session._tracker.restore(
                checkpoint.safe_sample, checkpoint.voices, speaker_count(transcript), shown_turns(transcript)
            )
            recent = checkpoint.safe_sample - session._tracker.options.window_samples
            session._labels.restore(word for word in transcript.words if word.start_sample >= recent)
        session._utterance, spoken = transcript.open_utterance
        session._spoken = list(spoken)
        if checkpoint.course is None:
            session._tell_utterance(session._captions.language_of(spoken[-1].speaker if spoken else None))
        return session

    def checkpoint(self) -> Checkpoint:
        """Return what `restored` needs beside the kept messages."""
        first, *others = self._captions.memories()
        return Checkpoint(
            last_seq=self.transcript.last_seq,
            safe_sample=first.safe_sample,
            language=first.language,
            words=first.words,
            others=tuple(others),
            voices=voices_of(self._tracker.voices) if self._tracker is not None else (),
            started_at=self.started_at,
            course=first.course,
        )

    # What arrives ----------------------------------------------------------------------------------

    def check(self, event: SessionEvent) -> SessionState:
        """Return the state that `event` leads to. Raises ClientError `unexpected_message` if to none."""
        try:
            return TRANSITIONS[self.state][event]
        except KeyError:
            raise ClientError(
                "unexpected_message",
                f"A session that is {self.state.value} does not accept `{event.value}`.",
                "After `stop` only read: `stopped` and `final` follow. Open a new session for more audio.",
            ) from None

    def receive_audio(self, audio: FloatArray) -> None:
        """Take decoded audio in -1 … 1, 16 kHz: shape (n,), or (channels, n) where channels are speakers."""
        self.state = self.check(SessionEvent.AUDIO_RECEIVED)
        position = self._received_sample
        self._received_sample += audio.shape[-1]
        self._captions.receive_audio(audio)
        if self._tracker is not None:
            # Of a session that was taken up again, most has been dealt with.
            self._tracker.receive_audio(audio[max(0, self._tracker_from - position) :])

    def receive_finalize(self) -> None:
        """Take the wish to have everything so far committed."""
        self.state = self.check(SessionEvent.FINALIZE_RECEIVED)
        self._captions.mark("finalize")
        self._collect()

    def receive_silence(self) -> None:
        """Take note that no audio comes for now: what is there is committed as by `finalize`, unanswered."""
        self.state = self.check(SessionEvent.CLIENT_SILENT)
        self._captions.mark("silence")
        self._collect()

    def receive_update(self, update: Update) -> None:
        """Take the wish to go on with other settings, behind what was received so far."""
        self.state = self.check(SessionEvent.UPDATE_RECEIVED)
        before = self._updates[-1] if self._updates else self._settings
        settings = before.changed(update)
        self._updates.append(settings)
        is_other = (settings.language, settings.languages) != (before.language, before.languages)
        self._captions.update(
            (settings.language, settings.languages) if is_other else None,
            settings.vocabulary if settings.vocabulary != before.vocabulary else None,
        )
        self._collect()

    def receive_time(self, time: Time) -> None:
        """Take what the client's clock said, or say why not. Raises ClientError as `Time.position`."""
        state = self.check(SessionEvent.TIME_RECEIVED)
        point = ClockPoint(time.position(self.start.audio), time.at)
        self.state = state
        refusal = objection(point, self.transcript.clock)
        if refusal is None:
            self._keep(Timed(self._next_seq(), point.audio, point.at))
        else:
            self._messages.append(Notice("time_refused", refusal))

    def receive_pause(self, pause: Pause) -> None:
        """Take note that nobody is to be heard for a while, or that they are again."""
        self.state = self.check(SessionEvent.PAUSE_RECEIVED)
        self._pauses.append(pause.paused)
        self._captions.mark("pause")
        self._collect()

    def receive_stop(self) -> None:
        """Take note that no more audio comes."""
        self.state = self.check(SessionEvent.STOP_RECEIVED)
        self._captions.mark("stop")
        self._collect()

    def receive_loss(self) -> None:
        """Take note that the client is gone; what it sent is brought to its end."""
        before, self.state = self.state, self.check(SessionEvent.CLIENT_LOST)
        if before is not self.state:
            self._captions.mark("stop")
            self._collect()

    def receive_probabilities(self, probabilities: Iterable[float], channel: int = 0) -> None:
        """Take the answer to `unjudged(channel)`."""
        judged = list(probabilities)
        if self._tracker is not None:
            self._tracker.receive_probabilities(judged)
        self._captions.receive_probabilities(judged, channel)
        self._collect()
        self._relabel()

    def receive_hypothesis(self, hypothesis: Hypothesis) -> None:
        """Take the answer to `decode()`."""
        self._captions.receive_hypothesis(hypothesis)
        self._collect()

    def receive_decode_failure(self) -> None:
        """Learn that what `decode()` asked for cannot be had."""
        self._captions.receive_failure()
        self._collect()

    def receive_activity(self, activity: FloatArray) -> None:
        """Take the answer to a wanted segmentation; see `SpeakerTracker.receive_activity`."""
        self._following().receive_activity(activity)
        self._relabel()

    def receive_embedding(self, embedding: FloatArray) -> None:
        """Take the answer to a wanted embedding; see `SpeakerTracker.receive_embedding`."""
        self._following().receive_embedding(embedding)
        self._relabel()

    def receive_speaker_failure(self) -> None:
        """Learn that what `wanted_of_speakers()` asked for cannot be had."""
        self._following().receive_failure()
        self._relabel()

    def receive_break(self) -> None:
        """Learn that the session cannot go on, for a reason outside it."""
        self.state = self.check(SessionEvent.BROKEN)

    def finish(self, final: Final) -> None:
        """Take the final result; the session is done."""
        state = self.check(SessionEvent.FINISHED)
        self._keep(final)
        self.state = state

    # What is wanted, and what is said --------------------------------------------------------------

    def unjudged(self, channel: int = 0) -> FloatArray | None:
        """Return audio whose probability of speech is wanted; see `StreamingPolicy.unjudged`."""
        return self._captions.unjudged(channel)

    def has_unjudged(self, channel: int = 0) -> bool:
        """Tell whether `unjudged(channel)` returns anything."""
        return self._captions.has_unjudged(channel)

    @property
    def wants_decode(self) -> bool:
        """Whether `decode()` returns anything."""
        return self._captions.wants_decode

    @property
    def wants_speakers(self) -> bool:
        """Whether `wanted_of_speakers()` returns anything."""
        return self._tracker is not None and self._tracker.is_wanting

    def decode(self) -> tuple[DecodeRequest, FloatArray] | None:
        """Return a window that is to be recognised; see `StreamingPolicy.decode`."""
        return self._captions.decode()

    def newest(self) -> tuple[DecodeRequest, FloatArray] | None:
        """Return what is to be recognised instead of what `decode` returned; see `StreamingPolicy.newest`."""
        wanted = self._captions.newest()
        self._collect()
        return wanted

    def wanted_of_speakers(self) -> tuple[Literal["segmentation", "embedding"], FloatArray] | None:
        """Return what is to be computed to tell the speakers apart; see `SpeakerTracker.wanted`."""
        if self._tracker is None:
            return None
        return self._tracker.wanted()

    def knows_speakers_until(self, sample: int) -> bool:
        """Tell whether the speakers of what was said before `sample` are known as well as they can be now."""
        return self._tracker is None or self._tracker.known_sample >= self._tracker.last_window_before(sample)

    def skip_speakers_behind(self, behind_samples: int) -> None:
        """Leave out what the speakers' labels are behind by more than that."""
        if self._tracker is not None:
            self._tracker.skip_to(self._captions.received_sample - behind_samples)

    def turns(self) -> tuple[Turn, ...]:
        """Return who spoke when, as heard live."""
        return self._tracker.turns() if self._tracker is not None else ()

    def turns_so_far(self) -> Callable[[], tuple[Turn, ...]]:
        """Return what gives the turns up to now, for another thread to call: they may be many."""
        return self._tracker.turns_so_far() if self._tracker is not None else tuple

    def messages(self) -> list[ServerMessage]:
        """Return the messages made since the last call, in order."""
        messages, self._messages = self._messages, []
        return messages

    def lag(self, unheard_samples: int = 0) -> Lag:
        """Say how far the captions are behind what was received, with audio that has not got here yet."""
        settled = self._captions.settled_sample
        received = max(self._captions.received_sample, self.heard_sample + unheard_samples)
        return Lag(seconds(received), seconds(settled), seconds(max(0, received - settled)))

    @property
    def received_sample(self) -> int:
        """One past the last sample that was received."""
        return self._captions.received_sample

    @property
    def heard_sample(self) -> int:
        """The same of this run, which is given all audio again where there was an earlier one."""
        return self._received_sample

    @property
    def backlog_samples(self) -> int:
        """Audio received and not yet considered."""
        return self._captions.backlog_samples

    def set_step(self, step_samples: int, *, overloaded: bool = False, relief: Relief = NO_RELIEF) -> None:
        """Decode at each `step_samples` of new audio from now on, to spare a loaded recogniser.

        `overloaded` tells that it cannot follow even so: steps may be skipped. `relief` is what else is left
        out from now on.
        """
        self._captions.set_step(step_samples, overloaded=overloaded, relief=relief)

    # From the policy's events to messages ----------------------------------------------------------

    def _collect(self) -> None:
        for event in self._captions.events():
            self._tell(event)

    def _tell(self, event: CaptionEvent | ChannelSpeech) -> None:
        match event:
            case ChannelSpeech(channel, SpeechStarted(start_sample)):
                self._messages.append(Speech("started", seconds(start_sample), channel))
            case ChannelSpeech(channel, SpeechEnded(end_sample)):
                self._messages.append(Speech("ended", seconds(end_sample), channel))
            case SpeechStarted(start_sample):
                self._messages.append(Speech("started", seconds(start_sample)))
            case SpeechEnded(end_sample):
                self._messages.append(Speech("ended", seconds(end_sample)))
            case Committed(words):
                self._tell_words(words)
            case TailChanged(words):
                self._tell_tail(words)
            case Utterance():
                self._tell_utterance(event.language)
            case LanguageChanged(language, before, sample):
                text = (
                    f"From {seconds(sample):g} s on the language is {named(language)}, not {named(before)}."
                )
                self._messages.append(Notice("language_changed", text))
            case VocabularyShortened(used, count):
                text = f"The model can expect at most {used} of the {count} words at a time."
                self._messages.append(Notice("vocabulary_shortened", text))
            case MarkReached("update", sample):
                self._settings = self._updates.popleft()
                self._keep(self._settings.told(self._next_seq(), seconds(sample)))
            case MarkReached("pause", sample):
                self._keep(Paused(self._next_seq(), seconds(sample), self._pauses.popleft()))
            case MarkReached("finalize", sample):
                self._messages.append(Finalized(seconds(sample)))
            case MarkReached("stop", sample):
                self._stopped_sample = sample
                if self._tracker is not None:
                    self._tracker.finish()
                self._relabel()

    def _tell_words(self, words: tuple[Word, ...]) -> None:
        """Commit words; where another speaker begins, the utterance ends and another one opens."""
        labelled = self._labels.label(words) if self._labels is not None else words
        # As the labels stand by now: words may have been committed without. So it may hold two speakers, and
        # then ends with the next word whose speaker is known, whoever of them that is.
        _, said = self.transcript.open_utterance
        speakers = {word.speaker for word in said if word.speaker is not None}
        begun = 0
        for index, word in enumerate(labelled):
            if word.speaker is not None:
                if speakers - {word.speaker}:
                    self._tell_commit(labelled[begun:index])
                    self._tell_utterance(self._captions.language_of(None))
                    begun = index
                speakers = {word.speaker}
            self._spoken.append(word)
        self._tell_commit(labelled[begun:])

    def _tell_commit(self, words: tuple[Word, ...]) -> None:
        if words:
            text = "".join(word.text for word in words)
            self._keep(Commit(self._next_seq(), tuple(map(wire_word, words)), text, self._utterance))

    def _relabel(self) -> None:
        """Say what became known of the speakers; once the captions have stopped, bring that to its end."""
        ends = self._stopped_sample is not None and (self._tracker is None or self._tracker.is_finished)
        for change in self._labels.changes(final=ends) if self._labels is not None else ():
            self._keep(
                Label(
                    self._next_seq(), seconds(change.start_sample), seconds(change.end_sample), change.speaker
                )
            )
        if ends and self._stopped_sample is not None:
            self.state = self.check(SessionEvent.DRAINED)
            self._keep(Stopped(self._next_seq(), seconds(self._stopped_sample), self.transcript.text))
            self._stopped_sample = None

    def _following(self) -> SpeakerTracker:
        if self._tracker is None:
            raise RuntimeError("nothing was asked about speakers")
        return self._tracker

    def _tell_tail(self, words: tuple[Word, ...]) -> None:
        if not self._settings.interim:
            return
        start = min((word.start_sample for word in words), default=self._captions.settled_sample)
        end = max((word.end_sample for word in words), default=start)
        text = "".join(word.text for word in words)
        self._messages.append(Partial(text, tuple(map(wire_word, words)), seconds(start), seconds(end)))

    def _tell_utterance(self, language: str | None) -> None:
        """Close the open utterance, if anything was said in it."""
        if not self._spoken:
            return
        self._keep(
            UtteranceMessage(
                self._next_seq(),
                self._utterance,
                seconds(self._spoken[0].start_sample),
                seconds(self._spoken[-1].end_sample),
                "".join(word.text for word in self._spoken).strip(),
                self.transcript.last_speaker,
                language,
            )
        )
        self._utterance += 1
        self._spoken = []

    def _next_seq(self) -> int:
        return self.transcript.last_seq + 1

    def _keep(self, message: KeptMessage) -> None:
        self.transcript.apply(message)
        self._messages.append(message)
