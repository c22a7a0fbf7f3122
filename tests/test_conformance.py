"""The table of what other programs' clients can do here is that of the tests, and has no gaps."""

from __future__ import annotations

from tests.conformance import (
    CLIENTS,
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
