"""The trigger `alertmanager`: who may send, what counts as the same delivery, how a body reads."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from engine.domain.alert import Alert, AlertStatus, Severity
from engine.domain.errors import BadInput, TooLarge, Unauthenticated
from engine.triggers import alertmanager, untrusted
from engine.triggers.alertmanager import AlertmanagerTrigger, delivery_key
from tests.unit.triggers.bodies import DISK_LABELS, alert, message

TRIGGER = AlertmanagerTrigger(("old-token", "new-token"))


def parse_one(body: bytes) -> Alert:
    (only,) = TRIGGER.parse(body)
    return only


# -- who may send


@pytest.mark.parametrize("token", ["old-token", "new-token"])
def test_every_configured_token_opens_so_that_one_can_be_rotated(token: str) -> None:
    delivery = TRIGGER.verify({"authorization": f"Bearer {token}"}, message())

    assert (delivery.source, delivery.body) == ("alertmanager", message())


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"authorization": "Bearer new-toke"},
        {"authorization": "Bearer new-tokens"},
        {"authorization": "Bearer old-token new-token"},
        {"authorization": "Basic new-token"},
        {"authorization": "new-token"},
        {"authorization": "Bearer n\udcffw-token"},
        {"authorization": "Bearer tökén"},
        {"x-token": "new-token"},
    ],
)
def test_nobody_else_gets_in(headers: dict[str, str]) -> None:
    with pytest.raises(Unauthenticated):
        TRIGGER.verify(headers, message())


def test_without_a_token_nobody_gets_in_not_even_with_an_empty_one() -> None:
    with pytest.raises(Unauthenticated, match="no Alertmanager token"):
        AlertmanagerTrigger(()).verify({"authorization": "Bearer "}, message())


def test_a_blank_token_is_a_mistake_of_the_configuration() -> None:
    with pytest.raises(BadInput, match="blank"):
        AlertmanagerTrigger(("good", " "))


def test_a_body_over_the_limit_is_refused_only_after_the_sender_is_known() -> None:
    too_large = b" " * (TRIGGER.max_bytes + 1)

    with pytest.raises(Unauthenticated):
        TRIGGER.verify({}, too_large)
    with pytest.raises(TooLarge, match="at most"):
        TRIGGER.verify({"authorization": "Bearer new-token"}, too_large)
    with pytest.raises(TooLarge):
        TRIGGER.parse(too_large)


def test_a_body_that_does_not_parse_is_still_a_delivery_so_that_it_is_kept_with_its_reason() -> None:
    keys = [TRIGGER.verify({"authorization": "Bearer new-token"}, body).key for body in (b"{", b"{", b"[")]

    assert keys[0] == keys[1] != keys[2]


# -- what counts as the same delivery


def test_a_repeat_is_the_same_delivery_though_its_rendered_value_differs() -> None:
    later = alert(annotations={"summary": "/srv/checkout on production is 94 % full"})

    assert delivery_key(message(later)) == delivery_key(message())


def test_the_order_of_alerts_does_not_make_another_delivery() -> None:
    one, two = alert(fingerprint="1"), alert(fingerprint="2")

    assert delivery_key(message(one, two)) == delivery_key(message(two, one))


def test_one_instant_in_two_spellings_is_one_delivery() -> None:
    spelled = alert(startsAt="2026-03-01T11:15:30.123456+01:00")

    assert delivery_key(message(spelled)) == delivery_key(message())


@pytest.mark.parametrize(
    "other",
    [
        message(alert(status="resolved")),
        message(alert(startsAt="2026-03-01T10:15:31Z")),
        message(alert(fingerprint="6d8ee8ee7ce2a890")),
        message(alert(), alert(fingerprint="2")),
        message(groupKey="{}:{}"),
        message(truncatedAlerts=1),
        message(alert(status=None), status="resolved"),
    ],
)
def test_whatever_is_new_makes_another_delivery(other: bytes) -> None:
    assert delivery_key(other) != delivery_key(message())


# -- how a body reads


def test_a_complete_alert_is_read_field_by_field() -> None:
    expected = Alert(
        source="alertmanager",
        fingerprint="6d8ee8ee7ce2a88f",
        name="DiskAlmostFull",
        status=AlertStatus.FIRING,
        severity=Severity.CRITICAL,
        title="/srv/checkout on production is 93 % full",
        labels=DISK_LABELS,
        annotations={
            "summary": "/srv/checkout on production is 93 % full",
            "description": "Less than a tenth of the disk is free.",
            "runbook_url": "https://runbooks.example.org/disk-full",
        },
        starts_at=datetime(2026, 3, 1, 10, 15, 30, 123456, tzinfo=UTC),
        ends_at=None,
        group_key='{}/{team="shop"}:{alertname="DiskAlmostFull", service="checkout"}',
        link="http://prometheus.example.org:9090/graph?g0.expr=disk_used+%3E+0.9&g0.tab=1",
    )

    assert parse_one(message()) == expected


def test_each_alert_has_its_own_status_whatever_the_group_says() -> None:
    resolved = alert(status="resolved", endsAt="2026-03-01T10:20:00Z", fingerprint="2")

    statuses = [each.status for each in TRIGGER.parse(message(resolved, alert(), status="firing"))]

    assert statuses == [AlertStatus.RESOLVED, AlertStatus.FIRING]


def test_only_an_alert_without_a_status_inherits_the_group_s() -> None:
    body = message(alert(status=None), alert(status=""), alert(), status="resolved")

    assert [each.status for each in TRIGGER.parse(body)] == ["resolved", "resolved", "firing"]


def test_an_end_counts_only_for_a_resolved_alert() -> None:
    ended = datetime(2026, 3, 1, 10, 20, tzinfo=UTC)

    assert parse_one(message(alert(status="resolved", endsAt="2026-03-01T10:20:00Z"))).ends_at == ended
    assert parse_one(message(alert(status="firing", endsAt="2026-03-01T10:20:00Z"))).ends_at is None
    assert parse_one(message(alert(status="resolved"))).ends_at is None


@pytest.mark.parametrize(
    ("written", "instant"),
    [
        ("2026-03-01T10:15:30Z", datetime(2026, 3, 1, 10, 15, 30, tzinfo=UTC)),
        ("2026-03-01T10:15:30.987654321Z", datetime(2026, 3, 1, 10, 15, 30, 987654, tzinfo=UTC)),
        ("2026-03-01T05:15:30-05:00", datetime(2026, 3, 1, 10, 15, 30, tzinfo=UTC)),
        ("2026-03-01T10:15:30", datetime(2026, 3, 1, 10, 15, 30, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", alertmanager.START_UNKNOWN),
        ("0001-01-01T00:00:00+05:00", alertmanager.START_UNKNOWN),
        ("", alertmanager.START_UNKNOWN),
        (None, alertmanager.START_UNKNOWN),
    ],
)
def test_times_are_read_with_nanoseconds_and_offsets(written: str | None, instant: datetime) -> None:
    assert parse_one(message(alert(startsAt=written))).starts_at == instant


def test_a_missing_fingerprint_is_computed_as_alertmanager_does() -> None:
    """The value stands in Alertmanager's own capture for these labels (shared/payloads/alertmanager-live/6.json)."""
    labels = {
        "alertname": "DemoBroken",
        "cluster": "demo",
        "env": "staging",
        "exported_instance": "w",
        "instance": "127.0.0.1:18080",
        "job": "demo",
        "service": "checkout",
        "severity": "critical",
        "svc": "crash",
    }

    assert parse_one(message(alert(labels=labels, fingerprint=None))).fingerprint == "508c1ca1a8418734"


