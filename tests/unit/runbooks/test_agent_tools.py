"""What an agent may be granted: on a target nothing that does what it is told, in its VM what it likes, no secrets."""

from __future__ import annotations

import json

import pytest

from engine.runbooks import skeleton
from engine.runbooks.rules.agent_tools import _DOES_WHAT_IT_IS_GIVEN
from tests.unit.runbooks.judged import rules, said

TEXT, FILES = skeleton.AGENT.text, dict(skeleton.AGENT.files)
ON_TARGET = '{on: target, argv: [systemctl, status, "*"]}'
IN_VM = '{argv: [python3, "/step/out/**"]}'


def problems(old: str, new: str) -> list[str]:
    assert TEXT.count(old) == 1, old
    return said(TEXT.replace(old, new), FILES)


def on_target(*argv: str) -> list[str]:
    return problems(ON_TARGET, f"{{on: target, argv: {json.dumps(argv)}}}")


def in_vm(*argv: str) -> list[str]:
    return problems(IN_VM, f"{{argv: {json.dumps(argv)}}}")


SHELLS = [
    ("sh", "-c", "*"),
    ("/bin/sh", "*"),
    ("/usr/bin/bash", "/srv/**"),
    ("BASH", "*"),
    ("bash5.2", "*"),
    ("busybox", "*", "**"),
    ("python3", "-c", "*"),
    ("/usr/bin/python3.11", "/srv/**"),
    ("perl", "-e", "*"),
    ("awk", "*", "/srv/web/web.log"),
    ("sed", "-n", "*", "/srv/web/web.log"),
    ("find", "/srv", "**"),
    ("find", "/srv", "-exec", "rm", "*", ";"),
    ("find", "/srv", "-delete"),
    ("xargs", "*"),
    ("env", "**"),
    ("ssh", "*", "df"),
    ("sudo", "*"),
    ("sudo", "-n", "systemctl", "restart", "*"),
    ("nohup", "*"),
    ("timeout", "5", "*"),
    ("systemd-run", "*"),
    ("docker", "exec", "*", "df"),
    ("psql", "-tAc", "*"),
    ("curl", "*"),
    ("tee", "/srv/**"),
    ("rm", "/srv/**"),
    ("/srv/**", "--version"),
    ("systemctl", "*", "web"),
    ("service", "**"),
]


@pytest.mark.parametrize("argv", SHELLS, ids=" ".join)
def test_a_shell_on_a_target_is_refused(argv: tuple[str, ...]) -> None:
    assert rules(on_target(*argv)) == {"L063"}


@pytest.mark.parametrize("program", sorted(_DOES_WHAT_IT_IS_GIVEN))
def test_no_program_that_does_what_it_is_given_is_forgotten(program: str) -> None:
    assert rules(on_target(f"/usr/local/bin/{program}", "-x", "**")) == {"L063"}


@pytest.mark.parametrize(
    "argv",
    [
        ("df", "--output=pcent", "*"),
        ("ls", "-l", "/srv/**"),
        ("cat", "/srv/web/**"),
        ("find", "/srv", "-name", "*.log"),
        ("find", "/srv/**", "-maxdepth", "1"),
        ("grep", "-c", "*", "/srv/web/web.log"),
        ("journalctl", "-u", "web", "-n", "200"),
        ("systemctl", "is-active", "*"),
        ("sudo", "-n", "lsof", "+L1"),
        ("sh", "-c", "df | tail -n 1"),
        ("shfmt", "*"),
        ("findmnt", "**"),
    ],
    ids=" ".join,
)
def test_what_only_looks_is_allowed_on_a_target(argv: tuple[str, ...]) -> None:
    assert on_target(*argv) == []


@pytest.mark.parametrize("argv", [argv for argv in SHELLS if argv[0] != "/srv/**"], ids=" ".join)
def test_in_its_own_vm_an_agent_may_run_what_it_likes(argv: tuple[str, ...]) -> None:
    assert in_vm(*argv) == []


