"""Paths as an agent may name them: absolute, without detours, and what they look like. Used by policy and toolbox."""

from __future__ import annotations

import unicodedata

MAX_PATH = 4096
ANYTHING = "/**"
KEYS = ("/run/secrets/**", "/step/.ssh/**")
""" The step's secrets, and how its ssh enters the target: no pattern gives an agent these, not even `/**`. """


def trouble(path: str) -> str:
    """What is wrong with it, in words; empty when it is a plain absolute path."""
    if not path.startswith("/"):
        return "it is relative: name the whole path, from /"
    if len(path) > MAX_PATH:
        return f"it is longer than {MAX_PATH} characters"
    if wrong := odd(path) or _detour(path):
        return wrong
    return "the step's keys lie there" if any(within(path, folder) for folder in KEYS) else ""


def within(path: str, pattern: str) -> bool:
    """Whether a plain absolute path is what the pattern names: a path, or a folder with `/**` and all that is in it."""
    if not pattern.endswith(ANYTHING):
        return path == pattern
    folder = pattern.removesuffix(ANYTHING)
    return path == (folder or "/") or path.startswith(f"{folder}/")


def odd(text: str) -> str:
    """Whether text is another than a reader sees; empty when not."""
    if not text.isprintable():
        return "it holds a control character, or another that cannot be seen"
    if unicodedata.normalize("NFKC", text) != text:
        return "it is not in Unicode's normal form"
    for character in text:
        if not character.isascii() and unicodedata.category(character)[0] not in "LMN":
            return f"it holds U+{ord(character):04X}, which may look like another sign"
    for part in text.split("/"):
        if len({unicodedata.name(one, "?").split()[0] for one in part if one.isalpha()}) > 1:
            return f"`{part[:80]}` mixes alphabets"
    return ""


def _detour(path: str) -> str:
    parts = path[1:].split("/")
    if ".." in parts:
        return "it leads back with `..`: name the path that you mean"
    if path != "/" and ({"", "."} & set(parts)):
        return "it has `//`, `/.` or a `/` at its end: name it without"
    return ""
