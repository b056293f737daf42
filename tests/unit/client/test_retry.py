"""The table of what may be retried, and what the caller is told in the end."""

from __future__ import annotations

import pytest

from replog.client.retry import NotSent, Retry, decide, final_error, pause_seconds_max
from replog.errors import (
    Busy,
    CommandFailed,
    ConfigError,
    DeadlineExceeded,
    MalformedMessage,
    MembershipRefused,
    NodeStopped,
    NotLeader,
    OutcomeUnknown,
    PeerRefused,
    ProposalTooLarge,
    QueryFailed,
    ReplogError,
    Unavailable,
)


@pytest.mark.parametrize("idempotent", [False, True])
@pytest.mark.parametrize("error", [NotLeader("b", "b:1"), NotSent("x"), NodeStopped("x"), Unavailable("x")])
def test_what_was_not_appended_is_sent_elsewhere(error: ReplogError, idempotent: bool) -> None:
    assert decide(error, idempotent=idempotent) is Retry.ELSEWHERE


@pytest.mark.parametrize("error", [Busy("bytes", 2, 1), DeadlineExceeded("x")])
def test_what_a_node_has_no_room_for_is_sent_later(error: ReplogError) -> None:
    assert decide(error, idempotent=False) is Retry.LATER


def test_an_unknown_outcome_is_retried_only_where_it_does_no_harm() -> None:
    assert decide(OutcomeUnknown("x"), idempotent=False) is Retry.NO
    assert decide(OutcomeUnknown("x"), idempotent=True) is Retry.ELSEWHERE


@pytest.mark.parametrize(
    "error",
    [
        CommandFailed("ValueError", "x"),
        QueryFailed("ValueError", "x"),
        ProposalTooLarge(2, 1),
        MembershipRefused("x"),
        ConfigError("field", 1, "2"),
        PeerRefused("x"),
        MalformedMessage("x"),
        ValueError("x"),
    ],
)
@pytest.mark.parametrize("idempotent", [False, True])
def test_the_callers_mistakes_and_results_are_never_retried(error: Exception, idempotent: bool) -> None:
    assert decide(error, idempotent=idempotent) is Retry.NO


def test_a_refusal_behind_an_unknown_attempt_leaves_it_unknown() -> None:
    told = final_error(NotLeader(), maybe_appended=True, what="propose")

    assert isinstance(told, OutcomeUnknown)
    assert isinstance(told.__cause__, NotLeader)


@pytest.mark.parametrize("error", [NotLeader(), NotSent("x"), NodeStopped("x")])
def test_what_never_found_a_leader_is_unavailable(error: ReplogError) -> None:
    told = final_error(error, maybe_appended=False, what="propose")

    assert isinstance(told, Unavailable)
    assert "nothing was appended" in str(told)


@pytest.mark.parametrize("error", [Busy("bytes", 2, 1), OutcomeUnknown("x"), CommandFailed("ValueError", "x"), DeadlineExceeded("x")])
def test_other_errors_are_told_as_they_are(error: ReplogError) -> None:
    assert final_error(error, maybe_appended=False, what="propose") is error


def test_a_cluster_that_elects_is_asked_more_often_than_one_that_cannot_be_reached() -> None:
    elects, election_timeout_seconds = pause_seconds_max(NotLeader()), 1.0

    assert elects <= election_timeout_seconds / 5
    assert all(pause_seconds_max(error) > elects for error in (NotSent("x"), Busy("bytes", 2, 1), Unavailable("x"), None))
