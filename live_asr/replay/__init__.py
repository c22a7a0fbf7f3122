"""The replay command: recorded files through a server, captions in the terminal, transcripts on disk."""

from __future__ import annotations

from live_asr.replay.command import ReplayOptions, run
from live_asr.replay.language import check_language
from live_asr.replay.speakers import speaker_limits

__all__ = ["ReplayOptions", "check_language", "run", "speaker_limits"]
