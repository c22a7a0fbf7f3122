"""Settings: one statement each, from four places.

A setting's type, default, limits and meaning are stated once, below. Its value is the last of: default,
TOML file, environment variable `LIVE_ASR_SECTION__KEY`, command-line flag. An unknown key is an error
anywhere, because a setting that silently does nothing is worse than one that is refused.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from live_asr.config.values import (
    Devices,
    EngineAddress,
    Folder,
    Items,
    OptionalBytes,
    OptionalCount,
    OptionalDays,
    OptionalFile,
    OptionalFolder,
    OptionalHours,
    OptionalLanguage,
    OptionalObjects,
    OptionalPort,
    OptionalSecret,
    OptionalSpeakers,
    OptionalText,
    OptionalToken,
    OptionalUrl,
    Proxies,
    Receivers,
    RootPath,
    shown,
)
from live_asr.core.errors import ConfigError
from live_asr.core.urls import receiver_of

ENV_PREFIX = "LIVE_ASR_"
ENV_FILE = "LIVE_ASR_CONFIG"
DEFAULT_FILE = "live-asr.toml"
COUNTED_SESSIONS = 8
"""Places where sessions are counted and nobody says how many there are."""
LOCAL_ENGINE = "local"
"""`inference.engine` where this machine recognises."""
KUBERNETES = re.compile(
    r"LIVE_ASR_(SERVICE_(HOST|PORT(_\w+)?)=.*|PORT(_\d+_(TCP|UDP))?=\w+://.*|PORT_\d+_(TCP|UDP)_(PROTO|PORT|ADDR)=.*)"
)
"""What Kubernetes itself puts into every container beside a service named `live-asr`; not settings."""


class Section(BaseModel):
    """Base of all sections: frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class ServerSettings(Section):
    """The address, who may connect, and how much of it."""

    host: str = Field(
        default="127.0.0.1",
        description="Address to listen on. Only this machine by default: browsers give their microphone to "
        "localhost without a certificate, and to other hosts only over HTTPS. The container sets 0.0.0.0.",
    )
    port: int = Field(default=8765, ge=0, le=65535, description="TCP port to listen on; 0 takes a free one.")
    wyoming_port: OptionalPort = Field(
        default=None,
        description="TCP port for Wyoming, by which Home Assistant asks for transcripts; 0 takes a free one. "
        "It has no token and no encryption: for networks that are trusted. Unset: it is not served.",
    )
    token: OptionalToken = Field(
        default=None,
        description="Secret that clients must present as a bearer token: at least 8 letters, digits, - and "
        "_; not base64's = and /, which browsers cannot send. Unset: nobody is asked on an address of this "
        "machine alone; on others a token is made at the first start, kept in the data folder and printed.",
    )
    insecure: bool = Field(
        default=False,
        description="Ask nobody for a token on an address that others reach, too: whoever reaches it may "
        "caption, read and erase.",
    )
    allowed_origins: Items = Field(
        default=(),
        description="Origins whose pages may connect besides the server's own, e.g. https://example.org; "
        "separated by commas in the environment. * allows any.",
    )
    allowed_hosts: Items = Field(
        default=(),
        description="Names by which this server may be asked for, besides its own and numeric addresses, "
        "where it has no token, e.g. captions.example.org; separated by commas in the environment. Any other "
        "name is refused: a page elsewhere could have its own lead here. * allows any.",
    )
    root_path: RootPath = Field(
        default="",
        description="Path under which a reverse proxy serves this server, e.g. /captions, whether the proxy "
        "cuts it off or passes it on. A trusted proxy may name it in X-Forwarded-Prefix instead.",
    )
    public_url: OptionalUrl = Field(
        default=None,
        description="Address of this server as others reach it, e.g. https://example.org/captions: links in "
        "webhooks begin with it. Unset: they are paths.",
    )
    resume_url: OptionalUrl = Field(
        default=None,
        description="Address at which a client that was cut off goes on, http or https: of a server with the "
        "same storage.journal, or of what stands before several. Pages go there, too, where "
        "server.allowed_origins names theirs at that server. Unset: it comes back to where it was.",
    )
    trusted_proxies: Proxies = Field(
        default=("127.0.0.1", "::1"),
        description="Addresses and networks of reverse proxies, e.g. 10.0.0.0/8, whose X-Forwarded-Prefix, "
        "-Host, -Proto and -For are believed; separated by commas in the environment. * believes anybody.",
    )
    admission: Literal["load", "count"] = Field(
        default="load",
        description="Which sessions are taken: as many as the machine is predicted to carry, by what they "
        "were seen to take (load), or as many as server.max_sessions says, whatever they take (count).",
    )
    max_sessions: OptionalCount = Field(
        default=None,
        description="Sessions at once, at most; the next one is refused. Unset: no bound but the load; with "
        f"server.admission = count, {COUNTED_SESSIONS}.",
    )
    max_sessions_per_client: OptionalCount = Field(
        default=None,
        description="Of them, those of one address at most, and those of one token: of that, at all servers "
        "that share a journal. Unset: three quarters; for this machine itself, and server.token, all.",
    )
    max_session_hours: float = Field(
        default=12.0, gt=0, description="Hours of audio in a session; then it ends as if stopped."
    )
    max_session_bytes: int = Field(
        default=8 * 1024**3,
        ge=65_536,
        description="Bytes of audio that a session may send, and take on disk; then it ends as if stopped.",
    )
    token_hours_per_day: OptionalHours = Field(
        default=None,
        description="Hours of audio that one token, with those made with it, may send in 24 hours; "
        "server.token has no bound. Unset: any number.",
    )
    max_connections_per_address: OptionalCount = Field(
        default=None,
        description="Connections at once of one address, of any kind; those of trusted proxies, this machine "
        "among them, are not counted. Unset: 500.",
    )
    max_viewers: int = Field(
        default=1000,
        ge=1,
        description="Viewers at once. Three quarters of them may watch one session, and half come from one "
        "address, unless that is this machine's.",
    )
    watch_link_days: float = Field(
        default=30.0,
        gt=0,
        description="Days for which a link for an audience counts, where there are tokens.",
    )
    requests_per_minute: int = Field(
        default=600,
        ge=1,
        description="Requests a minute below /v1 of one address, unless it is this machine's, and of one "
        "token; as many at once. More get 429.",
    )
    audit_log: OptionalText = Field(
        default=None,
        description="File for a line of JSON for each session that is opened, read, renamed, exported or "
        "erased, and each wrong token; - for stdout. Never a word of what was said. Unset: none.",
    )
    tls_cert: OptionalFile = Field(
        default=None,
        description="File with the certificate, and those between it and an authority (PEM): the server then "
        "speaks HTTPS itself. Both files are read again when they change.",
    )
    tls_key: OptionalFile = Field(default=None, description="File with the certificate's key (PEM).")
    start_timeout: float = Field(default=10.0, gt=0, description="Seconds that a client has for its `start`.")
    resume_window: float = Field(
        default=120.0,
        ge=0,
        le=86_400,
        description="Seconds for which a session whose connection is lost keeps its place and waits for its "
        "client. After that it ends as if stopped. 0: at once.",
    )
    idle_timeout: float = Field(
        default=300.0,
        ge=0,
        description="Seconds after which a session ends whose client sends nothing: no audio (silence is "
        "audio), no `keepalive`. A minute before, it is told so. In a pause it is an hour. 0: never.",
    )
    max_unacked_bytes: int = Field(
        default=1_048_576,
        ge=65_536,
        description="Bytes of audio that a client may have in flight unacknowledged; a live one half a "
        "minute of what it sends, where that is more.",
    )
    max_upload_bytes: int = Field(
        default=4 * 1024**3,
        ge=65_536,
        description="Largest file that is taken over HTTP; it is kept on disk while it is worked off.",
    )
    keepalive: float = Field(
        default=15.0,
        ge=0.1,
        description="Seconds without an event after which a stream of a file's captions over HTTP carries a "
        "comment, so that nobody takes the line for dead.",
    )
    drain_timeout: float = Field(
        default=30.0,
        ge=0,
        description="Seconds that sessions which have been stopped get to complete their live transcript "
        "when the server is told to stop; with jobs.on_stop=finish, a worker's running jobs get the same.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least severity that is logged."
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="Lines for people, or one JSON object a line for machines."
    )


