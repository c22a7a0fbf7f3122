"""What other programs' clients can do here, as the tests found it: the table in docs/clients.md.

A test says by its mark what it shows:

    @pytest.mark.conforms("Wyoming", "overload", sees="an `error` event with the code `server_full`")
    @pytest.mark.conforms("Wyoming", "bad credentials", missing="the protocol has no key")

A cell of the table is what all tests that name it came to. A run of all of them compares the table with what
it found, and fails where they differ; `make test CONFORMANCE=write` writes it.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.started import ROOT

PAGE = ROOT / "docs" / "clients.md"
BEGIN, END = "<!-- written by the tests: conformance -->", "<!-- end -->"
MARK = "conforms"
CLIENTS = (
    "WhisperLiveKit",
    "OpenAI, files",
    "OpenAI Realtime",
    "Deepgram, streams",
    "Deepgram, recordings",
    "AymurAI",
    "Wyoming",
)
SCENARIOS = (
    "connect",
    "stream in real time",
    "at once",
    "interim",
    "final",
    "flush",
    "close",
    "cut socket",
    "bad credentials",
    "bad parameters",
    "wrong audio",
    "overload",
    "slow reader",
)
WORKS, MISSING, FAILS = "✓", "–", "✗"


@dataclass(frozen=True)
class Claim:
    """What one test shows of one client."""

    client: str
    scenarios: tuple[str, ...]
    sees: str | None = None
    """What its user gets to see."""
    missing: str | None = None
    """What they see in place of what there is not."""
    judge: str | None = None
    """Whose client shows it."""

    def __post_init__(self) -> None:
        unknown = {self.client} - set(CLIENTS) | set(self.scenarios) - set(SCENARIOS)
        if unknown:
            raise ValueError(f"no client and no scenario: {', '.join(sorted(unknown))}")


@dataclass
class Found:
    """What the tests came to."""

    outcomes: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    """`passed` and `failed`, by client and scenario."""
    claims: list[Claim] = field(default_factory=list)

    def add(self, claim: Claim, outcome: str) -> None:
        """Take note of one test that has passed or failed."""
        self.claims.append(claim)
        for scenario in claim.scenarios:
            self.outcomes.setdefault((claim.client, scenario), set()).add(outcome)

    @property
    def is_complete(self) -> bool:
        """Whether each scenario of each client was tried."""
        return len(self.outcomes) == len(CLIENTS) * len(SCENARIOS)

    def table(self) -> str:
        """Return what is found as it stands in the page."""
        rows = [f"| | {' | '.join(CLIENTS)} |", f"| --- |{' --- |' * len(CLIENTS)}"]
        for scenario in SCENARIOS:
            cells = (self._cell(client, scenario) for client in CLIENTS)
            rows.append(f"| {scenario} | {' | '.join(cells)} |")
        rows += ["", "| client | | what it sees |", "| --- | --- | --- |"]
        rows += (f"| {client} | {scenario} | {text} |" for client, scenario, text in self._seen())
        return "\n".join(rows)

    def judges(self) -> str:
        """Return who judged what."""
        by_client: dict[str, set[str]] = {}
        for claim in self.claims:
            if claim.judge is not None:
                by_client.setdefault(claim.client, set()).add(claim.judge)
        return "; ".join(
            f"{client}: {', '.join(sorted(by_client[client]))}" for client in CLIENTS if client in by_client
        )

    def _cell(self, client: str, scenario: str) -> str:
        outcomes = self.outcomes.get((client, scenario), {"failed"})
        if "failed" in outcomes:
            return FAILS
        is_missing = any(
            claim.missing is not None
            for claim in self.claims
            if claim.client == client and scenario in claim.scenarios
        )
        return MISSING if is_missing else WORKS

    def _seen(self) -> Iterator[tuple[str, str, str]]:
        for client in CLIENTS:
            for scenario in SCENARIOS:
                told = (
                    claim.missing or claim.sees
                    for claim in self.claims
                    if claim.client == client and scenario in claim.scenarios
                )
                texts = sorted({text for text in told if text is not None})
                if texts:
                    yield client, scenario, "; ".join(texts)


def written(page: str) -> str:
    """Return the table that stands in a page."""
    return page.split(BEGIN)[1].split(END)[0].strip()


def claims_in(files: Iterable[Path]) -> Iterator[Claim]:
    """Read what tests say they show, without running them."""
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for mark in node.decorator_list:
                    if isinstance(mark, ast.Call) and ast.unparse(mark.func) == f"pytest.mark.{MARK}":
                        client, *scenarios = map(ast.literal_eval, mark.args)
                        told = {key.arg: ast.literal_eval(key.value) for key in mark.keywords if key.arg}
                        yield Claim(client, tuple(scenarios), **told)


# What pytest calls; see tests/conftest.py ----------------------------------------------------------------


class Collector:
    """Takes note of outcomes, also of those that other processes send; compares in the end."""

    def __init__(self, page: Path) -> None:
        self._page = page
        self.found = Found()
        self.fault = ""

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Send along with a test's outcome what it shows."""
        for mark in item.iter_markers(MARK):
            client, *scenarios = mark.args
            item.user_properties.append((MARK, [client, scenarios, mark.kwargs]))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take note of a test that is over."""
        if report.skipped or (report.when != "call" and report.passed):
            return
        for name, value in report.user_properties:
            if name == MARK:
                client, scenarios, told = value  # type: ignore[misc]  # what was put there above
                self.found.add(Claim(client, tuple(scenarios), **told), report.outcome)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the table, or compare it, where all that it holds was tried."""
        if hasattr(session.config, "workerinput") or not self.found.is_complete:
            return
        table, page = self.found.table(), self._page.read_text()
        before = written(page)
        if os.environ.get("CONFORMANCE") == "write":
            head, tail = page.split(BEGIN)[0], page.split(END)[1]
            self._page.write_text(f"{head}{BEGIN}\n{table}\n{END}{tail}")
        elif table != before:
            self.fault = f"{self._page.name} says otherwise than this run found; CONFORMANCE=write writes it."
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say who judged, and why the run fails where it is for the table."""
        if self.found.is_complete:
            terminalreporter.write_line(f"conformance, judged by {self.found.judges()}")
        if self.fault:
            terminalreporter.write_line(self.fault, red=True)


def install(config: pytest.Config, page: Path = PAGE) -> None:
    """Have pytest collect what tests show, for this page."""
    config.addinivalue_line(
        "markers", f"{MARK}(client, *scenarios, sees, missing, judge): see conformance.py"
    )
    config.pluginmanager.register(Collector(page), "conformance")
