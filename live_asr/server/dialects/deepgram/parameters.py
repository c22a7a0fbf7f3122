"""What a client of Deepgram asks for in the query, as a session of ours.

What cannot be had is refused where its absence would be taken for its presence (`redact`), and named in a
warning where it would only be missed (`numerals`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from live_asr.core.errors import ClientError
from live_asr.core.fields import shown
from live_asr.core.messages import Start, client_from_dict

RAW = {"linear16": "pcm_s16le", "mulaw": "mulaw", "alaw": "alaw"}
CONTAINED = ("flac", "ogg-opus", "amr-nb", "amr-wb")
"""Encodings that name themselves in their first bytes."""
REFUSED = (
    *("redact", "replace", "search", "profanity_filter", "detect_entities"),
    *("summarize", "sentiment", "topics", "intents", "custom_topic", "custom_topic_mode"),
    *("custom_intent", "custom_intent_mode"),
)
"""What must not be left out in silence."""
WARNED = ("numerals", "dictation", "filler_words", "measurements", "no_delay", "utt_split")
"""What only bends how words are written or cut; the recogniser writes as it was trained to."""
NOTHING = ("version", "mip_opt_out", "tier")
"""What means nothing to a server of one model that learns from nobody."""
MIN_SILENCE_MS, MAX_SILENCE_MS = 200, 5000
MIN_UTTERANCE_END_MS = 1000
MAX_CHANNELS = 2
MAX_DIGITS = 12
OFF = ("false", "0", "")


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, read."""

    start: Start
    """Of the session, as if somebody spoke."""
    channels: int = 1
    """Results are made of so many, each alone."""
    is_punctuated: bool = False
    is_diarized: bool = False
    wants_interim: bool = False
    wants_speech_final: bool = True
    utterance_end: float | None = None
    """Seconds without a word after which `UtteranceEnd` is told."""
    wants_speech_started: bool = False
    wants_languages: bool = False
    wants_paragraphs: bool = False
    wants_utterances: bool = False
    tags: tuple[str, ...] = ()
    extra: Mapping[str, str] | None = None
    callback: str | None = None
    """Where the result is to be sent."""
    warnings: tuple[str, ...] = ()

    @property
    def told(self) -> dict[str, Any]:
        """What of the request is told with its metadata."""
        told = {"tags": self.tags, "extra": self.extra, "warnings": self.warnings}
        return {name: value for name, value in told.items() if value}


