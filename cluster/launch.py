"""Local nodes as processes under one directory: made, started, killed, paused, restarted, found again.

::

    data/
      cluster.json      who the nodes are; what `put`, `get` and `status` look for
      n1/node.toml      configuration of node n1
      n1/node.json      written by the node when it serves: process id and addresses
      n1/node.log       its standard error
      n1/data/          its data directory

A node is started with a fresh interpreter, never by forking this one (gRPC has threads). Its standard input is a pipe: when the launcher goes, however it goes,
the pipe ends and the node stops cleanly.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from cluster.config import load, render
from cluster.watch import Watch
from replog.client.client import ReplogClient
from replog.errors import ConfigError, OperatorError, UnknownNode
from replog.types import NodeId

CLUSTER_FILE: Final = "cluster.json"
START_SECONDS_MAX: Final = 60.0
STOP_SECONDS_MAX: Final = 15.0
_POLL_SECONDS = 0.02
_PORTS: Final = (20_000, 32_000)
"""Below the ports that Linux gives to outgoing connections, so that a port found free is not taken by one of them a moment later."""


class NodeNotStarted(OperatorError):
    """A node's process ended or was silent before it served. Its last line is in the message; look at its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalNode:
    """One node of a local cluster."""

    node_id: NodeId
    address: str
    http_address: str
    directory: str

    @property
    def config_path(self) -> str:
        return f"{self.directory}/node.toml"

    @property
    def ready_path(self) -> str:
        return f"{self.directory}/node.json"

    @property
    def log_path(self) -> str:
        return f"{self.directory}/node.log"

    @property
    def data_dir(self) -> str:
        return f"{self.directory}/data"


