"""What kind of address an address is, in whatever form it is hidden."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain import addresses
from engine.domain.addresses import Kind

PLAIN = {
    "8.8.8.8": Kind.PUBLIC,
    "2606:4700::1111": Kind.PUBLIC,
    "10.0.0.1": Kind.PRIVATE,
    "172.31.255.255": Kind.PRIVATE,
    "192.168.1.1": Kind.PRIVATE,
    "100.64.0.1": Kind.PRIVATE,
    "fd12::1": Kind.PRIVATE,
    "127.0.0.1": Kind.LOOPBACK,
    "127.255.0.3": Kind.LOOPBACK,
    "::1": Kind.LOOPBACK,
    "169.254.169.254": Kind.METADATA,
    "169.254.170.2": Kind.METADATA,
    "100.100.100.200": Kind.METADATA,
    "168.63.129.16": Kind.METADATA,
    "fd00:ec2::254": Kind.METADATA,
    "fd20:ce::254": Kind.METADATA,
    "169.254.1.1": Kind.LINK_LOCAL,
    "fe80::1": Kind.LINK_LOCAL,
    "fe80::1%eth0": Kind.LINK_LOCAL,
    "224.0.0.1": Kind.MULTICAST,
    "ff02::1": Kind.MULTICAST,
    "0.0.0.0": Kind.UNSPECIFIED,  # noqa: S104 - nobody listens there
    "0.1.2.3": Kind.UNSPECIFIED,
    "::": Kind.UNSPECIFIED,
    "255.255.255.255": Kind.RESERVED,
    "240.0.0.1": Kind.RESERVED,
    "192.0.2.1": Kind.RESERVED,
    "198.18.0.1": Kind.RESERVED,
    "2001:db8::1": Kind.RESERVED,
    "2001:0:1::1": Kind.RESERVED,  # Teredo
    "64:ff9b:1::1": Kind.RESERVED,
    "fec0::1": Kind.RESERVED,
    "4000::1": Kind.RESERVED,
}


def hidden(ip: ipaddress.IPv4Address) -> list[str]:
    """Every IPv6 form that carries it: mapped, 6to4, NAT64, SIIT, compatible."""
    bits = int(ip)
    six_to_four = ipaddress.IPv6Address((0x2002 << 112) | (bits << 80) | 1)
    return [f"::ffff:{ip}", str(six_to_four), f"64:ff9b::{ip}", f"::ffff:0:{ip}", f"::{ip}"]


def kind(text: str) -> Kind:
    ip = addresses.literal(text)
    assert ip is not None
    return addresses.kind(ip)


@pytest.mark.parametrize(("text", "expected"), PLAIN.items())
def test_each_kind_is_known(text: str, expected: Kind) -> None:
    assert kind(text) is expected


@pytest.mark.parametrize("text", [text for text in PLAIN if "." in text and not text.startswith("0.")])
def test_hidden_in_an_ipv6_address_it_is_what_it_was(text: str) -> None:
    ip = ipaddress.IPv4Address(text)
    assert [kind(form) for form in hidden(ip)] == [PLAIN[text]] * 5


@given(st.ip_addresses())
def test_what_python_calls_no_global_address_is_never_public(ip: addresses.Ip) -> None:
    """Ours is stricter, never laxer."""
    if addresses.kind(ip) is Kind.PUBLIC:
        meant = addresses.inner(ip)
        assert meant.is_global
        assert not meant.is_multicast


@given(st.ip_addresses(v=6))
def test_ipv6_outside_the_global_range_is_never_public(ip: ipaddress.IPv6Address) -> None:
    if addresses.inner(ip) == ip and ip not in ipaddress.IPv6Network("2000::/3"):
        assert addresses.kind(ip) is not Kind.PUBLIC


@pytest.mark.parametrize("text", ["localhost", "127.1", "0x7f000001", "2130706433", "010.0.0.1", "", "1.2.3.4 "])
def test_other_spellings_are_names(text: str) -> None:
    """So they are resolved, and what comes of it is checked."""
    assert addresses.literal(text) is None
