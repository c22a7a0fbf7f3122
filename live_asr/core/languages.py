"""The languages that Whisper writes, by its own codes, and what else they are called.

Programs write BCP 47 tags (`en-US`, `zh-Hant-TW`) or codes of other standards (`deu`, `cmn`, `iw`), people
write names: all of these are taken. What variety of a language is spoken makes no difference to the models.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from live_asr.core.errors import ClientError

NAMES: Mapping[str, str] = MappingProxyType(
    {
        "af": "Afrikaans",
        "am": "Amharic",
        "ar": "Arabic",
        "as": "Assamese",
        "az": "Azerbaijani",
        "ba": "Bashkir",
        "be": "Belarusian",
        "bg": "Bulgarian",
        "bn": "Bengali",
        "bo": "Tibetan",
        "br": "Breton",
        "bs": "Bosnian",
        "ca": "Catalan",
        "cs": "Czech",
        "cy": "Welsh",
        "da": "Danish",
        "de": "German",
        "el": "Greek",
        "en": "English",
        "es": "Spanish",
        "et": "Estonian",
        "eu": "Basque",
        "fa": "Persian",
        "fi": "Finnish",
        "fo": "Faroese",
        "fr": "French",
        "gl": "Galician",
        "gu": "Gujarati",
        "ha": "Hausa",
        "haw": "Hawaiian",
        "he": "Hebrew",
        "hi": "Hindi",
        "hr": "Croatian",
        "ht": "Haitian Creole",
        "hu": "Hungarian",
        "hy": "Armenian",
        "id": "Indonesian",
        "is": "Icelandic",
        "it": "Italian",
        "ja": "Japanese",
        "jw": "Javanese",
        "ka": "Georgian",
        "kk": "Kazakh",
        "km": "Khmer",
        "kn": "Kannada",
        "ko": "Korean",
        "la": "Latin",
        "lb": "Luxembourgish",
        "ln": "Lingala",
        "lo": "Lao",
        "lt": "Lithuanian",
        "lv": "Latvian",
        "mg": "Malagasy",
        "mi": "Maori",
        "mk": "Macedonian",
        "ml": "Malayalam",
        "mn": "Mongolian",
        "mr": "Marathi",
        "ms": "Malay",
        "mt": "Maltese",
        "my": "Burmese",
        "ne": "Nepali",
        "nl": "Dutch",
        "nn": "Nynorsk",
        "no": "Norwegian",
        "oc": "Occitan",
        "pa": "Punjabi",
        "pl": "Polish",
        "ps": "Pashto",
        "pt": "Portuguese",
        "ro": "Romanian",
        "ru": "Russian",
        "sa": "Sanskrit",
        "sd": "Sindhi",
        "si": "Sinhala",
        "sk": "Slovak",
        "sl": "Slovenian",
        "sn": "Shona",
        "so": "Somali",
        "sq": "Albanian",
        "sr": "Serbian",
        "su": "Sundanese",
        "sv": "Swedish",
        "sw": "Swahili",
        "ta": "Tamil",
        "te": "Telugu",
        "tg": "Tajik",
        "th": "Thai",
        "tk": "Turkmen",
        "tl": "Tagalog",
        "tr": "Turkish",
        "tt": "Tatar",
        "uk": "Ukrainian",
        "ur": "Urdu",
        "uz": "Uzbek",
        "vi": "Vietnamese",
        "yi": "Yiddish",
        "yo": "Yoruba",
        "yue": "Cantonese",
        "zh": "Chinese",
    }
)
"""Whisper's codes, which are ISO 639-1 but for a few, and the languages' names in English."""
OTHER_NAMES = {
    "castilian": "es",
    "deutsch": "de",
    "espanol": "es",
    "español": "es",
    "farsi": "fa",
    "filipino": "tl",
    "flemish": "nl",
    "francais": "fr",
    "français": "fr",
    "mandarin": "zh",
    "moldavian": "ro",
    "myanmar": "my",
    "panjabi": "pa",
    "valencian": "ca",
}
AUTO = "auto"
"""What is asked for where the language is to be detected."""
ALSO_AUTO = frozenset({AUTO, "detect", "multi", "multilingual", "mul", "und"})
FEW = 3
"""So many languages are listed to whom asks for another one."""
MAX_DISTANT = 25
"""Languages further apart, by CLDR's measure of who understands whom, are none that was meant."""


