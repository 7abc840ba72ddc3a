"""Everything of the outside that driving a run needs, joined by `engine.wiring`; and what is true there right now."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from engine.coordination.opening import files_of
from engine.coordination.orders import World
from engine.domain.directory import Directory
from engine.domain.errors import BadInput
from engine.domain.journey import Journey, plan
from engine.domain.ports import Clock, GateKinds, Hypervisor, RunbookShelf, Secrets, Trigger
from engine.domain.runbook import ScriptStep, Snapshot
from engine.domain.runners import Agents, ProbeRunner, Runner
from engine.store import models


class SystemClock:
    """Real time. `sleep` ends early when the process stops."""

    def __init__(self) -> None:
        self.stopping = threading.Event()

    def now(self) -> datetime:
        """Now, aware, UTC."""
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        """Wait, or return at once when the process stops."""
        self.stopping.wait(seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapters:
    """The adapters, by protocol. `directory` reads the file anew: what counts is what is configured now.

    `agents`: None where no models are configured. `only_activated`: no runbook starts but as it was activated.
    `engine.wiring` says both from the settings.
    """

    clock: Clock
    triggers: Mapping[str, Trigger]
    shelf: RunbookShelf
    hypervisor: Hypervisor
    runner: Runner
    probe_runner: ProbeRunner
    secrets: Secrets
    gate_kinds: Callable[[Directory], GateKinds]
    directory: Callable[[], Directory]
    agents: Agents | None = None
    only_activated: bool = False

    def snapshot(self, run: models.Run) -> tuple[Snapshot, Journey]:
        """The runbook that this run started with. Raises BadInput when what was stored is no valid runbook any more."""
        snapshot = self.shelf.restore(run.source, files_of(run))
        if snapshot.digest != run.runbook_digest:
            raise BadInput("the runbook stored with this run is not the one it started with", "abandon this run")
        return snapshot, plan(snapshot.runbook)

    def world(self, snapshot: Snapshot) -> World:
        """What is true outside the database now. It hashes images and files: keep it out of transactions."""
        digests: dict[str, str] = {}
        errors: dict[str, str] = {}
        for image in {step.image for step in snapshot.runbook.steps if isinstance(step, ScriptStep)}:
            try:
                digests[image] = self.hypervisor.image_digest(image)
            except BadInput as error:
                errors[image] = str(error)
        try:
            on_shelf: str | None = self.shelf.read(snapshot.runbook.name).digest
        except BadInput:
            on_shelf = None
        return World(
            directory=self.directory(),
            images=digests,
            image_errors=errors,
            shelf_digest=on_shelf,
            runner_version=self.runner.version,
            content=self.runner.content,
            preview=self.runner.preview,
        )
