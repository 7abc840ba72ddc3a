"""Plans and applies with the real Terraform and a real provider; what a VM adds to it is in `test_in_a_vm`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.domain import archive
from engine.domain.journey import Role
from tests.integration.terraform.bench import CONFIG, READER, RUNNER, Bench, apply_step, order, plan_step
from tests.services import terraform
from tests.services.volumes.service import GIB

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]  # needs terraform, which no package has


def _document(artefact: bytes | None) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(archive.unpack(artefact or b"")["plan.json"])
    return found


def test_a_plan_says_what_it_would_change_and_changes_nothing(bench: Bench) -> None:
    made = bench.plan(size_gb=60)

    assert made.output == {"add": 0, "change": 1, "destroy": 0, "replace": 0, "drift": []}
    change = _document(made.artefact)["resource_changes"][0]
    assert (change["address"], change["actions"], change["changed"]) == ("volumes_volume.log", ["update"], ["size_gb"])
    assert (change["before"]["size_gb"], change["after"]["size_gb"]) == (40, 60)
    assert _document(made.artefact)["inputs"] == {"size_gb": "60", "allow_replace": "no"}
    assert bench.volumes.size_gb("log") == 40
    assert RUNNER.preview(plan_step("staging", bench.url), made.artefact or b"") == (
        "0 to add, 1 to change, 0 to destroy, 0 to replace\nupdate volumes_volume.log\n    size_gb: 40 -> 60"
    )


def test_the_plan_that_was_reviewed_is_applied_and_stays(bench: Bench) -> None:
    made = bench.plan(size_gb=60)

    assert bench.apply(made.artefact).reason == ""
    assert bench.volumes.size_gb("log") == 60
    assert bench.volumes.lock == b""


def test_a_plan_is_made_with_rights_that_change_nothing(bench: Bench) -> None:
    """The word that plans may read; with it nothing can be applied."""
    made = bench.plan(size_gb=60)
    refused = bench.run(order(apply_step("staging"), bench.files, artefact=made.artefact), READER)

    assert not refused.ok
    assert "403" in refused.reason
    assert bench.volumes.size_gb("log") == 40


def test_a_plan_file_that_holds_something_else_than_was_reviewed_is_not_applied(bench: Bench) -> None:
    """The policy judged plan.json: what is applied is held to that."""
    reviewed, other = bench.plan(size_gb=60), bench.plan(size_gb=1000)
    files = archive.unpack(reviewed.artefact or b"")
    files["plan.tfplan"] = archive.unpack(other.artefact or b"")["plan.tfplan"]

    refused = bench.apply(archive.pack(files))

    assert "something else than what was reviewed" in refused.reason
    assert bench.volumes.size_gb("log") == 40


def test_a_stale_plan_is_refused_by_terraform(bench: Bench) -> None:
    first, second = bench.plan(size_gb=60), bench.plan(size_gb=70)
    assert bench.apply(second.artefact).ok

    refused = bench.apply(first.artefact)

    assert "Saved plan is stale" in refused.reason
    assert bench.volumes.size_gb("log") == 70


def test_another_configuration_makes_another_content(bench: Bench) -> None:
    """What was tested is the change with its configuration and lock file."""
    step, before = apply_step("staging"), bench.plan(size_gb=60)
    bench.files["volume/main.tf"] += b"\n# edited after the test\n"
    edited = bench.plan(size_gb=60)

    assert RUNNER.content(step, edited.artefact or b"") != RUNNER.content(step, before.artefact or b"")


def test_a_provider_that_is_not_the_locked_one_is_refused(bench: Bench) -> None:
    plugin = next(bench.host.plugins.rglob("terraform-provider-*"))
    plugin.write_bytes(plugin.read_bytes() + b"\n# one more line\n")

    refused = bench.plan(size_gb=60)

    assert not refused.ok
    assert "checksum" in refused.reason


def test_a_provider_that_no_lock_file_names_is_refused(bench: Bench) -> None:
    bench.files["volume/terraform.lock.hcl"] = b"# nothing is locked\n"

    refused = bench.plan(size_gb=60)

    assert "dependency" in refused.reason


def test_what_changed_outside_of_terraform_is_found_by_the_plan(bench: Bench) -> None:
    """As drift, with what it was and what it is; the person who approves is told."""
    bench.volumes.resize("log", 50)

    made = bench.plan(size_gb=60)

    drift = _document(made.artefact)["resource_drift"]
    assert [(row["address"], row["before"]["size_gb"], row["after"]["size_gb"]) for row in drift] == [
        ("volumes_volume.log", 40, 50)
    ]
    assert RUNNER.preview(plan_step("staging", bench.url), made.artefact or b"").endswith(
        "changed outside of Terraform:\nupdate volumes_volume.log\n    size_gb: 40 -> 50"
    )


def test_a_change_that_does_not_stay_fails_the_apply(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service says yes and does something else: the plan after the apply finds it."""
    resize = bench.volumes.resize
    monkeypatch.setattr(bench.volumes, "resize", lambda name, _size: resize(name, 45))

    failed = bench.apply(bench.plan(size_gb=60).artefact)

    assert "it did not stay" in failed.reason
    assert "size_gb: 60 -> 45" in failed.reason


