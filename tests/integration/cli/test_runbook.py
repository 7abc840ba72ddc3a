"""`signalbox runbook ...` and `signalbox grants` on folders of runbooks, in this process."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from engine.cli import cli
from engine.runbooks import rulebook
from engine.runbooks.format import schema
from engine.settings import PREFIX
from tests.integration.cli.conftest import RUNBOOKS

Run = Callable[..., Result]
GIT = ("git", "-c", "user.name=Ana", "-c", "user.email=ana@example.com")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a copy of ours."""
    folder = tmp_path / "runbooks"
    shutil.copytree(RUNBOOKS, folder)
    return folder


@pytest.fixture
def run(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A command on an installation of its own."""
    for name, value in {
        "HOME": tmp_path / "home",
        "RUNBOOKS": folder,
        "IMAGES": tmp_path / "images",
        "SITES": tmp_path / "sites.yaml",
    }.items():
        monkeypatch.setenv(f"{PREFIX}{name}", str(value))
    return lambda *argv: CliRunner().invoke(cli, list(argv))


def commit(folder: Path) -> None:
    """Everything of the folder, as a revision."""
    if not (folder / ".git").exists():
        subprocess.run([*GIT, "init", "-q", str(folder)], check=True)
    subprocess.run([*GIT, "-C", str(folder), "add", "-A"], check=True)
    subprocess.run([*GIT, "-C", str(folder), "commit", "-qm", "as reviewed"], check=True)


def bend(folder: Path, old: str, new: str) -> None:
    path = folder / "disk-full.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


# -- new


def test_a_new_runbook_is_clean_and_says_what_to_do_next(run: Run, folder: Path) -> None:
    said = run("runbook", "new", "queue-stuck")

    assert said.exit_code == 0, said.output
    for verb in ("lint", "graph", "test", "activate"):
        assert f"signalbox runbook {verb} queue-stuck" in said.output
    for verb in ("lint", "test"):
        proof = run("runbook", verb, "queue-stuck")
        assert proof.exit_code == 0, proof.output
    text = (folder / "queue-stuck.yaml").read_text()
    assert text.startswith("# yaml-language-server: $schema=runbook.v1.schema.json\n")
    assert "example/" not in text.replace(".example", "")
    assert json.loads((folder / "runbook.v1.schema.json").read_text()) == schema()
    assert {path.name for path in (folder / "queue-stuck").iterdir()} >= {"diagnose.sh", "apply.sh"}


def test_a_new_runbook_changes_nothing_until_somebody_writes_it(run: Run, folder: Path) -> None:
    """Its diagnosis knows nothing, so its first gate stays shut; its fix and its rollback refuse."""
    run("runbook", "new", "queue-stuck")

    scripts = {path.name: path.read_text() for path in (folder / "queue-stuck").iterdir()}
    assert '{"cause": "unknown"}' in scripts["diagnose.sh"]
    assert "exit 1" in scripts["fix.sh"]
    assert "exit 1" in scripts["rollback.sh"]
    for name in scripts.keys() - {"tests.yaml"}:
        subprocess.run(["sh", "-n", str(folder / "queue-stuck" / name)], check=True)


def test_a_copy_of_another_one_is_clean_too(run: Run, folder: Path) -> None:
    said = run("runbook", "new", "disk-full-2", "--from", "disk-full")

    assert said.exit_code == 0, said.output
    assert yaml.safe_load((folder / "disk-full-2.yaml").read_text())["name"] == "disk-full-2"
    assert (folder / "disk-full-2" / "apply.sh").stat().st_mode & 0o111
    assert run("runbook", "lint", "disk-full-2").exit_code == 0


@pytest.mark.parametrize("name", ["disk-full", "../x", "Queue", "a" * 50, "-x"])
def test_what_is_there_or_is_no_name_is_not_written(run: Run, folder: Path, name: str) -> None:
    before = sorted(folder.rglob("*"))
    said = run("runbook", "new", "--", name)

    assert said.exit_code == 1
    assert sorted(folder.rglob("*")) == before


# -- lint, schema


def test_lint_prints_all_rules_or_explains_one(run: Run) -> None:
    assert run("runbook", "lint", "--rules").output == rulebook.page()
    assert run("runbook", "lint", "--explain", "L019").output.startswith("## L019 protected changes are approved\n")
    assert run("runbook", "lint", "--explain", "L999").exit_code == 1


def test_lint_follows_names_to_their_addresses(run: Run, tmp_path: Path) -> None:
    """Two names of one machine are found where the sites are known."""
    site = '{ports: {22: "192.0.2.1:22"}}\n'
    (tmp_path / "sites.yaml").write_text(f"staging.checkout.demo: {site}production.checkout.demo: {site}")
    said = run("runbook", "lint")

    assert said.exit_code == 1
    assert "leads to the same machine as staging" in said.output
    assert "[L034]" in said.output


def test_the_schema_is_json(run: Run) -> None:
    assert json.loads(run("runbook", "schema").output) == schema()


# -- graph, show


def test_the_graph_has_every_leg_gate_question_and_rollback(run: Run) -> None:
    said = run("runbook", "graph", "disk-full").output.splitlines()

    order = [line.split()[1] if line.startswith(("  =", "  ?")) else line.split()[0] for line in said[2:15] if line]
    assert order == [
        *("receive", "diagnose", "diagnosis-confirmed", "fix", "staging:rehearse", "staging:rollback"),
        *("staging:rollback-gate", "staging", "tests-pass", "a", "production", "production-healthy", "close"),
    ]
    assert any(line.startswith("  production:rollback ") for line in said)


def test_the_graph_is_drawn_for_others(run: Run) -> None:
    mermaid = run("runbook", "graph", "disk-full", "--mermaid").output
    dot = run("runbook", "graph", "disk-full", "--dot").output

    assert mermaid.startswith("flowchart TD\n")
    assert "|not held| halt" in mermaid
    assert "|a person's yes|" in mermaid
    assert dot.startswith('digraph "disk-full" {')
    assert dot.count("{") == dot.count("}") == 1
    assert 'label="roll back", style=dashed' in dot


def test_show_tells_what_it_may_touch_what_is_measured_and_who_is_asked(run: Run, folder: Path) -> None:
    said = run("runbook", "show", "disk-full").output

    for words in (
        "logs in as operator@production.checkout.demo:22",
        "knows kv/data/checkout/production/operator [private_key]",
        "waits for a person's yes to exactly this, for 30 min",
        "full: command on production: run df --output=pcent {{ inputs.mount }}; expect out > 80; parse percent",
        "is undone by rollback.sh, rehearsed in every run",
    ):
        assert words in said
    bend(folder, "approve: {expires: 30m}", 'unapproved: "cron does the same every hour"')
    assert "nobody is asked: cron does the same every hour" in run("runbook", "show", "disk-full").output


# -- diff


def test_diff_says_what_changed_in_meaning_since_a_revision(run: Run, folder: Path) -> None:
    commit(folder)
    assert run("runbook", "diff", "disk-full").output == "since HEAD\nnothing changed\n"
    bend(folder, "# looks, changes nothing", "# looks only")
    assert "only words changed" in run("runbook", "diff", "disk-full").output

    bend(folder, "approve: {expires: 30m}", 'unapproved: "cron does the same every hour"')
    bend(folder, "expect: out > 80", "expect: out > 70")
    bend(folder, "access: none", "access: none\n    network: [{host: mirror.demo, port: 443}]")
    (folder / "disk-full" / "apply.sh").write_text("#!/bin/sh\nssh target -- true\n")
    said = run("runbook", "diff", "disk-full", "HEAD").output

    assert "~ production: a person's yes, within 30 min  ->  nobody is asked: cron" in said
    assert "   <- weaker" in said
    assert "+ fix, dial mirror.demo:443: touches none   <- wider" in said
    assert (
        "~ production, login operator@production.checkout.demo:22: changes after a yes  ->  changes   <- wider" in said
    )
    assert "diagnosis-confirmed.full: command on production: " in said
    assert "~ apply.sh: " in said


def test_diff_reads_a_file_too_and_a_runbook_that_lint_refuses(run: Run, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "old")
    bend(folder, "    protected: true", "    protected: false")
    assert run("runbook", "lint").exit_code == 1
    said = run("runbook", "diff", "disk-full", str(tmp_path / "old" / "disk-full.yaml")).output

    assert "production.checkout.demo:22, protected  ->  production.checkout.demo:22, not protected   <- weaker" in said


@pytest.mark.parametrize("revision", ["--output=/tmp/x", "nowhere", "HEAD:x", "HEAD~7"])
def test_what_is_no_revision_is_refused(run: Run, folder: Path, revision: str) -> None:
    commit(folder)
    said = run("runbook", "diff", "disk-full", "--", revision)

    assert said.exit_code == 1
    assert "->" in said.output


def test_without_git_history_diff_says_what_to_do(run: Run) -> None:
    said = run("runbook", "diff", "disk-full")

    assert said.exit_code == 1
    assert "name a revision" in said.output


# -- activate


def test_activating_needs_a_database_and_a_runbook_that_lint_accepts(run: Run, folder: Path) -> None:
    assert "signalbox migrate" in run("runbook", "activate", "disk-full").output
    run("migrate")
    bend(folder, "approve: {expires: 30m}", "")
    said = run("runbook", "activate", "--all")

    assert said.exit_code == 1
    assert "[L019]" in said.output
    assert "never activated" in run("runbook", "diff", "disk-full", "--activated").output


def test_activating_says_as_what_and_what_that_changes(run: Run, folder: Path) -> None:
    run("migrate")
    assert "disk-full: runbook disk-full was never activated\n  -> " in run("runbook", "activate").output
    assert run("runbook", "activate", "disk-full").output.startswith("disk-full: activated as sha256:")
    assert "disk-full: activated by " in run("runbook", "activate").output

    bend(folder, "expires: 30m", "expires: 20m")
    assert "disk-full: runbook disk-full changed since " in run("runbook", "activate").output
    told = run("runbook", "diff", "disk-full", "--activated").output
    assert "~ production: a person's yes, within 30 min  ->  a person's yes, within 20 min" in told
    assert "within 20 min" in run("runbook", "activate", "disk-full").output

    (folder / "disk-full.yaml").write_text("torn: [")
    said = run("runbook", "activate", "disk-full", "--off", "--reason", "it is torn")
    assert said.output == "disk-full: deactivated; its alerts open incidents, and start nothing\n"
    assert run("runbook", "activate", "disk-full", "--off").output == "disk-full: is not activated\n"


def test_what_is_not_proved_is_not_activated(run: Run, folder: Path) -> None:
    """Each gate must have been seen green and red by examples, and notice when it is broken."""
    run("migrate")
    examples = folder / "disk-full" / "tests.yaml"
    whole = examples.read_text()
    for text in (whole.replace("      bad: [{vector: [0.8]}, {vector: [0.1174]}", "      bad: [{vector: [0.9]}"), None):
        examples.unlink() if text is None else examples.write_text(text)
        said = run("runbook", "activate", "disk-full")

        assert said.exit_code == 1
        assert "disk-full is not proved: " in said.output
        assert "never activated" in run("runbook", "activate").output


def test_what_is_not_proved_says_what_to_mend(run: Run, folder: Path) -> None:
    examples = folder / "disk-full" / "tests.yaml"
    examples.write_text(
        examples.read_text().replace("bad: [{vector: [0.8]}, {vector: [0.1174]}", "bad: [{vector: [0.9]}")
    )

    said = run("runbook", "test", "disk-full")

    assert said.exit_code == 1
    assert said.output.endswith("mutants died; not proved: mend disk-full/tests.yaml or the gates\n")


def test_one_that_does_not_read_says_so_and_hides_no_other(run: Run, folder: Path) -> None:
    run("migrate")
    run("runbook", "activate", "disk-full")
    (folder / "broken.yaml").write_text("schema: [")
    said = run("runbook", "activate")

    assert said.exit_code == 0, said.output
    assert "broken.yaml:1" in said.output
    assert "disk-full: activated by " in said.output


# -- grants


def test_grants_list_every_permission_of_steps_and_verifiers(run: Run) -> None:
    rows = json.loads(run("grants", "--json").output)
    table = run("grants").output.splitlines()

    assert len(table) == len(rows) + 1
    assert {
        "runbook": "disk-full",
        "who": "production",
        "target": "production",
        "does": "changes after a yes",
        "kind": "secret",
        "what": "kv/data/checkout/production/operator [private_key]",
        "by": "script",
    } in rows
    assert {row["who"] for row in rows} >= {"verifier of staging", "verifier of production", "diagnose"}


def test_grants_diff_shows_what_was_widened_and_fails_for_it(run: Run, folder: Path) -> None:
    commit(folder)
    said = run("grants", "--diff", "HEAD")
    assert (said.exit_code, said.output) == (0, "nothing is wider\nnothing is narrower\n")

    bend(folder, "access: none", "access: none\n    network: [{host: mirror.demo, port: 443}]")
    said = run("grants", "--diff", "HEAD")
    assert said.exit_code == 1
    assert "mirror.demo:443" in said.output.partition("nothing is narrower")[0]
    assert [row["what"] for row in json.loads(run("grants", "--diff", "HEAD", "--json").output)["wider"]] == [
        "mirror.demo:443"
    ]

    commit(folder)
    bend(folder, "\n    network: [{host: mirror.demo, port: 443}]", "")
    said = run("grants", "--diff", "HEAD")
    assert said.exit_code == 0
    assert "narrower:" in said.output


def test_a_change_that_nobody_approves_any_more_is_wider(run: Run, folder: Path) -> None:
    commit(folder)
    bend(folder, "approve: {expires: 30m}", 'unapproved: "cron does the same every hour"')
    said = run("grants", "--diff", "HEAD", "--json")

    assert said.exit_code == 1
    assert {row["does"] for row in json.loads(said.output)["wider"]} == {"changes"}


def test_a_runbook_that_is_new_is_wider_and_one_that_is_gone_is_narrower(run: Run, folder: Path) -> None:
    commit(folder)
    run("runbook", "new", "queue-stuck")
    (folder / "disk-full.yaml").unlink()
    rows = json.loads(run("grants", "--diff", "HEAD", "--json").output)

    assert {row["runbook"] for row in rows["wider"]} == {"queue-stuck"}
    assert {row["runbook"] for row in rows["narrower"]} == {"disk-full"}


def test_a_runbook_that_does_not_read_fails_the_report(run: Run, folder: Path) -> None:
    """A report that leaves something out would be a lie."""
    (folder / "torn.yaml").write_text("schema: [\n")
    said = run("grants")

    assert said.exit_code == 1
    assert "torn.yaml" in said.output
