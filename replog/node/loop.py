"""The owner task: the only one that touches core, state machine, log and pending replies, so nothing is locked.

It waits for the inbox, drains it into one turn of the replica and carries out the turn's effects in the order in which they come.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from typing import BinaryIO

from replog.client.futures import set_results
from replog.errors import CommandFailed, NodeStopped, NotLeader, ReplogError, Unavailable
from replog.node.effects import (
    Answer,
    Effect,
    Fail,
    Inputs,
    Observe,
    Persist,
    Reply,
    ReplyGroup,
    RestoreState,
    Result,
    Send,
    SetPeers,
    TakeSnapshot,
    Ticket,
)
from replog.node.inbox import Inbox
from replog.node.persister import Persister
from replog.node.replica import Replica
from replog.node.send_window import SendWindows
from replog.node.ticker import Ticker
from replog.node.turn_size import TurnSize
from replog.raft.messages import HeartbeatReply, Message
from replog.statemachine import CommandError
from replog.storage.interface import Write
from replog.transport.interface import Transport
from replog.types import NodeId, SnapshotMeta

logger = logging.getLogger("replog")

Observer = Callable[[Observe], None]


class OwnerLoop:
    """Drives one replica over asyncio. `run` ends when `stop` is called or when the node has failed (`failure` says why)."""

    def __init__(self, replica: Replica, transport: Transport, persister: Persister, inbox: Inbox, observers: Sequence[Observer]) -> None:
        self.replica = replica
        self.inbox = inbox
        self.failure: Exception | None = None
        self.turns = 0
        self._transport = transport
        self._persister = persister
        cluster = replica.config.cluster
        node = replica.config.node
        target_seconds = cluster.heartbeat_ticks * cluster.tick_ms / 1000 / 2
        self._turn_size = TurnSize(node.turn_bytes_max, target_seconds)
        self.windows = SendWindows(node.in_flight_bytes_max, target_seconds, messages_max=node.in_flight_messages_max)
        self._observers = observers
        self.create_future = asyncio.get_running_loop().create_future
        """For who asks often: asking which loop runs is a system call (Python 3.11)."""
        self._stopping = False
        self._name = replica.config.node.node_id
        self._persist_began: int | None = None
        self._next_warning_ticks = 0
        self._next_keepalive_ticks = 0
        self.stalls = False
        """A write has taken an election timeout: the owner cannot answer anybody, so who asks is sent elsewhere."""
        self.restored = asyncio.Event()
        """Clear while a snapshot replaces the state in another thread: nobody may look at the state machine then."""
        self.restored.set()
        self._successor: NodeId | None = None
        """Who was asked to lead, as this disk stalls."""
        self._snapshots: set[asyncio.Task[None]] = set()
        self.ticker = Ticker(replica.config.cluster.tick_ms, self._on_tick)
        replica.set_tick_seconds(replica.config.cluster.tick_ms / 1000)

    # -- filling the inbox -----------------------------------------------------------------------------------------------

    def receive(self, messages: Sequence[Message]) -> None:
        """Transport's `Receive`. Answers to heartbeats that no read waits for are taken in with the next turn, at the latest that of the next tick."""
        self.windows.received(messages, self.ticker.seconds)
        self.inbox.inputs.messages += messages
        if self.replica.core.awaits_round or any(type(message) is not HeartbeatReply for message in messages):
            self.inbox.wake()

    def peer_lost(self, peer: NodeId) -> None:
        self.windows.lost(peer)
        self.inbox.inputs.peers_lost.append(peer)
        self.inbox.wake()

    def _on_tick(self, due: int) -> None:
        self.inbox.inputs.ticks += due
        self.inbox.wake()
        if self._persist_began is not None:
            self._while_persisting(self.ticker.now_ticks() - self._persist_began)

    def _while_persisting(self, elapsed: int) -> None:
        """The owner waits for a slow disk. Heartbeats go on, so that a short stall costs no election; after an election timeout without
        progress they end, the best follower is asked to take over, and nobody is left waiting for this disk."""
        cluster = self.replica.config.cluster
        if elapsed >= self._next_warning_ticks:
            self._next_warning_ticks *= 2
            logger.warning("%s: a sync has taken %.1f s so far; look at the disk", self._name, elapsed * cluster.tick_ms / 1000)
        if elapsed < cluster.election_timeout_ticks_min:
            if elapsed >= self._next_keepalive_ticks:
                self._next_keepalive_ticks = elapsed + cluster.heartbeat_ticks
                self._transport.send(self.replica.keepalive())
        elif not self.stalls:
            self.stalls = True
            self._successor = None
            messages = self.replica.hand_over_stalled()
            if messages:
                self._successor = messages[0].target
                logger.warning("%s: the disk stalls; %s is asked to lead", self._name, messages[0].target)
                self._transport.send(messages)
            self._send_away()

    def _send_away(self) -> None:
        """Fail what waits: what is in the log has an unknown outcome, what is still in the inbox was never appended."""
        for effect in self.replica.give_up_waiting():
            fail(effect.tickets, effect.error)
        asked = self.inbox.take_requests()
        fail([*asked.tickets, *(ticket for _, ticket in asked.groups)], self.not_leader())
        asked.tickets, asked.groups = [], []
        fail_inputs(asked, self.stalled_error())

    def not_leader(self) -> NotLeader:
        """Where the leader is; from a leader whose disk stalls: who was asked to lead."""
        if not self.stalls or self.replica.core.leader != self._name:
            return self.replica.not_leader()
        member = self.replica.core.membership.members.get(self._successor or "")
        return NotLeader(self._successor, member.address) if member is not None else NotLeader()

    def stalled_error(self) -> Unavailable:
        return Unavailable(f"the disk of {self._name} stalls; nothing was done, ask another node")

    async def _persist(self, write: Write) -> None:
        self._persist_began = self.ticker.now_ticks()
        self._next_warning_ticks = max(1, 1000 // self.replica.config.cluster.tick_ms)
        self._next_keepalive_ticks = 1
        try:
            await self._persister.persist(write)
        finally:
            self._persist_began = None
            self.stalls = False
        if write.frames:
            self._turn_size.measured(sum([frames.size_bytes for frames in write.frames]), self._persister.last_seconds)
            self.inbox.turn_bytes_max = self._turn_size.bytes

    def staleness_seconds(self) -> float:
        """Age bound of the local state, see `Replica.fresh_tick`."""
        fresh = self.replica.fresh_tick
        if fresh is None:
            return math.inf
        return (self.ticker.now_ticks() + 1 - fresh) * self.replica.config.cluster.tick_ms / 1000

    def acknowledgement_seconds(self, nodes: Sequence[NodeId]) -> dict[NodeId, float]:
        """Of those of `nodes` that were measured: mean time of late from sending an append to its acknowledgement."""
        windows = self.windows.by_node
        return {node: windows[node].acknowledgement_seconds for node in nodes if node in windows}

    # -- the owner -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Turn after turn; never raises but for cancellation."""
        inbox, replica = self.inbox, self.replica
        try:
            while not self._stopping:
                if not replica.has_work:
                    await inbox.wait()
                else:
                    # More to apply: let the transport and the callers have the loop in between.
                    await asyncio.sleep(0)
                inputs = inbox.drain()
                inputs.now_ticks = self.ticker.now_ticks()
                inputs.windows = self.windows.take_changed()
                self.turns += 1
                for effect in replica.turn(inputs):
                    kind = type(effect)
                    if kind is Persist:
                        await self._persist(effect.write)  # type: ignore[union-attr]  # the line above narrowed it, faster than isinstance
                    elif kind is RestoreState:
                        self.restored.clear()
                        await asyncio.to_thread(self._restore, effect.meta)  # type: ignore[union-attr]  # as above
                        self.restored.set()
                    else:
                        self._carry_out(effect)
        except Exception as error:  # noqa: BLE001 - whatever it is, the node must not go on: its promises are in doubt
            self.failure = error
        finally:
            self._close()

    def stop(self) -> None:
        """Ask `run` to end after the present turn."""
        self._stopping = True
        self.inbox.wake()

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Send(messages):
                self._transport.send(messages)
                self.windows.sent(messages, self.ticker.seconds)
            case Reply(tickets, results):
                resolve(tickets, results)
            case ReplyGroup(ticket, results):
                if not ticket.done():
                    ticket.set_result(results)
            case Answer(tickets, value):
                for ticket in tickets:
                    if not ticket.done():
                        ticket.set_result(value)
            case Fail(tickets, error):
                fail(tickets, error)
            case SetPeers(addresses):
                self._transport.set_peers(addresses)
            case Observe():
                for observer in self._observers:
                    observer(effect)
            case TakeSnapshot():
                task = asyncio.get_running_loop().create_task(self._take_snapshot(effect))
                self._snapshots.add(task)
                task.add_done_callback(self._snapshots.discard)
            case Persist() | RestoreState():
                raise AssertionError("carried out by run")

    def _restore(self, meta: SnapshotMeta) -> None:
        body: BinaryIO
        with self.replica.storage.open_snapshot(meta) as body:
            self.replica.state_machine.restore(body)

    async def _take_snapshot(self, effect: TakeSnapshot) -> None:
        meta, failure = effect.meta, None
        try:
            meta = await asyncio.to_thread(self.replica.storage.write_snapshot, effect.meta, effect.writer)
        except Exception as error:  # noqa: BLE001 - a snapshot that fails is told and tried again later; the log goes on
            failure = error
            if self.replica.snapshots.last_error is None:  # told once for each streak of failures
                node = self.replica.config.node.node_id
                logger.warning("%s: the snapshot at %d could not be written and is tried again: %s", node, meta.index, error)
        self.inbox.inputs.snapshots_done.append((meta, failure))
        self.inbox.wake()

    async def settle(self) -> None:
        """Wait for snapshots that are being written."""
        if self._snapshots:
            await asyncio.wait(self._snapshots)

    def _close(self) -> None:
        """Nobody waits for ever: everything pending or queued fails."""
        self.ticker.stop()
        self.restored.set()
        error = NodeStopped("the node has stopped" if self.failure is None else f"the node has failed: {self.failure}")
        error.__cause__ = self.failure
        for effect in self.replica.close(error):
            if isinstance(effect, Fail):
                fail(effect.tickets, effect.error)
        fail_inputs(self.inbox.close(), error)


def resolve(tickets: Sequence[Ticket], results: Sequence[Result]) -> None:
    """Give each waiting future its result; a command that raised becomes `CommandFailed`."""
    if CommandError not in set(map(type, results)):
        set_results(tickets, results)
        return
    for future, result in zip(tickets, results, strict=True):
        if not future.done():
            if type(result) is CommandError:
                future.set_exception(CommandFailed(result.kind, result.message))
            else:
                future.set_result(result)


def fail(tickets: Sequence[Ticket], error: Exception) -> None:
    for future in tickets:
        if not future.done():
            future.set_exception(error)


def fail_inputs(inputs: Inputs, error: ReplogError) -> None:
    """Fail whatever was queued and will never be taken."""
    fail(inputs.tickets, error)
    fail([ticket for _, ticket in inputs.groups], error)
    fail(inputs.reads, error)
    fail(inputs.lease_reads, error)
    fail([ticket for _, ticket in inputs.requests], error)
    fail([ticket for _, ticket in inputs.changes], error)
    fail(inputs.snapshot_requests, error)
