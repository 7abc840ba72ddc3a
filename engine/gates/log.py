"""Gate kind `log`: the lines that a log has had since the change, read by the verifier. Called through `kinds()`.

No line since then never holds, also where nothing is to be present: silence may be a log that nobody writes any more.
The clock of the target dates the lines, so it is asked in the same breath; one that is wrong cannot tell before from
after. Of a log that is only shown in part, the part reaches back to the change.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from engine.domain.gate import Check, Facts, Json, LogCheck, Sample
from engine.domain.ports import Probe
from engine.domain.states import Verdict
from engine.gates import evidence
from engine.gates.lines import matching
from engine.gates.running import NotMeasured, Verifier

MAX_OUTPUT = 256 * 1024
MAX_SKEW_S = 2.0
SHOWN = 5
CLOCK_AND = ("sh", "-c", 'date +%s && exec "$@"', "signalbox-gate")
""" Prints the target's clock, then becomes the command: words stay words. """

_TIME = re.compile(
    r"""\[? (?: (?P<date>\d{4}-\d\d-\d\d) [T ] (?P<clock>\d\d:\d\d:\d\d) | (?P<epoch>\d{10}) )
        (?: [.,] (?P<part>\d{1,9}) )? (?P<zone> Z | [+-]\d\d:?\d\d )? (?= [\s\]] | $ )""",
    re.ASCII | re.VERBOSE,
)

_MOST = re.compile(r"-[cn](?P<number>[0-9]*)|--(?:bytes|lines)=(?P<long>[0-9]+)", re.ASCII)
BEGINNING = datetime.min.replace(tzinfo=UTC)


def measure(check: Check, facts: Facts, probe: Probe) -> Sample:
    """Read once. Not run, a wrong clock, no line since the change: INCONCLUSIVE. Lines without a time: ERROR."""
    if not isinstance(check, LogCheck):
        return Sample(verdict=Verdict.ERROR, why="not a log check")
    if not check.present and not check.absent:
        return Sample(verdict=Verdict.ERROR, why="neither `present` nor `absent` asks for anything")
    verifier = Verifier(target=check.target, facts=facts, probe=probe, timeout_s=check.timeout_s)
    begun = datetime.now(UTC)
    try:
        ran = verifier.run(check.run, within=CLOCK_AND)
    except NotMeasured as instead:
        return instead.sample
    clock, _, text = ran.stdout.partition("\n")
    fault = _clock_fault(clock, begun, datetime.now(UTC))
    if fault:
        return Sample(verdict=Verdict.INCONCLUSIVE, why=f"the clock of {check.target} {fault}", seen=ran.seen)
    since = facts.changed_at or begun - timedelta(seconds=check.within_s)
    try:
        lines = since_then(text, since, utc=check.utc)
        seen: dict[str, Json] = {"run": ran.seen["run"], "since": since.isoformat(), "lines": len(lines)}
        if lines and is_cut(ran.argv, text) and len(lines) == len(since_then(text, BEGINNING, utc=check.utc)):
            why = f"{ran.argv[0]} shows only the end, and nothing from before {since.isoformat()}: what was between?"
            return Sample(verdict=Verdict.INCONCLUSIVE, why=why, seen=seen)
        return _judge(check, lines, seen)
    except ValueError as error:
        return Sample(verdict=Verdict.ERROR, why=f"output of {ran.argv[0]}: {error}", seen=ran.seen)


def _clock_fault(told: str, begun: datetime, ended: datetime) -> str | None:
    """What is wrong with a clock that told this, in whole seconds, between these two moments of ours."""
    if not re.fullmatch(r"[0-9]{9,11}", told):
        return "told no time"
    off = max(begun.timestamp() - (int(told) + 1), int(told) - ended.timestamp())
    return f"is {off:.0f} s off, so its lines do not say what came after the change" if off > MAX_SKEW_S else None


def since_then(text: str, since: datetime, *, utc: bool = False) -> tuple[str, ...]:
    """The lines from then on; raises ValueError where they do not say when. A line without a time of its own goes with
    the one before it, and the first ones, whose beginning was cut off, with none."""
    if len(text) > MAX_OUTPUT:
        raise ValueError(f"more than {MAX_OUTPUT // 1024} KiB")
    kept: list[str] = []
    dated = after = False
    for line in text.split("\n"):
        found = _TIME.match(line)
        if found:
            dated, after = True, _moment(found, utc=utc) >= (since if found["part"] else since.replace(microsecond=0))
        if after and line.strip():
            kept.append(line.rstrip("\r"))
    if text.strip() and not dated:
        raise ValueError("no line begins with a time, such as 2026-05-30T12:00:00Z (journalctl -o short-iso-precise)")
    return tuple(kept)


def _moment(found: re.Match[str], *, utc: bool) -> datetime:
    """The time of a line; raises ValueError for one that could be in any zone, so hours from what it seems."""
    zone = found["zone"] or ("Z" if utc else "")
    if found["date"] and not zone:
        raise ValueError(f"{found[0]!r} has no time zone; if it is UTC, write `utc: true`")
    part = f"{found['part'] or '0'}000000"[:6]
    try:
        if found["epoch"]:
            return datetime.fromtimestamp(float(f"{found['epoch']}.{part}"), UTC)
        moment = datetime.fromisoformat(f"{found['date']}T{found['clock']}.{part}{zone}")
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"{found[0]!r} is no time") from None
    return moment.astimezone(UTC)


def is_cut(argv: Sequence[str], text: str) -> bool:
    """Whether a command that shows the end of a log (tail, journalctl -n) has shown as much as it was to."""
    program = argv[0].rsplit("/", 1)[-1]
    if program not in {"tail", "journalctl"}:
        return False
    most = {"lines": 10} if program == "tail" else {}
    for word, following in itertools.pairwise((*argv, "")):
        found = _MOST.fullmatch(word)
        number = (found["number"] or found["long"] or following) if found else ""
        if found and number.isdecimal():
            most = {"bytes" if "c" in word or "bytes" in word else "lines": int(number)}
    lines = text.count("\n")
    return len(text.encode()) >= most.get("bytes", sys.maxsize) or lines >= most.get("lines", sys.maxsize)


def _judge(check: LogCheck, lines: tuple[str, ...], seen: dict[str, Json]) -> Sample:
    if not lines:
        return Sample(
            verdict=Verdict.INCONCLUSIVE, why=f"no line since {seen['since']}: no data", seen=seen, no_data=True
        )
    found = {pattern: matching(pattern, lines) for pattern in (*check.absent, *check.present)}
    seen["found"] = {pattern: [evidence.text(line, 300) for line in hits[:SHOWN]] for pattern, hits in found.items()}
    for pattern in check.absent:
        if found[pattern]:
            why = f"{len(found[pattern])} of {len(lines)} lines have {pattern}: {evidence.brief(found[pattern][0])}"
            return Sample(verdict=Verdict.FAILED, why=why, seen=seen)
    for pattern in check.present:
        if not found[pattern]:
            return Sample(verdict=Verdict.FAILED, why=f"none of {len(lines)} lines has {pattern}", seen=seen)
    words = [f"none has {pattern}" for pattern in check.absent] + [f"some has {pattern}" for pattern in check.present]
    return Sample(verdict=Verdict.HELD, why=f"{len(lines)} lines: {', '.join(words)}", seen=seen)