class StorageSettings(Section):
    """What is kept, and where."""

    data: Folder = Field(
        default_factory=lambda: platformdirs.user_data_path("live-asr", appauthor=False),
        description="Folder of everything the server keeps.",
        json_schema_extra={"shown": "the user's data folder"},
    )
    database: OptionalSecret = Field(
        default=None,
        description="URL of the database of sessions and deliveries, as SQLAlchemy writes it, e.g. "
        "postgresql+psycopg://user:password@host/name. Unset: SQLite in the data folder.",
    )
    journal: OptionalSecret = Field(
        default=None,
        description="URL of a PostgreSQL in which sessions are kept with their audio, and all that "
        "storage.database holds, for several servers together. Unset: files in the data folder.",
    )
    objects: OptionalObjects = Field(
        default=None,
        description="Where what is finished goes: audio of sessions that are over, where it is kept, as "
        "FLAC, their messages where PostgreSQL holds them, and their result as JSON. s3://bucket/prefix, "
        "with endpoint and credentials by environment (AWS_…) or the machine's role, or file:///folder, "
        "which all servers reach. Unset: nowhere.",
    )
    object_links: int = Field(
        default=3600,
        ge=0,
        le=604_800,
        description="Seconds for which a link to audio in S3 is good that players are led to. 0: none, audio "
        "is passed on by the server, for a store that they do not reach.",
    )
    keep_audio: bool = Field(
        default=False, description="Keep a session's audio after its transcript is complete."
    )
    keep_transcripts_days: OptionalDays = Field(
        default=None,
        description="Days after its end for which a session is kept; then all of it is erased, and a "
        "webhook that was not delivered. Unset: until somebody erases it.",
    )
    keep_audio_days: OptionalDays = Field(
        default=None,
        description="Days after its end for which the audio of a session is kept, where keep_audio keeps it "
        "or the session failed. Unset: as long as the session.",
    )
    fsync_interval: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="Seconds between two flushes to disk: how much a power cut may take. "
        "Audio is acknowledged once it is flushed, so at most 1.",
    )


