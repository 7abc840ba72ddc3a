"""Targets, how their verifiers enter them, and secrets, as the runbook's YAML says them. Used by `format`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from engine.runbooks.scalars import Edge, Port, User


class SecretEdge(Edge):
    """One secret. The step sees it as /run/secrets/NAME; its life is the step's."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")] = Field(description="the name that the step knows")
    engine: Literal["kv"] = Field(description="the kind of secrets engine")
    path: str = Field(
        pattern=r"^[a-z0-9][a-z0-9-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)+$",
        max_length=200,
        description="the full path in the API, such as kv/data/checkout/staging/operator",
    )
    fields: list[Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")]] = Field(
        min_length=1, max_length=8, description="the fields that are handed over"
    )
    deliver: Literal["file"] = "file"
    max_reads: int = Field(1, ge=1, le=10)


class DatabaseEdge(Edge):
    """How `sql` checks enter the target's database: by a role that may only read."""

    port: Port = Field(5432, description="a port of the target's site, in the directory")
    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,62}$", description="the database's name")
    user: User = Field(description="the verifier's role in the database")
    secret: SecretEdge = Field(description="its password, the one field")

    @field_validator("secret")
    @classmethod
    def _one_field(cls, secret: SecretEdge) -> SecretEdge:
        if len(secret.fields) != 1:
            raise ValueError("a password is one field")
        return secret


class VerifierEdge(Edge):
    """Who measures: another user with another secret than any step's."""

    user: User = Field(description="the user on the target that gate probes log in as")
    secret: SecretEdge = Field(description="the verifier's own key")
    database: DatabaseEdge | None = Field(None, description="for `sql` checks")


class TargetEdge(Edge):
    """A system that steps work on."""

    host: str = Field(
        pattern=r"^[a-z][a-z0-9-]*(\.[a-z0-9][a-z0-9-]*)*$", max_length=200, description="its name in the directory"
    )
    port: Port = 22
    protected: bool = Field(False, description="true for production: changes ask for approval and were tested before")
    verifier: VerifierEdge = Field(description="who measures on this target")
