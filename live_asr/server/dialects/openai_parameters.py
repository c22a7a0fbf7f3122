"""What a request to OpenAI's audio API asks for, as a session that does it."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice

import orjson
from starlette.datastructures import FormData

from live_asr.core.errors import ClientError
from live_asr.core.messages import MAX_VOCABULARY, Start, client_from_dict
from live_asr.server.dialects.openai_errors import BadParameter

ALIASES = (
    "whisper-1",
    "gpt-transcribe",
    "gpt-4o-transcribe",
    "gpt-4o-mini-transcribe",
    "gpt-4o-transcribe-diarize",
)
"""Names that clients are set to; all mean the model that the server has."""
DIARIZING = "gpt-4o-transcribe-diarize"
FORMATS = ("json", "text", "srt", "verbose_json", "vtt", "diarized_json")
STREAMED = ("json", "text", "diarized_json")
MAX_KNOWN_SPEAKERS = 4
MAX_ENTRY = 100
"""Characters of one entry of a vocabulary."""
BETWEEN_PHRASES = re.compile(r"(?<![,;:.!?。，、])[,;:.!?。，、]+(?:\s+|$)|[\n\r]+")
"""Tried where marks begin, and not at each of them: a prompt of nothing else would take minutes."""
MAX_PROMPT = 2 * MAX_VOCABULARY * MAX_ENTRY
"""Characters of a prompt that are gone through, on the event loop."""
MAX_WARNINGS = 20
"""So many fit a header that proxies let pass."""
KNOWN = {
    *("file", "model", "language", "languages", "prompt", "keywords", "response_format", "temperature"),
    *("timestamp_granularities", "include", "chunking_strategy", "known_speaker_names"),
    *("known_speaker_references", "stream"),
}
VAD = {"type", "prefix_padding_ms", "silence_duration_ms", "threshold"}


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be done with a file, and how the answer is to look."""

    start: Start
    response_format: str
    stream: bool = False
    with_words: bool = False
    with_segments: bool = True
    with_logprobs: bool = False
    diarize: bool = False
    known_speakers: tuple[tuple[str, bytes], ...] = ()
    """Names, each with a file that holds the voice."""
    warnings: tuple[str, ...] = field(default=())
    """What was asked for and has no effect."""


def read(form: FormData, model: str, *, task: str = "transcribe") -> Asked:
    """Read the fields of a form; `model` is the one that the server has. Raises ClientError."""
    given = Given(form)
    name = given.one("model")
    if name is None:
        raise BadParameter("model", "you must provide a model parameter", code="missing_required_parameter")
    if name not in (model, *ALIASES):
        raise BadParameter(
            "model", f"The model {name[:80]!a} does not exist; there is '{model}'.", code="model_not_found"
        )
    formats = FORMATS if task == "transcribe" else FORMATS[:-1]
    response_format = given.choice("response_format", formats)
    diarize = task == "transcribe" and (name == DIARIZING or response_format == "diarized_json")
    stream = given.flag("stream") and task == "transcribe"
    if stream and response_format not in STREAMED:
        raise BadParameter("stream", f"`response_format` {response_format} cannot be streamed.")
    granularities = given.choices("timestamp_granularities", ("word", "segment"))
    if granularities and response_format != "verbose_json":
        raise BadParameter("timestamp_granularities", "`response_format` must be verbose_json for these.")
    logprobs = given.choices("include", ("logprobs",))
    if logprobs and response_format != "json":
        raise BadParameter("include", "`response_format` must be json for logprobs.")
    known = tuple(known_speakers(given)) if diarize else ()
    warnings = list(_warnings(given, task=task, diarize=diarize))
    expected, is_whole = _expected(given)
    if not is_whole:
        warnings.append(f"prompt, keywords: the first {len(expected)} words and phrases are expected")
    return Asked(
        start=_start(given, expected, task=task, diarize=diarize, full_pass=diarize and not stream),
        response_format=response_format,
        stream=stream,
        with_words="word" in granularities,
        with_segments=not granularities or "segment" in granularities,
        with_logprobs=bool(logprobs),
        diarize=diarize,
        known_speakers=known,
        warnings=tuple(warnings[:MAX_WARNINGS]),
    )


class Given:
    """The fields of a form, whose lists are written `name[]`, `name[0]` or as several of one name."""

    def __init__(self, form: FormData) -> None:
        self._lists: dict[str, list[str]] = {}
        self._inner: dict[str, dict[str, str]] = {}
        for key, value in form.multi_items():
            name, _, inner = key.partition("[")
            is_part = bool(inner.rstrip("]")) and not inner.rstrip("]").isdecimal()
            if name in KNOWN and isinstance(value, str) is (name == "file"):
                raise BadParameter(name, f"`{name}` must be a {'file' if name == 'file' else 'text'}.")
            if name in KNOWN and is_part and name != "chunking_strategy":
                raise BadParameter(name, f"`{name}` has no parts.")
            if not isinstance(value, str):
                self._lists.setdefault(name, [])
            elif is_part:
                self._inner.setdefault(name, {})[inner.rstrip("]")] = value
            else:
                self._lists.setdefault(name, []).append(value)

    @property
    def names(self) -> set[str]:
        """All fields that were given."""
        return {*self._lists, *self._inner}

    def one(self, name: str) -> str | None:
        """Return a field's value; None where it is not given, or empty."""
        values = self._lists.get(name, [])
        if len(values) > 1:
            raise BadParameter(name, f"`{name}` was given {len(values)} times.")
        return values[0] if values and values[0] else None

    def many(self, name: str) -> list[str]:
        """Return all values of a list."""
        return [value for value in self._lists.get(name, []) if value]

    def inner(self, name: str) -> dict[str, str]:
        """Return the parts of an object that was given as `name[part]`."""
        return self._inner.get(name, {})

    def choice(self, name: str, allowed: Sequence[str]) -> str:
        """Return one of these values, the first where none is given."""
        value = self.one(name) or allowed[0]
        if value not in allowed:
            raise BadParameter(name, f"`{name}` must be one of {', '.join(allowed)}, not '{value[:60]}'.")
        return value

    def choices(self, name: str, allowed: Sequence[str]) -> list[str]:
        """Return a list that holds some of these values."""
        values = self.many(name)
        for value in values:
            if value not in allowed:
                raise BadParameter(name, f"`{name}` may hold {', '.join(allowed)}, not '{value[:60]}'.")
        return values

    def flag(self, name: str) -> bool:
        """Return true or false; false where it is not given."""
        return self.choice(name, ("false", "true", "False", "True", "0", "1")) in ("true", "True", "1")

    def number(self, name: str, low: float, high: float) -> float | None:
        """Return a number between two bounds; None where it is not given."""
        text = self.one(name)
        if text is None:
            return None
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise BadParameter(name, f"`{name}` must be a number from {low:g} to {high:g}.")
        return value


