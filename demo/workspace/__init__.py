"""A workspace that stands in for Slack: the demo and the tests run against it with the real slack_sdk and slack_bolt.

It enforces what Slack enforces and is no more than that: one workspace, one app, state in memory (or one JSON file).
"""

from demo.workspace.model import Person
from demo.workspace.server import ANA, BEN, BOT, CLEO, PEOPLE, Workspace

__all__ = ["ANA", "BEN", "BOT", "CLEO", "PEOPLE", "Person", "Workspace"]
