"""One node of the simulator: the shipped replica, log and storage over a virtual disk, driven as the owner loop drives them.

`run` is a turn. Each effect is carried out before the next one is asked for; a `Persist` takes virtual time, during which the inbox fills (so group
commit happens here as in production). What is left out is asyncio, threads and gRPC.

A crash while a write is in flight lets the write go on for a random number of operations of the disk and cuts the power there: so every step of the
log, the hard state and the snapshots is a crash point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any

from replog.errors import DiskFull, NodeStopped, StorageError
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
    Send,
    SetPeers,
    TakeSnapshot,
)
from replog.node.replica import Replica, ReplicaConfig, initial_applied_index
from replog.raft.messages import AppendEntriesReply, Message
from replog.storage.frames import EntryFrameCodec
from replog.storage.interface import Storage, Write
from replog.testing.clock import MILLISECOND
from replog.testing.disk import PowerCut, VirtualDisk
from replog.testing.ledger import NodeRecord
from replog.testing.watched_machine import WatchedMachine
from replog.types import NodeId

if TYPE_CHECKING:
    from replog.testing.simulator import Simulator

OpenStorage = Callable[[VirtualDisk, ReplicaConfig], Storage]
_TURN_US = 5
"""What a turn itself takes."""


class SimulatedNode:
    """A machine with a disk, and on it perhaps a running node. Public to scenarios: `start`, `crash`, `replica`, `disk`, `machine`."""

    def __init__(self, simulator: Simulator, node: NodeId, config: ReplicaConfig, random: Random, disk_random: Random) -> None:
        self.simulator = simulator
        self.node = node
        self.config = config
        self.disk = VirtualDisk(disk_random)
        self.record = NodeRecord(node)
        self.replica: Replica | None = None
        self.machine: WatchedMachine | None = None
        self.clock_rate = 1.0
        self.sync_us_min, self.sync_us_max = 60, simulator.weather.sync_us_max
        self.apply_us = 0
        """Extra time that each turn takes: a slow state machine."""
        self.damaged = False
        """A fault was put into this disk from which refusing to start is the right answer."""
        self.retired = False
        """Never starts again: replaced, or refused to start for good."""
        self.doomed: Callable[[SimulatedNode], None] | None = None
        """What strikes this node in the middle of its next write."""
        self.boot = 0
        self._random = random
        self._inputs = Inputs()
        self._effects: Iterator[Effect] | None = None
        self._replies: list[AppendEntriesReply] = []
        self._writing: Write | None = None
        self._snapshotting: list[TakeSnapshot] = []
        self._scheduled = False
        self._paused_until_us = 0
        self._missed_ticks = 0
        self._started_us = 0
        self._tick_us = config.cluster.tick_ms * MILLISECOND
        self._next_tick_us = 0.0
        self._met: set[tuple[NodeId, int]] = set()

    @property
    def up(self) -> bool:
        return self.replica is not None

    @property
    def busy(self) -> bool:
        """A write is in flight."""
        return self._writing is not None

    # -- life -----------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Open the disk and run. Raises what opening raises (a `StorageError`, or `PowerCut` where a fuse was set)."""
        assert self.replica is None
        simulator = self.simulator
        storage = simulator.open_storage(self.disk, self.config)
        found = storage.recovered
        frames, index = [], found.first_index
        while index <= found.last_index:
            batch = storage.read_frames(index, found.last_index, 1 << 20)
            frames.append(batch)
            index = batch.last_index + 1
        ledger, record = simulator.ledger, self.record
        mirror = ledger.recovered(record, found, frames)
        simulator.properties.restart(record, found, mirror)
        machine = WatchedMachine(simulator.workload, self._on_state, self._on_command)
        if found.snapshot is not None:
            with storage.open_snapshot(found.snapshot) as body:
                machine.restore(body)
            self._restored(machine, found.snapshot.index)
        election_min, election_max = self.config.cluster.election_timeout_ticks_min, self.config.cluster.election_timeout_ticks_max
        replica = Replica(
            self.config,
            storage=storage,
            state_machine=machine,
            frame_codec=EntryFrameCodec.of(self.config.cluster),
            draw_timeout=lambda: self._random.randint(election_min, election_max),
        )
        replica.set_tick_seconds(self.config.cluster.tick_ms / 1000)
        record.log, record.durable_state, record.writing_state = mirror, found.hard_state, None
        record.snapshot_index = found.snapshot.index if found.snapshot is not None else 0
        record.alive, record.is_leader, record.term = True, False, found.hard_state.term
        record.committed_index, record.applied_index = replica.core.committed_index, initial_applied_index(storage, machine)
        record.incarnation = found.incarnation
        record.match_seen = {}
        self.replica, self.machine = replica, machine
        self.boot += 1
        self._inputs, self._effects, self._writing, self._snapshotting = Inputs(), None, None, []
        self._scheduled, self._met, self._missed_ticks, self._paused_until_us = False, set(), 0, 0
        self._started_us = simulator.clock.now_us
        self._next_tick_us = float(simulator.clock.now_us)
        self._schedule_tick()

    def stop(self, *, power: bool) -> None:
        """The process ends at once; with `power`, the machine loses what it had not synced."""
        if self.replica is None:
            return
        self._let_disk_go_on()
        if power:
            lost = self.disk.power_cut()
            if lost:
                self.simulator.coverage.add("torn or lost on power cut")
        else:
            self.disk.process_exit()
        self.replica = self.machine = None
        self._effects, self._writing, self._snapshotting = None, None, []
        self.boot += 1
        self.record.alive = self.record.is_leader = False

    def _let_disk_go_on(self) -> None:
        """What was under way in the storage's threads gets some way further, up to a random operation of the disk."""
        replica = self.replica
        assert replica is not None
        jobs: list[Callable[[], object]] = []
        if self._writing is not None:
            write = self._writing
            jobs.append(lambda: replica.storage.persist(write))
        jobs += [lambda effect=effect: replica.storage.write_snapshot(effect.meta, effect.writer) for effect in self._snapshotting]  # type: ignore[misc]  # the default binds the loop's value
        for job in jobs:
            if self._random.random() < 0.8:
                self.disk.fuse = int(self._random.random() * self._random.choice((3, 12)))
                self.simulator.coverage.add("crashes inside a write")
                with suppress(PowerCut, StorageError):
                    job()
                self.disk.fuse = None

    def fail(self, error: Exception) -> None:
        """The storage failed: the node stops serving, as the owner loop does, and comes back later."""
        assert self.replica is not None
        for effect in self.replica.close(NodeStopped(str(error))):
            self.simulator.clients.failed(effect.tickets, effect.error)
        self._writing, self._effects = None, None
        self.stop(power=False)
        self.simulator.on_node_failed(self, error)

    def pause(self, duration_us: int) -> None:
        """Nothing happens in this process for a while (as with SIGSTOP)."""
        self._paused_until_us = self.simulator.clock.now_us + duration_us
        self.simulator.clock.after(duration_us, self._resume, self.boot)

    def _resume(self, boot: int) -> None:
        if boot == self.boot and self.up:
            self._paused_until_us = 0
            self._wake()

    # -- inputs ---------------------------------------------------------------------------------------------------------

    def receive(self, message: Message, incarnation: int) -> None:
        """A message has arrived, from a data directory of this `incarnation`; the handshake refuses another than the membership has."""
        replica = self.replica
        if replica is None:
            return
        meeting = (message.source, incarnation)
        if meeting not in self._met:
            expected = replica.incarnations.expected(message.source)
            if expected and expected != incarnation:
                self.simulator.coverage.add("refused incarnations")
                return
            replica.incarnations.seen(message.source, incarnation)
            self._met.add(meeting)
        self._inputs.messages.append(message)
        if type(message) is AppendEntriesReply:
            self._replies.append(message)
        self._wake()

    def peer_lost(self, peer: NodeId) -> None:
        if self.replica is not None and peer not in self._inputs.peers_lost:
            self._inputs.peers_lost.append(peer)

    def propose(self, payload: bytes, ticket: Any) -> None:
        self._inputs.payloads.append(payload)
        self._inputs.tickets.append(ticket)
        self._wake()

    def propose_group(self, payloads: list[bytes], ticket: Any) -> None:
        self._inputs.groups.append((payloads, ticket))
        self._wake()

    def read(self, ticket: Any) -> None:
        self._inputs.reads.append(ticket)
        self._wake()

    def request(self, call: Callable[[], Any], ticket: Any) -> None:
        self._inputs.requests.append((call, ticket))
        self._wake()

    def change(self, call: Callable[[], Any], ticket: Any) -> None:
        self._inputs.changes.append((call, ticket))
        self._wake()

    def take_snapshot(self, ticket: Any) -> None:
        self._inputs.snapshot_requests.append(ticket)
        self._wake()

    def _schedule_tick(self) -> None:
        self._next_tick_us += self._tick_us / self.clock_rate
        self.simulator.clock.at(max(self.simulator.clock.now_us, int(self._next_tick_us)), self._tick, self.boot)

    def _tick(self, boot: int) -> None:
        if boot != self.boot:
            return
        self._inputs.ticks += 1
        self._schedule_tick()
        self._wake()

    # -- the owner ------------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        """Take a turn now, unless one is under way."""
        if self._effects is None and not self._scheduled and not self._paused_until_us:
            if self.apply_us:
                self._scheduled = True
                self.simulator.clock.after(self.apply_us, self._turn_later, self.boot)
            else:
                self._turn()

    def _turn_later(self, boot: int) -> None:
        if boot == self.boot:
            self._scheduled = False
            if self._effects is None and not self._paused_until_us:
                self._turn()

    def _turn(self) -> None:
        replica = self.replica
        if replica is None:
            return
        inputs, self._inputs = self._inputs, Inputs()
        inputs.now_ticks = int((self.simulator.clock.now_us - self._started_us) * self.clock_rate / self._tick_us)
        self._effects = replica.turn(inputs)
        self._go_on()

    def _go_on(self) -> None:
        """Carry out the turn as far as it goes; a storage that fails within it, outside of a persist, ends this life as well."""
        try:
            self._carry_on()
        except StorageError as error:
            self._tell_failed(error)

    def _carry_on(self) -> None:
        """Carry out effects up to the next one that takes time, or to the end of the turn."""
        simulator, replica, effects = self.simulator, self.replica, self._effects
        assert replica is not None
        assert effects is not None
        for effect in effects:
            kind = type(effect)
            if kind is Send:
                simulator.send(self, effect.messages)  # type: ignore[union-attr]  # the line above narrowed it, faster than isinstance
            elif kind is Persist:
                self._begin_write(effect.write)  # type: ignore[union-attr]  # as above
                return
            elif kind is Observe:
                simulator.observe(self, effect)  # type: ignore[arg-type]  # as above
            elif kind is not SetPeers:
                self._carry_out(effect)
        self._effects = None
        simulator.properties.watch(self.record, replica)
        if simulator.plan.check_core:
            replica.core.check()
        if self._replies:
            replies, self._replies = self._replies, []
            if replica.core.is_leader:
                simulator.properties.acknowledged(self.record, replica, replies)
        if replica.has_work or self._inputs:
            self._scheduled = True
            simulator.clock.after(_TURN_US, self._turn_later, self.boot)

    def _carry_out(self, effect: Effect) -> None:
        clients = self.simulator.clients
        match effect:
            case Reply(tickets, results):
                for ticket, result in zip(tickets, results, strict=True):
                    clients.answered(ticket, result)
            case ReplyGroup(ticket, results):
                clients.answered_group(ticket, results)
            case Answer(tickets, value):
                for ticket in tickets:
                    clients.told(self, ticket, value)
            case Fail(tickets, error):
                clients.failed(tickets, error)
            case TakeSnapshot():
                self._snapshotting.append(effect)
                self.simulator.clock.after(int(self._random.random() * 50 * MILLISECOND), self._end_snapshot, (self.boot, effect))
            case RestoreState(meta):
                assert self.replica is not None
                assert self.machine is not None
                with self.replica.storage.open_snapshot(meta) as body:
                    self.machine.restore(body)
                self._restored(self.machine, meta.index)
                self.simulator.coverage.add("snapshots installed")

    def _begin_write(self, write: Write) -> None:
        simulator, replica, record = self.simulator, self.replica, self.record
        assert replica is not None
        properties = simulator.properties
        properties.write(record, replica, write)
        before = record.log.last_index if write.discard_from is None else min(record.log.last_index, write.discard_from - 1)
        simulator.ledger.begin_write(record, write)
        first = max(record.log.base, before if write.install is None else record.log.base) + 1
        properties.written(record, replica, first)
        properties.watch(record, replica)
        self._writing = write
        simulator.clock.after(
            self.sync_us_min + int(self._random.random() * (self.sync_us_max - self.sync_us_min)), self._end_write, self.boot
        )

    def _end_write(self, boot: int) -> None:
        if boot != self.boot:
            return
        if self._paused_until_us:
            self.simulator.clock.at(self._paused_until_us, self._end_write, boot)
            return
        if self.doomed is not None:
            strike, self.doomed = self.doomed, None
            strike(self)
            return
        replica, write = self.replica, self._writing
        assert replica is not None
        assert write is not None
        try:
            replica.storage.persist(write)
        except StorageError as error:
            self._tell_failed(error)
            return
        self._writing = None
        self.simulator.ledger.end_write(self.record, write)
        if write.discard_from is not None:
            self.simulator.coverage.add("conflicts truncated")
        self._go_on()

    def _tell_failed(self, error: StorageError) -> None:
        self.simulator.coverage.add("full disks" if isinstance(error, DiskFull) else "storage failures")
        self.fail(error)

    def _end_snapshot(self, argument: tuple[int, TakeSnapshot]) -> None:
        boot, effect = argument
        if boot != self.boot:
            return
        replica = self.replica
        assert replica is not None
        self._snapshotting.remove(effect)
        # Not when it was begun: then the turn may not yet have written what it has committed.
        self.simulator.properties.snapshot(self.record, effect.meta)
        meta, failure = effect.meta, None
        try:
            meta = replica.storage.write_snapshot(effect.meta, effect.writer)
            self.record.snapshot_index = max(self.record.snapshot_index, meta.index)
            self.simulator.coverage.add("snapshots written")
        except StorageError as error:
            failure = error
            self.simulator.coverage.add("snapshots failed")
        self._inputs.snapshots_done.append((meta, failure))
        self._wake()

    # -- what the state machine tells ---------------------------------------------------------------------------------------

    def _on_state(self, index: int, digest: int) -> None:
        self.simulator.properties.state(self.node, index, digest)

    def _on_command(self, index: int, number: int) -> None:
        self.simulator.properties.command(self.node, index, number)

    def _restored(self, machine: WatchedMachine, index: int) -> None:
        """A restored state must be the replayed one. Result digests are not part of a snapshot, so the whole state is compared."""
        self.simulator.check_restored(self.node, index, machine)
