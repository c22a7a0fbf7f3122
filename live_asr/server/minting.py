"""The route that makes short-lived tokens: for browsers, by a server that has a token of its own."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field

from live_asr.core.errors import ClientError, ConfigError, Unavailable
from live_asr.server.access import Grant
from live_asr.server.permission import admitted, refused
from live_asr.server.replies import Problem
from live_asr.server.rest import State

DEFAULT_SECONDS, MAX_SECONDS = 600.0, 86_400.0

router = APIRouter(tags=["tokens"])


class TokenRequest(BaseModel):
    """What the token is to be."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(default="client", min_length=1, max_length=80)
    scopes: list[Literal["caption", "webhook", "watch", "read", "admin"]] = Field(
        default=["caption"], min_length=1, max_length=5, description="Some of those of the token that asks."
    )
    expires_in: float = Field(
        default=DEFAULT_SECONDS, ge=1, le=MAX_SECONDS, description="Seconds, from 1 to 86400."
    )


class MadeToken(BaseModel):
    """A new token. Its secret is shown this once."""

    token: str
    id: str
    name: str
    scopes: list[str]
    expires_at: str = Field(description="ISO 8601, UTC.")


async def may_mint(request: Request, state: State) -> Grant:
    """Let a request pass whose token may make others."""
    return await admitted(request, state)


@router.post(
    "/v1/tokens",
    summary="Make a token that expires soon",
    status_code=201,
    response_model=MadeToken,
    responses={
        401: {"model": Problem, "description": "The token is missing or wrong."},
        403: {"model": Problem, "description": "The token cannot give that."},
        422: {"model": Problem, "description": "The request holds what it may not."},
        429: {"model": Problem, "description": "Too many tokens that this one made have not expired."},
    },
)
async def mint(
    state: State, grant: Annotated[Grant, Depends(may_mint)], wanted: TokenRequest | None = None
) -> MadeToken:
    """Answer a token for somebody else, such as a page in a browser. It may no more than the one that asks,
    and sessions that are opened with it belong to both. Revoking that one revokes it."""
    asked = wanted or TokenRequest()
    try:
        token, secret = await state.access.mint(grant, asked.name, asked.scopes, asked.expires_in)
    except (ClientError, Unavailable) as error:
        raise refused(error) from None
    except ConfigError as error:
        raise HTTPException(422, str(error)) from None
    expires_at = datetime.fromtimestamp(token.expires_at or 0.0, UTC).isoformat(timespec="seconds")
    return MadeToken(
        token=secret,
        id=token.id,
        name=token.name,
        scopes=list(token.scopes),
        expires_at=expires_at.replace("+00:00", "Z"),
    )
