"""Readers of JSON values: what a field of a message may hold, and the sentence for what it may not.

A reader takes a parsed JSON value and the field's name, and returns the value as the message's type
holds it. What it cannot accept it refuses with `ClientError("bad_message")`, which names the field,
what was got, what is allowed and the nearest allowed value.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import datetime
from functools import cache
from itertools import islice
from typing import Any, NoReturn, get_type_hints
from urllib.parse import urlsplit

from live_asr.core.clock import utc_text
from live_asr.core.errors import ClientError
from live_asr.core.languages import AUTO, as_spelt

Reader = Callable[[object, str], Any]

LARGEST_INTEGER = 2**63 - 1
"""Beyond this, JSON libraries differ in what they keep of a number."""
LARGEST_NUMBER = 2.0**63
"""The float that the integers up to there round to: what was read can be written and read again."""
MAX_LANGUAGE = 35
"""Characters of a BCP 47 tag, by the standard's own advice."""
MAX_LANGUAGES = 100
MAX_COMPARED = 32
"""So many names are compared with the known ones; a comparison is slow and a frame holds many names."""


def describe(value: object) -> str:
    """Say what a JSON value is, in ASCII and in at most some 60 characters."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list):
        return "an array"
    if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        return "a number beyond 64 bits"
    text = ascii(value[:60] if isinstance(value, str) else value)
    return text if len(text) <= 60 else text[:57] + "..."


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that a writer of `name` most likely meant, or None."""
    written, known = name[:60].lower(), list(known)
    part_of = [entry for entry in known if written in entry.split("_")]
    close = difflib.get_close_matches(written, known, n=1, cutoff=0.6)
    return next(iter(close + part_of), None)


def refuse(field: str, allowed: str, got: object, hint: str = "") -> NoReturn:
    """Raise the error for a field that holds what it may not."""
    refuse_as(field, allowed, describe(got), hint)


def refuse_as(field: str, allowed: str, got: str, hint: str = "") -> NoReturn:
    """Raise as `refuse` does, with the words for what was got."""
    message = f"`{field}` must be {allowed}, not {got}."
    raise ClientError("bad_message", message, hint or f"Send `{field}` as {allowed}.", close_code=1007)


def boolean(value: object, field: str) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        refuse(field, "true or false", value)
    return value


def integer(low: int = 0, high: int = LARGEST_INTEGER) -> Reader:
    """Read a whole number from `low` to `high`; 16000.0 counts as whole."""
    bounds = f"from {low} to {high}" if high < LARGEST_INTEGER else f"of at least {low}"
    allowed = f"a whole number {bounds}"

    def read(value: object, field: str) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            refuse(field, allowed, value)
        if not low <= value <= high:
            refuse(field, allowed, value, f"The nearest allowed value is {min(max(value, low), high)}.")
        return value

    return read


