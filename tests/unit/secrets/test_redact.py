"""The redactor hides every shape in which tools print a secret, whatever the chunks, and leaves clean text alone."""

from __future__ import annotations

import base64
import html
import json
import random
import shlex
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.domain.errors import Refused
from engine.secrets.redact import Redactor

DICE = random.Random(7)


def _blob(size: int) -> str:
    return base64.b64encode(DICE.randbytes(size)).decode()


PEM = "-----BEGIN PRIVATE KEY-----\n" + "\n".join(_blob(48) for _ in range(6)) + "\n-----END PRIVATE KEY-----\n"
VALUES = {
    "ugly": "p4$$ w\"rd'/+&é<x>",
    "token": "tok-Zr81_kQ-49dXbB72LmVw",
    "pem": PEM,
    "hexadecimal": "9f86d081884c7d659a2feaa0c55ad015",
}


def _bash(script: str, value: str) -> str:
    env = {"V": value, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout + done.stderr


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


SHAPES: dict[str, Callable[[str], str]] = {
    "plain": lambda v: v,
    "in a command line": lambda v: f"mysql -p{v} -h db",
    "base64": _b64,
    "basic authorisation": lambda v: _b64("user:" + v),
    "base64 in the middle, second alignment": lambda v: _b64("ab:" + v + ":tail"),
    "base64 in the middle, third alignment": lambda v: _b64("abcd" + v + "!"),
    "url-safe base64": lambda v: base64.urlsafe_b64encode(("x" + v + "yy").encode()).decode(),
    "base64 in lines of 76": lambda v: base64.encodebytes(v.encode()).decode(),
    "base32": lambda v: base64.b32encode(v.encode()).decode(),
    "percent encoding": lambda v: urllib.parse.quote(v, safe=""),
    "percent encoding in lower case": lambda v: urllib.parse.quote(v, safe="").lower(),
    "form encoding": urllib.parse.quote_plus,
    "database url": lambda v: f"postgresql://u:{urllib.parse.quote(v, safe='')}@h/db",
    "json": lambda v: json.dumps({"a": v}),
    "json in utf-8": lambda v: json.dumps({"a": v}, ensure_ascii=False),
    "json in json": lambda v: json.dumps(json.dumps({"a": v})),
    "json with escaped slashes": lambda v: json.dumps({"a": v}, ensure_ascii=False).replace("/", "\\/"),
    "repr": lambda v: repr({"k": v}),
    "repr of bytes": lambda v: repr(v.encode()),
    "traceback": lambda v: f"ValueError: bad password {v!r}",
    "shell quoting": lambda v: "curl -u " + shlex.quote(v),
    "bash set -x": lambda v: _bash('set -x; : "$V"', v),
    "bash printf %q": lambda v: _bash('printf "%q" "$V"', v),
    "html": html.escape,
    "hex": lambda v: v.encode().hex(),
    "hex in capitals": lambda v: v.encode().hex().upper(),
    "hex with colons": lambda v: v.encode().hex(":"),
    "xxd -p": lambda v: "\n".join(v.encode().hex()[at : at + 60] for at in range(0, 2 * len(v.encode()), 60)),
    "reversed": lambda v: v[::-1],
    "carriage returns": lambda v: v.replace("\n", "\r\n"),
}


def _taught() -> Redactor:
    redactor = Redactor()
    for name, value in VALUES.items():
        redactor.learn(name, value)
    return redactor


def _survivors(shown: str, value: str, shape: Callable[[str], str]) -> list[str]:
    """Any run of 12 characters of the shape that still stands in the text (and is not in the shape of nothing)."""
    body = shape(value)
    frame = shape("")
    runs = {body[at : at + 12] for at in range(len(body) - 11)}
    return [run for run in runs if run in shown and run not in frame and not set(run) <= set("- ENDBGIPRVATKY'\"")]


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_a_known_value_is_masked(name: str, shape: str) -> None:
    """120 shapes: each value in each encoding."""
    shown = _taught()("log: " + SHAPES[shape](VALUES[name]) + " end")
    assert "‹secret:" in shown
    edge = 4 if "base" in shape else 0  # the characters at the edges of an encoding depend on its neighbours
    survivors = _survivors(shown, VALUES[name], SHAPES[shape])
    assert len(survivors) <= edge, survivors
    assert VALUES[name] not in shown


TEXT_WITHOUT_SECRETS = "".join(
    f"2026-11-22T08:00:{n % 60:02}Z INFO request path=/api/v1/orders/{n} status=200 bytes={n * 7} user=alice\n"
    for n in range(3000)
)


def test_a_clean_log_passes_unchanged_and_quickly() -> None:
    """No false hit; and a megabyte takes seconds at most, whatever is known."""
    redactor = _taught()
    begun = time.monotonic()
    assert redactor(TEXT_WITHOUT_SECRETS) == TEXT_WITHOUT_SECRETS
    assert time.monotonic() - begun < 10


LOOKS_LIKE_A_SECRET = {
    "aws": "AKIA" + "A1B2" * 4,
    "github": "ghp_" + "a1B2" * 9,
    "slack": "xoxb-" + "123456789012-1234567890123-" + "AbCdEfGhIjKlMnOpQrStUvWx",
    "slack app": "xapp-1-A0123456789-" + "1" * 13 + "-abc",
    "vault": "hvs.CAESI" + "a1B2c3" * 6,
    "openbao": "s." + "a1B2c3D4" * 3,
    "jwt": "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0NTYifQ." + "a2tra2tra2tra2tra2tra2tra2tra2s",
    "database url": "postgres://bob:hunter2pw@db/x",
    "anthropic": "sk-ant-api03-" + "Ab1_" * 12,
    "stripe": "sk_live_" + "a1B2c3D4e5F6g7H8i9J0k1L2",
    "private key": PEM,
    "openssh key": PEM.replace("PRIVATE", "OPENSSH PRIVATE"),
    "pgp key": PEM.replace("PRIVATE KEY", "PGP PRIVATE KEY BLOCK"),
    "private key in json": json.dumps(PEM),
    "bearer": "Authorization: Bearer abcdef0123456789",
    "password": "DB_PASSWORD=correcthorse",
    "password in json": '{"password": "correcthorse"}',
    "vault header": "X-Vault-Token: anything",
}


@pytest.mark.parametrize("kind", LOOKS_LIKE_A_SECRET)
def test_unknown_secrets_are_known_by_their_looks(kind: str) -> None:
    """Without having been taught one value."""
    text = "tok " + LOOKS_LIKE_A_SECRET[kind] + " x"
    shown = Redactor()(text)
    assert "‹secret:" in shown
    for secret in ("hunter2pw", "correcthorse", "anything", "abcdef0123456789", *PEM.splitlines()[1:-1]):
        assert secret not in shown


MIXED = "".join(
    (
        f"line ok\n{'x' * 50}{VALUES['token']}\n{PEM}",
        f"Authorization: Basic {_b64('u:' + VALUES['token'])}\nunknown key follows\n",
        PEM.replace("A", "B").replace("BEGIN PRIVBTE", "BEGIN PRIVATE"),
        "\n-----BEGIN RSA PRIVATE KEY-----\nnever ends\n" + VALUES["ugly"],
    )
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(1, 400), max_size=60))
def test_chunks_never_change_the_result(sizes: list[int]) -> None:
    """A stream gives, piece by piece, exactly what the whole text gives at once."""
    redactor = _taught()
    assert _in_chunks(redactor, MIXED, sizes) == redactor(MIXED)


