"""A bundle is a stranger's file: what Signalbox could not have written is refused, and nothing in it goes unread."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from engine.domain.chain import GENESIS, Head, Link
from engine.domain.errors import BadInput, TooLarge
from engine.domain.records import Chained, Dossier, IncidentRecord, said
from engine.evidence import bundle
from engine.evidence.verify import Broken, verify

NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
INCIDENT = IncidentRecord(id="1", title="Disk", severity="high", opened_by="me", opened_at=NOW)
OPENED = Link(
    incident=1,
    seq=1,
    run_id=None,
    at=NOW,
    kind="incident_opened",
    actor="me",
    text="it began",
    detail={**said(INCIDENT), "number": 1.5, "nothing": None},
    move=None,
)
HEAD = Head(1, OPENED.hash(GENESIS))
DOSSIER = Dossier(
    incident=INCIDENT,
    head=HEAD,
    events=(Chained(OPENED, HEAD.hash),),
    runs=(),
    attempts=(),
    results=(),
    verdicts=(),
    approvals=(),
    decisions=(),
)
WRITTEN = bundle.write(DOSSIER, ())


def test_what_was_written_is_read_as_it_was() -> None:
    assert bundle.read(WRITTEN).dossier == DOSSIER


def test_without_anchors_it_is_not_called_anchored() -> None:
    with pytest.raises(Broken, match="incident 1 is not anchored"):
        verify(bundle.read(WRITTEN), {})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"anchors": []', b'"anchors": [], "more": 1'),
        (b'"kind": "incident_opened"', b'"kind": "incident_opened", "kind": "incident_opened"'),
        (b'"seq": 1,', b'"seq": 1, "more": 1,'),
        (b'"seq": 1,', b'"seq": "1",'),
        (b'"seq": 1,', b'"seq": true,'),
        (b'"seq": 1,', b'"seq": 1.0,'),
        (b"1.5", b"1e999"),
        (b"1.5", b"NaN"),
        (b'"it began"', b'"\\ud800"'),
        (b"2026-11-22T03:00:00.000000+00:00", b"2026-11-22T03:00:00Z"),
        (b"2026-11-22T03:00:00.000000+00:00", b"2026-11-22T03:00:00"),
        (b"2026-11-22T03:00:00.000000+00:00", b"0001-01-01T00:00:00.000000+01:00"),
        (b"signalbox-evidence/1", b"signalbox-evidence/2"),
        (b"1.5", b"[" * 100_000 + b"]" * 100_000),
        (b'"anchors": []', b'"anchors": {}'),
        (WRITTEN, b""),
        (WRITTEN, b"\xff\xfe"),
        (WRITTEN, WRITTEN[:-20]),
    ],
)
def test_what_signalbox_does_not_write_is_refused(old: bytes, new: bytes) -> None:
    assert old in WRITTEN

    with pytest.raises(BadInput, match="no evidence bundle, or it was altered"):
        bundle.read(WRITTEN.replace(old, new))


def test_a_file_beyond_all_measure_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "MAX_BYTES", len(WRITTEN) - 1)

    with pytest.raises(TooLarge):
        bundle.read(WRITTEN)
