"""Where a name may lead: public addresses, private ones where the site says so, never to Signalbox's own ends."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping

import pytest

from engine.domain import addresses
from engine.domain.addresses import Kind
from engine.domain.directory import Address
from engine.domain.ports import Reach
from engine.runtime import resolving
from engine.runtime.egress import Egress
from engine.runtime.resolving import NotAllowed

PUBLIC = "93.184.216.34"


def answering(answers: Mapping[str, tuple[str, ...]]) -> Callable[[str], tuple[str, ...]]:
    """A resolver that knows these names; a literal is itself."""

    def resolve(name: str) -> tuple[str, ...]:
        if name not in answers:
            if name.replace(".", "").isdigit() or ":" in name:
                return (name,)
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return answers[name]

    return resolve


def reach(address: str, port: int = 443, *, private: bool = False, never: tuple[Address, ...] = ()) -> Reach:
    return Reach(host="shop.test", port=443, address=address, address_port=port, private=private, never=never)


def leads(one: Reach, **answers: tuple[str, ...]) -> list[str]:
    """Where it may connect; raises NotAllowed."""
    known = {name.replace("_", "."): found for name, found in answers.items()}
    return [host for host, _ in resolving.ends(one, answering(known))]


def test_a_name_that_leads_to_public_addresses_may_be_dialled() -> None:
    assert leads(reach("shop.example"), shop_example=(PUBLIC, "2606:4700::1111")) == [PUBLIC, "2606:4700::1111"]


BAD = {
    "127.0.0.1": "loopback",
    "::1": "loopback",
    "169.254.169.254": "cloud metadata",
    "100.100.100.200": "cloud metadata",
    "fd00:ec2::254": "cloud metadata",
    "169.254.3.4": "link-local",
    "fe80::1": "link-local",
    "0.0.0.0": "unspecified",  # noqa: S104 - nobody listens there
    "224.0.0.1": "multicast",
    "255.255.255.255": "reserved",
    "::ffff:127.0.0.1": "loopback",
    "::ffff:169.254.169.254": "cloud metadata",
    "64:ff9b::a9fe:a9fe": "cloud metadata",
    "2002:7f00:1::": "loopback",
}


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize(("ip", "word"), BAD.items())
def test_a_name_never_leads_to_this_machine_or_to_metadata(ip: str, word: str, *, private: bool) -> None:
    """Not even where the site may be private; and one bad answer among good ones is enough."""
    for answers in ((ip,), (PUBLIC, ip)):
        with pytest.raises(NotAllowed, match=word):
            leads(reach("shop.example", private=private), shop_example=answers)


@pytest.mark.parametrize("ip", ["10.1.2.3", "192.168.0.9", "100.64.1.1", "fd12::1", "::ffff:a01:203"])
def test_a_private_address_needs_the_sites_word(ip: str) -> None:
    with pytest.raises(NotAllowed, match="private"):
        leads(reach("shop.example"), shop_example=(ip,))
    assert leads(reach("shop.example", private=True), shop_example=(ip,)) == [ip]


@pytest.mark.parametrize(
    "ip", [PUBLIC, "10.0.0.9", "127.0.0.1", "::1", "169.254.169.254", "fd00:ec2::254", "192.0.2.1"]
)
def test_a_literal_is_the_operators_word(ip: str) -> None:
    assert leads(reach(ip)) == [ip]


@pytest.mark.parametrize("ip", ["0.1.2.3", "::", "224.0.0.1", "::ffff:127.0.0.1", "64:ff9b::a9fe:a9fe", "2002:a00:1::"])
def test_a_literal_that_is_no_hosts_or_hides_another_is_refused(ip: str) -> None:
    with pytest.raises(NotAllowed):
        leads(reach(ip))


def test_another_spelling_of_loopback_is_resolved_by_the_real_resolver_and_refused() -> None:
    """`127.1` and its like: no literal to us, but the C library takes them for one."""
    for spelled in ("127.1", "2130706433", "0x7f000001", "localhost"):
        with pytest.raises(NotAllowed, match="loopback"):
            resolving.ends(reach(spelled), resolving.by_the_system)


VAULT = Address(host="vault.example", port=8200)


def test_a_name_that_leads_to_our_own_end_is_refused_whatever_it_is_called() -> None:
    known = {"shop_example": (PUBLIC,), "vault_example": ("203.0.114.1", PUBLIC)}
    with pytest.raises(NotAllowed, match="Signalbox itself"):
        leads(reach("shop.example", 8200, never=(VAULT,)), **known)
    with pytest.raises(NotAllowed, match="Signalbox itself"):
        leads(reach(PUBLIC, 8200, never=(VAULT,)), **known)
    assert leads(reach("shop.example", 443, never=(VAULT,)), **known) == [PUBLIC]


def test_an_address_of_this_machine_is_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The web server listens on loopback; a site that leads to the same port of our own network address is refused.

    127.0.0.9 plays that address: it can be bound, and nothing else says that it is ours.
    """
    monkeypatch.setattr(addresses, "kind", lambda _: Kind.PUBLIC)
    web = Address(host="127.0.0.1", port=8080)
    with pytest.raises(NotAllowed, match="Signalbox itself"):
        leads(reach("127.0.0.9", 8080, never=(web,)))
    assert leads(reach("127.0.0.9", 8081, never=(web,))) == ["127.0.0.9"]
    assert leads(reach(PUBLIC, 8080, never=(web,))) == [PUBLIC]


