"""What the core must know of the configuration: a plain value, so that the core can be driven without files or a cluster.

Made from `ClusterConfig` and `NodeConfig` by `from_configs`; those have checked the ranges. Times are ticks.
"""

from __future__ import annotations

from dataclasses import dataclass

from replog.config import ClusterConfig, NodeConfig
from replog.types import NodeId

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreConfig:
    node_id: NodeId
    heartbeat_ticks: int = 5
    """Ticks between a leader's heartbeats."""
    election_timeout_ticks_min: int = 50
    """Least election timeout. Within it of hearing a leader no vote is given (stickiness); a leader without a quorum for so long steps down."""
    election_timeout_ticks_max: int = 100
    """Largest election timeout that `draw_timeout` returns; the core itself uses it only to give up on things."""
    lease_drift_percent: int = 10
    """Bound on the difference of two clocks' rates; a lease is shortened by it."""
    append_bytes_max: int = MIB
    """Most bytes of entries in one AppendEntries (an estimate where a batch is cut; at least one entry is always sent)."""
    append_entries_max: int = 32_768
    in_flight_messages_max: int = 64
    """Appends to one follower without an answer."""
    in_flight_bytes_max: int = 32 * MIB
    uncommitted_bytes_max: int = 64 * MIB
    """Uncommitted bytes above which `propose` raises `Busy` (a proposal to an empty tail is always taken)."""
    unapplied_entries_max: int = 1_000_000
    """Committed but not applied entries above which `propose` raises `Busy`."""
    promote_lag_entries: int = 1_000
    """A learner this close to the leader's end counts as caught up."""
    reads_waiting_max: int = 65_536
    """Reads waiting for their index; above it `read_index` raises `Busy`."""
    pre_vote: bool = True
    """Ask before raising the term (thesis 9.6)."""
    check_quorum: bool = True
    """A leader without a quorum steps down, and followers of a live leader give no votes (thesis 6.2, 4.2.3). Leases need it."""
    auto_promote: bool = False
    """The leader makes a learner that has caught up a voter by itself."""
    announce_commit_at_once: bool = True
    """Tell followers a new commit index in the same turn when no append carries it; False: with the next tick."""
    quiet_after_start: bool = False
    """Give no votes for the least election timeout after a start with a term: before the crash this node may have confirmed a leader's lease."""

    @classmethod
    def from_configs(cls, cluster: ClusterConfig, node: NodeConfig) -> CoreConfig:
        return cls(
            node_id=node.node_id,
            heartbeat_ticks=cluster.heartbeat_ticks,
            election_timeout_ticks_min=cluster.election_timeout_ticks_min,
            election_timeout_ticks_max=cluster.election_timeout_ticks_max,
            lease_drift_percent=cluster.lease_drift_percent,
            append_bytes_max=node.append_bytes_max,
            append_entries_max=node.append_entries_max,
            in_flight_messages_max=node.in_flight_messages_max,
            in_flight_bytes_max=node.in_flight_bytes_max,
            uncommitted_bytes_max=node.uncommitted_bytes_max,
            unapplied_entries_max=node.unapplied_entries_max,
            promote_lag_entries=node.promote_lag_entries,
            reads_waiting_max=node.reads_waiting_max,
            auto_promote=node.auto_promote,
            # A message of its own for each commit costs a lone writer a third of its rate; the next append or tick tells it as well.
            announce_commit_at_once=False,
            quiet_after_start=True,
        )
