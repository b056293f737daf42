"""Errors over the wire and back: one table for the services and the client.

An error keeps its class and its values, so that a caller far away acts on the same name as one in the process.
"""

from __future__ import annotations

from replog.errors import (
    Busy,
    CommandFailed,
    DeadlineExceeded,
    MalformedMessage,
    MembershipRefused,
    NodeStopped,
    NotLeader,
    OutcomeUnknown,
    ProposalTooLarge,
    QueryFailed,
    ReplogError,
    Unavailable,
    UnknownNode,
)
from replog.rpc import client_pb2 as pb

_TEXT_CHARACTERS_MAX = 1024
_Code = pb.Failure
_PLAIN: tuple[tuple[type[ReplogError], pb.Failure.Code], ...] = (
    (Unavailable, _Code.UNAVAILABLE),
    (DeadlineExceeded, _Code.DEADLINE_EXCEEDED),
    (MalformedMessage, _Code.MALFORMED),
    (NodeStopped, _Code.STOPPED),
    (MembershipRefused, _Code.REFUSED),
    (OutcomeUnknown, _Code.OUTCOME_UNKNOWN),
)
"""Errors that are their message and nothing else."""


def failure_of(error: BaseException) -> pb.Failure:
    """What to tell a client of `error`; whatever is not replog's own is INTERNAL, and the client counts the outcome as unknown."""
    text = str(error)[:_TEXT_CHARACTERS_MAX]
    match error:
        case NotLeader():
            return pb.Failure(code=_Code.NOT_LEADER, message=text, node=error.leader or "", address=error.address or "")
        case Busy():
            return pb.Failure(code=_Code.BUSY, message=text, kind=error.what, value=max(0, error.value), limit=max(0, error.limit))
        case ProposalTooLarge():
            return pb.Failure(code=_Code.TOO_LARGE, message=text, value=error.size_bytes, limit=error.limit_bytes)
        case UnknownNode():
            return pb.Failure(code=_Code.UNKNOWN_NODE, message=text, node=error.node, known=error.known)
        case QueryFailed():
            return pb.Failure(code=_Code.QUERY_FAILED, message=error.detail[:_TEXT_CHARACTERS_MAX], kind=error.kind)
        case CommandFailed():
            return pb.Failure(code=_Code.COMMAND_FAILED, message=error.detail[:_TEXT_CHARACTERS_MAX], kind=error.kind)
    for kind, code in _PLAIN:
        if isinstance(error, kind):
            return pb.Failure(code=code, message=text)
    return pb.Failure(code=_Code.INTERNAL, message=text, kind=type(error).__name__)


def error_of(failure: pb.Failure) -> ReplogError:
    """The error that `failure` stands for; one of a code that is not known here is an `OutcomeUnknown`."""
    code = failure.code
    if code == _Code.NOT_LEADER:
        return NotLeader(failure.node or None, failure.address or None)
    if code == _Code.BUSY:
        return Busy(failure.kind, failure.value, failure.limit)
    if code == _Code.TOO_LARGE:
        return ProposalTooLarge(failure.value, failure.limit)
    if code == _Code.UNKNOWN_NODE:
        return UnknownNode(failure.node, tuple(failure.known))
    if code == _Code.QUERY_FAILED:
        return QueryFailed(failure.kind, failure.message)
    if code == _Code.COMMAND_FAILED:
        return CommandFailed(failure.kind, failure.message)
    for kind, known in _PLAIN:
        if code == known:
            return kind(failure.message)
    return OutcomeUnknown(f"the node failed while it worked on the request: {failure.kind}: {failure.message}")
