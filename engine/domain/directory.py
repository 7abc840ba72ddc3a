"""The directory: which address stands behind a name of a runbook. It comes from the configuration, never from a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.domain import addresses
from engine.domain.addresses import Kind
from engine.domain.errors import Refused
from engine.domain.runbook import Endpoint

THIS_MACHINE = "localhost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """An address that the worker's host connects to."""

    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One named host: where each declared port leads, its ssh host key (`ssh-ed25519 AAAA...`), its HTTP base URL.

    `private`: names in `ports` may lead to private addresses; without it only to public ones.
    `http_ca`: the file of certificates that an https `http_url` is verified with, by nothing else; without it, by
    those that the system trusts. `database_ca`: the same for its database; without it, that is not verified.
    """

    name: str
    ports: Mapping[int, Address] = field(default_factory=dict)
    private: bool = False
    ssh_host_key: str | None = None
    http_url: str | None = None
    http_ca: str | None = None
    database_ca: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """All sites. `forbidden` are Signalbox's own ends (web, database, Vault, Slack, libvirt): no grant reaches them."""

    sites: Mapping[str, Site]
    forbidden: tuple[Address, ...] = ()

    def site(self, host: str) -> Site:
        """The site of this name; raises Refused with what to write where."""
        try:
            return self.sites[host]
        except KeyError:
            raise Refused(f"no site named {host!r} in the directory", "add it to the file SIGNALBOX_SITES") from None

    def address(self, endpoint: Endpoint) -> Address:
        """Where the host connects for this endpoint; raises Refused for an unknown one and for our own ends."""
        site = self.site(endpoint.host)
        try:
            address = site.ports[endpoint.port]
        except KeyError:
            raise Refused(
                f"site {endpoint.host!r} has no port {endpoint.port}", "add it to the file SIGNALBOX_SITES"
            ) from None
        if _plain(address) in map(_plain, self.forbidden):
            raise Refused(f"{endpoint.host}:{endpoint.port} leads to Signalbox itself", "no step may reach it")
        return address


def _plain(address: Address) -> Address:
    """One spelling for one end: no capitals, no final dot, and one word for every way to say "this machine".

    Names are compared, not looked up: what they lead to is compared when a step connects (`engine.runtime.resolving`).
    """
    host = address.host.lower().removesuffix(".")
    ip = addresses.literal(host)
    if ip is None:
        return Address(host=THIS_MACHINE if host.endswith(f".{THIS_MACHINE}") else host, port=address.port)
    here = addresses.kind(ip) in {Kind.LOOPBACK, Kind.UNSPECIFIED}
    return Address(host=THIS_MACHINE if here else str(addresses.inner(ip)), port=address.port)
