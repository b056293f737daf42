"""Calls the properties: what a node's turn changed is worked out here once, and each property hears only of what concerns it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from replog.node.replica import Replica
from replog.raft.messages import AppendEntriesReply, Message
from replog.storage.interface import Recovered, Write
from replog.testing.history import Operation
from replog.testing.ledger import Ledger, LogMirror, NodeRecord
from replog.testing.properties import SAFETY
from replog.testing.properties.base import Property
from replog.testing.properties.s16_linearizable import Linearizable
from replog.types import Index, NodeId, SnapshotMeta

Hook = Callable[..., None]


class Watch:
    """The properties of one run. A hook list holds only the properties that override it."""

    def __init__(self, ledger: Ledger, *, model: Any = None, without: Sequence[str] = ()) -> None:
        """`without` names properties that are off; S5 cannot be: it keeps the record of what is committed."""
        self.ledger = ledger
        self.all: list[Property] = []
        for kind in SAFETY:
            if kind.name not in without or kind.name == "S5":
                self.all.append(kind(ledger) if kind is not Linearizable else Linearizable(ledger, model))
        self._leader = self._hooks("on_leader")
        self._term = self._hooks("on_term")
        self._write = self._hooks("on_write")
        self._written = self._hooks("on_written")
        self._send = self._hooks("on_send")
        self._commit = self._hooks("on_commit")
        self._apply = self._hooks("on_apply")
        self._state = self._hooks("on_state")
        self._command = self._hooks("on_command")
        self._acknowledged = self._hooks("on_acknowledged")
        self._snapshot = self._hooks("on_snapshot")
        self._restart = self._hooks("on_restart")
        self._read = self._hooks("on_read")

    def _hooks(self, name: str) -> tuple[Hook, ...]:
        return tuple(getattr(one, name) for one in self.all if getattr(type(one), name) is not getattr(Property, name))

    def watch(self, record: NodeRecord, replica: Replica) -> None:
        """Compare the core with what was last seen of it."""
        core = replica.core
        term = core.term
        if term != record.term:
            for hook in self._term:
                hook(record, replica)
            record.term, record.is_leader = term, False
            record.match_seen = {}
        leads = core.is_leader
        if leads != record.is_leader:
            if leads:
                for hook in self._leader:
                    hook(record, replica)
                record.match_seen = {}
            record.is_leader = leads
        committed, before = core.committed_index, record.committed_index
        if committed != before:
            for hook in self._commit:
                hook(record, replica, before, committed)
            record.committed_index = committed
        applied, before = replica.applied_index, record.applied_index
        if applied != before:
            for hook in self._apply:
                hook(record, replica, before, applied)
            record.applied_index = applied

    def write(self, record: NodeRecord, replica: Replica, write: Write) -> None:
        for hook in self._write:
            hook(record, replica, write)

    def written(self, record: NodeRecord, replica: Replica, first: Index) -> None:
        for hook in self._written:
            hook(record, replica, first)

    def send(self, record: NodeRecord, replica: Replica, messages: Sequence[Message]) -> None:
        for hook in self._send:
            for message in messages:
                hook(record, replica, message)

    def acknowledged(self, record: NodeRecord, replica: Replica, replies: Sequence[AppendEntriesReply]) -> None:
        for hook in self._acknowledged:
            for reply in replies:
                hook(record, replica, reply)

    def snapshot(self, record: NodeRecord, meta: SnapshotMeta) -> None:
        for hook in self._snapshot:
            hook(record, meta)

    def restart(self, record: NodeRecord, found: Recovered, mirror: LogMirror) -> None:
        for hook in self._restart:
            hook(record, found, mirror)

    def state(self, node: NodeId, index: Index, digest: int) -> None:
        for hook in self._state:
            hook(node, index, digest)

    def command(self, node: NodeId, index: Index, number: int) -> None:
        for hook in self._command:
            hook(node, index, number)

    def read(self, node: NodeId, index: Index, acknowledged_before: Index) -> None:
        for hook in self._read:
            hook(node, index, acknowledged_before)

    def at_end(self, history: list[Operation]) -> None:
        for one in self.all:
            one.at_end(history)