@pytest.mark.parametrize("given", ["", "x" * 129, "with blanks", "línea"])
def test_a_fingerprint_that_is_no_key_is_computed_instead(given: str) -> None:
    body = message(alert(labels={"alertname": "X"}, fingerprint=given))

    assert (
        parse_one(body).fingerprint
        == parse_one(message(alert(labels={"alertname": "X"}, fingerprint=None))).fingerprint
    )


@pytest.mark.parametrize(
    ("group_key", "read"),
    [(5615590933959184469, "5615590933959184469"), (43434343434343434343, "43434343434343434343"), ("{}:{}", "{}:{}")],
)
def test_a_group_key_may_be_a_number_or_text(group_key: int | str, read: str) -> None:
    assert parse_one(message(groupKey=group_key)).group_key == read


def test_without_a_group_key_each_problem_is_a_group_of_its_own() -> None:
    one, two = TRIGGER.parse(message(alert(fingerprint="1"), alert(fingerprint="2"), groupKey=None))

    assert one.group_key != two.group_key


def test_a_long_group_key_stays_a_key() -> None:
    keys = {parse_one(message(groupKey="{}:{" + "x" * 9000 + end)).group_key for end in "ab"}

    assert len(keys) == 2
    assert all(len(key) < 100 for key in keys)


