"""`{{ inputs.mount }}` and `{{ target.host }}` in runbook text: names only, no logic, and unknown names are errors."""

from __future__ import annotations

import re
from collections.abc import Mapping

from engine.domain.errors import BadInput

PLACEHOLDER = re.compile(r"\{\{\s*([a-z_]+)\.([a-z_]+)\s*\}\}")


def names(text: str) -> frozenset[tuple[str, str]]:
    """Every (namespace, name) that the text refers to."""
    return frozenset((match[1], match[2]) for match in PLACEHOLDER.finditer(text))


def fill(text: str, values: Mapping[str, Mapping[str, str]], *, keep: frozenset[str] = frozenset()) -> str:
    """Replace each placeholder; namespaces in `keep` stay as they are. Raises BadInput for an unknown name."""

    def replace(match: re.Match[str]) -> str:
        space, name = match[1], match[2]
        if space in keep:
            return f"{{{{ {space}.{name} }}}}"
        try:
            return values[space][name]
        except KeyError:
            known = ", ".join(f"{s}.{n}" for s, group in sorted(values.items()) for n in sorted(group)) or "none"
            raise BadInput(f"unknown placeholder {match[0]}", f"known here: {known}") from None

    filled = PLACEHOLDER.sub(replace, text)
    if "{{" in PLACEHOLDER.sub("", text):
        raise BadInput(f"malformed placeholder in {text!r}", "write {{ inputs.NAME }} or {{ target.host }}")
    return filled
