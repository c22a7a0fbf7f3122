"""Jobs over HTTP: a recording by its URL or as an upload, done when there is time, answered by webhook."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.datastructures import FormData, UploadFile

from live_asr.core.errors import ClientError, LiveAsrError, Unavailable, told
from live_asr.jobs.http_queue import JobStatus
from live_asr.jobs.messages import LARGEST_BODY_BYTES, NotAJob, parsed
from live_asr.server.access import forbidden
from live_asr.server.dialects.openai_errors import status_of
from live_asr.server.dialects.requests import admit, form_with
from live_asr.server.dialects.uploads import discard, file_of, read_form
from live_asr.server.proxies import root_path_of
from live_asr.server.rest import State
from live_asr.server.schemas import Fault, FullPassProgress, Problem
from live_asr.sessions.finalizer import links_of

NUMBERS = ("minSpeakers", "maxSpeakers")
FIELDS = ("jobId", "presentationId", "language", *NUMBERS, "vocabulary", "webhookUrl", "job")
"""What a form may hold beside its file; `job` is an object with any of them."""

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


class JobInfo(BaseModel):
    """What is known of a job."""

    job: str = Field(description="Its id, which is that of the session that it becomes.")
    jobId: int | str | None = Field(description="What its client calls it.")  # noqa: N815  the wire's name
    state: str = Field(description="queued, running, done or failed.")
    progress: FullPassProgress | None = Field(
        description="null where it does not run, or not at this server."
    )
    error: Fault | None = Field(description="null unless it failed.")
    links: dict[str, str] = Field(description="Its transcript by format, once it is done.")


PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "The request asks for nothing that can be done."},
    401: {"model": Problem, "description": "The token is missing or wrong."},
    403: {"model": Problem, "description": "The token does not allow this."},
    429: {"model": Problem, "description": "Too many wrong tokens came from this address."},
    503: {"model": Problem, "description": "Too many jobs wait, or the disk is full."},
}


@router.post(
    "",
    summary="Write down a recording",
    status_code=202,
    response_model=JobInfo,
    responses=PROBLEMS,
    openapi_extra=form_with(*FIELDS),
)
async def add_job(request: Request, state: State) -> Response:
    """Take a recording: JSON with its `audioUrl`, or a form with the `file`; see docs/worker.md.

    Answers at once. The same `jobId` with the same token is the same job: it is answered with 200, and not
    done again.
    """
    try:
        try:
            client = (await admit(request, state, "caption")).client
            await state.registry.limits_of(client)
        except LiveAsrError:
            await discard(request)
            raise
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "multipart/form-data":
            settings = state.settings
            form = await read_form(request, settings.storage.data, settings.server.max_upload_bytes)
            try:
                file = file_of(form)
                recording = (file.filename or "", file.file)
                status, is_new = await state.jobs.submit(_asked(form), recording, client)
            finally:
                await form.close()
        else:
            status, is_new = await state.jobs.submit(await _read(request), None, client)
    except LiveAsrError as error:
        state.metrics.refused.labels(error.code).inc()
        return _refused(error)
    if is_new:
        state.audit.opened(status.id, client)
    return JSONResponse(_info(status, request).model_dump(), status_code=202 if is_new else 200)


@router.get(
    "/{job}",
    summary="What is known of a job",
    response_model=JobInfo,
    responses={**PROBLEMS, 404: {"model": Problem, "description": "There is no such job."}},
)
async def one_job(job: str, request: Request, state: State) -> Response:
    """Answer a job's state, by its id or by the `jobId` that it was given with this token.

    A token without `read` sees its own.
    """
    try:
        grant = await admit(request, state, "read", "caption")
        status = await state.jobs.find(job, grant.token)
        if status is None:
            raise HTTPException(404, f"There is no job {job[:80]!r}.")
        if not grant.may("read") and not grant.owns(status.owner):
            raise forbidden("This job came with another token.")
    except LiveAsrError as error:
        return _refused(error)
    return JSONResponse(_info(status, request).model_dump())


def _info(status: JobStatus, request: Request) -> JobInfo:
    root_path = root_path_of(request.scope)
    links = links_of(status.id) if status.state == "done" else {}
    progress = None
    if status.progress is not None:
        progress = FullPassProgress(stage=status.progress.stage, fraction=status.progress.fraction)
    return JobInfo(
        job=status.id,
        jobId=status.told.get("jobId"),
        state=status.state,
        progress=None
        if progress is None
        else FullPassProgress(stage=progress.stage, fraction=progress.fraction),
        error=None if status.error is None else Fault(**status.error),
        links={name: root_path + link for name, link in links.items()},
    )


async def _read(request: Request) -> Mapping[str, Any]:
    """Read a job that is asked for as JSON. Raises ClientError."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > LARGEST_BODY_BYTES:
            raise NotAJob("too_large", f"The job is larger than {LARGEST_BODY_BYTES} bytes.")
    value = parsed(body.decode("utf-8", "replace"))
    if not isinstance(value, Mapping):
        raise NotAJob("not_a_job", "The body is no JSON object.", 'Send {"audioUrl": "https://…"}.')
    return value


def _asked(form: FormData) -> dict[str, Any]:
    """Read what a form asks for beside its file. Raises ClientError."""
    asked: dict[str, Any] = {}
    whole = form.get("job")
    if isinstance(whole, str) and whole:
        value = parsed(whole)
        if not isinstance(value, Mapping):
            raise NotAJob("not_a_job", "`job` is no JSON object.")
        asked |= value
    for name, text in form.multi_items():
        if isinstance(text, UploadFile) or name in ("job", "file", "audioUrl") or not text:
            continue
        if name in NUMBERS:
            if not text.isdecimal():
                raise ClientError(
                    "bad_job", f"`{name}` must be a whole number.", "Leave it out, or send one."
                )
            asked[name] = int(text)
        elif name == "vocabulary":
            asked[name] = [word.strip() for word in text.split(",") if word.strip()]
        else:
            asked[name] = text
    return asked


def _refused(error: LiveAsrError) -> Response:
    headers = {"Retry-After": f"{error.retry_after:.0f}"} if isinstance(error, Unavailable) else {}
    if error.code == "unauthorized":
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse({"detail": str(told(error)), "code": error.code}, status_of(error), headers)
