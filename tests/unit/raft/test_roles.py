"""Every row of the table of role transitions is walked, by the verbs and messages that a driver has."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from replog.raft import AddLearner, RaftCore, RemoveNode
from replog.raft.events import RoleChanged
from replog.raft.messages import InstallSnapshot, TimeoutNow
from replog.raft.roles import (
    CAMPAIGN_ASKED,
    DISK_STALLED,
    ELECTION_LOST,
    ELECTION_TIMEOUT,
    ELECTION_WON,
    HANDED_OVER,
    HIGHER_TERM,
    LEADER_HEARD,
    MEMBERSHIP,
    PRE_VOTE_LOST,
    PRE_VOTE_WON,
    QUORUM_LOST,
    STEPPED_DOWN,
    TRANSFER,
    TRANSITIONS,
    TermRule,
    Transition,
    become,
)
from replog.testing.cores import members
from replog.types import EntryKind, Role, SnapshotMeta
from tests.unit.raft.support import (
    TIMEOUT,
    accept,
    append,
    candidate,
    drain,
    granted,
    heartbeat,
    leader,
    make,
    only,
    pre_granted,
    tick,
    turn,
)


def in_role(role: Role, *, pre_vote: bool, demoted: bool = False) -> RaftCore:
    """A core of term 1 or above in `role`; a demoted leader is about to be a learner."""
    match role:
        case Role.FOLLOWER:
            core = make(term=1, pre_vote=pre_vote)
        case Role.LEARNER:
            core = make("4", membership=members("123", "4"), term=1, pre_vote=pre_vote)
        case Role.PRE_CANDIDATE:
            core = make(term=1, pre_vote=True)
            core.campaign()
        case Role.CANDIDATE:
            core = make(term=1, pre_vote=pre_vote)
            candidate(core)
        case Role.LEADER:
            core = leader(make(term=1, pre_vote=pre_vote), commit=True)
            if demoted:
                core.change_membership([AddLearner(node="1")])
                drain(core)
                for node in ("2", "3"):
                    core.receive(accept(core, node, core.last_index))
    while core.has_ready():
        turn(core)
    assert core.role is role
    return core


def silence(core: RaftCore) -> None:
    tick(core, 2 * TIMEOUT)


def stall(core: RaftCore) -> None:
    """The disk holds what was handed out, while the followers go on answering."""
    core.propose(count=1, size_bytes=1, frames="x")
    stalled(core)


def stall_demoted(core: RaftCore) -> None:
    """The same for the leader's own demotion, which the followers commit before it gives up."""
    core.change_membership([AddLearner(node="1")])
    stalled(core)


def stalled(core: RaftCore) -> None:
    core.ready()
    for count in range(2 * TIMEOUT + 1):
        for node in ("2", "3"):
            if core.is_leader:
                core.receive(accept(core, node, 1 if count < TIMEOUT + 5 else 2))
        core.tick()
        core.ready()


def handed_over(core: RaftCore) -> None:
    if core.membership.is_voter("1") and core.status().transfer_target is None:
        core.change_membership([RemoveNode(node="1")])
    for node in ("2", "3"):
        drain(core)
        core.receive(accept(core, node, core.last_index))
    for _ in range(TIMEOUT):
        for node in ("2", "3"):
            if core.is_leader:
                core.receive(accept(core, node, core.last_index))
        tick(core)


def lose(core: RaftCore) -> None:
    for node in ("2", "3"):
        core.receive(pre_granted(node, core, yes=False) if core.role is Role.PRE_CANDIDATE else granted(node, core, yes=False))


def change_membership(core: RaftCore) -> None:
    voters, learners = ("123", "4") if core.role is Role.FOLLOWER else ("1234", "")
    snapshot = SnapshotMeta(index=5, term=1, membership=members(voters, learners))
    core.receive(InstallSnapshot(source="2", target="4", term=1, meta=snapshot))


WALKS: dict[str, Callable[[RaftCore], None]] = {
    HIGHER_TERM: lambda core: core.receive(heartbeat("2", core.status().node, core.term + 3)),
    LEADER_HEARD: lambda core: core.receive(append("2", "1", core.term, (0, 0))),
    ELECTION_TIMEOUT: lambda core: tick(core, TIMEOUT),
    CAMPAIGN_ASKED: lambda core: core.campaign(),
    TRANSFER: lambda core: core.receive(TimeoutNow(source="2", target="1", term=core.term)),
    PRE_VOTE_WON: lambda core: core.receive(pre_granted("2", core)),
    PRE_VOTE_LOST: lose,
    ELECTION_WON: lambda core: core.receive(granted("2", core)),
    ELECTION_LOST: lose,
    QUORUM_LOST: silence,
    HANDED_OVER: handed_over,
    DISK_STALLED: stall,
    STEPPED_DOWN: lambda core: core.step_down(),
    MEMBERSHIP: change_membership,
}


def prepare(row: Transition) -> RaftCore:
    if row.reason == MEMBERSHIP:
        if row.before is Role.LEARNER:
            return in_role(Role.LEARNER, pre_vote=True)
        return make("4", voters="1234", term=1)
    pre_vote = row.after is Role.PRE_CANDIDATE or row.before is Role.PRE_CANDIDATE
    return in_role(
        row.before, pre_vote=pre_vote, demoted=row.before is Role.LEADER and row.after is Role.LEARNER and row.reason != DISK_STALLED
    )


@pytest.mark.parametrize("row", TRANSITIONS, ids=lambda row: f"{row.reason}: {row.before.value} to {row.after.value}")
def test_each_transition_of_the_table_happens(row: Transition) -> None:
    core = prepare(row)
    term, vote = core.term, core.vote

    if row.reason == DISK_STALLED and row.after is Role.LEARNER:
        stall_demoted(core)
    elif row.reason == CAMPAIGN_ASKED and row.after is Role.CANDIDATE:
        core.campaign(force=True)
    else:
        WALKS[row.reason](core)

    changes = [event for event in only(RoleChanged, core.ready().events) if event.reason == row.reason]
    if not changes:  # the walk's own turns took it
        assert row.reason in (DISK_STALLED, HANDED_OVER)
        assert core.role is row.after
        return
    assert changes[0].role is row.after
    if row.term is TermRule.SAME:
        assert changes[0].term == term
        assert core.vote == vote
    elif row.term is TermRule.NEXT:
        assert changes[0].term == term + 1
        assert core.vote == core.status().node
    else:
        assert changes[0].term > term
        assert core.vote is None


def test_what_is_not_in_the_table_cannot_happen() -> None:
    core = make()

    with pytest.raises(AssertionError):
        become(core._s, Role.LEADER, 0, "1", ELECTION_WON)


def test_no_row_is_written_twice() -> None:
    keys = [(row.reason, row.before, row.after) for row in TRANSITIONS]

    assert len(keys) == len(set(keys))


def test_the_first_entry_of_a_term_is_a_no_op() -> None:
    core = make(voters=["1"])
    core.campaign()

    assert [write.kind for write in turn(core).entries] == [EntryKind.NO_OP]
