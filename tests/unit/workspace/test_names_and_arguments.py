"""Channel names, merged arguments, the guard against other pages."""

import pytest
from aiohttp.test_utils import make_mocked_request

from demo.workspace.api_conversations import checked_name
from demo.workspace.args import Args, merged
from demo.workspace.errors import ApiError
from demo.workspace.guard import refusal

HOSTS = frozenset({"127.0.0.1:8090", "localhost:8090"})


@pytest.mark.parametrize("name", ["a", "inc-7-checkout_disk", "x" * 80, "7"])
def test_a_good_channel_name_passes(name: str) -> None:
    assert checked_name(name) == name


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("", "invalid_name_required"),
        ("x" * 81, "invalid_name_maxlength"),
        ("Inc", "invalid_name_specials"),
        ("inc 7", "invalid_name_specials"),
        ("inc.7", "invalid_name_specials"),
        ("#inc", "invalid_name_specials"),
        ("--", "invalid_name_punctuation"),
    ],
)
def test_a_bad_channel_name_is_refused_not_mended(name: str, code: str) -> None:
    with pytest.raises(ApiError, match=f"^{code}$"):
        checked_name(name)


def test_query_and_body_are_merged() -> None:
    form = "application/x-www-form-urlencoded"
    assert merged({"a": "1"}, form, b"b=2&c=") == {"a": "1", "b": "2", "c": ""}
    assert merged({"a": "1"}, "application/json; charset=utf-8", b'{"b": [2]}') == {"a": "1", "b": [2]}


@pytest.mark.parametrize(
    ("kind", "body", "code"),
    [
        ("application/json", b"{", "invalid_json"),
        ("application/json", b"[1]", "json_not_object"),
        ("application/json", b"\xff", "invalid_charset"),
        ("text/xml", b"<a/>", "invalid_post_type"),
    ],
)
def test_a_body_that_is_not_what_it_says_is_refused(kind: str, body: bytes, code: str) -> None:
    with pytest.raises(ApiError, match=f"^{code}$"):
        merged({}, kind, body)


def test_a_missing_argument_is_named() -> None:
    with pytest.raises(ApiError, match="invalid_arguments") as refused:
        Args({"channel": ""}).require("channel", "ts")
    assert refused.value.messages == ("missing required field: channel", "missing required field: ts")


@pytest.mark.parametrize(
    ("host", "method", "path", "headers", "served"),
    [
        ("127.0.0.1:8090", "GET", "/", {}, True),
        ("localhost:8090", "GET", "/", {"Sec-Fetch-Site": "cross-site"}, True),
        ("evil.example:8090", "GET", "/", {}, False),
        ("127.0.0.1:8091", "POST", "/api/auth.test", {}, False),
        ("127.0.0.1:8090", "POST", "/page/do", {"Content-Type": "application/json"}, True),
        ("127.0.0.1:8090", "POST", "/page/do", {"Content-Type": "text/plain"}, False),
        ("127.0.0.1:8090", "GET", "/driver/received", {"Sec-Fetch-Site": "cross-site"}, False),
        ("127.0.0.1:8090", "GET", "/driver/received", {"Sec-Fetch-Site": "same-site"}, False),
        ("127.0.0.1:8090", "POST", "/driver/click", {"Content-Type": "application/json", "Origin": "null"}, False),
        (
            "127.0.0.1:8090",
            "POST",
            "/driver/click",
            {"Content-Type": "application/json", "Origin": "http://127.0.0.1:8080"},
            False,
        ),
        (
            "127.0.0.1:8090",
            "POST",
            "/driver/click",
            {"Content-Type": "application/json", "Origin": "http://127.0.0.1:8090"},
            True,
        ),
    ],
)
def test_only_its_own_page_may_drive_it(
    host: str, method: str, path: str, headers: dict[str, str], *, served: bool
) -> None:
    request = make_mocked_request(method, path, headers=headers)
    assert (refusal(host, HOSTS, request) == "") is served
