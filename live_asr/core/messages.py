"""The wire messages of protocol version 1, as types, and their JSON text.

Each field's annotation holds its reader (see `fields`), so a field is stated once: name, type, limits,
default. `decode(encode(m)) == m` for every message whose times lie on the wire's grid of 1 ms; any
other bytes raise `ClientError`. docs/protocol.md is the same contract in words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, TypeAlias

from live_asr.core.errors import ClientError, LiveAsrError, Unavailable, told
from live_asr.core.fields import (
    array,
    boolean,
    choice,
    flat_object,
    integer,
    language,
    language_or_auto,
    languages,
    nearest,
    number,
    optional,
    parse_json,
    plain,
    read_record,
    record,
    refuse,
    string,
    text_map,
    utc_time,
    web_url,
)
from live_asr.core.types import Word, seconds

ENCODINGS = ("pcm_s16le", "pcm_f32le", "mulaw", "alaw", "container")
INSIDE_AUDIO = {name: f"audio.{name}" for name in ("encoding", "sample_rate", "channels", "channel")}
LARGEST_METADATA_BYTES = 16 * 1024
MAX_TITLE = 200
MAX_SPEAKERS = 32
MAX_VOCABULARY = 200
CHANNEL_SPEAKERS = 2
"""So many channels may each be a speaker."""

Scalar: TypeAlias = str | int | float | bool | None
Text: TypeAlias = Annotated[str, string()]
Flag: TypeAlias = Annotated[bool, boolean]
Count: TypeAlias = Annotated[int, integer(0)]
Seq: TypeAlias = Annotated[int, integer(1)]
Seconds: TypeAlias = Annotated[float, number(0.0)]
Fraction: TypeAlias = Annotated[float, number(0.0, 1.0)]
MaybeLanguage: TypeAlias = Annotated[str | None, optional(language)]
Languages: TypeAlias = Annotated[tuple[str, ...], languages]
Vocabulary: TypeAlias = Annotated[tuple[str, ...], array(string(100, 1), MAX_VOCABULARY)]
UtcTime: TypeAlias = Annotated[str, utc_time]
MaybeText: TypeAlias = Annotated[str | None, optional(string())]
MaybeSilence: TypeAlias = Annotated[float | None, optional(number(0.2, 5.0))]
MaybeThreshold: TypeAlias = Annotated[float | None, optional(number(0.1, 0.9))]
MaybePatience: TypeAlias = Annotated[float | None, optional(number(0.0))]
MaybeCount: TypeAlias = Annotated[int | None, optional(integer(0))]
MaybeSpeakers: TypeAlias = Annotated[int | None, optional(integer(1, MAX_SPEAKERS))]
Metadata: TypeAlias = Annotated[Mapping[str, Scalar], flat_object(LARGEST_METADATA_BYTES)]


# What a client says ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """What the binary frames of a session hold; rate and channels mean nothing for a container."""

    encoding: Annotated[str, choice(*ENCODINGS)] = "pcm_s16le"
    sample_rate: Annotated[int, integer(8000, 48000)] = 16_000
    channels: Annotated[int, integer(1, 2)] = 1
    channel: Annotated[int | None, optional(integer(0, 1))] = None
    """The one that is heard, from 0 on, also of a container; all of them mixed where it is None."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Which session to take up again, and from which kept message on."""

    session: Annotated[str, string(200, 1)]
    token: Annotated[str, string(200, 1)]
    last_seq: Count = 0


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where to tell that the session is done."""

    url: Annotated[str, web_url]
    form: Annotated[str | None, optional(choice("deepgram"))] = None
    """Whose form what is told has; None for our own."""


@dataclass(frozen=True, slots=True)
class Start:
    """Open a session, or with `resume` take one up again; then the other fields mean nothing."""

    type: ClassVar[str] = "start"
    audio: Annotated[AudioFormat, record(AudioFormat, tolerant=False)] = AudioFormat()
    language: MaybeLanguage = None
    languages: Languages = ()
    """Those to choose from where `language` is None; all that there are where this is empty."""
    task: Annotated[str, choice("transcribe", "translate")] = "transcribe"
    vocabulary: Vocabulary = ()
    diarize: Flag = True
    min_speakers: MaybeSpeakers = None
    max_speakers: MaybeSpeakers = None
    interim: Flag = True
    pace: Annotated[str, choice("realtime", "fast")] = "realtime"
    final_pass: Flag = True
    end_silence: MaybeSilence = None
    """Seconds of silence that end an utterance; the server's setting where it is None."""
    vad_threshold: MaybeThreshold = None
    """Probability of speech from which an utterance begins; likewise."""
    webhook: Annotated[Webhook | None, optional(record(Webhook, tolerant=False))] = None
    metadata: Metadata = field(default_factory=dict)
    title: Annotated[str | None, optional(string(MAX_TITLE))] = None
    """What people call the session."""
    resume: Annotated[Resume | None, optional(record(Resume, tolerant=False))] = None
    channel_speakers: Flag = False
    """Each of the two channels is heard by itself, and is a speaker."""

    @property
    def heard_channels(self) -> int:
        """How many channels are heard, each by itself."""
        return CHANNEL_SPEAKERS if self.channel_speakers else 1


