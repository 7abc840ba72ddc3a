#!/usr/bin/env python3
"""Step `request`: reads the change request strictly, and says what it asks for in numbers. Touches no host.

Reads /step/inputs.json. Whatever is not exactly a request is refused: no key too many, no number written oddly.
"""

import json
import re
import sys
from pathlib import Path

NUMBER = re.compile(r"[1-9][0-9]{1,3}", re.ASCII)
SMALLEST_GB, LARGEST_GB = 10, 2000
TIERS, WORDS = ("standard", "fast"), ("yes", "no")
KEYS = {"size_gb", "was_gb", "tier", "was_tier", "allow_replace"}


def parsed(raw: object) -> dict[str, object]:
    """The request; raises ValueError for anything else."""
    if not isinstance(raw, dict) or set(raw) != KEYS:
        raise ValueError(f"a request has exactly {', '.join(sorted(KEYS))}")
    sizes = {}
    for key in ("size_gb", "was_gb"):
        if not isinstance(raw[key], str) or not NUMBER.fullmatch(raw[key]):
            raise ValueError(f"{key} is no whole number of GB")
        sizes[key] = int(raw[key])
        if not SMALLEST_GB <= sizes[key] <= LARGEST_GB:
            raise ValueError(f"{key} is not between {SMALLEST_GB} and {LARGEST_GB}")
    if raw["tier"] not in TIERS or raw["was_tier"] not in TIERS or raw["allow_replace"] not in WORDS:
        raise ValueError("tier, was_tier or allow_replace is a word that is not known")
    return {**sizes, "tier": raw["tier"], "was_tier": raw["was_tier"], "allow_replace": raw["allow_replace"] == "yes"}


def main() -> None:
    """Say it, as the last line."""
    try:
        request = parsed(json.loads(Path("/step/inputs.json").read_text()))
    except (OSError, ValueError) as error:
        sys.exit(f"no change request: {error}")
    print(json.dumps(request))


if __name__ == "__main__":
    main()
