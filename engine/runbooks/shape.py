"""Validates plain values against the format, and says for people what does not fit. Called by the shelf.

Every problem at once; an unknown key gets the nearest known one.
"""

from __future__ import annotations

import difflib
import types
import typing
from typing import Annotated, Any

from pydantic import BaseModel, Tag, ValidationError
from pydantic_core import ErrorDetails

from engine.runbooks.format import RunbookEdge
from engine.runbooks.positions import Document, Place, Problem

_TAG_MARK = ":"
""" Tags of unions have a colon, which no key of the format has. """


def validate(document: Document) -> RunbookEdge | None:
    """The document as typed values, or None after having added to its problems what does not fit."""
    try:
        return RunbookEdge.model_validate(document.value)
    except ValidationError as error:
        document.problems += [_problem(document, detail) for detail in error.errors(include_url=False)]
        return None


def _problem(document: Document, detail: ErrorDetails) -> Problem:
    place = tuple(part for part in detail["loc"] if not _is_tag(part) and part != "[key]")
    return document.problem(place, *_words(detail, place))


def _is_tag(part: int | str) -> bool:
    return isinstance(part, str) and _TAG_MARK in part and part.split(_TAG_MARK)[0] in {"kind", "type", "rollback"}


def _words(detail: ErrorDetails, place: Place) -> tuple[str, str]:
    """What is wrong and how to mend it."""
    name = _spell(place)
    match detail["type"]:
        case "extra_forbidden":
            known = _known_keys(detail["loc"][:-1])
            return f"unknown key {name}", _suggest(str(place[-1]), known, "use one of")
        case "missing":
            return f"{name} is missing", f"add it: {_description(detail['loc'])}"
        case "unknown_kind" | "unknown_type" as kind:
            return _unknown_member(detail, name, kind.removeprefix("unknown_"))
        case "literal_error":
            options = str(detail.get("ctx", {}).get("expected", "")).replace("'", "").replace(" or ", ", ").split(", ")
            return f"{name} is {_shown(detail['input'])}", _suggest(str(detail["input"]), options, "write one of")
        case "string_pattern_mismatch":
            pattern = detail.get("ctx", {}).get("pattern", "")
            return f"{name} is {_shown(detail['input'])}", f"write {_description(detail['loc'])}; pattern {pattern}"
        case "value_error":
            return f"{name} is {_shown(detail['input'])}", detail["msg"].removeprefix("Value error, ")
    return f"{name} is {_shown(detail['input'])}", _lower(detail["msg"])


def _unknown_member(detail: ErrorDetails, name: str, key: str) -> tuple[str, str]:
    tags = [tag.split(_TAG_MARK)[1] for tag in _tags(_annotation(detail["loc"]))]
    raw = detail["input"]
    if not isinstance(raw, dict) or key not in raw:
        return f"{name} has no {key}", f"add {key}: {' | '.join(tags)}"
    return f"{name} has the {key} {_shown(raw[key])}", _suggest(str(raw[key]), tags, "use one of")


def _suggest(word: str, known: list[str], otherwise: str) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    listed = f"{otherwise} {', '.join(known)}"
    return f"did you mean {near[0]}? Otherwise {listed}" if near else listed


def _spell(place: Place) -> str:
    """`steps[3].access`, as people point at a place."""
    if not place:
        return "the file"
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)[1:][:200]


def _shown(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return "a mapping" if isinstance(value, dict) else "a list"
    return repr(value)[:60] if isinstance(value, str) else str(value)[:60]


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]


# -- looking up in the format what a place of it may be ---------------------------------------------------------------


def _known_keys(loc: Place) -> list[str]:
    model = _model(_annotation(loc))
    return [field.alias or name for name, field in model.model_fields.items()] if model else []


def _description(loc: Place) -> str:
    if loc[-1] == "[key]":
        return _inner_description(typing.get_args(_bare(_annotation(loc[:-2])))[0]) or "another name"
    model = _model(_annotation(loc[:-1]))
    for name, field in (model.model_fields if model else {}).items():
        if loc[-1] in {name, field.alias}:
            return field.description or _inner_description(field.annotation) or f"a value for {loc[-1]}"
    return _inner_description(_annotation(loc)) or "another value"


def _inner_description(annotation: Any) -> str | None:
    if typing.get_origin(annotation) is Annotated:
        return next((d for meta in annotation.__metadata__ if (d := getattr(meta, "description", None))), None)
    return None


def _annotation(loc: Place) -> Any:
    """The annotation of a place, following keys, indexes and the tags of unions; None when it leads nowhere."""
    annotation: Any = RunbookEdge
    for part in loc:
        annotation = _step(annotation, part)
    return annotation


def _step(annotation: Any, part: int | str) -> Any:
    if _is_tag(part):
        return next((member for member in _members(annotation) if part in _tags(member)), None)
    bare = _bare(annotation)
    arguments = typing.get_args(bare)
    match typing.get_origin(bare):
        case origin if origin is list:
            return arguments[0]
        case origin if origin is dict:
            return arguments[1]
    model = _model(bare)
    for name, field in (model.model_fields if model else {}).items():
        if part in {name, field.alias}:
            return Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    return None


def _bare(annotation: Any) -> Any:
    """Without Annotated and without `| None`."""
    if typing.get_origin(annotation) is Annotated:
        return _bare(annotation.__origin__)
    if typing.get_origin(annotation) in {typing.Union, types.UnionType}:
        inner = [one for one in typing.get_args(annotation) if one is not type(None)]
        return _bare(inner[0]) if len(inner) == 1 else annotation
    return annotation


def _members(annotation: Any) -> tuple[Any, ...]:
    return typing.get_args(_bare(annotation))


def _tags(annotation: Any) -> list[str]:
    """The tags of an annotated member, or of all members of a union."""
    if typing.get_origin(annotation) is Annotated:
        own = [meta.tag for meta in annotation.__metadata__ if isinstance(meta, Tag)]
        return own or _tags(annotation.__origin__)
    return [tag for member in _members(annotation) for tag in _tags(member)]


def _model(annotation: Any) -> type[BaseModel] | None:
    bare = _bare(annotation)
    return bare if isinstance(bare, type) and issubclass(bare, BaseModel) else None
