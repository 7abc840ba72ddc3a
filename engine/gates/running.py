"""One command of the verifier's on a target, for the kinds that look through one: its exit code is judged here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.domain.errors import BadInput, SignalboxError
from engine.domain.gate import Facts, Json, Sample
from engine.domain.ports import Probe
from engine.domain.states import Verdict
from engine.gates import evidence
from engine.gates.filling import fill


class NotMeasured(Exception):
    """The command gave nothing to judge; carries the sample that says why."""

    def __init__(self, verdict: Verdict, why: str, seen: Json = None) -> None:
        super().__init__(why)
        self.sample = Sample(verdict=verdict, why=why, seen=seen)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A command that ended with the right code. `seen` is the evidence."""

    argv: tuple[str, ...]
    code: int
    stdout: str
    seen: dict[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Who measures on one target."""

    target: str
    facts: Facts
    probe: Probe
    timeout_s: float

    def run(self, words: Sequence[str], code: int = 0, within: tuple[str, ...] = ()) -> Ran:
        """Run it once, placeholders filled in, as arguments of `within`.

        Raises NotMeasured: not run is INCONCLUSIVE, another exit code FAILED.
        """
        try:
            argv = tuple(fill(word, self.target, self.facts) for word in words)
        except BadInput as error:
            raise NotMeasured(Verdict.ERROR, str(error)) from None
        could_not = f"the verifier could not run {argv[0]}"
        try:
            answer = self.probe(self.target, (*within, *argv), self.timeout_s)
        except SignalboxError as error:
            raise NotMeasured(Verdict.INCONCLUSIVE, f"{could_not}: {error}") from None
        seen: dict[str, Json] = {
            "run": [evidence.text(word) for word in argv],
            "code": answer.code,
            "stdout": evidence.text(answer.stdout),
            "stderr": evidence.text(answer.stderr),
        }
        if not answer.ran or answer.code is None:
            raise NotMeasured(Verdict.INCONCLUSIVE, f"{could_not}: {answer.reason or 'no exit code'}", seen)
        if answer.code != code:
            raise NotMeasured(Verdict.FAILED, f"{argv[0]} exited {answer.code}, not {code}", seen)
        return Ran(argv=argv, code=answer.code, stdout=answer.stdout, seen=seen)
