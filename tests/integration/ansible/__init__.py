"""Playbooks in VMs, on a real target."""