@pytest.mark.parametrize(
    ("word", "severity"),
    [
        ("critical", Severity.CRITICAL),
        (" Critical ", Severity.CRITICAL),
        ("page", Severity.CRITICAL),
        ("P2", Severity.HIGH),
        ("error", Severity.HIGH),
        ("warn", Severity.WARNING),
        ("Sev3", Severity.INFO),
        ("none", Severity.INFO),
        ("purple", Severity.UNKNOWN),
        ("", Severity.UNKNOWN),
    ],
)
def test_a_sender_s_word_for_bad_becomes_a_severity_and_never_a_guess(word: str, severity: Severity) -> None:
    assert parse_one(message(alert(labels=DISK_LABELS | {"severity": word}))).severity is severity


def test_an_alert_without_a_severity_is_legal() -> None:
    assert parse_one(message(alert(labels={"alertname": "X"}))).severity is Severity.UNKNOWN


@pytest.mark.parametrize(
    "hostile",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "ftp://example.org/",
        "//example.org/x",
        "https://",
        "https://user:secret@example.org/",
        "https://bank.example.org@evil.example.org/",
        "https://example.org/|click here>",
        "https://example.org/ <!channel>",
        "https://example.org/\u202egpj.exe",
        "https://[broken/",
        "https://example.org/" + "a" * untrusted.MAX_LINK,
    ],
)
def test_a_link_that_is_no_plain_web_address_is_left_out(hostile: str) -> None:
    assert parse_one(message(alert(generatorURL=hostile, annotations={"runbook_url": hostile}))).link is None


def test_the_runbook_is_the_link_when_the_source_names_no_graph() -> None:
    assert parse_one(message(alert(generatorURL=""))).link == "https://runbooks.example.org/disk-full"


def test_a_title_is_one_line_and_falls_back_to_the_name() -> None:
    noisy = {"summary": "disk\r\nis\tfull\x1b[31m " + "x" * 1000}

    title = parse_one(message(alert(annotations=noisy))).title

    assert title.startswith("disk is full\ufffd[31m x")
    assert len(title) == untrusted.MAX_TITLE
    assert parse_one(message(alert(annotations={}))).title == "DiskAlmostFull"
    assert parse_one(message(alert(annotations={}, labels={"job": "x"}))).title == "unnamed"


def test_text_that_a_database_or_a_terminal_would_choke_on_is_replaced() -> None:
    read = parse_one(message(alert(labels={"alertname": "a\x00b", "k\x00": "\u202ev\x9b"})))

    assert read.labels == {"alertname": "a\ufffdb", "k\ufffd": "\ufffdv\ufffd"}


def test_too_many_and_too_long_fields_are_cut_and_the_cut_is_said() -> None:
    labels = {f"l{number:03}": "v" for number in range(100)} | {"alertname": "X", "severity": "info"}
    annotations = {"description": "d" * (untrusted.MAX_VALUE + 1)}

    read = parse_one(message(alert(labels=labels, annotations=annotations)))

    assert len(read.labels) == untrusted.MAX_FIELDS
    assert (read.name, read.severity) == ("X", Severity.INFO)
    assert len(read.annotations["description"]) == untrusted.MAX_VALUE
    assert read.annotations["description"].endswith("…")
    assert read.annotations[alertmanager.CUT] == "label 38 more left out; annotation description cut"


