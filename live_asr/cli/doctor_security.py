"""What of docs/security.md a server does with its settings: one line each, with what to do about it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from live_asr.audio import syscalls
from live_asr.cli.doctor import Finding
from live_asr.config.settings import COUNTED_SESSIONS, Settings
from live_asr.core.urls import is_reached_by_others

GOOD_TOKEN = 16
"""Characters of a token that nobody guesses, however it was thought up."""


def examine_security(settings: Settings) -> Iterator[Finding]:
    """Yield what these settings do for security; nothing is started, and nobody is called."""
    yield from _who_gets_in(settings)
    yield from _what_is_believed(settings)
    yield from _where_it_calls(settings)
    yield from _what_is_kept(settings)
    yield from _how_it_runs(settings)


def _who_gets_in(settings: Settings) -> Iterator[Finding]:
    server, is_reached = settings.server, is_reached_by_others(settings.server.host)
    if server.token is not None:
        length = len(server.token.get_secret_value())
        if length < GOOD_TOKEN:
            yield Finding(
                "warn", "token", f"set, {length} characters", f"Use {GOOD_TOKEN} random ones or more."
            )
        else:
            yield Finding("ok", "token", "set")
    elif is_reached and server.insecure:
        advice = "Take server.insecure away: a token is made then, and printed with the link."
        yield Finding("warn", "token", "nobody is asked, and others reach the server", advice)
    elif is_reached:
        yield Finding("ok", "token", "made at the first start")
    else:
        advice = "Behind a proxy on this machine everybody gets in: set server.token there."
        yield Finding("ok", "token", "nobody is asked on this machine, unless tokens were made", advice)
    if server.tls_cert is not None:
        yield Finding("ok", "TLS", f"by itself, with {server.tls_cert}")
    elif is_reached:
        advice = "Set server.tls_cert and server.tls_key, or put a proxy in front: tokens go in the clear."
        yield Finding("warn", "TLS", "none, and others reach the server", advice)
    else:
        yield Finding("ok", "TLS", "none; only this machine reaches the server")
    if server.wyoming_port is not None and is_reached:
        advice = "It knows no token: let nobody but Home Assistant reach its port."
        yield Finding("warn", "Wyoming", f"port {server.wyoming_port}, for whoever reaches it", advice)


def _what_is_believed(settings: Settings) -> Iterator[Finding]:
    server = settings.server
    for name, values, danger in (
        ("allowed_origins", server.allowed_origins, "Any page may use this server: name those that shall."),
        ("allowed_hosts", server.allowed_hosts, "Pages whose name leads here get in: name the server's own."),
        ("trusted_proxies", server.trusted_proxies, "Anybody says where they come from: name the proxies."),
    ):
        if "*" in values:
            yield Finding("warn", f"server.{name}", "*", danger)
        else:
            yield Finding("ok", f"server.{name}", ", ".join(values) or "none")
    most = server.max_sessions or (COUNTED_SESSIONS if server.admission == "count" else None)
    places = "as many places as the machine carries" if most is None else f"{most} places"
    bounds = f"{places}, {server.requests_per_minute} requests a minute"
    yield Finding("ok", "limits", f"{bounds}, {server.max_session_hours:g} hours a session")
    if server.idle_timeout == 0:
        advice = "Clients that say nothing hold places for ever: set server.idle_timeout."
        yield Finding("warn", "idle clients", "never let go", advice)


def _where_it_calls(settings: Settings) -> Iterator[Finding]:
    webhook = settings.webhook
    if webhook.allow_private:
        advice = "List what it is for in webhook.allowed instead."
        yield Finding("warn", "webhooks", "to any address and port but metadata services", advice)
    elif webhook.client_urls == "any":
        advice = "auto or allowlist leaves it to tokens with the scope `webhook`, or to a list."
        yield Finding("warn", "webhooks", "clients name any public host", advice)
    else:
        yield Finding("ok", "webhooks", f"named by clients: {webhook.client_urls}")


def _what_is_kept(settings: Settings) -> Iterator[Finding]:
    storage = settings.storage
    if storage.keep_transcripts_days is None:
        advice = "Set storage.keep_transcripts_days, or erase by hand."
        yield Finding("warn", "transcripts", "kept until somebody erases them", advice)
    else:
        yield Finding("ok", "transcripts", f"erased after {storage.keep_transcripts_days:g} days")
    if storage.keep_audio and storage.keep_audio_days is None:
        yield Finding("warn", "audio", "kept as long as the session", "Set storage.keep_audio_days.")
    else:
        yield Finding("ok", "audio", "kept for a while" if storage.keep_audio else "erased with the result")
    if settings.server.audit_log is None:
        yield Finding("warn", "audit log", "none", "Set server.audit_log to a file, or to - for the output.")
    else:
        yield Finding("ok", "audit log", settings.server.audit_log)


def _how_it_runs(settings: Settings) -> Iterator[Finding]:
    folder = settings.storage.data
    if folder.is_dir() and os.name == "posix":
        mode = stat.S_IMODE(folder.stat().st_mode)
        if mode & 0o007:
            yield Finding("warn", "data folder", f"{folder} has mode {mode:o}", f"chmod 700 {folder}")
        else:
            yield Finding("ok", "data folder", f"{folder} has mode {mode:o}")
    if syscalls.seccomp() is None:
        advice = (
            "On Linux, install libseccomp (Debian: libseccomp2) and pyseccomp; elsewhere, use the container."
        )
        yield Finding("warn", "decoder", "FFmpeg's process may reach the network", advice)
    else:
        yield Finding("ok", "decoder", "FFmpeg's process has no network and starts no programs")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        advice = "FFmpeg reads strangers' bytes as this user: run it as one of its own, as the image does."
        yield Finding("warn", "user", "root", advice)
