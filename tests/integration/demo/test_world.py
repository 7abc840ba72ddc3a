"""The demo's world, really booted: one world for the whole file, stopped by its last test."""

import json
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from demo.stage import images_folder
from demo.world import image, monitoring
from demo.world.target import PRODUCTION, STAGING, Target
from demo.world.world import World
from engine.domain.directory import Address
from engine.domain.errors import Conflict, Unavailable
from engine.settings import load_directory

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]

FIX = (
    """printf '{"log_level": "info", "rotate_mb": 8}' >/srv/checkout/new && mv /srv/checkout/new """
    "/srv/checkout/checkout.json && echo fixed >>/srv/checkout/effects.log && touch /srv/checkout/reload"
)
DIAL = """
import socket, sys
for address in sys.argv[1:]:
    host, port = address.rsplit(":", 1)
    try:
        with socket.create_connection((host, int(port)), timeout=4) as connection:
            print(address, "open")
    except OSError as error:
        print(address, "shut", type(error).__name__)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.settimeout(4)
try:
    udp.sendto(bytes.fromhex("123401000001000000000000076578616d706c6503636f6d0000010001"), ("10.0.2.3", 53))
    print("dns", "open", len(udp.recv(512)))
except OSError as error:
    print("dns", "shut", type(error).__name__)
"""


