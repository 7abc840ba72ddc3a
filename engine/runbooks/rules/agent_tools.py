"""Rules on the tools of an agent's step: L063, L064, L065, L066."""

from __future__ import annotations

import re
from collections.abc import Iterator

from engine.domain.agent import Tools, Where
from engine.domain.runbook import ScriptStep
from engine.runbooks.book import Book, Finding
from engine.runbooks.positions import Place
from engine.runbooks.rule import rule
from engine.runbooks.rules.agents import agents, example

ANY, REST, WITHIN = "*", "**", "/**"
_DEAF = ("diagnose", '{on: target, argv: [systemctl, status, "*"]}')
_DOES_WHAT_IT_IS_GIVEN = frozenset(  # shells, languages, what runs others, what reaches out, what writes
    """
    ash bash busybox csh dash fish ksh mksh sh tcsh toybox zsh
    awk bc ed ex gawk gdb java lua m4 mawk nawk node perl php python ruby sed tclsh vi vim
    mariadb mongo mongosh mysql psql redis-cli sqlite
    at batch chroot chrt cron crontab docker doas env eval exec expect flock git ionice kubectl make nice nohup nsenter
    parallel podman run-parts screen script setpriv setsid stdbuf strace su sudo systemd-run taskset time timeout tmux
    unshare watch xargs
    curl nc ncat rsync scp sftp socat ssh telnet wget
    chmod chown cp dd install kill killall ln mkdir mv pkill rm rmdir tee touch truncate
    """.split()  # noqa: SIM905 - words are read more easily so
)
_SAYS_WHAT_FIRST = frozenset({"apt", "apt-get", "dpkg", "ip", "nft", "rpm", "service", "systemctl"})
_FIND_ACTS = frozenset({"-delete", "-exec", "-execdir", "-fls", "-fprint", "-fprint0", "-fprintf", "-ok", "-okdir"})
SECRET_PLACES = ("/run/secrets", "/step/.ssh")
NO_FILES = ("/proc", "/sys", "/dev")
MAY_WRITE = ("/step/out", "/tmp")  # noqa: S108 - of the step's own VM


def _free(word: str) -> bool:
    return word in (ANY, REST) or word.endswith(WITHIN)


def _folder(pattern: str) -> str:
    return pattern.removesuffix(WITHIN)


def _in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


@rule(
    "L063",
    bad=example((*_DEAF, '{on: target, argv: [sh, -c, "*"]}')),
    good=example((*_DEAF, '{on: target, argv: [systemctl, is-active, "*"]}')),
)
def agents_get_no_shell_on_a_target(book: Book) -> Iterator[Finding]:
    """On a target an agent runs programs that the runbook names, and chooses what they look at. No program that does
    what it is given (a shell, a language, env, xargs, sudo, ssh, curl, psql, tee) has a word there that the agent
    chooses, `systemctl` is told what to do with it, and `find` neither acts nor has any number of words. In its own VM
    it may run what it likes: the VM is the boundary."""
    for at, step, agent in agents(book):
        for number, command in enumerate(agent.tools.run):
            why = _grants_a_shell(command.argv) if command.on is Where.TARGET else None
            if why:
                what = f"{step.id} may run {' '.join(command.argv)[:80]} on its target: {why}"
                mend = "write the words out, name a program that only looks, or run it in the VM"
                yield Finding(("steps", at, "tools", "run", number, "argv"), what, mend)


def _grants_a_shell(argv: tuple[str, ...]) -> str | None:
    """Why a command on a target would let the agent run what it likes there, if so."""
    program = argv[0].rpartition("/")[2].lower()
    plain = re.sub(r"[\d.-]+$", "", program)
    if argv[0].endswith(WITHIN):
        return "the agent would choose the program"
    if {program, plain} & _DOES_WHAT_IT_IS_GIVEN and any(map(_free, argv[1:])):
        return f"{program} does what it is given"
    if program in _SAYS_WHAT_FIRST and any(map(_free, argv[1:2])):
        return f"the agent would choose what {program} does"
    if plain == "find" and (REST in argv or _FIND_ACTS & set(argv)):
        return "find may run programs, and write"
    return None


@rule(
    "L064",
    bad=example(("fix", 'read: ["/step/**"]', 'read: ["/run/secrets/**"]')),
    good=example(("fix", 'read: ["/step/**"]', 'read: ["/step/files/**"]')),
)
def agents_see_no_secrets(book: Book) -> Iterator[Finding]:
    """What a model sees leaves the house. No tool leads an agent to where its VM keeps secrets (/run/secrets, and
    /step/.ssh, which `/step/**` does not mean) or to the kernel's files. It writes below /step/out, which becomes the
    artefact, and below /tmp, and nowhere else."""
    for at, step, agent in agents(book):
        for place, path, why in _wrong_paths(agent.tools):
            what = f"the agent of {step.id} has {path}, {why}"
            yield Finding(("steps", at, "tools", *place), what, "name such as /step/out/**")