def test_a_name_is_refused_when_our_own_end_cannot_be_asked_for_and_a_literal_is_not() -> None:
    def resolve(name: str) -> tuple[str, ...]:
        if name == VAULT.host:
            raise socket.gaierror(socket.EAI_AGAIN, "try again")
        return (PUBLIC,)

    with pytest.raises(NotAllowed, match=r"vault\.example"):
        resolving.ends(reach("shop.example", 8200, never=(VAULT,)), resolve)
    assert resolving.ends(reach(PUBLIC, 8200, never=(VAULT,)), resolve) == ((PUBLIC, 8200),)


def test_a_name_is_resolved_once_and_never_again() -> None:
    """DNS rebinding: the second answer would be this machine. It is never asked for."""
    answers = iter([("127.0.0.9",), ("169.254.169.254",)])
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        allowed = Reach(host="a.test", port=443, address="127.0.0.1", address_port=port)
        egress = Egress((allowed,), resolve=lambda _: next(answers))
        for _ in range(3):
            egress.connect(allowed).close()
    named = reach("rebinds.example", port)
    egress = Egress((named,), resolve=lambda _: next(answers))
    for _ in range(3):
        with pytest.raises(NotAllowed, match=r"127\.0\.0\.9"):
            egress.connect(named)
    assert next(answers) == ("169.254.169.254",)


def test_what_was_checked_is_what_is_dialled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket gets the address, not the name; also after a connection that failed."""
    dialled: list[object] = []

    def dial(end: object, timeout: float) -> socket.socket:
        dialled.append(end)
        if len(dialled) < 3:
            raise OSError("nobody there")
        return socket.socket()

    monkeypatch.setattr(socket, "create_connection", dial)
    answers = iter([(PUBLIC, "93.184.216.35")])
    named = reach("shop.example")
    egress = Egress((named,), resolve=lambda _: next(answers))
    with pytest.raises(OSError, match="nobody there"):
        egress.connect(named)
    for _ in range(2):
        egress.connect(named).close()
    assert dialled == [(PUBLIC, 443), ("93.184.216.35", 443), (PUBLIC, 443), (PUBLIC, 443)]


def test_a_name_service_that_fails_is_asked_again_later() -> None:
    failures = iter([socket.gaierror(socket.EAI_AGAIN, "try again")])

    def resolve(_: str) -> tuple[str, ...]:
        for failure in failures:
            raise failure
        return ("127.0.0.1",)

    named = reach("shop.example")
    egress = Egress((named,), resolve=resolve)
    with pytest.raises(OSError, match="try again"):
        egress.connect(named)
    with pytest.raises(NotAllowed):
        egress.connect(named)
