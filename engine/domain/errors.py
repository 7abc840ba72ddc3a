"""The tree of errors that cross rooms. Raise these; the rims (CLI, web, Slack) translate them for people.

SignalboxError
  BadInput            what came in is not acceptable; the message says what and how to mend it
    Unauthenticated   the sender could not prove who it is
    TooLarge          over a limit
  NotAllowed          a known person may not do this; `remedy` says who may
  Conflict            somebody was faster, or the picture was stale; nothing was changed
    IllegalMove       the table of moves has no such move
  Unavailable         something outside is down; trying again later may help
  Refused             a safety rule stopped it (changed digest, wide grant, forbidden end)
"""


class SignalboxError(Exception):
    """Base: `str(error)` says what happened, `remedy` what a person can do about it."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


class BadInput(SignalboxError):
    """Input that is not acceptable. It changes nothing."""


class Unauthenticated(BadInput):
    """The sender did not prove who it is; the body was not kept."""


class TooLarge(BadInput):
    """The input is over a size limit."""


class NotAllowed(SignalboxError):
    """A known person may not do this."""


class Conflict(SignalboxError):
    """Somebody was faster, or the caller's picture is stale. Nothing was changed."""


class IllegalMove(Conflict):
    """The table of moves has no such move."""


class Unavailable(SignalboxError):
    """Something outside did not answer; later it may."""


class Refused(SignalboxError):
    """A safety rule stopped it."""
