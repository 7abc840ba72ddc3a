"""What coordination and orchestration ask of the adapters, as protocols, and the values that cross.

Adapters (triggers, runtime, secrets, gates, harness, runbooks) implement these; `engine.wiring` joins them.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from engine.domain.alert import Alert, Delivery
from engine.domain.chain import Head
from engine.domain.directory import Address
from engine.domain.gate import Check, Facts, Sample
from engine.domain.harness import NoteDraft
from engine.domain.incident import IncidentView
from engine.domain.journey import Journey
from engine.domain.runbook import SecretRef, Snapshot


class Clock(Protocol):
    """Time, so that tests can own it. `now` is aware and UTC."""

    def now(self) -> datetime: ...

    def sleep(self, seconds: float) -> None: ...


# -- triggers ---------------------------------------------------------------------------------------------------------


class Trigger(Protocol):
    """One source. Verify first, parse later: the two run in different transactions."""

    name: str
    max_bytes: int

    def verify(self, headers: Mapping[str, str], body: bytes) -> Delivery:
        """Authenticate a raw body, name its delivery key; raises Unauthenticated, TooLarge. Header names lower case."""

    def parse(self, body: bytes) -> tuple[Alert, ...]:
        """The alerts of an authenticated body; raises BadInput with a reason for a person."""


# -- runbooks ---------------------------------------------------------------------------------------------------------


class RunbookShelf(Protocol):
    """The runbooks folder. Files are read anew at each call: what counts is what is on disk now."""

    def names(self) -> tuple[str, ...]: ...

    def valid(self) -> tuple[str, ...]:
        """Names of the runbooks that read without a problem."""

    def read(self, name: str) -> Snapshot:
        """Parse, validate and lint; raises BadInput listing every problem with file, line and how to mend it."""

    def restore(self, source: str, files: Mapping[str, bytes]) -> Snapshot:
        """A snapshot from what a run stored; raises BadInput."""

    def matching(self, alert: Alert) -> tuple[str, ...]:
        """The runbooks whose trigger takes this alert. A broken file never matches."""


# -- runtime ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class FileIn:
    """A file put into the VM (on tmpfs) before the command starts. `path` is absolute."""

    path: str
    content: bytes
    mode: int = 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretValue:
    """A secret on its way into a VM: lands in /run/secrets/NAME (tmpfs, 0400). Never printed, never stored."""

    name: str
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """One egress permission: the guest dials `host:port`, the host connects to `address:address_port`.

    `address`: an IP literal, or a name that is resolved when the guest dials. `private`: such a name may lead to a
    private address. `never`: Signalbox's own ends, which it must not lead to.
    """

    host: str
    port: int
    address: str
    address_port: int
    private: bool = False
    never: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VmTask:
    """One command in one throw-away VM.

    `id` names the VM and is unique for ever (the attempt's or probe's id). `outlives_worker`: true for a changing
    step, whose VM must not die with a lost libvirt connection. `collect`: a guest directory whose regular files come
    back (at most `collect_limit` bytes in all). `cpu_percent`: of one processor, for the whole VM; 0: all that it has.
    `disk_mb`: all that it may write, in its memory; 0: half of that. `processes`: at once, threads included.
    `output_limit`: bytes of each of stdout and stderr. `egress_limit`: bytes of all connections, both ways.
    """

    id: str
    run_id: str
    image: str
    argv: tuple[str, ...]
    timeout_s: float
    memory_mb: int = 384
    vcpus: int = 1
    cpu_percent: int = 0
    disk_mb: int = 0
    processes: int = 256
    egress_limit: int = 1 << 30
    env: Mapping[str, str] = field(default_factory=dict)
    stdin: bytes = b""
    files: tuple[FileIn, ...] = ()
    secrets: tuple[SecretValue, ...] = ()
    reaches: tuple[Reach, ...] = ()
    outlives_worker: bool = False
    output_limit: int = 1 << 20
    collect: str | None = None
    collect_limit: int = 8 << 20


OUTLIVES_TIMEOUT_S = 330
""" However a worker dies, the VM of a task ends itself at most so long after the task's timeout, boot included. """


