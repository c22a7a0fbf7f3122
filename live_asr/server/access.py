"""Who may do what: the tokens that people present, the pages that browsers connect for.

Sockets, HTTP routes, event streams and other servers' dialects all ask here; Wyoming alone has no token.
Where the operator set no token and made none, nobody is asked. Else `server.token` opens everything, and a
token of `live-asr tokens` what its scopes say.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from pathlib import Path

from starlette.requests import HTTPConnection

from live_asr.config.settings import ServerSettings
from live_asr.core.errors import ClientError, StorageError, Unavailable
from live_asr.server.origins import is_listed, is_same_host
from live_asr.server.proxies import UNTRUSTED
from live_asr.sessions.admission import Client
from live_asr.storage import tokens
from live_asr.storage.database import Database
from live_asr.storage.secrets import kept_secret
from live_asr.storage.tokens import Token

log = logging.getLogger(__name__)

GRANT = "live_asr.grant"
"""Key of a scope: what the token of a request allows, once that is known."""
BEARER_PROTOCOL = "bearer."
TOKEN_FILE = "server.token"
LINKS_FILE = "links.key"
TOKEN_BYTES = 24
REFRESH = 1.0
"""Seconds after which a token counts, or counts no more, that the command line made or revoked."""
FREE_TRIES = 5
FIRST_DELAY, MAX_DELAY = 0.25, 5.0
"""Seconds that the answer to a wrong token takes behind the free ones: twice as long each time."""
MAX_DELAYED = 4
"""Wrong tokens of one address that wait for their answer; until then it may not try another."""
FORGIVEN_AFTER = 900.0
"""Seconds without a wrong token after which an address begins anew."""
MAX_ADDRESSES = 10_000
"""Of which wrong tokens are counted."""
MAX_OPERATORS = 100
"""Addresses that are remembered because the server's own token came from there."""
MAX_MINTED = 1000
"""Tokens that were made with one token and have not expired."""
KEPT_EXPIRED = 86_400.0
"""Seconds for which a token that was made with another one is listed after it has expired."""
_SERVER = "server"
"""How the ids of tokens begin that were made with the server's own; a digest follows, which ends with it."""


# What may be done -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Grant:
    """What one connection or request may do."""

    scopes: frozenset[str]
    client: Client
    """Who it is, to the sessions."""
    name: str = ""
    """What the operator calls the token."""

    @property
    def token(self) -> str | None:
        """The id of the token; None for the server's own, and where nobody is asked."""
        return self.client.owner

    def may(self, *scopes: str) -> bool:
        """Tell whether one of these is allowed; who has `admin` may everything."""
        return not self.scopes.isdisjoint(("admin", *scopes))

    def owns(self, owner: str | None) -> bool:
        """Tell whether a session is this token's, or of a token that was made with it."""
        return (
            owner is not None
            and self.token is not None
            and (owner == self.token or owner.startswith(f"{self.token}."))
        )


@dataclass(slots=True)
class _Tries:
    """The wrong tokens of one address."""

    count: int = 0
    last_at: float = 0.0
    delayed: int = 0


@dataclass(slots=True)
class _Kept:
    """The tokens as they were when they were last looked up."""

    by_digest: dict[str, Token] = field(default_factory=dict)
    by_id: dict[str, Token] = field(default_factory=dict)


