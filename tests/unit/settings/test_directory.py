"""The directory of sites: what stands behind a name, how a bad file is refused, and where no grant leads."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from engine import wiring
from engine.coordination.orders import reaches
from engine.domain.directory import Address
from engine.domain.errors import BadInput, Refused
from engine.domain.runbook import Endpoint, Grant
from engine.settings import Settings, load_directory

GOOD = """\
staging.shop.example:
  ports: {22: "10.0.0.7:2222", 443: "[2001:db8::7]:443"}
  ssh_host_key: ssh-ed25519 AAAA
  http_url: https://10.0.0.7:8443
  http_ca: /etc/signalbox/web-ca.pem
  database_ca: /etc/signalbox/ca.pem
"""
HOST = "shop.example"
ENDS = {
    "vault_addr": "https://vault.example:8200",
    "prometheus_url": "http://metrics.example:9090/prom",
    "database_url": "postgresql+psycopg://u:p@db.example/signalbox",
    "libvirt_uri": "qemu+tls://hypervisor.example/system",
}


def sites(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "sites.yaml"
    path.write_text(text)
    return path


def dial(tmp_path: Path, address: str, **settings: str) -> str:
    """What the host would connect to for a step whose grant names HOST, as configured; raises Refused."""
    path = sites(tmp_path, f'{HOST}: {{ports: {{443: "{address}"}}}}\n')
    directory = wiring.directory(Settings(sites=path, **settings))  # type: ignore[arg-type]  # pydantic reads the text
    [reach] = reaches(Grant(network=(Endpoint(host=HOST, port=443),)), directory, {})
    return f"{reach.address}:{reach.address_port}"


def test_a_site_says_where_its_ports_lead(tmp_path: Path) -> None:
    site = load_directory(sites(tmp_path, GOOD)).site("staging.shop.example")

    assert site.ports == {22: Address(host="10.0.0.7", port=2222), 443: Address(host="2001:db8::7", port=443)}
    assert site.ssh_host_key == "ssh-ed25519 AAAA"
    assert site.http_url == "https://10.0.0.7:8443"
    assert site.http_ca == "/etc/signalbox/web-ca.pem"
    assert site.database_ca == "/etc/signalbox/ca.pem"


@pytest.mark.parametrize("text", ["", "# nothing yet\n"])
def test_an_empty_file_and_no_file_know_no_site(tmp_path: Path, text: str) -> None:
    for path in (sites(tmp_path, text), tmp_path / "missing.yaml"):
        directory = load_directory(path)
        assert directory.sites == {}
        with pytest.raises(Refused, match="no site named 'a'") as refused:
            directory.address(Endpoint(host="a", port=22))
        assert "SIGNALBOX_SITES" in refused.value.remedy


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "expected"),
        ("just words\n", "names of hosts"),
        ("- a\n", "names of hosts"),
        ("a: {ports: {22: nowhere}}\n", "is not HOST:PORT"),
        ("a: {ports: {22: 'host:port'}}\n", "is not HOST:PORT"),
        ("a: {ports: {22: ':22'}}\n", "is not HOST:PORT"),
        ("a: {ports: {22: 'host:99999'}}\n", "is not HOST:PORT"),
        ("a: {ports: {ssh: 'host:22'}}\n", "valid integer"),
        ("a: {port: 22}\n", "Extra inputs"),
        ("a: 7\n", "valid dictionary"),
        ("7: {ports: {}}\n", "name of a host"),
    ],
)
def test_a_bad_file_is_refused_with_its_path_and_the_reason(tmp_path: Path, text: str, says: str) -> None:
    path = sites(tmp_path, text)
    with pytest.raises(BadInput) as refused:
        load_directory(path)

    assert str(path) in str(refused.value)
    assert says in str(refused.value)


def test_a_binary_file_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "sites.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match=r"sites\.yaml"):
        load_directory(path)


def test_a_port_that_the_site_does_not_have_is_refused(tmp_path: Path) -> None:
    directory = load_directory(sites(tmp_path, GOOD))
    with pytest.raises(Refused, match="has no port 23"):
        directory.address(Endpoint(host="staging.shop.example", port=23))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:8080",
        "vault.example:8200",
        "metrics.example:9090",
        "db.example:5432",
        "hypervisor.example:16514",
        "slack.com:443",
    ],
)
def test_no_grant_leads_to_signalbox_itself(tmp_path: Path, address: str) -> None:
    """Its own web port, Vault, Prometheus, database, libvirt, Slack."""
    with pytest.raises(Refused, match="leads to Signalbox itself"):
        dial(tmp_path, address, **ENDS)


@pytest.mark.parametrize(
    "address",
    [
        "localhost:8080",
        "LOCALHOST:8080",
        "localhost.:8080",
        "127.0.0.2:8080",
        "[::1]:8080",
        "[::ffff:127.0.0.1]:8080",
        "0.0.0.0:8080",
        "Vault.Example.:8200",
    ],
)
def test_another_spelling_of_the_same_end_is_refused_too(tmp_path: Path, address: str) -> None:
    with pytest.raises(Refused, match="leads to Signalbox itself"):
        dial(tmp_path, address, **ENDS)


@pytest.mark.parametrize("listen", ["0.0.0.0:8080", "localhost:8080"])
def test_a_web_server_that_listens_everywhere_is_found_on_loopback_and_by_its_name(tmp_path: Path, listen: str) -> None:
    with pytest.raises(Refused, match="leads to Signalbox itself"):
        dial(tmp_path, "127.0.0.1:8080", listen=listen)
    with pytest.raises(Refused, match="leads to Signalbox itself"):
        dial(tmp_path, f"{socket.gethostname()}:8080", listen="0.0.0.0:8080")


def test_names_lead_to_private_addresses_only_where_the_site_says_so(tmp_path: Path) -> None:
    text = "a.test: {ports: {1: 'a.example:1'}}\nb.test: {ports: {1: 'b.example:1'}, private: true}\n"
    directory = load_directory(sites(tmp_path, text))
    grant = Grant(network=tuple(Endpoint(host=host, port=1) for host in ("a.test", "b.test")))

    assert [reach.private for reach in reaches(grant, directory, {})] == [False, True]


def test_our_own_ends_go_along_to_where_it_is_dialled(tmp_path: Path) -> None:
    """A name is compared there again, with what it leads to."""
    path = sites(tmp_path, f'{HOST}: {{ports: {{443: "a.example:443"}}, http_url: "http://m.example:9"}}\n')
    directory = load_directory(path, (Address(host="vault.example", port=8200),))
    [reach] = reaches(Grant(network=(Endpoint(host=HOST, port=443),)), directory, {})

    assert {Address(host="vault.example", port=8200), Address(host="m.example", port=9)} <= set(reach.never)


def test_other_ports_and_other_hosts_are_reached(tmp_path: Path) -> None:
    """The demo's targets are on loopback as well."""
    for address in ("127.0.0.1:8081", "10.0.0.7:8080", "vault.example:443", "metrics.example:22"):
        assert dial(tmp_path, address, **ENDS) == address


def test_a_local_libvirt_forbids_nothing_on_the_network(tmp_path: Path) -> None:
    assert dial(tmp_path, "127.0.0.1:5432", libvirt_uri="qemu:///system") == "127.0.0.1:5432"


@pytest.mark.parametrize("url", ["", "http_url: 'http://a.example:8080', "])
def test_an_authority_for_what_is_not_https_is_refused(tmp_path: Path, url: str) -> None:
    """Whoever writes it believes that something is verified."""
    with pytest.raises(BadInput, match="http_ca verifies an http_url that begins with https://"):
        load_directory(sites(tmp_path, f"{HOST}: {{{url}http_ca: /etc/ca.pem}}\n"))


def test_an_http_url_that_is_none_is_bad_input_and_no_defect(tmp_path: Path) -> None:
    """Seen in a review: a port out of range was a ValueError at each boundary of a run."""
    path = tmp_path / "sites.yaml"
    path.write_text("a.example: {http_url: 'http://x:99999'}")

    with pytest.raises(BadInput, match=r"sites\.yaml"):
        load_directory(path)