@dataclass(frozen=True, slots=True)
class Update:
    """Go on with other settings, from here in the audio on; what is None stays as it is."""

    type: ClassVar[str] = "update"
    language: Annotated[str | None, optional(language_or_auto)] = None
    """`auto` to have it detected from here on."""
    languages: Annotated[tuple[str, ...] | None, optional(languages)] = None
    vocabulary: Annotated[tuple[str, ...] | None, optional(array(string(100, 1), MAX_VOCABULARY))] = None
    interim: Annotated[bool | None, optional(boolean)] = None


@dataclass(frozen=True, slots=True)
class Time:
    """Say when a position of the audio was recorded, by the client's wall clock; one of both says which."""

    type: ClassVar[str] = "time"
    at: UtcTime
    sample: Annotated[int | None, optional(integer(0))] = None
    """Of the client's own stream, at its own rate."""
    audio_seconds: Annotated[float | None, optional(number(0.0, decimals=3))] = None
    """Since the session's first sample."""

    def position(self, audio: AudioFormat) -> float:
        """Return the position in seconds. Raises ClientError `bad_message` for samples of a container."""
        if self.audio_seconds is not None:
            return self.audio_seconds
        if self.sample is None or audio.encoding == "container":
            raise ClientError(
                "bad_message",
                "`sample` counts the samples of raw audio, and this session's audio is a container.",
                "Send `audio_seconds` instead.",
                close_code=1007,
            )
        return round(self.sample / audio.sample_rate, 3)


@dataclass(frozen=True, slots=True)
class Finalize:
    """Commit what has been heard so far and go on."""

    type: ClassVar[str] = "finalize"


@dataclass(frozen=True, slots=True)
class Pause:
    """Commit what has been heard; nobody is to be heard until `paused` is false, or until audio comes."""

    type: ClassVar[str] = "pause"
    paused: Flag = True


@dataclass(frozen=True, slots=True)
class Keepalive:
    """The client is there, though it sends no audio."""

    type: ClassVar[str] = "keepalive"


@dataclass(frozen=True, slots=True)
class Stop:
    """No more audio follows."""

    type: ClassVar[str] = "stop"


# What the server says ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WireWord:
    """One word as clients see it; `text` keeps its leading space."""

    text: Text
    start: Seconds
    end: Seconds
    probability: Fraction
    speaker: MaybeText
    source: Annotated[str | None, optional(string())] = None
    """In `final`, where the word comes from if not from the full pass's first reading."""


