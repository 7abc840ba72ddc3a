"""checkout's configuration: what it takes, and what it says of the rest."""

import pytest

from demo.world.guest.checkout import BadConfig, Config, parse


def test_a_level_alone_is_a_configuration_that_never_cuts_the_log() -> None:
    assert parse(b'{"log_level": "debug"}') == Config("debug", 0)


def test_the_fix_is_a_configuration_of_the_current_release() -> None:
    assert parse(b'{"log_level": "info", "rotate_mb": 8}') == Config("info", 8)


def test_an_older_release_refuses_the_key_of_the_fix_by_name() -> None:
    with pytest.raises(BadConfig, match="unknown key rotate_mb"):
        parse(b'{"log_level": "info", "rotate_mb": 8}', takes_rotation=False)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[]", "not an object"),
        (b"{}", "log_level"),
        (b'{"log_level": "trace"}', "log_level"),
        (b'{"log_level": ["info"]}', "log_level"),
        (b'{"log_level": "info", "rotate_mb": -1}', "rotate_mb"),
        (b'{"log_level": "info", "rotate_mb": true}', "rotate_mb"),
        (b'{"log_level": "info", "rotate_mb": "8"}', "rotate_mb"),
        (b'{"log_level": "info", "colour": 1}', "unknown key colour"),
    ],
)
def test_what_is_wrong_is_refused_with_its_reason(text: bytes, reason: str) -> None:
    with pytest.raises(BadConfig, match=reason):
        parse(text)
