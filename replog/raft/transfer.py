"""Handing leadership to another voter (thesis 3.10).

The leader takes no more proposals, brings the target up to date, and tells it to campaign at once (`TimeoutNow`). It gives up after an election
timeout and leads on. Whether it succeeded shows when a leader is known again.
"""

from __future__ import annotations

from replog.errors import MembershipRefused, Unavailable, UnknownNode
from replog.raft.events import TransferEnded
from replog.raft.messages import TimeoutNow
from replog.raft.progress import PROBE, Progress
from replog.raft.replication import is_active
from replog.raft.roles import HANDED_OVER, rest
from replog.raft.state import State
from replog.types import NodeId, Role


def ask(state: State, target: NodeId | None) -> None:
    """Begin a transfer to `target`, or to the best follower. Raises `UnknownNode`, `MembershipRefused` (not a voter), `Unavailable` (nobody to take it)."""
    membership = state.membership
    if target is None:
        target = best_target(state)
        if target is None:
            raise Unavailable("no other voter was heard of lately, so nobody can take the leadership")
    if target not in membership.nodes:
        raise UnknownNode(target, membership.nodes)
    if target not in membership.voters:
        raise MembershipRefused(f"{target} is not a voter, so it cannot lead")
    if target == state.node_id and state.transfer_target is not None:
        end(state, succeeded=False, reason=f"{target} was asked to stay")
    if target == state.node_id or target == state.transfer_target:
        return
    start(state, target)


def best_target(state: State) -> NodeId | None:
    """The voter heard of lately whose log is the longest; the first by name among equals."""
    best: Progress | None = None
    for node in state.membership.voters:
        peer = state.peers.get(node)
        if peer is not None and is_active(state, peer) and (best is None or peer.match_index > best.match_index):
            best = peer
    return best.node if best is not None else None


def abdicate(state: State) -> TimeoutNow | None:
    """Ask the best follower to campaign although this leader can bring nobody up to date any more."""
    target = best_target(state) if state.role is Role.LEADER else None
    if target is None:
        return None
    state.timeout_now_sent = True
    return TimeoutNow(source=state.node_id, target=target, term=state.term)


def start(state: State, target: NodeId) -> None:
    if state.transfer_target is not None:
        end(state, succeeded=False, reason=f"another transfer, to {target}")
    state.transfer_target = target
    state.transfer_asked_tick = state.ticks
    peer = state.peers[target]
    if peer.state is PROBE:
        peer.paused = False
    state.sends_wanted = True
    on_match(state, peer)


def on_match(state: State, peer: Progress) -> None:
    """The target may hold everything now: then it is to campaign. Said again with each heartbeat's answer, as it may be lost."""
    if state.transfer_target != peer.node or peer.match_index != state.log.last_index:
        return
    state.timeout_now_sent = True
    state.before_sync.append(TimeoutNow(source=state.node_id, target=peer.node, term=state.term))


def tick(state: State) -> bool:
    """A transfer that takes longer than an election timeout is given up, and a leader that may not stay steps down; says whether it did."""
    if state.transfer_target is None or state.ticks - state.transfer_asked_tick < state.config.election_timeout_ticks_min:
        return False
    end(state, succeeded=False, reason="not done within an election timeout")
    if must_go(state):
        rest(state, state.term, None, HANDED_OVER)
        return True
    return False


def must_go(state: State) -> bool:
    """A committed membership, not a joint one, has this leader not as a voter (thesis 4.2.2)."""
    return not state.is_voter and state.history.index <= state.log.committed_index


def on_leader_known(state: State, leader: NodeId) -> None:
    """This node does not lead any more, and knows who does."""
    target = state.transfer_target
    if target is not None and state.role is not Role.LEADER:
        end(state, succeeded=leader == target, reason=f"{leader} leads term {state.term}")


def end(state: State, *, succeeded: bool, reason: str) -> None:
    target = state.transfer_target
    assert target is not None
    state.transfer_target = None
    state.events.append(TransferEnded(target=target, succeeded=succeeded, reason=reason))
