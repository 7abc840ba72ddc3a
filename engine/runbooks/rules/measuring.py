"""Rules on what a check really measures: L031, L032, L033."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product

import cel

from engine.domain.gate import (
    LOOP,
    MAX_LOOPS,
    Check,
    CommandCheck,
    ExprCheck,
    HttpCheck,
    Json,
    Parse,
    PromqlCheck,
)
from engine.domain.within import commands
from engine.runbooks.book import Book, Finding, target_of
from engine.runbooks.rule import edit, rule

MAX_FRESH_S = 4 * 3600
MAX_DEADLINE_S = 24 * 3600

_SAYS_NOTHING = frozenset({"true", "false", ":", "echo", "printf", "yes", "sleep", "seq"})
WRAPPERS = frozenset({"sudo", "doas", "env", "nice", "ionice", "timeout", "stdbuf", "setsid", "nohup", "busybox"})
INTERPRETERS = frozenset(
    {"sh", "bash", "dash", "ash", "ksh", "zsh", "fish", "eval", "python", "python3", "perl", "ruby", "node", "php"}
    | {"lua", "ssh", "su", "xargs", "parallel", "script", "expect", "tclsh", "nsenter", "chroot", "at", "batch"}
)
_ACTS = frozenset(
    {"rm", "mv", "cp", "dd", "tee", "truncate", "touch", "ln", "mkdir", "rmdir", "install", "rsync", "scp", "shred"}
    | {"chmod", "chown", "chgrp", "chattr", "setfacl", "kill", "pkill", "killall", "reboot", "shutdown", "halt"}
    | {"poweroff", "init", "telinit", "mkfs", "mount", "umount", "swapoff", "useradd", "usermod", "userdel", "passwd"}
    | {
        "apt",
        "apt-get",
        "dpkg",
        "yum",
        "dnf",
        "rpm",
        "apk",
        "pip",
        "pip3",
        "npm",
        "make",
        "crontab",
        "patch",
        "ansible",
    }
    | {"ansible-playbook", "terraform", "logrotate", "fallocate", "gzip", "gunzip", "nft", "iptables", "sysctl"}
)
_OF_THE_SYSTEM = ("/usr/", "/bin/", "/sbin/", "/opt/")
_VERBS: Mapping[str, frozenset[str]] = {
    "systemctl": frozenset(
        {"start", "stop", "restart", "reload", "try-restart", "reload-or-restart", "enable", "disable", "mask"}
        | {"unmask", "kill", "set-property", "daemon-reload", "isolate", "edit", "revert", "reboot", "poweroff"}
        | {"reset-failed", "link", "preset", "switch-root", "rescue", "emergency", "freeze", "thaw", "clean"}
    ),
    "service": frozenset({"start", "stop", "restart", "reload", "force-reload"}),
    "find": frozenset({"-delete", "-exec", "-execdir", "-ok", "-okdir", "-fprint", "-fprintf", "-fls"}),
    "sed": frozenset({"-i", "--in-place"}),
    "docker": frozenset({"run", "rm", "rmi", "stop", "start", "restart", "kill", "exec", "pull", "compose", "prune"}),
    "podman": frozenset({"run", "rm", "rmi", "stop", "start", "restart", "kill", "exec", "pull", "prune"}),
    "kubectl": frozenset(
        {"apply", "create", "delete", "edit", "exec", "patch", "replace", "rollout", "run", "scale", "set", "drain"}
    ),
    "ip": frozenset({"add", "del", "delete", "set", "flush", "change", "replace"}),
    "git": frozenset({"pull", "push", "checkout", "reset", "clean", "commit", "merge", "rebase"}),
    "curl": frozenset({"-X", "--request", "-d", "--data", "--data-raw", "--data-binary", "-T", "-o", "-O", "-F"}),
    "wget": frozenset({"-O", "--post-data", "--post-file", "--method"}),
}
""" Programs that only look, unless one of these words is among their arguments. """


def program(argv: Sequence[str]) -> str:
    """The program that a command really runs: without its path, past sudo, env, timeout and their options."""
    return _program_word(argv).rpartition("/")[2]


def _program_word(argv: Sequence[str]) -> str:
    for word in argv:
        option = word.startswith("-") or "=" in word or word.rstrip("smh").replace(".", "").isdigit()
        if not option and word.rpartition("/")[2] not in WRAPPERS:
            return word
    return argv[0]


@rule(
    "L031",
    bad=edit("healthy", "expect: status == 200, sampling", "expect: status >= 200 || ms > 0, sampling"),
    good=edit("healthy", "expect: status == 200, sampling", "expect: status >= 200 && status < 300, sampling"),
)
def checks_can_fail(book: Book) -> Iterator[Finding]:
    """A check can fail. Its condition is tried on answers of many kinds, good and bad: one that holds on all of them
    holds whatever is measured. And a command such as `echo` or `true` says nothing of the target."""
    for place, _, check in book.checks():
        silent = [program(argv) for argv in commands(check) if program(argv) in _SAYS_NOTHING]
        if silent:
            what = f"{silent[0]} says nothing of {target_of(check)}"
            yield Finding((*place, "run"), what, "run a command that looks at the target")
        elif isinstance(check, _TRIED) and all(_holds(check.expect, probe) for probe in _probes(check)):
            what = f"{check.expect}: holds whatever is measured"
            yield Finding((*place, "expect"), what, "write what is only true of a target that is well")


_TRIED = (CommandCheck, HttpCheck, PromqlCheck, ExprCheck)
_OUT: Mapping[Parse, tuple[Json, ...]] = {
    Parse.TEXT: ("", "no\n", "failed\n", "active\n", "0", "Error: it is broken"),
    Parse.INT: (-(10**12), -1, 0, 1, 50, 10**12),
    Parse.PERCENT: (0.0, 1.0, 50.0, 99.0, 100.0),
    Parse.JSON: ({}, {"ok": False}, {"ok": True, "status": "error"}, [], 0, "failed"),
    Parse.LINES: ([], [""], ["failed"], ["a", "b", "c"], ["x"] * 50),
}
_NUMBERS: tuple[Json, ...] = ([], [0.0], [-1e12], [1e12], [0.5], [0.0, 1e12], [100.0, 1.0])
_BODIES: tuple[tuple[str, Json], ...] = (
    ("", None),
    ("Internal Server Error", None),
    ('{"ok": false}', {"ok": False}),
)
_ANSWERS: tuple[Mapping[str, Json], ...] = tuple(
    {"status": status, "ms": ms, "body": body, "json": parsed}
    for status, ms in product((200, 204, 301, 404, 500, 503), (0, 900, 60_000))
    for body, parsed in _BODIES
)


def _probes(check: Check) -> Iterator[Mapping[str, Json]]:
    """Answers that a check of this kind may get."""
    match check:
        case CommandCheck():
            yield from ({"out": out, "code": code} for out in _OUT[check.parse] for code in (0, 1, 255))
        case HttpCheck():
            yield from _ANSWERS
        case PromqlCheck():
            yield from ({"result": numbers} for numbers in _NUMBERS)
        case ExprCheck():
            yield from ({"out": out} for out in _OUT[Parse.JSON])


def _holds(condition: str, values: Mapping[str, Json]) -> bool:
    """Whether it is true of these; an error is not, also one that comes as a panic of the extension."""
    if len(LOOP.findall(condition)) > MAX_LOOPS:
        return False  # L018 says so; it could take for ever
    try:
        return cel.evaluate(condition, dict(values)) is True
    except (ValueError, TypeError, RuntimeError, LookupError, ArithmeticError):
        return False
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        return False


@rule(
    "L032",
    bad=edit("tested", "fresh_for: 30m", "fresh_for: 72h"),
    good=edit("tested", "fresh_for: 30m", "fresh_for: 2h"),
)
def nothing_waits_for_days(book: Book) -> Iterator[Finding]:
    """A verdict says how it was, not how it is: it is good for four hours at most, and a run has a deadline within a
    day. What takes longer begins anew, with what is true then."""
    for at, gate in book.gates():
        if gate.fresh_for_s > MAX_FRESH_S:
            what = f"{gate.id} would still open the way {gate.fresh_for_s // 3600} hours after it held"
            yield Finding(("steps", at, "fresh_for"), what, f"write at most {MAX_FRESH_S // 3600}h")
    if book.runbook.deadline_s > MAX_DEADLINE_S:
        what = f"a deadline of {book.runbook.deadline_s // 3600} hours is none"
        yield Finding(("deadline",), what, f"write at most {MAX_DEADLINE_S // 3600}h")


@rule(
    "L033",
    bad=edit("healthy", "run: [systemctl, is-active,", "run: [systemctl, restart,"),
    good=edit("healthy", "run: [systemctl, is-active,", "run: [sudo, systemctl, is-active,"),
)
def gates_only_look(book: Book) -> Iterator[Finding]:
    """A gate's command looks and changes nothing: it runs unasked, on production too, before anybody approved
    anything. It is one program whose arguments say what it does, so no shell and no other interpreter either; what
    would be piped, `parse` and `expect` do. And it is a program of the system (by its name, or in /usr, /bin, /sbin,
    /opt), not a file that the step before could have written."""
    for place, _, check in book.checks():
        for argv in commands(check):
            fault = _acts(argv)
            if fault:
                what = f"{check.id} runs {fault} on {target_of(check)}"
                yield Finding((*place, "run"), what, "run a program that only looks; a change is a step of its own")


def _acts(argv: Sequence[str]) -> str | None:
    name, word = program(argv), _program_word(argv)
    if "/" in word and not word.startswith(_OF_THE_SYSTEM):
        return f"{word}, which a step could have written,"
    if name in _ACTS or name.startswith("mkfs."):
        return f"{name}, which changes things,"
    if name in INTERPRETERS or name.rstrip("0123456789.") in INTERPRETERS:
        return f"{name}, which may do anything,"
    verb = next((word for word in argv if word in _VERBS.get(name, ())), None)
    return f"{name} {verb}, which changes things," if verb else None
