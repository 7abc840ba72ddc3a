"""The finder itself: it sees every shape that the chatty steps print, and takes nothing public for a secret."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from demo.world import keys
from tests.acceptance import chatter
from tests.acceptance.finder import Finder, Kind, Leak, Place

CANARY = "canary 'a1b2c3d4\" <&> $x/\u00e9 e5f6a7b8"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two keys of the same person."""
    folder = tmp_path_factory.mktemp("keys")
    one, other = (keys.generate(folder / name, "operator@production").private for name in ("one", "other"))
    return one, other


def named(content: bytes) -> Place:
    """Somewhere."""
    return Place(Kind.OUR_LOG, "signalbox.log", content)


@pytest.mark.parametrize("number", range(len(chatter.shapes("x"))))
def test_every_shape_that_a_chatty_step_prints_is_found(pair: tuple[str, str], number: int) -> None:
    finder = Finder({"key": pair[0], "canary": CANARY, "token": "tok-Zr81_kQ-49dXbB72LmVw"}, [pair[1]])
    for name, secret in finder.secrets.items():
        content = f"before {chatter.shapes(secret)[number]} after".encode()
        assert finder.search([named(content)]) == [Leak(name, Kind.OUR_LOG, "signalbox.log")]


def test_one_line_of_a_key_is_enough(pair: tuple[str, str]) -> None:
    line = pair[0].splitlines()[3]
    assert Finder({"key": pair[0]}, [pair[1]]).search([named(line.encode())])


def test_another_key_and_the_frame_of_every_key_are_no_leak(pair: tuple[str, str]) -> None:
    finder = Finder({"key": pair[0]}, [pair[1]])

    assert finder.search([named(shape.encode()) for shape in chatter.shapes(pair[1])]) == []


def test_a_public_key_is_no_secret(tmp_path: Path) -> None:
    key, decoy = keys.generate(tmp_path / "one", "a@b"), keys.generate(tmp_path / "two", "a@b")

    assert Finder({"key": key.private}, [decoy.private]).search([named(key.public.encode())]) == []


def test_a_masked_text_is_clean(pair: tuple[str, str]) -> None:
    text = "chatter: \u2039secret:ssh\u203a " + base64.b64encode(b"nothing of it").decode()

    assert Finder({"key": pair[0], "canary": CANARY}).search([named(text.encode())]) == []
