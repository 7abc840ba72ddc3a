"""Ways to any other machine: addresses, names, raw sockets, interfaces."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
from pathlib import Path

from tests.integration.runtime.escapes.attempt import TOLD, Escaped, attempt, call, each

CANARY: int = TOLD.get("canary", 0)
PING = b"\x08\x00\xf7\xff\x00\x00\x00\x00"
QUERY = struct.pack("!6H", 7, 0x100, 1, 0, 0, 0) + b"\7example\3org\0" + struct.pack("!2H", 1, 1)
Address = tuple[str, int]


def dial(address: Address) -> str:
    """Connect and see whether anybody is there."""
    with socket.create_connection(address, timeout=5) as connection:
        return f"connected to {connection.getpeername()[0]}"


def ask_dns(server: str) -> str:
    """One DNS question over UDP."""
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as asked:
        asked.settimeout(2)
        asked.connect((server, 53))
        asked.send(QUERY)
        return f"{len(asked.recv(512))} bytes"


@attempt("the host's loopback port", "connect to 127.0.0.1 and ::1 at a port that listens on the host's loopback")
def loopback() -> str:
    return each([("127.0.0.1", CANARY), ("localhost", CANARY), ("127.77.0.1", CANARY), ("::1", CANARY)], dial)


@attempt("the host's own addresses", "connect to each address of the host, at a port that listens on all of them")
def host() -> str:
    return each([(address, CANARY) for address in TOLD["host addresses"]], dial)


@attempt("gateways", "connect to what slirp, libvirt, Docker and Podman call the host")
def gateways() -> str:
    addresses = ("10.0.2.2", "10.0.2.3", "10.0.2.4", "192.168.122.1", "192.168.124.1", "172.17.0.1", "10.88.0.1")
    return each([(address, port) for address in addresses for port in (22, 53, 16509, CANARY)], dial)


@attempt("other VMs", "connect to their usual addresses, broadcast, multicast; another VM listens meanwhile")
def others() -> str:
    def shout(address: Address) -> str:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as shouting:
            shouting.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            return f"sent {shouting.sendto(b'x', address)}"

    neighbours = [(f"{net}.{last}", CANARY) for net in ("10.0.2", "192.168.122") for last in (2, 15, 16, 100)]
    heard = each([("255.255.255.255", 9), ("192.168.122.255", 9), ("224.0.0.1", 9)], shout)
    return f"{each(neighbours, dial)}; {heard}"


@attempt("metadata services", "connect to those of AWS, GCP, Azure, Alibaba, ECS, and to the names of them")
def metadata() -> str:
    addresses = ("169.254.169.254", "169.254.170.2", "168.63.129.16", "100.100.100.200", "192.0.0.192")
    return each([(address, port) for address in addresses for port in (80, 443, 32526)], dial)


@attempt("metadata services over IPv6", "connect to fd00:ec2::254, fd20:ce::254 and the link's own")
def metadata6() -> str:
    return each([("fd00:ec2::254", 80), ("fd20:ce::254", 80), ("fe80::a9fe:a9fe%lo", 80)], dial)


@attempt("IPv6", "connect to the internet, and to every node of the link")
def ipv6() -> str:
    return each([("2606:4700:4700::1111", 443), ("2001:4860:4860::8888", 53), ("ff02::1%lo", CANARY)], dial)


@attempt("the internet", "connect to public addresses at usual ports")
def internet() -> str:
    return each([(address, port) for address in ("1.1.1.1", "93.184.216.34") for port in (22, 53, 80, 443)], dial)


@attempt("DNS over UDP", "ask public resolvers, slirp's, systemd's, a multicast one")
def dns_udp() -> str:
    servers = ("8.8.8.8", "1.1.1.1", "10.0.2.3", "127.0.0.53", "127.0.0.1", "224.0.0.251", "2001:4860:4860::8888")
    return each(servers, ask_dns)


@attempt("DNS over TCP", "connect to port 53 and 853 of the same")
def dns_tcp() -> str:
    servers = ("8.8.8.8", "1.1.1.1", "10.0.2.3", "127.0.0.53", "127.0.0.1")
    return each([(server, port) for server in servers for port in (53, 853)], dial)


@attempt("names", "resolve names of the internet, of the host, of metadata services by the system's resolver")
def names() -> str:
    def resolve(name: str) -> str:
        return str(socket.getaddrinfo(name, 80)[0][4])

    known = ("host.docker.internal", "metadata.google.internal", "gateway", "_gateway", "host.containers.internal")
    return each((*known, "example.org", TOLD["host name"]), resolve)


@attempt("raw sockets", "send an ICMP echo and a bare IP packet past the routing table")
def raw() -> str:
    def send(protocol: int) -> str:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol) as bare:
            bare.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"")
            return f"sent {bare.sendto(PING, ('10.0.2.2', 0))}"

    return each((socket.IPPROTO_ICMP, socket.IPPROTO_RAW, socket.IPPROTO_SCTP), send)


@attempt("packet sockets", "put a frame on a wire, by every interface that is not loopback")
def packet() -> str:
    cards = sorted({path.name for path in Path("/sys/class/net").iterdir()} - {"lo"})
    if cards:
        raise Escaped(f"interfaces {cards}")
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)):
            return "there is no interface but lo"
    except OSError as error:
        return f"there is no interface but lo; {error.strerror}"


@attempt("new interfaces", "make dummy, veth, bridge, macvlan, gre, vxlan and wireguard devices; open /dev/net/tun")
def interfaces() -> str:
    def add(kind: str) -> str:
        words = ["ip", "link", "add", "name", "out0", *(["link", "lo"] if kind == "macvlan" else []), "type", kind]
        made = subprocess.run(words, capture_output=True, text=True, check=False)
        if made.returncode:
            raise OSError(0, made.stderr.strip().splitlines()[-1])
        return "made"

    def tun(_: str) -> str:
        Path("/dev/net").mkdir(exist_ok=True)
        os.mknod("/dev/net/tun", 0o20600, os.makedev(10, 200))
        os.close(os.open("/dev/net/tun", os.O_RDWR))
        return "opened"

    kinds = ("dummy", "veth", "bridge", "macvlan", "gre", "vxlan", "wireguard", "ifb", "vcan")
    return f"{each(kinds, add)}; tun: {each(('/dev/net/tun',), tun)}"


@attempt("other families of sockets", "open every address family that the kernel may know; vsock to the host (CID 2)")
def families() -> str:
    # within the kernel, or (packet, XDP) bound to an interface, of which there is none
    harmless = {socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK, socket.AF_PACKET, socket.AF_ALG, 44}

    def open_one(family: int) -> str:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):
            try:
                socket.socket(family, kind).close()
            except OSError as error:
                refused = error
            else:
                return "opened"
        raise refused

    return each((family for family in range(1, 46) if family not in harmless), open_one)


@attempt("drivers of its own", "load a kernel module: every *.ko that there is, and rubbish")
def modules() -> str:
    found = [path for base in ("/lib", "/usr", "/run") for path in Path(base).rglob("*.ko*")]
    fd = os.memfd_create("module.ko")
    os.write(fd, b"\x7fELF" + bytes(4096))
    return f"{len(found)} modules in the image; rubbish: {each(('rubbish',), lambda _: call(313, fd, b'', 0))}"


@attempt("routes through loopback", "route the whole internet to lo, take the host's address, connect")
def routes() -> str:
    for words in ("addr add 10.0.2.2/32 dev lo", "addr add 169.254.169.254/32 dev lo", "route add default dev lo"):
        subprocess.run(["ip", *words.split()], capture_output=True, check=False)
    return each([("10.0.2.2", CANARY), ("169.254.169.254", 80), ("10.0.2.3", 53)], dial)
