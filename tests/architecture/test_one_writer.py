"""Only engine/coordination/machine.py writes the state of a run or an attempt.

The two statements that do it stand in engine/store/runs.py (`compare_and_set`, `end_attempt`); nobody but the machine
calls them, and there is no third way: not by attribute, not by update, not by SQL text, not by the first state.
A statement of the store that is made once, for its module, may be used in those two and nowhere else; the one that
inserts attempts in `write`, which is given rows that begin as they must.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.architecture.sources import Module, bindings, dotted, modules, parse

MACHINE = "engine/coordination/machine.py"
STORE = "engine/store/runs.py"
WRITERS = ("compare_and_set", "end_attempt")
EVIDENCE = "keep_late"
""" Writes what came of an attempt after it had ended: its parameters name the columns, and no state is among them. """
INSERTS = "write"
GUARDED = ("engine.store.models.Run", "engine.store.models.Attempt")
FIRST_STATE = dict(zip(GUARDED, ("NEW", "STARTED"), strict=True))
SQL = re.compile(r"\b(?:update|into)\s+[\"`]?(?:run|attempt)\b", re.IGNORECASE)

Function = ast.FunctionDef | ast.AsyncFunctionDef


def violations(module: Module) -> list[str]:
    """What in this module writes a guarded state, each with its line."""
    check = _Check(module)
    return sorted(f"{module.path}:{line}: {what}" for line, what in check.all())


class _Check:
    def __init__(self, module: Module) -> None:
        self.module = module
        self.names = bindings(module)
        self.functions = {node.name: node for node in ast.walk(module.tree) if isinstance(node, Function)}
        self.tables = {name: dotted(value, self.names) for name, value in self._constants()}

    def all(self) -> Iterator[tuple[int, str]]:
        for function, node in self._nodes(self.module.tree, None, None):
            yield from self._node(node, *function)

    def _constants(self) -> Iterator[tuple[str, ast.expr]]:
        """What the module calls by a name of its own, outside any function or class."""
        for node in self.module.tree.body:
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    yield name, value
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                    yield name, value

    def _nodes(
        self, node: ast.AST, function: Function | None, owner: str | None
    ) -> Iterator[tuple[tuple[Function | None, str | None], ast.AST]]:
        """Every node with the function and the class that it stands in."""
        for child in ast.iter_child_nodes(node):
            yield (function, owner), child
            inner = child if isinstance(child, Function) else function
            yield from self._nodes(child, inner, child.name if isinstance(child, ast.ClassDef) else owner)

    def _node(self, node: ast.AST, function: Function | None, owner: str | None) -> Iterator[tuple[int, str]]:
        match node:
            case ast.Attribute(attr="state", ctx=ast.Store()):
                kind = self._type(node.value, function, owner)
                if kind is None:
                    yield node.lineno, f"cannot tell what {ast.unparse(node.value)} is: annotate it"
                elif kind in GUARDED:
                    yield node.lineno, f"assigns the state of a {kind}"
            case ast.Attribute(ctx=ast.Load()) | ast.Name(ctx=ast.Load()):
                yield from self._reference(node)
            case ast.Call():
                yield from self._call(node, function)
            case ast.Constant(value=str(text)) if SQL.search(text):
                yield node.lineno, "SQL text that writes runs or attempts"

    def _reference(self, node: ast.Attribute | ast.Name) -> Iterator[tuple[int, str]]:
        name = dotted(node, self.names)
        if name in {f"engine.store.runs.{writer}" for writer in WRITERS} and self.module.path not in {MACHINE, STORE}:
            yield node.lineno, f"uses {name}, which is the machine's"
        if name.endswith(".__table__") and not self.module.path.startswith("engine/store/"):
            yield node.lineno, "reaches for a table behind the store"

    def _call(self, call: ast.Call, function: Function | None) -> Iterator[tuple[int, str]]:
        name = dotted(call.func, self.names)
        last = name.rpartition(".")[2] or (call.func.attr if isinstance(call.func, ast.Attribute) else "")
        here = function.name if function else ""
        if last in {"update", "insert"} and self._is_guarded(call) and not self._stands_well(call, last, here):
            yield call.lineno, f"{last}s a guarded table"
        if last.startswith("bulk_") or (last == "merge" and not self._merges_another(call)):
            yield call.lineno, f"{last} writes rows past the machine"
        if (
            last == "setattr"
            and not (self.module.path == STORE and here in WRITERS)
            and not (len(call.args) == 3 and _constant(call.args[1]) not in {None, "state"})
        ):
            yield call.lineno, "setattr may write a state"
        if name in FIRST_STATE and not self._begins(call, FIRST_STATE[name]):
            yield call.lineno, f"a new {name} begins as {FIRST_STATE[name]}"

    def _is_guarded(self, call: ast.Call) -> bool:
        """Whether it is of a guarded class, of its table, or of a name that the module has for either."""
        about = dotted(call.args[0], self.names) if call.args else ""
        return self.tables.get(about, about).removesuffix(".__table__") in GUARDED

    def _stands_well(self, call: ast.Call, kind: str, here: str) -> bool:
        """In a writer, or in a statement of the module's that only writers use."""
        writers = (INSERTS,) if kind == "insert" else (*WRITERS, EVIDENCE)
        if self.module.path != STORE or here:
            return self.module.path == STORE and here in writers
        named = [name for name, value in self._constants() if any(node is call for node in ast.walk(value))]
        users = {
            function.name if function else ""
            for (function, _), node in self._nodes(self.module.tree, None, None)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in named
        }
        return bool(named) and users <= set(writers)

    def _merges_another(self, call: ast.Call) -> bool:
        """`session.merge(models.X(...))` of a class that is not guarded."""
        made = dotted(call.args[0].func, self.names) if call.args and isinstance(call.args[0], ast.Call) else ""
        return made.startswith("engine.store.models.") and made not in GUARDED

    def _begins(self, call: ast.Call, state: str) -> bool:
        given = [keyword.value for keyword in call.keywords if keyword.arg == "state"]
        whole = all(keyword.arg for keyword in call.keywords)  # no **values that could hold another state
        return whole and len(given) == 1 and dotted(given[0], self.names).endswith(f".{state}")

    def _type(self, node: ast.expr, function: Function | None, owner: str | None) -> str | None:
        """The dotted class of a name, from its annotation or from what it was made by."""
        if not isinstance(node, ast.Name) or function is None:
            return None
        arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        if node.id == "self" and owner:
            return f"{self.module.name}.{owner}"
        for argument in arguments:
            if argument.arg == node.id:
                return self._class(argument.annotation)
        found = {self._made_by(each, node.id, function) for each in ast.walk(function)} - {""}
        return found.pop() if len(found) == 1 else None

    def _made_by(self, node: ast.AST, name: str, function: Function) -> str | None:
        """The class that this statement gives the name; empty when it gives it none, None when nobody can tell."""
        match node:
            case ast.AnnAssign(target=ast.Name(id=given), annotation=annotation) if given == name:
                return self._class(annotation)
            case ast.Assign(targets=targets, value=value) if any(_is(target, name) for target in targets):
                return self._value(value)
            case ast.For(target=target, iter=rows) if _is(target, name):
                return self._selected(rows, function)
            case ast.NamedExpr(target=target, value=value) if _is(target, name):
                return self._value(value)
        return ""

    def _value(self, value: ast.expr) -> str | None:
        """The class of what a call gives: made by its class, or told by a function's annotation."""
        if not isinstance(value, ast.Call):
            return None
        made = dotted(value.func, self.names)
        if made in self.functions:
            return self._class(self.functions[made].returns)
        home, _, last = made.rpartition(".")
        for module in modules("engine", "bot"):
            if module.name == home:
                there = _Check(module)
                return there._class(there.functions[last].returns) if last in there.functions else made
        return None

    def _selected(self, rows: ast.expr, function: Function) -> str | None:
        """The one class that a loop's rows are selected from, in place or by a query that has a name."""
        used = {node.id for node in ast.walk(rows) if isinstance(node, ast.Name)}
        queries = [node.value for node in ast.walk(function) if isinstance(node, ast.Assign) and any(
            _is(target, name) for target in node.targets for name in used)]  # fmt: skip
        calls = [node for tree in (rows, *queries) for node in ast.walk(tree) if isinstance(node, ast.Call)]
        selects = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "select"]
        found = {dotted(call.args[0], self.names) for call in selects if len(call.args) == 1}
        return found.pop() if len(found) == 1 and len(selects) == 1 else None

    def _class(self, annotation: ast.expr | None) -> str | None:
        match annotation:
            case ast.BinOp(left=left, op=ast.BitOr(), right=ast.Constant(value=None)):
                return self._class(left)
            case ast.Name() | ast.Attribute():
                name = dotted(annotation, self.names)
                return name if "." in name else f"{self.module.name}.{name}"
        return None


