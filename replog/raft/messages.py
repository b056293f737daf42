"""The messages between nodes: one frozen value a type, in the words of the paper.

Every message has `source`, `target` and the sender's `term`. Pre-vote messages carry the term the sender *would* campaign in
(thesis section 9.6), so they are the exception in the one term check of `replog.raft.core`.

`AppendEntries` leaves the core as a range (`entries`); `frames` is filled in at the edge before it is sent and is opaque to the core, which
only hands it on in `Ready.entries` of the receiver.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from replog.types import Index, Membership, NodeId, SnapshotMeta, Term, made_often


@made_often
@dataclass(frozen=True, slots=True, kw_only=True)
class EntryRange:
    """What the core knows of contiguous entries; never empty."""

    first_index: Index
    last_index: Index
    terms: tuple[tuple[Index, Term], ...]
    """Runs of equal term: (first index of the run, term), ascending; the first run starts at `first_index`."""
    size_bytes: int = 0
    """Length of the frames; an estimate where a range was cut out of a larger batch."""
    memberships: tuple[tuple[Index, Membership], ...] = ()
    """The membership entries among them, by index."""

    @property
    def count(self) -> int:
        return self.last_index - self.first_index + 1


@made_often
@dataclass(frozen=True, slots=True, kw_only=True)
class _Message:
    source: NodeId
    target: NodeId
    term: Term


@made_often
@dataclass(frozen=True, slots=True, kw_only=True)
class PreVoteRequest(_Message):
    """Would you vote for me in `term` (mine + 1)? Changes no state at either side (thesis 9.6)."""

    last_index: Index
    last_term: Term


@made_often
@dataclass(frozen=True, slots=True, kw_only=True)
class PreVoteReply(_Message):
    """`term` is the proposed term when granted, the replier's own when refused. `conditional`: see `VoteReply`."""

    granted: bool
    conditional: bool = False


@made_often
@dataclass(frozen=True, slots=True, kw_only=True)
class VoteRequest(_Message):
    """RequestVote (paper 5.2). `transfer`: the leader asked for this election, so leader stickiness does not refuse it (thesis 3.10)."""

    last_index: Index
    last_term: Term
    transfer: bool = False


@made_often
@dataclass(frozen=True, slots=True, kw_only=True)
class VoteReply(_Message):
    """`conditional` beside a refusal: the voter has lost what it may have promised, and the candidate may not have it either.

    Its vote for the candidate counts only together with every other member's (`replog.raft.candidate`).
    """

    granted: bool
    conditional: bool = False


@made_often
@dataclass(frozen=True, slots=True, kw_only=True)
class AppendEntries(_Message):
    """AppendEntries (paper 5.3); `entries` None is a probe or a bare announcement of the commit index."""

    prev_index: Index
    prev_term: Term
    committed_index: Index
    entries: EntryRange | None = None
    frames: Any = None
    """The bytes of `entries` (an `EntryFrames`), attached at the edge."""


@made_often
@dataclass(frozen=True, slots=True, kw_only=True)
class AppendEntriesReply(_Message):
    """Accepted (`rejected_prev_index` None): my synced log agrees with yours up to `match_index`.

    Rejected: I have no entry (`rejected_prev_index`, prev_term). Then (`hint_index`, `hint_term`) is the largest position of mine, at or before it, whose term is at
    most prev_term; so the leader skips a whole term of conflict in one round trip (paper 5.3, last paragraphs). `last_index` bounds the next probe.
    """

    match_index: Index = 0
    rejected_prev_index: Index | None = None
    hint_index: Index = 0
    hint_term: Term = 0
    last_index: Index = 0


@made_often
@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat(_Message):
    """Keeps leadership and announces the commit index; `round` lets one quorum of replies confirm all reads up to it (thesis 6.4)."""

    committed_index: Index
    round: int = 0


@made_often
@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatReply(_Message):
    round: int = 0