class Ending(enum.StrEnum):
    """How a VM task ended. NOT_BEGUN: the command was never started, so it changed nothing."""

    EXITED = "exited"
    SIGNALLED = "signalled"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    VM_LOST = "vm_lost"
    NOT_BEGUN = "not_begun"


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One connection that the egress proxy saw; or `count` refused alike, or ones too many to be listed."""

    host: str
    port: int
    allowed: bool
    bytes_up: int
    bytes_down: int
    seconds: float
    error: str = ""
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult:
    """What came back. `stdout`/`stderr` are redacted and cut at the limit. `files`: relative path -> bytes (raw).

    `reason` is empty only when the command itself ended it and nothing was missing: no limit was met, all files came.

    `received`: guest path -> digest of each FileIn as the guest itself hashed it.
    """

    ending: Ending
    code: int | None
    stdout: str
    stderr: str
    truncated: bool
    reason: str
    seconds: float
    files: Mapping[str, bytes] = field(default_factory=dict)
    received: Mapping[str, str] = field(default_factory=dict)
    connections: tuple[Connection, ...] = ()


class RedactingStream(Protocol):
    """Masks text that arrives in arbitrary chunks: holds back what could still become a secret."""

    def feed(self, chunk: str) -> str: ...

    def close(self) -> str: ...


class Redactor(Protocol):
    """Masks every known secret value in every common encoding, and patterns of well-known tokens."""

    def __call__(self, text: str) -> str: ...

    def stream(self) -> RedactingStream: ...


class Hypervisor(Protocol):
    """Runs one command in one throw-away VM. The VM is destroyed before `run` returns, whatever happened."""

    def run(self, task: VmTask, redactor: Redactor, on_output: Callable[[str], None]) -> TaskResult:
        """Never raises for what the guest does; raises Unavailable when no VM can be had (nothing was begun)."""

    def destroy(self, task_id: str) -> bool:
        """Destroy the VM of a task, if there is one. Returns whether there was."""

    def sweep(self, living: Callable[[], Collection[str]] = tuple) -> tuple[str, ...]:
        """Destroy every VM of this host's that no living worker process works with; returns their task ids.

        Who lives is asked after the VMs were listed: a process is known before it has its first VM, so one that begins
        meanwhile loses none. Raises Unavailable, and whatever `living` raises; nothing is destroyed then.
        """

    def destroy_all_of(self, run_id: str) -> tuple[str, ...]:
        """Destroy every VM of this host's that works for a run; returns their task ids. Raises Unavailable."""

    def image_digest(self, image: str) -> str:
        """Hash the image's files as they are on disk now; raises BadInput with the command that builds it."""

    def reachable(self) -> None:
        """Return quickly when a VM could be asked for now; raises Unavailable with a remedy."""

    def shortage(self) -> str:
        """Why a step would have to wait for memory now; empty when it would not. Being busy is not being unwell."""


# -- secrets ----------------------------------------------------------------------------------------------------------


class SecretJournal(Protocol):
    """Where every act with a secret is recorded, each in its own committed transaction, before or right after it."""

    def minting(self, *, run_id: str, attempt_id: str, policy: str, paths: Collection[str]) -> None: ...

    def minted(self, *, run_id: str, attempt_id: str, kind: str, accessor: str) -> None: ...

    def read(self, *, run_id: str, attempt_id: str, name: str, path: str, request_id: str) -> None: ...

    def revoked(self, *, accessor: str) -> None: ...

    def revoke_failed(self, *, accessor: str, reason: str) -> None: ...


class OpenGrant(Protocol):
    """Live secrets of one attempt. `close` revokes and proves death; raises Refused when it could not."""

    @property
    def values(self) -> tuple[SecretValue, ...]: ...

    @property
    def redactor(self) -> Redactor: ...

    def close(self) -> None: ...


class Secrets(Protocol):
    """Grants -> short-lived credentials."""

    def open(
        self, *, runbook: str, run_id: str, leg: str, attempt_id: str, refs: tuple[SecretRef, ...], timeout_s: float
    ) -> OpenGrant:
        """Mint, check the token's reach, read. Raises Unavailable (Vault down), Refused (denied, too wide, missing)."""

    def redactor(self) -> Redactor:
        """A redactor that knows every value handed out in this process's life, and the patterns."""

    def revoke_run(self, run_id: str) -> None:
        """The kill switch: everything minted for this run dies."""

    def recover(self, accessors: Collection[str]) -> None:
        """After a crash: revoke these accessors and prove them dead."""

    def reachable(self) -> None:
        """Return quickly when secrets could be had now; raises Unavailable with a remedy."""


# -- gates ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeAnswer:
    """What a verifier's command gave. `reason` is set when it could not be run at all."""

    ran: bool
    code: int | None
    stdout: str
    stderr: str
    reason: str = ""


class Probe(Protocol):
    """Runs a command on a target as the verifier, in a VM of its own. Bound to one run and gate by orchestration."""

    def __call__(self, target: str, argv: tuple[str, ...], timeout_s: float) -> ProbeAnswer: ...


class Measure(Protocol):
    """One gate kind: measures once. Never raises for what it measures: a broken measurement is a Sample of ERROR."""

    def __call__(self, check: Check, facts: Facts, probe: Probe) -> Sample: ...


GateKinds = Mapping[str, Measure]


# -- harness ----------------------------------------------------------------------------------------------------------


class Harness(Protocol):
    """From a note to a patch that a person applies."""

    def number(self, at_least: int) -> int:
        """The number for a new note: `at_least`, or more when agents.md has come further."""

    def patch(self, note: NoteDraft, incident: IncidentView, journey: Journey) -> str:
        """A unified diff for the repository's root. Raises BadInput or Conflict with what is missing."""


# -- evidence ---------------------------------------------------------------------------------------------------------


class Anchor(Protocol):
    """Keeps the heads of all chains outside the database, signed."""

    def keep(self, heads: Mapping[int, Head], now: datetime) -> tuple[str, ...]:
        """Keep what is new among the heads of all incidents, by number; safe on disk when this returns.

        Returns, in words, what contradicts what was kept before: chains that were cut, rewritten or removed. Raises
        Unavailable when it cannot be written.
        """
