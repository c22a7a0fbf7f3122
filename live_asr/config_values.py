"""What a setting's value may be: how it is read, and how it is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from live_asr.core.fields import web_url
from live_asr.core.languages import AUTO, as_spelt, code_of, hint_for
from live_asr.errors import ClientError


def _split(value: object) -> object:
    """Read a list from an environment variable: items between commas."""
    return [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value


def _expand(value: object) -> object:
    return Path(value).expanduser() if isinstance(value, str | Path) else value


def _none_if_empty(value: object) -> object:
    return None if value == "" else value


def _web_url(value: str | None) -> str | None:
    try:
        return None if value is None else str(web_url(value, "url"))
    except ClientError:  # whose sentence repeats the value, and the path of one is often a secret
        raise ValueError("it should be an absolute http or https URL of at most 2048 characters") from None


def _language(value: str | None) -> str | None:
    if value is None or as_spelt(value) == AUTO:
        return None
    code = code_of(value)
    if code is None:
        raise ValueError(f"it should be a language that Whisper knows. {hint_for(value)}")
    return code


Items = Annotated[tuple[str, ...], BeforeValidator(_split)]
Folder = Annotated[Path, BeforeValidator(_expand)]
OptionalFolder = Annotated[Path | None, BeforeValidator(_expand), BeforeValidator(_none_if_empty)]
OptionalDays = Annotated[float | None, Field(gt=0), BeforeValidator(_none_if_empty)]
OptionalPort = Annotated[int | None, Field(ge=0, le=65535), BeforeValidator(_none_if_empty)]
OptionalText = Annotated[str | None, BeforeValidator(_none_if_empty)]
OptionalLanguage = Annotated[str | None, AfterValidator(_language), BeforeValidator(_none_if_empty)]
OptionalUrl = Annotated[str | None, AfterValidator(_web_url), BeforeValidator(_none_if_empty)]
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
