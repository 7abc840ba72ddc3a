"""Prometheus Alertmanager's webhook: verify a body, name its delivery, read its alerts. Chosen by `engine.wiring`.

Protocol: https://prometheus.io/docs/alerting/latest/configuration/#webhook_config (payload version 4; 3 is read too).
Alertmanager signs nothing and numbers nothing. A bearer token says who sends; the same group with the same alerts in
the same states is the same delivery, however often `repeat_interval` sends it.

A firing alert with an unchanged startsAt looks the same before a resolve and after one: see `delivery_key`.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, FailFast, Field, ValidationError

from engine.domain import digest
from engine.domain.alert import Alert, AlertStatus, Delivery
from engine.domain.errors import BadInput, TooLarge, Unauthenticated
from engine.triggers import untrusted
from engine.triggers.fingerprint import fnv1a64

MAX_BYTES = 32 << 20
""" A storm of 5,000 alerts was measured at 3.4 MB; Alertmanager sets no limit unless `max_alerts` is configured. """
MAX_ALERTS = 50_000
MAX_FIELDS_READ = 1_000
""" More labels than this on one alert is no alert; fewer are read and cut to `untrusted.MAX_FIELDS`. """
MAX_PARTS = 2_000_000
""" Commas and opening brackets: 32 MiB of `{},` would be 1.7 GB of objects. A real body has one in thirty bytes. """
MAX_GROUP_KEY = 500

START_UNKNOWN = datetime(1970, 1, 1, tzinfo=UTC)
""" The start of an alert whose sender names none. Alertmanager itself always does. Fixed, so that a repeat of such an
alert is the same episode. """

TRUNCATED = "signalbox_truncated"
CUT = "signalbox_cut"
""" Annotations that we add, so that nothing is lost silently. A sender's own fields of this prefix are dropped. """
_OURS = "signalbox_"

_ZERO_YEAR = 1  # Go's zero time, 0001-01-01T00:00:00Z: not ended
_GIVEN_FINGERPRINT = re.compile(r"[!-~]{1,128}")
_FIRST_LABELS = ("alertname", "severity", "instance", "job", "service")
_FIRST_ANNOTATIONS = ("summary", "description", "runbook_url")
_FEWER = "set `max_alerts: 1000` in Alertmanager's webhook_configs"
_REMEDY = (
    "send Alertmanager's own webhook body: https://prometheus.io/docs/alerting/latest/configuration/#webhook_config"
)
_LINKS = ("runbook_url", "runbook", "dashboard_url")


def _blank_is_none(value: object) -> object:
    return None if value == "" else value


def _to_utc(value: datetime | None) -> datetime | None:
    """Aware and UTC; Go's zero time is no time. Raises ValueError for what falls off the calendar on the way."""
    if value is None or value.year == _ZERO_YEAR:
        return None
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:
        raise ValueError("no such time in UTC") from None


def _known_status(value: str | None) -> AlertStatus | None:
    if not value:
        return None
    try:
        return AlertStatus(value.strip().lower())
    except ValueError:
        raise ValueError("a status is firing or resolved") from None


# A nil map or slice of Go is sent as null.
_Fields = Annotated[
    dict[str, str], Field(max_length=MAX_FIELDS_READ), BeforeValidator(lambda value: {} if value is None else value)
]
_Instant = Annotated[datetime | None, BeforeValidator(_blank_is_none), AfterValidator(_to_utc)]
_Status = Annotated[str | None, AfterValidator(_known_status)]


