"""Who may have how many places."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from live_asr.core.errors import Unavailable
from live_asr.sessions.admission import SOMEBODY, Client
from live_asr.sessions.places import Places

FAR = Client(address="203.0.113.9")


def fill(places: Places, client: Callable[[int], Client]) -> int:
    """Take places until one is refused; return how many there were."""
    for number in range(100):
        try:
            places.take(str(number), client(number))
        except Unavailable as refused:
            assert refused.code == "server_full"
            return number
    return 100


@pytest.mark.parametrize(
    ("most", "bound", "client", "may"),
    [
        pytest.param(8, None, FAR, 6, id="one from elsewhere leaves a quarter"),
        pytest.param(2, None, FAR, 1, id="of two, one"),
        pytest.param(1, None, FAR, 1, id="the only one"),
        pytest.param(8, None, Client(address="2001:db8::/64"), 6, id="a network of IPv6"),
        pytest.param(8, None, Client(owner="a1"), 6, id="a token"),
        pytest.param(8, 3, FAR, 3, id="as the operator says"),
        pytest.param(8, 3, Client(address="127.0.0.1"), 3, id="on this machine, too"),
        pytest.param(8, None, Client(address="127.0.0.1"), 8, id="this machine has all"),
        pytest.param(8, None, Client("a1", "127.0.0.1"), 6, id="its tokens have not"),
    ],
)
def test_one_client_has_no_more_places_than_it_may(
    most: int, bound: int | None, client: Client, may: int
) -> None:
    assert fill(Places(most, bound), lambda _: client) == may


def test_who_is_not_known_is_not_bounded() -> None:
    assert fill(Places(8, None), lambda _: SOMEBODY) == 100


def test_a_place_that_is_given_back_is_free_and_others_do_not_count() -> None:
    places = Places(4, 2)
    places.take("one", FAR)
    places.take("two", FAR)
    places.take("other", Client(address="203.0.113.10"))
    with pytest.raises(Unavailable, match="All 2 places that one address may have are taken"):
        places.check(FAR)
    places.give_back("one")
    places.give_back("one")
    places.take("three", FAR)
    with pytest.raises(Unavailable):
        places.take("four", FAR)


def test_tokens_that_were_made_with_one_token_share_its_places() -> None:
    assert fill(Places(8, 3), lambda number: Client(owner=f"a1.{number}")) == 3
    assert fill(Places(8, 3), lambda number: Client(owner=f"server.{number}")) == 100
