"""The formats, by the path of their requests."""

from collections.abc import Mapping

from engine.agents.replay.wires.chat import Chat
from engine.agents.replay.wires.messages import Messages
from engine.agents.replay.wires.responses import Responses
from engine.agents.replay.wires.wire import Wire

_ALL: tuple[Wire, ...] = (Messages(), Chat(), Responses())
WIRES: Mapping[str, Wire] = {wire.path: wire for wire in _ALL}
