"""What a VM of its own costs a step: `make bench-vm` measures, and writes docs/benchmarks-vm.md.

Beside ours, in the same minutes: QEMU started directly, and libvirt alone with the same domain.
"""
