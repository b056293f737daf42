"""A whole cluster in one thread, in virtual time, from one seed: deterministic simulation of the shipped code.

The core, the replica, the storage, the log and the snapshots run as shipped; the clock, the network and the disks are virtual (and only asyncio, threads
and gRPC are left out). One heap holds all events. The seed gives separate random streams to network, disks, faults, workload and each node, so that
turning off one fault does not change what the others draw. Nothing depends on hash order, so a seed is a run, bit for bit:
``python -m replog.testing run --seed S --profile P`` shows it again.

A run has a stormy part (`replog.testing.storm` does the faults), then everything heals, and L1 and L2 are demanded
(`replog.testing.properties.liveness`). Safety properties are checked at every step throughout.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any
from zlib import crc32

from replog.config import TEST_MIN, ClusterConfig, NodeConfig
from replog.errors import DiskFull, StorageError
from replog.node.effects import Observe
from replog.node.replica import ReplicaConfig
from replog.raft.events import MembershipCommitted, RoleChanged
from replog.raft.messages import Message
from replog.storage.interface import Storage
from replog.testing.clock import MILLISECOND, SECOND, VirtualClock
from replog.testing.coverage import Coverage
from replog.testing.disk import PowerCut, VirtualDisk
from replog.testing.faults import Weather, draw_weather
from replog.testing.kv_workload import KvWorkload, Workload
from replog.testing.ledger import Ledger, PropertyBroken
from replog.testing.network import LinkFaults, VirtualNetwork
from replog.testing.opening import open_virtual_storage
from replog.testing.simulated_clients import SimulatedClients
from replog.testing.simulated_node import SimulatedNode
from replog.testing.watch import Watch
from replog.testing.watched_machine import WatchedMachine
from replog.testing.wire import Wire, received_by_value
from replog.types import Index, Member, Membership, NodeId, Role

OpenStorage = Callable[[VirtualDisk, ReplicaConfig], Storage]
TRACE_LINES_MAX = 60
_RECONNECT_US = 50 * MILLISECOND


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that a run is made from; two runs of equal plans are equal."""

    seed: int
    profile: str = "swarm"
    storm_seconds: float = 8.0
    weather: Weather | None = None
    """None: drawn from seed and profile."""
    operations_max: int | None = None
    events_max: int | None = None
    """Stop after so many events without healing (the shrinker's prefix)."""
    faults_until_us: int | None = None
    """No new fault after this time (the shrinker)."""
    wire_share: float = 0.1
    """Share of the seeds whose messages go through the transport's bytes and checks."""
    check_core: bool = False
    """Assert the core's own invariants after every turn (slow)."""
    without: tuple[str, ...] = ()
    """Properties that are off."""


@dataclass(slots=True, kw_only=True)
class Report:
    """How a run ended. `broken` None: all properties held."""

    plan: Plan
    weather: Weather
    broken: PropertyBroken | None = None
    events: int = 0
    virtual_us: int = 0
    digest: int = 0
    """Over everything that happened; equal plans give equal digests."""
    trace: list[str] = field(default_factory=list)
    """The last events, for people."""
    coverage: Coverage = field(default_factory=Coverage)
    operations: int = 0

    def describe(self) -> str:
        lines = [
            f"seed {self.plan.seed}, profile {self.plan.profile}: "
            + ("all properties hold" if self.broken is None else f"BROKEN {self.broken}"),
            f"  weather: {self.weather.describe()}",
            f"  {self.events} events, {self.virtual_us / SECOND:.3f} virtual seconds, {self.operations} operations, digest {self.digest:08x}",
        ]
        if self.broken is not None:
            if self.plan.weather is None:
                lines.append(
                    f"  again: python -m replog.testing run --profile {self.plan.profile} --seed {self.plan.seed} "
                    f"--storm-seconds {self.plan.storm_seconds:g}"
                )
            lines += ["  last events:", *("    " + line for line in self.trace)]
        return "\n".join(lines)


