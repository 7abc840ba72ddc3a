"""What the demo's world is started with, before anything is started."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from demo.world import monitoring
from demo.world.faults import Fault
from demo.world.keys import Key
from demo.world.target import PRODUCTION, STAGING, Target, argv, first_data, settings


@pytest.fixture
def target() -> Target:
    key = Key(Path("/keys/k"), "ssh-ed25519 AAAA", "SHA256:x")
    return Target(
        env=PRODUCTION,
        folder=Path("/world/production"),
        ssh_port=2201,
        http_port=8001,
        host_key=key,
        people={"reader": key},
    )


def test_no_packet_leaves_a_target_but_in_answer_to_its_two_loopback_ports(target: Target) -> None:
    command = argv(target, Path("/image"), "tcg")

    [network] = [word for word in command if word.startswith("user,")]
    assert "restrict=on" in network.split(",")
    assert [word for word in network.split(",") if word.startswith(("hostfwd", "guestfwd"))] == [
        "hostfwd=tcp:127.0.0.1:2201-:22",
        "hostfwd=tcp:127.0.0.1:8001-:8080",
    ]
    assert command.count("-netdev") == 1


def test_qemu_is_sandboxed_and_has_nothing_that_nobody_asked_for(target: Target) -> None:
    command = argv(target, Path("/image"), "tcg")

    assert "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny" in command
    assert "-nodefaults" in command


def test_the_site_of_a_target_holds_only_what_may_be_read_by_all(target: Target) -> None:
    assert target.site() == {
        "ports": {22: "127.0.0.1:2201"},
        "ssh_host_key": "ssh-ed25519 AAAA",
        "http_url": "http://127.0.0.1:8001",
    }


def test_a_database_of_a_target_is_one_more_port_on_loopback(target: Target) -> None:
    with_database = replace(target, others={5432: 5401})

    [network] = [word for word in argv(with_database, Path("/image"), "tcg") if word.startswith("user,")]
    assert [word for word in network.split(",") if word.startswith(("hostfwd", "guestfwd"))] == [
        "hostfwd=tcp:127.0.0.1:2201-:22",
        "hostfwd=tcp:127.0.0.1:8001-:8080",
        "hostfwd=tcp:127.0.0.1:5401-:5432",
    ]
    assert with_database.site()["ports"] == {22: "127.0.0.1:2201", 5432: "127.0.0.1:5401"}


def test_a_target_that_speaks_https_says_with_what_it_is_verified(target: Target) -> None:
    site = replace(target, ca=Path("/world/production/ca.pem")).site()

    assert (site["http_url"], site["http_ca"]) == ("https://127.0.0.1:8001", "/world/production/ca.pem")


def test_alertmanager_proves_itself_and_never_follows_a_redirect() -> None:
    config = yaml.safe_load(monitoring.alertmanager_config("http://127.0.0.1:8080/alerts/alertmanager", Path("/t")))

    [hook] = config["receivers"][0]["webhook_configs"]
    assert hook["send_resolved"] is True
    assert hook["http_config"] == {
        "follow_redirects": False,
        "authorization": {"type": "Bearer", "credentials_file": "/t"},
    }


def test_both_targets_are_watched_under_their_names() -> None:
    config = yaml.safe_load(monitoring.prometheus_config("127.0.0.1:9", {STAGING: "127.0.0.1:1", PRODUCTION: "x:2"}))

    watched = {job["labels"]["env"]: job["targets"] for job in config["scrape_configs"][0]["static_configs"]}
    assert watched == {STAGING: ["127.0.0.1:1"], PRODUCTION: ["x:2"]}


@pytest.mark.parametrize("fault", Fault)
def test_only_production_ever_runs_the_older_release_and_only_when_that_is_the_fault(fault: Fault) -> None:
    assert settings(STAGING, fault)["OLD_RELEASE"] == 0
    assert settings(PRODUCTION, fault)["OLD_RELEASE"] == int(fault is Fault.PRODUCTION)


@pytest.mark.parametrize(
    ("fault", "filled"),
    [
        (Fault.NONE, {STAGING: "log", PRODUCTION: "log"}),
        (Fault.DIAGNOSIS, {STAGING: "log", PRODUCTION: "file"}),
        (Fault.STAGING, {STAGING: "file", PRODUCTION: "log"}),
    ],
)
def test_a_fault_decides_what_fills_which_disk(fault: Fault, filled: dict[str, str]) -> None:
    for env, by in filled.items():
        data = first_data(env, fault)
        biggest = max(data, key=lambda name: len(data[name]))
        assert biggest == {"log": "checkout/log/app.log", "file": "checkout/data/carts.export"}[by]


def test_a_disk_that_no_log_fills_is_above_the_threshold_by_itself() -> None:
    """Nothing that the service cuts would bring it down: the cause stays unknown, and staging's gate fails."""
    big = len(first_data(PRODUCTION, Fault.DIAGNOSIS)["checkout/data/carts.export"])

    assert big / (96 << 20) > monitoring.THRESHOLD