@dataclass(frozen=True, slots=True)
class RecognizerInfo:
    """The model that writes, where it runs, and the language codes it knows."""

    name: Text
    languages: Annotated[tuple[str, ...], array(string())]
    device: Text
    compute_type: Text


@dataclass(frozen=True, slots=True)
class SpeechDetectorInfo:
    """The model that finds speech."""

    name: Text


@dataclass(frozen=True, slots=True)
class Models:
    """The models behind a session."""

    recognizer: Annotated[RecognizerInfo, record(RecognizerInfo)]
    speech_detector: Annotated[SpeechDetectorInfo, record(SpeechDetectorInfo)]


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """Who answers."""

    name: Text
    version: Text


@dataclass(frozen=True, slots=True)
class Ready:
    """The session is open, or open again; the client sends from `received_bytes` on."""

    type: ClassVar[str] = "ready"
    session: Text
    token: Text
    received_bytes: Count
    last_seq: Count
    max_unacked_bytes: Count
    models: Annotated[Models, record(Models)]
    server: Annotated[ServerInfo, record(ServerInfo)]
    started_at: MaybeText = None
    """When the server saw the first audio, or, of a new session, opened it: ISO 8601, UTC."""
    idle_timeout: MaybePatience = None
    """Seconds without a frame of the client's after which the session ends; None: never."""
    resume_url: MaybeText = None
    """Address of the server, http or https, where a client that was cut off goes on; None: this one."""


@dataclass(frozen=True, slots=True)
class Ack:
    """Everything before `bytes` of the client's audio stream is safe."""

    type: ClassVar[str] = "ack"
    bytes: Count


@dataclass(frozen=True, slots=True)
class Speech:
    """Speech started or ended at `time`."""

    type: ClassVar[str] = "speech"
    state: Annotated[str, choice("started", "ended")]
    time: Seconds
    channel: Annotated[int | None, optional(integer(0))] = None
    """Where channels are speakers, on which of them, from 0 on."""


WireWords: TypeAlias = Annotated[tuple[WireWord, ...], array(record(WireWord))]


@dataclass(frozen=True, slots=True)
class Partial:
    """The unstable tail after the last commit; it replaces the one before."""

    type: ClassVar[str] = "partial"
    text: Text
    words: WireWords
    start: Seconds
    end: Seconds


@dataclass(frozen=True, slots=True)
class Commit:
    """Words appended to the transcript for good."""

    type: ClassVar[str] = "commit"
    seq: Seq
    words: WireWords
    text: Text
    utterance: Count


@dataclass(frozen=True, slots=True)
class Label:
    """The words from `from` to `to` are now known to be `speaker`'s."""

    type: ClassVar[str] = "label"
    seq: Seq
    from_: Seconds
    to: Seconds
    speaker: Text


@dataclass(frozen=True, slots=True)
class UtteranceMessage:
    """An utterance is complete."""

    type: ClassVar[str] = "utterance"
    seq: Seq
    utterance: Count
    start: Seconds
    end: Seconds
    text: Text
    speaker: MaybeText
    language: MaybeText


@dataclass(frozen=True, slots=True)
class Lag:
    """How far the captions are behind the audio."""

    type: ClassVar[str] = "lag"
    received: Seconds
    committed: Seconds
    seconds: Seconds


@dataclass(frozen=True, slots=True)
class Finalized:
    """Everything heard before `finalize`, up to `time`, is committed."""

    type: ClassVar[str] = "finalized"
    time: Seconds


@dataclass(frozen=True, slots=True)
class Updated:
    """From `time` on these settings are in force: the answer to `update`."""

    type: ClassVar[str] = "updated"
    seq: Seq
    time: Seconds
    language: MaybeText
    languages: Annotated[tuple[str, ...], array(string())]
    vocabulary: Annotated[tuple[str, ...], array(string())]
    interim: Flag


