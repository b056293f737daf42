"""`Node`: what an application embeds. It assembles storage, core, state machine, transport and services, and starts and stops them in order.

Start: storage first (a locked, foreign or damaged directory is named before any port is bound), then the state machine from the newest
snapshot, then the server, the transport and at last the owner. Stop: the other way round, after leadership has been handed over.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable, Mapping, Sequence
from types import NoneType, TracebackType
from typing import Literal, Self

from prometheus_client import CollectorRegistry

from replog.config import ClusterConfig, NodeConfig
from replog.errors import (
    Busy,
    ConfigError,
    MembershipChangePending,
    NotLeader,
    ReplogError,
    Unavailable,
)
from replog.node.asking import Asking
from replog.node.describe import describe, not_ready_reason
from replog.node.effects import Result
from replog.node.inbox import Inbox
from replog.node.loop import Observer, OwnerLoop
from replog.node.membership_plans import MembershipPlan
from replog.node.observers import Observations, log_events
from replog.node.persister import Persister
from replog.node.queries import Queries
from replog.node.replica import Replica, ReplicaConfig, initial_applied_index
from replog.node.services import Services
from replog.node.status import NodeStatus
from replog.raft.membership import MembershipChange
from replog.statemachine import StateMachine
from replog.storage.disk import DiskStorage
from replog.storage.frames import EntryFrameCodec
from replog.storage.interface import Storage
from replog.types import EntryId, Index, NodeId, SnapshotMeta

Consistency = Literal["linearizable", "lease", "stale"]


class Node(Asking):
    """One member of a cluster. Use it as ``async with Node(...) as node:``, or call `start` and `stop`.

    All methods are for the loop on which it was started.
    """

    def __init__(
        self,
        cluster: ClusterConfig,
        config: NodeConfig,
        state_machine: StateMachine,
        *,
        registry: CollectorRegistry | None = None,
        open_storage: Callable[[ClusterConfig, NodeConfig], Storage] | None = None,
        draw_timeout: Callable[[], int] | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        """Nothing is opened before `start`. Raises `ConfigError` when the two configurations do not fit each other.

        `registry`: where metrics go (None: a registry of the node's own, served at /metrics). `open_storage`, `draw_timeout` (election timeouts, in ticks):
        for tests and unusual disks. `observers` are told every event.
        """
        if cluster.initial_members and config.node_id not in cluster.initial_members:
            known = ", ".join(sorted(cluster.initial_members))
            raise ConfigError(
                "node_id", config.node_id, f"one of initial_members: {known}; or no initial_members to join a running cluster"
            )
        super().__init__(cluster, config)
        self.state_machine = state_machine
        self.registry = registry if registry is not None else CollectorRegistry()
        self._open_storage = open_storage or DiskStorage.open_for
        low, high = cluster.election_timeout_ticks_min, cluster.election_timeout_ticks_max
        chance = random.Random(secrets.randbits(64))
        self._draw_timeout = draw_timeout or (lambda: chance.randint(low, high))
        self._extra_observers = tuple(observers)
        self._storage: Storage | None = None
        self._persister: Persister | None = None
        self._owner: asyncio.Task[None] | None = None
        self._services: Services | None = None
        self._stopping = False

    # -- life ----------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Recover, bind, serve. Returns when the node takes part (it need not have a leader yet).

        Raises `StorageError` and its kin (directory), `PortTaken` (address): then everything that was opened is closed again.
        """
        assert self._storage is None, "a node is started once"
        try:
            await self._start()
        except BaseException:
            await self._tear_down()
            raise

    async def _start(self) -> None:
        self._storage = storage = await asyncio.to_thread(self._open_storage, self.cluster, self.config)
        await asyncio.to_thread(self._restore, storage)
        frame_codec = EntryFrameCodec.of(self.cluster)
        replica = Replica(
            ReplicaConfig(cluster=self.cluster, node=self.config),
            storage=storage,
            state_machine=self.state_machine,
            frame_codec=frame_codec,
            draw_timeout=self._draw_timeout,
        )
        inbox = Inbox(proposals_max=self.config.inbox_proposals_max, turn_bytes_max=self.config.turn_bytes_max)
        self._queries = Queries(self.state_machine, inbox)
        self._persister = persister = Persister(storage, self.config.sync_mode)
        self._services = services = Services(self, replica, frame_codec.decode, self.registry)
        observers = (self._observations.observe, log_events(self.config.node_id), *self._extra_observers)
        self._loop = loop = OwnerLoop(replica, services.transport, persister, inbox, observers)
        await services.start(loop)
        persister.on_duration = services.collector.observe_persist
        loop.ticker.start()
        self._owner = asyncio.get_running_loop().create_task(loop.run(), name=f"replog-owner-{self.config.node_id}")
        self._owner.add_done_callback(lambda _: self._stopped.set())

    def _restore(self, storage: Storage) -> None:
        """The state machine from the newest snapshot, unless it holds as much itself."""
        snapshot = storage.recovered.snapshot
        if snapshot is not None and initial_applied_index(storage, self.state_machine) == snapshot.index:
            with storage.open_snapshot(snapshot) as body:
                self.state_machine.restore(body)

    async def stop(self) -> None:
        """Hand leadership over, finish what is under way, close everything. May be called twice."""
        if self._stopping:
            await self._stopped.wait()
            return
        self._stopping = True
        if self._loop is not None and self.failure is None:
            await self._hand_over()
        await self._tear_down()
        self._stopped.set()

    async def _hand_over(self) -> None:
        """A leader that goes names its successor first, so that nobody waits for an election timeout."""
        if not self.is_leader or len(self.status().membership.all_voters) < 2:
            return
        patience = self.cluster.election_timeout_ticks_min * self.cluster.tick_ms / 1000
        try:
            await self.transfer_leadership(None, timeout=patience)
        except ReplogError:
            return  # nobody could take it: the others elect one when this node is gone

    async def _tear_down(self) -> None:
        if self._client is not None:
            await self._client.close()
        if self._loop is not None:
            self._loop.stop()
        if self._owner is not None:
            await self._owner
        if self._services is not None:
            await self._services.stop()
        if self._loop is not None:
            await self._loop.settle()
        if self._persister is not None:
            self._persister.stop()
        if self._storage is not None:
            await asyncio.to_thread(self._storage.close)
            self.state_machine.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    async def wait_stopped(self) -> None:
        """Until the node has stopped or failed; then `failure` says which."""
        await self._stopped.wait()

    # -- writing ---------------------------------------------------------------------------------------------------------

    async def propose(self, command: bytes, *, timeout: float | None = None) -> bytes:
        """Replicate `command`; returns what `apply` returned, after a majority holds it on its synced disks and it was applied.

        On a follower the command goes to the leader. `timeout` in seconds, None: as long as it takes. Raises `CommandFailed`, `ProposalTooLarge`, `Busy`,
        `Unavailable` (nothing was appended), `OutcomeUnknown` (it may be committed or not), `NodeStopped`.
        """
        if timeout is not None:
            return await self._within(timeout, self.propose(command))
        loop = self._running()
        loop.replica.check_size(command)
        if loop.replica.core.is_leader and not loop.stalls:
            inbox = loop.inbox
            if inbox.is_full:
                await inbox.room()
                self._running()
            future: asyncio.Future[bytes] = loop.create_future()
            inputs = inbox.inputs
            inputs.payloads.append(command)
            inputs.tickets.append(future)
            inbox.wake()
            try:
                return await future
            except NotLeader:
                pass  # leadership moved before it was appended
        forwarder = self._forwarder()
        if forwarder is None:
            await self._until_leader_known()
            return await self.propose(command)
        return await forwarder.propose(command)

    async def propose_many(self, commands: Sequence[bytes], *, timeout: float | None = None) -> list[Result]:
        """Replicate `commands` in one batch with one future; their results in order, a `CommandError` where `apply` raised.

        They stand in the log one behind the other, unless another leader takes over in between. Errors as in `propose`.
        """
        if timeout is not None:
            return await self._within(timeout, self.propose_many(commands))
        if not commands:
            return []
        inbox = self._running().inbox
        if inbox.is_full:
            await inbox.room()
        try:
            return await self.propose_local(commands)
        except NotLeader:
            forwarder = self._forwarder()
        if forwarder is None:
            await self._until_leader_known()
            return await self.propose_many(commands)
        return await forwarder.propose_many(commands)

    def propose_local(self, commands: Sequence[bytes]) -> asyncio.Future[list[Result]]:
        """As `propose_many`, but on this node or not at all, and without waiting for room: the future raises `NotLeader` where it is not the leader,
        `Busy` where the inbox is full."""
        future: asyncio.Future[list[Result]] = asyncio.get_running_loop().create_future()
        try:
            loop = self._running()
            if commands:
                loop.replica.check_size(max(commands, key=len))
            if not loop.replica.core.is_leader or loop.stalls:
                raise loop.not_leader()
            loop.inbox.check_room()
        except ReplogError as error:
            future.set_exception(error)
            return future
        if commands:
            loop.inbox.add_group(commands, future)
        else:
            future.set_result([])
        return future

    # -- reading ---------------------------------------------------------------------------------------------------------

    async def read_barrier(self, *, timeout: float | None = None) -> Index:
        """After it, a read of the local state machine is linearizable: it sees every write acknowledged before the call (thesis 6.4).

        Works on every node. Returns the index the state has at least. Raises `Unavailable` when no leader confirms it.
        """
        if timeout is not None:
            return await self._within(timeout, self.read_barrier(), reads=True)
        if self._running().replica.core.leader is None:
            await self._until_leader_known()
        return await self._ask(int, None, lambda inputs, ticket: inputs.reads.append(ticket))

    async def lease_read(self, *, timeout: float | None = None) -> Index:
        """As `read_barrier`, on the leader's lease and without a round: holds as long as no clock runs more than `lease_drift_percent` faster."""
        return await self._ask(int, timeout, lambda inputs, ticket: inputs.lease_reads.append(ticket))

    def staleness_seconds(self) -> float:
        """The local state is at most this old: time since a leader's word was known and applied to its commit index; infinite before that."""
        loop = self._running()
        refusal = loop.replica.refusal()
        if refusal is not None:
            raise refusal
        return loop.staleness_seconds()

    async def query(
        self, request: bytes, consistency: Consistency = "linearizable", max_age: float | None = None, timeout: float | None = None
    ) -> bytes:
        """Ask the local state machine, with the consistency named. `max_age` (seconds) bounds a stale read: `Unavailable` when the state is older."""
        # Options by position, although better named: Python looks up each default of a keyword-only one in a dict, and a read takes little longer than that.
        if consistency == "linearizable":
            if timeout is not None:
                return await self._within(timeout, self.query(request), reads=True)
            queries = self._queries
            joined = queries.join(request) if queries is not None else None
            return await (joined if joined is not None else self._first_query(request))
        if consistency == "lease":
            await self.lease_read(timeout=timeout)
        whole = self.until_restored()
        await (whole if timeout is None else self._within(timeout, whole, reads=True))
        age = self.staleness_seconds()
        if consistency == "stale" and max_age is not None and age > max_age:
            raise Unavailable(f"the state here is {age:.3f} s old, the read allows {max_age:.3f} s; ask another node or allow more")
        return self.state_machine.query(request)

    # -- operating -------------------------------------------------------------------------------------------------------

    async def transfer_leadership(self, target: NodeId | None = None, *, timeout: float | None = None) -> None:
        """Hand leadership to `target` (None: the best follower); returns when another node leads (thesis 3.10).

        Raises `NotLeader`, `UnknownNode`, `MembershipRefused` (a learner), or `Unavailable` when it did not come about in time.
        """
        loop = self._running()
        core = loop.replica.core
        if core.is_leader and target == self.config.node_id:
            return
        await self._ask(
            NoneType, timeout, lambda inputs, ticket: inputs.requests.append((lambda: core.transfer_leadership(target), ticket))
        )
        patience = timeout if timeout is not None else 2 * self.cluster.election_timeout_ticks_max * self.cluster.tick_ms / 1000
        try:
            left = await asyncio.wait_for(self._observations.leadership_left(core, self.config.node_id), patience)
        except TimeoutError:
            raise Unavailable(f"leadership was not taken over within {patience:.3f} s; it stays with this node, try again") from None
        if not left:
            raise Unavailable(
                f"leadership stays with {self.config.node_id}: {target or 'nobody'} did not take it over within an election timeout"
            )

    async def change_membership(self, changes: Sequence[MembershipChange], *, force: bool = False, timeout: float | None = None) -> EntryId:
        """Change the membership; returns when the change is committed and applied here (joint consensus where it takes it, paper section 6).

        While another change is not committed yet, or leadership moves, it waits: for `timeout` seconds, by default two election timeouts. `force`
        skips the refusal of changes that leave less than a majority of healthy voters. Raises `NotLeader`, `MembershipRefused`, `Busy`, `OutcomeUnknown`.
        """
        clock = asyncio.get_running_loop().time
        patience = 2 * self.cluster.election_timeout_ticks_max * self.cluster.tick_ms / 1000
        deadline = clock() + (timeout if timeout is not None else patience)
        pause = self.cluster.tick_ms / 1000
        core = self._running().replica.core
        while True:
            asked = self._ask(
                EntryId, None, lambda inputs, ticket: inputs.changes.append((lambda: core.change_membership(changes, force=force), ticket))
            )
            try:
                return await (asked if timeout is None else self._within(max(pause, deadline - clock()), asked))
            except (MembershipChangePending, Busy):
                if clock() + pause >= deadline:
                    raise
            await asyncio.sleep(pause)

    async def replace_member(
        self, outgoing: NodeId, incoming: NodeId, address: str = "", *, force: bool = False, timeout: float | None = None
    ) -> Index:
        """Put `incoming`, a node that runs at `address` and joins, in the place of `outgoing`; returns the index of the membership that it led to.

        May be called again when it was interrupted, anywhere. When `outgoing` leads it hands over, and `NotLeader` says where to call. See
        `replog.node.membership_plans` for the steps and errors.
        """
        done = await MembershipPlan(self, timeout).replace(outgoing, incoming, address, force=force)
        return done.index

    async def readmit_member(self, node_id: NodeId, address: str = "", *, force: bool = False, timeout: float | None = None) -> Index:
        """Take a member back whose data directory was wiped or restored: as a learner, promoted as any other. May be called again."""
        done = await MembershipPlan(self, timeout).readmit(node_id, address, force=force)
        return done.index

    async def take_snapshot(self, *, timeout: float | None = None) -> SnapshotMeta | None:
        """Write a snapshot now; returns its meta when it is durable (the newest one where there is nothing new)."""
        taken: list[SnapshotMeta | None] = await self._ask(list, timeout, lambda inputs, ticket: inputs.snapshot_requests.append(ticket))
        return taken[0]

    @property
    def is_leader(self) -> bool:
        return self._loop is not None and self._loop.replica.core.is_leader

    def leader_hint(self) -> tuple[NodeId | None, str | None]:
        """The leader known here and its address."""
        hint = self._started().not_leader()
        return hint.leader, hint.address

    def status(self) -> NodeStatus:
        """What the node knows now; also after it has stopped or failed."""
        return describe(self._started(), self._peer_errors())

    def not_ready_reason(self) -> str:
        """Why the node should get no requests now; empty when it should."""
        return not_ready_reason(self._loop, self._peer_errors()) if self._loop is not None and not self._stopping else "not running"

    def _peer_errors(self) -> Mapping[NodeId, str]:
        return self._services.peer_errors() if self._services is not None else {}

    @property
    def turns(self) -> int:
        """Turns of the owner since the start."""
        return self._loop.turns if self._loop is not None else 0

    @property
    def persists(self) -> int:
        """Batches made durable since the start."""
        return self._persister.persists if self._persister is not None else 0

    @property
    def inline_persists(self) -> int:
        """... of them on the loop, without a thread."""
        return self._persister.inline_persists if self._persister is not None else 0

    @property
    def observations(self) -> Observations:
        """Counts of what happened since the start."""
        return self._observations

    @property
    def bound_address(self) -> str:
        """``host:port`` the gRPC server listens on."""
        assert self._services is not None
        return self._services.bound_address

    @property
    def bound_http_address(self) -> str | None:
        return self._services.bound_http_address if self._services is not None else None


__all__ = ["Consistency", "Node"]
