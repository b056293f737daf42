"""Changing the membership: what the leader allows, and what follows from it (paper section 6; thesis chapter 4).

One change at a time, and none before an entry of the leader's own term is committed: two overlapping changes of different terms might otherwise
have quorums without a common node (thesis 4.1 and its erratum). A joint membership is left by itself once it is committed. A leader that is no
voter any more stays until that is committed, then hands over. A removed node is still told the commit of its removal.
"""

from __future__ import annotations

from collections.abc import Sequence

from replog.config import VOTERS_MAX
from replog.errors import Busy, MembershipChangePending, MembershipRefused, UnknownNode
from replog.raft import transfer
from replog.raft.events import LearnerCaughtUp, ProgressChanged
from replog.raft.membership import AddVoter, MembershipChange, UpdateMember, enter_joint, leave_joint, simple, voters_changed
from replog.raft.progress import PROBE, Progress
from replog.raft.replication import append_own_entry, flush, is_active
from replog.raft.roles import HANDED_OVER, rest
from replog.raft.state import State
from replog.types import INDEX_MAX, EntryId, EntryKind, Member, Membership, NodeId

DEPARTED_MAX = 16
"""Removed nodes that are still told about it, at once."""
DEPARTED_TIMEOUTS = 10
"""A removed node that is silent for so many (largest) election timeouts is given up."""


# -- the verb -----------------------------------------------------------------------------------------------------------


def change(state: State, changes: Sequence[MembershipChange], *, force: bool, joint: bool | None, auto_leave: bool) -> EntryId:
    """Append the membership that `changes` make; see `RaftCore.change_membership`."""
    current = state.membership
    if state.transfer_target is not None:
        raise Busy("leadership transfers under way", 1, 0)
    if state.history.index > state.log.committed_index:
        raise MembershipChangePending(f"the change at index {state.history.index} is not committed yet; one at a time")
    if not state.committed_in_term:
        raise MembershipChangePending(f"no entry of term {state.term} is committed yet; wait for it")
    if not changes:
        membership = leave_joint(current)
    else:
        for one in changes:
            check_change(current, one)
        if joint is None:
            joint = voters_changed(current, changes) > 1
        membership = enter_joint(current, changes, auto_leave=auto_leave) if joint else simple(current, changes)
    if len(membership.voters) > VOTERS_MAX:
        raise MembershipRefused(f"{len(membership.voters)} voters; at most {VOTERS_MAX} are allowed")
    if not force:
        check_health(state, membership)
    return append_membership(state, membership)


def check_change(current: Membership, one: MembershipChange) -> None:
    """Raise unless the change makes sense for the member it names."""
    known = current.members.get(one.node)
    if isinstance(one, UpdateMember) and known is None:
        raise UnknownNode(one.node, current.nodes)
    if not isinstance(one, UpdateMember | AddVoter) or known is None or not one.incarnation or not known.incarnation:
        return
    if one.incarnation != known.incarnation and (isinstance(one, AddVoter) or current.is_voter(one.node)):
        raise MembershipRefused(
            f"{one.node}: incarnation {one.incarnation} is not the recorded {known.incarnation}; its promises are lost, so it must come back as a learner"
        )


def check_health(state: State, membership: Membership) -> None:
    """Raise unless each half of `membership` has a quorum of nodes that were heard of lately."""
    if state.is_only_voter and len(membership.voters) <= 2:
        return  # the one way from one voter to two
    for voters in (membership.voters, membership.voters_outgoing):
        silent = [node for node in voters if node != state.node_id and not is_heard(state, node)]
        needed = len(voters) // 2 + 1
        if voters and len(voters) - len(silent) < needed:
            raise MembershipRefused(
                f"of the voters {', '.join(voters)} {needed} must be reachable, but {', '.join(silent)} were not heard of lately; "
                "bring them back, add new ones as learners first, or force the change"
            )


def is_heard(state: State, node: NodeId) -> bool:
    peer = state.peers.get(node)
    return peer is not None and is_active(state, peer)


# -- what a membership in force means for the leader ----------------------------------------------------------------------


def append_membership(state: State, membership: Membership) -> EntryId:
    """Append a membership entry and let it be in force at once."""
    before = state.membership
    index = append_own_entry(state, EntryKind.MEMBERSHIP, membership)
    state.adopt_membership(index, membership)
    for node in membership.nodes:
        if node == state.node_id:
            continue
        peer = state.peers.get(node)
        if peer is None:
            # A voter gets the time of an election timeout to answer first; a learner counts as there once it has.
            silent_since = state.ticks if membership.is_voter(node) else state.ticks - state.config.election_timeout_ticks_min
            state.peers[node] = Progress(node, index, silent_since)
            continue
        peer.last_wanted = INDEX_MAX
        peer.departure_round = 0
        returns = state.departed_members.pop(node, None) is not None
        old, new = before.members.get(node), membership.members[node]
        if returns or (old is not None and old.incarnation and old.incarnation != new.incarnation):
            peer.lost_tail()  # another data directory, or it may be one: nothing that the old one acknowledged counts
            peer.become_probe(index)
    for peer in state.peers.values():
        if peer.node not in membership.members and peer.last_wanted == INDEX_MAX:
            peer.last_wanted = index
            state.departed_members[peer.node] = before.members[peer.node]
    index_voters(state)
    return EntryId(state.term, index)


