"""The command line. Heavy modules are imported by the command that needs them."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from live_asr import __version__
from live_asr.cli import cluster, tokens, webhooks
from live_asr.core.errors import ConfigError, LiveAsrError, WeightsError
from live_asr.core.messages import MAX_SPEAKERS

if TYPE_CHECKING:
    from live_asr.config.settings import Loaded, Settings
    from live_asr.weights.resolver import ModelSet
    from live_asr.weights.sources import Progress

UsualNames = Callable[[Mapping[str, str]], dict[str, tuple[Any, str]]]
USUAL_QUEUE = "AWS_SQS_ASR_QUEUE_URL"
"""Set where a worker is at home."""
USAGE_ERROR = 2
FAILURE = 1

app = typer.Typer(
    name="live-asr",
    help="Live captions while people speak.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
models = typer.Typer(help="List, fetch and verify models.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(models, name="models")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(tokens.app, name="tokens")
app.add_typer(cluster.app, name="cluster")

ConfigFlag = Annotated[Path | None, typer.Option("--config", help="TOML file with settings.")]
HostFlag = Annotated[str | None, typer.Option("--host", help="Address to listen on.")]
PortFlag = Annotated[int | None, typer.Option("--port", help="TCP port to listen on.")]
DataFlag = Annotated[Path | None, typer.Option("--data", help="Folder of everything the server keeps.")]
LanguageFlag = Annotated[
    str | None, typer.Option(help="Language spoken, e.g. en, pt-BR or german; without it, detected.")
]
VocabularyFlag = Annotated[list[str] | None, typer.Option(metavar="WORD", help="A word to expect.")]
SpeakersFlag = Annotated[int | None, typer.Option(min=1, max=MAX_SPEAKERS, help="How many people speak.")]
MinSpeakersFlag = Annotated[
    int | None, typer.Option(min=1, max=MAX_SPEAKERS, help="The least number of people who speak.")
]
MaxSpeakersFlag = Annotated[
    int | None, typer.Option(min=1, max=MAX_SPEAKERS, help="The most people who speak.")
]
NoDiarizeFlag = Annotated[bool, typer.Option("--no-diarize", help="Do not tell speakers apart.")]
ModelFlag = Annotated[str | None, typer.Option("--model", help="Recogniser: a model's name or its folder.")]
DeviceFlag = Annotated[str | None, typer.Option("--device", help="auto, cpu or cuda.")]
WorkerFlag = Annotated[
    bool,
    typer.Option(
        "--worker", help="As `live-asr worker` sees them: by the usual names of its environment, too."
    ),
]


def main() -> NoReturn:
    """Run the command line; an error of ours is a sentence on stderr, not a traceback.

    Exits with 2 where the command or the configuration is wrong, and 1 where the work failed.
    """
    _have_home()
    try:
        app()
    except LiveAsrError as error:
        print(f"Error: {error.message}", file=sys.stderr)
        if error.hint:
            print(error.hint, file=sys.stderr)
        sys.exit(USAGE_ERROR if isinstance(error, ConfigError) else FAILURE)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("live_asr"):
            raise
        missing = error.name.partition(".")[0]
        cure = 'pip install "live-asr[server]"'
        print(
            f"Error: The server's packages are not installed ({missing} is missing): {cure}", file=sys.stderr
        )
        sys.exit(FAILURE)
    sys.exit(0)


def _have_home() -> None:
    """Give a user without a home folder the working folder, as in containers that run as any number.

    Where data and weights are by default hangs on it, and libraries of others fail without one.
    """
    try:
        if Path.home().is_absolute():
            return
    except RuntimeError:  # no HOME, and no entry among the users
        pass
    os.environ["HOME"] = str(Path.cwd())
    print(
        f"live-asr: this user has no home folder, so {Path.cwd()} is taken for it; set HOME, or "
        "LIVE_ASR_STORAGE__DATA and LIVE_ASR_MODELS__DIR.",
        file=sys.stderr,
    )


def _version(wanted: bool) -> None:
    if wanted:
        print(f"live-asr {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Live captions while people speak."""


@app.command()
def serve(
    host: HostFlag = None,
    port: PortFlag = None,
    data: DataFlag = None,
    model: ModelFlag = None,
    device: DeviceFlag = None,
    config: ConfigFlag = None,
    workers: Annotated[int | None, typer.Option(help="Windows decoded at the same time.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Ask nobody for a token, whoever can reach the address.")
    ] = False,
) -> None:
    """Serve the page and the WebSocket, and print the address."""
    flags = {
        "inference.workers": workers,
        "server.log_level": log_level,
        "server.insecure": insecure or None,
    }
    settings = _load(config, flags, host=host, port=port, data=data, model=model, device=device).settings
    from live_asr.server.run import run

    run(settings, _bring(settings, tell=False))  # its log tells
    print("live-asr: stopped", flush=True)


