"""What an agent may do: rules mean what `CommandRule` and `Tools` say; nothing outside them is ever allowed."""

from __future__ import annotations

import posixpath
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.agents.policy import MAX_CONTENT, Decision, Ruling, rule_on
from engine.domain.agent import CommandRule, LogSource, Tool, ToolCall, Tools, Where

TOOLS = Tools(
    run=(
        CommandRule(on=Where.TARGET, argv=("df", "--output=pcent", "*")),
        CommandRule(on=Where.TARGET, argv=("du", "-x", "-d1", "/srv/**")),
        CommandRule(on=Where.TARGET, argv=("systemctl", "status", "*"), ask=True),
        CommandRule(on=Where.TARGET, argv=("ls", "**")),
        CommandRule(argv=("python3", "/step/out/**")),
        CommandRule(argv=("sh", "-c", "echo 'a\nb'")),
    ),
    reads=("/step/**", "/etc/hosts"),
    writes=("/step/out/**",),
    metrics=("checkout_*",),
    logs=(LogSource(name="service", argv=("tail", "-n", "200", "/srv/checkout/checkout.log")),),
)


def ruling(tool: Tool, tools: Tools = TOOLS, **args: Any) -> Ruling:
    return rule_on(ToolCall(id="1", tool=tool, args=args), tools)


def run(*argv: str, on: str = "target", tools: Tools = TOOLS) -> Ruling:
    return ruling(Tool.RUN, tools, argv=list(argv), on=on)


@pytest.mark.parametrize(
    "argv",
    [
        ("df", "--output=pcent", "srv"),
        ("df", "--output=pcent", "a b; rm -rf x"),
        ("du", "-x", "-d1", "/srv"),
        ("du", "-x", "-d1", "/srv/größe/данные/a-b.c"),
        ("ls",),
        ("ls", "a", "b/c", "http://localhost:8080/metrics"),
    ],
)
def test_what_is_granted_is_allowed_to_the_word(argv: tuple[str, ...]) -> None:
    assert run(*argv) == Ruling(decision=Decision.ALLOW, argv=argv, on=Where.TARGET)


def test_a_literal_word_stands_for_itself_whatever_it_holds() -> None:
    assert run("sh", "-c", "echo 'a\nb'", on="vm").decision is Decision.ALLOW
    assert run("sh", "-c", "echo 'a\nc'", on="vm").decision is Decision.REFUSE


@pytest.mark.parametrize(
    "argv",
    [
        ("df", "--output=pcent"),
        ("df", "--output=pcent", "a", "b"),
        ("df", "--output=size", "a"),
        ("df", "--output=pcent", "-rf"),
        ("df", "--output=pcent", "--option=/etc/x"),
        ("df", "--output=pcent", "option=/etc/x"),
        ("df", "--output=pcent", "@/etc/x"),
        ("df", "--output=pcent", "host:/etc/x"),
        ("df", "--output=pcent", "file:///etc/x"),
        ("df", "--output=pcent", "@//etc/x"),
        ("df", "--output=pcent", "/srv"),
        ("df", "--output=pcent", ""),
        ("df", "--output=pcent", "../etc"),
        ("df", "--output=pcent", ".."),
        ("df", "--output=pcent", "fix/../../etc"),
        ("df", "--output=pcent", "a\nb"),
        ("df", "--output=pcent", "a\u202eb"),
        ("df", "--output=pcent", "e\u0301"),
        ("ls", "a", "-l"),
        ("ls", "--", "a"),
        ("ls", "/etc"),
        ("LS",),
        ("ls ",),
        ("\uff4c\uff53",),
        ("/bin/ls",),
        ("rm", "-rf", "/"),
        ("du", "-x", "-d1", "/srvother"),
        ("du", "-x", "-d1", "/srv/../etc"),
        ("du", "-x", "-d1", "/srv/."),
        ("du", "-x", "-d1", "/srv//x"),
        ("du", "-x", "-d1", "/srv/x/"),
        ("du", "-x", "-d1", "srv/x"),
        ("du", "-x", "-d1", "/srv/a\0b"),
        ("du", "-x", "-d1", "/srv/a\nb"),
        ("du", "-x", "-d1", "/srv/a\u200bb"),
        ("du", "-x", "-d1", "/srv/\u2024\u2024/etc"),
        ("du", "-x", "-d1", "/srv/a\u2215b"),
        ("du", "-x", "-d1", "/srv\uff0fx"),
        ("du", "-x", "-d1", "/srv/e\u0301"),
        ("du", "-x", "-d1", "/srv/p\u0430ssword"),
        ("du", "-x", "-d1", "/srv/" + "x" * 4096),
        ("python3", "/step/out/x.py"),
    ],
)
def test_what_is_not_granted_is_refused_in_one_line_that_says_what_is(argv: tuple[str, ...]) -> None:
    refused = run(*argv)
    assert (refused.decision, refused.argv) == (Decision.REFUSE, ())
    assert refused.why.isprintable()
    assert len(refused.why) <= 1203