@pytest.mark.parametrize(
    "argv",
    [
        ("*", "x"),
        ("**",),
        ("-c", "x"),
        ("cat", "**", "x"),
        ("ls", "/srv/*"),
        ("ls", "srv/**"),
        ("ls", "/srv/../etc/**"),
        ("ls", "/srv//**"),
        ("ls", "/**"),
        ("ls", "/*/**"),
        ("ls", "{{ inputs.unit }}"),
        ("ls", "a\nb"),
        ("ls", "a\u202eb"),
    ],
    ids=repr,
)
def test_what_only_looks_like_a_pattern_is_refused(argv: tuple[str, ...]) -> None:
    assert "L066" in rules(on_target(*argv))
    assert "L066" in rules(in_vm(*argv))


@pytest.mark.parametrize("word", ["*", "**", "/srv/**", "/srv/*", "{{ inputs.unit }}"])
def test_no_word_of_a_log_is_the_agents(word: str) -> None:
    assert rules(problems("/srv/web/web.log]", f'"{word}"]')) == {"L066"}


READ, WRITE = 'read: ["/step/**"]', 'write: ["/step/out/**"]'


@pytest.mark.parametrize(
    "path",
    [
        "/run/secrets",
        "/run/secrets/ssh",
        "/run/secrets/**",
        "/run/**",
        "/step/.ssh",
        "/step/.ssh/**",
        "/step/.ssh/key",
        "/proc/**",
        "/proc/self/environ",
        "/sys/**",
        "/dev/mem",
    ],
)
def test_no_tool_leads_to_a_secret(path: str) -> None:
    assert rules(problems(READ, f'read: ["{path}"]')) == {"L064"}
    assert "L064" in rules(problems(WRITE, f'write: ["{path}"]'))


@pytest.mark.parametrize("path", ["/run/secrets/ssh", "/run/**", "/step/.ssh/**", "/step/**", "--key=/run/secrets/ssh"])
def test_no_command_in_the_vm_names_a_secret(path: str) -> None:
    assert rules(in_vm("cat", path)) == {"L064"}


@pytest.mark.parametrize(
    "path", ["/etc/hosts", "/step/**", "/step/files/**", "/step/output", "/tmpx/**", "/step/outer/**"]
)
def test_an_agent_writes_its_artefact_and_nothing_else(path: str) -> None:
    assert "L064" in rules(problems(WRITE, f'write: ["{path}"]'))


@pytest.mark.parametrize("path", ["/step/out", "/step/out/fix.sh", "/step/out/lib/**", "/tmp/**"])
def test_what_an_agent_may_write(path: str) -> None:
    assert problems(WRITE, f'write: ["/step/out/**", "{path}"]') == []


@pytest.mark.parametrize("path", ["/step/../run/secrets/**", "/step/./x", "/step/out/.."])
def test_paths_are_what_they_say(path: str) -> None:
    assert "L066" in rules(problems(READ, f'read: ["{path}"]'))
    assert "L066" in rules(problems(WRITE, f'write: ["{path}"]'))


BLOCK = TEXT[
    TEXT.index("    tools:\n      run:\n") : TEXT.index("    budget: {requests: 20, tokens: 120k, calls: 40, usd")
]
ACCESS = TEXT[TEXT.index("    target: production\n    access: read") : TEXT.index("    tools:\n      run:\n")]


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (ACCESS, "    access: none\n", "has a tool on its target, and no target that it logs in to"),
        (BLOCK, "", "may log in to its target, and no tool of it works there"),
        (BLOCK, '    tools: {metrics: ["web_*"]}\n', "has network, and no command that could use them"),
        (BLOCK, "    tools: {run: [{argv: [df]}]}\n", "may log in to its target, and no tool of it works there"),
        (IN_VM, "{on: target, argv: [df]}", "has a tool on its target, and no target"),
        (
            'run: [{argv: [python3, "/step/out/**"]}]\n      read: ["/step/**"]\n      write: ["/step/out/**"]',
            'read: ["/step/**"]',
            "has no tool that writes one",
        ),
    ],
)
def test_what_no_tool_uses_is_refused(old: str, new: str, why: str) -> None:
    found = problems(old, new)

    assert rules(found) == {"L065"}
    assert any(why in one for one in found), found


@pytest.mark.parametrize("tools", ["{logs: {web: [tail, /srv/web/web.log]}}", "{run: [{on: target, argv: [df]}]}"])
def test_one_tool_on_the_target_is_use_enough(tools: str) -> None:
    assert problems(BLOCK, f"    tools: {tools}\n") == []
