"""`Ready`: all that the core wants done, its field order being the order of execution.

The order is the durability argument of the whole house (DESIGN section 1.2):

1. `messages_before_sync` promise nothing of this batch: an established leader's appends and heartbeats.
2. `hard_state`, `snapshot`, `discard_from`, `entries` are made durable: one write, one data sync.
3. `messages_after_sync` promise what step 2 made durable: votes, append acknowledgements.
4. `committed` is applied, `reads` are released, `events` are told.

After step 2 the caller says `core.persisted(index)`, after step 4 `core.applied(index)`; either may make the core ready again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from replog.raft.events import Event
from replog.raft.messages import CoreMessage, InstallSnapshot
from replog.types import EntryKind, HardState, Index, Membership, NodeId, SnapshotMeta, Term, made_often


@made_often
@dataclass(frozen=True, slots=True, kw_only=True)
class EntriesToWrite:
    """Contiguous entries for the log.

    `frames` is what came with them (from `propose`, or `AppendEntries.frames`, of which only `first_index` to `last_index` may be wanted). It is
    None for an entry that the core made itself: then `kind` and `membership` say what to encode (always a single entry, of `term`).
    """

    first_index: Index
    last_index: Index
    terms: tuple[tuple[Index, Term], ...]
    frames: Any = None
    kind: EntryKind = EntryKind.COMMAND
    membership: Membership | None = None


@made_often
@dataclass(frozen=True, slots=True, kw_only=True)
class ReadReady:
    """A read that `read_index(context)` began is linearizable once the state machine has applied `index` (None: refused; begin again)."""

    context: int
    index: Index | None


@made_often
@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    messages_before_sync: tuple[CoreMessage, ...] = ()
    snapshots_to_send: tuple[InstallSnapshot, ...] = ()
    """To be streamed by the edge, which then says `snapshot_sent` or `snapshot_failed`; meta is the newest snapshot the core knows."""
    hard_state: HardState | None = None
    snapshot: SnapshotMeta | None = None
    """Make this received snapshot the state: it replaces the whole log (or the log in front of it, where the log has its last entry)."""
    discard_from: Index | None = None
    """Entries with this index and above are dropped from the log before `entries` are written."""
    entries: tuple[EntriesToWrite, ...] = ()
    messages_after_sync: tuple[CoreMessage, ...] = ()
    committed: tuple[Index, Index] | None = None
    """First and last index to apply now; the last is at most what is known durable here or was committed by others and is in `entries`."""
    reads: tuple[ReadReady, ...] = ()
    events: tuple[Event, ...] = ()

    @property
    def must_sync(self) -> bool:
        """Whether step 2 has anything to do. A batch that only moves the commit index writes nothing."""
        return self.hard_state is not None or self.snapshot is not None or self.discard_from is not None or bool(self.entries)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerStatus:
    """A leader's view of one follower, for `status`."""

    node: NodeId
    state: str
    match_index: Index
    next_index: Index
    in_flight_messages: int
    in_flight_bytes: int
    window_bytes: int = 0
    """So many bytes may be in flight: configured, or less as measured."""
    recently_active: bool
    is_learner: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreStatus:
    """What the core would tell a person. S6: snapshot <= applied <= committed <= last."""

    node: NodeId
    role: str
    term: Term
    vote: NodeId | None
    leader: NodeId | None
    snapshot_index: Index
    first_index: Index
    last_index: Index
    persisted_index: Index
    committed_index: Index
    applied_index: Index
    membership: Membership
    membership_index: Index
    peers: tuple[PeerStatus, ...] = ()
    transfer_target: NodeId | None = None
