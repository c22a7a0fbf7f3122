"""Names of languages, for people who write `english` where a code is wanted."""

from __future__ import annotations

import difflib
import re

from live_asr.errors import ConfigError

_CODES = {
    "arabic": "ar",
    "chinese": "zh",
    "czech": "cs",
    "danish": "da",
    "deutsch": "de",
    "dutch": "nl",
    "english": "en",
    "espanol": "es",
    "finnish": "fi",
    "francais": "fr",
    "french": "fr",
    "german": "de",
    "greek": "el",
    "hebrew": "he",
    "hindi": "hi",
    "hungarian": "hu",
    "indonesian": "id",
    "italian": "it",
    "japanese": "ja",
    "korean": "ko",
    "norwegian": "no",
    "persian": "fa",
    "polish": "pl",
    "portuguese": "pt",
    "romanian": "ro",
    "russian": "ru",
    "spanish": "es",
    "swedish": "sv",
    "thai": "th",
    "turkish": "tr",
    "ukrainian": "uk",
    "vietnamese": "vi",
}


def check_language(language: str | None) -> None:
    """Refuse what cannot be a language's code, before a server is started for it.

    Which codes a model knows is the server's to say. Raises ConfigError with the code of the language
    whose name is nearest.
    """
    if language is None or re.fullmatch("[a-z]{2,3}", language):
        return
    name = language.lower()
    code = name if re.fullmatch("[a-z]{2,3}", name) else re.split("[-_]", name)[0]
    if not re.fullmatch("[a-z]{2,3}", code):
        nearest = difflib.get_close_matches(name, _CODES, n=1)
        code = _CODES[nearest[0]] if nearest else ""
    hint = f"Did you mean {code}?" if code else "Give a code like en, de or zh."
    raise ConfigError(f"{language!r} is not the code of a language.", hint)
