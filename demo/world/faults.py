"""What can be wrong with the world: `make demo BREAK=NAME`."""

from __future__ import annotations

import enum


class Fault(enum.StrEnum):
    """One thing that goes wrong. What each must end in stands in demo/plays.py."""

    NONE = "none"
    DIAGNOSIS = "diagnosis"  # a big file that is no log fills production: no known cause
    STAGING = "staging"  # staging has such a file too, so the fix does not make enough room there
    NODATA = "nodata"  # Prometheus dies; when, demo/plays.py decides
    PRODUCTION = "production"  # production runs an older release, which does not know the key that the fix sets
    TAMPER = "tamper"  # the world is as ever; demo/tampering.py changes what was approved
