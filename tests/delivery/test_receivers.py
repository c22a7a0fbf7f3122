"""Which receivers clients may name: by setting, by token, by list, by port and by address."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from live_asr.config.settings import WebhookSettings, load_settings
from live_asr.core.errors import ClientError, ConfigError
from live_asr.delivery.receivers import Receivers

PUBLIC, PRIVATE = "93.184.215.14", "10.1.2.3"
NAMES = {"hooks.example.com": PUBLIC, "inner.example": PRIVATE, "cloud.example": "169.254.169.254"}


async def resolve(host: str, port: int) -> Sequence[str]:
    if host in NAMES:
        return [NAMES[host]]
    if host[0].isdigit() or ":" in host:
        return [host]
    raise OSError(f"nobody knows {host}")


async def refusal(url: str, *, is_known: bool = True, may_name: bool = True, **settings: Any) -> str | None:
    """Return why a receiver is refused; None where it is not."""
    receivers = Receivers(WebhookSettings(**settings))
    try:
        await receivers.check(url, resolve, is_known=is_known, may_name=may_name)
    except ClientError as error:
        assert error.code == "webhook_refused"
        return str(error)
    return None


HOOK = "https://hooks.example.com/x"


async def test_without_a_token_clients_name_none_unless_the_operator_says_so() -> None:
    assert "webhook.client_urls" in (await refusal(HOOK, is_known=False) or "")
    assert await refusal(HOOK, is_known=False, client_urls="any") is None
    assert await refusal(HOOK, is_known=False, allow_private=True) is None
    assert await refusal(HOOK) is None
    assert "webhook.client_urls" in (await refusal(HOOK, client_urls="off") or "")


async def test_a_token_needs_the_scope() -> None:
    assert "`webhook`" in (await refusal(HOOK, may_name=False) or "")
    assert "`webhook`" in (await refusal(HOOK, may_name=False, client_urls="any") or "")


@pytest.mark.parametrize(
    ("url", "allowed", "is_let_pass"),
    [
        ("https://hooks.example.com/x", ["hooks.example.com"], True),
        ("https://HOOKS.example.com./x", ["Hooks.Example.com"], True),
        ("https://hooks.example.com:8443/x", ["hooks.example.com"], False),
        ("https://hooks.example.com:8443/x", ["hooks.example.com:8443"], True),
        ("https://hooks.example.com/x", ["hooks.example.com:8443"], False),
        ("https://other.example/x", ["hooks.example.com"], False),
        ("https://hooks.example.com.evil.example/x", ["hooks.example.com"], False),
        ("http://inner.example/x", ["10.1.0.0/16"], True),
        ("http://10.1.9.9/x", ["10.1.0.0/16"], True),
        ("http://10.2.9.9/x", ["10.1.0.0/16"], False),
        ("http://[fd00::7]:8443/x", ["[fd00::7]:8443"], True),
        ("http://cloud.example/x", ["cloud.example", "169.254.0.0/16"], False),
    ],
)
async def test_on_a_list_only_what_is_listed(url: str, allowed: list[str], is_let_pass: bool) -> None:
    told = await refusal(url, client_urls="allowlist", allowed=allowed)
    assert (told is None) is is_let_pass, told
    if told is not None:
        assert "webhook.allowed" in told


async def test_ports_and_addresses_are_bounded_where_any_may_be_named() -> None:
    for url in ("http://hooks.example.com:22/", "https://hooks.example.com:8443/", "http://1.1.1.1:6379/"):
        assert "webhook.allowed" in (await refusal(url) or ""), url
    for url in ("http://10.1.2.3/", "http://127.0.0.1/", "http://[::1]/", "http://inner.example/"):
        told = await refusal(url)
        assert told is not None and "webhook.allowed" in told
        assert "private" not in told and "loopback" not in told, "that would tell what names there are"
    assert await refusal("http://inner.example/", allowed=["inner.example"]) is None
    assert await refusal("http://nobody.example/") is None, "it may be found when there is something to say"


@pytest.mark.parametrize(
    "address",
    [
        *("169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192", "169.254.170.2"),
        *("::ffff:169.254.169.254", "fd00:ec2::254", "64:ff9b::a9fe:a9fe"),
    ],
)
def test_metadata_is_called_never(address: str) -> None:
    open_wide = Receivers(WebhookSettings(allow_private=True, allowed=(address.partition("%")[0],)))
    assert open_wide.why_not("cloud.example", address) == "a cloud's metadata service"
    assert open_wide.why_not("inner.example", PRIVATE) is None


@pytest.mark.parametrize("entry", ["https://hooks.example.com", "hooks.example.com/x", "a b", "user@host"])
def test_an_entry_that_is_none_is_refused_at_the_start(entry: str) -> None:
    with pytest.raises(ConfigError, match=r"webhook\.allowed"):
        load_settings(flags={"webhook.allowed": [entry]}, environment={})