def number(low: float = 0.0, high: float = math.inf, decimals: int | None = None) -> Reader:
    """Read a finite number from `low` to `high`, as a float, rounded to so many decimals if any are given."""
    allowed = f"a number from {low:g} to {high:g}" if high < math.inf else f"a number of at least {low:g}"

    def read(value: object, field: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            refuse(field, allowed, value)
        if abs(value) > LARGEST_NUMBER:
            refuse(field, "a number within 64 bits", value)
        if not low <= value <= high:
            refuse(field, allowed, value)
        return float(value) if decimals is None else round(float(value), decimals)

    return read


def string(longest: int | None = None, shortest: int = 0) -> Reader:
    """Read Unicode text of `shortest` to `longest` characters, without lone surrogates."""
    allowed = "a string" if longest is None else f"a string of {shortest} to {longest} characters"

    def read(value: object, field: str) -> str:
        if not isinstance(value, str):
            refuse(field, allowed, value)
        if longest is not None and not shortest <= len(value) <= longest:
            refuse_as(field, allowed, f"{len(value)} characters")
        if not is_unicode(value):
            refuse(field, "text without lone surrogates", value)
        return value

    return read


def is_unicode(text: str) -> bool:
    """Tell whether `text` can be written as UTF-8, that is, has no lone surrogate."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def choice(*allowed_values: str) -> Reader:
    """Read one of the given strings."""
    allowed = " or ".join(", ".join(repr(v) for v in allowed_values).rsplit(", ", 1))

    def read(value: object, field: str) -> str:
        if not isinstance(value, str) or value not in allowed_values:
            near = nearest(value, allowed_values) if isinstance(value, str) else None
            refuse(field, allowed, value, f"Did you mean '{near}'?" if near else "")
        return value

    return read


def optional(reader: Reader) -> Reader:
    """Read null as None and all else by `reader`."""
    return lambda value, field: None if value is None else reader(value, field)


def language_or_auto(value: object, field: str) -> str:
    """Read a language's tag, code or name as Whisper's code, or the wish to have it detected as `auto`.

    What is no language of Whisper's is kept as it is: which ones there are is the model's to say.
    """
    return as_spelt(string(MAX_LANGUAGE, 1)(value, field))


def language(value: object, field: str) -> str | None:
    """Read a language as `language_or_auto` does, with None for `auto`."""
    code = language_or_auto(value, field)
    return None if code == AUTO else code


def languages(value: object, field: str) -> tuple[str, ...]:
    """Read an array of languages, each once."""

    def read(entry: object, field: str) -> str:
        code = language(entry, field)
        if code is None:
            refuse(field, "a language", entry, "An empty array stands for all languages.")
        return code

    return tuple(dict.fromkeys(array(read, MAX_LANGUAGES)(value, field)))


def utc_time(value: object, field: str) -> str:
    """Read a time in ISO 8601 that names its zone, and return it in UTC to the millisecond."""
    allowed = "a time with its zone in ISO 8601, such as 2026-11-21T14:05:09.120Z"
    if not isinstance(value, str):
        refuse(field, allowed, value)
    try:
        return utc_text(datetime.fromisoformat(value))
    except ValueError:
        refuse(field, allowed, value)


def array(reader: Reader, longest: int | None = None) -> Reader:
    """Read an array of at most `longest` entries, as a tuple."""
    allowed = "an array" if longest is None else f"an array of at most {longest} entries"

    def read(value: object, field: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            refuse(field, allowed, value)
        if longest is not None and len(value) > longest:
            refuse_as(field, allowed, f"{len(value)} entries")
        return tuple(reader(entry, f"{field}[{i}]") for i, entry in enumerate(value))

    return read


def flat_object(most_bytes: int) -> Reader:
    """Read an object of scalars whose compact JSON has at most `most_bytes`."""
    scalar = "a string, a number, true, false or null"

    def read(value: object, field: str) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            refuse(field, "an object", value)
        for key, entry in value.items():
            if not is_unicode(key):
                refuse(field, "an object whose keys have no lone surrogates", key)
            if isinstance(entry, list | Mapping):
                refuse(
                    f"{field}.{shown(key)}", scalar, entry, "Metadata is flat: send nested data as a string."
                )
            if isinstance(entry, int) and abs(entry) > LARGEST_INTEGER:
                refuse(f"{field}.{shown(key)}", "a number within 64 bits", entry, "Send it as a string.")
            if isinstance(entry, float) and not math.isfinite(entry):
                refuse(f"{field}.{shown(key)}", "a finite number", entry)
            if isinstance(entry, str) and not is_unicode(entry):
                refuse(f"{field}.{shown(key)}", "text without lone surrogates", entry)
        size_bytes = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
        if size_bytes > most_bytes:
            refuse_as(field, f"at most {most_bytes} bytes of JSON", f"{size_bytes} bytes")
        return dict(value)

    return read


def text_map(value: object, field: str) -> dict[str, str]:
    """Read an object whose values are strings."""
    if not isinstance(value, Mapping):
        refuse(field, "an object of strings", value)
    read = string()
    return {read(key, field): read(entry, f"{field}.{shown(key)}") for key, entry in value.items()}


def web_url(value: object, field: str) -> str:
    """Read an absolute http or https URL of at most 2048 characters."""
    allowed = "an absolute http or https URL"
    text: str = string(2048, 1)(value, field)
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # an unclosed IPv6 bracket, a port that is no port
        usable = False
    if not usable or any(character <= " " for character in text):
        refuse(field, allowed, value)
    return text


def shown(key: str) -> str:
    """Return a key as it may stand in a message: ASCII, short."""
    return ascii(key[:60])[1:-1]


def record(cls: type[Any], *, tolerant: bool = True) -> Reader:
    """Read an object as the dataclass `cls`; see `read_record` for `tolerant`."""
    return lambda value, field: read_record(cls, value, field, tolerant=tolerant)


def read_record(
    cls: Any, value: object, path: str = "", *, tolerant: bool, elsewhere: Mapping[str, str] | None = None
) -> Any:
    """Build the dataclass `cls` from a JSON object by the readers that annotate its fields.

    A field without a default is required; null stands for the default of one that has it. A key that no
    field has is ignored, so that either side may be newer; unless not `tolerant`, where one that looks
    like a misspelt field is refused, because the writer would wonder why it has no effect. `elsewhere` maps
    names that belong into an inner object to where they belong.
    """
    if not isinstance(value, Mapping):
        refuse(path or "message", "an object", value)
    readers = field_readers(cls)
    found: dict[str, Any] = {}
    for name, (reader, required) in readers.items():
        wire_name = name.rstrip("_")
        field = f"{path}.{wire_name}" if path else wire_name
        if required and wire_name not in value:
            message = f"`{field}` is missing."
            near = nearest(wire_name, islice(value, MAX_COMPARED))
            hint = f"Did you write '{shown(near)}' instead?" if near else f"Send `{field}` too."
            raise ClientError("bad_message", message, hint, close_code=1007)
        entry = value.get(wire_name)
        if entry is not None or required:
            found[name] = reader(entry, field)
    if not tolerant:
        refuse_misspelt(value, {name.rstrip("_") for name in readers} | {"type"}, path, elsewhere or {})
    return cls(**found)


def refuse_misspelt(keys: Iterable[str], known: set[str], path: str, elsewhere: Mapping[str, str]) -> None:
    """Refuse a key that is not known and looks like one that is, here or elsewhere."""
    prefix = f"{path}." if path else ""
    meant = {name: prefix + name for name in sorted(known)} | dict(elsewhere)
    for key in islice((key for key in keys if key not in known), MAX_COMPARED):
        near = nearest(key, meant)
        if near is not None:
            message = f"`{prefix}{shown(key)}` is not a field of this message."
            raise ClientError("bad_message", message, f"Did you mean `{meant[near]}`?", close_code=1007)


@cache
def field_readers(cls: Any) -> dict[str, tuple[Reader, bool]]:
    """Return, for each field of the dataclass `cls`, its reader and whether it is required."""
    hints = get_type_hints(cls, include_extras=True)
    return {
        entry.name: (
            hints[entry.name].__metadata__[0],
            entry.default is MISSING and entry.default_factory is MISSING,
        )
        for entry in fields(cls)
    }


def plain(value: Any) -> Any:
    """Turn dataclasses and tuples into objects and arrays; numbers keep three decimals.

    A field that is None by default is left out. Mappings pass untouched.
    """
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, tuple):
        return [plain(entry) for entry in value]
    if is_dataclass(value):
        return {
            key: plain(content)
            for name, key, is_always in _written_fields(value.__class__)
            if (content := getattr(value, name)) is not None or is_always
        }
    return value


@cache
def _written_fields(cls: Any) -> tuple[tuple[str, str, bool], ...]:
    """Return for each field its name, what it is called on the wire, and whether it is written where None."""
    return tuple((entry.name, entry.name.rstrip("_"), entry.default is MISSING) for entry in fields(cls))


def parse_json(text: str | bytes) -> object:
    """Parse one JSON text as RFC 8259 has it: UTF-8, no NaN, and each key of an object once.

    Raises ClientError `not_json`, or `bad_message` for a key that stands twice.
    """
    try:
        decoded = text.decode("utf-8") if isinstance(text, bytes) else text
        return json.loads(decoded, parse_constant=_refuse_constant, object_pairs_hook=_object)
    except RecursionError:
        _refuse_text("is nested too deep")
    except UnicodeDecodeError:
        _refuse_text("is not UTF-8")
    except json.JSONDecodeError as error:
        _refuse_text(f"is not JSON: {error.msg} at character {error.pos}")
    except ValueError:  # Python refuses to read integers of more than 4300 digits
        _refuse_text("holds a number that is too long")


def _refuse_constant(name: str) -> NoReturn:
    _refuse_text(f"holds {name}, which JSON does not have")


def _refuse_text(fault: str) -> NoReturn:
    hint = "Send one JSON object with a `type` in each text frame, and audio in binary frames."
    raise ClientError("not_json", f"The text frame {fault}.", hint, close_code=1007)


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            message = f"`{shown(key)}` stands twice in one object."
            raise ClientError("bad_message", message, "Send it once.", close_code=1007)
        found[key] = value
    return found
