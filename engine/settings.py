"""Configuration: `SIGNALBOX_*` environment variables, read once, frozen. Unknown names are errors, not surprises.

Any name may be given as NAME_FILE instead: the value is then read from that file (for secrets).
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, model_validator

from engine.domain.directory import Address, Directory, Site
from engine.domain.errors import BadInput

PREFIX = "SIGNALBOX_"
FOR_TESTS = frozenset({"payloads", "shots", "libvirt_state"})
""" Names that only the test suite reads. """


def _words(value: object) -> object:
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


Words = Annotated[tuple[str, ...], BeforeValidator(_words)]


class Settings(BaseModel):
    """Everything that can be configured. `signalbox settings` prints what is in force."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: Path = Field(Path(".signalbox"), description="state: database, artefacts, embedded OpenBao, logs")
    database_url: str = Field("", description="default: SQLite in SIGNALBOX_HOME")
    runbooks: Path = Field(Path("runbooks"), description="folder of runbooks")
    images: Path = Field(Path(".signalbox/images"), description="guest images; QEMU's user must be able to read it")
    sites: Path = Field(Path(".signalbox/sites.yaml"), description="the directory: names of hosts -> addresses, keys")
    models: Path = Field(
        Path(".signalbox/models.yaml"), description="models of agent steps: names -> provider, key's place, price"
    )
    agents_md: Path = Field(Path("agents.md"), description="where harness notes propose their rules")
    libvirt_uri: str = Field("", description="default: qemu:///system as root, qemu:///session otherwise")
    accel: Literal["auto", "kvm", "tcg"] = Field(
        "auto",
        description="kvm: that or nothing, for production; auto: KVM if a short boot proves it, else TCG and a warning",
    )
    warm_vms: int = Field(
        2, ge=0, le=64, description="VMs of one image that wait, booted and paused, for a step; 0: each step boots"
    )
    vm_memory_mb: int = Field(
        0, ge=0, description="memory of all VMs of a process together; 0: 60 % of what is available at the start"
    )
    clones: Literal["auto", "off"] = Field(
        "auto",
        description="auto: new VMs are clones of a saved one where libvirt and its files are ours (root, session)",
    )
    listen: str = Field("127.0.0.1:8080", pattern=r"^[^:]+:\d+$", description="HOST:PORT of the web server")
    public_url: str = Field("", description="where people reach the dashboard; default: http://LISTEN")
    workers: int = Field(2, ge=1, le=64, description="how many runs are driven at once, in each process that drives")
    pool: str = Field(
        "default", pattern=r"^[a-z0-9][a-z0-9-]{0,40}$", description="the pool whose runs are driven here"
    )
    dead_after_s: int = Field(
        15, ge=2, le=600, description="a worker that was silent so long is dead (Postgres); it ends its VMs before"
    )
    drain_s: int = Field(300, ge=0, le=86400, description="on SIGTERM: how long steps under way may still take")
    anchors: Path | None = Field(
        None, description="where the heads of the event chains are anchored; default: anchors.jsonl in SIGNALBOX_HOME"
    )
    anchor_key: SecretStr | None = Field(
        None, description="the Ed25519 key (PEM) that signs anchors; default: anchor.key in SIGNALBOX_HOME"
    )
    anchor_every_s: int = Field(60, ge=1, le=3600, description="how often they are anchored; also when it stops")
    alertmanager_token: SecretStr | None = Field(
        None, description="what Alertmanager sends; two, while one is replaced"
    )
    api_token: SecretStr | None = Field(
        None, description="what may ask GET /v1/runs/ID where a run stands; without it nobody may"
    )
    prometheus_url: str = Field("", description="the Prometheus that gates ask; without it they are errors")
    slack_bot_token: SecretStr | None = Field(None, description="the bot token of the Slack app (xoxb-...)")
    slack_signing_secret: SecretStr | None = Field(None, description="proves that a request comes from Slack")
    slack_api_url: str = Field("https://slack.com/api/", description="Slack's API; changed for tests and the demo only")
    slack_feed_channel: str = Field("signalbox", description="channel that hears of every incident")
    slack_invite: Words = Field((), description="user ids invited to every incident channel; default: approvers")
    activation: Literal["required", "off"] = Field(
        "required",
        description="required: a runbook starts only as it was activated (signalbox runbook activate); off: as it is",
    )
    approvers: Words = Field((), description="user ids who may approve and decide")
    vault_addr: str = Field("", description="an existing Vault or OpenBao; empty: embedded OpenBao")
    vault_ca: Path | None = Field(None, description="trusted certificates for it; default: the system's")
    vault_namespace: str | None = Field(None, description="namespace in it, where it has any")
    vault_role_id: str = Field("op-bot", description="AppRole that Signalbox logs in with")
    vault_secret_id: SecretStr | None = Field(None, description="the AppRole's secret id")

    @property
    def database(self) -> str:
        """The database URL in force."""
        return self.database_url or f"sqlite:///{(self.home / 'signalbox.db').absolute()}"

    @property
    def anchors_file(self) -> Path:
        """The anchors file in force."""
        return self.anchors or self.home / "anchors.jsonl"

    @property
    def libvirt(self) -> str:
        """The libvirt URI in force."""
        return self.libvirt_uri or ("qemu:///system" if os.geteuid() == 0 else "qemu:///session")

    @property
    def url(self) -> str:
        """Where people reach the dashboard."""
        return self.public_url or f"http://{self.listen}"


