"""YAML as people mean it: `on` is a word, and a key that stands twice is a mistake. For tapes and situations."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

from engine.domain.errors import BadInput

_TRUTH = re.compile(r"true|false")
_BOOL = "tag:yaml.org,2002:bool"


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads yes, no, on and off as truths; in ours only true and false are."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the library's own table, changed for this class
        first: [(tag, pattern) for tag, pattern in known if tag != _BOOL]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """As before, but no key twice."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(_BOOL, _TRUTH, list("tf"))


def read_yaml(data: bytes, most: int) -> object:
    """What a file says. Raises BadInput, one line: it is longer than `most` bytes, or no such YAML."""
    if len(data) > most:
        raise BadInput(f"longer than {most:,} bytes")
    try:
        return yaml.load(data, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise BadInput(f"line {line}: not YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadInput(f"not YAML: {str(error).splitlines()[0]}") from None
