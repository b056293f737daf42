"""The nodes of a chaos run: processes that may die when they are told to, and only then.

A process that ends although nobody killed it is a finding, unless its disk was broken on purpose in that life. It is started again, so that the run goes on and
finds more. Everything is keyed by the life (the `Popen`), so a late thaw or a late restart never touches the next life of the same node.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cluster import chaos_disk
from cluster.chaos_network import Network
from cluster.launch import LocalCluster, LocalNode, NodeNotStarted, free_ports
from replog.client.admin import AdminClient
from replog.errors import ReplogError
from replog.types import NodeId

PORT: Final = 7000
_LOOK_SECONDS: Final = 0.1
_ASK_SECONDS: Final = 0.2
_ANSWER_SECONDS_MAX: Final = 1.0
_NODE_LIMITS: Final[Mapping[str, object]] = {
    "segment_bytes_max": 16 * 1024,
    "snapshot_entries": 1_000,
    "log_tail_entries": 300,
    "promote_lag_entries": 200,
}
"""A rollover each second (which is where a full disk is met), a snapshot every few, and nodes that were away need one."""
_CLUSTER_LIMITS: Final[Mapping[str, object]] = {
    "tick_ms": 20,
    "heartbeat_ticks": 5,
    "election_timeout_ticks_min": 40,
    "election_timeout_ticks_max": 80,
    "state_digest_entries": 256,
}
"""Elections within 0.8 to 1.6 s: many of them in a run, none for a busy machine. States compared every second or so."""


@dataclass(slots=True)
class Sighting:
    """What a node said last."""

    at: float
    """`time.monotonic`."""
    status: dict[str, Any]


class ChaosNodes:
    """The members of the cluster under test, on the loopback or each in a namespace of `network`."""

    def __init__(self, directory: str, count: int, network: Network | None, say: Callable[[str], None]) -> None:
        self.network = network
        self.say = say
        self.failures: list[str] = []
        self.crashes = 0
        """Processes that ended by themselves without an excuse."""
        self.disk_ends: Counter[str] = Counter()
        """Ends that a broken disk explains, by the kind of fault."""
        self.leaders: dict[int, NodeId] = {}
        """Leader by term, as the nodes told."""
        self.term_max = 0
        self.spares = 0
        """Nodes that were added to those of the beginning."""
        self.starts = 0
        """Processes that were started."""
        self.wipes = 0
        """Data directories that were taken away."""
        self._directory = str(Path(directory).resolve())
        self.count = count
        self._sightings: dict[NodeId, Sighting] = {}
        self._killed: set[subprocess.Popen[bytes]] = set()
        self._excused: dict[subprocess.Popen[bytes], str] = {}
        """Lives that have met a broken disk, and how it was broken."""
        self._reported: set[subprocess.Popen[bytes]] = set()
        self._broken: dict[NodeId, str] = {}
        """Nodes whose disk is broken now, so that starting them is pointless, and how."""
        self._watchers: dict[NodeId, asyncio.Task[None]] = {}
        locals_ = [self._local(f"n{number + 1}") for number in range(count)]
        self.cluster = LocalCluster(self._directory, "chaos", locals_)
        self.cluster.environment["REPLOG_TEST_DISK"] = "switched"
        members = {local.node_id: local.address for local in locals_}
        for local in locals_:
            self._configure(local, members)

    def _local(self, node_id: NodeId) -> LocalNode:
        if self.network is not None:
            host = self.network.add(node_id)
            address, http_address = f"{host}:{PORT}", f"{host}:{PORT + 1}"
        else:
            ports = free_ports(2)
            address, http_address = (f"127.0.0.1:{port}" for port in ports)
        directory = f"{self._directory}/{node_id}"
        Path(directory).mkdir(parents=True, exist_ok=True)
        return LocalNode(node_id=node_id, address=address, http_address=http_address, directory=directory)

    def _configure(self, local: LocalNode, members: Mapping[NodeId, str]) -> None:
        self.cluster.configure(local, {**_CLUSTER_LIMITS, "initial_members": members}, _NODE_LIMITS, {"log_level": "info"})
        if self.network is not None:
            self.cluster.command_prefixes[local.node_id] = self.network.command_prefix(local.node_id)

    # -- life ----------------------------------------------------------------------------------------------------------

    @property
    def ids(self) -> list[NodeId]:
        return list(self.cluster.nodes)

    @property
    def addresses(self) -> list[str]:
        return self.cluster.addresses

    async def start_all(self) -> None:
        """Start every node and its watcher; returns when one leads. Raises `NodeNotStarted`, `OperatorError`."""
        for node_id in self.ids:
            self.start(node_id)
        await self.cluster.wait_serving()
        await self.wait_leader(30)

    def start(self, node_id: NodeId) -> None:
        """Start the node unless it runs."""
        if node_id in self.cluster.nodes and not self.cluster.is_running(node_id):
            self.cluster.start(node_id)
            self.starts += 1
            if node_id not in self._watchers:
                self._watchers[node_id] = asyncio.create_task(self._watch(node_id))

    async def revive(self, node_id: NodeId) -> None:
        """Start the node unless it runs; returns when it serves. A node that cannot start is a finding."""
        if node_id not in self.cluster.nodes:
            return
        self.start(node_id)
        try:
            await self.cluster.wait_serving(node_id)
        except NodeNotStarted as error:
            process = self.cluster.process(node_id)
            if process not in self._killed and process not in self._reported and self._excuse_of(node_id, process) is None:
                self._reported.add(process)
                self.crashes += 1
                self.fail(str(error))

    def kill(self, *node_ids: NodeId) -> None:
        """SIGKILL to each that runs, one right behind the other."""
        running = [node_id for node_id in node_ids if node_id in self.cluster.nodes and self.cluster.is_running(node_id)]
        self._killed.update(self.cluster.process(node_id) for node_id in running)
        self.cluster.kill(*running)

    def wipe(self, node_id: NodeId) -> None:
        """Kill the node and take its data directory away (it is kept beside, for whoever looks into a failure)."""
        self.kill(node_id)
        self.wipes += 1
        data = Path(self.cluster.node(node_id).data_dir)
        if data.exists():
            data.rename(data.with_name(f"data.lost-{self.wipes}"))

    async def stop(self, node_id: NodeId) -> None:
        """SIGTERM; another exit code than 0 is a finding, unless the disk is broken."""
        if not self.cluster.is_running(node_id):
            return
        process, served = self.cluster.process(node_id), self.cluster.is_serving(node_id)
        self._killed.add(process)
        process.send_signal(signal.SIGCONT)
        codes = await asyncio.to_thread(self.cluster.stop, node_id)
        expected = (0,) if served else (0, -signal.SIGTERM)  # before it serves, the interpreter may not have come to its handlers
        if codes[node_id] not in expected and self._excuse_of(node_id, process) is None:
            self.fail(f"{node_id}, asked to stop, ended with exit code {codes[node_id]}: {self.cluster.last_log_line(node_id)}")

    @contextlib.contextmanager
    def frozen(self, node_id: NodeId) -> Iterator[None]:
        """SIGSTOP, and SIGCONT to the same life at the end."""
        process = self.cluster.process(node_id)
        self.cluster.pause(node_id)
        try:
            yield
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)

    @contextlib.contextmanager
    def broken_disk(self, node_id: NodeId, kind: str, switches: Mapping[str, object], *, may_end: bool) -> Iterator[None]:
        """Turn the disk's switches, and back at the end. `may_end`: the node may end of it, and nobody starts it before the end."""
        local = self.cluster.node(node_id)
        if may_end:
            self._broken[node_id] = kind
            self._excused[self.cluster.process(node_id)] = kind
        chaos_disk.turn(local.data_dir, switches)
        try:
            yield
        finally:
            chaos_disk.turn(local.data_dir, {})
            if may_end and node_id in self.cluster.nodes:
                self._excused[self.cluster.process(node_id)] = kind  # perhaps another life
            self._broken.pop(node_id, None)

    def add_spare(self) -> LocalNode:
        """One more node, with a name that was never used, configured to join; it is not started."""
        self.spares += 1
        local = self._local(f"n{self.count + self.spares}")
        self.cluster.nodes[local.node_id] = local
        self._configure(local, {})
        return local

    async def forget(self, node_id: NodeId) -> None:
        """Stop a node that is no member any more, and take it off the lists."""
        await self.stop(node_id)
        watcher = self._watchers.pop(node_id, None)
        if watcher is not None:
            watcher.cancel()
        self._sightings.pop(node_id, None)
        del self.cluster.nodes[node_id]
        if self.network is not None:
            self.network.remove(node_id)

    async def close(self) -> None:
        """Kill what still runs, and end the watching."""
        for watcher in self._watchers.values():
            watcher.cancel()
        await asyncio.gather(*self._watchers.values(), return_exceptions=True)
        self._watchers.clear()
        await self.cluster.disconnect()
        for local in self.cluster.nodes.values():
            chaos_disk.turn(local.data_dir, {})
        self.cluster.close()

    def fail(self, reason: str) -> None:
        self.failures.append(reason)
        self.say(f"FOUND: {reason}")

    # -- watching ------------------------------------------------------------------------------------------------------

    def leader(self) -> NodeId | None:
        """The node that led when it was asked last, within the last second and with the highest term."""
        since = time.monotonic() - 1.0
        leading = [
            (seen.status["term"], node_id)
            for node_id, seen in self._sightings.items()
            if seen.at > since and seen.status["role"] == "leader" and node_id in self.cluster.nodes
        ]
        return max(leading)[1] if leading else None

    def membership_of(self, node_id: NodeId) -> dict[str, Any]:
        """The membership as the node told it last; fields as in `replog.types.Membership`."""
        membership: dict[str, Any] = self._sightings[node_id].status["membership"]
        return membership

    async def wait_leader(self, seconds: float) -> NodeId:
        """Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while (leader := self.leader()) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no leader was seen for {seconds:.0f} s")
            await asyncio.sleep(0.02)
        return leader

    def is_watched_running(self, node_id: NodeId) -> bool:
        return node_id in self.cluster.nodes and self.cluster.is_running(node_id)

    async def _watch(self, node_id: NodeId) -> None:
        """Ask the node how it is, and look whether its process is there, until it is forgotten."""
        client: AdminClient | None = None
        asked = 0.0
        try:
            while True:
                await self._look_at(node_id)
                now = time.monotonic()
                if self.cluster.is_running(node_id) and now - asked >= _ASK_SECONDS:
                    asked = now
                    client = client or AdminClient(self.cluster.node(node_id).address, timeout=_ANSWER_SECONDS_MAX)
                    with contextlib.suppress(ReplogError):
                        self._saw(node_id, await client.status())
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            if client is not None:
                await client.close()

    def _saw(self, node_id: NodeId, status: dict[str, Any]) -> None:
        self._sightings[node_id] = Sighting(time.monotonic(), status)
        self.term_max = max(self.term_max, status["term"])
        if status["role"] == "leader":
            known = self.leaders.setdefault(status["term"], node_id)
            if known != node_id:
                self.fail(f"two leaders in term {status['term']}: {known} and {node_id}")

    async def _look_at(self, node_id: NodeId) -> None:
        """A process that has ended, and nobody killed it."""
        process = self.cluster.process(node_id)
        code = process.poll()
        if code is None or process in self._killed or process in self._reported:
            return
        self._reported.add(process)
        excuse = self._excuse_of(node_id, process)
        line = self.cluster.last_log_line(node_id)
        if excuse is not None:
            self.disk_ends[excuse] += 1
            self.say(f"{node_id} ended because of its disk ({excuse}): {line}")
        else:
            self.crashes += 1
            self.fail(f"{node_id} ended by itself with exit code {code}: {line}")
        if self.may_start(node_id):
            self.start(node_id)

    def may_start(self, node_id: NodeId) -> bool:
        """Whether its disk lets the node run."""
        return node_id not in self._broken

    def _excuse_of(self, node_id: NodeId, process: subprocess.Popen[bytes]) -> str | None:
        """How the disk of this life was broken. While it is, a new life meets it as well."""
        return self._excused.get(process) or self._broken.get(node_id)