@app.command()
def worker(
    data: DataFlag = None,
    model: ModelFlag = None,
    device: DeviceFlag = None,
    config: ConfigFlag = None,
    lanes: Annotated[int | None, typer.Option(help="Jobs at once.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
) -> None:
    """Take recordings from an SQS queue, and answer by webhook; see docs/worker.md.

    The usual names of such a worker's environment are read, too: AWS_SQS_ASR_QUEUE_URL, NODE_API_URL and
    others.
    """
    flags = {"jobs.lanes": lanes, "server.log_level": log_level, "inference.engine": "local"}
    settings = _load(
        config, flags, data=data, model=model, device=device, usual_names=_usual_names()
    ).settings
    _use_hub_token()
    from live_asr.cli.worker import check, run

    check(settings)
    run(settings, _bring(settings, tell=False))  # its log tells


@app.command()
def replay(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Audio or video files.")],
    url: Annotated[str | None, typer.Option(help="Server to stream to; without it, one is started.")] = None,
    token: Annotated[
        str | None, typer.Option(help="The server's token.", envvar="LIVE_ASR_SERVER__TOKEN")
    ] = None,
    pace: Annotated[
        Literal["realtime", "fast"], typer.Option(help="As it was spoken, or as fast as it goes.")
    ] = ("fast"),
    language: LanguageFlag = None,
    task: Annotated[Literal["transcribe", "translate"], typer.Option(help="translate: into English.")] = (
        "transcribe"
    ),
    vocabulary: VocabularyFlag = None,
    speakers: SpeakersFlag = None,
    min_speakers: MinSpeakersFlag = None,
    max_speakers: MaxSpeakersFlag = None,
    no_diarize: NoDiarizeFlag = False,
    no_final_pass: Annotated[
        bool, typer.Option("--no-final-pass", help="Keep the live result; do not go through it all again.")
    ] = False,
    model: ModelFlag = None,
    device: DeviceFlag = None,
    output: Annotated[Path | None, typer.Option(help="Folder for the transcripts.")] = None,
    config: ConfigFlag = None,
) -> None:
    """Stream files to a server, show who says what, and write .vtt, .srt, .txt, .json and .rttm."""
    settings = _load(config, {}, model=model, device=device).settings
    from live_asr.replay import ReplayOptions, check_language, run, speaker_limits

    check_language(language)
    least, most = speaker_limits(speakers, min_speakers, max_speakers, diarize=not no_diarize)
    if url is not None and (model is not None or device is not None):
        print(
            f"--model and --device do nothing with --url: the server at {url} has its own.", file=sys.stderr
        )
    if url is None:
        _bring(settings)
    options = ReplayOptions(
        url=url,
        token=token,
        pace=pace,
        language=language,
        task=task,
        vocabulary=tuple(vocabulary or ()),
        diarize=not no_diarize,
        min_speakers=least,
        max_speakers=most,
        final_pass=not no_final_pass,
        output=output,
        settings=settings,
    )
    raise typer.Exit(run(files, options))


@app.command()
def transcribe(
    places: Annotated[
        list[Path], typer.Argument(metavar="FILE…|FOLDER…", help="Recordings, or folders of them.")
    ],
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on with recordings that come later, until Ctrl-C.")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="Also those that are written down already.")] = False,
    webhook: Annotated[str | None, typer.Option(help="Address that is told of each recording.")] = None,
    lanes: Annotated[int | None, typer.Option(help="Recordings at once.")] = None,
    language: LanguageFlag = None,
    vocabulary: VocabularyFlag = None,
    speakers: SpeakersFlag = None,
    min_speakers: MinSpeakersFlag = None,
    max_speakers: MaxSpeakersFlag = None,
    no_diarize: NoDiarizeFlag = False,
    model: ModelFlag = None,
    device: DeviceFlag = None,
    output: Annotated[Path | None, typer.Option(help="Folder for the transcripts.")] = None,
    data: DataFlag = None,
    config: ConfigFlag = None,
) -> None:
    """Write recordings down as fast as it goes, and put .vtt, .srt, .txt, .json and .rttm beside them."""
    flags = {
        "jobs.lanes": lanes,
        "inference.engine": "local",
        "webhook.url": webhook or "",  # that of the settings is for servers and workers
        "jobs.diarize": False if no_diarize else None,
    }
    if webhook != _load(config, {}).settings.webhook.url:
        flags["webhook.bearer"] = ""  # a secret between the operator and that address
    settings = _load(config, flags, data=data, model=model, device=device).settings
    from live_asr.cli.transcribe import TranscribeOptions, run
    from live_asr.core.languages import code_of
    from live_asr.replay import check_language, speaker_limits

    check_language(language)
    least, most = speaker_limits(speakers, min_speakers, max_speakers, diarize=not no_diarize)
    options = TranscribeOptions(
        language=code_of(language) if language else None,
        vocabulary=tuple(vocabulary or ()),
        diarize=settings.jobs.diarize,
        min_speakers=least or settings.jobs.min_speakers,
        max_speakers=most or settings.jobs.max_speakers,
        output=output,
        watch=watch,
        again=again,
        settings=settings,
    )
    raise typer.Exit(run(places, options, _bring(settings)))


@app.command()
def bench(
    speech: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Speech to play; without it, a telephone call.")
    ] = None,
    target: Annotated[
        float, typer.Option(min=0.5, help="Seconds within which 95 of 100 words are to be committed.")
    ] = 5.0,
    seconds: Annotated[float, typer.Option(min=5.0, help="Of speech, each time.")] = 30.0,
    most: Annotated[int, typer.Option(min=1, help="Sessions at once, at most.")] = 256,
    plot: Annotated[Path | None, typer.Option(help="SVG file for a plot of it.")] = None,
    language: LanguageFlag = None,
    model: ModelFlag = None,
    device: DeviceFlag = None,
    config: ConfigFlag = None,
) -> None:
    """Find out how many sessions this machine holds, with a server of its own; takes a few minutes."""
    settings = _load(config, {}, model=model, device=device).settings
    from live_asr.cli.bench import BenchOptions, run
    from live_asr.replay import check_language
    from live_asr.weights.resolver import ModelResolver

    check_language(language)
    brought = _bring(settings)
    if speech is None:
        with _progress() as on_progress:
            speech = ModelResolver(settings, on_progress).bring("test-call").folder / "sample.wav"
        language = language or "en"
    options = BenchOptions(
        speech=speech,
        model=brought.recognizer.name,
        seconds=seconds,
        target=target,
        most=most,
        language=language,
        plot=plot,
        settings=settings,
    )
    raise typer.Exit(run(options))


@app.command("config")
def show_config(
    config: ConfigFlag = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the reference of all settings.")
    ] = False,
    worker: WorkerFlag = False,
) -> None:
    """Print each setting's value and where it came from."""
    if markdown:
        from live_asr.config.reference import settings_as_markdown

        print(settings_as_markdown(), end="")
        return
    rows = list(_load(config, {}, usual_names=_usual_names() if worker else None).rows())
    key_width = max(len(key) for key, _, _ in rows)
    value_width = max(len(value) for _, value, _ in rows)
    for key, value, origin in rows:
        print(f"{key:<{key_width}}  {value:<{value_width}}  {origin}")
    if not worker and os.environ.get(USUAL_QUEUE):
        told = (
            f"{USUAL_QUEUE} and its like are for `live-asr worker` alone: `live-asr config --worker` shows."
        )
        print(told, file=sys.stderr)


