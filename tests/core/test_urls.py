"""What is shown of a URL."""

from __future__ import annotations

import pytest

from live_asr.core.urls import receiver_of


@pytest.mark.parametrize(
    ("url", "receiver"),
    [
        ("https://user:secret@Hooks.Example.com/a?token=b", "https://hooks.example.com"),
        ("http://[2001:db8::1]:8080/", "http://[2001:db8::1]:8080"),
        ("http://[broken", ""),
        ("http://host:99999/", ""),
    ],
)
def test_a_receiver_is_named_without_what_may_be_secret(url: str, receiver: str) -> None:
    assert receiver_of(url) == receiver