class Simulator:
    """One cluster and its surroundings. `run(plan)` is the usual way in; scenarios use the parts."""

    def __init__(self, plan: Plan, *, workload: Workload | None = None, open_storage: OpenStorage = open_virtual_storage) -> None:
        self.plan = plan
        self.weather = plan.weather if plan.weather is not None else draw_weather(self.stream("weather"), plan.profile)
        self.clock = VirtualClock()
        self.coverage = Coverage()
        self.ledger = Ledger()
        self.workload: Workload = workload if workload is not None else self._draw_workload()
        self.properties = Watch(self.ledger, model=self.workload.model, without=plan.without)
        self.open_storage = open_storage
        self.network = VirtualNetwork(self.clock, self.stream("network"), self._deliver, self._lost)
        self.nodes: dict[NodeId, SimulatedNode] = {}
        self.clients = SimulatedClients(self, self.stream("workload"), self.weather.clients)
        self.digest = 0
        self.traced: deque[str] = deque(maxlen=TRACE_LINES_MAX)
        self.on_trace: Callable[[str], None] | None = None
        self.stormy = True
        self.last_failure: dict[NodeId, Exception] = {}
        self._cluster = ClusterConfig(
            cluster_id="simulated",
            initial_members={f"n{number}": f"n{number}:1" for number in range(1, self.weather.nodes + 1)},
            tick_ms=10,
            heartbeat_ticks=3,
            election_timeout_ticks_min=15,
            election_timeout_ticks_max=30,
        )
        members = {name: Member(address=address) for name, address in sorted(self._cluster.initial_members.items())}
        self.ledger.memberships = [(0, Membership(voters=tuple(members), members=members))]
        self._drift = self.stream("drift")
        self._told_lost_us: dict[tuple[NodeId, NodeId], int] = {}
        self._pass_on = Wire(self._cluster).received if self.stream("wire").random() < plan.wire_share else received_by_value

    def stream(self, name: str) -> Random:
        """A random source of its own for each concern: turning one off leaves the others as they are."""
        return Random(f"{self.plan.seed}/{self.plan.profile}/{name}")

    def _draw_workload(self) -> KvWorkload:
        random = self.stream("kinds")
        return KvWorkload(
            keys=random.choice((2, 5, 8)), read_share=random.choice((0.1, 0.4, 0.6)), padding_bytes=random.choice((0, 0, 60, 300))
        )

    # -- nodes ----------------------------------------------------------------------------------------------------------

    def add_node(self, name: NodeId, *, joins: bool = False) -> SimulatedNode:
        """A machine with an empty disk; `joins`: it is no initial member, it waits to be added."""
        cluster = self._cluster if not joins else replace(self._cluster, initial_members={})
        settings: dict[str, Any] = dict(TEST_MIN)
        settings |= self._drawn_limits()
        config = ReplicaConfig(cluster=cluster, node=NodeConfig(node_id=name, data_dir=f"/{name}", **settings))
        node = SimulatedNode(self, name, config, self.stream(f"node {name}"), self.stream(f"disk {name}"))
        if self.weather.drift:
            node.clock_rate = 1 + (self._drift.random() * 2 - 1) * self.weather.drift
        self.nodes[name] = node
        self.ledger.records[name] = node.record
        return node

    def _drawn_limits(self) -> dict[str, int]:
        """Limits of this run: mostly so small that rollover, compaction and every window are common."""
        random = self.stream("limits")
        return {
            "snapshot_entries": random.choice((20, 50, 200, 0)),
            "log_tail_entries": random.choice((0, 10, 50)),
            "append_entries_max": random.choice((1, 8, 64)),
            "in_flight_messages_max": random.choice((1, 3, 16)),
            "cache_bytes": random.choice((256, 2048, 65536)),
            "segment_bytes_max": random.choice((4096, 16384)),
        }

    def start_node(self, name: NodeId) -> bool:
        """Start it; False where its storage refuses (which is allowed only where the disk was damaged on purpose)."""
        node = self.nodes[name]
        if node.up or node.retired:
            return node.up
        errors_before = node.disk.sync_errors + node.disk.write_errors
        try:
            node.start()
        except PowerCut:
            node.disk.power_cut()
            self.coverage.add("crashes during recovery")
            return False
        except StorageError as error:
            node.disk.process_exit()
            if isinstance(error, DiskFull) or node.disk.sync_errors + node.disk.write_errors > errors_before:
                self.coverage.add("disk errors during recovery")
                self.on_node_failed(node, error)
                return False
            if not node.damaged:
                raise PropertyBroken("S14", f"{name} refuses to start from a disk that only lost what was not synced: {error!r}") from error
            self.coverage.add("starts refused on damage")
            self.trace(f"{name} refuses to start: {error}")
            node.retired = True
            return False
        self.trace(f"{name} starts: term {node.record.term}, log to {node.record.log.last_index}, snapshot {node.record.snapshot_index}")
        return True

    def on_node_failed(self, node: SimulatedNode, error: Exception) -> None:
        """Its storage failed; the storm (or the healing) brings it back."""
        self.last_failure[node.node] = error
        self.trace(f"{node.node} fails: {error}")
        self.clock.after(int(self._drift.random() * SECOND), self._restart_failed, node.node)

    def _restart_failed(self, name: NodeId) -> None:
        node = self.nodes[name]
        if not node.up and not node.retired:
            if node.disk.room_bytes is not None:
                node.disk.room_bytes = None
            self.start_node(name)

    def serving_names(self) -> list[NodeId]:
        """Names of the nodes that clients know, retired ones excepted."""
        return [name for name, node in self.nodes.items() if not node.retired]

    @property
    def leader(self) -> SimulatedNode | None:
        """The leader of the highest term among the nodes that are up."""
        leaders = [node for node in self.nodes.values() if node.replica is not None and node.replica.core.is_leader]
        return max(leaders, key=lambda node: node.record.term, default=None)

    # -- what nodes do ----------------------------------------------------------------------------------------------------

    def send(self, node: SimulatedNode, messages: Sequence[Message]) -> None:
        replica = node.replica
        assert replica is not None
        self.properties.send(node.record, replica, messages)
        self.network.send(messages)

    def _deliver(self, message: Message) -> None:
        target = self.nodes.get(message.target)
        if target is None or target.replica is None:
            self._lost(message.source, message.target)
            return
        kind = type(message).__name__
        self.digest = crc32(f"{self.clock.now_us}{message.source}{message.target}{kind}{message.term}".encode(), self.digest)
        source = self.nodes.get(message.source)
        target.receive(self._pass_on(message), source.record.incarnation if source is not None else 0)

    def _lost(self, source: NodeId, target: NodeId) -> None:
        """The transport of `source` notices a broken stream; it tells so once, and not again before it had time to connect anew."""
        link = (source, target)
        if (self.weather.tells_lost or not self.stormy) and self.clock.now_us >= self._told_lost_us.get(link, 0):
            self._told_lost_us[link] = self.clock.now_us + _RECONNECT_US
            node = self.nodes.get(source)
            if node is not None:
                node.peer_lost(target)

    def observe(self, node: SimulatedNode, told: Observe) -> None:
        for event in told.events:
            if isinstance(event, RoleChanged):
                self.trace(f"{node.node} is {event.role.value} in term {event.term}: {event.reason}")
                if event.role is Role.LEADER:
                    self.coverage.add("elections")
                elif node.record.is_leader:
                    self.coverage.add("leaders lost")
            elif isinstance(event, MembershipCommitted):
                self.coverage.add("membership changes")
                self.trace(
                    f"{node.node} commits membership {event.membership.voters} + {event.membership.voters_outgoing} learners {event.membership.learners}"
                )

    def check_restored(self, node: NodeId, index: Index, machine: WatchedMachine) -> None:
        """A restored state against the one that others replayed (S15)."""
        digest = self.workload.digest(machine.inner)
        if digest is None:
            return
        digests = self.ledger.digests
        at = index
        while at > 0 and at not in digests:
            at -= 1
        expected = digests.get(at, self.workload.digest(self.workload.machine()))
        if digest != expected:
            raise PropertyBroken("S15", f"{node} restores a snapshot at {index} whose state is not the replayed one")

    def trace(self, text: str) -> None:
        line = f"{self.clock.now_us / SECOND:11.6f} #{self.clock.events}  {text}"
        self.digest = crc32(line.encode(), self.digest)
        self.traced.append(line)
        if self.on_trace is not None:
            self.on_trace(line)

    # -- the run ----------------------------------------------------------------------------------------------------------

    def heal(self) -> None:
        """All faults end: links work, disks are quick and sound, everything that may start, starts."""
        self.stormy = False
        self.network.heal()
        for name, node in list(self.nodes.items()):
            node.sync_us_max, node.apply_us, node.doomed = 400, 0, None
            node.disk.room_bytes, node.disk.fuse = None, None
            node.disk.fail_syncs = node.disk.fail_writes = 0
            if not node.up:
                self.start_node(name)
        self.trace("everything heals")

    def seconds(self, duration: float) -> None:
        """Let virtual time pass."""
        self.clock.run_until(self.clock.now_us + int(duration * SECOND), self.plan.events_max)

    @property
    def cut_short(self) -> bool:
        """The plan's last event has happened."""
        return self.plan.events_max is not None and self.clock.events >= self.plan.events_max

    def set_link_faults(self) -> None:
        weather = self.weather
        self.network.faults = LinkFaults(
            delay_us_max=weather.delay_us_max,
            drop=weather.drop,
            duplicate=weather.duplicate,
            reorder=weather.reorder,
            replay=weather.replay,
        )