class Receiver:
    """Stands where Signalbox would be: keeps every delivery of Alertmanager."""

    def __init__(self) -> None:
        self.deliveries: queue.Queue[tuple[str, str, dict[str, Any]]] = queue.Queue()
        deliveries = self.deliveries

        class Hook(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                deliveries.put((self.path, self.headers["Authorization"], body))
                self.send_response(202)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        return self.server.server_port


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


@pytest.fixture(scope="module")
def images() -> Path:
    return Path(os.environ.get("SIGNALBOX_IMAGES", images_folder()))


@pytest.fixture(scope="module")
def world(receiver: Receiver, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = image.build(images, no_progress)
    world = World(
        tmp_path_factory.mktemp("demo") / "world",
        image=folder,
        alert_url=f"http://127.0.0.1:{receiver.port}/alerts/alertmanager",
    )
    world.start(no_progress)
    yield world
    world.stop()


def no_progress(line: str) -> None:
    """Nobody watches."""


def used(target: Target) -> float:
    text = monitoring.get(f"{target.http_url}/metrics").decode()
    [line] = [line for line in text.splitlines() if line.startswith("checkout_disk_used_ratio ")]
    return float(line.split()[1])


def health(target: Target) -> Any:
    try:
        return json.loads(monitoring.get(f"{target.http_url}/healthz"))
    except Unavailable as unwell:
        return str(unwell)


def until(holds: Callable[[], bool], *, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold in time"
        time.sleep(0.3)


def test_both_disks_really_fill(world: World) -> None:
    before = {env: used(target) for env, target in world.targets.items()}

    until(lambda: all(used(target) > before[env] + 0.01 for env, target in world.targets.items()), within_s=60)


def test_reader_and_verifier_only_read_and_operator_writes(world: World) -> None:
    for env, target in world.targets.items():
        for user, allowed in (("reader", False), ("verifier", False), ("operator", True)):
            done = target.run(user, "cat /srv/checkout/checkout.json && touch /srv/checkout/data/touched")
            assert json.loads(done.stdout) == {"log_level": "debug"}
            assert (done.returncode == 0) is allowed, (env, user, done.stderr)


def test_only_the_right_key_of_the_right_target_opens_it(world: World) -> None:
    production, staging = world.targets[PRODUCTION], world.targets[STAGING]
    before = production.accepted()
    for user, key in (
        ("operator", production.people["reader"]),
        ("operator", staging.people["operator"]),
        ("root", production.people["operator"]),
        ("checkout", production.people["operator"]),
    ):
        refused = Target(
            env=production.env,
            folder=production.folder,
            ssh_port=production.ssh_port,
            http_port=production.http_port,
            host_key=production.host_key,
            people={user: key},
        ).run(user, "true")
        assert refused.returncode == 255
        assert "Permission denied (publickey)" in refused.stderr

    assert production.accepted() == before


def test_the_log_of_sshd_says_which_key_was_let_in(world: World) -> None:
    target = world.targets[STAGING]
    before = target.accepted()
    target.run("reader", "true")

    until(lambda: len(target.accepted()) == len(before) + 1, within_s=10)
    assert target.accepted()[-1].user == "reader"
    assert target.accepted()[-1].fingerprint == target.people["reader"].fingerprint


def test_a_target_reaches_nothing_but_itself(world: World, receiver: Receiver) -> None:
    target, other = world.targets[STAGING], world.targets[PRODUCTION]
    shut = [
        f"10.0.2.2:{receiver.port}",  # the host's loopback, as QEMU's user network shows it
        f"10.0.2.2:{other.ssh_port}",
        f"10.0.2.2:{other.http_port}",
        f"127.0.0.1:{receiver.port}",
        "10.0.2.3:53",
        "192.0.2.1:80",
        "169.254.169.254:80",
    ]
    done = target.run("reader", f"python3 -c '{DIAL}' 10.0.2.15:8080 {' '.join(shut)}")

    lines = done.stdout.splitlines()
    assert lines[0] == "10.0.2.15:8080 open", done.stderr
    assert [line.split()[:2] for line in lines[1:]] == [*([address, "shut"] for address in shut), ["dns", "shut"]]


def test_a_growing_log_leaves_the_tree_as_it_is_and_any_write_does_not(world: World) -> None:
    target = world.targets[PRODUCTION]
    before, filled = target.tree(), used(target)
    until(lambda: used(target) != filled, within_s=30)
    assert target.tree() == before
    assert "checkout.json" in before

    target.run("operator", "cp -p /srv/checkout/data/prices.csv /srv/checkout/data/copy")
    assert target.tree() != before


def test_the_alert_fires_into_the_webhook_and_the_fix_resolves_it(world: World, receiver: Receiver) -> None:
    path, authorization, body = receiver.deliveries.get(timeout=120)
    assert path == "/alerts/alertmanager"
    assert authorization == f"Bearer {world.alert_token}"
    assert body["status"] == "firing"
    [alert] = body["alerts"]
    wanted = {
        "alertname": "CheckoutDiskFilling",
        "severity": "critical",
        "service": "checkout",
        "mountpoint": "/srv",
        "env": "production",
    }
    assert wanted.items() <= alert["labels"].items()
    assert world.firing()

    production = world.targets[PRODUCTION]
    until(lambda: used(production) > 0.88, within_s=60)
    until(lambda: used(world.targets[STAGING]) > 0.88, within_s=60)
    assert production.effects() == 0
    assert production.run("operator", FIX).returncode == 0

    until(lambda: used(production) < 0.3, within_s=20)
    assert production.effects() == 1
    assert health(production)["ok"] is True
    _, _, resolved = receiver.deliveries.get(timeout=60)
    assert resolved["status"] == "resolved"
    assert not world.firing()
    assert used(world.targets[STAGING]) < 0.97, "a full disk would stop the story"


def test_a_bad_configuration_turns_healthz_500_with_its_reason(world: World) -> None:
    target = world.targets[STAGING]
    target.run("operator", "echo '{\"log_level\": 1}' >/srv/checkout/checkout.json; touch /srv/checkout/reload")
    until(lambda: "HTTP Error 500" in health(target), within_s=10)

    target.run("operator", FIX)
    until(lambda: isinstance(health(target), dict), within_s=10)
    assert health(target)["env"] == STAGING


def test_the_engine_reads_the_directory_of_sites(world: World) -> None:
    directory = load_directory(world.sites_file)

    for env, target in world.targets.items():
        site = directory.site(f"{env}.checkout.demo")
        assert site.http_url == target.http_url
        assert site.ports[22] == Address(host="127.0.0.1", port=target.ssh_port)
        assert site.ssh_host_key == target.host_key.public


def test_private_keys_are_their_owners_alone(world: World) -> None:
    private = [text.encode() for fields in world.vault_secrets.values() for text in fields.values()]
    private += [target.host_key.private.encode() for target in world.targets.values()]
    assert len(private) == 8
    bodies = [line for text in private for line in text.splitlines() if len(line) > 60]
    for path in world.folder.rglob("*"):
        if path.is_file() and (path.stat().st_mode & 0o077):
            content = path.read_bytes()
            assert not any(line in content for line in bodies), path


def test_a_second_world_in_the_same_folder_is_refused_and_harms_nothing(world: World) -> None:
    second = World(world.folder, image=world.folder, alert_url="http://127.0.0.1:9/")
    with pytest.raises(Conflict, match="a demo is running"):
        second.start(no_progress)
    second.stop()

    assert health(world.targets[PRODUCTION])["ok"] is True


def test_a_missing_image_is_said_with_its_remedy_and_nothing_is_left(tmp_path: Path) -> None:
    world = World(tmp_path / "world", image=tmp_path, alert_url="http://127.0.0.1:9/")
    with pytest.raises(Unavailable, match="no vmlinuz") as refused:
        world.start(no_progress)

    assert "make demo" in refused.value.remedy
    assert world.leftovers() == ()


def test_prometheus_can_be_killed_alone(world: World) -> None:
    world.kill_prometheus()

    with pytest.raises(Unavailable):
        world.firing()
    assert len(world.leftovers()) == 3


def test_stop_leaves_no_process_and_no_open_port(world: World) -> None:
    world.stop()

    assert world.leftovers() == ()
    for target in world.targets.values():
        assert "refused" in health(target)
