"""What of a session's settings may change while it goes on, and what holds for the recording as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from live_asr.core.languages import AUTO
from live_asr.core.messages import Start, Update, Updated


@dataclass(frozen=True, slots=True)
class SpeechSettings:
    """What is in force from some moment on."""

    language: str | None
    """The language spoken; None where it is detected."""
    languages: tuple[str, ...]
    """Those to choose from where it is detected; empty for all."""
    vocabulary: tuple[str, ...]
    """Words to expect."""
    interim: bool
    """Whether the client wants the unstable tail."""

    @classmethod
    def of(cls, message: Start | Updated) -> SpeechSettings:
        """Return what a session was opened with, or went on with."""
        return cls(message.language, message.languages, message.vocabulary, message.interim)

    def changed(self, update: Update) -> SpeechSettings:
        """Return what is in force after `update`."""
        changed = self
        if update.language is not None:
            changed = replace(changed, language=None if update.language == AUTO else update.language)
        if update.languages is not None:
            changed = replace(changed, languages=update.languages)
        if update.vocabulary is not None:
            changed = replace(changed, vocabulary=update.vocabulary)
        return changed if update.interim is None else replace(changed, interim=update.interim)

    def told(self, seq: int, time: float) -> Updated:
        """Return the message that says so."""
        return Updated(seq, time, self.language, self.languages, self.vocabulary, self.interim)


def whole_recording(start: Start, updates: Sequence[Updated], first_word: float) -> SpeechSettings:
    """Return what the full pass is to go by: the last settings, and a language only where it is everybody's.

    `first_word` is where the first word begins, in seconds: what was in force until then does not count.
    """
    last = SpeechSettings.of(updates[-1] if updates else start)
    spoken = [start.language] + [update.language for update in updates]
    until = [update.time for update in updates]
    counted = {
        language for language, end in zip(spoken, [*until, float("inf")], strict=True) if end > first_word
    }
    return last if counted == {last.language} else replace(last, language=None)
