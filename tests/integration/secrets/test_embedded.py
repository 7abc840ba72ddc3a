"""The embedded OpenBao: private, durable, gone with its owner, and no obstacle when something goes wrong."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.domain.errors import Refused, Unavailable
from engine.secrets.embedded import EmbeddedBao
from engine.secrets.vault import Vault
from tests.integration.secrets.conftest import REF, VALUE, World

MakeWorld = Callable[[EmbeddedBao], World]
KEEPS_A_KEY = {"unseal.key", "bot.secret_id", "admin.password"}


def _gone(pid: int, within_s: float = 15) -> bool:
    """Whether the process ends within this time. If not, it is ended here, so that a red test leaves nothing."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    return False


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_only_its_owner_can_reach_it(bao: EmbeddedBao) -> None:
    """Every file 0600, every folder 0700, a unix socket, no TCP port."""
    for path in (bao.home, *bao.home.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode & 0o077 == 0 or "data/" in str(path), path
    assert stat.S_ISSOCK(bao.socket.stat().st_mode)
    links = [str(link.readlink()) for link in Path(f"/proc/{bao.pid}/fd").iterdir()]
    inodes = {link[8:-1] for link in links if link.startswith("socket:[")}
    for table in ("tcp", "tcp6", "udp", "udp6"):
        rows = Path(f"/proc/{bao.pid}/net/{table}").read_text().splitlines()[1:]
        assert not inodes & {row.split()[9] for row in rows}


def test_a_secret_lies_nowhere_in_the_clear(world: World) -> None:
    """After a whole step: not in the folder (but for three key files), nor its processes' arguments or environment."""
    world.open(REF).close()
    bao = world.bao
    keys = [bao.connection().secret_id, bao.admin_password()]
    tokens = [token.token for token in world.tokens]
    everything: dict[str, bytes] = {}
    for path in bao.home.rglob("*"):
        if path.is_file() and path.name not in KEEPS_A_KEY:
            everything[str(path)] = path.read_bytes()
    assert bao.pid is not None
    for pid in (bao.pid, _parent(bao.pid)):
        for name in ("cmdline", "environ"):
            everything[f"/proc/{pid}/{name}"] = Path(f"/proc/{pid}/{name}").read_bytes()
    assert any("audit.log" in name for name in everything)
    for name, content in everything.items():
        for secret in (VALUE, *keys, *tokens):
            assert secret.encode() not in content, name
    environment = everything[f"/proc/{bao.pid}/environ"]
    assert b"VAULT_" not in environment
    assert b"BAO_" not in environment


def test_the_audit_log_names_run_step_and_attempt(world: World) -> None:
    """Each read is there with the request id that our journal holds and the metadata of our token."""
    world.open(REF).close()
    (request_id,) = world.journal.of("read")
    records = [json.loads(line) for line in (world.bao.home / "audit.log").read_text().splitlines()]
    (served,) = [r for r in records if r["type"] == "response" and r["request"]["id"] == request_id]
    assert served["request"]["path"] == REF.path
    meta = served["auth"]["metadata"]
    assert meta["op_run"] == "run-1"
    assert meta["op_step"] == "staging:rehearse"
    assert meta["op_attempt"] == "attempt-1"
    assert served["auth"]["accessor"] == world.tokens[-1].accessor


def test_what_was_written_is_there_after_a_restart(own_bao: EmbeddedBao, make_world: MakeWorld) -> None:
    """Secrets, policies, and tokens that live on."""
    world = make_world(own_bao)
    grant = world.open(REF)
    own_bao.stop()
    assert not own_bao.is_running()
    own_bao.start()
    assert world.works(world.tokens[-1])
    grant.close()
    world.open(REF).close()


def test_killed_openbao_is_said_to_be_down_and_works_again_after_a_restart(
    own_bao: EmbeddedBao, make_world: MakeWorld
) -> None:
    """Unavailable while it is dead; an open grant cannot be proved dead then, and can afterwards."""
    world = make_world(own_bao)
    grant = world.open(REF)
    assert own_bao.pid is not None
    os.kill(own_bao.pid, signal.SIGKILL)
    assert _gone(own_bao.pid)
    with pytest.raises(Unavailable, match="did not answer") as down:
        world.broker.reachable()
    assert down.value.remedy
    with pytest.raises(Unavailable):
        world.open(REF)
    with pytest.raises(Refused, match="cannot prove"):
        grant.close()
    with pytest.raises(Unavailable):
        world.broker.recover([world.tokens[-1].accessor])
    assert world.journal.kinds[-2:] == ["revoke_failed", "revoke_failed"]
    own_bao.start()
    world.broker.reachable()
    grant.close()
    assert world.journal.kinds[-1] == "revoked"
    world.open(REF).close()


def test_a_sealed_vault_is_said_to_be_sealed(own_bao: EmbeddedBao, make_world: MakeWorld) -> None:
    """Unavailable with the remedy."""
    world = make_world(own_bao)
    with Vault(own_bao.connection(), world.clock) as vault:
        vault.write(vault.login_password("admin", own_bao.admin_password()).token, "sys/seal", {})
    with pytest.raises(Unavailable, match="sealed") as down:
        world.broker.reachable()
    assert "unseal" in down.value.remedy
    with pytest.raises(Unavailable, match="sealed"):
        world.open(REF)
    assert [finding.name for finding in world.broker.check() if not finding.ok] == ["vault answers"]


OWNER = """
import sys, threading, time
from pathlib import Path
from engine.secrets.embedded import EmbeddedBao
bao = EmbeddedBao(Path(sys.argv[1]))
thread = threading.Thread(target=bao.start)
thread.start()
thread.join()
print(bao.pid, flush=True)
time.sleep(120)
"""


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that starts an OpenBao from a thread which ends at once."""
    argv = [sys.executable, "-c", textwrap.dedent(OWNER), str(tmp_path / "openbao")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_it_ends_when_its_owner_is_killed(owner: subprocess.Popen[str], tmp_path: Path) -> None:
    """kill -9 leaves no unsealed server behind; and it had outlived the thread that started it."""
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    bao = EmbeddedBao(tmp_path / "openbao")
    keeper = _parent(pid)
    assert bao.is_running()
    owner.kill()
    assert _gone(pid)
    assert _gone(keeper)
    bao.start()
    bao.stop()


def test_it_ends_when_its_keeper_is_killed(own_bao: EmbeddedBao) -> None:
    """The kernel sees to it; and it can be started again at once."""
    own_bao.start()
    assert own_bao.pid is not None
    pid = own_bao.pid
    os.kill(_parent(pid), signal.SIGKILL)
    assert _gone(pid)
    own_bao.start()
    assert own_bao.is_running()


def test_a_first_start_that_fails_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    """OpenBao refuses a folder whose initialisation broke; ours is never left half-made."""
    home = tmp_path / "openbao"
    broken = tmp_path / "bao"
    broken.write_text("#!/bin/sh\necho no such luck\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(Unavailable, match="no such luck"):
        EmbeddedBao(home, binary=broken).start()
    assert not home.exists()
    (tmp_path / "openbao.new" / "data").mkdir(parents=True, exist_ok=True)  # as a crash would leave it
    whole = EmbeddedBao(home)
    whole.start()
    whole.stop()
    assert not (tmp_path / "openbao.new").exists()


def test_a_crash_in_the_first_start_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    """The owner dies (kill -9) while OpenBao initialises itself, at several moments."""
    home = tmp_path / "openbao"
    for delay_s in (0.1, 0.3, 0.5, 0.7):
        argv = [sys.executable, "-c", textwrap.dedent(OWNER), str(home)]
        with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as process:
            time.sleep(delay_s)  # not a wait for something: the moment of the crash
            process.kill()
    whole = EmbeddedBao(home)
    whole.start()
    assert whole.is_running()
    whole.stop()


def test_two_cannot_keep_one_folder(own_bao: EmbeddedBao) -> None:
    """The second says who is in the way; the first goes on."""
    own_bao.start()
    second = EmbeddedBao(own_bao.home)
    assert second.is_running()
    with pytest.raises(Unavailable, match="another Signalbox"):
        second.start(timeout_s=0.5)
    assert own_bao.is_running()


def test_a_home_too_deep_for_a_socket_gets_a_short_private_one(tmp_path: Path) -> None:
    """A unix socket's path has 107 bytes; the folder of the short one is ours and goes away again."""
    home = tmp_path / ("deep" * 30) / "openbao"
    bao = EmbeddedBao(home)
    bao.start()
    assert len(str(bao.socket)) < 100
    assert bao.socket.parent != home
    assert stat.S_IMODE(bao.socket.parent.stat().st_mode) == 0o700
    bao.stop()
    assert not bao.socket.parent.exists()


def test_starting_twice_and_stopping_twice_is_harmless(own_bao: EmbeddedBao) -> None:
    """Both are idempotent."""
    own_bao.start()
    pid = own_bao.pid
    own_bao.start()
    assert own_bao.pid == pid
    own_bao.stop()
    own_bao.stop()
    assert pid is not None
    assert _gone(pid, 0.5)
