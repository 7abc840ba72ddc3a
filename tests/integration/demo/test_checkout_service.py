"""The service `checkout` as a local process' worth of object, on a real folder."""

from pathlib import Path

import pytest

from demo.world.guest.checkout import MEGA, Checkout


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    (tmp_path / "log").mkdir()
    (tmp_path / "checkout.json").write_text('{"log_level": "debug"}')
    service = Checkout(tmp_path, "staging", pace_mb_s=1, takes_rotation=True)
    service.load()
    return service


def configure(checkout: Checkout, text: str) -> None:
    (checkout.root / "checkout.json").write_text(text)
    (checkout.root / "reload").touch()
    checkout.tick()


def log_size(checkout: Checkout) -> int:
    return (checkout.root / "log" / "app.log").stat().st_size


def test_at_debug_the_log_grows_by_its_pace(checkout: Checkout) -> None:
    for _ in range(4):
        checkout.tick()

    assert 0.9 * MEGA < log_size(checkout) < 1.1 * MEGA


def test_a_reload_takes_the_new_configuration_and_removes_the_request(checkout: Checkout) -> None:
    before = checkout.digest
    configure(checkout, '{"log_level": "info", "rotate_mb": 1}')

    assert not (checkout.root / "reload").exists()
    assert checkout.digest != before
    assert 'checkout_log_level{level="info"} 1' in checkout.metrics()
    assert 'checkout_log_level{level="debug"} 0' in checkout.metrics()


def test_nothing_is_read_again_without_being_asked(checkout: Checkout) -> None:
    (checkout.root / "checkout.json").write_text("broken")
    checkout.tick()

    assert checkout.health()[0] == 200


def test_a_log_over_its_limit_is_cut_to_its_newest_half(checkout: Checkout) -> None:
    log = checkout.root / "log" / "app.log"
    log.write_bytes(b"o" * (3 * MEGA) + b"n" * (MEGA // 2))
    configure(checkout, '{"log_level": "info", "rotate_mb": 1}')

    assert log.read_bytes() == b"n" * (MEGA // 2)


def test_a_bad_configuration_is_said_at_healthz_until_it_is_mended(checkout: Checkout) -> None:
    configure(checkout, '{"log_level": "loud"}')
    assert checkout.health() == (
        500,
        {"ok": False, "env": "staging", "error": "log_level must be debug or info"},
    )

    configure(checkout, '{"log_level": "info"}')
    assert checkout.health()[0] == 200


def test_no_configuration_at_all_is_unwell(tmp_path: Path) -> None:
    service = Checkout(tmp_path, "staging", pace_mb_s=1, takes_rotation=True)
    service.load()

    assert service.health()[0] == 500
