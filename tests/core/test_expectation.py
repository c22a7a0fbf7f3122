"""Words to expect that look like something that was heard."""

from __future__ import annotations

from difflib import SequenceMatcher

import pytest
from hypothesis import given
from hypothesis import strategies as st

from live_asr.core import expectation
from live_asr.core.expectation import MIN_SIMILARITY, MOST_COMPARED, MOST_EXPECTED, Expectations

NAMES = ("Kubernetes", "Reykjavík", "Nguyễn Văn An", "Schwarzenegger", "Guadalupe", "C++", "...")


@pytest.mark.parametrize(
    ("heard", "expected"),
    [
        pytest.param("he went to Kuber Netties", ("Kubernetes",), id="one name heard as two words"),
        pytest.param("in Reikjavik, she said", ("Reykjavík",), id="another spelling"),
        pytest.param("said Nguyen Van An", ("Nguyễn Văn An",), id="several words"),
        pytest.param(
            "Schwarzeneger and Guadalupe", ("Guadalupe", "Schwarzenegger"), id="the most similar first"
        ),
        pytest.param("written in c", ("C++",), id="one letter"),
        pytest.param("nothing of the kind", (), id="none"),
        pytest.param("... ,", (), id="marks alone"),
        pytest.param("", (), id="nothing"),
    ],
)
def test_what_looks_like_something_heard_is_expected(heard: str, expected: tuple[str, ...]) -> None:
    assert Expectations(NAMES).resembling(heard.split()) == expected


@pytest.mark.parametrize(
    ("names", "heard", "expected"),
    [
        (["北京大学医院", "王小明", "上海"], "我在北京大学医院见了王晓明", ("北京大学医院", "王小明")),
        (["กรุงเทพมหานคร", "เชียงใหม่"], "ผมไปกรุงเทพมหานครครับ", ("กรุงเทพมหานคร",)),
    ],
)
def test_where_words_are_not_set_apart_characters_count(
    names: list[str], heard: str, expected: tuple[str, ...]
) -> None:
    assert set(Expectations(names).resembling(list(heard))) >= set(expected)
    assert Expectations(names).resembling([heard[:3], heard[3:]]) == Expectations(names).resembling(
        list(heard)
    )


def test_at_most_so_many_are_expected_at_once_and_each_of_them_once() -> None:
    names = [f"Gwendolyn {letter}{other}" for letter in "abcdefgh" for other in "klmnopqr"]
    heard = [part for name in names for part in name.split()]
    found = Expectations([*names, *names]).resembling(heard)
    assert len(set(found)) == len(found) == MOST_EXPECTED
    assert Expectations(["Gwen", "Gwen"]).resembling(["gwen"]) == ("Gwen",)


def test_what_was_heard_before_is_not_compared_again(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []

    class Counting(SequenceMatcher[str]):
        def ratio(self) -> float:
            compared.append(1)
            return super().ratio()

    monkeypatch.setattr(expectation, "SequenceMatcher", Counting)
    subject = Expectations([f"Gwendolyn{number}" for number in range(200)])
    said = [f"gwendolin{number}" for number in range(12)]
    first = subject.resembling(said)
    assert 0 < len(compared) <= MOST_COMPARED * 2 * len(said)
    compared.clear()
    assert subject.resembling(said) == first
    assert compared == []
    subject.resembling([*said[1:], "gwendoline"])
    assert 0 < len(compared) <= 2 * MOST_COMPARED


@given(
    st.lists(st.text("abcdeö ", max_size=50), max_size=8), st.lists(st.text("abcdeö", max_size=9), max_size=8)
)
def test_an_entry_that_was_said_is_among_those_expected(names: list[str], others: list[str]) -> None:
    subject = Expectations(names)
    for name in names:
        found = subject.resembling([*others[:4], *name.split(), *others[4:]])
        assert name in found or not name.strip()
        assert set(found) <= set(names)
    assert MIN_SIMILARITY < 1.0
