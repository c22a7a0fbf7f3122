"""Where a recording is: a bucket and a key, an address on the web, or a file; by a URL of any style."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from live_asr.core.errors import ClientError

S3_HOST = re.compile(
    r"(?:(?P<bucket>.+)\.)?s3(?:-fips)?(?:[.-](?:dualstack\.)?[a-z]{2}(?:-[a-z]+)+-\d+)?"
    r"\.amazonaws\.com(?:\.cn)?"
)
"""Path-style and virtual-hosted, with and without a region, and those of old: s3-eu-west-1.amazonaws.com."""
SIGNATURES = ("X-Amz-Signature", "Signature")
"""What a presigned URL has in its query."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A file in S3, or in a store that speaks like it."""

    bucket: str
    key: str
    version: str | None = None
    url: str | None = field(default=None, repr=False)
    """The URL itself, where it is one that can be fetched as any other; it may hold a secret."""
    is_presigned: bool = False
    """Whether that needs no other rights."""

    @property
    def name(self) -> str:
        """What the file is called."""
        return self.key.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class OnTheWeb:
    """What a host answers with."""

    url: str = field(repr=False)

    @property
    def name(self) -> str:
        """What the file is called."""
        return unquote(urlsplit(self.url).path).rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class OnDisk:
    """A file of this machine."""

    path: Path

    @property
    def name(self) -> str:
        """What the file is called."""
        return self.path.name


Place = Stored | OnTheWeb | OnDisk


def locate(
    url: str,
    *,
    endpoint: str | None = None,
    bucket: str | None = None,
    files: Path | None = None,
    insecure: bool = False,
) -> Place:
    """Say where a URL leads.

    `endpoint` is the address of another S3 than AWS's, `bucket` that of a bare key, `files` the folder below
    which files may be named, `insecure` allows http. Blocks, for file:// alone. Raises ClientError `bad_url`,
    or `forbidden_target` for where nothing is read from.
    """
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
        port = parts.port
    except ValueError:
        raise _unreadable("It cannot be read.") from None
    if parts.scheme == "s3":
        return _stored(parts.netloc, parts.path, parts)
    if parts.scheme == "file":
        return _on_disk(parts, files)
    if not parts.scheme and not parts.netloc and bucket is not None:
        return Stored(bucket, url.lstrip("/")) if url.strip("/") else _stored(bucket, "", parts)
    if parts.scheme not in ("http", "https") or not host:
        raise _unreadable(f"Its scheme is {parts.scheme!r}.")
    if endpoint is not None:
        at = urlsplit(endpoint)
        own, theirs = (at.hostname or "").lower(), _port(at.scheme, at.port)
        if _port(parts.scheme, port) == theirs:
            if host == own:
                name, _, key = parts.path.lstrip("/").partition("/")
                return _stored(unquote(name), key, parts)
            if host.endswith(f".{own}"):
                return _stored(host.removesuffix(f".{own}"), parts.path, parts)
    found = S3_HOST.fullmatch(host)
    if found is not None and port in (None, 80, 443):
        own_url = url if parts.scheme == "https" else None
        if found["bucket"] is not None:
            return _stored(found["bucket"], parts.path, parts, own_url)
        name, _, key = parts.path.lstrip("/").partition("/")
        return _stored(unquote(name), key, parts, own_url)
    if parts.scheme == "http" and not insecure:
        raise ClientError(
            "forbidden_target",
            "The recording's URL is http, by which anybody on the way may change it.",
            "Use https, or allow http by jobs.allow_private.",
        )
    return OnTheWeb(url)


def _stored(bucket: str, path: str, parts: SplitResult, url: str | None = None) -> Stored:
    key = unquote(path.removeprefix("/"))
    if not bucket or not key:
        raise _unreadable("It names no bucket, or no key in it.")
    version = next(iter(parse_qs(parts.query).get("versionId", ())), None)
    return Stored(bucket, key, version, url, url is not None and _is_presigned(parts))


def _on_disk(parts: SplitResult, files: Path | None) -> OnDisk:
    if files is None:
        raise ClientError(
            "forbidden_target",
            "The recording's URL is a file of the worker's.",
            "The operator can allow a folder by jobs.files.",
        )
    path, folder = Path(unquote(parts.path)).resolve(), files.resolve()
    if not path.is_relative_to(folder):  # links are followed, so that none leads out
        raise ClientError("forbidden_target", "The recording's file is not below jobs.files.")
    return OnDisk(path)


def _is_presigned(parts: SplitResult) -> bool:
    query = parse_qs(parts.query)
    return any(name in query for name in SIGNATURES)


def _port(scheme: str, port: int | None) -> int | None:
    return port or {"http": 80, "https": 443}.get(scheme)


def _unreadable(fault: str) -> ClientError:
    return ClientError(
        "bad_url",
        f"The recording's URL leads nowhere that is known. {fault}",
        "Use s3://bucket/key, a URL of S3, or any https one.",
    )
