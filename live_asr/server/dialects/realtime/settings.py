"""What a Realtime client asks of its session, and what it is told is in force.

What cannot be had is shown as off, with a sentence in `warnings`: the answer to an update says what is so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from live_asr.core.errors import ClientError
from live_asr.core.fields import describe, shown
from live_asr.core.messages import MAX_VOCABULARY, AudioFormat, Start, Update, client_from_dict

FORMATS = {
    "audio/pcm": AudioFormat("pcm_s16le", 24_000),
    "audio/pcmu": AudioFormat("mulaw", 8000),
    "audio/pcma": AudioFormat("alaw", 8000),
}
BETA_FORMATS = {"pcm16": "audio/pcm", "g711_ulaw": "audio/pcmu", "g711_alaw": "audio/pcma"}
LOGPROBS = "item.input_audio_transcription.logprobs"
EAGERNESS_MS = {"low": 2000, "medium": 1000, "auto": 1000, "high": 500}
"""Silence that stands for how soon a model would take a turn for over."""
PREFIX_MS, SILENCE_MS, THRESHOLD = 300, 500, 0.5
MIN_SILENCE_MS, MAX_SILENCE_MS = 200, 5000
MIN_THRESHOLD, MAX_THRESHOLD = 0.1, 0.9
MAX_TERM = 100
MAX_WORDS_IN_TERM = 5
MAX_PROMPT = MAX_VOCABULARY * (MAX_TERM + 2)
"""Characters of a prompt that may be a list of words to expect."""
MAX_UNKNOWN = 10
"""So many unknown fields are named."""
DELAYS = ("minimal", "low", "medium", "high", "xhigh")
NOISES = ("near_field", "far_field")
SESSION = {
    *("type", "audio", "include", "input_audio_format", "input_audio_transcription"),
    *("input_audio_noise_reduction", "turn_detection"),
    *("id", "object", "modalities", "client_secret", "expires_at", "warnings"),  # as they are shown
}
INPUT = {"format", "transcription", "noise_reduction", "turn_detection"}
TURNS = {
    *("type", "threshold", "prefix_padding_ms", "silence_duration_ms", "idle_timeout_ms", "eagerness"),
    *("create_response", "interrupt_response"),  # of conversations
}
TRANSCRIPTION = ("model", "language", "languages", "prompt", "keywords", "delay")
SERVER_VAD: Mapping[str, Any] = {
    "type": "server_vad",
    "threshold": THRESHOLD,
    "prefix_padding_ms": PREFIX_MS,
    "silence_duration_ms": SILENCE_MS,
}


class BadRequest(ClientError):
    """What a client asks wrongly; `param` names where. Its connection goes on."""

    def __init__(self, message: str, param: str | None = None, code: str = "invalid_value") -> None:
        super().__init__(code, message)
        self.param = param


def bad(param: str, allowed: str, value: object) -> NoReturn:
    """Refuse the value of a field."""
    raise BadRequest(f"Invalid value: {describe(value)}. `{param}` must be {allowed}.", param)


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """The settings of one session."""

    format: str = "audio/pcm"
    transcription: Mapping[str, Any] = field(default_factory=dict)
    turn_detection: Mapping[str, Any] | None = field(default_factory=lambda: SERVER_VAD)
    include: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def changed(self, session: object, param: str = "session") -> SessionSettings:
        """Return the settings with what `session` says, in the GA's form or the beta's. Raises BadRequest."""
        if not isinstance(session, Mapping):
            bad(param, "an object", session)
        if session.get("type", "transcription") != "transcription":
            bad(f"{param}.type", "'transcription': this server holds no conversations", session["type"])
        given = {**_of_beta(session, param), **_of_ga(session, param)}
        settings, warnings = self, list(_unknown(session, given))
        if given.get("noise_reduction") is not None:
            _check_noise(given["noise_reduction"], f"{param}.audio.input.noise_reduction")
            warnings.append("`noise_reduction` is not supported: the audio is heard as it comes.")
        if "format" in given:
            settings = replace(settings, format=_format(given["format"], f"{param}.audio.input.format"))
        if "transcription" in given:
            read = _transcription(given["transcription"], f"{param}.audio.input.transcription", warnings)
            settings = replace(settings, transcription=read)
        if "turn_detection" in given:
            turns = _turn_detection(given["turn_detection"], f"{param}.audio.input.turn_detection", warnings)
            settings = replace(settings, turn_detection=turns)
        if session.get("include") is not None:
            settings = replace(settings, include=_include(session["include"], f"{param}.include"))
        settings = replace(settings, warnings=tuple(warnings))
        settings.start()  # what it refuses is refused here
        return settings

    @property
    def audio(self) -> AudioFormat:
        """What the client sends."""
        return FORMATS[self.format]

    @property
    def wants_logprobs(self) -> bool:
        """Whether each delta says how sure its words are."""
        return LOGPROBS in self.include

    def start(self) -> Start:
        """Return the session to open. Raises BadRequest for what it cannot be."""
        fields: dict[str, Any] = {
            "type": "start",
            "diarize": False,
            "interim": False,
            "final_pass": False,
            **self._spoken(),
        }
        # Who says nothing has the server's own policy; who names the API's defaults has them.
        if self.turn_detection is not None and self.turn_detection is not SERVER_VAD:
            fields["end_silence"] = self.turn_detection["silence_duration_ms"] / 1000
            fields["vad_threshold"] = self.turn_detection["threshold"]
        try:
            start = client_from_dict(fields)
        except ClientError as error:
            message = error.message.replace("`vocabulary", "`keywords")
            raise BadRequest(message, "session.audio.input.transcription") from None
        assert isinstance(start, Start), "its type says so"
        return replace(start, audio=self.audio)

    def update(self) -> Update:
        """Return what a session that goes on is to be told."""
        spoken = self._spoken()
        update = client_from_dict({"type": "update", **spoken, "language": spoken["language"] or "auto"})
        assert isinstance(update, Update), "its type says so"
        return update

    def _spoken(self) -> dict[str, Any]:
        """Return language and words to expect, as fields of `start`."""
        said = self.transcription
        terms = [*(said.get("keywords") or ()), *(_terms(said.get("prompt")) or ())]
        return {
            "language": said.get("language"),
            "languages": list(said.get("languages") or ()),
            "vocabulary": list(dict.fromkeys(terms)),
        }

    def shown(self, session_id: str) -> dict[str, Any]:
        """Return the session as clients see it."""
        shown: dict[str, Any] = {
            "id": session_id,
            "object": "realtime.transcription_session",
            "type": "transcription",
            "audio": {
                "input": {
                    "format": self._shown_format(),
                    "transcription": dict(self.transcription) or None,
                    "noise_reduction": None,
                    "turn_detection": self._shown_turns(),
                }
            },
            "include": list(self.include) or None,
        }
        return {**shown, "warnings": list(self.warnings)} if self.warnings else shown

    def shown_as_beta(self, session_id: str) -> dict[str, Any]:
        """Return the session as clients of the beta see it."""
        names = {name: beta for beta, name in BETA_FORMATS.items()}
        shown: dict[str, Any] = {
            "id": session_id,
            "object": "realtime.transcription_session",
            "modalities": ["audio", "text"],
            "input_audio_format": names[self.format],
            "input_audio_transcription": dict(self.transcription) or None,
            "input_audio_noise_reduction": None,
            "turn_detection": self._shown_turns(),
            "include": list(self.include) or None,
        }
        return {**shown, "warnings": list(self.warnings)} if self.warnings else shown

    def _shown_format(self) -> dict[str, Any]:
        return {"type": self.format, "rate": 24_000} if self.format == "audio/pcm" else {"type": self.format}

    def _shown_turns(self) -> dict[str, Any] | None:
        return None if self.turn_detection is None else dict(self.turn_detection)


# Reading ----------------------------------------------------------------------------------------------


def _of_ga(session: Mapping[str, Any], param: str) -> dict[str, Any]:
    audio = session.get("audio")
    if audio is None:
        return {}
    if not isinstance(audio, Mapping):
        bad(f"{param}.audio", "an object", audio)
    given = audio.get("input")
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        bad(f"{param}.audio.input", "an object", given)
    return dict(given)


def _unknown(session: Mapping[str, Any], given: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each field that is not known, wherever it stands in a session."""
    places: list[tuple[str, object, Collection[str]]] = [
        ("", session, SESSION),
        ("audio.", session.get("audio"), ("input",)),
        ("audio.input.", given, INPUT),
        ("transcription.", given.get("transcription"), TRANSCRIPTION),
        ("turn_detection.", given.get("turn_detection"), TURNS),
    ]
    names = [
        f"{place}{shown(name)}"
        for place, holder, known in places
        if isinstance(holder, Mapping)
        for name in holder
        if name not in known
    ]
    for name in names[:MAX_UNKNOWN]:
        yield f"`{name}` is not known here."


