"""What README, Makefile and Dockerfile say is so."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT, Server

README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def make(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "--no-print-directory", *words, *(f"{name}={value}" for name, value in variables.items())],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))


def test_every_make_target_that_the_papers_name_exists() -> None:
    papers = [README, DOCKERFILE, *(path.read_text() for path in (ROOT / "docs").rglob("*.md"))]
    named = {name for paper in papers for name in re.findall(r"`make ([a-z]+)|^make ([a-z]+)", paper, re.M)}
    assert {name for pair in named for name in pair if name} <= targets()


def test_the_test_command_of_the_readme_is_the_one_that_ci_runs() -> None:
    assert "make test" in README
    assert re.search(r"^make test$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)


def test_the_container_builds_and_runs_by_make_alone() -> None:
    steps = re.findall(r"^(?:RUN|CMD|HEALTHCHECK .*?CMD) (.+?)(?:\\)?$", DOCKERFILE, re.MULTILINE)
    ours = [step for step in steps if not step.startswith("apt-get")]
    assert ours
    assert all(step.startswith(("make ", '["make"')) for step in ours)
    wanted = set(re.findall(r"make install|\"(health|serve)\"", DOCKERFILE))
    assert {name for name in wanted if name} == {"health", "serve"}


def test_the_container_copies_files_that_exist_and_all_that_the_package_needs() -> None:
    copied = {
        word for line in re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE) for word in line.split()
    }
    assert {"live_asr", "web", "pyproject.toml", "constraints.txt", "Makefile", "README.md"} <= copied
    assert all((ROOT / name).exists() for name in copied)
    admitted = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    assert copied <= admitted


def test_the_health_check_of_the_container_passes_for_a_server_and_fails_without_one(server: Server) -> None:
    assert make("-s", "health", PORT=server.url.rsplit(":", 1)[1]).returncode == 0
    assert make("-s", "health", PORT="1").returncode != 0


def test_the_python_example_of_the_readme_prints_what_was_said(
    server: Server, sample_pcm: bytes, tmp_path: Path
) -> None:
    (example,) = re.findall(r"```python\n(.+?)```", README, re.DOTALL)
    (tmp_path / "speech.pcm").write_bytes(sample_pcm[:480_000])
    done = subprocess.run(
        [sys.executable, "-c", example.replace("http://localhost:8765", server.url)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "I didn't know you were there" in done.stdout


def test_every_file_that_the_readme_links_to_exists() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    missing = [link for link in links if not (ROOT / link).exists()]
    assert links
    assert not missing


def test_no_paper_names_a_figure_whose_script_is_missing() -> None:
    for name in re.findall(r"benchmarks/[\w/.-]+", README):
        assert (ROOT / name).exists(), name
