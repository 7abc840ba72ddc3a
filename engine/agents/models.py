"""The models that agent steps name: the file SIGNALBOX_MODELS (YAML). It says where a key lies, and never has one."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import SplitResult, urlsplit

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from engine.domain import addresses
from engine.domain.agent import Api
from engine.domain.directory import THIS_MACHINE, Address
from engine.domain.errors import BadInput

REMEDY = "see README, section Models"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
MAX_KEY = 4096
SHORTEST_KEY = 8
""" A shorter one cannot be kept out of answers: it would be found in any text. """

DEFAULT_URLS = {
    Api.ANTHROPIC: "https://api.anthropic.com/v1",
    Api.OPENAI: "https://api.openai.com/v1",
    Api.OPENAI_RESPONSES: "https://api.openai.com/v1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """USD per million tokens, that is microdollars a token."""

    input: float
    output: float

    def of(self, *, tokens_in: int, tokens_out: int) -> int:
        """Microdollars, rounded up."""
        return math.ceil(tokens_in * self.input + tokens_out * self.output)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model. `model`: what its provider calls it. `url`: what stands before `/messages`, `/chat/completions` or
    `/responses`. `ca`: certificates that its server is verified with, instead of the system's."""

    name: str
    api: Api
    model: str
    url: str
    max_output_tokens: int
    key_env: str | None = None
    key_file: Path | None = None
    ca: Path | None = None
    price: Price | None = None

    @property
    def address(self) -> Address:
        """Its server's end."""
        parsed = urlsplit(self.url)
        return Address(host=parsed.hostname or "", port=parsed.port or (443 if parsed.scheme == "https" else 80))

    def key(self, environ: Mapping[str, str] = os.environ) -> str:
        """The provider's key as it is now; empty for a model of this machine that needs none. Raises BadInput."""
        if self.key_env is not None:
            where, text = self.key_env, environ.get(self.key_env, "")
        elif self.key_file is not None:
            where, text = str(self.key_file), self._from_file(self.key_file)
        else:
            return ""
        text = text.strip()
        if not (SHORTEST_KEY <= len(text) <= MAX_KEY and text.isascii() and text.isprintable() and " " not in text):
            raise BadInput(f"model {self.name}: there is no key in {where}", "put the provider's key there")
        return text

    def _from_file(self, path: Path) -> str:
        try:
            with path.open() as file:
                return file.read(MAX_KEY + 2)
        except OSError as error:
            why = f"model {self.name}: cannot read {path}: {error.strerror}"
            raise BadInput(why, "fix the path or its permissions") from None
        except UnicodeDecodeError:
            raise BadInput(f"model {self.name}: {path} is no text", "put the provider's key there") from None


@dataclass(frozen=True, slots=True)
class Models:
    """All of them, by name. `path`: the file."""

    path: Path
    by_name: Mapping[str, Model]

    def named(self, name: str) -> Model:
        """The model of this name; raises BadInput with what to write where."""
        try:
            return self.by_name[name]
        except KeyError:
            known = ", ".join(sorted(self.by_name)) or "none"
            raise BadInput(f"no model is named {name!r} (known: {known})", f"add it to {self.path}") from None


def _is_here(parsed: SplitResult) -> bool:
    host = (parsed.hostname or "").lower().removesuffix(".")
    ip = addresses.literal(host)
    return host == THIS_MACHINE if ip is None else addresses.kind(ip) is addresses.Kind.LOOPBACK


def _url(text: str) -> str:
    """A base URL without a slash at its end; one without a path gets /v1. Raises ValueError, never with the text: a
    password may stand in it."""
    parsed = urlsplit(text)
    if parsed.scheme not in {"http", "https"} or not parsed.hostname or parsed.port == 0:
        raise ValueError("write https://HOST[:PORT][/PATH]")
    if parsed.username or parsed.password or parsed.query or parsed.fragment:
        raise ValueError("a URL has no user, password, query or fragment here")
    if not (text.isascii() and text.isprintable() and " " not in text):
        raise ValueError("a URL is of printable ASCII")
    if parsed.scheme != "https" and not _is_here(parsed):
        raise ValueError("https, or http to this machine (127.0.0.1, localhost)")
    return text.rstrip("/") + ("" if parsed.path.strip("/") else "/v1")


class _PriceFile(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    input: float = Field(ge=0, le=100_000, allow_inf_nan=False)
    output: float = Field(ge=0, le=100_000, allow_inf_nan=False)


class _ModelFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    api: Api
    model: str = Field(min_length=1, max_length=200, pattern=r"^[!-~]+$")
    url: Annotated[str, AfterValidator(_url)] | None = None
    key_env: str | None = Field(None, pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")
    key_file: Path | None = None
    ca: Path | None = None
    price: _PriceFile | None = None
    max_output_tokens: int = Field(8192, ge=16, le=1_000_000)

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if self.key_env is not None and self.key_file is not None:
            raise ValueError("key_env and key_file: give one of them")
        if self.key_env is not None and self.key_env.upper().startswith("SIGNALBOX_"):
            raise ValueError("key_env: names of this prefix are settings, choose another")
        if self.key_env is None and self.key_file is None and not _is_here(urlsplit(self.url or "")):
            raise ValueError("key_env or key_file must say where its key lies")
        return self

    def named(self, name: str, folder: Path) -> Model:
        """The value within. Relative paths are those of the file's folder."""
        return Model(
            name=name,
            api=self.api,
            model=self.model,
            url=self.url or DEFAULT_URLS[self.api],
            max_output_tokens=self.max_output_tokens,
            key_env=self.key_env,
            key_file=None if self.key_file is None else folder / self.key_file.expanduser(),
            ca=None if self.ca is None else folder / self.ca.expanduser(),
            price=None if self.price is None else Price(input=self.price.input, output=self.price.output),
        )


def load_models(path: Path) -> Models:
    """Read the file; one that is not there has no models. Raises BadInput with all that is wrong, and none of its
    values: somebody may have written a key into it."""
    if not path.exists():
        return Models(path, {})
    raw = _yaml(path)
    found: dict[str, Model] = {}
    wrong: list[str] = []
    for name, value in raw.items():
        if not isinstance(name, str) or not NAME.fullmatch(name):
            wrong.append(f"name {str(name)[:60]!r}: small letters, digits, `.`, `_` and `-` only")
            continue
        try:
            found[name] = _ModelFile.model_validate(value).named(name, path.absolute().parent)
        except ValidationError as error:
            wrong += [_complaint(name, e["loc"], e["type"], e["msg"]) for e in error.errors(include_input=False)]
    if wrong:
        raise BadInput(f"{path}: " + "; ".join(wrong), REMEDY)
    return Models(path, found)


def _yaml(path: Path) -> Mapping[object, object]:
    try:
        raw = yaml.safe_load(path.read_text()) or {}
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}", "fix the path or its permissions") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path} is not UTF-8 text", REMEDY) from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise BadInput(f"{path}, line {line}: {error.problem or 'not YAML'}", REMEDY) from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise BadInput(f"{path} is not YAML", REMEDY) from None
    if not isinstance(raw, dict):
        raise BadInput(f"{path} must map names to models", REMEDY)
    return raw


def _complaint(name: str, where: tuple[int | str, ...], kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        message = "no such field" + (": say in key_env or key_file where the key lies" if where == ("key",) else "")
    return f"{'.'.join([name, *map(str, where)])}: {message.removeprefix('Value error, ')}"
