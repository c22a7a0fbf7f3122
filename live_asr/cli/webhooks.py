"""The command `live-asr webhooks`: what is waiting to be delivered, and what was given up.

It reads and writes the database itself, beside a server that runs or without one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from live_asr.core.errors import ConfigError

if TYPE_CHECKING:
    from live_asr.storage.database import Database, Delivery

app = typer.Typer(
    help="List deliveries, and have those that failed tried again.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

MAX_SHOWN = 100
WIDE_COLUMNS = 240
"""Width where nobody looks: in a file or a pipe nothing is cut."""


class State(StrEnum):
    """What may be asked for."""

    pending = "pending"
    delivered = "delivered"
    dead = "dead"


ConfigFlag = Annotated[Path | None, typer.Option("--config", help="TOML file with settings.")]
DataFlag = Annotated[Path | None, typer.Option("--data", help="Folder of everything the server keeps.")]
LimitFlag = Annotated[int, typer.Option("--limit", min=1, help="How many to show, the newest first.")]


@app.command("list")
def list_deliveries(
    state: Annotated[State | None, typer.Option("--state", help="Only those in this state.")] = None,
    session: Annotated[str | None, typer.Option("--session", help="Only those of this session.")] = None,
    limit: LimitFlag = MAX_SHOWN,
    data: DataFlag = None,
    config: ConfigFlag = None,
) -> None:
    """List deliveries, the newest first, and how many there are in each state."""
    with opened_database(config, data) as database:
        found = database.deliveries(state=state, session_id=session, limit=limit)
        counts = database.count_deliveries()
    if found:
        _show(found)
    print(", ".join(f"{count} {name}" for name, count in counts.items()))


@app.command("dead")
def list_dead(limit: LimitFlag = MAX_SHOWN, data: DataFlag = None, config: ConfigFlag = None) -> None:
    """List the deliveries that were given up, and why."""
    with opened_database(config, data) as database:
        found = database.deliveries(state=State.dead, limit=limit)
    if not found:
        print("No deliveries have been given up.")
        return
    _show(found)
    print("`live-asr webhooks retry ID` has one tried again, `live-asr webhooks retry --all-dead` all.")


@app.command()
def retry(
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID…", help="Deliveries, as listed.")] = None,
    all_dead: Annotated[bool, typer.Option("--all-dead", help="All that were given up.")] = False,
    data: DataFlag = None,
    config: ConfigFlag = None,
) -> None:
    """Have deliveries tried again now, and as often as new ones."""
    from live_asr.storage.database import DELIVERED

    if bool(ids) == all_dead:
        raise ConfigError(
            "Name the deliveries to try again, or give --all-dead.", "`webhooks dead` lists them."
        )
    with opened_database(config, data) as database:
        if all_dead:
            count = database.retry_dead(now=time.time())
            print(f"{count} due now" if count else "No deliveries have been given up.")
        for delivery_id in ids or ():
            delivery = database.retry(delivery_id, now=time.time())
            if delivery is None:
                raise ConfigError(
                    f"There is no delivery {delivery_id}.", "`live-asr webhooks list` shows those there are."
                )
            if delivery.state == DELIVERED:
                raise ConfigError(f"{delivery_id} was delivered already.", "It is not sent again.")
            print(f"{delivery_id}: due now")


@contextmanager
def opened_database(config: Path | None, data: Path | None, *, is_made: bool = False) -> Iterator[Database]:
    """Open the settings' database. Raises ConfigError where no server has made one yet; with `is_made` that
    is done now."""
    from live_asr.config.settings import load_settings
    from live_asr.storage.database import Database, database_url

    settings = load_settings(config, {"storage.data": data}).settings
    database = Database(database_url(settings.storage))
    try:
        if not is_made and not database.is_prepared():
            raise ConfigError(
                f"There is no database yet for {settings.storage.data}.",
                "The server creates it when it starts; name its folder with --data.",
            )
        database.prepare()  # whose version it checks
        yield database
    finally:
        database.close()


def _show(found: Sequence[Delivery]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDE_COLUMNS)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("delivery", "session", "state", "tries", "next try", "to"):
        table.add_column(heading, no_wrap=True)
    table.add_column("last answer", overflow="fold")
    now = time.time()
    for delivery in found:
        table.add_row(
            delivery.id,
            delivery.session_id,
            delivery.state,
            str(delivery.attempts),
            wait_in_words(delivery.next_at - now) if delivery.state == State.pending else "",
            # Not the whole URL: paths and queries of such are often secrets.
            delivery.receiver or "no URL",
            delivery.last_error or (str(delivery.last_status) if delivery.last_status else ""),
        )
    console.print(table, markup=False)


def wait_in_words(wait: float) -> str:
    """Return how long it takes until then, in its greatest unit: "now", "in 4 s", "in 9 min", "in 6 h"."""
    if wait < 0.5:
        return "now"
    if wait < 99.5:
        return f"in {wait:.0f} s"
    return f"in {wait / 60:.0f} min" if wait < 99.5 * 60 else f"in {wait / 3600:.0f} h"