class ModelsSettings(Section):
    """Which models, and where their weights are."""

    dir: Folder = Field(
        default_factory=lambda: platformdirs.user_cache_path("live-asr", appauthor=False) / "models",
        description="Folder in which fetched weights are kept.",
        json_schema_extra={"shown": "the user's cache folder"},
    )
    local: OptionalFolder = Field(
        default=None,
        description="Folder with a folder for each model, named like it; used as they are, first of all.",
    )
    recognizer: str = Field(
        default="auto",
        min_length=1,
        description="Name or folder of the recogniser. auto: large-v3-turbo with a GPU, else base.",
    )
    speech_detector: str = Field(
        default="silero-vad", min_length=1, description="Name or folder of the speech detector."
    )
    speaker_encoder: str = Field(
        default="campplus",
        min_length=1,
        description="Name or folder of the model that tells voices apart live: campplus, ge2e, which is "
        "lighter, wespeaker from the hub, or any in ONNX on Kaldi's features.",
    )
    segmentation: str = Field(
        default="segmentation-3.0",
        min_length=1,
        description="Name or folder of the model that finds changes of speaker.",
    )
    offline: bool = Field(default=False, description="Never fetch weights; what is not here is an error.")


class InferenceSettings(Section):
    """What the models run on."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="auto: the GPU if there is one."
    )
    devices: Devices = Field(
        default=(),
        description="Several devices, a process for each, e.g. cuda:0,cuda:1; work goes to the one with the "
        "least to do. cpu may stand there more than once, each time for its share of the cores. Unset: one, "
        "by inference.device.",
    )
    compute_type: Literal[
        "auto", "int8", "int8_float16", "int8_float32", "float16", "bfloat16", "float32"
    ] = Field(
        default="auto", description="Arithmetic of the recogniser. auto: float16 on a GPU, int8 on a CPU."
    )
    kernels: Literal["auto", "plain"] = Field(
        default="auto",
        description="What a CPU computes with. auto: the fastest of what CTranslate2 has for it and that "
        "writes the same words, tried at the first start and kept beside the weights; plain: what it takes "
        "by itself.",
    )
    beam_size: int = Field(
        default=2,
        ge=1,
        le=5,
        description="Hypotheses that the decoder follows at once. In short windows the second costs little "
        "and mends words; more bring nothing.",
    )
    workers: int = Field(
        default=0,
        ge=0,
        le=64,
        description="Windows decoded at the same time, each on one CPU core; 0: by the machine.",
    )
    decode_timeout: float = Field(
        default=30.0,
        gt=0,
        description="Seconds after its start at which a decode counts as hung and its process is replaced.",
    )
    engine: EngineAddress = Field(
        default=LOCAL_ENGINE,
        description="Who recognises live: this machine (local), or workers in a Ray cluster: the one that "
        "this machine belongs to (ray), or one by its address, e.g. ray://head:10001; see docs/cluster.md.",
    )


class ClusterSettings(Section):
    """Workers in a Ray cluster, where inference.engine names one."""

    namespace: str = Field(
        default="live-asr",
        pattern=r"^[A-Za-z0-9._-]+$",
        description="Ray namespace of the workers: servers that name the same one share them.",
    )
    min_workers: int = Field(default=1, ge=1, description="Workers that there are at least, each a device.")
    max_workers: int = Field(
        default=8,
        ge=1,
        description="Workers at most. There are as many as the sessions are predicted to need, and Ray gives "
        "them: a cluster that grows gets a machine for one that waits.",
    )
    worker_cpus: float = Field(
        default=1.0,
        gt=0,
        description="CPUs of Ray that a worker takes; without a GPU, also how many lanes it has.",
    )
    worker_gpus: float = Field(
        default=1.0,
        gt=0,
        description="GPUs of Ray that a worker takes: a whole one, or less where others share it. "
        "inference.device says whether workers are on GPUs; auto: where the cluster has any.",
    )
    full_passes: int = Field(
        default=1,
        ge=0,
        le=64,
        description="Full passes of this server at once, in the cluster. 0: on this machine.",
    )
    full_pass_gpus: float = Field(
        default=0.25,
        gt=0,
        description="GPUs of Ray that a full pass takes where workers are on GPUs: what "
        "cluster.worker_gpus leaves of one, or of others.",
    )


class StreamingSettings(Section):
    """The streaming policy; the defaults are measured, see the decision records."""

    language: OptionalLanguage = Field(
        default=None,
        description="Language of sessions that name none, e.g. en or pt-BR. Unset: it is detected.",
    )
    step: float = Field(
        default=0.7, ge=0.2, le=5, description="Seconds of new audio between two decodes of an utterance."
    )
    first_step: float = Field(
        default=0.8, ge=0.2, le=5, description="Seconds of an utterance before its first decode."
    )
    window: float = Field(
        default=7.0, ge=2, le=20, description="Seconds of audio in a decode above which it is trimmed."
    )
    carry: float = Field(
        default=5.0,
        ge=0,
        le=15,
        description="Seconds of earlier audio, with its committed words, that an utterance starts with.",
    )
    edge_guard: float = Field(
        default=0.5,
        ge=0,
        le=3,
        description="Seconds before the end of what was heard in which no word is committed yet.",
    )
    doubt: float = Field(
        default=0.7,
        ge=0,
        le=1,
        description="Probability below which a word has to be confirmed once more before it is committed.",
    )
    end_silence: float = Field(
        default=0.5, ge=0.1, le=5, description="Seconds of silence that end an utterance."
    )
    vad_threshold: float = Field(
        default=0.5, gt=0, lt=1, description="Probability of speech, 0 to 1, from which an utterance begins."
    )
    max_utterance: float = Field(
        default=30.0,
        ge=5,
        le=600,
        description="Seconds after which an utterance is ended at the next good place.",
    )


class FinalSettings(Section):
    """The full pass, which settles what was said and by whom when a session is over."""

    pipeline: str = Field(
        default="auto",
        min_length=1,
        description="Folder of a pyannote pipeline, its name on the hub with a revision (NAME@COMMIT), or "
        "local: the weights that packages ship. "
        "auto: community-1 where it is here already, else local.",
    )
    recognize: bool = Field(
        default=True, description="Recognise the whole recording once more, in full windows of 30 s."
    )
    recognizer: OptionalText = Field(
        default=None, description="Name or folder of the recogniser for that. Unset: the live one."
    )
    max_waiting: int = Field(
        default=100,
        ge=1,
        description="Sessions of one token or address that may wait for their full pass. Beyond that the "
        "live captions are the result. Clients take turns, however many each has waiting.",
    )


class WebhookSettings(Section):
    """Where to tell that a session is over."""

    url: OptionalUrl = Field(
        default=None,
        repr=False,  # nor is more of it shown elsewhere than its host
        description="Address, http or https, that is told of every session that names none itself.",
    )
    secret: OptionalSecret = Field(
        default=None,
        description="Key that deliveries are signed with (Standard Webhooks), whsec_ and base64. "
        "Unset: one is made at the first start and kept in the data folder.",
    )
    bearer: OptionalSecret = Field(
        default=None,
        description="Token that deliveries to webhook.url, and to no other address, carry as "
        "`Authorization: Bearer`, for receivers that do not check signatures.",
    )
    max_bytes: OptionalBytes = Field(
        default=None,
        description="Size of a body above which a notice is sent in its place: the same without words, and "
        "with links to them. One that is answered with 413 is replaced likewise. Unset: no bound.",
    )
    client_urls: Literal["auto", "off", "allowlist", "any"] = Field(
        default="auto",
        description="Whether clients may name receivers: off, allowlist (those of webhook.allowed) or any. "
        "auto: any for clients with a token that has the scope webhook, or where allow_private is set; "
        "else off.",
    )
    allowed: Receivers = Field(
        default=(),
        description="Hosts and networks that may be called though they are private or on other ports than 80 "
        "and 443, e.g. hooks.example.org:8443, 10.1.0.0/16; separated by commas in the environment. Metadata "
        "services of clouds never are.",
    )
    allow_private: bool = Field(
        default=False,
        description="Deliver to loopback, private and link-local addresses and to any port: whoever may name "
        "receivers can then have this server call hosts of your network. Better: webhook.allowed.",
    )


class JobsSettings(Section):
    """Recordings that come as jobs: from a queue, over HTTP or out of folders."""

    queue_url: OptionalUrl = Field(
        default=None,
        description="SQS queue that `live-asr worker` takes jobs from, by its URL.",
    )
    dlq_url: OptionalUrl = Field(
        default=None,
        description="SQS queue that messages go to which are no jobs, or whose jobs failed for good, "
        "each with "
        "the reason as an attribute. Unset: what the queue's own redrive policy says.",
    )
    region: OptionalText = Field(
        default=None,
        description="AWS region. Unset: that of the queue's URL, else what boto3 finds by itself.",
    )
    bucket: OptionalText = Field(
        default=None, description="Bucket of recordings that are named by their key alone."
    )
    result_prefix: OptionalText = Field(
        default=None,
        description="Where results are written as JSON and VTT besides, e.g. s3://bucket/transcripts/. "
        "Unset: nowhere.",
    )
    lanes: int = Field(
        default=1, ge=1, le=64, description="Jobs at once, each with models of its own in memory."
    )
    poll_wait: int = Field(
        default=20, ge=0, le=20, description="Seconds that a request to the queue waits for a message."
    )
    visibility: int = Field(
        default=120,
        ge=2,
        le=43_200,
        description="Seconds for which a message is hidden from other workers. It is renewed for as "
        "long as the "
        "job runs, so it only says how soon another worker takes over from one that died.",
    )
    max_receives: int = Field(
        default=3,
        ge=1,
        le=1000,
        description="How many times a message is received before its job fails for good; fewer where "
        "the queue's redrive policy says so.",
    )
    on_stop: Literal["release", "finish"] = Field(
        default="release",
        description="What becomes of running jobs when the worker is told to stop. release: they are "
        "given back "
        "to the queue at once. finish: they get server.drain_timeout first.",
    )
    max_bytes: int = Field(default=4 * 1024**3, ge=1024, description="Largest recording that is downloaded.")
    download_timeout: float = Field(
        default=1800.0, gt=0, description="Seconds that the download of a recording takes at most."
    )
    max_hours: float = Field(default=12.0, gt=0, description="Longest recording, in hours.")
    allow_private: bool = Field(
        default=False,
        description="Download from loopback, private and link-local addresses, and over http, too: "
        "whoever may "
        "write to the queue can then have the worker call hosts of your network.",
    )
    files: OptionalFolder = Field(
        default=None,
        description="Folder below which file:// may name recordings. Unset: file:// is refused.",
    )
    diarize: bool = Field(default=True, description="Tell speakers apart.")
    min_speakers: OptionalSpeakers = Field(
        default=None, description="Least number of speakers of jobs that say none."
    )
    max_speakers: OptionalSpeakers = Field(default=None, description="Most speakers of jobs that say none.")
    metrics_port: OptionalPort = Field(
        default=None,
        description="TCP port on which the worker serves Prometheus metrics, on server.host. Unset: none.",
    )
    emf: bool = Field(
        default=False,
        description="Write metrics to stdout in CloudWatch's embedded metric format.",
    )


class Settings(Section):
    """All settings, frozen."""

    server: ServerSettings = Field(default_factory=ServerSettings)
    storage: StorageSettings = Field(default_factory=StorageSettings)
    models: ModelsSettings = Field(default_factory=ModelsSettings)
    inference: InferenceSettings = Field(default_factory=InferenceSettings)
    cluster: ClusterSettings = Field(default_factory=ClusterSettings)
    streaming: StreamingSettings = Field(default_factory=StreamingSettings)
    final: FinalSettings = Field(default_factory=FinalSettings)
    webhook: WebhookSettings = Field(default_factory=WebhookSettings)
    jobs: JobsSettings = Field(default_factory=JobsSettings)


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and where each came from."""

    settings: Settings
    origins: Mapping[str, str]
    """`section.key` → `default`, the file's name, the variable's name, or `flag`."""

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """Yield (`section.key`, value as text, origin) for each setting; what may be secret is masked."""
        for key, field in known_keys().items():
            section, name = key.split(".")
            value = getattr(getattr(self.settings, section), name)
            text = shown(value) if field.repr or value is None else f"{receiver_of(value)}/…"
            yield key, text, self.origins[key]


