"""Everything about snapshots that a replica decides: when one is taken, what may be purged then, who sends it to whom, and what an arrived one is for.

The bytes themselves go through `replog.node.snapshot_streams`; a follower may send in the leader's stead (`replog.node.snapshot_delegation`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from replog.config import NodeConfig
from replog.errors import StorageError
from replog.node.applier import Applier
from replog.node.effects import Answer, Effect, Fail, Send, TakeSnapshot, Ticket
from replog.node.snapshot_delegation import SnapshotDelegations
from replog.node.snapshot_streams import SnapshotStreams
from replog.raft.core import RaftCore
from replog.raft.messages import InstallSnapshot, Message, SnapshotChunk, SnapshotChunkReply, SnapshotFetch, SnapshotFetchReply
from replog.statemachine import StateMachine
from replog.storage.interface import Storage
from replog.types import Index, SnapshotMeta

RETRY_TICKS: Final = 50
"""After a snapshot that failed (a full disk) none is taken by itself for so long: each attempt costs a frozen state and a file."""


class Snapshots:
    """One owner, as the replica. At most one snapshot is being written, and one is being received."""

    def __init__(self, config: NodeConfig, core: RaftCore, storage: Storage, state_machine: StateMachine, applier: Applier) -> None:
        self.meta = storage.recovered.snapshot
        """The newest durable snapshot."""
        self.taken = 0
        self.last_error: Exception | None = None
        self.wanted = True
        """False: the state is in doubt, so no snapshot is taken of it."""
        self.streams = SnapshotStreams(config, storage)
        self.delegations = SnapshotDelegations()
        self._config = config
        self._core = core
        self._storage = storage
        self._state_machine = state_machine
        self._applier = applier
        self._running = False
        self._now_ticks = 0
        self._not_before_ticks = 0
        """When a snapshot may be taken by itself again."""
        self._tickets: list[Ticket] = []

    @property
    def index(self) -> Index:
        """Index of the newest durable snapshot; 0 when there is none."""
        return self.meta.index if self.meta is not None else 0

    def observe_time(self, now_ticks: int) -> None:
        self._now_ticks = self.streams.now_ticks = self.delegations.now_ticks = now_ticks

    # -- taking --------------------------------------------------------------------------------------------------------

    def ask(self, tickets: Sequence[Ticket]) -> Iterator[Effect]:
        """Somebody wants a snapshot now."""
        self._tickets += tickets
        yield from self.take()

    def take_if_due(self) -> Iterator[Effect]:
        config, applier = self._config, self._applier
        due = (config.snapshot_entries and applier.applied_index - self.index >= config.snapshot_entries) or (
            config.snapshot_bytes and applier.bytes_since_snapshot >= config.snapshot_bytes
        )
        if due and self._now_ticks >= self._not_before_ticks:
            yield from self.take()

    def take(self) -> Iterator[Effect]:
        """Begin a snapshot of the state as it is now, unless one is being written or there is nothing new."""
        if self._running:
            return
        index = self._applier.applied_index
        # A node that was added knows no membership in front of the first one in its log, so it cannot say what a snapshot there has to say.
        if index <= self.index or not self.wanted or not self._applier.membership.voters:
            yield from self._answer_tickets(None)
            return
        self._running = True
        self._applier.bytes_since_snapshot = 0
        term = self._core.term_at(index)
        assert term is not None, "the applied index is in the log or at its boundary"
        meta = SnapshotMeta(index=index, term=term, membership=self._applier.membership)
        yield TakeSnapshot(meta, self._state_machine.snapshot())

    def on_done(self, meta: SnapshotMeta, error: Exception | None) -> Iterator[Effect]:
        """A snapshot is durable, or has failed: what it makes superfluous may go."""
        self._running = False
        self.last_error = error
        if error is not None:
            self._not_before_ticks = self._now_ticks + RETRY_TICKS
        if error is None and meta.index > self.index:
            self.meta = meta
            self.taken += 1
            core = self._core
            upto = min(
                meta.index,
                max(0, self._applier.applied_index - self._config.log_tail_entries),
                self.streams.keep_behind({peer.node: peer.match_index for peer in core.status().peers}),
                self.delegations.keep_behind(),
                core.retain_index - 1,
            )
            core.compacted(self._storage.compact(upto), meta)
        yield from self._answer_tickets(error)

    def _answer_tickets(self, error: Exception | None) -> Iterator[Effect]:
        tickets, self._tickets = self._tickets, []
        if error is not None and tickets:
            yield Fail(tickets, error)
            return
        if tickets:
            yield Answer(tickets, [self.meta])

    # -- sending -------------------------------------------------------------------------------------------------------

    def start(self, installs: Sequence[InstallSnapshot]) -> Iterator[Effect]:
        """Nodes need what the log has no more: a follower that is in step sends them its snapshot, or this node does."""
        for install in installs:
            if self._config.snapshot_from_follower:
                core = self._core
                follower = self.delegations.choose(core.status(), install.target, self._config.promote_lag_entries)
                if follower is not None:
                    # The leader's next append needs the term of the snapshot's last entry.
                    boundary = core.first_index - 1
                    from_index = boundary if core.term_at(boundary) is not None else core.first_index
                    yield from _send(self.delegations.begin(install, follower, from_index))
                    continue
            yield from self._stream_own(install)

    def _stream_own(self, install: InstallSnapshot) -> Iterator[Effect]:
        meta = self._storage.newest_snapshot()
        try:
            messages = self.streams.begin(install, meta) if meta is not None else None
        except StorageError as error:
            self.last_error, messages = error, None
        if messages is None:
            self._core.snapshot_failed(install.target)
        else:
            yield from _send(messages)

    def tick(self) -> Iterator[Effect]:
        core, delegations = self._core, self.delegations
        outcome = self.streams.tick(leads=core.is_leader, term=core.term)
        for target in outcome.failed:
            core.snapshot_failed(target)
        yield from _send(outcome.messages)
        if delegations:
            delegations.keep_only(core.peers if core.is_leader else (), core.term)
            messages, fall_back = delegations.tick()
            yield from _send(messages)
            for install in fall_back:
                yield from self._stream_own(install)

    # -- receiving -----------------------------------------------------------------------------------------------------

    def receive(
        self, message: SnapshotChunk | SnapshotChunkReply | SnapshotFetch, *, committed_index: Index, arrived: list[InstallSnapshot]
    ) -> Iterator[Effect]:
        """Take a message of a stream; a snapshot that is now whole and verified is added to `arrived`. One that ends at or before
        `committed_index` is not wanted."""
        core = self._core
        if isinstance(message, SnapshotFetch) and message.fresh and self.index < message.snapshot_index:
            yield from self.take()
        outcome = self.streams.receive(message, committed_index=committed_index, term=core.term, own_id=self._config.node_id)
        yield from _send(outcome.messages)
        if outcome.sent is not None:
            core.snapshot_sent(*outcome.sent)
            self.streams.installing(*outcome.sent)
        for target in outcome.failed:
            core.snapshot_failed(target)
        if outcome.install is not None:
            arrived.append(outcome.install)

    def on_fetch_reply(self, reply: SnapshotFetchReply) -> Iterator[Effect]:
        """A follower tells how it gets on with the snapshot that it sends in our stead."""
        report = self.delegations.receive(reply)
        if report.sent is not None:
            self._core.snapshot_sent(report.sent.target, report.sent.meta.index)
            self.streams.installing(report.sent.target, report.sent_index)
        if report.fall_back is not None:
            yield from self._stream_own(report.fall_back)

    def close(self, error: Exception) -> Iterator[Fail]:
        if self._tickets:
            tickets, self._tickets = self._tickets, []
            yield Fail(tickets, error)
        self.streams.close()


def _send(messages: Sequence[Message]) -> Iterator[Effect]:
    if messages:
        yield Send(messages)
