"""Who may do what in the database, on a Postgres with three roles: `signalbox database grants` prints it as SQL.

The owner runs `signalbox migrate` and nothing else; the bot (`signalbox web`) is asked and told; the worker (`signalbox
worker`) drives runs. Each may do with a table what its code does, and no more: a worker that was broken into decides
nothing for a person, a bot that was broken into measures nothing, and neither edits history.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from engine.domain.errors import BadInput
from engine.store import models
from engine.store.models import Base

BOT, WORKER = "signalbox_bot", "signalbox_worker"
MAX_NAME = 63
""" Bytes of a name that Postgres keeps. """


@dataclass(frozen=True, slots=True)
class May:
    """What one role does with the rows of a table. `read`: all columns, or those named. `change`: those named."""

    read: bool | tuple[str, ...] = True
    add: bool = False
    change: tuple[str, ...] = ()
    remove: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are named."""
        return (*(self.read if isinstance(self.read, tuple) else ()), *self.change)

    def privileges(self) -> tuple[str, ...]:
        """As Postgres spells them."""
        found = ["SELECT"] if self.read is True else []
        if isinstance(self.read, tuple):
            found.append(f"SELECT ({_listed(self.read)})")
        if self.add:
            found.append("INSERT")
        if self.change:
            found.append(f"UPDATE ({_listed(self.change)})")
        if self.remove:
            found.append("DELETE")
        return tuple(found)


NOTHING, LOOK, KEEP = May(read=False), May(), May(add=True)


@dataclass(frozen=True, slots=True)
class Rule:
    """What both roles may do with one table, and why. `serial`: its column that counts by a sequence, if any."""

    why: str
    bot: May
    worker: May
    serial: str = ""


RUN_MOVES = ("state", "leg", "version", "waits_for", "ended_at", "worker", "not_before", "wake_at")
""" What a move writes. Never the runbook that a run keeps, its inputs, or who chose it. """
CHAIN_GROWS = ("head_seq", "head_hash")