SECRET_WORDS = ["abcdef", "abcdefghij", "fabcde", "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----"]
OTHER_WORDS = ["abc", "def", "\n", " ", "password=", "-----", "x"]
SOUP = st.lists(st.sampled_from(SECRET_WORDS + OTHER_WORDS), max_size=40)


@settings(deadline=None, max_examples=300)
@given(SOUP, st.lists(st.integers(1, 9), max_size=80))
def test_chunks_never_change_the_result_of_overlapping_secrets(words: list[str], sizes: list[int]) -> None:
    """Values that begin inside one another, keys without end, markers cut in two: always the same result."""
    redactor = Redactor()
    for value in ("abcdef", "abcdefghij", "defabc", "ef\nabcdef"):
        redactor.learn("v", value)
    text = "".join(words)
    shown = redactor(text)
    assert _in_chunks(redactor, text, sizes) == shown
    assert "abcdef" not in shown
    assert "defabc" not in shown


def _in_chunks(redactor: Redactor, text: str, sizes: list[int]) -> str:
    stream, out, at = redactor.stream(), [], 0
    for size in sizes:
        out.append(stream.feed(text[at : at + size]))
        at += size
    return "".join([*out, stream.feed(text[at:]), stream.close()])


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_a_known_value_is_masked_across_lines_that_leave_one_by_one(size: int) -> None:
    """Its second line is too short to be known by itself, and is emitted after the first."""
    redactor = Redactor()
    redactor.learn("v", "first line\nab\nlast one")
    text = "see:\nfirst line\nab\nlast one\nend\n"
    assert _in_chunks(redactor, text, [size] * (len(text) // size)) == "see:\n‹secret:v›\nend\n"
    assert redactor(text) == "see:\n‹secret:v›\nend\n"


@pytest.mark.parametrize("key", ["", repr(PEM)])
@pytest.mark.parametrize("step", [1000, 4096, 70_000])
def test_an_endless_line_is_judged_in_pieces_that_cut_no_token(step: int, key: str) -> None:
    """A line of half a megabyte, a token every few hundred characters, no line break anywhere."""
    token = "ghp_" + "a1B2" * 9
    text = " ".join(f"{'y' * (n % 97)} password={token} {key}" for n in range(4000))
    redactor = Redactor()
    sizes = [step] * (len(text) // step)
    shown = _in_chunks(redactor, text, sizes)
    assert "a1B2" not in shown
    assert PEM.splitlines()[2] not in shown
    assert shown == redactor(text)


def test_text_is_shown_as_soon_as_its_line_is_complete() -> None:
    """Live output is not held back because a long key is known: only what may still become one waits."""
    stream = _taught().stream()
    assert stream.feed("hello\nwor") == "hello\n"
    assert stream.feed("ld\n") == "world\n"
    assert stream.feed(PEM[:200]) == ""
    assert stream.feed(PEM[200:] + "after\n").endswith("›\nafter\n")
    assert stream.close() == ""


def test_a_key_without_end_is_masked_up_to_a_cap() -> None:
    """What follows is shown again, so that a mere mention does not hide a whole log."""
    shown = Redactor()("-----BEGIN RSA PRIVATE KEY-----\n" + "secret\n" * 5000 + "the end\n")
    assert shown.startswith("‹secret:key›")
    assert shown.endswith("the end\n")
    assert shown.count("secret\n") == 5000 - (16 * 1024 - 32) // 7


@pytest.mark.parametrize("value", ["abc", "12345", "   ab   ", ""])
def test_a_value_too_short_to_be_masked_is_refused(value: str) -> None:
    """It would be masked all over ordinary text."""
    with pytest.raises(Refused, match="cannot be masked"):
        Redactor().learn("pin", value)


def test_a_value_too_long_to_be_masked_is_refused() -> None:
    """Its encodings could not be looked for at a bearable cost."""
    with pytest.raises(Refused, match="cannot be masked"):
        Redactor().learn("blob", "x" * 65_537)


def test_a_value_that_is_no_text_is_refused() -> None:
    """A lone surrogate has no encoding."""
    with pytest.raises(Refused, match="not valid text"):
        Redactor().learn("odd", "abcdefg\ud800")


def test_learning_and_masking_at_the_same_time_is_safe() -> None:
    """Threads teach and mask; every value is masked once it was learnt."""
    redactor = Redactor()
    leaks: list[str] = []

    def work(number: int) -> None:
        for n in range(20):
            value = f"value-{number}-{n}-secret"
            redactor.learn("v", value)
            if value in redactor(f"print {value}\n"):
                leaks.append(value)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert leaks == []


HOSTILE = {
    "jwt starts": "eyJaaaaaaaaa-" * 5000,
    "urls": "://a:" * 13_000,
    "begin markers": "-----BEGIN " * 6000,
    "words": "password" * 8000,
    "dots": "s." * 30_000,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_text_costs_linear_time(kind: str) -> None:
    """A VM cannot stall the host with text made for slow regular expressions."""
    redactor = Redactor()
    begun = time.monotonic()
    redactor(HOSTILE[kind] * 4)
    assert time.monotonic() - begun < 5