@app.command()
def doctor(
    host: HostFlag = None,
    port: PortFlag = None,
    data: DataFlag = None,
    model: ModelFlag = None,
    device: DeviceFlag = None,
    config: ConfigFlag = None,
    security: Annotated[
        bool, typer.Option("--security", help="Say instead what of docs/security.md this server does.")
    ] = False,
) -> None:
    """Check Python, packages, device, weights, disk and port, and decode one second."""
    settings = _load(config, {}, host=host, port=port, data=data, model=model, device=device).settings
    from live_asr.cli.doctor import examine
    from live_asr.cli.doctor_security import examine_security

    failed = False
    for finding in examine_security(settings) if security else examine(settings):
        print(f"{finding.state:<4}  {finding.subject}: {finding.found}", flush=True)
        if finding.advice:
            print(f"      {finding.advice}")
        failed = failed or finding.state == "fail"
    if failed:
        raise typer.Exit(FAILURE)


@models.command("list")
def list_models(config: ConfigFlag = None) -> None:
    """List the models there are, and which of them are here."""
    settings = _load(config, {}).settings
    from live_asr.weights.manifest import load_manifest
    from live_asr.weights.store import is_held

    for entry in load_manifest().values():
        state = "here" if is_held(entry, settings.models.dir) else "-"
        size = f"{entry.packages[0].size_bytes / 1e6:.0f} MB" if entry.packages else ""
        sources = " + ".join(["hub"] * (entry.hub is not None) + ["package"] * bool(entry.packages))
        print(f"{entry.name:<15} {state:<5} {size:>7}  {sources:<13}  {entry.licence:<4}  {entry.about}")