def test_a_refusal_names_what_is_wrong_and_what_is_allowed() -> None:
    assert "`fix/../../etc`: it leads back with `..`" in run("df", "--output=pcent", "fix/../../etc").why
    assert "du -x -d1 /srv/**" in run("rm", "-rf", "x").why
    assert run("rm", on="vm").why == (
        "`rm` is not allowed in the VM; allowed there: python3 /step/out/**; sh -c 'echo '\"'\"'a\\nb'\"'\"''"
    )
    assert run("rm", tools=Tools()).why == "`rm` is not allowed on the target; allowed there: nothing"
    assert "it is relative" in ruling(Tool.READ, path="step/x").why
    assert "you may read: /step/**; /etc/hosts" in ruling(Tool.READ, path="/etc/shadow").why


def test_where_a_command_runs_is_part_of_its_rule() -> None:
    """And it is the VM when the call does not say."""
    assert run("python3", "/step/out/x.py", on="vm").decision is Decision.ALLOW
    assert ruling(Tool.RUN, argv=["python3", "/step/out/x.py"]).on is Where.VM
    assert ruling(Tool.RUN, argv=["ls"]).decision is Decision.REFUSE
    for odd in ("host", "", None, ["vm"], 7):
        assert ruling(Tool.RUN, argv=["ls"], on=odd).decision is Decision.REFUSE


def test_a_person_is_asked_where_any_rule_says_so() -> None:
    """Also when another would have allowed it: each such call."""
    asked = run("systemctl", "status", "checkout service")
    assert asked.decision is Decision.ASK
    assert asked.why == "run on the target: systemctl status 'checkout service'"
    both = Tools(run=(CommandRule(argv=("a", "*")), CommandRule(argv=("a", "b"), ask=True)))
    assert run("a", "b", on="vm", tools=both).decision is Decision.ASK
    assert run("a", "c", on="vm", tools=both).decision is Decision.ALLOW


def test_a_person_is_never_asked_about_what_they_cannot_read() -> None:
    assert run("systemctl", "status", "x" * 1000).decision is Decision.REFUSE
    assert run("systemctl", "status", "p\u0430ge").decision is Decision.REFUSE


@pytest.mark.parametrize("argv", [None, "ls", [], {}, [1], ["ls", None], ["ls"] * 65, ["ls", "x" * 4097], ["\ud800"]])
def test_what_is_no_command_is_refused(argv: Any) -> None:
    assert ruling(Tool.RUN, argv=argv, on="target").decision is Decision.REFUSE


def test_an_argument_that_nobody_knows_is_refused() -> None:
    assert ruling(Tool.RUN, argv=["ls"], on="target", cwd="/etc").decision is Decision.REFUSE
    assert ruling(Tool.READ, path="/etc/hosts", follow=True).decision is Decision.REFUSE


def test_an_empty_rule_and_a_rest_in_the_middle_allow_nothing_more() -> None:
    tools = Tools(run=(CommandRule(argv=()), CommandRule(argv=("a", "**", "b"))))
    assert run("a", "x", "b", on="vm", tools=tools).decision is Decision.REFUSE
    assert run("a", "b", on="vm", tools=tools).decision is Decision.REFUSE