def _check_noise(given: object, param: str) -> None:
    """Refuse what is no kind of noise reduction."""
    kind = given.get("type") if isinstance(given, Mapping) else given
    if kind is not None and kind not in NOISES:
        bad(f"{param}.type", f"one of {', '.join(NOISES)}, or null", kind)


def _of_beta(session: Mapping[str, Any], param: str) -> dict[str, Any]:
    given = {}
    if session.get("input_audio_format") is not None:
        name = session["input_audio_format"]
        if not isinstance(name, str) or name not in BETA_FORMATS:
            bad(f"{param}.input_audio_format", f"one of {', '.join(BETA_FORMATS)}", name)
        given["format"] = {"type": BETA_FORMATS[name]}
    for beta, name in (
        ("input_audio_transcription", "transcription"),
        ("input_audio_noise_reduction", "noise_reduction"),
        ("turn_detection", "turn_detection"),
    ):
        if beta in session:
            given[name] = session[beta]
    return given


def _format(given: object, param: str) -> str:
    kind = given.get("type") if isinstance(given, Mapping) else None
    if not isinstance(given, Mapping) or not isinstance(kind, str) or kind not in FORMATS:
        bad(f"{param}.type", f"one of {', '.join(FORMATS)}", kind)
    rate = given.get("rate", FORMATS[kind].sample_rate)
    if rate != FORMATS[kind].sample_rate:
        bad(f"{param}.rate", f"{FORMATS[kind].sample_rate}", rate)
    return kind