def code_of(written: str) -> str | None:
    """Return Whisper's code for a tag, a code of another standard or a name; None for no language of its."""
    text = re.split("[.@]", written.strip().lower())[0].replace("_", "-")
    if text in NAMES:
        return text
    if text in _BY_NAME:
        return _BY_NAME[text]
    import langcodes  # not at the top: most processes never need its 3 MB of tables

    try:
        code = langcodes.Language.get(text).language or ""
    except ValueError:
        return None
    for meant in (code, _wider(code)):
        if meant in NAMES or meant in _by_code():
            return _by_code().get(meant, meant)
    return None


def as_spelt(written: str) -> str:
    """Return Whisper's code for what somebody wrote, `auto` for a wish to have it detected.

    What is none of Whisper's languages comes back as it is, to be refused by whoever knows the model.
    """
    if written.strip().lower() in ALSO_AUTO:
        return AUTO
    return code_of(written) or written


def nearest_language(written: str, known: Iterable[str]) -> str | None:
    """Return the code out of `known` of the language that was most likely meant, or None."""
    import langcodes

    known = [code for code in known if code in NAMES]
    text = written.strip().lower().replace("_", "-")
    code = code_of(text)
    for meant in (code, _wider(code or "")):  # older models have Cantonese under Chinese
        if meant in known:
            return meant
    if code is not None or langcodes.tag_is_valid(text):
        match, _ = langcodes.closest_match(code or text, known, max_distance=MAX_DISTANT)
        return match if match in known else None
    names = {NAMES[code].lower(): code for code in known}
    names |= {name: code for name, code in OTHER_NAMES.items() if code in known}
    found = difflib.get_close_matches(re.split("[-. ]", text)[0], [*names, *known], n=1)
    return names.get(found[0], found[0]) if found else None


def named(code: str) -> str:
    """Return a code with the language's name, for people: `de (German)`."""
    return f"{code} ({NAMES[code]})" if code in NAMES else code


def hint_for(written: str, known: Iterable[str] = NAMES) -> str:
    """Return a sentence that helps whoever wrote what is no language out of `known`."""
    nearest = nearest_language(written, known)
    return f"Did you mean {named(nearest)}?" if nearest else "Give a tag like en, pt-BR or zh-Hant."


def check_known(asked: Iterable[str | None], model: str, known: Sequence[str]) -> None:
    """Refuse a language that a model does not know; None and `auto` stand for none of them.

    Raises ClientError `language_unsupported`, which names the nearest.
    """
    unknown = next((code for code in asked if code not in (None, AUTO, *known)), None)
    if unknown is None:
        return
    hint = f"It knows: {', '.join(known)}." if len(known) <= FEW else hint_for(unknown, known)
    raise ClientError(
        "language_unsupported",
        f"The model {model} does not know the language {unknown!r}.",
        f"{hint} Give null to have the language detected.",
    )


_BY_NAME = {name.lower(): code for code, name in NAMES.items()} | OTHER_NAMES


def _wider(code: str) -> str:
    """Return the code of the group of languages that one belongs to; empty where there is none."""
    from langcodes.data_dicts import MACROLANGUAGES

    return str(MACROLANGUAGES.get(code, ""))


@functools.cache
def _by_code() -> dict[str, str]:
    """Return Whisper's codes by what they are today, where that is another: `jv` for `jw`, `fil` for `tl`."""
    import langcodes

    today = {code: str(langcodes.Language.get(code).language) for code in NAMES}
    return {other: code for code, other in today.items() if other not in NAMES}


_BY_NAME = {name.lower(): code for code, name in NAMES.items()} | OTHER_NAMES
