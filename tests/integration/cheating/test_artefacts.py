"""An agent's artefact that becomes another after staging had it: nobody's yes lets it onto production."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from engine.agents.replay import call
from engine.domain import archive
from engine.domain.digest import of_bytes
from engine.domain.errors import Refused
from engine.domain.states import ApprovalState, RunState
from engine.store import models
from tests.integration.cheating.stage import Stage, stage
from tests.integration.engine.conftest import ANA, Box

EVIL = archive.pack({"fix.json": b"rm -rf /srv # rotate the log"})


def other_bytes(box: Box) -> None:
    """Other bytes by the name that the artefact has."""
    with box.database.transaction() as session:
        session.execute(sa.update(models.Artefact).values(data=EVIL))


def another_artefact(box: Box) -> None:
    """A second artefact, whole and by its own digest, that the run is made to use."""
    with box.database.transaction() as session:
        (old,) = session.scalars(sa.select(models.Artefact))
        fields = {column.key: getattr(old, column.key) for column in sa.inspect(models.Artefact).columns}
        session.add(models.Artefact(**{**fields, "digest": of_bytes(EVIL), "data": EVIL}))
        session.flush()
        ended = sa.update(models.Attempt).where(models.Attempt.leg == "fix")
        session.execute(ended.values(artefact_digest=of_bytes(EVIL)))


@pytest.mark.parametrize("tamper", [other_bytes, another_artefact], ids=lambda tamper: tamper.__name__)
def test_changed_after_staging_it_is_not_what_a_yes_binds(
    box: Box, tmp_path: Path, tamper: Callable[[Box], None]
) -> None:
    with stage(box, tmp_path) as at:
        token = at.go().approvals[-1].token
        assert at.shop.mended == {"staging"}
        tamper(box)
        with pytest.raises(Refused, match="void"):
            box.service.approve(token, ANA, yes=True)
        box.go()
        channel = at.channel()

    _void(at, channel)


def test_changed_after_the_yes_it_is_not_started(box: Box, tmp_path: Path) -> None:
    with stage(box, tmp_path) as at:
        box.service.approve(at.go().approvals[-1].token, ANA, yes=True)
        other_bytes(box)
        box.go()
        channel = at.channel()

    _void(at, channel)


def _void(at: Stage, channel: str) -> None:
    assert at.run().approvals[-1].state is ApprovalState.VOIDED
    assert at.run().state is RunState.HALTED
    assert at.production_is_untouched()
    assert "Void: the order changed after it was shown" in channel


def test_the_same_agent_untampered_is_applied(box: Box, tmp_path: Path) -> None:
    """The stage tells honest from dishonest: else all of the above would hold of a stage where nothing works."""
    with stage(box, tmp_path) as at:
        box.service.approve(at.go().approvals[-1].token, ANA, yes=True)
        box.go()

    assert at.run().state is RunState.COMPLETED
    assert at.shop.mended == {"staging", "production"}


def test_a_second_artefact_is_no_part_of_what_is_applied(box: Box, tmp_path: Path) -> None:
    """What it writes beside its folder, or after its end, goes nowhere: the artefact is what the folder held
    then, and the same bytes are on staging and in the question."""
    script = [
        call("write", {"path": "/step/out/fix.json", "content": "rotate the log"}),
        call("write", {"path": "/step/artefact/fix.json", "content": "evil"}, "beside"),
        call("finish", {"did": "it", "artefact": "evil", "digest": "sha256:" + "0" * 64}),
    ]
    with stage(box, tmp_path, fixes=script) as at:
        run = at.go()
        channel = at.channel()

    orders = [order for order in box.adapters.runner.orders if order.artefact]  # type: ignore[attr-defined]
    assert {order.leg.id for order in orders} >= {"staging"}
    assert [archive.unpack(order.artefact) for order in orders] == [{"fix.json": b"rotate the log"}] * len(orders)
    assert "you may not write `/step/artefact/fix.json`" in channel
    assert "rotate the log" in run.approvals[-1].order.preview
