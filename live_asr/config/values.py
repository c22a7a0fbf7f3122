"""What a setting's value may be: how it is read, and how it is shown."""

from __future__ import annotations

import json
import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from live_asr.core.errors import ClientError
from live_asr.core.fields import web_url
from live_asr.core.languages import AUTO, as_spelt, code_of, hint_for
from live_asr.core.messages import MAX_SPEAKERS

ANY_PROXY = "*"
"""Stands for any peer in a list of proxies."""
DEVICE = re.compile(r"cpu|cuda:\d{1,3}")
RECEIVER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?|[0-9A-Fa-f:.]+(/\d{1,3})?")
"""A host with a port or without, or a network."""
ENGINE = re.compile(r"local|ray|(ray://)?(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):\d{1,5}")
"""Who recognises: this machine, or a Ray cluster."""
OBJECTS = re.compile(r"s3://[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9](/[^\s?#]*)?|file:///[^?#]+")
"""An object store: a bucket, with what all names there begin with, or a folder."""
SHORTEST_TOKEN = 8
TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
"""What the name of a WebSocket's subprotocol may hold, by which browsers send a token."""
PREFIX = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~@%+-]+)+")
"""A path before the server's own, as a URL has it, without a slash at its end."""


def _split(value: object) -> object:
    """Read a list from an environment variable: items between commas."""
    return [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value


def _expand(value: object) -> object:
    if not isinstance(value, str | Path):
        return value
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise ValueError("it should be a folder; there is no such home folder") from None


def _none_if_empty(value: object) -> object:
    return None if value == "" else value


def _root_path(value: str) -> str:
    path = value.rstrip("/")
    if path and not PREFIX.fullmatch(path):
        raise ValueError("it should be a path such as /captions")
    return path


def _proxies(value: tuple[str, ...]) -> tuple[str, ...]:
    for entry in value:
        try:
            if entry != ANY_PROXY:
                ip_network(entry, strict=False)
        except ValueError:
            raise ValueError(
                f"{entry!r} should be an address or a network such as 10.0.0.0/8, or * for any peer"
            ) from None
    return value


def _devices(value: tuple[str, ...]) -> tuple[str, ...]:
    kinds = {entry.partition(":")[0] for entry in value}
    for entry in value:
        if not DEVICE.fullmatch(entry):
            raise ValueError(f"{entry!r} should be cpu, or a GPU such as cuda:0")
    if len(kinds) > 1:
        raise ValueError("all of them should be CPUs, or all GPUs")
    if len(set(value)) < len(value) and "cuda" in kinds:
        raise ValueError("each GPU should stand there once")
    return value


def _receivers(value: tuple[str, ...]) -> tuple[str, ...]:
    for entry in value:
        if not RECEIVER.fullmatch(entry):
            raise ValueError(f"{entry!r} should be a host or a network, with a port or without")
    return value


def _web_url(value: str | None) -> str | None:
    try:
        return None if value is None else str(web_url(value, "url"))
    except ClientError:  # whose sentence repeats the value, and the path of one is often a secret
        raise ValueError("it should be an absolute http or https URL of at most 2048 characters") from None


def _engine(value: str) -> str:
    if not ENGINE.fullmatch(value):
        raise ValueError("it should be local, ray, or an address such as ray://head:10001 or head:6379")
    return value


def _objects(value: str | None) -> str | None:
    if value is not None and not OBJECTS.fullmatch(value):
        raise ValueError(
            "it should be a bucket such as s3://bucket/prefix, or a folder such as file:///folder"
        )
    return value


def _token(value: SecretStr | None) -> SecretStr | None:
    if value is None:
        return None
    token = value.get_secret_value()
    if len(token) < SHORTEST_TOKEN:
        raise ValueError(f"it should have at least {SHORTEST_TOKEN} characters")
    if not TOKEN.fullmatch(token):
        raise ValueError(
            "it should be of letters, digits and !#$%&'*+-.^_`|~ alone, since browsers send it as the name "
            "of a subprotocol; base64 has a variety for URLs, without = and /"
        )
    return value


def _language(value: str | None) -> str | None:
    if value is None or as_spelt(value) == AUTO:
        return None
    code = code_of(value)
    if code is None:
        raise ValueError(f"it should be a language that Whisper knows. {hint_for(value)}")
    return code


Devices = Annotated[tuple[str, ...], AfterValidator(_devices), BeforeValidator(_split)]
EngineAddress = Annotated[str, AfterValidator(_engine)]
Items = Annotated[tuple[str, ...], BeforeValidator(_split)]
Proxies = Annotated[tuple[str, ...], AfterValidator(_proxies), BeforeValidator(_split)]
RootPath = Annotated[str, AfterValidator(_root_path)]
Folder = Annotated[Path, BeforeValidator(_expand)]
OptionalFolder = Annotated[Path | None, BeforeValidator(_expand), BeforeValidator(_none_if_empty)]
OptionalFile = Annotated[Path | None, BeforeValidator(_expand), BeforeValidator(_none_if_empty)]
OptionalHours = Annotated[float | None, Field(gt=0), BeforeValidator(_none_if_empty)]
OptionalDays = Annotated[float | None, Field(gt=0), BeforeValidator(_none_if_empty)]
OptionalBytes = Annotated[int | None, Field(ge=1024), BeforeValidator(_none_if_empty)]
OptionalCount = Annotated[int | None, Field(ge=1), BeforeValidator(_none_if_empty)]
Receivers = Annotated[tuple[str, ...], AfterValidator(_receivers), BeforeValidator(_split)]
OptionalPort = Annotated[int | None, Field(ge=0, le=65535), BeforeValidator(_none_if_empty)]
OptionalSpeakers = Annotated[int | None, Field(ge=1, le=MAX_SPEAKERS), BeforeValidator(_none_if_empty)]
OptionalObjects = Annotated[str | None, AfterValidator(_objects), BeforeValidator(_none_if_empty)]
OptionalText = Annotated[str | None, BeforeValidator(_none_if_empty)]
OptionalLanguage = Annotated[str | None, AfterValidator(_language), BeforeValidator(_none_if_empty)]
OptionalUrl = Annotated[str | None, AfterValidator(_web_url), BeforeValidator(_none_if_empty)]
OptionalToken = Annotated[SecretStr | None, AfterValidator(_token), BeforeValidator(_none_if_empty)]
OptionalSecret = Annotated[SecretStr | None, BeforeValidator(_none_if_empty)]


def shown(value: object) -> str:
    """Write a setting's value for people; secrets are masked."""
    if isinstance(value, SecretStr):
        return "********"
    if value is None:
        return "unset"
    if isinstance(value, bool | tuple):
        return json.dumps(value)
    return str(value)
