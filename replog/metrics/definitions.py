"""The one table of what a node measures.

Nearly everything is a number that the node keeps anyway; it is read when Prometheus asks, so that a metric costs the hot path nothing. Only what
needs a distribution is observed as it happens, once a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from replog.node.status import NodeStatus
from replog.types import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What the owner counts beside its status; all since the process started."""

    turns: int
    persists: int
    inline_persists: int
    pending_proposals: int
    rejected_messages: int
    elections_started: int
    leader_changes: int
    conflicts: int
    snapshots_taken: int
    snapshots_installed: int
    snapshot_chunks_sent: int
    snapshot_chunks_received: int
    messages_sent: int
    messages_received: int
    messages_dropped: int
    bytes_sent: int
    bytes_received: int
    connects: int
    direct_connects: int
    divergences: int
    heals: int


@dataclass(frozen=True, slots=True)
class Metric:
    """One row: name, kind, help text, and where the number is found."""

    name: str
    kind: Literal["gauge", "counter"]
    help: str
    value: Callable[[NodeStatus, Counts], float]


METRICS: tuple[Metric, ...] = (
    Metric("replog_term", "gauge", "Raft term", lambda s, _: s.term),
    Metric("replog_is_leader", "gauge", "1 on the leader, 0 elsewhere", lambda s, _: s.role == Role.LEADER.value),
    Metric("replog_has_leader", "gauge", "1 while a leader is known", lambda s, _: s.leader is not None),
    Metric("replog_committed_index", "gauge", "Last index known to be committed", lambda s, _: s.committed_index),
    Metric("replog_applied_index", "gauge", "Last index applied to the state machine", lambda s, _: s.applied_index),
    Metric("replog_persisted_index", "gauge", "Last index on this node's synced disk", lambda s, _: s.persisted_index),
    Metric("replog_first_index", "gauge", "First index still in the log", lambda s, _: s.first_index),
    Metric("replog_last_index", "gauge", "Last index in the log", lambda s, _: s.last_index),
    Metric("replog_snapshot_index", "gauge", "Index of the newest snapshot", lambda s, _: s.snapshot_index),
    Metric("replog_log_bytes", "gauge", "Bytes of the log's segments on disk", lambda s, _: s.log_bytes),
    Metric("replog_voters", "gauge", "Voters in the membership in force", lambda s, _: len(s.membership.all_voters)),
    Metric("replog_learners", "gauge", "Learners in the membership in force", lambda s, _: len(s.membership.learners)),
    Metric("replog_pending_proposals", "gauge", "Proposals that wait for their result", lambda _, c: c.pending_proposals),
    Metric("replog_turn_bytes_max", "gauge", "Most bytes of proposals in one turn, as measured", lambda s, _: s.turn_bytes_max),
    Metric("replog_turns", "counter", "Turns of the owner", lambda _, c: c.turns),
    Metric("replog_persists", "counter", "Batches made durable", lambda _, c: c.persists),
    Metric("replog_persists_inline", "counter", "... of them on the loop and not in the thread", lambda _, c: c.inline_persists),
    Metric("replog_messages_rejected", "counter", "Messages of peers that broke a rule", lambda _, c: c.rejected_messages),
    Metric("replog_elections_started", "counter", "Campaigns of this node, pre-votes included", lambda _, c: c.elections_started),
    Metric("replog_leader_changes", "counter", "Changes of the leader this node knows", lambda _, c: c.leader_changes),
    Metric("replog_conflicts", "counter", "Truncations because of a conflict", lambda _, c: c.conflicts),
    Metric("replog_snapshots_taken", "counter", "Snapshots written by this node", lambda _, c: c.snapshots_taken),
    Metric("replog_snapshots_installed", "counter", "Snapshots received and installed", lambda _, c: c.snapshots_installed),
    Metric("replog_snapshot_chunks_sent", "counter", "Snapshot chunks sent", lambda _, c: c.snapshot_chunks_sent),
    Metric("replog_snapshot_chunks_received", "counter", "Snapshot chunks received", lambda _, c: c.snapshot_chunks_received),
    Metric("replog_messages_sent", "counter", "Messages sent to peers", lambda _, c: c.messages_sent),
    Metric("replog_messages_received", "counter", "Messages received from peers", lambda _, c: c.messages_received),
    Metric(
        "replog_messages_dropped",
        "counter",
        "Messages dropped because an outbox was full or a stream broke",
        lambda _, c: c.messages_dropped,
    ),
    Metric("replog_transport_sent_bytes", "counter", "Bytes sent to peers", lambda _, c: c.bytes_sent),
    Metric("replog_transport_received_bytes", "counter", "Bytes received from peers", lambda _, c: c.bytes_received),
    Metric("replog_state_divergences", "counter", "Comparisons that found nodes with different states", lambda _, c: c.divergences),
    Metric("replog_state_heals", "counter", "Times this node replaced its diverged state", lambda _, c: c.heals),
    Metric("replog_transport_connects", "counter", "Streams opened to peers", lambda _, c: c.connects),
    Metric("replog_transport_direct_connects", "counter", "Of them, those over plain TCP", lambda _, c: c.direct_connects),
)
