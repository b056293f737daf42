"""The invariants of one core, each line as the field's docstring says it; asserted after every verb in tests and simulation (FAULTS, S6, S9, S11)."""

from __future__ import annotations

from replog.raft.state import State
from replog.types import Role


def check(state: State) -> None:
    """Raise `AssertionError` if an invariant does not hold."""
    log = state.log
    log.check()
    state.history.check(log.last_index)
    assert state.membership is state.history.current
    assert log.applied_index <= state.applying_index <= log.committed_index
    assert state.snapshot is None or state.snapshot.index <= log.applied_index
    assert state.snapshot is None or log.first_index <= state.snapshot.index + 1
    assert log.first_index == 1 or state.snapshot is not None
    assert state.term >= log.last_term
    assert state.vote is None or state.term > 0
    assert not state.entries or state.entries[0].first_index == log.handed_index + 1
    assert not state.entries or state.entries[-1].last_index == log.last_index
    for one, following in zip(state.entries, state.entries[1:], strict=False):
        assert following.first_index == one.last_index + 1
    assert state.entries or log.handed_index == log.last_index
    assert state.discard_from is None or state.discard_from == log.handed_index + 1
    assert (state.role is Role.LEADER) == (state.leader == state.node_id)
    if state.role is Role.LEADER:
        check_leader(state)
    else:
        assert not state.peers
        assert not state.reads.rounds
        assert not state.reads.waiting
    if state.role in (Role.CANDIDATE, Role.PRE_CANDIDATE):
        assert state.leader is None
        assert state.votes.get(state.node_id) is True
    if state.role is Role.CANDIDATE:
        assert state.vote == state.node_id
    if state.role is Role.LEARNER:
        assert state.node_id in state.membership.learners


def check_leader(state: State) -> None:
    log = state.log
    assert state.vote == state.node_id
    assert log.last_term == state.term
    expected = set(state.membership.nodes) - {state.node_id}
    assert set(state.peers) == expected | set(state.departed_members)
    for peer in state.peers.values():
        peer.check(log.last_index)
        assert (peer.node in state.departed_members) == (peer.node not in state.membership.members)
    later = [index for index, _ in state.history.between(log.committed_index + 1, log.last_index)]
    assert len(later) <= 1 or log.term_at(later[-1]) != state.term
    assert [peer.node for peer in state.voter_peers] == [node for node in state.membership.voters if node != state.node_id]
    assert [peer.node for peer in state.voter_peers_outgoing] == [
        node for node in state.membership.voters_outgoing if node != state.node_id
    ]
    assert state.reads.count >= len(state.reads.waiting) + sum(len(one.waiters) for one in state.reads.rounds)