def test_files_are_read_and_written_where_it_is_granted() -> None:
    assert ruling(Tool.READ, path="/step/x") == Ruling(decision=Decision.ALLOW, path="/step/x")
    assert ruling(Tool.READ, path="/etc/hosts").decision is Decision.ALLOW
    assert ruling(Tool.READ, path="/etc/hosts/x").decision is Decision.REFUSE
    assert ruling(Tool.WRITE, path="/step/out/x", content="a\nb\0").path == "/step/out/x"
    assert ruling(Tool.WRITE, path="/step/x", content="").decision is Decision.REFUSE
    for odd in (None, 7, ["x"], "x" * (MAX_CONTENT + 1), "é" * (MAX_CONTENT // 2 + 1), "\ud800"):
        assert ruling(Tool.WRITE, path="/step/out/x", content=odd).decision is Decision.REFUSE
    assert ruling(Tool.WRITE, path="/step/out/x", content="x" * MAX_CONTENT).decision is Decision.ALLOW
    for odd in (None, 7, ["/etc/hosts"]):
        assert ruling(Tool.READ, path=odd).decision is Decision.REFUSE


@pytest.mark.parametrize("path", ["/run/secrets", "/run/secrets/ssh", "/step/.ssh/config", "/step/.ssh"])
def test_no_pattern_gives_the_steps_keys(path: str) -> None:
    """Nor a new configuration of its ssh, by which the target would be entered otherwise than the policy judges."""
    every = Tools(reads=("/**",), writes=("/**",), run=(CommandRule(argv=("cat", "/**")),))
    assert ruling(Tool.READ, every, path="/etc/passwd").decision is Decision.ALLOW
    assert ruling(Tool.READ, every, path=path).decision is Decision.REFUSE
    assert ruling(Tool.WRITE, every, path=path, content="").decision is Decision.REFUSE
    assert run("cat", path, on="vm", tools=every).decision is Decision.REFUSE


def test_metrics_and_logs_are_there_by_name() -> None:
    assert ruling(Tool.METRICS, query="sum(checkout_orders)").decision is Decision.ALLOW
    assert ruling(Tool.METRICS, Tools(), query="up").decision is Decision.REFUSE
    for query in (None, "", "a\nb", "x" * 2001):
        assert ruling(Tool.METRICS, query=query).decision is Decision.REFUSE
    assert ruling(Tool.LOGS, name="service", contains="no space").argv == TOOLS.logs[0].argv
    assert ruling(Tool.LOGS, name="service").on is Where.TARGET
    assert "there is: service" in ruling(Tool.LOGS, name="other").why
    for contains in (7, "", "a\nb", "x" * 201):
        assert ruling(Tool.LOGS, name="service", contains=contains).decision is Decision.REFUSE


# -- nothing outside the rules is ever allowed, whatever a model says -------------------------------------------------

# fmt: off
SNIPPETS = (
    "df", "--output=pcent", "du", "-x", "-d1", "ls", "srv", "/srv", "/step/out", "/run/secrets", "/etc/passwd", "..",
    ".", "/", "//", "-", "--", "=", ":", "@", "~", "*", "**", "/**", "$(id)", "`id`", ";", "\0", "\n", "\u2215",
    "\uff0f", "\u202e", "e\u0301", "\u0430", "a", " ", "http://", "file://", "python3", "systemctl", "status",
)
# fmt: on
WORDS = st.lists(st.sampled_from(SNIPPETS), max_size=5).map("".join) | st.text(max_size=8)
BEGINNINGS = st.sampled_from(
    [[], ["df", "--output=pcent"], ["du", "-x", "-d1"], ["ls"], ["python3"], ["systemctl", "status"]]
)
ARGV = st.tuples(BEGINNINGS, st.lists(WORDS, max_size=3)).map(lambda parts: [*parts[0], *parts[1]])
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def stays_in(folder: str, path: str) -> bool:
    """By the standard library's own reading of paths."""
    real = posixpath.normpath(posixpath.join("/home/reader", path))
    return real == path and (real == folder or real.startswith(folder + "/"))


def is_harmless(word: str) -> bool:
    """No option; and from whatever folder, it leads to nothing but what is in it."""
    real = posixpath.normpath(posixpath.join("/home/reader", word))
    return not word.startswith("-") and (real + "/").startswith("/home/reader/") and word.isprintable() and word != ""


@given(ARGV, st.sampled_from(["vm", "target"]))
@settings(max_examples=1500, deadline=None)
def test_every_command_that_is_not_refused_is_one_of_the_granted(argv: list[str], on: str) -> None:
    made = run(*argv, on=on)
    if made.decision is Decision.REFUSE:
        assert made.why.isprintable()
        return
    assert (made.argv, made.on.value) == (tuple(argv), on)
    assert all("\0" not in word for word in argv)
    match on, argv:
        case "target", ["df", "--output=pcent", word]:
            assert is_harmless(word)
        case "target", ["du", "-x", "-d1", path]:
            assert stays_in("/srv", path)
            assert path.isprintable()
        case "target", ["ls", *words]:
            assert all(map(is_harmless, words))
        case "target", ["systemctl", "status", word]:
            assert is_harmless(word)
            assert made.decision is Decision.ASK
        case "vm", ["python3", path]:
            assert stays_in("/step/out", path)
        case _:
            pytest.fail(f"{argv} {on}")


@given(WORDS, st.sampled_from([Tool.READ, Tool.WRITE]))
@settings(max_examples=1000, deadline=None)
def test_every_path_that_is_allowed_is_a_granted_one(path: str, tool: Tool) -> None:
    args = {"path": path} if tool is Tool.READ else {"path": path, "content": "x"}
    if rule_on(ToolCall(id="1", tool=tool, args=args), TOOLS).decision is Decision.ALLOW:
        assert stays_in("/step" if tool is Tool.READ else "/step/out", path) or path == "/etc/hosts"
        assert not stays_in("/step/.ssh", path)


@given(st.sampled_from(Tool), st.dictionaries(st.sampled_from(["argv", "on", "path", "query", "name"]), ANYTHING))
@settings(max_examples=500, deadline=None)
def test_whatever_the_arguments_are_it_is_a_ruling(tool: Tool, args: dict[str, Any]) -> None:
    """And of a step that is granted nothing, a refusal."""
    assert rule_on(ToolCall(id="1", tool=tool, args=args), TOOLS).why.isprintable()
    assert rule_on(ToolCall(id="1", tool=tool, args=args), Tools()).decision is Decision.REFUSE
