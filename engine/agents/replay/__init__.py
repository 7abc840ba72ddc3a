"""A model of our own making: a local server that speaks what models speak, and says what is written on a tape."""

from engine.agents.replay.conversation import Answered, Call, Fault, Model, Request, Turn, UserSaid
from engine.agents.replay.scripted import ScriptedModel, call, say
from engine.agents.replay.server import ReplayServer
from engine.agents.replay.tape import Tape, read_tape

__all__ = [
    "Answered",
    "Call",
    "Fault",
    "Model",
    "ReplayServer",
    "Request",
    "ScriptedModel",
    "Tape",
    "Turn",
    "UserSaid",
    "call",
    "read_tape",
    "say",
]
