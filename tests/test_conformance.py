"""The table of what other programs' clients can do here is that of the tests, and has no gaps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.conformance import (
    BEGIN,
    CLIENTS,
    END,
    FAILS,
    MISSING,
    PAGE,
    SCENARIOS,
    WORKS,
    Claim,
    Found,
    claims_in,
    written,
)
from tests.started import ROOT


def claimed() -> Found:
    found = Found()
    for claim in claims_in(sorted((ROOT / "tests" / "server").glob("test_*.py"))):
        found.add(claim, "passed")
    return found


def test_each_scenario_of_each_client_has_a_test() -> None:
    tried = claimed().outcomes
    assert [(c, s) for c in CLIENTS for s in SCENARIOS if (c, s) not in tried] == []


def test_the_page_has_the_table_that_the_tests_write() -> None:
    assert written(PAGE.read_text()) == claimed().table(), "`make test CONFORMANCE=write` writes it"


def test_a_cell_is_what_all_of_its_tests_came_to() -> None:
    found = Found()
    found.add(Claim("Wyoming", ("connect", "final")), "passed")
    found.add(Claim("Wyoming", ("final",), sees="a word"), "failed")
    found.add(Claim("Wyoming", ("flush",), missing="nothing"), "passed")
    rows = {row.split(" | ")[0]: row.split(" | ")[-1] for row in found.table().splitlines()}
    assert rows["| connect"] == f"{WORKS} |"
    assert rows["| final"] == f"{FAILS} |"
    assert rows["| flush"] == f"{MISSING} |"
    assert rows["| close"] == f"{FAILS} |", "what was not tried does not work"
    assert "| Wyoming | final | a word |" in found.table()
    assert not found.is_complete


# A whole run -------------------------------------------------------------------------------------------

CONFTEST = """
from pathlib import Path
from tests import conformance

def pytest_configure(config):
    conformance.install(config, Path(__file__).with_name("page.md"))
"""
TESTS = """
import os, pytest
from tests.conformance import CLIENTS, SCENARIOS

@pytest.mark.parametrize("cell", [
    pytest.param((c, s), marks=pytest.mark.conforms(c, s)) for c in CLIENTS[FIRST:LAST] for s in SCENARIOS
])
def test_cell(cell):
    assert cell != ("Wyoming", "final") or "BROKEN" not in os.environ
"""


def test_a_run_of_all_writes_the_page_and_fails_where_it_finds_otherwise(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    for number, (first, last) in enumerate(((0, 3), (3, 7))):
        test = TESTS.replace("FIRST", str(first)).replace("LAST", str(last))
        (tmp_path / f"test_{number}.py").write_text(test)
    page = tmp_path / "page.md"
    page.write_text(f"Before.\n{BEGIN}\n{END}\nBehind.\n")

    def run(*more: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*(sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile"), *more],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    assert run(CONFORMANCE="write").returncode == 0
    assert page.read_text().startswith("Before.") and page.read_text().endswith("Behind.\n")
    assert f"| final |{f' {WORKS} |' * len(CLIENTS)}" in page.read_text()
    assert run().returncode == 0
    done = run(BROKEN="1")
    assert done.returncode == 1 and "says otherwise" in done.stdout
    done = run("test_1.py", BROKEN="1")
    assert "says otherwise" not in done.stdout, "a part of it tells nothing of the table"