@dataclass(frozen=True, slots=True)
class Timed:
    """The position `audio`, in seconds, was recorded `at`: the answer to `time`."""

    type: ClassVar[str] = "timed"
    seq: Seq
    audio: Seconds
    at: UtcTime


@dataclass(frozen=True, slots=True)
class Paused:
    """Whether the talk is paused from `time` on: the answer to `pause`."""

    type: ClassVar[str] = "paused"
    seq: Seq
    time: Seconds
    paused: Flag


@dataclass(frozen=True, slots=True)
class Stopped:
    """The live transcript is complete."""

    type: ClassVar[str] = "stopped"
    seq: Seq
    duration: Seconds
    text: Text


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the final pass is."""

    type: ClassVar[str] = "progress"
    stage: Text
    fraction: Fraction
    position: MaybeCount = None
    """How many other sessions' passes come before; None where it is not waiting, or nobody knows."""


@dataclass(frozen=True, slots=True)
class FinalSegment:
    """A stretch of the final transcript by one speaker."""

    start: Seconds
    end: Seconds
    speaker: MaybeText
    text: Text
    words: WireWords


@dataclass(frozen=True, slots=True)
class FinalSpeaker:
    """A speaker of the final transcript, with the live labels that became this one."""

    label: Text
    live_labels: Annotated[tuple[str, ...], array(string())]
    duration: Seconds
    turns: Count


@dataclass(frozen=True, slots=True)
class ClockPoint:
    """When a position of the audio was recorded, as the client said."""

    audio: Seconds
    at: UtcTime


@dataclass(frozen=True, slots=True)
class Final:
    """The transcript's best revision and where to fetch it."""

    type: ClassVar[str] = "final"
    seq: Seq
    revision: Count
    duration: Seconds
    language: MaybeText
    text: Text
    segments: Annotated[tuple[FinalSegment, ...], array(record(FinalSegment))]
    speakers: Annotated[tuple[FinalSpeaker, ...], array(record(FinalSpeaker))]
    links: Annotated[Mapping[str, str], text_map]
    labels: Annotated[str | None, optional(choice("full", "live"))] = None
    """Where the speakers come from: the full pass, or, where that failed or was not wanted, the live labels;
    None where nobody was told apart."""
    started_at: MaybeText = None
    """When the server saw the first audio: ISO 8601, UTC; None where that is not known."""
    clock: Annotated[tuple[ClockPoint, ...], array(record(ClockPoint))] = ()
    """In the order of the audio."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the user should know and can live with."""

    type: ClassVar[str] = "notice"
    code: Text
    message: Text


@dataclass(frozen=True, slots=True)
class Error:
    """What went wrong; the connection is closed next. `retry_after` is in seconds."""

    type: ClassVar[str] = "error"
    code: Text
    message: Text
    hint: Text
    retry_after: Annotated[float | None, optional(number(0.0))] = None


ClientMessage: TypeAlias = Start | Update | Time | Finalize | Pause | Keepalive | Stop
KeptMessage: TypeAlias = Commit | Label | UtteranceMessage | Updated | Timed | Paused | Stopped | Final
ServerMessage: TypeAlias = (
    Ready | Ack | Speech | Partial | Lag | Finalized | Progress | Notice | Error | KeptMessage
)
Message: TypeAlias = ClientMessage | ServerMessage

KEPT = (Commit, Label, UtteranceMessage, Updated, Timed, Paused, Stopped, Final)
"""The messages that change the record: they carry `seq` and are never dropped."""
EPHEMERAL = (Ready, Ack, Speech, Partial, Lag, Finalized, Progress, Notice, Error)
CLIENT_TYPES: Mapping[str, type[Any]] = {
    cls.type: cls for cls in (Start, Update, Time, Finalize, Pause, Keepalive, Stop)
}
SERVER_TYPES: Mapping[str, type[Any]] = {cls.type: cls for cls in (*EPHEMERAL, *KEPT)}


# Between messages and bytes ----------------------------------------------------------------------


