"""What a node tells of itself to people and programs, gathered from its parts."""

from __future__ import annotations

from collections.abc import Mapping

from replog.node.loop import OwnerLoop
from replog.node.status import NodeStatus
from replog.types import NodeId


def describe(loop: OwnerLoop, peer_errors: Mapping[NodeId, str]) -> NodeStatus:
    """What the node knows now; also after it has stopped or failed. `peer_errors`: why it has no connection to a peer."""
    replica = loop.replica
    core = replica.core.status()
    leader, address = replica.not_leader().leader, replica.not_leader().address
    return NodeStatus(
        node_id=replica.config.node.node_id,
        cluster_id=replica.config.cluster.cluster_id,
        role=core.role,
        term=core.term,
        leader=leader,
        leader_address=address,
        committed_index=core.committed_index,
        applied_index=replica.applied_index,
        persisted_index=core.persisted_index,
        first_index=core.first_index,
        last_index=core.last_index,
        snapshot_index=replica.snapshot_meta.index if replica.snapshot_meta is not None else 0,
        log_bytes=replica.storage.size_bytes,
        incarnation=replica.storage.recovered.incarnation,
        membership=core.membership,
        membership_index=core.membership_index,
        peers=core.peers,
        acknowledgement_seconds=loop.acknowledgement_seconds([peer.node for peer in core.peers]),
        turn_bytes_max=loop.inbox.turn_bytes_max,
        transfer_target=core.transfer_target,
        removed=replica.removed,
        fenced_by_epoch=replica.fence.epoch,
        founding=replica.founding.reason(),
        diverged_since=replica.healing.wrong_since,
        divergences=replica.healing.divergences,
        incarnations_seen=replica.incarnations.all_seen(),
        peer_errors=peer_errors,
        failure=str(loop.failure) if loop.failure is not None else None,
    )


def not_ready_reason(loop: OwnerLoop, peer_errors: Mapping[NodeId, str]) -> str:
    """Why a node that runs should get no requests now; empty when it should."""
    replica = loop.replica
    if loop.failure is not None:
        return f"failed: {loop.failure}"
    if loop.stalls:
        return "the disk stalls: a write has taken longer than an election timeout"
    if replica.fence.epoch:
        return replica.fence.reason()
    if replica.removed:
        return "removed from the membership; stop this node, or add it again"
    if replica.healing.wrong_since is not None:
        return str(replica.refusal())
    if replica.core.leader is None:
        refusals = [error for error in peer_errors.values() if "refused" in error]
        founding = [replica.founding.reason()] if replica.founding.reason() else []
        return "; ".join(["no leader is known", *founding, *refusals[:1]])
    if replica.unapplied_entries:
        return f"{replica.unapplied_entries} committed entries are not applied yet"
    return ""
