"""Names for rows, and tokens for buttons. Tokens are unguessable and say nothing."""

from __future__ import annotations

import secrets


def new_id() -> str:
    """An id for a row; also the name of an attempt's VM."""
    return secrets.token_hex(8)


def new_token() -> str:
    """An opaque value for a button, good for one decision."""
    return secrets.token_urlsafe(24)