def test_cutting_does_not_change_who_the_alert_is() -> None:
    bodies = [message(alert(fingerprint=None, labels={"a": "x" * 9000 + end})) for end in "ab"]

    assert parse_one(bodies[0]).fingerprint != parse_one(bodies[1]).fingerprint


def test_alerts_that_the_source_cut_off_are_said_on_each_alert() -> None:
    for read in TRIGGER.parse(message(alert(), alert(fingerprint="2"), truncatedAlerts=490)):
        assert read.annotations[alertmanager.TRUNCATED].startswith("490 more alerts of this group were not")


def test_a_sender_cannot_speak_in_our_name() -> None:
    forged = {"signalbox_truncated": "all is well", " signalbox_cut": "x"}

    assert parse_one(message(alert(annotations=forged))).annotations == {}


def test_unknown_fields_are_ignored_and_null_is_nothing() -> None:
    """Alertmanager 0.32 added notification_reason without a new version; a nil map of Go is sent as null."""
    read = parse_one(message(alert(annotations=None) | {"annotations": None, "new": [1]}, notification_reason="first"))

    assert read.annotations == {}


def test_a_group_without_alerts_has_none() -> None:
    assert TRIGGER.parse(message(alerts=[])) == ()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "Invalid JSON"),
        (b"\xff\xfe\x00", "Invalid JSON"),
        (b"null", "should be an object"),
        (b"[]", "should be an object"),
        (b"{}", "alerts: Field required"),
        (b'{"alerts": {}}', "alerts"),
        (b'{"alerts": [1]}', "alerts.0"),
        (message(alert(labels={"a": 1})), "alerts.0.labels.a"),
        (message(alert(status="suppressed")), "firing or resolved"),
        (message(alert(startsAt="yesterday")), "alerts.0.startsAt"),
        (message(alert(startsAt="9999-12-31T23:59:59-05:00")), "no such time in UTC"),
        (message(alert(startsAt=1e300)), "alerts.0.startsAt"),
        (message({}), "neither labels nor a fingerprint"),
        (message(alert(labels={f"l{n}": "" for n in range(1001)})), "at most 1000"),
        (message(truncatedAlerts=-1), "truncatedAlerts"),
        (message(groupKey={"a": 1}), "groupKey"),
        (b'{"alerts":' + b"[" * 100_000, "recursion limit"),
        (b'{"alerts":[],"extra":' + b'{"a":' * 100_000, "recursion limit"),
        (b'{"alerts":[],"groupKey":' + b"9" * 10_000 + b"}", "number out of range"),
        (b'{"alerts":[' + b"{}," * 60_000 + b"{}]}", "at most 50000"),
        (b'{"alerts":[' + b"{}," * 2_000_000 + b"{}]}", "more than 2000000 fields"),
    ],
)
def test_what_cannot_be_read_is_bad_input_with_a_reason(body: bytes, reason: str) -> None:
    with pytest.raises(BadInput, match=reason) as refusal:
        TRIGGER.parse(body)

    assert refusal.value.remedy
    assert len(str(refusal.value)) < 1000


def test_one_bad_alert_among_many_is_named() -> None:
    with pytest.raises(BadInput, match=r"alerts\.1\.labels"):
        TRIGGER.parse(message(alert(), alert(labels=[]), alert()))


def test_a_reason_never_repeats_what_the_stranger_wrote_as_a_value() -> None:
    with pytest.raises(BadInput) as refusal:
        TRIGGER.parse(message(alert(startsAt="<!channel> press approve")))

    assert "channel" not in str(refusal.value)


def test_a_storm_in_one_body_is_read_whole() -> None:
    """5,000 alerts of one group were measured at 3.4 MB in one body."""
    storm = message(*(alert(fingerprint=f"{number:016x}") for number in range(5_000)))

    assert len(storm) > 2_000_000
    assert len(TRIGGER.parse(storm)) == 5_000
    assert json.loads(storm)["alerts"][4_999]["fingerprint"] == TRIGGER.parse(storm)[4_999].fingerprint
