"""Where a declared name leads, and whether a step may go there. Used by egress, on the host, once a task and name.

An IP literal of the directory is the operator's word: allowed as it is written, also private, loopback or metadata. A
name is somebody else's word, whoever answers for it in DNS: all that it leads to must be public, or private where the
site says so. Neither leads to Signalbox's own ends, by whatever name or address.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterable

from engine.domain import addresses
from engine.domain.addresses import NOWHERE, Ip, Kind
from engine.domain.directory import THIS_MACHINE, Address
from engine.domain.ports import Reach

MOST_ADDRESSES = 64
UNKNOWN_NAME = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})

Resolve = Callable[[str], tuple[str, ...]]
""" A name or literal to its addresses. Raises OSError: there is none, or nobody to ask. """


class NotAllowed(Exception):
    """Where the name leads no step may go; str() says why."""


def by_the_system(name: str) -> tuple[str, ...]:
    """As every program of this machine resolves it: hosts file, DNS."""
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))[:MOST_ADDRESSES]


def ends(reach: Reach, resolve: Resolve) -> tuple[tuple[str, int], ...]:
    """Addresses and port to connect to, all checked: never resolve again. Raises NotAllowed, OSError."""
    written = addresses.literal(reach.address)
    found: tuple[Ip, ...]
    if written is not None:
        _check_literal(written)
        found = (written,)
    else:
        found = tuple(map(_parsed, resolve(reach.address)))
        for ip in found:
            _check_answer(ip, private=reach.private)
    if not found:
        raise OSError("the name has no address")
    _check_own_ends(reach, found, resolve, by_name=written is None)
    return tuple((str(ip), reach.address_port) for ip in found)


def _parsed(text: str) -> Ip:
    ip = addresses.literal(text)
    if ip is None:
        raise NotAllowed("the name service gave no address")
    return ip


def _check_literal(ip: Ip) -> None:
    kind = addresses.kind(ip)
    if kind in NOWHERE:
        raise NotAllowed(f"{ip} is no host's address ({kind})")
    if addresses.inner(ip) != ip and kind is not Kind.PUBLIC:
        raise NotAllowed(f"{ip} hides {addresses.inner(ip)}, a {kind} address: the directory must write that plainly")


def _check_answer(ip: Ip, *, private: bool) -> None:
    kind = addresses.kind(ip)
    if kind is Kind.PUBLIC or (private and kind is Kind.PRIVATE):
        return
    raise NotAllowed(f"the name leads to {ip}, a {kind} address")


def _check_own_ends(reach: Reach, found: Iterable[Ip], resolve: Resolve, *, by_name: bool) -> None:
    """`Directory.address` compared what is written; this compares what it leads to."""
    hosts = {_host(ip) for ip in found}
    for end in reach.never:
        if end.port == reach.address_port and hosts & _hosts_of(end, resolve, must_answer=by_name):
            raise NotAllowed("it leads to Signalbox itself")


def _hosts_of(end: Address, resolve: Resolve, *, must_answer: bool) -> set[str]:
    """Where one of our own ends is. A name that does not exist is nowhere; one that cannot be asked for may be there.

    Not `must_answer`: no name service is needed for what the operator wrote as a literal.
    """
    try:
        return {_host(ip) for ip in map(addresses.literal, resolve(end.host)) if ip is not None}
    except OSError as error:
        if must_answer and error.errno not in UNKNOWN_NAME:
            raise NotAllowed(f"it cannot be told from {end.host}, which does not resolve now") from None
        return set()


def _host(ip: Ip) -> str:
    """One word for one host: whatever is an address of this machine is this machine."""
    meant = addresses.inner(ip)
    here = addresses.kind(meant) in {Kind.LOOPBACK, Kind.UNSPECIFIED} or _is_ours(meant)
    return THIS_MACHINE if here else str(meant)


def _is_ours(ip: Ip) -> bool:
    """Only an address of this machine can be bound."""
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind((str(ip), 0))
        return True
    return False
