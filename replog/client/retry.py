"""Which error may be retried, and where: pure, and the only place that decides it.

What decides is what is known of the command. *Not appended*: it may be sent again, anywhere. *Unknown* (the connection or the leadership was lost after it was sent): only what the
caller declared idempotent, and reads, may be sent again, because it may be committed already. *Committed* or refused for good: never.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from replog.errors import Busy, DeadlineExceeded, NodeStopped, NotLeader, OutcomeUnknown, ReplogError, Unavailable

_PAUSE_SECONDS_MAX: Final = 0.5
_PAUSE_LEADERLESS_SECONDS_MAX: Final = 0.2


class NotSent(ReplogError):
    """The connection broke, or could not be made, before the request left. The client sends it elsewhere; callers never see this."""


class Retry(Enum):
    """What to do with a request that failed."""

    NO = "tell the caller"
    ELSEWHERE = "send it to another node"
    LATER = "send it again after a pause, to the same node"


_RULES: Final[tuple[tuple[type[ReplogError], Retry, Retry], ...]] = (
    # the error          a command        idempotent, or a read
    (NotLeader, Retry.ELSEWHERE, Retry.ELSEWHERE),
    (NotSent, Retry.ELSEWHERE, Retry.ELSEWHERE),
    (NodeStopped, Retry.ELSEWHERE, Retry.ELSEWHERE),
    (Unavailable, Retry.ELSEWHERE, Retry.ELSEWHERE),
    (Busy, Retry.LATER, Retry.LATER),
    (DeadlineExceeded, Retry.LATER, Retry.LATER),
    (OutcomeUnknown, Retry.NO, Retry.ELSEWHERE),
)


def decide(error: BaseException, *, idempotent: bool) -> Retry:
    """What may be done about `error`; errors that are not in the table are the caller's."""
    for kind, command, harmless in _RULES:
        if isinstance(error, kind):
            return harmless if idempotent else command
    return Retry.NO


def pause_seconds_max(error: BaseException | None) -> float:
    """The longest pause behind an attempt that failed with `error`. While nodes answer that none of them leads it is short: an election takes a second or two,
    and a pause that begins just before its end is added to it."""
    return _PAUSE_LEADERLESS_SECONDS_MAX if isinstance(error, NotLeader) else _PAUSE_SECONDS_MAX


def final_error(error: BaseException, *, maybe_appended: bool, what: str) -> BaseException:
    """What the caller is told when the time is up or nothing more can be tried; `maybe_appended`: some attempt's outcome is unknown."""
    if maybe_appended and not isinstance(error, OutcomeUnknown):
        unknown = OutcomeUnknown(f"{what}: an attempt was sent and never answered, then: {error}")
        unknown.__cause__ = error
        return unknown
    if isinstance(error, (NotLeader, NotSent, NodeStopped)):
        unavailable = Unavailable(f"{what}: no leader was reached in time, nothing was appended; last: {error}")
        unavailable.__cause__ = error
        return unavailable
    return error
