"""nginx and Caddy in front of a server, as docs/proxies.md has them, with a certificate of a test's own."""

from __future__ import annotations

import os
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from tests.started import ROOT

FETCHED = ROOT / ".venv" / "proxies" / "usr"
"""Where `make proxies` unpacks them."""
TIMEOUT = 60.0
NGINX = """
{user}
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {snippet}
}}
"""
CADDY = """
{{
    admin off
    auto_https off
    storage file_system {folder}/caddy
}}
{snippet}
"""


@dataclass(frozen=True)
class Proxy:
    """A running proxy."""

    url: str
    """Where it serves the server's page, without a slash at the end."""
    tls: ssl.SSLContext
    """Trusts it."""

    @property
    def origin(self) -> str:
        """What a browser says of a page that it got here."""
        return self.url.removesuffix("/captions")


def snippet_of(language: str) -> str:
    """Return the example of docs/proxies.md in this language."""
    (found,) = re.findall(rf"```{language}\n(.+?)```", (ROOT / "docs" / "proxies.md").read_text(), re.DOTALL)
    return str(found)


def executable(name: str) -> str:
    """Return the path of a proxy's program; without one the test is skipped."""
    places = [shutil.which(name), *(str(FETCHED / place / name) for place in ("sbin", "bin"))]
    found = next((place for place in places if place and Path(place).exists()), None)
    return found or pytest.skip(f"no {name} on this machine: `make proxies` fetches it")


@contextmanager
def proxied(name: str, server_url: str, folder: Path) -> Iterator[Proxy]:
    """Run nginx or Caddy before a server, as the docs say, until the block ends."""
    program = executable(name)
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    certificate, key = folder / "captions.pem", folder / "captions.key"
    certificate.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(key)
    port = _free_port()
    snippet = snippet_of(name).replace("127.0.0.1:8765", server_url.removeprefix("http://"))
    if name == "nginx":
        snippet = snippet.replace("443", f"127.0.0.1:{port}").replace("/etc/ssl", str(folder))
        user = "user root;" if os.getuid() == 0 else ""
        config = NGINX.format(folder=folder, snippet=snippet, user=user)
        command = [program, "-p", str(folder), "-e", f"{folder}/nginx.log", "-c", str(folder / "config")]
    else:
        head = f"https://localhost:{port} {{\n    bind 127.0.0.1\n    tls {certificate} {key}\n"
        config = CADDY.format(folder=folder, snippet=snippet.replace("captions.example.org {\n", head))
        command = [program, "run", "--adapter", "caddyfile", "--config", str(folder / "config")]
    (folder / "config").write_text(config)
    if name == "nginx":
        checked = subprocess.run([*command, "-t"], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr
    tls = ssl.create_default_context()
    authority.configure_trust(tls)
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env={"HOME": str(folder)})
    try:
        _wait_for(port, process, folder / "output")
        yield Proxy(f"https://localhost:{port}/captions", tls)
    finally:
        process.terminate()
        process.wait(TIMEOUT)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_for(port: int, process: subprocess.Popen[bytes], output: Path) -> None:
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as connection:
            if connection.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)  # between two looks at another process, not instead of waiting for it
    raise RuntimeError(f"the proxy did not get ready:\n{output.read_text()}")
