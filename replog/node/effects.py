"""What goes into a turn of the replica and what comes out: values that asyncio and the simulator interpret alike.

Tickets are opaque to the replica: the asyncio shell uses futures, the simulator its operations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from replog.raft.events import Event
from replog.raft.messages import Message
from replog.statemachine import CommandError
from replog.storage.interface import Write
from replog.types import EntryId, Index, NodeId, SnapshotMeta, SnapshotWriter, made_often

Ticket = Any
Result = bytes | CommandError


@dataclass(slots=True)
class Inputs:
    """Everything that reached the owner since its last turn. Fed to the core in the order of the fields: messages before ticks."""

    messages: list[Message] = field(default_factory=list)
    peers_lost: list[NodeId] = field(default_factory=list)
    payloads: list[bytes] = field(default_factory=list)
    """Commands proposed singly, `tickets` beside them."""
    tickets: list[Ticket] = field(default_factory=list)
    groups: list[tuple[Sequence[bytes], Ticket]] = field(default_factory=list)
    """Commands proposed together: one ticket for all of them."""
    reads: list[Ticket] = field(default_factory=list)
    """Linearizable reads by ReadIndex."""
    lease_reads: list[Ticket] = field(default_factory=list)
    requests: list[tuple[Callable[[], Any], Ticket]] = field(default_factory=list)
    """Rare calls (transfer, status ...): called in the owner, the ticket gets the result or the `ReplogError` raised."""
    changes: list[tuple[Callable[[], EntryId], Ticket]] = field(default_factory=list)
    """Calls that append an entry of Raft's own (membership): the ticket gets the entry's id once it is applied here."""
    snapshot_requests: list[Ticket] = field(default_factory=list)
    """Take a snapshot now; the ticket gets the durable snapshot's meta (the newest one when there is nothing new)."""
    snapshots_done: list[tuple[SnapshotMeta, Exception | None]] = field(default_factory=list)
    """Ends of `TakeSnapshot`: the durable snapshot's meta, or the meta asked for and why it failed."""
    ticks: int = 0
    """Ticks that are due; all of them count as one for the protocol, so that a pause of our own is not taken for another's silence."""
    now_ticks: int = 0
    """Ticks of monotonic time since the node started."""

    windows: dict[NodeId, int] | None = None
    """Measured limits on the bytes on their way to a follower, where they changed (`replog.node.send_window`)."""

    def __bool__(self) -> bool:
        return bool(
            self.ticks
            or self.messages
            or self.payloads
            or self.groups
            or self.reads
            or self.lease_reads
            or self.requests
            or self.changes
            or self.peers_lost
            or self.snapshot_requests
            or self.snapshots_done
        )


@made_often
@dataclass(frozen=True, slots=True)
class Send:
    """Hand these to the transport now; it must not block."""

    messages: Sequence[Message]


@made_often
@dataclass(frozen=True, slots=True)
class Persist:
    """Make this durable before the replica goes on: `storage.persist(write)`. An error is final for the node."""

    write: Write


@dataclass(frozen=True, slots=True)
class RestoreState:
    """Replace the state machine's state by this durable snapshot before the replica goes on."""

    meta: SnapshotMeta


@dataclass(frozen=True, slots=True)
class TakeSnapshot:
    """Write `writer` as snapshot `meta`, off the loop; its end comes back in `Inputs.snapshots_done`."""

    meta: SnapshotMeta
    writer: SnapshotWriter


@made_often
@dataclass(frozen=True, slots=True)
class Reply:
    """The commands of `tickets` are committed and applied; their results, in order."""

    tickets: Sequence[Ticket]
    results: Sequence[Result]


@made_often
@dataclass(frozen=True, slots=True)
class ReplyGroup:
    """The commands of one ticket are committed and applied."""

    ticket: Ticket
    results: list[Result]


@made_often
@dataclass(frozen=True, slots=True)
class Answer:
    """The tickets of reads that were confirmed together (their index), or that of a request (its value), have succeeded."""

    tickets: Sequence[Ticket]
    value: Any


@dataclass(frozen=True, slots=True)
class Fail:
    """These tickets have failed with `error` (a `ReplogError` that says what the caller may do)."""

    tickets: Sequence[Ticket]
    error: Exception


@dataclass(frozen=True, slots=True)
class SetPeers:
    """The peers and their addresses, from now on."""

    addresses: dict[NodeId, str]


@dataclass(frozen=True, slots=True)
class Observe:
    """Told to logs, metrics and traces."""

    events: Sequence[Event]
    applied_index: Index


Effect = Send | Persist | RestoreState | TakeSnapshot | Reply | ReplyGroup | Answer | Fail | SetPeers | Observe
