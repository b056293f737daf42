"""What a node tells of itself, as one frozen value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from replog.raft.ready import PeerStatus
from replog.types import Index, Membership, NodeId, Term


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """snapshot_index <= applied_index <= committed_index <= last_index (S6)."""

    node_id: NodeId
    cluster_id: str
    role: str
    term: Term
    leader: NodeId | None
    leader_address: str | None
    committed_index: Index
    applied_index: Index
    persisted_index: Index
    first_index: Index
    last_index: Index
    snapshot_index: Index
    log_bytes: int
    incarnation: int
    membership: Membership
    membership_index: Index
    """Index of the entry that made the membership in force; 0 for the initial one."""
    peers: tuple[PeerStatus, ...] = ()
    """The leader's view of the others; empty elsewhere."""
    acknowledgement_seconds: Mapping[NodeId, float] = field(default_factory=dict)
    """On the leader: mean time of late from sending an append to its acknowledgement, the follower's sync included."""
    turn_bytes_max: int = 0
    """Most bytes of proposals that one turn takes in now: configured, or less where the measured sync is slow."""
    transfer_target: NodeId | None = None
    removed: bool = False
    fenced_by_epoch: int = 0
    """The cluster's epoch that shuts this node out for good; 0: it takes part."""
    founding: str = ""
    """Why this node, whose directory is empty, does not elect anybody yet; empty on every other node."""
    diverged_since: Index | None = None
    """Index at which this node's state was found to differ from the majority's; None while it is right. It heals itself."""
    divergences: int = 0
    """How often since its start this node found that the states of some nodes differ, whoever was wrong, and whether it has healed meanwhile."""
    incarnations_seen: Mapping[NodeId, int] = field(default_factory=dict)
    """The data directory that each node showed last; another one than the membership records is that of a wiped or restored node."""
    peer_errors: Mapping[NodeId, str] = field(default_factory=dict)
    """Why this node has no connection to a peer (refused, unreachable); without those that it is connected to."""
    failure: str | None = None

    def to_json(self) -> str:
        """One JSON object on one line; the keys are the field names."""
        return json.dumps(asdict(self), sort_keys=True)
