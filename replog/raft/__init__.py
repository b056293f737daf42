"""The Raft core without I/O: `RaftCore` takes verbs, and gives one `Ready` per batch of inputs.

Nothing here imports asyncio, reads a clock, draws a random number, touches a disk or a socket, logs or counts. So it can be driven from outside, message by
message, and everything it decides stands in a `Ready`. All that takes is in this package's own names::

    >>> from replog.raft import CoreConfig, HardState, Member, Membership, RaftCore, VoteReply
    >>> membership = Membership(voters=("a", "b", "c"), members={node: Member(address="") for node in "abc"})
    >>> def make(node):
    ...     return RaftCore(CoreConfig(node_id=node, pre_vote=False), draw_timeout=lambda: 60, hard_state=HardState(), membership=membership)
    >>> a, b = make("a"), make("b")

Time is a verb; so is what has happened outside. A verb changes the core at once, and what follows from it waits in the next `Ready`::

    >>> for _ in range(60):
    ...     a.tick()
    >>> ready = a.ready()
    >>> ready.hard_state
    HardState(term=1, vote='a')
    >>> [(type(message).__name__, message.target) for message in ready.messages_after_sync]
    [('VoteRequest', 'b'), ('VoteRequest', 'c')]

Whoever drives does what the `Ready` says, in the order of its fields (`replog.raft.ready`), and says what is done with `persisted` and `applied`::

    >>> b.receive(ready.messages_after_sync[0])
    >>> answer = b.ready()
    >>> answer.hard_state, answer.messages_after_sync[0].granted
    (HardState(term=1, vote='a'), True)
    >>> a.receive(answer.messages_after_sync[0])
    >>> a.role, a.leader
    (<Role.LEADER: 'leader'>, 'a')
    >>> ready = a.ready()
    >>> ready.entries[0].kind, [message.entries.last_index for message in ready.messages_before_sync]
    (<EntryKind.NO_OP: 2>, [1, 1])
    >>> a.persisted(ready.entries[-1].last_index)

A core in any given state is made by its constructor: a term and a vote (`HardState`), a log (its indexes and runs of equal term), memberships, a snapshot.
What it thinks of its followers is in `status`. In the words of other cores:

=============================  ==========================================================================================
elsewhere                      here
=============================  ==========================================================================================
step a message                 `receive`; what no correct peer sends raises `MalformedMessage`, what a rule drops is a `MessageIgnored`
campaign (MsgHup)              `campaign`
propose (MsgProp)              `propose`; the payload is opaque, only count and size are known here
beat, check quorum             `tick`
MsgUnreachable                 `peer_lost`
MsgSnapStatus                  `snapshot_sent`, `snapshot_failed`
MsgTransferLeader              `transfer_leadership`; how it ended is a `TransferEnded`
MsgReadIndex                   `read_index`; the answer is in `Ready.reads`
ConfChange                     `change_membership`; in force when appended (paper, section 6), not when applied
advance                        `persisted` and `applied`
=============================  ==========================================================================================

`replog.testing.cores` is the smallest driver of whole clusters there is, and `replog.testing.script` drives them by readable scripts.
"""

from replog.raft.config import CoreConfig
from replog.raft.core import RaftCore
from replog.raft.events import (
    CampaignStarted,
    ConflictTruncated,
    Event,
    LeaderChanged,
    LearnerCaughtUp,
    MembershipChanged,
    MembershipCommitted,
    MessageIgnored,
    ProgressChanged,
    RemovedFromMembership,
    RoleChanged,
    SnapshotInstalled,
    TransferEnded,
)
from replog.raft.membership import AddLearner, AddVoter, MembershipChange, RemoveNode, UpdateMember
from replog.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    CoreMessage,
    EntryRange,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    PreVoteReply,
    PreVoteRequest,
    ReadIndexReply,
    ReadIndexRequest,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from replog.raft.ready import CoreStatus, EntriesToWrite, PeerStatus, ReadReady, Ready
from replog.types import EntryId, EntryKind, HardState, Member, Membership, Role, SnapshotMeta

__all__ = [
    "AddLearner",
    "AddVoter",
    "AppendEntries",
    "AppendEntriesReply",
    "CampaignStarted",
    "ConflictTruncated",
    "CoreConfig",
    "CoreMessage",
    "CoreStatus",
    "EntriesToWrite",
    "EntryId",
    "EntryKind",
    "EntryRange",
    "Event",
    "HardState",
    "Heartbeat",
    "HeartbeatReply",
    "InstallSnapshot",
    "LeaderChanged",
    "LearnerCaughtUp",
    "Member",
    "Membership",
    "MembershipChange",
    "MembershipChanged",
    "MembershipCommitted",
    "MessageIgnored",
    "PeerStatus",
    "PreVoteReply",
    "PreVoteRequest",
    "ProgressChanged",
    "RaftCore",
    "ReadIndexReply",
    "ReadIndexRequest",
    "ReadReady",
    "Ready",
    "RemoveNode",
    "RemovedFromMembership",
    "Role",
    "RoleChanged",
    "SnapshotInstalled",
    "SnapshotMeta",
    "TimeoutNow",
    "TransferEnded",
    "UpdateMember",
    "VoteReply",
    "VoteRequest",
]
