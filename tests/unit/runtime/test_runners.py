"""Orders become tasks, results become conclusions; what a script says of itself is checked before it counts."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from engine.domain import archive, digest
from engine.domain.directory import Site
from engine.domain.errors import BadInput
from engine.domain.journey import Role
from engine.domain.ports import Ending, SecretValue
from engine.domain.runbook import Access, ArtefactRule, Limits, Login, OutputRule, Script
from engine.runtime import session
from engine.runtime.runners.probe import SshProbeRunner
from engine.runtime.runners.script import ScriptRunner
from tests.unit.runtime.orders import FILES, HOST_KEY, REACH, SITE, STEP, TARGET, order, result

RUNNER = ScriptRunner()
KEY = SecretValue(name="fix_key", value="-----BEGIN KEY-----\nx")
WITH_LOGIN = replace(STEP, login=Login(user="fixer", key="fix_key"))


def test_a_script_finds_its_runbook_inputs_claims_and_artefact() -> None:
    """Everything that the module's docstring promises."""
    files = {"fix.json": b"{}", "deep/er": b"1"}
    packed = archive.pack(files)
    made = RUNNER.task(order(artefact=packed), ())
    session.check(made)
    contents = {file.path: file.content for file in made.files}
    assert made.argv == ("/step/runbook/fix.sh", "/srv/data")
    assert {path: contents[f"/step/runbook/{path}"] for path in FILES} == FILES
    assert {path: contents[f"/step/artefact/{path}"] for path in files} == files
    assert json.loads(contents["/step/inputs.json"]) == {"mount": "/srv/data"}
    assert json.loads(contents["/step/claims.json"]) == {"diagnose": {"cause": "logs"}}
    assert made.env == {
        "SIGNALBOX_INPUT_MOUNT": "/srv/data",
        "SIGNALBOX_ATTEMPT": "a1",
        "SIGNALBOX_ARTEFACT_DIGEST": digest.of_bytes(packed),
    }
    modes = {file.path: file.mode for file in made.files}
    assert modes["/step/runbook/fix.sh"] == modes["/step/runbook/lib/tool.py"] == 0o755
    assert modes["/step/runbook/data.txt"] == 0o644
    assert (made.id, made.run_id, made.image, made.reaches) == ("a1", "r1", "step", (REACH,))
    assert made.collect is None


def test_only_a_changing_step_outlives_its_worker() -> None:
    """A reading one may die with it."""
    assert RUNNER.task(order(replace(STEP, access=Access.WRITE)), ()).outlives_worker
    assert not RUNNER.task(order(), ()).outlives_worker


def test_a_login_becomes_an_ssh_configuration_that_trusts_one_host_key() -> None:
    """`ssh target` works, and nothing else is believed."""
    made = RUNNER.task(order(WITH_LOGIN), (KEY,))
    config = {file.path: file for file in made.files}
    text = config["/step/.ssh/config"].content.decode()
    for line in (
        "Host target",
        "HostName shop.staging",
        "Port 2201",
        "User fixer",
        "IdentityFile /run/secrets/fix_key",
        "StrictHostKeyChecking yes",
        "BatchMode yes",
    ):
        assert line in text
    assert config["/step/.ssh/known_hosts"].content.decode() == f"[shop.staging]:2201 {HOST_KEY}\n"
    assert config["/step/.ssh/config"].mode == 0o600
    assert made.secrets[0].value.endswith("x\n")


@pytest.mark.parametrize("site", [None, Site(name="shop.staging")])
def test_without_a_host_key_there_is_no_ssh(site: Site | None) -> None:
    """Nothing is learnt on first use."""
    with pytest.raises(BadInput, match="no ssh host key"):
        RUNNER.task(order(WITH_LOGIN, site=site), (KEY,))


@pytest.mark.parametrize("user", ["x\n  ProxyCommand evil", "-oProxyCommand", "", "a b"])
def test_a_login_cannot_write_its_own_ssh_options(user: str) -> None:
    """Names only."""
    with pytest.raises(BadInput):
        RUNNER.task(order(replace(STEP, login=Login(user=user, key="fix_key"))), (KEY,))


def test_a_script_that_is_not_in_the_folder_is_refused() -> None:
    """It says which."""
    with pytest.raises(BadInput, match="gone"):
        RUNNER.task(order(replace(STEP, script=Script(file="gone.sh"))), ())


def test_a_tampered_artefact_is_no_task() -> None:
    """Whatever is not our canonical archive never reaches a VM."""
    with pytest.raises(BadInput):
        RUNNER.task(order(artefact=archive.pack({"a": b"1"})[:-1]), ())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"code": 3, "stderr": "first\nno space left\n"}, "code 3: no space left"),
        ({"ending": Ending.SIGNALLED, "code": None, "reason": "ended by signal 9"}, "signal 9"),
        ({"ending": Ending.TIMED_OUT, "code": None, "reason": "no end within 60 s"}, "no end within 60 s"),
        ({"ending": Ending.CANCELLED, "code": None}, "cancelled"),
        ({"ending": Ending.VM_LOST, "code": None, "reason": "the VM is gone"}, "the VM is gone"),
        ({"ending": Ending.NOT_BEGUN, "code": None, "reason": "too early"}, "not started: too early"),
        ({"reason": "more than 1000 files"}, "more than 1000 files"),
    ],
)
def test_only_an_exit_with_zero_is_ok(change: dict[str, Any], says: str) -> None:
    """Every other ending says why."""
    conclusion = RUNNER.conclude(order(), result(**change))
    assert not conclusion.ok
    assert says in conclusion.reason