def _transcription(given: object, param: str, warnings: list[str]) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        bad(param, "an object", given)
    read = {name: given[name] for name in TRANSCRIPTION if given.get(name) is not None}
    for name in ("model", "language", "prompt", "delay"):
        if not isinstance(read.get(name, ""), str):
            bad(f"{param}.{name}", "a string", read[name])
    for name in ("languages", "keywords"):
        values = read.get(name, [])
        is_array = isinstance(values, Sequence) and not isinstance(values, str)
        if not is_array or not all(isinstance(value, str) for value in values):
            bad(f"{param}.{name}", "an array of strings", read[name])
    if read.get("language") and read.pop("languages", None):
        warnings.append("`languages` has no effect with `language`.")
    delay = read.pop("delay", None)
    if delay is not None:
        if delay not in DELAYS:
            bad(f"{param}.delay", f"one of {', '.join(DELAYS)}", delay)
        warnings.append("`delay` is not supported: words come once they are sure.")
    if "prompt" in read and _terms(read["prompt"]) is None:
        del read["prompt"]
        warnings.append("`prompt` is not supported as free text: send words to expect, with commas between.")
    return read


def _terms(prompt: str | None) -> list[str] | None:
    """Return the terms of a prompt that is a list of words to expect; None where it is something else."""
    if not prompt:
        return []
    if len(prompt) > MAX_PROMPT:
        return None
    terms = [term.strip(" .\n") for term in prompt.removeprefix("Keywords:").split(",")]
    is_list = all(0 < len(term) <= MAX_TERM and len(term.split()) <= MAX_WORDS_IN_TERM for term in terms)
    return terms if is_list else None


def _turn_detection(given: object, param: str, warnings: list[str]) -> dict[str, Any] | None:
    if given is None:
        return None
    if not isinstance(given, Mapping):
        bad(param, "an object or null", given)
    kind = given.get("type", "server_vad")
    if kind == "semantic_vad":
        eagerness = given.get("eagerness") or "auto"
        if not isinstance(eagerness, str) or eagerness not in EAGERNESS_MS:
            bad(f"{param}.eagerness", f"one of {', '.join(EAGERNESS_MS)}", eagerness)
        silence = EAGERNESS_MS[eagerness]
        warnings.append(f"`semantic_vad` is not supported: a turn ends after {silence} ms of silence.")
        return {**SERVER_VAD, "silence_duration_ms": silence}
    if kind != "server_vad":
        bad(f"{param}.type", "'server_vad', 'semantic_vad' or null", kind)
    turns = dict(SERVER_VAD)
    turns["threshold"] = _number(
        given, "threshold", THRESHOLD, (0, 1), (MIN_THRESHOLD, MAX_THRESHOLD), param, warnings
    )
    turns["silence_duration_ms"] = _number(
        given,
        "silence_duration_ms",
        SILENCE_MS,
        (0, 60_000),
        (MIN_SILENCE_MS, MAX_SILENCE_MS),
        param,
        warnings,
    )
    padding = _number(given, "prefix_padding_ms", PREFIX_MS, (0, 60_000), (0, 60_000), param, warnings)
    if padding != PREFIX_MS:
        warnings.append(f"`prefix_padding_ms` cannot be set: it is {PREFIX_MS}.")
    if _number(given, "idle_timeout_ms", 0, (0, 3_600_000), (0, 3_600_000), param, warnings):
        warnings.append("`idle_timeout_ms` is not supported: silence ends nothing.")
    return turns


def _number(
    given: Mapping[str, Any],
    name: str,
    default: float,
    allowed: tuple[float, float],
    possible: tuple[float, float],
    param: str,
    warnings: list[str],
) -> float:
    value = given.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float):
        bad(f"{param}.{name}", "a number", value)
    if not allowed[0] <= value <= allowed[1]:
        bad(f"{param}.{name}", f"from {allowed[0]} to {allowed[1]}", value)
    taken = min(max(value, possible[0]), possible[1])
    if taken != value:
        warnings.append(f"`{name}` is {taken:g}: the nearest that can be had.")
    return taken


def _include(given: object, param: str) -> tuple[str, ...]:
    if not isinstance(given, Sequence) or isinstance(given, str) or any(name != LOGPROBS for name in given):
        bad(param, f"an array that holds at most '{LOGPROBS}'", given)
    return tuple(given)
