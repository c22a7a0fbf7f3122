"""What a session may ask of the models that a server has."""

from __future__ import annotations

from live_asr.core.messages import Start
from live_asr.errors import ClientError
from live_asr.inference.interfaces import RecognizerInfo


def check_start(start: Start, recognizer: RecognizerInfo) -> None:
    """Refuse a language or a task that the recogniser does not know. Raises ClientError."""
    if start.language is not None and start.language not in recognizer.languages:
        known = ", ".join(recognizer.languages)
        raise ClientError(
            "language_unsupported",
            f"The model {recognizer.name} does not know the language {start.language!r}.",
            f"It knows: {known}. Give null to have the language detected.",
        )
    if start.task == "translate" and recognizer.languages == ("en",):
        raise ClientError(
            "task_unsupported",
            f"The model {recognizer.name} knows only English and translates nothing.",
            "Ask for `transcribe`, or run the server with a multilingual model.",
        )
