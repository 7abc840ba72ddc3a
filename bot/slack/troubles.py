"""What went wrong with a Slack call, sorted by what to do about it. The sender and the channels ask.

Error names: https://docs.slack.dev/reference/methods/chat.postMessage/#errors and the pages of the other methods.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import aiohttp
from slack_sdk.errors import SlackApiError

CALL_ERRORS = (SlackApiError, aiohttp.ClientError, TimeoutError, OSError)
""" Everything that a call to Slack raises. """


class Kind(enum.Enum):
    """What to do about it."""

    LIMITED = "limited"
    """ Too fast: wait as long as Slack says; uses up no try. """

    AUTH = "auth"
    """ The token is wrong: nothing works until a person mends it. """

    PAYLOAD = "payload"
    """ Slack will not draw this: send it as plain text. """

    GONE = "gone"
    """ The channel is archived, deleted, or we were removed from it. """

    LOST = "lost"
    """ The message to edit is not there any more. """

    UNREACHABLE = "unreachable"
    """ No answer came from Slack. """

    TRANSIENT = "transient"
    """ Slack stumbled. """

    REFUSED = "refused"
    """ Anything else: trying again would give the same. """


_KINDS: dict[Kind, frozenset[str]] = {
    Kind.LIMITED: frozenset({"ratelimited", "rate_limited", "message_limit_exceeded"}),
    Kind.AUTH: frozenset(
        {
            "not_authed",
            "invalid_auth",
            "token_revoked",
            "token_expired",
            "account_inactive",
            "missing_scope",
            "no_permission",
            "not_allowed_token_type",
            "org_login_required",
            "two_factor_setup_required",
        }
    ),
    Kind.PAYLOAD: frozenset(
        {
            "invalid_blocks",
            "invalid_blocks_format",
            "msg_blocks_too_long",
            "msg_too_long",
            "metadata_too_large",
            "invalid_metadata_format",
            "invalid_metadata_schema",
            "no_text",
        }
    ),
    Kind.GONE: frozenset({"channel_not_found", "is_archived", "not_in_channel", "restricted_action_read_only_channel"}),
    Kind.LOST: frozenset({"message_not_found", "cant_update_message", "edit_window_closed", "thread_not_found"}),
    Kind.TRANSIENT: frozenset(
        {
            "internal_error",
            "fatal_error",
            "service_unavailable",
            "request_timeout",
            "team_added_to_org",
            "update_failed",
        }
    ),
}
_KIND_OF = {code: kind for kind, codes in _KINDS.items() for code in codes}
DEFAULT_RETRY_S = 30.0
LONGEST_RETRY_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """`ambiguous`: the call may have been carried out. `retry_after_s` is set when Slack says how long to wait."""

    kind: Kind
    code: str
    ambiguous: bool = False
    retry_after_s: float = DEFAULT_RETRY_S


def _status(error: SlackApiError) -> int:
    """The HTTP status, wherever this kind of response keeps it; 0 when unknown."""
    response = error.response
    return int(getattr(response, "status_code", None) or getattr(response, "status", None) or 0)


def _retry_after(error: SlackApiError) -> float:
    headers = getattr(error.response, "headers", None) or {}
    text = {str(name).lower(): value for name, value in dict(headers).items()}.get("retry-after", "")
    try:
        return min(max(float(text), 1.0), LONGEST_RETRY_S)
    except (TypeError, ValueError):
        return DEFAULT_RETRY_S


def code_of(error: SlackApiError) -> str:
    """Slack's name for the error; empty when the body was not Slack's."""
    data = getattr(error.response, "data", None)
    return str(data.get("error", "")) if isinstance(data, dict) else ""


def read(error: BaseException) -> Trouble:
    """Sort an error of a Slack call."""
    if isinstance(error, SlackApiError):
        return _read_answer(error)
    # Nothing was sent when no connection came about; otherwise the answer, not the call, may be what was lost.
    ambiguous = not isinstance(error, aiohttp.ClientConnectorError | aiohttp.InvalidURL)
    return Trouble(kind=Kind.UNREACHABLE, code=type(error).__name__, ambiguous=ambiguous)


def _read_answer(error: SlackApiError) -> Trouble:
    status, code = _status(error), code_of(error)
    kind = Kind.LIMITED if status == 429 else _KIND_OF.get(code)
    if kind is None and (status >= 500 or not code):
        kind = Kind.TRANSIENT
    kind = kind or Kind.REFUSED
    return Trouble(
        kind=kind,
        code=code or f"HTTP {status}",
        ambiguous=kind is Kind.TRANSIENT,
        retry_after_s=_retry_after(error),
    )