class LocalCluster:
    """The nodes of one directory and those of their processes that this object started. As a context manager it stops them at the end."""

    def __init__(self, directory: str, cluster_id: str, nodes: Iterable[LocalNode]) -> None:
        self.directory = directory
        self.cluster_id = cluster_id
        self.nodes: dict[NodeId, LocalNode] = {node.node_id: node for node in nodes}
        self.environment: dict[str, str] = {}
        """Added to the environment of every node that is started."""
        self.subcommand = "node"
        self.command_prefixes: dict[NodeId, tuple[str, ...]] = {}
        """What stands before a node's command, such as ``ip netns exec NAME``; it has to end by executing the command in its own process."""
        self._processes: dict[NodeId, subprocess.Popen[bytes]] = {}
        self._watch = Watch()

    # -- making and finding ------------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        directory: str,
        count: int = 3,
        *,
        cluster_id: str = "local",
        cluster: Mapping[str, object] | None = None,
        node: Mapping[str, object] | None = None,
        process: Mapping[str, object] | None = None,
        port: int = 0,
    ) -> LocalCluster:
        """Write the configuration of `count` nodes n1, n2, ...; nothing is started. The mappings are fields over the defaults of their sections.

        `port`: gRPC on this and the following ports, HTTP on those 1,000 higher; 0: any free ones. Raises `ConfigError`.
        """
        if count < 1:
            raise ConfigError("nodes", count, "at least 1")
        ports = list(range(port, port + count)) + list(range(port + 1000, port + 1000 + count)) if port else free_ports(2 * count)
        root = Path(directory).resolve()
        nodes = [
            LocalNode(
                node_id=f"n{number + 1}",
                address=f"127.0.0.1:{ports[number]}",
                http_address=f"127.0.0.1:{ports[count + number]}",
                directory=str(root / f"n{number + 1}"),
            )
            for number in range(count)
        ]
        made = cls(str(root), cluster_id, nodes)
        members = {local.node_id: local.address for local in nodes}
        for local in nodes:
            Path(local.directory).mkdir(parents=True, exist_ok=True)
            made.configure(local, {"initial_members": members, **(cluster or {})}, node or {}, process or {})
        content = {"cluster_id": cluster_id, "nodes": [asdict(local) for local in nodes]}
        _write_atomically(root / CLUSTER_FILE, json.dumps(content, indent=2) + "\n")
        return made

    def configure(self, local: LocalNode, cluster: Mapping[str, object], node: Mapping[str, object], process: Mapping[str, object]) -> None:
        """Write the configuration file of one node. Raises `ConfigError` when it is not valid."""
        sections = {
            "cluster": {"cluster_id": self.cluster_id, **cluster},
            "node": {
                "node_id": local.node_id,
                "data_dir": local.data_dir,
                "bind_address": local.address,
                "http_address": local.http_address,
                **node,
            },
            "process": {"ready_file": local.ready_path, "stop_with_stdin": True, **process},
        }
        _write_atomically(Path(local.config_path), render(sections))
        load(local.config_path, {})

    @classmethod
    def open(cls, directory: str) -> LocalCluster:
        """The cluster that `create` made in `directory`. Raises `ConfigError` when there is none."""
        path = Path(directory) / CLUSTER_FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return cls(str(path.parent.resolve()), content["cluster_id"], [LocalNode(**node) for node in content["nodes"]])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError("directory", directory, f"one with a {CLUSTER_FILE} that `python -m cluster up` wrote ({error})") from None

    # -- processes ----------------------------------------------------------------------------------------------------

    def start(self, node_id: NodeId) -> None:
        """Start the process of `node_id`; returns at once (`wait_serving` waits)."""
        local = self.node(node_id)
        assert not self.is_running(node_id), f"{node_id} runs already"
        Path(local.ready_path).unlink(missing_ok=True)
        with open(local.log_path, "ab") as log:
            self._processes[node_id] = subprocess.Popen(
                [*self.command_prefixes.get(node_id, ()), sys.executable, "-m", "cluster", self.subcommand, "--config", local.config_path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if self.subcommand != "node" else subprocess.DEVNULL,
                stderr=log,
                env=self._child_environment(),
                process_group=0,  # ctrl-C in the terminal is for the launcher, which stops its nodes in order
            )

    def start_all(self) -> None:
        for node_id in self.nodes:
            if not self.is_running(node_id):
                self.start(node_id)

    def node(self, node_id: NodeId) -> LocalNode:
        """Raises `UnknownNode`."""
        if node_id not in self.nodes:
            raise UnknownNode(node_id, tuple(self.nodes))
        return self.nodes[node_id]

    def process(self, node_id: NodeId) -> subprocess.Popen[bytes]:
        """The process that was started last for `node_id`."""
        return self._processes[self.node(node_id).node_id]

    def is_running(self, node_id: NodeId) -> bool:
        process = self._processes.get(node_id)
        return process is not None and process.poll() is None

    def is_serving(self, node_id: NodeId) -> bool:
        """Whether the process that was started last has come so far that it serves."""
        return os.path.exists(self.node(node_id).ready_path)

    def kill(self, *node_ids: NodeId) -> None:
        """SIGKILL to each, one right behind the other; returns when they are gone."""
        for node_id in node_ids:
            self.process(node_id).kill()
        for node_id in node_ids:
            self._reap(node_id)

    def pause(self, node_id: NodeId) -> None:
        """SIGSTOP: the process keeps its connections and answers nothing."""
        self.process(node_id).send_signal(signal.SIGSTOP)

    def resume(self, node_id: NodeId) -> None:
        self.process(node_id).send_signal(signal.SIGCONT)

    def stop(self, *node_ids: NodeId) -> dict[NodeId, int]:
        """SIGTERM to each, then wait; SIGKILL for who has not ended within `STOP_SECONDS_MAX`. Returns the exit codes."""
        for node_id in node_ids:
            self.process(node_id).terminate()
        deadline = time.monotonic() + STOP_SECONDS_MAX
        codes: dict[NodeId, int] = {}
        for node_id in node_ids:
            process = self.process(node_id)
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
            codes[node_id] = self._reap(node_id)
        return codes

    def stop_all(self) -> dict[NodeId, int]:
        return self.stop(*(node_id for node_id in self.nodes if self.is_running(node_id)))

    def close(self) -> None:
        """Kill what still runs."""
        self.kill(*(node_id for node_id in self.nodes if self.is_running(node_id)))
        for node_id in self._processes:
            self._reap(node_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _reap(self, node_id: NodeId) -> int:
        process = self._processes[node_id]
        code = process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        return code

    def _child_environment(self) -> dict[str, str]:
        """This process's environment, with the checkout on the module path and without this shell's own REPLOG_ settings of a node."""
        checkout = str(Path(__file__).resolve().parents[1])
        kept = {name: value for name, value in os.environ.items() if not name.startswith("REPLOG_") or name == "REPLOG_TEST_FAULT"}
        path = os.pathsep.join(filter(None, (checkout, kept.get("PYTHONPATH", ""))))
        return {**kept, "PYTHONPATH": path, **self.environment}

    # -- waiting and asking -------------------------------------------------------------------------------------------

    @property
    def addresses(self) -> list[str]:
        return [local.address for local in self.nodes.values()]

    def client(self) -> ReplogClient:
        """A client of the cluster, which finds the leader."""
        return ReplogClient(self.addresses, cluster_id=self.cluster_id)

    def client_of(self, node_id: NodeId) -> ReplogClient:
        """A client of this one node: what it asks (with stale reads) is answered from that node's own state."""
        return ReplogClient([self.node(node_id).address], cluster_id=self.cluster_id, follow_leader=False)

    async def wait_serving(self, *node_ids: NodeId) -> None:
        """Until the processes of these nodes (none named: of all) serve. Raises `NodeNotStarted` as soon as one of them ends."""
        deadline = time.monotonic() + START_SECONDS_MAX
        waiting = list(node_ids or self.nodes)
        while waiting:
            node_id = waiting[0]
            if self.is_serving(node_id):
                waiting.pop(0)
                continue
            code = self.process(node_id).poll()
            if code is not None:
                raise NodeNotStarted(
                    f"{node_id} ended with exit code {code}: {self.last_log_line(node_id)} ({self.nodes[node_id].log_path})"
                )
            if time.monotonic() > deadline:
                raise NodeNotStarted(f"{node_id} does not serve after {START_SECONDS_MAX:.0f} s ({self.nodes[node_id].log_path})")
            await asyncio.sleep(_POLL_SECONDS)

    async def wait_leader(
        self, seconds: float = 30.0, *, among: Iterable[NodeId] | None = None, other_than: NodeId | None = None
    ) -> NodeId:
        """The node that leads, by its own word and highest term, once there is one. Raises `OperatorError` after `seconds`."""
        deadline = time.monotonic() + seconds
        while True:
            statuses = await self.statuses(among)
            leaders = [(status["term"], node_id) for node_id, status in statuses.items() if status and status["role"] == "leader"]
            if leaders and max(leaders)[1] != other_than:
                return max(leaders)[1]
            if time.monotonic() > deadline:
                raise OperatorError(f"no leader within {seconds:.0f} s; logs are under {self.directory}")
            await asyncio.sleep(_POLL_SECONDS)

    async def statuses(self, among: Iterable[NodeId] | None = None) -> dict[NodeId, dict[str, Any] | None]:
        """The status of each node (its fields as in `replog.node.status.NodeStatus`); None for one that does not answer within a second."""
        chosen = list(among if among is not None else self.nodes)
        answers = await self._watch.statuses(self.nodes[node_id].address for node_id in chosen)
        return dict(zip(chosen, answers, strict=True))

    async def disconnect(self) -> None:
        """Close the connections over which `statuses` asks; to be called before the loop ends."""
        await self._watch.close()

    def last_log_line(self, node_id: NodeId) -> str:
        try:
            lines = Path(self.node(node_id).log_path).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return "(no log)"
        return next((line for line in reversed(lines) if line.strip()), "(empty log)")


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on now."""
    chance = random.Random()
    found: list[int] = []
    while len(found) < count:
        port = chance.randrange(*_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


def _write_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


__all__ = ["LocalCluster", "LocalNode", "NodeNotStarted", "free_ports"]