def index_voters(state: State) -> None:
    """Whose progress counts in each half (this node's own apart)."""
    peers = state.peers
    state.voter_peers = [peers[node] for node in state.membership.voters if node != state.node_id]
    state.voter_peers_outgoing = [peers[node] for node in state.membership.voters_outgoing if node != state.node_id]


def after_commit(state: State) -> None:
    """The commit index rose: what waited for a committed membership may happen now."""
    membership = state.membership
    if membership.voters_outgoing:
        if membership.auto_leave and state.history.index <= state.log.committed_index and state.committed_in_term:
            append_membership(state, leave_joint(membership))
    elif state.node_id not in membership.voters and transfer.must_go(state) and state.transfer_target is None:
        flush(state)  # the commit of the removal leaves first
        best = transfer.best_target(state)
        if best is None:
            rest(state, state.term, None, HANDED_OVER)
        else:
            transfer.start(state, best)


# -- learners -----------------------------------------------------------------------------------------------------------


def on_match(state: State, peer: Progress) -> None:
    """A follower holds more: a learner may have caught up (thesis 4.2.1)."""
    if not state.membership.learners or peer.node not in state.membership.learners:
        return
    if peer.match_index + state.config.promote_lag_entries < state.log.last_index:
        return
    if not peer.caught_up_told:
        peer.caught_up_told = True
        state.events.append(LearnerCaughtUp(learner=peer.node, match_index=peer.match_index))
    if state.config.auto_promote and not state.membership.members[peer.node].stays_learner:
        promote(state, peer.node)


def promote(state: State, learner: NodeId) -> None:
    """Make a learner a voter, if a change is allowed now; else the next tick or answer tries again."""
    if state.transfer_target is not None or state.membership.is_joint or len(state.membership.voters) >= VOTERS_MAX:
        return
    if state.history.index > state.log.committed_index or not state.committed_in_term:
        return
    membership = simple(state.membership, [AddVoter(node=learner)])
    append_membership(state, membership)


def tick(state: State) -> None:
    """Promote learners that wait for their turn; give up removed nodes that stay silent."""
    if state.config.auto_promote:
        for node in state.membership.learners:
            peer = state.peers.get(node)
            if peer is not None and peer.caught_up_told and is_active(state, peer):
                on_match(state, peer)
    if state.departed_members:
        limit = DEPARTED_TIMEOUTS * state.config.election_timeout_ticks_max
        for node in list(state.departed_members):
            peer = state.peers[node]
            if state.ticks - peer.active_at_tick >= limit:
                forget_departed(state, peer)


# -- removed nodes ------------------------------------------------------------------------------------------------------


def tell_departed(state: State, node: NodeId) -> None:
    """A node that is no member asks for votes, so it was never told of its removal: replicate to it up to where it was removed."""
    member = state.history.last_member(node)
    if member is not None and state.history.index <= state.log.committed_index:
        replicate_to_departed(state, node, member)


def tell_last_departed(state: State) -> None:
    """A new leader: those whom the newest membership removed may not know it, as the old leader may have been one of them."""
    index = state.history.index
    if index >= state.log.first_index:
        for node, member in sorted(state.history.at(index - 1).members.items()):
            if node not in state.membership.members:
                replicate_to_departed(state, node, member)


def replicate_to_departed(state: State, node: NodeId, member: Member) -> None:
    if node in state.peers or node == state.node_id or len(state.departed_members) >= DEPARTED_MAX:
        return
    peer = Progress(node, max(state.history.index, 1), state.ticks)
    peer.last_wanted = state.history.index
    state.peers[node] = peer
    state.departed_members[node] = member
    state.sends_wanted = True
    state.events.append(
        ProgressChanged(peer=node, state=PROBE.value, match_index=0, next_index=peer.next_index, reason="removed, and does not know it")
    )


def forget_departed(state: State, peer: Progress) -> None:
    """The removed node knows, or stays silent: nothing more is sent to it. (Told as progress "departed".)"""
    del state.peers[peer.node]
    del state.departed_members[peer.node]
    state.events.append(
        ProgressChanged(peer=peer.node, state="departed", match_index=peer.match_index, next_index=peer.next_index, reason="removed")
    )
