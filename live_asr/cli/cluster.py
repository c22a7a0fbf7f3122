"""The command `live-asr cluster`: gateways and workers of a Ray cluster, all on this machine.

To see what a cluster does, and to try what happens when parts of it die. All gateways keep their sessions in
one PostgreSQL, so that each of them takes up any session.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from live_asr.cli.webhooks import ConfigFlag, DataFlag
from live_asr.cluster.node import NOT_STARTED
from live_asr.cluster.own_postgres import OwnPostgres
from live_asr.core.errors import ConfigError, EngineError
from live_asr.core.urls import is_reached_by_others

if TYPE_CHECKING:
    from live_asr.config.settings import Settings

app = typer.Typer(
    help="Try a cluster on one machine; see docs/cluster.md.", no_args_is_help=True, rich_markup_mode=None
)
LOOK_INTERVAL = 0.5
PATIENCE = 120.0
"""Seconds that gateways and Ray get to end."""
GPU_SHARE = 0.75
"""Of this machine's GPU, that all workers together take; the rest is for full passes."""


@app.callback()
def _root() -> None:
    """Try a cluster on one machine."""


@app.command()
def up(
    gateways: Annotated[int, typer.Option(min=1, max=16, help="Servers that take sockets.")] = 2,
    workers: Annotated[int, typer.Option(min=1, max=16, help="Workers that recognise.")] = 2,
    port: Annotated[
        int, typer.Option(help="Port of the first gateway; the others follow. 0 takes free ones.")
    ] = 8765,
    model: Annotated[str, typer.Option(help="Recogniser: a model's name or its folder.")] = "base",
    database: Annotated[
        str | None,
        typer.Option(help="PostgreSQL of the sessions, postgresql+psycopg://…; else one is started."),
    ] = None,
    data: DataFlag = None,
    config: ConfigFlag = None,
) -> None:
    """Start a Ray cluster and gateways on this machine, until Ctrl-C; what is killed is started again."""
    if find_spec("ray") is None:
        raise ConfigError("Ray is not installed.", 'Install it: pip install "live-asr[server,ray,postgres]"')
    from live_asr.config.settings import load_settings

    settings = load_settings(config, {"storage.data": data, "storage.journal": database}).settings
    folder = settings.storage.data
    named = settings.storage.journal
    if find_spec("psycopg") is None:
        raise ConfigError(
            "PostgreSQL's driver is not installed.", 'pip install "live-asr[server,ray,postgres]"'
        )
    postgres: OwnPostgres | None = None
    if named is None:
        postgres = OwnPostgres(folder)
        url = postgres.url
    else:
        url = named.get_secret_value()
    token = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    environment = {**os.environ, **token}
    stop: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: stop.append(number))
    # The port stays, as gateways know it. One place more than there are workers, for a full pass.
    of_node = environment | {"RAY_GCS_SERVER_PORT": str(_free_port())}
    node = _node(workers + 1, of_node)
    running: list[subprocess.Popen[bytes]] = []
    try:
        if postgres is not None:
            postgres.start()
        environment |= {
            "LIVE_ASR_STORAGE__JOURNAL": url,
            "LIVE_ASR_STORAGE__DATABASE": url,
            "LIVE_ASR_INFERENCE__ENGINE": _address_of(node),
            "LIVE_ASR_MODELS__RECOGNIZER": model,
            "LIVE_ASR_CLUSTER__MIN_WORKERS": str(workers),
            "LIVE_ASR_CLUSTER__MAX_WORKERS": str(workers),
            "LIVE_ASR_CLUSTER__WORKER_GPUS": f"{GPU_SHARE / workers:.3f}",
        }

        def start(index: int) -> subprocess.Popen[bytes]:
            own = folder / f"gateway-{index + 1}"
            _share_secrets(folder, own)
            other = _addresses(settings, port, gateways, index) if port else {}
            return _gateway(own, port + index if port else 0, config, environment | other)

        running += [start(index) for index in range(gateways)]
        while not stop:
            node = _kept_up(node, workers + 1, of_node)
            if postgres is not None and postgres.has_ended:
                print("live-asr: PostgreSQL was killed; it is started again", flush=True)
                postgres.start()
            for index, gateway in enumerate(running):
                status = gateway.poll()
                if status is None or stop:
                    continue
                if status >= 0:
                    raise EngineError(f"Gateway {index + 1} has ended with {status}.", "Its log is above.")
                print(f"live-asr: gateway {index + 1} was killed; it is started again", flush=True)
                running[index] = start(index)
            time.sleep(LOOK_INTERVAL)
    finally:
        _end(running, node)
        if postgres is not None:
            postgres.end()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def _node(places: int, environment: dict[str, str]) -> subprocess.Popen[str]:
    """Start the cluster's only node."""
    return subprocess.Popen(
        [sys.executable, "-m", "live_asr.cluster.node", str(places)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


def _kept_up(node: subprocess.Popen[str], places: int, environment: dict[str, str]) -> subprocess.Popen[str]:
    """Return the node, or another one where it was killed. Raises EngineError where it cannot start again."""
    status = node.poll()
    if status is None:
        return node
    if status == NOT_STARTED:
        raise EngineError("The Ray cluster did not start again.", "Its log is above.")
    print("live-asr: the Ray node was killed; it is started again", flush=True)
    for pipe in (node.stdin, node.stdout):  # which ends what may be left of it
        assert pipe is not None
        pipe.close()
    return _node(places, environment)


def _share_secrets(folder: Path, own: Path) -> None:
    """Give a gateway's folder the secrets of all: links and signatures of one are good at the others."""
    from live_asr.config.settings import WebhookSettings
    from live_asr.delivery.signature import SECRET_FILE, webhook_secret
    from live_asr.server.access import LINKS_FILE, TOKEN_BYTES, TOKEN_FILE, made_token
    from live_asr.storage.secrets import kept_secret

    shared = {
        SECRET_FILE: webhook_secret(WebhookSettings(), folder),
        TOKEN_FILE: made_token(folder),
        LINKS_FILE: kept_secret(folder / LINKS_FILE, lambda: secrets.token_urlsafe(TOKEN_BYTES)),
    }
    for name, secret in shared.items():
        kept_secret(own / name, lambda secret=secret: secret)  # type: ignore[misc]


def _addresses(settings: Settings, port: int, count: int, index: int) -> dict[str, str]:
    """Return settings that have a gateway's clients go on at the next one, where they are on this machine."""
    server = settings.server
    if server.resume_url or server.tls_cert or count == 1 or is_reached_by_others(server.host):
        return {}
    pages = [f"http://{host}:{port + n}" for n in range(count) for host in ("localhost", "127.0.0.1")]
    return {
        "LIVE_ASR_SERVER__RESUME_URL": f"http://localhost:{port + (index + 1) % count}",
        "LIVE_ASR_SERVER__ALLOWED_ORIGINS": ",".join((*server.allowed_origins, *pages)),
    }


def _address_of(node: subprocess.Popen[str]) -> str:
    """Wait until the node is up; return its address. Raises EngineError."""
    assert node.stdout is not None
    for line in node.stdout:
        if line.startswith("address "):
            return line.split()[1]
    raise EngineError("The Ray cluster did not start.", "Its log is above.")


def _gateway(
    data: Path, port: int, config: Path | None, environment: dict[str, str]
) -> subprocess.Popen[bytes]:
    """Start a gateway with a data folder of its own."""
    flags = ["--data", str(data), "--port", str(port), *(["--config", str(config)] if config else [])]
    command = [sys.executable, "-m", "live_asr.cli", "serve", *flags]
    # In a session of its own: Ctrl-C is for this process, which ends all in order.
    return subprocess.Popen(command, env=environment, start_new_session=True)


def _end(gateways: list[subprocess.Popen[bytes]], node: subprocess.Popen[str]) -> None:
    """End gateways, and then what they ask."""
    for gateway in gateways:
        gateway.terminate()
    for gateway in gateways:
        try:
            gateway.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            gateway.kill()
    assert node.stdin is not None
    node.stdin.close()
    try:
        node.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        node.kill()