def _expected(given: Given) -> tuple[list[str], bool]:
    """Return the words and phrases to expect, as many as there may be, and whether these are all."""
    prompt = given.one("prompt") or ""
    entries = dict.fromkeys(chain(given.many("keywords"), entries_of(prompt[:MAX_PROMPT])))
    is_whole = len(prompt) <= MAX_PROMPT and len(entries) <= MAX_VOCABULARY
    return list(islice(entries, MAX_VOCABULARY)), is_whole


def _start(given: Given, expected: list[str], *, task: str, diarize: bool, full_pass: bool) -> Start:
    try:
        start = client_from_dict(
            {
                "type": "start",
                "audio": {"encoding": "container"},
                "language": given.one("language"),
                "languages": given.many("languages"),
                "task": task,
                "vocabulary": expected,
                "diarize": diarize,
                "interim": False,
                "pace": "fast",
                "final_pass": full_pass,
            }
        )
    except ClientError as error:
        # A prompt is cut into what fits; what does not was given as keywords.
        message = str(error).replace("`vocabulary", "`keywords")
        named = re.match(r"`(\w+)", message)
        raise BadParameter(named.group(1) if named else "file", message) from None
    assert isinstance(start, Start), "its type says so"
    return start


def entries_of(prompt: str) -> Iterator[str]:
    """Cut a prompt into what a vocabulary holds: its phrases, none longer than an entry may be."""
    for phrase in BETWEEN_PHRASES.split(prompt):
        entry = ""
        for word in phrase.split():
            word = word[:MAX_ENTRY]
            if entry and len(entry) + 1 + len(word) > MAX_ENTRY:
                yield entry
                entry = ""
            entry = f"{entry} {word}".strip()
        if entry:
            yield entry


def known_speakers(given: Given) -> Iterator[tuple[str, bytes]]:
    """Yield names, each with the bytes of a file that holds the voice. Raises ClientError."""
    names, references = given.many("known_speaker_names"), given.many("known_speaker_references")
    if len(names) != len(references):
        raise BadParameter(
            "known_speaker_references",
            f"There are {len(names)} `known_speaker_names` and {len(references)} `known_speaker_references`.",
        )
    if len(names) > MAX_KNOWN_SPEAKERS:
        raise BadParameter("known_speaker_names", f"At most {MAX_KNOWN_SPEAKERS} speakers can be known.")
    if len(set(names)) != len(names):
        raise BadParameter("known_speaker_names", "Each name may stand once.")
    for name, reference in zip(names, references, strict=True):
        head, _, data = reference.partition(",")
        if not head.startswith("data:") or not head.endswith(";base64"):
            raise BadParameter("known_speaker_references", "A reference is a data URL in base64.")
        try:
            yield name, base64.b64decode(data, validate=True)
        except ValueError:  # also for characters beyond ASCII
            raise BadParameter("known_speaker_references", "A reference is not base64.") from None


def _warnings(given: Given, *, task: str, diarize: bool) -> Iterator[str]:
    """Yield what has no effect here. Raises ClientError for what is wrong with it anyway."""
    if given.number("temperature", 0.0, 1.0):
        yield "temperature: decoding is always by beam search"
    if _has_vad_parameters(given):
        yield "chunking_strategy: pauses are found with the server's own settings"
    if given.one("language") and given.many("languages"):
        yield "languages: language says which one it is"
    for name in ("known_speaker_names", "known_speaker_references"):
        if not diarize and given.many(name):
            yield f"{name}: speakers are told apart in diarized_json alone"
    unused = {"stream"} if task == "translate" else set()
    for name in sorted(given.names - (KNOWN - unused)):
        yield f"{ascii(name[:40])[1:-1]}: not known here"


def _has_vad_parameters(given: Given) -> bool:
    """Tell whether chunking is asked for in detail. Raises ClientError where that is misspelt."""
    parts: dict[str, object] = {**given.inner("chunking_strategy")}
    text = given.one("chunking_strategy")
    if text is not None and text != "auto":
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            value = None
        parts = value if isinstance(value, dict) else {"type": text}
    if parts and (parts.get("type") != "server_vad" or set(parts) - VAD):
        raise BadParameter(
            "chunking_strategy", "`chunking_strategy` must be auto, or an object of the type server_vad."
        )
    return bool(set(parts) - {"type"})