def _is(target: ast.expr, name: str) -> bool:
    return isinstance(target, ast.Name) and target.id == name


def _constant(node: ast.expr) -> object:
    return node.value if isinstance(node, ast.Constant) else None


def test_nothing_but_the_machine_writes_a_state() -> None:
    assert [found for module in modules("engine", "bot") for found in violations(module)] == []


def test_the_machine_is_where_this_test_looks_and_does_write() -> None:
    (machine,) = [module for module in modules("engine") if module.path == MACHINE]
    (store,) = [module for module in modules("engine") if module.path == STORE]

    assert all(f"runs.{writer}(" in machine.text for writer in WRITERS)
    assert all(f"def {writer}(" in store.text for writer in WRITERS)
    assert violations(parse("engine/coordination/other.py", machine.text)) != []
    assert violations(parse("engine/store/other.py", store.text)) != []


@pytest.mark.parametrize(
    "body",
    [
        "def f(run: models.Run): run.state = RunState.COMPLETED",
        "def f(run: models.Run | None): run.state = RunState.COMPLETED",
        "def f(run: models.Run): run.leg, run.state = 'x', RunState.COMPLETED",
        "def f(attempt: models.Attempt): attempt.state = AttemptState.FINISHED",
        "def f(run): run.state = RunState.COMPLETED",
        "def f(session): session.get(models.Run, 1).state = RunState.COMPLETED",
        "def f(session):\n row = get(session)\n row.state = RunState.COMPLETED\ndef get(session) -> models.Run: ...",
        "def f(session):\n run = runs.get(session, 'x')\n run.state = RunState.COMPLETED",
        "def f(session):\n row = session.scalar(sa.select(models.Run))\n row.state = RunState.COMPLETED",
        "def f(session):\n for row in session.scalars(sa.select(models.Run)):\n  row.state = RunState.COMPLETED",
        "def f(session):\n q = sa.select(models.Run)\n for row in session.scalars(q):\n  row.state = 'x'",
        "def f(rows: list[models.Run]):\n for row in rows:\n  row.state = 'x'",
        "def f(session):\n if run := runs.active(session, 1):\n  run.state = 'x'",
        "def f(session):\n row = models.Inbox()\n row = runs.get(session, 'x')\n row.state = 'x'",
        "def f(session, run: models.Run): session.merge(run)",
        "def f(session): session.merge(models.Run(id='x', state=RunState.NEW))",
        "def f(row: models.Inbox):\n def g(row: models.Run): row.state = 1",
        "def f(run: models.Run): setattr(run, 'state', RunState.COMPLETED)",
        "def f(run: models.Run, name: str): setattr(run, name, RunState.COMPLETED)",
        "def f(session): session.execute(sa.update(models.Run).values(state='completed'))",
        "def f(session): session.execute(update(Attempt).values({'state': 'finished'}))",
        "def f(session): session.execute(sa.text('UPDATE run SET state = :s'))",
        "def f(session): session.bulk_update_mappings(models.Run, [])",
        "def f(session, run): runs.compare_and_set(session, run, state=RunState.COMPLETED)",
        "def f(session, run): compare_and_set(session, run, state=RunState.COMPLETED)",
        "def f(session): end = runs.end_attempt",
        "def f(): return models.Run(id='x', state=RunState.COMPLETED)",
        "def f(values): return models.Run(id='x', **values)",
        "def f(): return models.Run(id='x')",
        "def f(): return models.Attempt(id='x', state=AttemptState.FINISHED)",
        "TABLE = models.Run.__table__",
        "TABLE = models.Attempt.__table__\nEND = sa.update(TABLE)",
        "def f(session): session.execute(sa.update(models.Run.__table__))",
    ],
)
def test_every_way_around_the_machine_is_noticed(body: str) -> None:
    head = (
        "import sqlalchemy as sa\nfrom sqlalchemy import update\nfrom engine.store import models, runs\n"
        "from engine.store.models import Attempt\nfrom engine.store.runs import compare_and_set\n"
        "from engine.domain.states import AttemptState, RunState\n"
    )

    assert violations(parse("engine/coordination/escalation.py", f"{head}{body}\n")) != []


