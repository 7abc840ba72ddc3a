"""One VM, from its birth to its proved death, and the workshop that makes them. Used by hypervisor and pool.

A machine is born knowing nothing of any step: mark, egress, files and secrets come when it is given its task.
"""

from __future__ import annotations

import functools
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from engine.domain.errors import Refused, Unavailable
from engine.runtime import domain_xml, image
from engine.runtime.channel import Channel, GuestRefused
from engine.runtime.domain_xml import TB_CACHE_MB, WAITING, Mark
from engine.runtime.egress import Egress
from engine.runtime.frames import BrokenProtocol, Kind
from engine.runtime.host import Host
from engine.runtime.streams import ChannelEnded
from engine.runtime.template import Templates
from engine.runtime.transport import Transport

log = structlog.get_logger()

OVERHEAD_MB = 64  # QEMU itself
WAKES_WITHIN_S = 5.0
WARM_TIMEOUT_S = 120.0
# what steps are made of, run once: page cache, translated code. One that is not in the image is passed over.
WARM_UP = """python3 -c 'import json, ssl, subprocess, urllib.request'
for tool in curl jq git ssh; do $tool --version || $tool -V; done"""
GUEST_FAILED = (ChannelEnded, BrokenProtocol, GuestRefused)


@dataclass(frozen=True, slots=True, kw_only=True)
class Make:
    """Of what make a VM is: only VMs of one make can stand in for one another.

    `signature`: the image's files as they are on disk. `outlives_worker`: libvirt does not destroy it with our
    connection. That cannot be changed while it runs, so VMs for changing steps are another make from the start.
    """

    image: str
    signature: str
    memory_mb: int
    kvm: bool
    outlives_worker: bool
    vcpus: int = 1

    @property
    def cost_mb(self) -> int:
        """The most memory that it takes from this machine."""
        return self.memory_mb + OVERHEAD_MB + (0 if self.kvm else TB_CACHE_MB)


class Machine:
    """A VM that exists, or is about to. `id`: libvirt's uuid."""

    def __init__(self, host: Host, make: Make, egress: Egress | None = None) -> None:
        self.id = str(uuid.uuid4())
        self.make = make
        self.born_at = time.monotonic()
        self.transport = Transport()
        self.channel = Channel(self.transport.write, egress or Egress(()))
        self._host = host
        self._share: int | None = None

    def boot(self, xml: str) -> None:
        """Start it; its agent greets when it is up. Raises Unavailable."""
        self._host.hold(self.id)
        self._host.start(xml, dies_with_us=not self.make.outlives_worker)
        self._host.open_line(self.id, self.transport, self.channel)

    def yield_to_others(self) -> None:
        """Until it wakes for its task, everybody else's work goes first. Never raises."""
        self._share = self._host.yield_to_others(self.id)

    def warm_up(self, boot_timeout_s: float) -> None:
        """Wait until it has booted, and run the tools of a step once. Raises Unavailable."""
        try:
            self.channel.hello(boot_timeout_s)
            stream = self.channel.open()
            self.channel.execute(stream, ("sh", "-c", WARM_UP), {}, ())
            self.channel.end_of_input(stream)
            deadline = time.monotonic() + WARM_TIMEOUT_S
            while (frame := stream.answer(max(0.0, deadline - time.monotonic()))).kind not in {Kind.EXIT, Kind.ERR}:
                stream.acknowledge(frame)
            self.channel.forget(stream)
        except GUEST_FAILED as error:
            raise Unavailable(f"a VM for the pool did not get ready: {error}") from None

    def clone(self, restore: Callable[[str, Mark], None], mark: Mark) -> None:
        """Become a clone of a saved one, which `restore` makes under a uuid and a mark. Raises Unavailable."""
        self._host.hold(self.id)
        restore(self.id, mark)
        self._host.open_line(self.id, self.transport, self.channel)
        self._ping()

    def rest(self) -> None:
        """Let it wait for another line, and give ours up: so it can be saved. Raises Unavailable."""
        try:
            self.channel.rest()
        except GUEST_FAILED as error:
            raise Unavailable(f"a VM could not be laid to rest: {error}") from None
        self._host.close_line(self.transport, self.channel)

    def pause(self) -> None:
        """Stop its processors: it costs no time from here on. Raises Unavailable."""
        self._host.pause(self.id)

    def wake(self) -> None:
        """Go on, and prove that it answers. Raises Unavailable."""
        if self._share is not None:
            self._host.give_share(self.id, self._share)
        self._host.resume(self.id)
        self._ping()

    def _ping(self) -> None:
        try:
            self.channel.ping(WAKES_WITHIN_S)
        except GUEST_FAILED as error:
            raise Unavailable(f"a VM of the pool did not wake up: {error}") from None

    def work_for(self, mark: Mark, egress: Egress) -> None:
        """It has a task from here on, and libvirt knows which. Raises Unavailable."""
        self._host.mark(self.id, mark)
        self.channel.grant(egress)

    def limit_cpu(self, percent: int) -> bool:
        """Hold it to so much of one processor; whether it is held to it now. Never raises."""
        return self._host.limit_cpu(self.id, percent)

    def end(self) -> bool:
        """Destroy it; whether it is proved gone. Never raises."""
        self._host.close_line(self.transport, self.channel)
        try:
            return self._host.prove_gone(self.id)
        finally:
            self._host.let_go(self.id)  # where it is not proved gone, the next sweep finds it


