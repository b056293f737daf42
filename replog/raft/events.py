"""What people, metrics and test traces are told: typed values in `Ready.events`, none of them needed for correctness."""

from __future__ import annotations

from dataclasses import dataclass

from replog.types import Index, Membership, NodeId, Role, Term


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleChanged:
    """The node took `role` in `term`; `leader` is the leader it knows then."""

    role: Role
    term: Term
    leader: NodeId | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderChanged:
    """The node learned who leads `term` (None: nobody known)."""

    leader: NodeId | None
    term: Term


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignStarted:
    term: Term
    pre_vote: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConflictTruncated:
    """Entries from `first_index` to `last_index` contradicted the leader and are dropped (paper 5.3)."""

    first_index: Index
    last_index: Index


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipChanged:
    """The membership in force changed, by an entry appended at `index` or (rolled_back) by its truncation."""

    index: Index
    membership: Membership
    rolled_back: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipCommitted:
    index: Index
    membership: Membership


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressChanged:
    """The leader sees `peer` in `state` ("probe", "replicate", "snapshot") from now on."""

    peer: NodeId
    state: str
    match_index: Index
    next_index: Index
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotInstalled:
    index: Index
    term: Term


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferEnded:
    target: NodeId
    succeeded: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerCaughtUp:
    """`learner` holds the log closely enough to be promoted (thesis 4.2.1)."""

    learner: NodeId
    match_index: Index


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageIgnored:
    """A message was dropped by a rule (stale term, stranger, stickiness ...); `rule` names it."""

    source: NodeId
    kind: str
    rule: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedFromMembership:
    """A committed membership no longer has this node: it must stop serving."""

    index: Index


@dataclass(frozen=True, slots=True, kw_only=True)
class Fenced:
    """The cluster was recovered under a higher epoch without this node, which takes no part in anything any more. Told by the edge, not by the core."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StateDiverged:
    """The states of these nodes differ at `index`, though their logs are equal: the state machine is not deterministic, or a memory is bad.

    `right` is a majority of the voters, empty when none agrees. Told by the edge, not by the core.
    """

    index: Index
    right: tuple[NodeId, ...]
    wrong: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StateHealed:
    """This node's diverged state was replaced by another node's snapshot at `index`. Told by the edge."""

    index: Index


Event = (
    RoleChanged
    | LeaderChanged
    | CampaignStarted
    | ConflictTruncated
    | MembershipChanged
    | MembershipCommitted
    | ProgressChanged
    | SnapshotInstalled
    | TransferEnded
    | LearnerCaughtUp
    | MessageIgnored
    | RemovedFromMembership
    | Fenced
    | StateDiverged
    | StateHealed
)
