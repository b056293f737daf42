"""Errors keep their class, values and words over the wire."""

from __future__ import annotations

import pytest

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
    StorageFailed,
    Unavailable,
    UnknownNode,
)
from replog.rpc import client_pb2 as pb
from replog.rpc.failures import error_of, failure_of

ERRORS: list[ReplogError] = [
    NotLeader("b", "host:1"),
    NotLeader(),
    Busy("uncommitted bytes", 5, 4),
    Unavailable("nobody"),
    DeadlineExceeded("late"),
    OutcomeUnknown("who knows"),
    ProposalTooLarge(9, 8),
    MembershipRefused("joint"),
    UnknownNode("x", ("a", "b")),
    CommandFailed("KeyError", "'x'"),
    QueryFailed("ValueError", "bad"),
    MalformedMessage("rubbish"),
    NodeStopped("stopping"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_comes_back_as_itself(error: ReplogError) -> None:
    wire = failure_of(error).SerializeToString()

    back = error_of(pb.Failure.FromString(wire))

    assert type(back) is type(error)
    assert str(back) == str(error)
    assert vars(back) == vars(error)


@pytest.mark.parametrize("error", [StorageFailed("disk"), ValueError("bug"), RuntimeError("x" * 100_000)])
def test_what_is_not_for_clients_has_an_unknown_outcome(error: Exception) -> None:
    failure = failure_of(error)

    back = error_of(failure)

    assert failure.code == pb.Failure.INTERNAL
    assert type(back) is OutcomeUnknown
    assert type(error).__name__ in str(back)
    assert failure.ByteSize() < 2_000


def test_a_code_from_the_future_has_an_unknown_outcome() -> None:
    assert type(error_of(pb.Failure(code=99, message="new"))) is OutcomeUnknown  # type: ignore[arg-type]  # a code that this version has no name for
