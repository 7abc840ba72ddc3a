"""What was found, for people: every path as a row, and all of them as one graph. Called by `signalbox simulate`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from engine.domain.states import FINAL, RunState
from engine.simulation.explore import Edge, Exploration, Node

HEAD = ("#", "came to", "goes on as", "changed", "asked", "what happened")
AS_IT_SHOULD = "all is well"
MOST_NAMES = 4
""" Names of one sort that are written out; how many more there are is said. """


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One path: what happened that is not usual, where it came to, how often which target was changed, who was asked.

    It ends where the run ended, or where another path came before: `goes_on_as` is the number of the first that did.
    """

    number: int
    what: str
    came_to: str
    changed: str
    asked: str
    goes_on_as: int | None


@dataclass(frozen=True, slots=True)
class _Way:
    """All choices that lead from one place to the same other: one path, told together."""

    source: int
    target: int
    edges: tuple[Edge, ...]

    @property
    def usual(self) -> bool:
        return any(edge.usual for edge in self.edges)

    @property
    def first(self) -> bool:
        return any(edge.first for edge in self.edges)


def rows(found: Exploration) -> list[Row]:
    """Every path, shortest first."""
    before: dict[int, tuple[str, ...]] = {0: ()}
    parents: dict[int, int] = {}
    passes: dict[int, int] = {}
    made: list[Row] = []
    goes_on = {edge.source for edge in found.edges}
    for way in _ways(found):
        what = before[way.source]
        if way.first:
            parents[way.target] = way.source
            before[way.target] = what if way.usual else (*what, way.edges[0].name)
            if way.target in goes_on:
                continue
        number = len(made) + 1
        at: int | None = way.target if way.first else way.source
        while at is not None and at not in passes:
            passes[at] = number
            at = parents.get(at)
        made.append(_row(number, what, way, found.nodes[way.target]))
    return [row if row.goes_on_as is None else replace(row, goes_on_as=passes.get(row.goes_on_as)) for row in made]


def _ways(found: Exploration) -> list[_Way]:
    together: dict[tuple[int, int], list[Edge]] = {}
    for edge in found.edges:
        together.setdefault((edge.source, edge.target), []).append(edge)
    return [_Way(source, target, tuple(edges)) for (source, target), edges in sorted(together.items())]


def _row(number: int, what: Sequence[str], way: _Way, node: Node) -> Row:
    last = () if way.usual else (_joined([edge.name for edge in way.edges]),)
    return Row(
        number=number,
        what="; ".join((*what, *last)) or AS_IT_SHOULD,
        came_to=_came_to(node),
        changed=_counted([change.target for change in way.edges[0].changes]) or "nothing",
        asked=_counted(way.edges[0].asked) or "nobody",
        goes_on_as=None if way.first or node.state in FINAL else node.number,
    )


def _counted(words: Sequence[str]) -> str:
    return ", ".join(word if times == 1 else f"{word} x{times}" for word, times in Counter(words).items())


def _joined(names: Sequence[str]) -> str:
    """`a: x | y` for `a: x` and `a: y`."""
    names = list(dict.fromkeys(names))
    head = names[0].partition(": ")[0] + ": "
    short = [name.removeprefix(head) if at else name for at, name in enumerate(names)]
    more = f" | and {len(short) - MOST_NAMES} more" if len(short) > MOST_NAMES else ""
    return " | ".join(short[:MOST_NAMES]) + more


def _came_to(node: Node) -> str:
    match node.state:
        case RunState.HALTED:
            return f"halted at {node.leg}"
        case RunState.AWAITING_APPROVAL:
            return f"asks for a yes to {node.leg}"
        case RunState.QUEUED:
            return f"goes on at {node.leg}"
    return node.state.value.replace("_", " ")


# -- as a graph: places by state and leg, arrows by what happens there


Arrow = tuple[str, str, str]


def arrows(found: Exploration) -> list[Arrow]:
    """(from, to, what happens), each pair of places once; what changes nothing is left out."""
    names: dict[tuple[str, str], dict[str, None]] = {}
    for edge in found.edges:
        source, target = (_came_to(found.nodes[number]) for number in (edge.source, edge.target))
        if source != target:
            names.setdefault((source, target), {})[edge.name] = None
    return [(source, target, _joined(list(what))) for (source, target), what in names.items()]


def as_text(found: Exploration) -> Iterator[str]:
    """Each place, and below it where it leads."""
    places: dict[str, list[Arrow]] = {}
    for arrow in arrows(found):
        places.setdefault(arrow[0], []).append(arrow)
    for place, leads in places.items():
        yield place
        yield from (f"  -> {target}: {what}" for _, target, what in leads)


def as_dot(found: Exploration) -> Iterator[str]:
    """For Graphviz."""
    yield f"digraph {_quoted(found.runbook)} {{"
    yield '  rankdir=LR; node [shape=box, fontname="sans-serif"]; edge [fontname="sans-serif", fontsize=9];'
    yield from (f"  {_quoted(source)} -> {_quoted(to)} [label={_quoted(what)}];" for source, to, what in arrows(found))
    yield "}"


def as_mermaid(found: Exploration) -> Iterator[str]:
    """For a page that draws Mermaid."""
    numbers: dict[str, int] = {}
    yield "flowchart LR"
    for source, to, what in arrows(found):
        for place in (source, to):
            if place not in numbers:
                numbers[place] = len(numbers)
                yield f"  p{numbers[place]}[{_quoted(place)}]"
        yield f"  p{numbers[source]} -->|{_quoted(what)}| p{numbers[to]}"


def _quoted(text: str) -> str:
    """Names of a runbook are letters, digits, hyphens; whatever else came in is no syntax here."""
    return '"' + text.replace("\\", "/").replace('"', "'").replace("\n", " ") + '"'