def known_keys() -> dict[str, FieldInfo]:
    """Return every setting's statement by its `section.key`, in order."""
    sections: dict[str, Any] = {name: field.annotation for name, field in Settings.model_fields.items()}
    return {
        f"{name}.{key}": field
        for name, section in sections.items()
        for key, field in section.model_fields.items()
    }


def variable(key: str) -> str:
    """Name the environment variable of a `section.key`."""
    return ENV_PREFIX + key.replace(".", "__").upper()


def load_settings(
    config_file: Path | None = None,
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    *,
    usual_names: Callable[[Mapping[str, str]], dict[str, tuple[Any, str]]] = lambda _: {},
) -> Loaded:
    """Read the settings: defaults, then the file, then the environment, then the flags.

    `usual_names` reads variables that others have named: (value, name) by `section.key`. They come after
    the file and before ours.

    The file is `config_file`, else the one that LIVE_ASR_CONFIG names, else `live-asr.toml` here if there
    is one. `flags` maps `section.key` to a value; None stands for a flag that was not given. Raises
    ConfigError, which names the setting, where it was set, and for unknown ones the nearest.
    """
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    origins = dict.fromkeys(known_keys(), "default")
    for layer in (
        _from_file(config_file, environment),
        usual_names(environment),
        _from_environment(environment),
        _from_flags(flags or {}),
    ):
        for key, (value, origin) in layer.items():
            values[key], origins[key] = value, origin
    nested: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        section, name = key.split(".")
        nested.setdefault(section, {})[name] = value
    try:
        return Loaded(Settings.model_validate(nested), origins)
    except ValidationError as error:
        raise _explain(error, origins) from None  # its text repeats the values, and one may be the token