OURS: Mapping[type[Base], Rule] = {
    models.Inbox: Rule(
        "Bodies of alerts are kept and worked off by the bot.",
        bot=May(add=True, change=("state", "reason")),
        worker=NOTHING,
    ),
    models.Incident: Rule(
        "The bot opens and closes; a worker closes when every gate held. Whoever adds an event moves the head.",
        bot=May(add=True, change=("state", "closed_at", "choose_token", *CHAIN_GROWS)),
        worker=May(change=("state", "closed_at", *CHAIN_GROWS)),
    ),
    models.Alert: Rule(
        "Only a source says that an alert is over; a worker asks before it changes a target.",
        bot=May(add=True, change=("incident_number", "status", "ends_at", "seen_at")),
        worker=LOOK,
    ),
    models.Event: Rule("History: added to, never changed.", bot=KEEP, worker=KEEP),
    models.Note: Rule("What people wrote afterwards: never changed, and no worker's business.", KEEP, NOTHING),
    models.Run: Rule(
        "The bot opens runs, and a person's decision gives one more time. Both move what is there.",
        bot=May(add=True, change=(*RUN_MOVES, "deadline_at")),
        worker=May(change=RUN_MOVES),
    ),
    models.Artefact: Rule("Steps make artefacts; the bot looks whether the approved one is still itself.", LOOK, KEEP),
    models.Attempt: Rule(
        "Only a worker starts one; what it was started for is never changed. Abandoning a run gives it up.",
        bot=May(change=("state", "ended_at", "reason")),
        worker=May(
            add=True,
            change=(
                *("state", "ended_at", "reason", "stdout", "stderr", "output"),
                *("connections", "artefact_digest", "late"),
            ),
        ),
    ),
    models.AttemptLog: Rule(
        "A worker tells what an attempt prints while it runs; the bot shows it.",
        bot=LOOK,
        worker=May(add=True, change=("text", "updated_at")),
    ),
    models.AgentConversation: Rule(
        "A worker keeps what an agent said and used. The bot closes one whose run a person ended or halted.",
        bot=May(change=("closed_at",)),
        worker=May(add=True, change=("messages", "requests", "tokens", "microdollars", "closed_at")),
    ),
    models.AgentCall: Rule(
        "A worker keeps each call before it makes it. Never what was asked for; whether it may be made, people say.",
        bot=LOOK,
        worker=May(add=True, change=("state", "answer", "asked_at", "begun_at", "ended_at")),
    ),
    models.GateVerdict: Rule("Only a worker measures, and what it found is never changed.", LOOK, KEEP),
    models.TargetLock: Rule(
        "A worker takes targets; whoever ends a run gives them back.", May(remove=True), May(add=True, remove=True)
    ),
    models.VaultToken: Rule(
        "Tokens are minted and buried by workers; the bot has nothing to do with them.",
        bot=NOTHING,
        worker=May(add=True, change=("revoked_at", "failure")),
    ),
    models.Approval: Rule(
        "A worker asks, uses up a yes, or voids it. Never what was asked, never who answered.",
        bot=May(
            add=True,
            change=("state", "reason", "decided_by", "decided_name", "decided_at", "expires_at", "warned_at"),
        ),
        worker=May(add=True, change=("state", "reason")),
    ),
    models.Escalation: Rule(
        "A worker that halts asks; people answer, put off and are reminded by the bot.",
        bot=May(
            add=True,
            change=(
                *("decided", "decided_by", "decided_name", "decided_at", "reason"),
                *("remind_at", "reminders", "expired_at"),
            ),
        ),
        worker=KEEP,
    ),
    models.PersonDecision: Rule(
        "What people decided comes in by the bot alone. A worker looks: the triggers do, by its rights.", KEEP, LOOK
    ),
    models.Activation: Rule(
        "Who owns the tables says which edition of a runbook may start. The bot looks before it opens a run.",
        bot=LOOK,
        worker=NOTHING,
    ),
    models.KillSwitch: Rule("People throw it, by the bot. A worker looks before every start.", KEEP, LOOK),
    models.Outbox: Rule(
        "Both tell; the bot sends. One waiting row of a key serves for all: it is locked by writing its key again.",
        bot=May(add=True, change=("key", "state", "attempts", "ambiguous", "not_before", "error")),
        worker=May(read=("key",), add=True, change=("key",)),
    ),
    models.MessageReference: Rule("Where a message is in Slack.", May(add=True, change=("channel", "ts")), NOTHING),
    models.Seen: Rule("What Slack sent already; old rows go.", May(add=True, remove=True), NOTHING),
    models.Worker: Rule(
        "Workers say that they live, and declare one another dead.",
        bot=LOOK,
        worker=May(add=True, change=("alive_until", "ended_at")),
    ),
    models.Move: Rule(
        "Events name its rows; that is checked by the owner's rights. Nobody changes it.", NOTHING, NOTHING
    ),
}

OTHERS: Mapping[str, Rule] = {
    "alembic_version": Rule("Each start asks whether the database is at this release's revision.", LOOK, LOOK),
    "procrastinate_jobs": Rule(
        "Both send wake-ups; a worker takes and ends them.",
        bot=May(read=("id",), add=True),
        worker=May(add=True, change=("status", "worker_id", "attempts", "abort_requested"), remove=True),
        serial="id",
    ),
    "procrastinate_events": Rule(
        "Triggers of its own write them for each job.",
        May(read=False, add=True),
        May(read=False, add=True),
        serial="id",
    ),
    "procrastinate_workers": Rule(
        "Its own heartbeats.", NOTHING, May(add=True, change=("last_heartbeat",), remove=True)
    ),
    "procrastinate_periodic_defers": Rule(
        "The sweep, once a minute.", NOTHING, May(add=True, change=("job_id",), remove=True), serial="id"
    ),
}

SENDS = ("procrastinate_defer_jobs_v1",)
TAKES = (
    *SENDS,
    "procrastinate_defer_periodic_job_v2",
    "procrastinate_fetch_job_v2",
    "procrastinate_finish_job_v1",
    "procrastinate_register_worker_v1",
    "procrastinate_unregister_worker_v1",
    "procrastinate_update_heartbeat_v1",
    "procrastinate_prune_stalled_workers_v1",
)
TYPES = ("procrastinate_job_to_defer_v1", "procrastinate_job_status", "procrastinate_job_event_type")


