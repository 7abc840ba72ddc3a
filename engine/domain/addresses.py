"""What kind of address an IP address is, and which ones a name may lead to. Tables of our own: they deny by default.

Python's `is_global` changed between releases, and no release of it looks into an IPv6 address that carries an IPv4 one.
"""

from __future__ import annotations

import enum
import ipaddress

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Kind(enum.StrEnum):
    """What an address leads to, in a person's words."""

    PUBLIC = "public"
    PRIVATE = "private"
    LOOPBACK = "loopback"
    LINK_LOCAL = "link-local"
    METADATA = "cloud metadata"
    MULTICAST = "multicast"
    UNSPECIFIED = "unspecified"
    RESERVED = "reserved"


NOWHERE = frozenset({Kind.MULTICAST, Kind.UNSPECIFIED})
""" No host has such an address, so nobody can mean one; Linux takes the unspecified one for this machine. """


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


# First match counts. Link-local addresses are where most clouds keep their metadata; these are the others.
KINDS: tuple[tuple[Kind, tuple[Network, ...]], ...] = (
    (
        Kind.METADATA,
        _networks(
            *("169.254.169.254", "169.254.170.2", "169.254.170.23", "169.254.42.42"),
            *("100.100.100.200", "168.63.129.16", "192.0.0.192"),
            *("fd00:ec2::/32", "fd20:ce::254", "fd00:42::42"),
        ),
    ),
    (Kind.LOOPBACK, _networks("127.0.0.0/8", "::1")),
    (Kind.UNSPECIFIED, _networks("0.0.0.0/8", "::")),
    (Kind.LINK_LOCAL, _networks("169.254.0.0/16", "fe80::/10")),
    (Kind.MULTICAST, _networks("224.0.0.0/4", "ff00::/8")),
    (Kind.PRIVATE, _networks("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")),
    (
        Kind.RESERVED,
        _networks(
            *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
            *("240.0.0.0/4", "2001::/23", "2001:db8::/32", "3fff::/20"),
        ),
    ),
    (Kind.PUBLIC, _networks("0.0.0.0/0", "2000::/3")),
)

SIX_TO_FOUR = ipaddress.IPv6Network("2002::/16")
IN_THE_LAST_BITS = _networks("::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "::/96")
""" Mapped, translated (SIIT), NAT64 and, long deprecated, compatible ones. """


def literal(text: str) -> Ip | None:
    """The address that this text spells; None for a name, and for the old spellings (`127.1`, `0x7f000001`)."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def inner(ip: Ip) -> Ip:
    """The IPv4 address that an IPv6 one carries, or else the address itself."""
    if isinstance(ip, ipaddress.IPv4Address) or ip in (ipaddress.IPv6Address("::"), ipaddress.IPv6Address("::1")):
        return ip
    if ip in SIX_TO_FOUR:
        return ipaddress.IPv4Address(int(ip) >> 80 & 0xFFFFFFFF)
    if any(ip in network for network in IN_THE_LAST_BITS):
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip


def kind(ip: Ip) -> Kind:
    """What it leads to; one that carries another counts as that one. What no table knows is reserved."""
    meant = inner(ip)
    for found, networks in KINDS:
        if any(meant in network for network in networks):
            return found
    return Kind.RESERVED
