"""Real VMs for the tests of the runtime."""

from tests.plugins_vm import hypervisor, vm_images

__all__ = ["hypervisor", "vm_images"]