class Workshop:
    """Makes VMs of one installation. `process`: who works with them. Without `templates` every VM boots."""

    def __init__(self, host: Host, images: Path, owner: str, process: str, templates: Templates | None = None) -> None:
        self._host, self._images = host, images
        self.owner, self.process = owner, process
        self._templates = templates if templates is not None and templates.possible() else None
        self._digests: dict[str, str] = {}  # signature -> digest of the image

    def mark(self, task: str, run: str) -> Mark:
        """The mark of a VM that works for this task."""
        return Mark(owner=self.owner, process=self.process, task=task, run=run, since=int(time.time()))

    def make(self, image_name: str, memory_mb: int, *, vcpus: int = 1, kvm: bool, outlives_worker: bool) -> Make:
        """The make of a VM as it would be made now. Raises BadInput: no image, or QEMU may not read it; Unavailable."""
        files = image.parts(self._images, image_name)
        user = self._host.qemu_user()
        if user is not None:
            image.check_readable(files, *user)
        return Make(
            image=image_name,
            signature=image.signature(files),
            memory_mb=memory_mb,
            vcpus=vcpus,
            kvm=kvm,
            outlives_worker=outlives_worker,
        )

    def is_current(self, make: Make) -> bool:
        """Whether the image is still the one on disk. Raises BadInput when there is none any more."""
        return image.signature(image.parts(self._images, make.image)) == make.signature

    def fresh(
        self, make: Make, mark: Mark, egress: Egress | None = None, attend: Callable[[Channel], None] = lambda _: None
    ) -> Machine:
        """A new VM, as fast as can be: a clone where there is a template, or else a boot that may still go on.

        `attend` gets its channel before anything is started. Raises Unavailable, BadInput; nothing is left then.
        """
        template = self._template(make)
        if template is not None and self._templates is not None:
            restore = functools.partial(self._templates.restore, template)
            try:
                return self._begun(Machine(self._host, make, egress), attend, lambda one: one.clone(restore, mark))
            except (Unavailable, Refused) as error:
                log.warning("no clone; the VM boots", why=str(error))
        return self._begun(
            Machine(self._host, make, egress), attend, lambda one: one.boot(self._xml(make, mark, one.id))
        )

    def _begun(self, machine: Machine, attend: Callable[[Channel], None], begin: Callable[[Machine], None]) -> Machine:
        attend(machine.channel)
        try:
            begin(machine)
        except BaseException:
            machine.end()
            raise
        return machine

    def _xml(self, make: Make, mark: Mark, domain_id: str) -> str:
        files = image.parts(self._images, make.image)
        user = self._host.qemu_user()
        return domain_xml.domain(
            mark, domain_id, files, memory_mb=make.memory_mb, vcpus=make.vcpus, kvm=make.kvm, qemu_user=user
        )

    # -- templates

    def _key(self, make: Make) -> str:
        if make.signature not in self._digests:
            self._digests[make.signature] = image.image_digest(self._images, make.image)
        # each clone gets its own mark, but for whose it is: that is also in its command line
        nobody = Mark(owner=self.owner, process="nobody", task="template", run=WAITING)
        assert self._templates is not None  # noqa: S101 - asked for where there are templates only
        return self._templates.key(self._digests[make.signature], self._xml(make, nobody, ""))

    def _template(self, make: Make) -> Path | None:
        """The template of this make; None when there is none, or the image changed."""
        if self._templates is None or not self.is_current(make):
            return None
        return self._templates.find(self._key(make))

    def _save_template(self, make: Make, boot_timeout_s: float, attend: Callable[[Channel], None]) -> None:
        """Boot a VM that will never see a task, let it run its tools once, and save it."""
        assert self._templates is not None  # noqa: S101 - as above
        key = self._key(make)
        machine = Machine(self._host, make)
        attend(machine.channel)
        try:
            machine.boot(self._xml(make, self.mark(f"template-{machine.id}", WAITING), machine.id))
            machine.yield_to_others()
            machine.warm_up(boot_timeout_s)
            machine.rest()
            if not self.is_current(make):
                raise Unavailable(f"image {make.image} changed while a VM booted from it")
            try:
                self._templates.save(key, machine.id)
            except Unavailable as error:
                log.warning("no VM can be saved here; from now on every VM boots", why=str(error))
                self._templates = None
        finally:
            machine.end()

    def for_the_pool(self, make: Make, boot_timeout_s: float, attend: Callable[[Channel], None]) -> Machine:
        """A VM that ran its tools once, knows nothing of any step, and stands still. Raises Unavailable, BadInput.

        `attend` gets the channel of each VM that is begun: ending it ends this soon.
        """
        if self._templates is not None and self._template(make) is None:
            self._save_template(make, boot_timeout_s, attend)
        machine = self.fresh(make, self.mark(f"waiting-{uuid.uuid4()}", WAITING), attend=attend)
        try:
            machine.yield_to_others()
            machine.warm_up(boot_timeout_s)
            if not self.is_current(make):
                raise Unavailable(f"image {make.image} changed while a VM booted from it")
            machine.pause()
        except BaseException:
            machine.end()
            raise
        return machine