@pytest.mark.parametrize(
    "body",
    [
        "_END = sa.update(_ATTEMPT)\ndef f(session): session.execute(_END, {'state': 'finished'})",
        "_END = sa.update(models.Attempt)\n_OTHER = _END",
        "_RUNS = models.Run.__table__\ndef f(session): session.execute(sa.update(_RUNS))",
        "_ADD = {_ATTEMPT: sa.insert(_ATTEMPT)}\ndef end_attempt(session): session.execute(_ADD[_ATTEMPT])",
        "sa.update(_ATTEMPT)",
    ],
)
def test_a_statement_of_the_store_is_for_its_writers_only(body: str) -> None:
    head = "import sqlalchemy as sa\nfrom engine.store import models\n_ATTEMPT = models.Attempt.__table__\n"
    good = "_END = sa.update(_ATTEMPT)\ndef end_attempt(session): session.execute(_END)\n"

    assert violations(parse(STORE, f"{head}{body}\n")) != []
    assert violations(parse(STORE, f"{head}{good}")) == []


@pytest.mark.parametrize(
    "body",
    [
        "def f(row: models.Inbox): row.state = 'done'",
        "def f():\n row = make()\n row.state = 'x'\ndef make() -> models.Approval: ...",
        "def f(session):\n row = questions.approval_by_token(session, 'x')\n row.state = 'x'",
        "def f(session):\n q = sa.select(models.Outbox)\n for row in session.scalars(q): row.state = 'sending'",
        "def f(session): session.merge(models.MessageReference(key='x'))",
        "class Channel:\n def f(self): self.state = 'open'",
        "def f(): return models.Run(id='x', state=RunState.NEW)",
        "def f(run: models.Run): run.waits_for = run.state",
        "def f(session): machine.end_attempt(session, 'x')",
    ],
)
def test_what_writes_no_guarded_state_is_left_alone(body: str) -> None:
    head = (
        "import sqlalchemy as sa\nfrom engine.coordination import machine\n"
        "from engine.store import models, questions, runs\n"
        "from engine.domain.states import RunState\n"
    )

    assert violations(parse("engine/coordination/escalation.py", f"{head}{body}\n")) == []


def test_what_comes_late_is_kept_without_a_state() -> None:
    store = next(module for module in modules("engine") if module.path == STORE)
    (kept,) = [node for node in ast.walk(store.tree) if isinstance(node, Function) and node.name == EVIDENCE]

    assert kept.args.kwarg is None
    assert "state" not in {argument.arg for argument in (*kept.args.args, *kept.args.kwonlyargs)}
