"""The tables. Invariants that must survive a bug in our code live here: CHECKs, unique and partial unique indexes,
append-only triggers (in the migrations), and the table of moves that every event of a run names by foreign key."""

from engine.store.models.agent import AgentCall, AgentConversation
from engine.store.models.base import Base
from engine.store.models.fleet import Worker
from engine.store.models.incident import Alert, Event, Inbox, Incident, Note
from engine.store.models.people import Activation, Approval, Escalation, KillSwitch, PersonDecision
from engine.store.models.run import Artefact, Attempt, AttemptLog, GateVerdict, Move, Run, TargetLock, VaultToken
from engine.store.models.talk import MessageReference, Outbox, Seen

__all__ = [
    "Activation",
    "AgentCall",
    "AgentConversation",
    "Alert",
    "Approval",
    "Artefact",
    "Attempt",
    "AttemptLog",
    "Base",
    "Escalation",
    "Event",
    "GateVerdict",
    "Inbox",
    "Incident",
    "KillSwitch",
    "MessageReference",
    "Move",
    "Note",
    "Outbox",
    "PersonDecision",
    "Run",
    "Seen",
    "TargetLock",
    "VaultToken",
    "Worker",
]
