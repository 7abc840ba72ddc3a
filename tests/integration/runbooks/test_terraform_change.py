"""The first of the seven stages: a change request is read strictly, or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REQUEST = Path(__file__).parents[3] / "runbooks" / "terraform-change" / "request.py"
GOOD = {"size_gb": "60", "was_gb": "40", "tier": "standard", "was_tier": "standard", "allow_replace": "no"}


def _asked(raw: Any, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """The script with these inputs, its one path pointing here."""
    inputs, script = tmp_path / "inputs.json", tmp_path / "request.py"
    inputs.write_text(raw if isinstance(raw, str) else json.dumps(raw))
    script.write_text(REQUEST.read_text().replace("/step/inputs.json", str(inputs)))
    return subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=30, check=False)


def test_a_request_becomes_numbers_and_words(tmp_path: Path) -> None:
    done = _asked(GOOD, tmp_path)

    assert json.loads(done.stdout) == {
        "size_gb": 60,
        "was_gb": 40,
        "tier": "standard",
        "was_tier": "standard",
        "allow_replace": False,
    }


@pytest.mark.parametrize(
    "spoilt",
    [
        {"size_gb": "9"},
        {"size_gb": "2001"},
        {"size_gb": 60},
        {"size_gb": "0060"},
        {"size_gb": "6e1"},
        {"size_gb": "\u0666\u0660"},
        {"size_gb": "60\n"},
        {"size_gb": "-60"},
        {"was_gb": ""},
        {"tier": "gold"},
        {"was_tier": None},
        {"allow_replace": "maybe"},
        {"allow_replace": True},
        {"more": "x"},
        {"tier": ...},
    ],
)
def test_what_is_not_exactly_a_request_is_refused(spoilt: dict[str, Any], tmp_path: Path) -> None:
    raw = {key: value for key, value in (GOOD | spoilt).items() if value is not ...}
    done = _asked(raw, tmp_path)

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("no change request: ")


@pytest.mark.parametrize("raw", ["", "[]", "7", '"size_gb"', "{"])
def test_what_is_no_request_at_all_is_refused(raw: str, tmp_path: Path) -> None:
    assert _asked(raw, tmp_path).returncode == 1
