"""Policies are a pure function of the reviewed runbook, grant exactly what is declared, and refuse what is unsafe."""

from __future__ import annotations

import dataclasses

import pytest

from engine.domain.errors import Refused
from engine.domain.runbook import SecretRef
from engine.secrets.policy import belongs_to, compile_policy

REF = SecretRef(name="key", engine="kv", path="kv/data/checkout/staging/key", fields=("value",))


def test_a_policy_reads_the_declared_paths_and_nothing_else() -> None:
    """One rule a path, capability read."""
    other = SecretRef(name="db", engine="kv", path="kv/data/checkout/db", fields=("user", "password"))
    policy = compile_policy("disk-full", (REF, other))
    rules = [line for line in policy.text.splitlines() if not line.startswith("#")]
    assert rules == [
        'path "kv/data/checkout/db" { capabilities = ["read"] }',
        'path "kv/data/checkout/staging/key" { capabilities = ["read"] }',
    ]
    assert policy.paths == ("kv/data/checkout/db", "kv/data/checkout/staging/key")


def test_the_same_declaration_gives_the_same_policy_in_any_order() -> None:
    """So a rehearsal and the step it rehearses share one."""
    other = SecretRef(name="db", engine="kv", path="kv/data/checkout/db", fields=("user",))
    assert compile_policy("disk-full", (REF, other)) == compile_policy("disk-full", (other, REF))


@pytest.mark.parametrize(
    "edit",
    [{"path": "kv/data/checkout/production/key"}, {"fields": ("value", "more")}, {"name": "other"}],
    ids=str,
)
def test_every_edit_of_the_declaration_changes_the_name(edit: dict[str, str]) -> None:
    """An edited stanza that nobody applied has no policy, so nothing can be read by it."""
    edited = dataclasses.replace(REF, **edit)  # type: ignore[arg-type]  # the values fit their fields
    assert compile_policy("disk-full", (edited,)).name != compile_policy("disk-full", (REF,)).name


def test_runbooks_never_share_a_policy() -> None:
    """Even when their names fold to the same letters."""
    names = {compile_policy(name, (REF,)).name for name in ("disk-full", "Disk full", "disk_full", "disk-full\n#")}
    assert len(names) == 4


@pytest.mark.parametrize("runbook", ["disk-full", "Datenträger voll", "a" * 300, 'x" { }\npath "*" { }'])
def test_names_are_fit_for_vault_and_the_text_holds_no_foreign_line(runbook: str) -> None:
    """Lower case letters, digits and hyphens; a runbook's name cannot smuggle a rule in."""
    policy = compile_policy(runbook, (REF,))
    assert policy.name.startswith("op-s-")
    assert set(policy.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert [line[:6] for line in policy.text.splitlines()] == ["# Sign", "# key:", 'path "']


def test_a_policy_knows_its_runbook() -> None:
    """So that stale editions can be found, and those of a runbook with a longer name are left alone."""
    policy = compile_policy("disk-full", (REF,))
    assert belongs_to(policy.name, "disk-full")
    assert not belongs_to(policy.name, "disk")
    assert not belongs_to(compile_policy("disk-full-again", (REF,)).name, "disk-full")


def test_canaries_are_never_among_the_declared_paths() -> None:
    """They are what a token must not reach."""
    policy = compile_policy("disk-full", (REF,))
    assert "kv/metadata/checkout/staging/key" in policy.canaries
    assert not set(policy.canaries) & set(policy.paths)


@pytest.mark.parametrize(
    "path",
    [
        "kv/data/*",
        "kv/data/+/key",
        "kv/data/a/../b",
        "kv/data//a",
        "/kv/data/a",
        "kv/data/a/",
        "kv/data",
        "kv/metadata/a",
        "sys/data/a",
        "auth/data/a",
        "identity/data/x",
        'kv/data/a" { }',
        "kv/data/{{identity.entity.id}}",
        "kv/data/a\npath",
        "kv/data/a b",
        "kv/data/{{ inputs.x }}",
        "",
    ],
)
def test_a_path_that_could_widen_the_policy_is_refused(path: str) -> None:
    """Wildcards, dots, quotes, templates, Vault's own paths, other engines' paths."""
    with pytest.raises(Refused, match="no path of a kv version 2"):
        compile_policy("disk-full", (dataclasses.replace(REF, path=path),))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"engine": "database"}, "supported: kv"),
        ({"deliver": "env"}, "supported: file"),
        ({"deliver": "sign"}, "supported: file"),
        ({"fields": ()}, "list the fields"),
        ({"fields": ("a\nb",)}, "list the fields"),
        ({"name": "../x"}, "use letters"),
    ],
    ids=str,
)
def test_what_is_not_served_is_refused_with_what_is(change: dict[str, str], says: str) -> None:
    """The rest of the stanza comes later; until then it never does something else silently."""
    ref = dataclasses.replace(REF, **change)  # type: ignore[arg-type]  # the values fit their fields
    with pytest.raises(Refused) as refusal:
        compile_policy("disk-full", (ref,))
    assert says in refusal.value.remedy


def test_two_secrets_of_one_name_are_refused() -> None:
    """They would land in one file."""
    with pytest.raises(Refused, match="twice"):
        compile_policy("disk-full", (REF, dataclasses.replace(REF, path="kv/data/other/key")))
