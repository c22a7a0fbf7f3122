"""Words to expect that look like something that was heard."""

from __future__ import annotations

import pytest

from live_asr.core.expectation import AT_ONCE, resembling

NAMES = ("Kubernetes", "Reykjavík", "Nguyễn Văn An", "Schwarzenegger", "Guadalupe")


@pytest.mark.parametrize(
    ("heard", "expected"),
    [
        pytest.param("he went to Kuber Netties", ("Kubernetes",), id="one name heard as two words"),
        pytest.param("in Reikjavik, she said", ("Reykjavík",), id="another spelling"),
        pytest.param("said Nguyen Van An", ("Nguyễn Văn An",), id="several words"),
        pytest.param("Schwarzeneger and Guadalupe", ("Guadalupe", "Schwarzenegger"), id="the likest first"),
        pytest.param("nothing of the kind", (), id="none"),
        pytest.param("... ,", (), id="marks alone"),
        pytest.param("", (), id="nothing"),
    ],
)
def test_what_looks_like_something_heard_is_expected(heard: str, expected: tuple[str, ...]) -> None:
    assert resembling(NAMES, heard.split()) == expected


def test_at_most_so_many_are_expected_at_once() -> None:
    names = tuple(f"Gwendolyn{number}" for number in range(AT_ONCE + 20))
    found = resembling((*names, "Gwendolyn"), ["Gwendolyn"])
    assert len(found) == AT_ONCE
    assert found[0] == "Gwendolyn"