def _wrong_paths(tools: Tools) -> Iterator[tuple[Place, str, str]]:
    for number, pattern in enumerate(tools.reads):
        if pattern != "/step/**" and _opens(pattern, SECRET_PLACES):
            yield ("read", number), pattern, "where secrets lie"
        elif _opens(pattern, NO_FILES):
            yield ("read", number), pattern, "which are the kernel's"
    for number, pattern in enumerate(tools.writes):
        if not any(_in(_folder(pattern), folder) for folder in MAY_WRITE):
            yield ("write", number), pattern, "and may write below /step/out and /tmp only"
    for number, command in enumerate(tools.run):
        for at, word in enumerate(command.argv):
            if command.on is Where.VM and any(_opens(path, SECRET_PLACES) for path in re.findall(r"/[^\s'\"]*", word)):
                yield ("run", number, "argv", at), word, "where secrets lie"


def _opens(pattern: str, places: tuple[str, ...]) -> bool:
    """Whether a path leads to one of these places, or a pattern to what holds one."""
    folder = _folder(pattern)
    whole = pattern.endswith(WITHIN)
    return any(_in(folder, place) or (whole and _in(place, folder)) for place in places)


@rule(
    "L065",
    bad=example(("fix", '{argv: [python3, "/step/out/**"]}', '{on: target, argv: [df, "/srv/**"]}')),
    good=example(("fix", '{argv: [python3, "/step/out/**"]}', '{argv: [bash, -n, "/step/out/**"]}')),
)
def agents_have_what_they_use(book: Book) -> Iterator[Finding]:
    """A command on the target and a log need a target and a login; a target, a login, a host and a secret need a tool
    that uses them; what is produced needs a tool that writes. What no tool uses, a model that was talked round
    might."""
    for at, step, agent in agents(book):
        for key, what, mend in _misfits(step, agent.tools) if agent.cli is None else ():  # of a CLI: L068
            yield Finding(("steps", at, key), f"{step.id} {what}", mend)


def _misfits(step: ScriptStep, tools: Tools) -> Iterator[tuple[str, str, str]]:
    on_target = bool(tools.logs) or any(command.on is Where.TARGET for command in tools.run)
    in_vm = any(command.on is Where.VM for command in tools.run)
    if on_target and not (step.target and step.login):
        mend = "add `target:`, `login:` and `access: read`, or run it in the VM"
        yield "tools", "has a tool on its target, and no target that it logs in to", mend
    elif not on_target and (step.target or step.login):
        key = "login" if step.login else "target"
        yield key, "may log in to its target, and no tool of it works there", "remove it, or add a tool `on: target`"
    if not on_target and not in_vm and (step.grant.network or step.grant.secrets):
        key = "network" if step.grant.network else "secrets"
        yield key, f"has {key}, and no command that could use them", "remove them"
    if step.produces and not (in_vm or any(_in(_folder(path), MAY_WRITE[0]) for path in tools.writes)):
        yield "produces", "makes an artefact, and has no tool that writes one", 'add `write: ["/step/out/**"]`'


@rule(
    "L066",
    bad=example((*_DEAF, '{on: target, argv: [ls, "/srv/*"]}')),
    good=example((*_DEAF, '{on: target, argv: [ls, -l, "/srv/**"]}')),
)
def patterns_say_what_they_mean(book: Book) -> Iterator[Finding]:
    """A command's first word is a program. `*` stands for a word, `/srv/**` for a path within a folder, `**` at the end
    for the rest; nothing else stands for anything, so what only looks like a pattern is refused, as is a placeholder:
    nothing is filled in. A log's command has no word that the agent chooses. Paths have no `.` and `..`."""
    for at, _, agent in agents(book):
        tools = agent.tools
        for number, command in enumerate(tools.run):
            place: Place = ("steps", at, "tools", "run", number, "argv")
            for word, why in _odd_words(command.argv):
                yield Finding(
                    place, f"{word[:60]!r} {why}", "write a word, `*`, a folder such as /srv/**, or a last `**`"
                )
        for log in tools.logs:
            place = ("steps", at, "tools", "logs", log.name)
            odd = [*_odd_words(log.argv), *((word, "would be chosen by the agent") for word in log.argv if _free(word))]
            for word, why in odd[:1]:
                yield Finding(place, f"the log {log.name}: {word[:60]!r} {why}", "write the whole command out")
        for key, patterns in (("read", tools.reads), ("write", tools.writes)):
            for number, pattern in enumerate(patterns):
                if not _normal(_folder(pattern)):
                    place = ("steps", at, "tools", key, number)
                    yield Finding(place, f"{pattern} has . or .. in it", "write the path that is meant")


def _odd_words(argv: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Words of a command that mean nothing, or not what they seem to, and why."""
    if argv[0] in (ANY, REST) or argv[0].startswith("-"):
        yield argv[0], "is no program"
    for number, word in enumerate(argv):
        if "{{" in word:
            yield word, "has a placeholder, which is not filled in here"
        elif not word.isprintable():
            yield word, "has a character that nobody sees"
        elif word == REST and number + 1 < len(argv):
            yield word, "stands for the rest, and is not the last word"
        elif word.endswith(WITHIN) and not (
            word.startswith("/") and _normal(_folder(word)) and "*" not in _folder(word)
        ):
            yield word, "is no folder by its whole path"
        elif word.endswith("/*"):
            yield word, "stands for itself only"


def _normal(path: str) -> bool:
    return path != "" and not {"", ".", ".."} & set(path.split("/")[1:])