@made_often
@dataclass(frozen=True, slots=True, kw_only=True)
class InstallSnapshot(_Message):
    """Replace the receiver's log and state by the snapshot `meta` (paper 7).

    Leaves the core in `Ready.snapshots_to_send` (the edge streams the body in chunks); is given to the receiver's core once the whole body has
    arrived and verified. Answered by an `AppendEntriesReply` with match_index = meta.index after it is durable.
    """

    meta: SnapshotMeta
    committed_index: Index = 0


@made_often
@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutNow(_Message):
    """Campaign at once, without pre-vote: leadership is handed to you (thesis 3.10)."""


@made_often
@dataclass(frozen=True, slots=True, kw_only=True)
class ReadIndexRequest(_Message):
    """A follower asks for a read index; `context` is the asker's own number for it."""

    context: int


@made_often
@dataclass(frozen=True, slots=True, kw_only=True)
class ReadIndexReply(_Message):
    context: int
    read_index: Index | None
    """None: this leader cannot confirm it (not leader any more, or busy); ask again."""


@made_often
@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotChunk(_Message):
    """A piece of a snapshot's body; never reaches the core (joined and checked at the edge, see `replog.snapshot.chunks`)."""

    meta: SnapshotMeta
    offset: int
    data: bytes
    checksum: int
    """CRC-32 of `data`."""
    body_checksum: int
    """CRC-32 of the whole body, the same in each chunk."""
    done: bool
    """True in the chunk that ends the body."""
    leader: NodeId = ""
    """Who leads the term, where a follower sends in the leader's stead; empty: the sender."""


@made_often
@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotChunkReply(_Message):
    """The receiver has everything before `next_offset` of the snapshot (index, snapshot_term) on its disk; sending resumes there."""

    snapshot_index: Index
    snapshot_term: Term
    next_offset: int
    refused: str = ""
    """Not empty: why this snapshot is not wanted (older than the commit, damaged); the sender gives up on it."""


@made_often
@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotFetch(_Message):
    """The leader asks a follower to stream its own newest snapshot to `receiver` in its stead; never reaches the core.

    Said again while it is wanted: a follower that does not hear it any more stops sending.
    """

    receiver: NodeId
    snapshot_index: Index
    """Least index that helps: the leader's log goes on from there."""
    snapshot_term: Term
    stop: bool = False
    """It is not wanted any more."""
    fresh: bool = False
    """Take one if there is none that helps. Asked by a node whose own state has diverged, for itself."""


@made_often
@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotFetchReply(_Message):
    """How far the follower has come with what a `SnapshotFetch` asked for; never reaches the core."""

    receiver: NodeId
    snapshot_index: Index = 0
    """The snapshot that is being sent, and its term."""
    snapshot_term: Term = 0
    received_bytes: int = 0
    """So much of it has the receiver answered for."""
    done: bool = False
    """The receiver has all of it, and has verified it."""
    refused: str = ""
    """Not empty: why the follower does not send, or has given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateDigest(_Message):
    """What the sender's state machine made of the window of the log that ends with `index` (`replog.node.divergence`); never reaches the core."""

    index: Index
    digest: bytes
    """8 bytes."""


CoreMessage = (
    PreVoteRequest
    | PreVoteReply
    | VoteRequest
    | VoteReply
    | AppendEntries
    | AppendEntriesReply
    | Heartbeat
    | HeartbeatReply
    | InstallSnapshot
    | TimeoutNow
    | ReadIndexRequest
    | ReadIndexReply
)
"""What `RaftCore.receive` takes."""
EdgeMessage = SnapshotChunk | SnapshotChunkReply | SnapshotFetch | SnapshotFetchReply | StateDigest
"""What travels beside them and is handled by the replica's snapshot streams."""
EDGE_MESSAGES: Final = (SnapshotChunk, SnapshotChunkReply, SnapshotFetch, SnapshotFetchReply, StateDigest)
"""The same for `isinstance`, which takes three times as long to ask a union."""
Message = CoreMessage | EdgeMessage