def encode(message: Message) -> bytes:
    """Write a message as one line of UTF-8 JSON, the payload of a text frame.

    A lone surrogate, which UTF-8 cannot hold, goes out as a question mark.
    """
    text = json.dumps(to_dict(message), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "replace")


def to_dict(message: Message) -> dict[str, Any]:
    """Return a message as the JSON object that stands for it.

    Numbers are rounded to the wire's three decimals. A field that is None by default is left out.
    """
    return {"type": message.type, **plain(message)}


def decode_client(text: str | bytes) -> ClientMessage:
    """Read a client's text frame.

    Raises ClientError, all with close code 1007: `not_json` for what is not one JSON value, `bad_message`
    for JSON that is no client message of this protocol.
    """
    return client_from_dict(parse_json(text))


def decode_server(text: str | bytes) -> ServerMessage:
    """Read a server's text frame; unknown fields are ignored, since the server may be newer.

    Raises ClientError as `decode_client` does.
    """
    return server_from_dict(parse_json(text))


def client_from_dict(value: object) -> ClientMessage:
    """Read a client's message from parsed JSON; raises ClientError `bad_message`."""
    message: ClientMessage = read_record(
        _type_of(value, CLIENT_TYPES), value, tolerant=False, elsewhere=INSIDE_AUDIO
    )
    if isinstance(message, Start):
        _check_speakers(message)
        _check_channel(message)
    if isinstance(message, Time) and (message.sample is None) == (message.audio_seconds is None):
        raise ClientError(
            "bad_message",
            "A `time` names one position, either by `audio_seconds` or by `sample`.",
            "Send one of both.",
            close_code=1007,
        )
    return message


def server_from_dict(value: object) -> ServerMessage:
    """Read a server's message from parsed JSON; raises ClientError `bad_message`."""
    message: ServerMessage = read_record(_type_of(value, SERVER_TYPES), value, tolerant=True)
    return message


def _check_speakers(start: Start) -> None:
    low, high = start.min_speakers, start.max_speakers
    if low is not None and high is not None and low > high:
        refuse("min_speakers", f"at most `max_speakers`, which is {high}", low)


def _check_channel(start: Start) -> None:
    audio = start.audio
    if start.channel_speakers and audio.channel is not None:
        refuse("audio.channel", "left out where `channel_speakers` is true", audio.channel)
    if start.channel_speakers and audio.encoding != "container" and audio.channels != CHANNEL_SPEAKERS:
        refuse("audio.channels", f"{CHANNEL_SPEAKERS} where `channel_speakers` is true", audio.channels)
    if audio.channel is not None and audio.encoding != "container" and audio.channel >= audio.channels:
        refuse("audio.channel", f"below `audio.channels`, which is {audio.channels}", audio.channel)


def _type_of(value: object, types: Mapping[str, type[Any]]) -> type[Any]:
    if not isinstance(value, Mapping):
        refuse("message", "a JSON object with a `type`", value)
    name = value.get("type")
    if not isinstance(name, str) or name not in types:
        near = nearest(name, types) if isinstance(name, str) else None
        allowed = "one of " + ", ".join(f"'{known}'" for known in types)
        refuse("type", allowed, name, f"Did you mean '{near}'?" if near else "")
    return types[name]


# From the record and from errors -----------------------------------------------------------------


def wire_word(word: Word) -> WireWord:
    """Return a word as clients see it: times in seconds, probability to three decimals."""
    probability = round(min(max(word.probability, 0.0), 1.0), 3)
    return WireWord(
        word.text,
        seconds(word.start_sample),
        seconds(word.end_sample),
        probability,
        word.speaker,
        word.source,
    )


def error_message(error: LiveAsrError) -> Error:
    """Return the message that tells a peer about `error`."""
    retry_after = error.retry_after if isinstance(error, Unavailable) else None
    public = told(error)
    return Error(public.code, public.message, public.hint, retry_after)