class Query:
    """Parameters, each taken once; what is left over in the end is not known."""

    def __init__(self, items: Iterable[tuple[str, str]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in items:
            self._values.setdefault(name, []).append(value)
        self.warnings: list[str] = []

    def all(self, name: str) -> tuple[str, ...]:
        """Take all values of a parameter."""
        return tuple(self._values.pop(name, ()))

    def one(self, name: str) -> str | None:
        """Take a parameter; the last one counts."""
        return (self.all(name) or (None,))[-1]

    def flag(self, name: str) -> bool:
        """Take a parameter that is true or false."""
        value = (self.one(name) or "false").lower()
        if value not in ("true", "false", "1", "0"):
            bad(f"`{name}` must be true or false, not {value[:40]!r}.")
        return value in ("true", "1")

    def number(self, name: str, low: int, high: int) -> int | None:
        """Take a parameter that is a whole number."""
        value = self.one(name)
        if value is None:
            return None
        number = whole(value)
        if number is None or not low <= number <= high:
            bad(f"`{name}` must be a whole number from {low} to {high}, not {value[:40]!r}.")
        return number

    def refuse_and_warn(self) -> None:
        """Look at what nothing was taken of. Raises ClientError for what must not be left out."""
        for name, values in self._values.items():
            if name in NOTHING or all(value.lower() in OFF for value in values):
                continue
            if name in REFUSED:
                bad(f"`{name}` is not supported by this server.")
            known = "is not supported here and has no effect" if name in WARNED else "is not known here"
            self.warnings.append(f"`{name[:60]}` {known}.")


def whole(value: str) -> int | None:
    """Return a whole number as it is written; None for what is none, or has more digits than any that is
    asked for."""
    is_one = value.isascii() and value.isdigit() and len(value) <= MAX_DIGITS
    return int(value) if is_one else None


def bad(message: str) -> NoReturn:
    """Refuse a request for what it asks."""
    raise ClientError("bad_message", message, close_code=1008)


def read_query(items: Iterable[tuple[str, str]], *, is_live: bool) -> Asked:
    """Read the query of a request. Raises ClientError, whose message is for whoever wrote the request."""
    query = Query(items)
    query.one("model")  # the server has one, whatever it is called elsewhere
    audio, channels = _audio(query)
    start: dict[str, Any] = {"type": "start", "final_pass": False, "audio": audio}
    language = query.one("language")
    detected = [value for value in query.all("detect_language") if value.lower() != "false"]
    hints = query.all("language_hint")
    wants_languages = language == "multi" or bool(detected)
    if language is None or wants_languages:
        start["languages"] = [*(value for value in detected if value.lower() != "true"), *hints]
        if detected and language not in (None, "multi"):
            query.warnings.append("`language` has no effect with `detect_language`.")
    else:
        start["language"] = language
        if hints:
            query.warnings.append("`language_hint` has no effect with `language`.")
    start["vocabulary"] = _vocabulary(query)
    diarize = query.flag("diarize")
    model = query.one("diarize_model")
    start["diarize"] = is_diarized = diarize or model not in (None, "")
    start["channel_speakers"] = is_apart = channels > 1
    if is_diarized and is_apart:
        query.warnings.append("`diarize`: with `multichannel` each channel is one speaker.")
    # It tells voices apart far better, and takes its time.
    start["final_pass"] = is_diarized and not is_live and not is_apart
    interim = query.flag("interim_results")
    start["interim"] = interim and is_live
    endpointing = query.one("endpointing")
    if endpointing not in (None, "false", "true"):
        start["end_silence"] = _end_silence(query, str(endpointing))
    utterance_end = query.number("utterance_end_ms", MIN_UTTERANCE_END_MS, MAX_SILENCE_MS)
    if utterance_end is not None and is_live and not interim:
        bad("`utterance_end_ms` needs `interim_results=true`.")
    formatted = query.flag("punctuate") | query.flag("smart_format")
    tags, extra = query.all("tag"), query.all("extra")
    events = query.flag("vad_events")
    callback = query.one("callback")
    if (query.one("callback_method") or "post").lower() != "post":
        bad("`callback_method` must be post.")
    if callback is not None:
        start["webhook"] = {"url": callback}  # read below as any webhook's
    paragraphs, utterances = query.flag("paragraphs"), query.flag("utterances")
    if is_live and callback is None and (paragraphs or utterances):
        query.warnings.append("`paragraphs` and `utterances` are of recordings, and have no effect here.")
    query.refuse_and_warn()
    try:
        read = client_from_dict(start)
    except ClientError as error:
        bad(error.message.replace("webhook.url", "callback").replace("`vocabulary", "`keyterm"))
    assert isinstance(read, Start), "its type says so"
    return Asked(
        start=read,
        channels=channels,
        is_punctuated=formatted or paragraphs,
        is_diarized=is_diarized,
        wants_interim=interim,
        wants_speech_final=endpointing != "false",
        utterance_end=None if utterance_end is None else utterance_end / 1000,
        wants_speech_started=events,
        wants_languages=wants_languages,
        wants_paragraphs=paragraphs,
        wants_utterances=utterances,
        tags=tags,
        extra={name: value for name, _, value in (given.partition(":") for given in extra)} or None,
        callback=None if read.webhook is None else read.webhook.url,
        warnings=tuple(dict.fromkeys(query.warnings)),
    )


def _audio(query: Query) -> tuple[dict[str, Any], int]:
    """Return the audio of `start`, and how many channels results are made of."""
    encoding = query.one("encoding")
    rate = query.number("sample_rate", 8000, 48_000)
    channels = query.number("channels", 1, MAX_CHANNELS)
    apart = query.flag("multichannel")
    if encoding is None or encoding in CONTAINED:
        if apart:
            query.warnings.append(f"`multichannel`: the first {MAX_CHANNELS} channels of a file are heard.")
        return {"encoding": "container"}, MAX_CHANNELS if apart else 1
    if encoding not in RAW:
        known = ", ".join((*RAW, *CONTAINED))
        bad(f"`encoding={encoding[:40]}` cannot be decoded here; send one of {known}, or a file as it is.")
    if rate is None:
        bad("`sample_rate` is required with `encoding`.")
    audio = {"encoding": RAW[encoding], "sample_rate": rate, "channels": channels or 1}
    return audio, (channels or 1) if apart else 1


def _vocabulary(query: Query) -> Sequence[str]:
    terms = list(query.all("keyterm"))
    for value in query.all("keywords"):
        term, _, boost = value.rpartition(":")
        is_boosted = bool(term) and boost.lstrip("-").replace(".", "", 1).isdigit()
        if is_boosted and boost.startswith("-"):
            query.warnings.append(
                "`keywords`: words are expected; those with a negative weight are left out."
            )
            continue
        terms.append(term if is_boosted else value)
        if is_boosted:
            query.warnings.append("`keywords`: words are expected; how much cannot be set.")
    return list(dict.fromkeys(terms))


def _end_silence(query: Query, value: str) -> float:
    wanted_ms = whole(value)
    if wanted_ms is None:
        bad(f"`endpointing` must be milliseconds or false, not {value[:40]!r}.")
    taken_ms = min(max(wanted_ms, MIN_SILENCE_MS), MAX_SILENCE_MS)
    if taken_ms != wanted_ms:
        query.warnings.append(f"`endpointing`: {taken_ms} ms is the nearest that can be had.")
    return taken_ms / 1000


def read_keyterms(message: Mapping[str, Any]) -> list[str]:
    """Return the keyterms of a `Configure`. Raises ClientError for what else it wants."""
    other = next(
        (name for name, value in message.items() if name not in ("type", "keyterms") and value), None
    )
    if other is not None:
        bad(f"`{shown(other)}` cannot be changed here.")
    terms = message.get("keyterms")
    if not isinstance(terms, list):
        bad("`keyterms` must be an array of strings.")
    return terms