def _from_file(name: str, path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise BadInput(f"{name}: cannot read {path}: {error.strerror}", "fix the path or its permissions") from None
    except UnicodeDecodeError:
        raise BadInput(f"{name}: {path} is not UTF-8 text", "write the value as plain text") from None


def load(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings; raises BadInput naming every wrong variable."""
    values: dict[str, Any] = {}
    for name, text in environ.items():
        key = name.removeprefix(PREFIX).lower()
        if not name.startswith(PREFIX) or key in FOR_TESTS:
            continue
        if key.endswith("_file") and key not in Settings.model_fields:
            if name.removesuffix("_FILE") in environ:
                raise BadInput(f"both {name.removesuffix('_FILE')} and {name} are set", "unset one of them")
            values[key.removesuffix("_file")] = _from_file(name, text)
        else:
            values[key] = text
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        lines = [_complaint("_".join(map(str, e["loc"])), e["type"], e["msg"]) for e in error.errors()]
        raise BadInput("configuration: " + "; ".join(lines), "see `signalbox settings` for every name") from None


def _complaint(name: str, kind: str, message: str) -> str:
    """What is wrong with one variable; never its value, which may be a secret under a wrong name."""
    if kind == "extra_forbidden":
        near = [f"{PREFIX}{known.upper()}" for known in difflib.get_close_matches(name, Settings.model_fields)]
        message = "no such setting" + (f" (did you mean {' or '.join(near)}?)" if near else "")
    return f"{PREFIX}{name.upper()}: {message}"


class _SiteFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    ports: dict[int, str] = Field(default_factory=dict)
    private: bool = False
    ssh_host_key: str | None = None
    http_url: str | None = None
    http_ca: str | None = None
    database_ca: str | None = None

    @model_validator(mode="after")
    def _has_what_its_authority_is_for(self) -> _SiteFile:
        if self.http_ca is not None and not (self.http_url or "").startswith("https://"):
            raise ValueError("http_ca verifies an http_url that begins with https://, which is not there")
        return self


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    if not host or not (port.isascii() and port.isdecimal()) or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r} is not HOST:PORT")
    return Address(host=host.strip("[]"), port=int(port))


def load_directory(path: Path, forbidden: tuple[Address, ...] = ()) -> Directory:
    """Read the directory of sites (YAML: name -> the fields of `Site`); raises BadInput."""
    if not path.exists():
        return Directory(sites={}, forbidden=forbidden)
    try:
        raw = yaml.safe_load(path.read_text()) or {}
        if not isinstance(raw, dict):
            raise ValueError("the file must map names of hosts to their ports")
        sites = {}
        for name, value in raw.items():
            if not isinstance(name, str):
                raise ValueError(f"{name!r} is not the name of a host; quote it")
            site = _SiteFile.model_validate(value)
            ports = {port: _address(text) for port, text in site.ports.items()}
            sites[name] = Site(
                name=name,
                ports=ports,
                private=site.private,
                ssh_host_key=site.ssh_host_key,
                http_url=site.http_url,
                http_ca=site.http_ca,
                database_ca=site.database_ca,
            )
        measured = tuple(_end_of(site.http_url) for site in sites.values() if site.http_url)
    except (OSError, yaml.YAMLError, ValueError) as error:
        raise BadInput(f"{path}: {error}", "see README, section Sites") from None
    return Directory(sites=sites, forbidden=(*forbidden, *measured))


def _end_of(url: str) -> Address:
    """Where gates measure a site over HTTP: no step's grant may lead there."""
    parsed = urlsplit(url)
    return Address(host=parsed.hostname or "", port=parsed.port or (443 if parsed.scheme == "https" else 80))
