"""What SIGNALBOX_* variables mean, and how a wrong one is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from engine.domain.errors import BadInput
from engine.settings import Settings, load


def test_without_a_single_variable_everything_lies_in_one_folder_and_listens_on_loopback() -> None:
    """What a newcomer gets; a published default changes on purpose only."""
    settings = load({})

    assert settings.home == Path(".signalbox")
    assert settings.database == f"sqlite:///{Path('.signalbox/signalbox.db').absolute()}"
    assert settings.listen == "127.0.0.1:8080"
    assert settings.url == "http://127.0.0.1:8080"
    assert settings.approvers == ()
    assert settings.alertmanager_token is None
    assert settings.vault_addr == ""
    assert settings.accel == "auto"


def test_variables_of_others_are_none_of_our_business() -> None:
    assert load({"HOME": "/root", "SIGNALBOXES": "1", "SIGNALBOX_PAYLOADS": "/elsewhere"}) == load({})


def test_a_value_is_read_from_the_file_that_name_file_gives(tmp_path: Path) -> None:
    """The line end of an editor is no part of a secret."""
    file = tmp_path / "token"
    file.write_text("abcdef-secret\n")

    token = load({"SIGNALBOX_ALERTMANAGER_TOKEN_FILE": str(file)}).alertmanager_token

    assert token == SecretStr("abcdef-secret")


@pytest.mark.parametrize("name", ["SLACK_BOT_TOKEN", "SLACK_SIGNING_SECRET", "VAULT_SECRET_ID", "DATABASE_URL"])
def test_every_secret_may_come_from_a_file(tmp_path: Path, name: str) -> None:
    file = tmp_path / "value"
    file.write_text("postgresql://somewhere/db")

    value = getattr(load({f"SIGNALBOX_{name}_FILE": str(file)}), name.lower())

    assert (value.get_secret_value() if isinstance(value, SecretStr) else value) == "postgresql://somewhere/db"


def test_a_file_that_cannot_be_read_is_named_with_its_variable(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"BOT_TOKEN_FILE: cannot read .*nowhere: No such file") as refused:
        load({"SIGNALBOX_SLACK_BOT_TOKEN_FILE": str(tmp_path / "nowhere")})

    assert "permissions" in refused.value.remedy


def test_a_file_that_is_no_text_is_refused_in_words(tmp_path: Path) -> None:
    """Somebody points at a binary key."""
    file = tmp_path / "binary"
    file.write_bytes(b"\xff\xfe\x00key")

    with pytest.raises(BadInput, match=r"SIGNALBOX_VAULT_SECRET_ID_FILE: .*binary is not UTF-8 text"):
        load({"SIGNALBOX_VAULT_SECRET_ID_FILE": str(file)})


def test_a_value_and_its_file_together_are_refused(tmp_path: Path) -> None:
    """Which of the two wins would depend on the order of the environment."""
    file = tmp_path / "token"
    file.write_text("from the file")
    both = {"SIGNALBOX_SLACK_BOT_TOKEN": "plain", "SIGNALBOX_SLACK_BOT_TOKEN_FILE": str(file)}

    for environ in (both, dict(reversed(both.items()))):
        with pytest.raises(BadInput, match="both SIGNALBOX_SLACK_BOT_TOKEN and SIGNALBOX_SLACK_BOT_TOKEN_FILE"):
            load(environ)


@pytest.mark.parametrize("text", ["U1,U2 U3", "U1, U2,\n U3", " U1 U2\tU3 "])
def test_a_list_takes_commas_and_spaces(text: str) -> None:
    assert load({"SIGNALBOX_APPROVERS": text}).approvers == ("U1", "U2", "U3")


@pytest.mark.parametrize("text", ["", " ", ",", " , "])
def test_an_empty_list_names_nobody(text: str) -> None:
    """Never one person whose id is empty."""
    assert load({"SIGNALBOX_APPROVERS": text}).approvers == ()


def test_every_wrong_variable_is_named_at_once() -> None:
    wrong = {
        "SIGNALBOX_LISTEN": "8080",
        "SIGNALBOX_WORKERS": "many",
        "SIGNALBOX_ACCEL": "warp",
        "SIGNALBOX_APROVERS": "U1",
    }
    with pytest.raises(BadInput) as refused:
        load(wrong)

    for name in wrong:
        assert f"{name}: " in str(refused.value)
    assert "signalbox settings" in refused.value.remedy


def test_an_unknown_name_is_answered_with_the_nearest_ones() -> None:
    with pytest.raises(BadInput) as refused:
        load({"SIGNALBOX_APROVERS": "U1", "SIGNALBOX_XYZZY": "1"})

    assert "SIGNALBOX_APROVERS: no such setting (did you mean SIGNALBOX_APPROVERS?)" in str(refused.value)
    assert str(refused.value).endswith("SIGNALBOX_XYZZY: no such setting")


def test_every_setting_says_what_it_is_for() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_a_refusal_never_repeats_the_value() -> None:
    """The wrong variable may hold the right secret."""
    with pytest.raises(BadInput) as refused:
        load({"SIGNALBOX_SLACK_TOKEN": "xoxb-pasted-into-the-wrong-name", "SIGNALBOX_WORKERS": "hunter2-hunter2"})

    assert "xoxb" not in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_settings_do_not_change_after_they_were_read() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load({}).approvers = ("U0MALLORY",)


def test_secrets_do_not_show_when_settings_are_printed() -> None:
    secrets = {
        name: f"hidden-{number}"
        for number, name in enumerate(
            ("SLACK_BOT_TOKEN", "SLACK_SIGNING_SECRET", "ALERTMANAGER_TOKEN", "VAULT_SECRET_ID")
        )
    }
    settings = load({f"SIGNALBOX_{name}": value for name, value in secrets.items()})

    assert "hidden" not in f"{settings} {settings!r} {settings.model_dump()}"


def test_every_setting_that_sounds_like_a_secret_is_typed_as_one() -> None:
    """So a new one cannot be printed by accident."""
    words = ("token", "secret", "password", "key")
    odd = [
        name
        for name, field in Settings.model_fields.items()
        if any(word in name.split("_") for word in words) and "SecretStr" not in str(field.annotation)
    ]
    assert odd == []