class _Edge(BaseModel):
    """Unknown fields come without a new version number, so they are ignored; missing ones are tolerated."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class _AlertIn(_Edge):
    status: _Status = None
    labels: _Fields = Field(default_factory=dict)
    annotations: _Fields = Field(default_factory=dict)
    starts_at: _Instant = Field(None, alias="startsAt")
    ends_at: _Instant = Field(None, alias="endsAt")
    generator_url: str | None = Field(None, alias="generatorURL")
    given_fingerprint: str | None = Field(None, alias="fingerprint")

    @cached_property
    def fingerprint(self) -> str:
        """The given one, or the one that Alertmanager would have given; empty for an alert that nothing identifies."""
        given = self.given_fingerprint or ""
        if _GIVEN_FINGERPRINT.fullmatch(given):
            return given
        return fnv1a64(self.labels) if self.labels else ""


class _Message(_Edge):
    status: _Status = None
    alerts: Annotated[list[_AlertIn], Field(max_length=MAX_ALERTS), FailFast()]
    group_key: int | str | None = Field(None, alias="groupKey")  # a number in version 3
    truncated: Annotated[int, Field(ge=0, lt=1 << 64)] = Field(0, alias="truncatedAlerts")

    @property
    def group(self) -> str | None:
        """The group key as text; a long one (of `group_by: ['...']`) by its digest: it is a key, not for reading."""
        text = untrusted.clean("" if self.group_key is None else str(self.group_key))
        return (text if len(text) <= MAX_GROUP_KEY else digest.of_bytes(text.encode())) or None

    def status_of(self, alert: _AlertIn) -> AlertStatus:
        """The alert's own status. The group's says only that some alert fires: it counts where the alert has none."""
        return AlertStatus(alert.status or self.status or AlertStatus.FIRING)


class AlertmanagerTrigger:
    """The trigger `alertmanager`. `tokens`: every bearer token that is accepted now, several while one is rotated."""

    name = "alertmanager"
    max_bytes = MAX_BYTES

    def __init__(self, tokens: tuple[str, ...]) -> None:
        """Raises BadInput for a blank token. Without any token every body is refused."""
        if not all(token.strip() for token in tokens):
            raise BadInput("an Alertmanager token is blank", "set SIGNALBOX_ALERTMANAGER_TOKEN to a long random text")
        self._tokens = tuple(_hashed(token) for token in tokens)

    def verify(self, headers: Mapping[str, str], body: bytes) -> Delivery:
        """Check the bearer token, then the size; raises Unauthenticated, TooLarge. Header names are lower case."""
        if not self._tokens:
            raise Unauthenticated("no Alertmanager token is configured", "set SIGNALBOX_ALERTMANAGER_TOKEN")
        scheme, _, token = headers.get("authorization", "").strip().partition(" ")
        given = _hashed(token.strip())
        # every token is compared in full: the time taken says neither how much was right nor which one
        matches = [hmac.compare_digest(given, known) for known in self._tokens]
        if scheme.lower() != "bearer" or not any(matches):
            raise Unauthenticated(
                "the bearer token is missing or wrong",
                "give Alertmanager's http_config.authorization.credentials the value of SIGNALBOX_ALERTMANAGER_TOKEN",
            )
        _check_size(body)
        return Delivery(source=self.name, key=delivery_key(body), body=body, group=_group(body))

    def parse(self, body: bytes) -> tuple[Alert, ...]:
        """The alerts of the body in its order; raises BadInput."""
        message = _read(body)
        return tuple(_alert(self.name, message, alert) for alert in message.alerts)


def delivery_key(body: bytes) -> str:
    """The same for a repeat of the same alerts in the same states, though annotations (a rendered value) may differ.

    What does not parse is known by its bytes. An alert that lapses because Prometheus was cut off, and comes back with
    the startsAt it had, is sent byte for byte as before its resolve: that is why a delivery also names its group.
    """
    try:
        message = _read(body)
    except BadInput:
        return digest.of_bytes(body)
    episodes = sorted(
        [alert.fingerprint, (alert.starts_at or START_UNKNOWN).isoformat(), str(message.status_of(alert))]
        for alert in message.alerts
    )
    return digest.of_value({"group": message.group, "truncated": message.truncated, "alerts": episodes})


def _group(body: bytes) -> str:
    """What Alertmanager grouped by; one group for all that does not parse."""
    try:
        return _read(body).group or ""
    except BadInput:
        return ""


def _hashed(token: str) -> bytes:
    # equal lengths whatever was sent; aiohttp hands bytes that are no UTF-8 over as lone surrogates
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()


def _check_size(body: bytes) -> None:
    if len(body) > MAX_BYTES:
        raise TooLarge(f"the body has {len(body)} bytes; at most {MAX_BYTES} are read", _FEWER)


def _read(body: bytes) -> _Message:
    _check_size(body)
    if body.count(b",") + body.count(b"{") + body.count(b"[") > MAX_PARTS:
        raise TooLarge(f"the body has more than {MAX_PARTS} fields", _FEWER)
    try:
        message = _Message.model_validate_json(body)
    except ValidationError as error:
        raise BadInput(f"not an Alertmanager webhook body: {_explain(error)}", _REMEDY) from None
    for number, alert in enumerate(message.alerts):
        if not alert.fingerprint:
            raise BadInput(
                f"not an Alertmanager webhook body: alerts.{number} has neither labels nor a fingerprint", _REMEDY
            )
    return message


def _explain(error: ValidationError) -> str:
    """The first three complaints, without the input: it is a stranger's text and may be long."""
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    lines = []
    for problem in problems[:3]:
        where = untrusted.one_line(".".join(map(str, problem["loc"])), 80)
        lines.append(untrusted.one_line(f"{where}: {problem['msg']}" if where else problem["msg"], 200))
    more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
    return "; ".join(lines) + more


def _alert(source: str, message: _Message, alert: _AlertIn) -> Alert:
    labels, cut_labels = untrusted.bounded(alert.labels, _FIRST_LABELS)
    theirs, cut_annotations = untrusted.bounded(alert.annotations, _FIRST_ANNOTATIONS)
    annotations = {name: text for name, text in theirs.items() if not name.startswith(_OURS)}
    status = message.status_of(alert)
    name = untrusted.one_line(labels.get("alertname", "")) or "unnamed"
    remarks = [f"label {remark}" for remark in cut_labels] + [f"annotation {remark}" for remark in cut_annotations]
    if remarks:
        annotations[CUT] = untrusted.cut("; ".join(remarks), untrusted.MAX_VALUE)
    if message.truncated:
        annotations[TRUNCATED] = (
            f"{message.truncated} more alerts of this group were not in the message: see Alertmanager's /api/v2/alerts"
        )
    return Alert(
        source=source,
        fingerprint=alert.fingerprint,
        name=name,
        status=status,
        severity=untrusted.severity(labels.get("severity") or labels.get("priority", "")),
        title=untrusted.one_line(annotations.get("summary") or annotations.get("title", "")) or name,
        labels=labels,
        annotations=annotations,
        starts_at=alert.starts_at or START_UNKNOWN,
        ends_at=alert.ends_at if status is AlertStatus.RESOLVED else None,
        group_key=message.group or f"fingerprint:{alert.fingerprint}",
        # as they came: a cleaned or cut address leads elsewhere
        link=untrusted.link([alert.generator_url or "", *(alert.annotations.get(name, "") for name in _LINKS)]),
    )
