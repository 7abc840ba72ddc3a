"""The skeleton: a runbook that keeps every rule. `signalbox runbook new` writes it; each rule's examples bend it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.domain.directory import Address, Directory, Site

HERE = Path(__file__).parent
NAME = "example"
TEXT = (HERE / "runbook.yaml").read_text()
FILES: Mapping[str, bytes] = {
    path.name: path.read_bytes() for path in sorted([*HERE.glob("*.sh"), HERE / "tests.yaml"])
}
IMAGES = frozenset({"step", "terraform", "codex"})


@dataclass(frozen=True, slots=True)
class Base:
    """What examples bend: a runbook's text and the files of its folder."""

    text: str
    files: Mapping[str, bytes]


SKELETON = Base(TEXT, FILES)
TERRAFORM = Base(
    (HERE / "terraform.yaml").read_text(),
    {
        "volume/main.tf": b'terraform {\n  backend "http" {}\n}\n',
        "volume/terraform.lock.hcl": b"# as terraform init wrote it\n",
    },
)
AGENT = Base(
    (HERE / "agent.yaml").read_text(),
    {
        "diagnose.md": b"Find out why the service does not answer. Say `unknown` when what you saw does not tell.\n",
        "fix.md": b"Write /step/out/fix.sh: what applies the fix. It must be safe to run twice.\n",
        "services.md": b"The service web answers on /healthz. It is stuck when its queue does not move.\n",
        **{name: FILES[name] for name in ("apply.sh", "rollback.sh")},
    },
)


def _site(name: str, address: str, port: int = 22) -> Site:
    return Site(name=name, ports={port: Address(host=address, port=port)}, http_url=f"http://{name}")


DIRECTORY = Directory(
    sites={
        site.name: site
        for site in (
            _site("staging.example", "192.0.2.1"),
            _site("production.example", "192.0.2.2"),
            _site("prod-old-name.example", "192.0.2.2"),
            _site("mirror.example", "192.0.2.3", 443),
            _site("vault.example", "192.0.2.9", 8200),
        )
    },
    forbidden=(Address(host="192.0.2.9", port=8200),),
)
""" Where the skeleton's names lead in the examples; `vault.example` is an end of Signalbox itself. """


def text(name: str, schema: str = "") -> str:
    """The YAML of a new runbook of this name. `schema`: where editors find the JSON Schema."""
    line = f"# yaml-language-server: $schema={schema}\n" if schema else ""
    return line + re.sub(rf"\bname: {NAME}\b", f"name: {name}", TEXT).replace(f"kv/data/{NAME}/", f"kv/data/{name}/")