def rules() -> Mapping[str, Rule]:
    """Name of each table -> its rule."""
    return {model.__tablename__: rule for model, rule in OURS.items()} | dict(OTHERS)


def script(*, bot: str = BOT, worker: str = WORKER, database: str) -> str:
    """The SQL that the owner of the tables runs, after each migration; repeatable, and all of it or nothing.

    Raises BadInput for a name that is none, or one role for both.
    """
    if bot == worker:
        raise BadInput("the bot and the worker need a role each", "give --bot and --worker different names")
    roles = ", ".join((_name(bot), _name(worker)))
    lines = [
        "-- run as the owner of the tables after each `signalbox migrate`:",
        "--   signalbox database grants | psql --set ON_ERROR_STOP=1 DATABASE",
        "BEGIN;",
        _no_owner(bot, worker),
        f"REVOKE ALL ON DATABASE {_name(database)} FROM PUBLIC, {roles};",
        f"GRANT CONNECT ON DATABASE {_name(database)} TO {roles};",
        f"REVOKE ALL ON SCHEMA public FROM PUBLIC, {roles};",
        f"GRANT USAGE ON SCHEMA public TO {roles};",
        *(f"REVOKE ALL ON ALL {what} IN SCHEMA public FROM PUBLIC, {roles};" for what in ("TABLES", "SEQUENCES")),
        f"REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC, {roles};",
        f"GRANT USAGE ON TYPE {', '.join(map(_name, TYPES))} TO {roles};",
        f"GRANT EXECUTE ON FUNCTION {', '.join(map(_name, SENDS))} TO {_name(bot)};",
        f"GRANT EXECUTE ON FUNCTION {', '.join(map(_name, TAKES))} TO {_name(worker)};",
    ]
    for table, rule in sorted(rules().items()):
        lines += ["", f"-- {table}: {rule.why}"]
        lines += _granted(table, rule.bot, rule, bot)
        lines += _granted(table, rule.worker, rule, worker)
    return "\n".join([*lines, "", "COMMIT;", ""])


def _granted(table: str, may: May, rule: Rule, role: str) -> Iterator[str]:
    privileges = may.privileges()
    if privileges:
        yield f"GRANT {', '.join(privileges)} ON TABLE {_name(table)} TO {_name(role)};"
    serial = rule.serial or _serial(table)
    if may.add and serial:
        yield f"GRANT USAGE ON SEQUENCE {_name(f'{table}_{serial}_seq')} TO {_name(role)};"


def _serial(table: str) -> str:
    """The column of a table of ours that counts by a sequence."""
    ours = Base.metadata.tables.get(table)
    column = ours.autoincrement_column if ours is not None else None
    return column.name if column is not None else ""


def _no_owner(bot: str, worker: str) -> str:
    """Whoever owns a table, or may become its owner, is bound by no grant."""
    names = ", ".join(f"'{name}'" for name in (bot, worker))
    return (
        "DO $$ BEGIN\n"
        "  IF EXISTS (SELECT FROM pg_class JOIN pg_roles ON pg_has_role(pg_roles.oid, relowner, 'MEMBER')\n"
        f"             WHERE relnamespace = 'public'::regnamespace AND rolname IN ({names})) THEN\n"
        "    RAISE EXCEPTION 'the bot or the worker owns tables, is a superuser, or a member of their owner';\n"
        "  END IF;\n"
        "END $$;"
    )


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(map(_name, names))


def _name(name: str) -> str:
    """As an identifier. Raises BadInput for what cannot be one: it goes into SQL, and into a literal."""
    plain = name.isprintable() and not set(name) & set("\"'$\\")
    if not plain or not 0 < len(name.encode()) <= MAX_NAME:
        raise BadInput(f"{name[:80]!r} is no name for a role or a database", "use letters, digits and _")
    return f'"{name}"'