def _from_file(config_file: Path | None, environment: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    path = config_file or (Path(environment[ENV_FILE]) if environment.get(ENV_FILE) else None)
    if path is None:
        path = Path(DEFAULT_FILE)
        if not path.is_file():
            return {}
    try:
        tables = tomllib.loads(path.expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"The configuration file {path} cannot be read: {error.strerror}.",
            "Check --config or LIVE_ASR_CONFIG.",
        ) from error
    except ValueError as error:  # not TOML, or not UTF-8
        raise ConfigError(f"{path} is not TOML: {error}.", "Correct it there.") from error
    layer = {}
    for section, table in tables.items():
        if section not in Settings.model_fields:
            raise _unknown(section, Settings.model_fields, f"section in {path}")
        if not isinstance(table, dict):
            raise ConfigError(f"{section} in {path} is a section.", f"Write its settings below [{section}].")
        for name, value in table.items():
            key = f"{section}.{name}"
            if key not in known_keys():
                raise _unknown(key, known_keys(), f"setting in {path}")
            layer[key] = (value, str(path))
    return layer


def _from_environment(environment: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    names = {variable(key): key for key in known_keys()}
    layer = {}
    for name, value in environment.items():
        if not name.startswith(ENV_PREFIX) or name == ENV_FILE or KUBERNETES.fullmatch(f"{name}={value}"):
            continue
        if name not in names:
            raise _unknown(name, names, "environment variable")
        layer[names[name]] = (value, name)
    return layer


def _from_flags(flags: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
    for key in flags:
        if key not in known_keys():
            raise _unknown(key, known_keys(), "flag")
    return {key: (value, "flag") for key, value in flags.items() if value is not None}


def _unknown(name: str, known: Mapping[str, Any], what: str) -> ConfigError:
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"Did you mean {nearest[0]}?" if nearest else f"Known are: {', '.join(known)}."
    return ConfigError(f"Unknown {what}: {name}.", hint)


def _explain(error: ValidationError, origins: Mapping[str, str]) -> ConfigError:
    """Turn the first of pydantic's findings into a sentence; the second is met on the next try."""
    finding = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in finding["loc"][:2])
    field = known_keys()[key]
    hidden = "Secret" in str(field.annotation) or not field.repr
    given = "what it is" if hidden else repr(finding["input"])
    complaint = finding["msg"].removeprefix("Value error, ").replace("Input should be", "it should be")
    return ConfigError(
        f"{key} cannot be {given}: {complaint[0].lower()}{complaint[1:]} (set by {origins[key]}).",
        f"Meaning: {field.description}",
    )
