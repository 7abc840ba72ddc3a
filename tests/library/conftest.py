"""Runs of the library's runbooks on real targets. What they came to is written down for docs/runbooks.md."""

from __future__ import annotations

from tests.plugins_vm import vm_images

__all__ = ["vm_images"]
