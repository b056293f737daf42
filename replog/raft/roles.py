"""Roles and the transitions between them, as a table (paper figure 4; pre-candidate from thesis 9.6, learner from thesis 4.2.1).

::

                 election timeout          pre-vote won            election won
      FOLLOWER ---------------------> PRE_CANDIDATE -----> CANDIDATE -----------> LEADER
         ^  ^                               |                  |                     |
         |  +---- leader heard, vote lost --+------------------+                     |
         +------- higher term, quorum lost, handed over, disk stalled, told to ------+

A learner is a follower that the membership names a learner; it never campaigns. Nothing but `become` changes the role, and `become` takes only
what stands in the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from replog.raft.events import LeaderChanged, RoleChanged
from replog.raft.state import State
from replog.types import NodeId, Role, Term

FOLLOWER, PRE_CANDIDATE, CANDIDATE, LEADER, LEARNER = Role.FOLLOWER, Role.PRE_CANDIDATE, Role.CANDIDATE, Role.LEADER, Role.LEARNER


class TermRule(Enum):
    """What a transition does to the term; the vote is forgotten when and only when the term rises."""

    SAME = "same"
    NEXT = "term + 1"
    HIGHER = "any higher"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    reason: str
    before: Role
    after: Role
    term: TermRule = TermRule.SAME


def _rows(reason: str, before: tuple[Role, ...], after: tuple[Role, ...], term: TermRule = TermRule.SAME) -> list[Transition]:
    return [Transition(reason=reason, before=one, after=other, term=term) for one in before for other in after]


HIGHER_TERM = "higher term"
LEADER_HEARD = "leader of this term heard"
ELECTION_TIMEOUT = "election timeout"
CAMPAIGN_ASKED = "campaign asked for"
TRANSFER = "leadership transferred here"
PRE_VOTE_WON = "pre-vote won"
PRE_VOTE_LOST = "pre-vote lost"
ELECTION_WON = "election won"
ELECTION_LOST = "election lost"
QUORUM_LOST = "quorum lost"
HANDED_OVER = "not a voter any more"
DISK_STALLED = "disk stalled"
STEPPED_DOWN = "told to step down"
MEMBERSHIP = "membership changed"

_RESTING = (FOLLOWER, LEARNER)

TRANSITIONS: tuple[Transition, ...] = (
    *_rows(HIGHER_TERM, (FOLLOWER, PRE_CANDIDATE, CANDIDATE, LEADER), (FOLLOWER,), TermRule.HIGHER),
    *_rows(HIGHER_TERM, (LEARNER, LEADER), (LEARNER,), TermRule.HIGHER),
    *_rows(LEADER_HEARD, (PRE_CANDIDATE, CANDIDATE), (FOLLOWER,)),
    *_rows(ELECTION_TIMEOUT, (FOLLOWER, PRE_CANDIDATE, CANDIDATE), (PRE_CANDIDATE,)),
    *_rows(ELECTION_TIMEOUT, (FOLLOWER, CANDIDATE), (CANDIDATE,), TermRule.NEXT),
    *_rows(CAMPAIGN_ASKED, (FOLLOWER, PRE_CANDIDATE, CANDIDATE), (PRE_CANDIDATE,)),
    *_rows(CAMPAIGN_ASKED, (FOLLOWER, PRE_CANDIDATE, CANDIDATE), (CANDIDATE,), TermRule.NEXT),
    *_rows(TRANSFER, (FOLLOWER,), (CANDIDATE,), TermRule.NEXT),
    *_rows(PRE_VOTE_WON, (PRE_CANDIDATE,), (CANDIDATE,), TermRule.NEXT),
    *_rows(PRE_VOTE_LOST, (PRE_CANDIDATE,), (FOLLOWER,)),
    *_rows(ELECTION_WON, (CANDIDATE,), (LEADER,)),
    *_rows(ELECTION_LOST, (CANDIDATE,), (FOLLOWER,)),
    *_rows(QUORUM_LOST, (LEADER,), _RESTING),
    *_rows(HANDED_OVER, (LEADER,), _RESTING),
    *_rows(DISK_STALLED, (LEADER,), _RESTING),
    *_rows(STEPPED_DOWN, (LEADER,), _RESTING),
    *_rows(STEPPED_DOWN, (PRE_CANDIDATE, CANDIDATE), (FOLLOWER,)),
    *_rows(MEMBERSHIP, (FOLLOWER,), (LEARNER,)),
    *_rows(MEMBERSHIP, (LEARNER,), (FOLLOWER,)),
)
"""Every transition there is, with its reason as the label."""

_TABLE = {(row.reason, row.before, row.after): row.term for row in TRANSITIONS}


def resting_role(state: State) -> Role:
    """What the node is when it neither campaigns nor leads. A voter that is demoted is a learner once that is committed: until then it may be needed."""
    return LEARNER if state.node_id in state.membership.learners and not state.is_elector else FOLLOWER


def become(state: State, role: Role, term: Term, leader: NodeId | None, reason: str) -> None:
    """Take `role` in `term`: the one place where role, term, vote and the timers change together."""
    rule = _TABLE.get((reason, state.role, role))
    assert rule is not None, (reason, state.role, role)
    if rule is TermRule.SAME:
        assert term == state.term
    elif rule is TermRule.NEXT:
        assert term == state.term + 1
    else:
        assert term > state.term

    old_leader, old_term = state.leader, state.term
    was_leader = state.role is LEADER
    if term != state.term:
        state.term = term
        state.vote = None
        state.timeout_now_sent = False
    state.role = role
    state.leader = leader
    state.votes.clear()
    state.conditional_votes.clear()
    state.election_elapsed = 0
    state.heartbeat_elapsed = 0
    state.persist_waiting_ticks = 0
    state.election_timeout = state.draw_timeout()
    if was_leader and role is not LEADER:
        state.peers.clear()
        state.voter_peers = []
        state.voter_peers_outgoing = []
        state.departed_members.clear()
        state.last_range = None
    if (leader, term) != (old_leader, old_term) or was_leader:
        state.reads.fail_all(state)
    state.events.append(RoleChanged(role=role, term=term, leader=leader, reason=reason))
    if leader != old_leader:
        state.events.append(LeaderChanged(leader=leader, term=term))


def rest(state: State, term: Term, leader: NodeId | None, reason: str) -> None:
    """Become what the node is when it does not campaign or lead."""
    become(state, resting_role(state), term, leader, reason)


def follow_membership(state: State) -> None:
    """A follower became a learner, or a learner a voter, by the membership now in force or committed."""
    if state.role is not LEARNER and not state.membership.learners:
        return
    role = resting_role(state)
    if state.role in _RESTING and state.role is not role:
        before = state.role
        rule = _TABLE.get((MEMBERSHIP, before, role))
        assert rule is TermRule.SAME
        state.role = role
        state.events.append(RoleChanged(role=role, term=state.term, leader=state.leader, reason=MEMBERSHIP))
