"""All errors of live-asr.

LiveAsrError
├── ClientError      a peer did something wrong; it is told `code`, `message` and `hint`
├── Unavailable      the server cannot take the work now; the peer may come back
├── MediaError       bytes that should be audio and are not
│   └── TooLong      a session has as much audio as it may
├── ConfigError      a setting is wrong
├── WeightsError     a model's files are missing, unknown or not what they should be
├── EngineError      the inference process failed at a piece of work
├── DecoderError     the process that reads containers could not be started
│   └── DecoderDied  it has ended without an answer
└── StorageError     the disk refused
    ├── DiskFull     it has no room: once there is, the same may succeed
    └── Superseded   a session has another writer by now: this one lets go

An error carries its parts as data; its sentence is built from them. `code` is stable and is what
programs compare; `message` says what was wrong; `hint` says what to do about it.
"""

from __future__ import annotations


class LiveAsrError(Exception):
    """Base of every error that live-asr raises on purpose."""

    code = "internal"
    close_code = 1011

    def __init__(self, message: str, hint: str = "", *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class ClientError(LiveAsrError):
    """The peer sent something that the protocol or the session's state does not allow.

    `close_code` is the WebSocket close code that follows the `error` message (PROTOCOL: 1003, 1007,
    1008, 1009).
    """

    def __init__(self, code: str, message: str, hint: str = "", *, close_code: int = 1008) -> None:
        super().__init__(message, hint, code=code)
        self.close_code = close_code


class Unavailable(LiveAsrError):
    """The server cannot take the session now.

    `retry_after` is in seconds: the peer should wait that long before it comes back.
    """

    close_code = 1013

    def __init__(
        self, code: str, message: str, hint: str, *, retry_after: float, close_code: int = 1013
    ) -> None:
        super().__init__(message, hint, code=code)
        self.retry_after = retry_after
        self.close_code = close_code


class MediaError(LiveAsrError):
    """Bytes that should hold audio cannot be read as such."""

    code = "not_audio"
    close_code = 1003


class TooLong(MediaError):
    """A session has become as long as it may; what was heard is kept."""

    code = "too_long"
    close_code = 1008


class ConfigError(LiveAsrError):
    """A setting is unknown or has a value that it cannot have."""

    code = "bad_config"


class WeightsError(LiveAsrError):
    """A model's files are unknown, missing, incomplete or not what the manifest says."""

    code = "weights"


class EngineError(LiveAsrError):
    """The inference process could not do a piece of work; the session that asked may go on without it."""

    code = "engine"


class DecoderError(LiveAsrError):
    """The process that reads containers could not be started: the audio is not to blame, so try again."""

    code = "decoder"


class DecoderDied(DecoderError):
    """That process has ended without an answer; the audio is to blame where it does so twice at one place."""


class StorageError(LiveAsrError):
    """The disk refused to keep what was to be kept."""

    code = "storage_full"


class DiskFull(StorageError):
    """The disk has no room for what was to be kept; where it can wait, it may be tried again."""


class Superseded(StorageError):
    """Another writer has taken a session over; nothing of this one's is kept any more."""

    code = "superseded"


def told(error: LiveAsrError) -> LiveAsrError:
    """Return what a peer may be told of an error: paths and addresses are for the operator's log."""
    if isinstance(error, StorageError | ConfigError | WeightsError | EngineError | DecoderError):
        return LiveAsrError(
            "The server cannot do this now.",
            "Try again later; its operator's log says why.",
            code=error.code,
        )
    return error