def test_the_last_line_is_the_output() -> None:
    """Other lines are for people."""
    step = replace(STEP, output=OutputRule(required=("cause",), enums={"cause": ("logs", "unknown")}))
    conclusion = RUNNER.conclude(order(step), result(stdout='looking\n{"cause": "logs", "more": [1]}\n\n'))
    assert (conclusion.ok, conclusion.output) == (True, {"cause": "logs", "more": [1]})
    assert RUNNER.conclude(order(step, Role.ROLLBACK), result(stdout="undone")).ok


@pytest.mark.parametrize(
    ("stdout", "says"),
    [
        ("", "printed nothing"),
        ("\n \n", "printed nothing"),
        ("done", "not JSON"),
        ('{"cause": "logs"}\ndone', "not JSON"),
        ('{"cause": NaN}', "not JSON"),
        ('{"cause": 1e999}', "not JSON"),  # infinity, of which no digest can be made
        ('{"cause": "\\ud800"}', "not JSON"),
        ("[" * 50_000, "not JSON"),
        ('["cause"]', "not an object"),
        ('{"reason": "logs"}', "lacks cause"),
        ('{"cause": "gremlins"}', "none of logs, unknown"),
        ('{"cause": ["logs"]}', "none of logs, unknown"),
        ('{"cause": "logs", "x": "' + "y" * 65536 + '"}', "longer than"),
    ],
)
def test_an_output_that_breaks_its_rule_is_not_ok(stdout: str, says: str) -> None:
    """Hostile until parsed."""
    step = replace(STEP, output=OutputRule(required=("cause",), enums={"cause": ("logs", "unknown")}))
    conclusion = RUNNER.conclude(order(step), result(stdout=stdout))
    assert not conclusion.ok
    assert says in conclusion.reason
    assert conclusion.output is None


def test_a_steps_limits_go_along() -> None:
    limits = Limits(vcpus=2, cpu_percent=150, disk_mb=64, processes=32, output_kb=3, egress_mb=5)
    made = RUNNER.task(order(replace(STEP, limits=limits)), ())

    assert (made.vcpus, made.cpu_percent, made.disk_mb, made.processes) == (2, 150, 64, 32)
    assert (made.output_limit, made.egress_limit) == (3 * 1024, 5 * 1024 * 1024)


@pytest.mark.parametrize("code", [0, 1])
def test_a_step_that_met_a_limit_is_not_ok_whatever_it_says(code: int) -> None:
    """It may have gone on with less than it was to do."""
    conclusion = RUNNER.conclude(order(), result(code=code, reason="it met its limit of egress: 5 MB"))

    assert not conclusion.ok
    assert "limit of egress: 5 MB" in conclusion.reason


def test_cut_output_is_no_output() -> None:
    """Its last line is not the script's last line."""
    step = replace(STEP, output=OutputRule(required=()))
    assert not RUNNER.conclude(order(step), result(stdout="{}", truncated=True)).ok


def test_what_the_script_leaves_is_its_artefact_in_canonical_form() -> None:
    """Equal files, equal digest; nothing left, or something wicked, is not ok."""
    step = replace(STEP, produces=ArtefactRule(name="fix"))
    assert RUNNER.task(order(step), ()).collect == "/step/out"
    conclusion = RUNNER.conclude(order(step), result(files={"b": b"2", "a": b"1"}))
    assert conclusion.artefact == archive.pack({"a": b"1", "b": b"2"})
    assert RUNNER.conclude(order(step), result()).reason == "the script left no file in /step/out"
    assert not RUNNER.conclude(order(step), result(files={"../a": b""})).ok


def test_a_probe_quotes_every_word_for_the_far_shell() -> None:
    """What the gate says is what the target's shell hears, word for word."""
    made = SshProbeRunner().task(
        task_id="p1",
        run_id="r1",
        argv=("df", "--output=pcent", "/srv; rm -rf $HOME", "it's"),
        timeout_s=30,
        target=TARGET,
        site=SITE,
        reaches=(REACH,),
        secrets=(SecretValue(name="verify_key", value="k"),),
    )
    session.check(made)
    assert made.argv == ("ssh", "target", "--", "df --output=pcent '/srv; rm -rf $HOME' 'it'\"'\"'s'")
    assert b"User verifier\n" in made.files[0].content
    assert made.secrets == (SecretValue(name="verify_key", value="k\n"),)
    assert not made.outlives_worker