@models.command()
def pull(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME…]", help="Models; without any, what the settings use."),
    ] = None,
    config: ConfigFlag = None,
    worker: WorkerFlag = False,
) -> None:
    """Fetch models and verify them."""
    settings = _load(config, {}, usual_names=_usual_names() if worker else None).settings
    if worker:
        _use_hub_token()
    from live_asr.weights.resolver import ModelResolver

    if names:
        with _progress() as on_progress:
            fetched = tuple(map(ModelResolver(settings, on_progress).bring, names))
    else:
        fetched = _bring(settings).weights
    for weights in fetched:
        print(f"{weights.name}: {weights.folder} ({weights.source})")


@models.command()
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME…]", help="Models; without any, all that are here.")
    ] = None,
    config: ConfigFlag = None,
) -> None:
    """Hash models' files again and compare them with what they must be."""
    settings = _load(config, {}).settings
    from live_asr.weights.manifest import load_manifest
    from live_asr.weights.store import verify as check

    failed = False
    for name in names or load_manifest():
        held, problems = check(name, models_dir=settings.models.dir)
        if held or names:
            print(f"{name}: {'; '.join(problems) or ('good' if held else 'not here')}")
        failed = failed or bool(problems) or bool(names and not held)
    if failed:
        raise WeightsError("Not all models are good.", "`live-asr models pull NAME` fetches one again.")


@models.command()
def path(
    name: Annotated[str, typer.Argument(help="A model that is here.")],
    config: ConfigFlag = None,
) -> None:
    """Print the folder that holds a model's files."""
    settings = _load(config, {"models.offline": True}).settings
    from live_asr.weights.resolver import ModelResolver

    print(ModelResolver(settings).bring(name).folder)


def _load(
    config: Path | None,
    flags: dict[str, Any],
    *,
    host: str | None = None,
    port: int | None = None,
    data: Path | None = None,
    model: str | None = None,
    device: str | None = None,
    usual_names: UsualNames | None = None,
) -> Loaded:
    from live_asr.config.settings import load_settings

    return load_settings(
        config,
        {
            "server.host": host,
            "server.port": port,
            "storage.data": data,
            "models.recognizer": model,
            "inference.device": device,
            **flags,
        },
        usual_names=usual_names or (lambda _: {}),
    )


def _usual_names() -> UsualNames:
    from live_asr.jobs.environment import read_usual_names

    return read_usual_names


def _use_hub_token() -> None:
    from live_asr.jobs.environment import HUB_TOKEN

    if os.environ.get(HUB_TOKEN):
        os.environ.setdefault("HF_TOKEN", os.environ[HUB_TOKEN])


def _bring(settings: Settings, *, tell: bool = True) -> ModelSet:
    """Bring what the settings use, so that it is here when the processes ask for it; tell what is lacking."""
    from live_asr.weights.resolver import ModelResolver

    with _progress() as on_progress:
        brought = ModelResolver(settings, on_progress).bring_all()
    for lack in brought.lacks() if tell else ():
        print(f"live-asr: {lack}", file=sys.stderr)
    return brought


@contextmanager
def _progress() -> Iterator[Progress]:
    """Draw what is being fetched on stderr, and print what the weights log; then leave logging as it was."""
    from rich.console import Console
    from rich.logging import RichHandler
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    handler = RichHandler(console=console, show_time=False, show_level=False, show_path=False)
    logger = logging.getLogger("live_asr.weights")
    level = logger.level
    bars = Bars(*columns, console=console)
    tasks: dict[str, Any] = {}

    def show(done_bytes: int, total_bytes: int, what: str) -> None:
        bars.start()  # where nothing is fetched nothing is drawn, not even an empty line
        if what not in tasks:
            tasks[what] = bars.add_task(what, total=None)
        bars.update(tasks[what], completed=done_bytes, total=total_bytes or None)

    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield show
    finally:
        if tasks:
            bars.stop()
        logger.removeHandler(handler)
        logger.setLevel(level)


if __name__ == "__main__":
    main()