def test_a_rehearsal_goes_there_and_back_and_there_again(bench: Bench) -> None:
    """Its undoing makes the plan file stale: the second time the same change is planned anew."""
    made, undo = bench.plan(size_gb=60), {"size_gb": 40}

    assert bench.apply(made.artefact, Role.REHEARSAL, rehearse=True, before=undo).reason == ""
    assert bench.apply(made.artefact, Role.ROLLBACK, rehearse=True, before=undo).reason == ""
    assert bench.volumes.size_gb("log") == 40
    assert bench.apply(made.artefact, rehearse=True, before=undo).reason == ""
    assert bench.volumes.writes == ["log 60", "log 40", "log 60"]


def test_after_a_rehearsal_another_change_than_the_reviewed_one_is_not_applied(bench: Bench) -> None:
    made = bench.plan(size_gb=60)
    bench.volumes.resize("log", 55)

    refused = bench.apply(made.artefact, rehearse=True)

    assert "is not the reviewed one any more" in refused.reason
    assert bench.volumes.size_gb("log") == 55


def test_an_undoing_that_would_touch_more_than_the_change_did_is_refused(bench: Bench) -> None:
    made = bench.plan(size_gb=60)
    assert bench.apply(made.artefact).ok
    more = b'\nresource "volumes_volume" "more" {\n  name    = "more"\n  tier    = "fast"\n  size_gb = 10\n}\n'
    bench.files["volume/main.tf"] += more

    refused = bench.apply(made.artefact, Role.ROLLBACK, before={"size_gb": 40})

    assert "would touch volumes_volume.more" in refused.reason
    assert (bench.volumes.size_gb("log"), bench.volumes.size_gb("more")) == (60, None)


def test_a_value_out_of_bounds_makes_no_plan(bench: Bench) -> None:
    refused = bench.plan(size_gb=5000)

    assert "A volume has 10 to 2000 whole GB" in refused.reason


def test_what_terraform_calls_sensitive_is_in_nothing_that_people_see(bench: Bench) -> None:
    """Not in the document for policies, not in what is compared, not in what is shown; that it changes is."""
    secret = b"hunter2-rather-long"
    line = b'  passphrase = "' + secret + b'"\n  size_gb = var.size_gb\n'
    bench.files["volume/main.tf"] = bench.files["volume/main.tf"].replace(b"  size_gb = var.size_gb\n", line)

    made = bench.plan(size_gb=60)

    files = archive.unpack(made.artefact or b"")
    assert _document(made.artefact)["resource_changes"][0]["changed"] == ["passphrase", "size_gb"]
    shown = RUNNER.preview(plan_step("staging", bench.url), made.artefact or b"").encode()
    for text in (files["plan.json"], files["change.json"], shown):
        assert secret not in text
        assert b"***" in text


def test_the_same_change_in_two_places_has_one_content(bench: Bench) -> None:
    """And a change from another size has another: it is not what was tested."""
    step, one = apply_step("staging"), bench.plan(size_gb=60)
    bench.name = "production"
    other = bench.plan(size_gb=60)
    assert RUNNER.content(step, one.artefact or b"") == RUNNER.content(step, other.artefact or b"")
    assert one.artefact != other.artefact

    bench.volumes.resize("log", 50)
    drifted = bench.plan(size_gb=60)
    assert RUNNER.content(step, drifted.artefact or b"") != RUNNER.content(step, one.artefact or b"")


def test_volumes_are_real_files(bench: Bench) -> None:
    assert (bench.volumes.folder / "log").stat().st_size == 40 * GIB


def test_the_lock_file_of_the_library_is_that_of_the_provider_here(tmp_path: Path) -> None:
    """Whoever changes the provider writes a new one: this test says what it must be."""
    assert terraform.lock_of(CONFIG, tmp_path).decode() == (CONFIG / "terraform.lock.hcl").read_text()