class Access:
    """The tokens of one server, and who tried wrong ones.

    `on_failed` is called for each wrong token with the address it came from, `rate` with each token's id at
    each request, and raises Unavailable for too many; `clock` gives Unix time in seconds.
    """

    def __init__(
        self,
        settings: ServerSettings,
        database: Database,
        data: Path,
        *,
        on_failed: Callable[[str], None] = lambda _: None,
        rate: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._database = database
        self._data = data
        self._on_failed = on_failed
        self._rate = rate
        self._clock = clock
        self._kept = _Kept()
        self._tries: OrderedDict[str, _Tries] = OrderedDict()
        self._own_came_from: OrderedDict[str | None, None] = OrderedDict()
        """The addresses that presented the server's own token: guesses of others there hold it up no more."""
        self._server_id = _SERVER
        """Stands for the server's own token in the ids of those that were made with it."""
        self._looking_up = asyncio.Lock()
        self._changed = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None

    # Tokens --------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Look the tokens up, and again every second. Raises StorageError."""
        if self._settings.token is not None:
            secret = await asyncio.to_thread(self.links_secret)
            self._server_id = f"{_SERVER}.{tokens.digest_of(secret)[:8]}"
        await self.refresh()
        self._watching = asyncio.create_task(self._watch(), name="tokens")

    async def close(self) -> None:
        """Look no more. Idempotent."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
            self._watching = None

    async def refresh(self) -> None:
        """Take up what became of the tokens. Raises StorageError; what was known before stays then."""
        async with self._looking_up:
            listed = await self._database.call(tokens.listed, self._database)
            kept = _Kept({token.digest: token for token in listed}, {token.id: token for token in listed})
            if kept.by_id != self._kept.by_id:
                self._kept = kept
                changed, self._changed = self._changed, asyncio.Event()
                changed.set()

    async def _watch(self) -> None:
        is_reported = False
        while True:
            await asyncio.sleep(REFRESH)
            try:
                await self.refresh()
                is_reported = False
            except StorageError as error:
                if not is_reported:
                    log.error("tokens cannot be looked up, those known so far count: %s", error)
                is_reported = True

    @property
    def asks(self) -> bool:
        """Whether anybody is asked for a token; one that was revoked does not open the server again."""
        return self._settings.token is not None or bool(self._kept.by_id)

    def links_secret(self) -> str:
        """Return what links for an audience are made of. Blocks. Raises StorageError."""
        path = self._data / LINKS_FILE
        try:
            key = kept_secret(path, lambda: secrets.token_urlsafe(TOKEN_BYTES))
        except OSError as error:
            raise StorageError(f"The key of the links cannot be kept in {path}: {error}.") from error
        own = self._settings.token
        # Beside the random key, so that links end with the token and nobody can try tokens out on them.
        return key if own is None else f"{key} {tokens.digest_of(own.get_secret_value())}"

    def granted(self, given: str | None, address: str | None = None) -> Grant | None:
        """Return what a token allows; None where it is none, or not any more. Nothing is counted."""
        if not self.asks:
            return Grant(frozenset(tokens.SCOPES), Client(None, address))
        if given is None:
            return None
        if self._is_own(given):
            return Grant(frozenset(tokens.SCOPES), Client(None, address, is_known=True), "server.token")
        token = self._kept.by_digest.get(tokens.digest_of(given))
        if token is None or not self.is_good(token.id):
            return None
        scopes = frozenset(token.scopes)
        may_name = not scopes.isdisjoint(("webhook", "admin"))
        client = Client(token.id, address, is_known=True, may_name_receivers=may_name)
        return Grant(scopes, client, token.name)

    def _is_own(self, given: str | None) -> bool:
        own = self._settings.token
        if own is None or given is None:
            return False
        return hmac.compare_digest(given.encode(), own.get_secret_value().encode())

    def is_good(self, token_id: str | None) -> bool:
        """Tell whether a token may be used now; with it those that it was made with. None: the server's."""
        while token_id is not None and token_id != self._server_id:
            token = self._kept.by_id.get(token_id)
            if token is None or not token.is_good(self._clock()):
                return False
            token_id = token.maker
        return token_id is None or self._settings.token is not None

    def is_revoked(self, token_id: str | None) -> bool:
        """Tell whether somebody took a token back, or the one that it was made with: what it began ends."""
        while token_id is not None:
            token = self._kept.by_id.get(token_id)
            if token is not None and token.revoked_at is not None:
                return True
            token_id = token_id.rpartition(".")[0] or None
        return False

    async def until_revoked(self, token_id: str | None) -> None:
        """Wait until `is_revoked`."""
        while not self.is_revoked(token_id):
            await self._changed.wait()

    async def mint(
        self, grant: Grant, name: str, scopes: Collection[str], seconds: float
    ) -> tuple[Token, str]:
        """Make a token with another one, for a while; return it and its secret.

        Raises ClientError for scopes that the other one has not, and where it was made so itself; ConfigError
        as `new_token`; Unavailable `too_many_tokens`; StorageError.
        """
        if not self.asks:
            raise forbidden("This server does not use tokens, so it cannot create one.")
        if not set(scopes) <= grant.scopes and not grant.may():
            raise forbidden(f"This token can only pass on its own scopes: {_spoken(grant)}.")
        if grant.token is not None and "." in grant.token:
            raise forbidden("A client token cannot create further tokens.")
        now, maker = self._clock(), grant.token or self._server_id
        token, secret = tokens.new_token(name, scopes, now=now, seconds=seconds, maker=maker)
        async with self._looking_up:
            good = [one for one in self._kept.by_id.values() if one.maker == maker and one.is_good(now)]
            if len(good) >= MAX_MINTED:
                raise too_many_tokens(min(one.expires_at or now for one in good) - now)
            await self._database.call(tokens.forget_expired, self._database, before=now - KEPT_EXPIRED)
            await self._database.call(tokens.add, self._database, token)
            self._kept.by_digest[token.digest] = self._kept.by_id[token.id] = token
        return token, secret

    # Who comes -----------------------------------------------------------------------------------------

    async def admit(self, connection: HTTPConnection, given: str | None, *scopes: str) -> Grant:
        """Let in who presents a token with one of these scopes; any token where none are named.

        A wrong one is logged, counted, and answered later the more there were; one that has expired or was
        revoked is not. Raises ClientError `unauthorized` and `forbidden`, Unavailable `too_many_tries`.
        """
        address = address_of(connection)
        is_own = self._is_own(given)
        is_guess = given is not None and not (
            # Those that were made here nobody guesses: they are let pass, or refused, and count for nothing.
            tokens.digest_of(given) in self._kept.by_digest or (is_own and address in self._own_came_from)
        )
        tries = self._tries.get(address or "")
        if is_guess and tries is not None and tries.delayed >= MAX_DELAYED:
            raise too_many_tries(self._delay(tries))
        grant = self.granted(given, address)
        if grant is None:
            if is_guess:
                await self._slow_down(address or "")
            raise unauthorized(given)
        if is_own:
            self._own_came_from[address] = None
            self._own_came_from.move_to_end(address)
            if len(self._own_came_from) > MAX_OPERATORS:
                self._own_came_from.popitem(last=False)
        connection.scope[GRANT] = grant
        if grant.token is not None:
            self._rate(grant.token)
        if scopes and not grant.may(*scopes):
            needed = f"{'one of the scopes' if len(scopes) > 1 else 'the scope'} {', '.join(scopes)}"
            raise forbidden(f"This needs {needed}; this token has {_spoken(grant)}.")
        return grant

    async def _slow_down(self, address: str) -> None:
        """Count a wrong token of an address, and wait as long as that earns."""
        now = time.monotonic()
        tries = self._tries.pop(address, None) or _Tries()
        if now - tries.last_at > FORGIVEN_AFTER:
            tries.count = 0
        tries.count, tries.last_at = tries.count + 1, now
        self._tries[address] = tries
        if len(self._tries) > MAX_ADDRESSES:
            self._tries.popitem(last=False)
        self._on_failed(address)
        log.warning("a wrong token from %s, number %d", address or "an unknown address", tries.count)
        delay = self._delay(tries)
        if delay:
            tries.delayed += 1
            # Given back by the clock: who hangs up and comes again waits all the same.
            asyncio.get_running_loop().call_later(delay, _give_back, tries)
            await asyncio.sleep(delay)

    def forgive(self) -> None:
        """Forget all wrong tokens."""
        self._tries.clear()

    def _delay(self, tries: _Tries) -> float:
        beyond = tries.count - FREE_TRIES
        return min(MAX_DELAY, FIRST_DELAY * 2.0 ** min(beyond, 16)) if beyond > 0 else 0.0

    def check_origin(self, connection: HTTPConnection) -> None:
        """Let pages of other hosts than the server's own connect only where they are allowed by name.

        A browser says which page it connects for; other clients say nothing. Raises ClientError.
        """
        check_origin(connection, self._settings)


def _give_back(tries: _Tries) -> None:
    tries.delayed -= 1


def _spoken(grant: Grant) -> str:
    return ", ".join(scope for scope in tokens.SCOPES if scope in grant.scopes)


def unauthorized(given: str | None) -> ClientError:
    """Return the refusal of who presents no token, or a wrong one."""
    return ClientError(
        "unauthorized",
        "The token is wrong, has expired or was revoked." if given else "This server requires a token.",
        "Send `Authorization: Bearer TOKEN`, or the subprotocols `live-asr.v1, bearer.TOKEN`.",
    )


def forbidden(why: str) -> ClientError:
    """Return the refusal of who presents a token that does not allow this."""
    return ClientError("forbidden", why, "Ask the operator for another token: `live-asr tokens create`.")


def too_many_tries(retry_after: float) -> Unavailable:
    """Return the refusal of an address that tries one wrong token after the other."""
    return Unavailable(
        "too_many_tries",
        "Too many wrong tokens came from this address.",
        "Wait, then send the right one.",
        retry_after=max(1.0, retry_after),
        close_code=1008,
    )


def too_many_tokens(retry_after: float) -> Unavailable:
    """Return the refusal to make yet another token for somebody else."""
    return Unavailable(
        "too_many_tokens",
        f"This token has created {MAX_MINTED} client tokens that have not expired.",
        "Create them for a shorter time (`expires_in`), or wait until one expires.",
        retry_after=max(1.0, retry_after),
    )


def address_of(connection: HTTPConnection) -> str | None:
    """Return what stands for a peer where it is counted: its address, of IPv6 the network of its line.

    None where that is not known, as behind a proxy that does not tell it.
    """
    return line_of(connection.client.host if connection.client is not None else "")


def line_of(host: str) -> str | None:
    """Do as `address_of` for an address as a socket tells it."""
    with suppress(ValueError):
        address = ip_address(host.partition("%")[0])
        if isinstance(address, IPv6Address):
            if address.ipv4_mapped is not None:
                return str(address.ipv4_mapped)
            if not address.is_loopback:
                return str(IPv6Address(int(address) >> 64 << 64)) + "/64"
        return str(address)
    return None


# Before any token -------------------------------------------------------------------------------------


def check_origin(connection: HTTPConnection, settings: ServerSettings) -> None:
    """Do as `Access.check_origin`."""
    origin, host = connection.headers.get("origin"), connection.headers.get("host")
    if origin is None or is_listed(origin, settings.allowed_origins):
        return
    if not is_same_host(origin, host):
        raise ClientError(
            "origin_not_allowed",
            f"Pages from {origin} may not connect to this server, which was asked for as {host}.",
            _how_to_allow(connection, origin),
        )


def _how_to_allow(connection: HTTPConnection, origin: str) -> str:
    """Say to the operator which setting lets a page connect."""
    allowed = f'The operator can allow them by server.allowed_origins = ["{origin}"].'
    peer = connection.scope.get(UNTRUSTED)
    if peer is None:
        return (
            f"{allowed} A reverse proxy in front of this server's own page must pass the browser's "
            "`Host` on, or say it in X-Forwarded-Host."
        )
    # Its address is for the operator, not for whoever connects.
    log.warning("%s sends X-Forwarded headers and is not in server.trusted_proxies", peer)
    return f"A reverse proxy of this server must be named in server.trusted_proxies. {allowed}"


def made_token(data: Path) -> str:
    """Return the token that this server has made for itself, now or at an earlier start.

    Raises StorageError where it cannot be kept.
    """
    path = data / TOKEN_FILE
    try:
        return kept_secret(path, lambda: secrets.token_urlsafe(TOKEN_BYTES))
    except OSError as error:
        raise StorageError(
            f"A token cannot be kept in {path}: {error.strerror or error}.",
            "Use --data to name a folder that this user can write to, or set server.token.",
        ) from error


# How it is presented ----------------------------------------------------------------------------------


def bearer_token(authorization: str | None, subprotocols: list[str]) -> str | None:
    """Return the token of a request: from its header, or from the subprotocols that a browser offers."""
    if authorization is not None and authorization.lower().startswith("bearer "):
        return authorization[7:].strip()
    for name in subprotocols:
        if name.startswith(BEARER_PROTOCOL):
            return name.removeprefix(BEARER_PROTOCOL)
    return None


def token_in(connection: HTTPConnection) -> str | None:
    """Return the token as our own clients send it."""
    return bearer_token(connection.headers.get("authorization"), connection.scope.get("subprotocols", []))


def api_key(connection: HTTPConnection) -> str | None:
    """Return the token as clients of other services send it: as ours do, as `Authorization: Token KEY`, or
    from a browser as the subprotocols `token, KEY`."""
    scheme, _, key = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "token":
        return key.strip()
    offered: list[str] = connection.scope.get("subprotocols", [])
    if len(offered) > 1 and offered[0].lower() in ("token", "bearer"):
        return offered[1]
    return token_in(connection)
