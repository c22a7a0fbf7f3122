"""Which addresses may be called, and which not."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from live_asr.delivery.addresses import why_refused

EMBEDDING = (ip_network("::ffff:0:0/96"), ip_network("64:ff9b::/96"))
"""IPv6 addresses that are another way to write an IPv4 one."""


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.1", "loopback"),
        ("127.255.3.4", "loopback"),
        ("::1", "loopback"),
        ("10.0.0.1", "private"),
        ("172.16.0.1", "private"),
        ("172.31.255.255", "private"),
        ("192.168.1.1", "private"),
        ("fd00:ec2::254", "private"),
        ("fc00::1", "private"),
        ("fec0::1", "private"),
        ("64:ff9b:1::a00:1", "private"),
        ("169.254.169.254", "link-local"),
        ("169.254.0.1", "link-local"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("224.0.0.1", "multicast"),
        ("239.255.255.250", "multicast"),
        ("ff02::1", "multicast"),
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "unspecified"),
        ("::", "unspecified"),
        ("100.64.0.1", "shared by a carrier's customers"),
        ("100.100.100.200", "shared by a carrier's customers"),
        ("168.63.129.16", "a cloud's metadata service"),
        ("192.0.0.192", "reserved"),
        ("192.0.2.1", "reserved"),
        ("198.18.0.1", "reserved"),
        ("203.0.113.9", "reserved"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "reserved"),
        ("2001:db8::1", "reserved"),
        ("2001::1", "reserved"),
        ("2002:7f00:1::", "reserved"),
        ("100::1", "reserved"),
        ("::7f00:1", "reserved"),
        ("4000::1", "reserved"),
    ],
)
def test_an_address_that_is_not_the_internets_is_refused_by_its_kind(address: str, kind: str) -> None:
    assert why_refused(address) == kind


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "93.184.216.34", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450:4001::"],
)
def test_an_address_of_the_internet_may_be_called(address: str) -> None:
    assert why_refused(address) is None


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_inside_an_ipv6_one_is_judged_as_what_it_is(address: IPv4Address) -> None:
    assert why_refused(f"::ffff:{address}") == why_refused(str(address))
    assert why_refused(f"64:ff9b::{address}") == why_refused(str(address))


@given(st.ip_addresses())
def test_nothing_that_python_knows_to_be_special_may_be_called(address: IPv4Address | IPv6Address) -> None:
    assume(not any(address in network for network in EMBEDDING))
    if not address.is_global or address.is_multicast or address.is_reserved:
        assert why_refused(str(address)) is not None
