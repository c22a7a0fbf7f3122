"""The language that a user names on the command line."""

from __future__ import annotations

from live_asr.core.errors import ConfigError
from live_asr.core.languages import AUTO, as_spelt, code_of, hint_for


def check_language(language: str | None) -> None:
    """Refuse what is no language of any model's, before a server is started for it.

    Which ones its model knows is the server's to say. Raises ConfigError with the nearest.
    """
    if language is None or as_spelt(language) == AUTO or code_of(language) is not None:
        return
    raise ConfigError(f"{language!r} is not a language that Whisper knows.", hint_for(language))
