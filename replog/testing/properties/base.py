"""What a property is: a rule with a name and a source, told what happens, raising `PropertyBroken` at the first step that breaks it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NoReturn

from replog.raft.messages import AppendEntriesReply, Message
from replog.storage.interface import Recovered, Write
from replog.testing.history import Operation
from replog.testing.ledger import Ledger, LogMirror, NodeRecord, PropertyBroken
from replog.types import Index, NodeId, SnapshotMeta

if TYPE_CHECKING:
    from replog.node.replica import Replica


class Property:
    """Override what concerns the rule; a hook that is not overridden costs nothing. One object serves one run."""

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    """Where the rule stands: a section of the Raft paper or thesis, or the argument."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def on_leader(self, record: NodeRecord, replica: Replica) -> None:
        """The node became leader of its term."""

    def on_term(self, record: NodeRecord, replica: Replica) -> None:
        """The node's term rose. `record.term` is the old one."""

    def on_write(self, record: NodeRecord, replica: Replica, write: Write) -> None:
        """The node begins to persist `write`; the record is still as before."""

    def on_written(self, record: NodeRecord, replica: Replica, first: Index) -> None:
        """The mirror has the write, the disk has it not yet; entries from `first` on are new."""

    def on_send(self, record: NodeRecord, replica: Replica, message: Message) -> None:
        """A message leaves the node."""

    def on_commit(self, record: NodeRecord, replica: Replica, before: Index, after: Index) -> None:
        """The node's commit index moved from `before` to `after`, whichever is larger."""

    def on_apply(self, record: NodeRecord, replica: Replica, before: Index, after: Index) -> None:
        """The node's applied index moved."""

    def on_state(self, node: NodeId, index: Index, digest: int) -> None:
        """A node's state after applying or restoring `index` has this digest."""

    def on_snapshot(self, record: NodeRecord, meta: SnapshotMeta) -> None:
        """The node writes a snapshot of its own state."""

    def on_command(self, node: NodeId, index: Index, number: int) -> None:
        """A node applied the operation `number` at `index`."""

    def on_acknowledged(self, record: NodeRecord, replica: Replica, reply: AppendEntriesReply) -> None:
        """The leader has taken in an append's answer."""

    def on_restart(self, record: NodeRecord, found: Recovered, mirror: LogMirror) -> None:
        """The node's disk was opened; the record is still what it was at the end of the last life."""

    def on_read(self, node: NodeId, index: Index, acknowledged_before: Index) -> None:
        """A read is released at `index`; `acknowledged_before` was the largest acknowledged index when it began."""

    def at_end(self, history: list[Operation]) -> None:
        """The run is over, all operations are known."""

    def broken(self, text: str) -> NoReturn:
        raise PropertyBroken(self.name, text)
