"""The command `live-asr tokens`: whom the server lets in, and for what.

It reads and writes the database itself, beside a server that runs, which takes a second to notice.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from live_asr.cli.webhooks import WIDE_COLUMNS, ConfigFlag, DataFlag, opened_database
from live_asr.core.errors import ConfigError

if TYPE_CHECKING:
    from live_asr.storage.tokens import Token

app = typer.Typer(
    help="Make, list and revoke tokens: who may caption, watch, read.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
SPAN = re.compile(r"(\d{1,5})([smhdw])")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class Scope(StrEnum):
    """What a token may be for."""

    caption = "caption"
    webhook = "webhook"
    watch = "watch"
    read = "read"
    admin = "admin"


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What you call it, such as the person or program it is for.")],
    scope: Annotated[
        list[Scope] | None,
        typer.Option(
            "--scope",
            help="What it may: caption opens sessions and has its own; webhook names who is told of them; "
            "watch reads along in all; read lists and reads all; admin may everything. Several may be "
            "given; without any, caption.",
        ),
    ] = None,
    expires: Annotated[
        str | None, typer.Option(help="For how long it counts: 90m, 12h, 30d, 4w. Without it, until revoked.")
    ] = None,
    data: DataFlag = None,
    config: ConfigFlag = None,
) -> None:
    """Make a token and print it, this once: it is kept nowhere."""
    from live_asr.storage import tokens

    now = time.time()
    token, secret = tokens.new_token(
        name, [str(one) for one in scope or [Scope.caption]], now=now, seconds=_seconds(expires)
    )
    with opened_database(config, data, is_made=True) as database:
        if any(known.name == token.name and known.is_good(now) for known in tokens.listed(database)):
            raise ConfigError(
                f"There is a token {token.name} already.", "Revoke it first, or take another name."
            )
        tokens.add(database, token)
    print(secret)


@app.command("list")
def list_tokens(data: DataFlag = None, config: ConfigFlag = None) -> None:
    """List the tokens, the oldest first; never their secrets."""
    from live_asr.storage import tokens

    with opened_database(config, data) as database:
        found = tokens.listed(database)
    if not found:
        print("No tokens were made.")
        return
    _show(found)


@app.command()
def revoke(
    which: Annotated[str, typer.Argument(metavar="NAME", help="A token's name, or its id.")],
    data: DataFlag = None,
    config: ConfigFlag = None,
) -> None:
    """Revoke a token, and those that were made with it: what they began is cut within a second."""
    from live_asr.storage import tokens

    with opened_database(config, data) as database:
        revoked = tokens.revoke(database, which, now=time.time())
    if not revoked:
        raise ConfigError(
            f"There is no token {which} to revoke.", "`live-asr tokens list` shows those there are."
        )
    for token in revoked:
        print(f"{token.name} ({token.id}): revoked")


def _seconds(span: str | None) -> float | None:
    if span is None:
        return None
    found = SPAN.fullmatch(span.strip())
    if found is None or not int(found[1]):
        raise ConfigError(f"{span} is no span of time.", "Write it as 90m, 12h, 30d or 4w.")
    return float(int(found[1]) * SECONDS[found[2]])


def _show(found: list[Token]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDE_COLUMNS)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("name", "id", "may", "made", "expires", ""):
        table.add_column(heading, no_wrap=True)
    now = time.time()
    for token in found:
        state = "revoked" if token.revoked_at is not None else "" if token.is_good(now) else "expired"
        expires = "never" if token.expires_at is None else _day(token.expires_at)
        table.add_row(token.name, token.id, ", ".join(token.scopes), _day(token.created_at), expires, state)
    console.print(table, markup=False)


def _day(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M}"
