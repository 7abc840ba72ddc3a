"""The model proxy: the one place that has a provider's key. Used by the loop of an agent step, and by a coding CLI.

Each agent step gets a door of its own: a unix socket and a loopback port that only a token of that step opens, to one
model, within the step's budget, until it is closed.
"""

from engine.agents.proxy.door import LOOPBACK, Door, ModelProxy, Threshold

__all__ = ["LOOPBACK", "Door", "ModelProxy", "Threshold"]
