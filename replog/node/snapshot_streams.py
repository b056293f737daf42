"""Snapshots on their way: cut into chunks at the sender, joined and verified at the receiver, resumed where a connection broke.

The sender has at most `snapshot_chunks_in_flight` chunks without an answer, so its memory stays flat however large the state is, and a slow
receiver sets the pace. Every answer names the next offset that the receiver wants: after a break the sender just goes on from there. A throttle
(`snapshot_bytes_per_second`) is counted in ticks.

A node also sends its own snapshot in the leader's stead, when asked to (`replog.node.snapshot_delegation` is the leader's side of that); then it
reports to the leader, and stops when it is not asked any more.

Neither chunk nor answer touches the core: it is told `snapshot_sent` or `snapshot_failed` at the sender, and gets an `InstallSnapshot` at the receiver
once the whole body has verified.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from replog.config import NodeConfig
from replog.errors import DiskFull, MalformedMessage, StorageError
from replog.node.snapshot_delegation import LEASE_TICKS
from replog.raft.messages import InstallSnapshot, Message, SnapshotChunk, SnapshotChunkReply, SnapshotFetch, SnapshotFetchReply
from replog.storage.interface import Storage
from replog.types import INDEX_MAX, Index, NodeId, SnapshotMeta, Term

_RESEND_TICKS = 50
_GIVE_UP_TICKS = 3_000
"""Ticks without an answer to what was sent, after which a receiver is given up ..."""
_GIVE_UP_FOR_LEADER_TICKS = 150
"""... and when the leader could do it instead."""
_KEEP_TICKS = 3_000
"""The log is kept for a receiver that installs a snapshot (and restores its state from it) for so long at most."""


@dataclass(slots=True)
class Outcome:
    """What a stream message led to."""

    messages: list[Message] = field(default_factory=list)
    sent: tuple[NodeId, Index] | None = None
    failed: list[NodeId] = field(default_factory=list)
    install: InstallSnapshot | None = None


@dataclass(slots=True)
class _Sending:
    """Invariant: acknowledged <= next_offset <= meta.size_bytes."""

    install: InstallSnapshot
    meta: SnapshotMeta
    body: BinaryIO
    body_checksum: int
    acknowledged: int
    next_offset: int
    heard_tick: int
    resent_tick: int
    done_sent: bool
    leader: NodeId = ""
    asked_tick: int | None = None
    """When the leader last asked for it; None: this node leads, and sends for itself."""


class SnapshotStreams:
    """All snapshots that this node sends, at most one a receiver, and the one it receives."""

    def __init__(self, config: NodeConfig, storage: Storage) -> None:
        self._config = config
        self._storage = storage
        self._sending: dict[NodeId, _Sending] = {}
        self._installing: dict[NodeId, tuple[Index, int]] = {}
        """Receivers that have all of a snapshot and not yet said that it is installed: its index, and when it was sent."""
        self.now_ticks = 0
        self._allowance_bytes = 0.0
        self._allowance_tick = 0
        self.chunks_sent = 0
        self.chunks_received = 0

    def keep_behind(self, match_index: Mapping[NodeId, Index]) -> Index:
        """Index behind which the log must stay: the oldest snapshot on its way, or being installed, needs the entries that follow it.

        `match_index`: what the leader knows of each follower.
        """
        for node, (index, sent_tick) in list(self._installing.items()):
            if match_index.get(node, INDEX_MAX) >= index or self.now_ticks - sent_tick >= _KEEP_TICKS:
                del self._installing[node]
        on_their_way = [sending.meta.index for sending in self._sending.values()]
        return min([*on_their_way, *(index for index, _ in self._installing.values())], default=INDEX_MAX)

    def installing(self, target: NodeId, index: Index) -> None:
        """`target` has the whole snapshot at `index`, by this node or by another one, and installs it now."""
        self._installing[target] = (index, self.now_ticks)

    # -- the sender --------------------------------------------------------------------------------------------------

    def begin(self, install: InstallSnapshot, meta: SnapshotMeta, *, leader: NodeId = "") -> list[Message]:
        """Start to send `meta` to `install.target`, or leave it alone when that is already under way. `leader`: in whose stead; empty: this node leads.

        Raises `SnapshotDamaged`, `StorageFailed`.
        """
        asked_tick = self.now_ticks if leader else None
        running = self._sending.get(install.target)
        if running is not None and (running.meta.index, running.meta.term) == (meta.index, meta.term):
            running.install, running.leader, running.asked_tick = install, leader, asked_tick
            return []
        self._end(install.target)
        sending = _Sending(
            install,
            meta,
            self._storage.open_snapshot(meta),
            self._storage.snapshot_checksum(meta),
            acknowledged=0,
            next_offset=0,
            heard_tick=self.now_ticks,
            resent_tick=self.now_ticks,
            done_sent=False,
            leader=leader,
            asked_tick=asked_tick,
        )
        self._sending[install.target] = sending
        return self._fill(sending)

    def tick(self, *, leads: bool, term: Term) -> Outcome:
        """Go on where the throttle held back, and repeat what got no answer. Given up are receivers that stay silent, and what nobody wants any
        more: this node leads no longer (or in another term), or the leader it sends for asks no longer."""
        outcome = Outcome()
        messages = outcome.messages
        for target in sorted(self._sending):
            sending = self._sending[target]
            if sending.install.term != term or (
                not leads if sending.asked_tick is None else self.now_ticks - sending.asked_tick >= LEASE_TICKS
            ):
                self._end(target)
                continue
            if sending.next_offset == sending.acknowledged and not sending.done_sent:
                sending.heard_tick = self.now_ticks  # it waits for us
            elif self.now_ticks - sending.heard_tick >= (_GIVE_UP_TICKS if sending.asked_tick is None else _GIVE_UP_FOR_LEADER_TICKS):
                self._end(target)
                if sending.asked_tick is None:
                    outcome.failed.append(target)
                else:
                    messages.append(_report(sending, refused=f"{target} does not answer"))
                continue
            if self.now_ticks - sending.resent_tick >= _RESEND_TICKS:
                sending.next_offset = sending.acknowledged
                sending.done_sent = False
                sending.resent_tick = self.now_ticks
            messages += self._fill(sending)
        return outcome

    def peer_lost(self, peer: NodeId) -> None:
        """The connection broke: what is on its way counts as lost, and is sent again from the last answer on."""
        sending = self._sending.get(peer)
        if sending is not None:
            sending.next_offset = sending.acknowledged
            sending.done_sent = False
            sending.resent_tick = self.now_ticks

    def close(self) -> None:
        for target in sorted(self._sending):
            self._end(target)

    def _end(self, target: NodeId) -> None:
        sending = self._sending.pop(target, None)
        if sending is not None:
            sending.body.close()

    def _fill(self, sending: _Sending) -> list[Message]:
        """As many chunks as the window and the throttle allow."""
        config = self._config
        window = config.snapshot_chunks_in_flight * config.snapshot_chunk_bytes
        size = sending.meta.size_bytes
        messages: list[Message] = []
        while not sending.done_sent and sending.next_offset - sending.acknowledged < window and self._allowed(config.snapshot_chunk_bytes):
            sending.body.seek(sending.next_offset)
            data = sending.body.read(config.snapshot_chunk_bytes)
            end = sending.next_offset + len(data)
            messages.append(
                SnapshotChunk(
                    source=sending.install.source,
                    target=sending.install.target,
                    term=sending.install.term,
                    meta=sending.meta,
                    offset=sending.next_offset,
                    data=data,
                    checksum=zlib.crc32(data),
                    body_checksum=sending.body_checksum,
                    done=end >= size,
                    leader=sending.leader,
                )
            )
            sending.next_offset = end
            sending.done_sent = end >= size
            self.chunks_sent += 1
        return messages

    def _allowed(self, size_bytes: int) -> bool:
        """Token bucket of one second, refilled by ticks."""
        limit = self._config.snapshot_bytes_per_second
        if not limit:
            return True
        elapsed = self.now_ticks - self._allowance_tick
        self._allowance_tick = self.now_ticks
        self._allowance_bytes = min(float(max(limit, size_bytes)), self._allowance_bytes + limit * elapsed * self.tick_seconds)
        if self._allowance_bytes < size_bytes:
            return False
        self._allowance_bytes -= size_bytes
        return True

    tick_seconds = 0.02
    """Length of a tick; set by whoever makes the replica."""

    # -- both sides --------------------------------------------------------------------------------------------------

    def receive(
        self, message: SnapshotChunk | SnapshotChunkReply | SnapshotFetch, *, committed_index: Index, term: Term, own_id: NodeId
    ) -> Outcome:
        """Take a stream message; nothing it holds is trusted before it is checked."""
        if isinstance(message, SnapshotChunk):
            return self._on_chunk(message, committed_index, term, own_id)
        if isinstance(message, SnapshotChunkReply):
            return self._on_reply(message)
        return self._on_fetch(message, own_id, term)

    def _on_chunk(self, chunk: SnapshotChunk, committed_index: Index, term: Term, own_id: NodeId) -> Outcome:
        outcome = Outcome()
        if chunk.term < term:
            return outcome
        refused, offset, complete = "", 0, False
        if chunk.meta.index <= committed_index:
            refused = f"snapshot ends at index {chunk.meta.index}, but entries up to {committed_index} are committed here"
        else:
            try:
                offset, complete = self._storage.receive_chunk(
                    chunk.meta,
                    chunk.offset,
                    chunk.data,
                    checksum=chunk.checksum,
                    body_checksum=chunk.body_checksum,
                    done=chunk.done,
                )
                self.chunks_received += 1
            except MalformedMessage as error:
                refused = str(error)
            except DiskFull as error:
                # It cannot catch up now, but it holds what it has promised, and it may vote; the sender tries again later.
                refused = f"no room for the snapshot: {error}"
        outcome.messages.append(
            SnapshotChunkReply(
                source=own_id,
                target=chunk.source,
                term=chunk.term,
                snapshot_index=chunk.meta.index,
                snapshot_term=chunk.meta.term,
                next_offset=offset,
                refused=refused,
            )
        )
        if complete:
            outcome.install = InstallSnapshot(source=chunk.leader or chunk.source, target=own_id, term=chunk.term, meta=chunk.meta)
        return outcome

    def _on_reply(self, reply: SnapshotChunkReply) -> Outcome:
        outcome = Outcome()
        sending = self._sending.get(reply.source)
        if sending is None or (sending.meta.index, sending.meta.term) != (reply.snapshot_index, reply.snapshot_term):
            return outcome
        if reply.refused:
            self._end(reply.source)
            if sending.asked_tick is None:
                outcome.failed.append(reply.source)
            else:
                outcome.messages.append(_report(sending, refused=f"{reply.source}: {reply.refused}"))
            return outcome
        if not 0 <= reply.next_offset <= sending.meta.size_bytes:
            return outcome
        sending.heard_tick = sending.resent_tick = self.now_ticks
        if reply.next_offset >= sending.meta.size_bytes and sending.done_sent:
            self._end(reply.source)
            if sending.asked_tick is None:
                outcome.sent = (reply.source, reply.snapshot_index)
            else:
                outcome.messages.append(_report(sending, done=True))
            return outcome
        if reply.next_offset < sending.acknowledged or reply.next_offset > sending.next_offset:
            # The receiver began anew, or has more than we remember (it resumed a former stream): go on where it stands.
            sending.next_offset = reply.next_offset
            sending.done_sent = False
        sending.acknowledged = reply.next_offset
        outcome.messages += self._fill(sending)
        return outcome

    def _on_fetch(self, fetch: SnapshotFetch, own_id: NodeId, term: Term) -> Outcome:
        """The leader asks us to send our snapshot in its stead, or to go on with it; the answer says how far it has come."""
        outcome = Outcome()
        if fetch.term < term:
            return outcome
        sending = self._sending.get(fetch.receiver)
        if fetch.stop:
            if sending is not None and sending.asked_tick is not None:
                self._end(fetch.receiver)
            return outcome
        if sending is not None and sending.meta.index >= fetch.snapshot_index and sending.install.term == fetch.term:
            sending.asked_tick = self.now_ticks
            outcome.messages.append(_report(sending))
            return outcome
        meta = self._storage.newest_snapshot()
        refused = ""
        if meta is None or meta.index < fetch.snapshot_index:
            refused = f"the newest snapshot here ends at {meta.index if meta is not None else 0}, {fetch.snapshot_index} is wanted"
        else:
            try:
                install = InstallSnapshot(source=own_id, target=fetch.receiver, term=fetch.term, meta=meta)
                chunks = self.begin(install, meta, leader=fetch.source)
            except StorageError as error:
                refused = str(error)
            else:
                outcome.messages += [_report(self._sending[fetch.receiver]), *chunks]
        if refused:
            refusal = SnapshotFetchReply(source=own_id, target=fetch.source, term=fetch.term, receiver=fetch.receiver, refused=refused)
            outcome.messages.append(refusal)
        return outcome


def _report(sending: _Sending, *, done: bool = False, refused: str = "") -> SnapshotFetchReply:
    """To the leader that has asked for this."""
    install = sending.install
    return SnapshotFetchReply(
        source=install.source,
        target=sending.leader,
        term=install.term,
        receiver=install.target,
        snapshot_index=sending.meta.index,
        snapshot_term=sending.meta.term,
        received_bytes=sending.meta.size_bytes if done else sending.acknowledged,
        done=done,
        refused=refused,
    )
