"""Which addresses a delivery may go to.

Whoever opens a session names the URL that is told of its end, so without this they could have the server
call hosts that only the server can reach: its own services, the network behind it, the cloud's metadata.
A host name says nothing about that; only the address that is connected to does.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

_REFUSED = tuple(
    (ip_network(network), kind)
    for network, kind in (
        # IPv4: IANA's special-purpose registry, and what clouds use for themselves.
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by a carrier's customers"),
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "a cloud's metadata service"),  # Azure's, in the middle of public space
        ("169.254.0.0/16", "link-local"),  # 169.254.169.254 is most clouds' metadata service
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),  # 192.0.0.192 is Oracle's metadata service
        ("192.0.2.0/24", "reserved"),
        ("192.88.99.0/24", "reserved"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "reserved"),
        ("198.51.100.0/24", "reserved"),
        ("203.0.113.0/24", "reserved"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        # IPv6
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("64:ff9b:1::/48", "private"),  # NAT64 of a network's own
        ("100::/64", "reserved"),
        ("2001::/23", "reserved"),  # Teredo, ORCHID and others
        ("2001:db8::/32", "reserved"),
        ("2002::/16", "reserved"),  # 6to4: an IPv4 address of anybody's choice inside
        ("3fff::/20", "reserved"),
        ("5f00::/16", "reserved"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "private"),
        ("ff00::/8", "multicast"),
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST = IPv6Network("2000::/3")
"""All of IPv6 that is assigned to hosts of the internet."""


METADATA = "a cloud's metadata service"
"""What `why_not` says of an address that nobody has to call ever."""
_METADATA = tuple(
    ip_network(network)
    for network in (
        "168.63.129.16/32",  # Azure
        "169.254.169.254/32",  # most of them
        "169.254.170.0/24",  # Amazon's containers
        "100.100.100.200/32",  # Alibaba
        "192.0.0.192/32",  # Oracle
        "fd00:ec2::/32",  # Amazon
        "fd20:ce::254/128",  # Google
    )
)


def is_metadata(address: str) -> bool:
    """Tell whether an address is that of a cloud's metadata service, which nobody has to call ever."""
    found = ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address):
        inside = _embedded(found)
        if inside is not None:
            return is_metadata(str(inside))
    return any(found in network for network in _METADATA)


def guard(*, allow_private: bool) -> Callable[[str, str], str | None]:
    """Return what says of a host and one of its addresses why that may not be called; None where it may.

    With `allow_private` all may be but the metadata services of clouds.
    """

    def why_not(_: str, address: str) -> str | None:
        if is_metadata(address):
            return METADATA
        return None if allow_private else why_refused(address)

    return why_not


def why_refused(address: str) -> str | None:
    """Return what kind of address it is that may not be called, e.g. "private"; None where it may.

    `address` is in numbers, as a resolver returns it. An IPv4 address within an IPv6 one (mapped, or
    behind NAT64) is judged as what it is.
    """
    found = ip_address(address)
    if isinstance(found, IPv6Address):
        if found.scope_id is not None:
            return "link-local"
        inside = _embedded(found)
        if inside is not None:
            return why_refused(str(inside))
    for network, kind in _REFUSED:
        if found in network:
            return kind
    # What the list has not heard of yet: the rest of IPv6, and what Python knows to be special.
    if isinstance(found, IPv6Address) and found not in _GLOBAL_UNICAST:
        return "reserved"
    return None if found.is_global else "reserved"


def _embedded(address: IPv6Address) -> IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None
