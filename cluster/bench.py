"""Three durable nodes under a closed loop, driven from inside the leader's process or by one client process over gRPC.

Each line that `--json` prints has the keys of the comparison with other systems: system, durable, in_flight, payload_bytes, ops_per_second, p50_ms, p99_ms.

The nodes are the ones that `up` starts, with one thing more (`bench-node`): a line on standard input makes the leader run the loop in its own process.
Which node leads is not arranged, the one that does gets the line.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from typing import Any

from cluster import commands
from cluster.config import APPS
from cluster.launch import LocalCluster
from cluster.load import LoadResult, Operation, closed_loop
from cluster.node import quieten_garbage_collection
from cluster.processes import cpu_seconds
from replog.client.client import ReplogClient
from replog.config import check_choice, check_range
from replog.errors import OperatorError
from replog.node.node import Node
from replog.types import NodeId

VIAS = ("embedded", "client")
OPERATIONS = ("write", "read")
KEYS = 10_000
"""Different keys of the key-value load: enough that no dict fits the cache, few enough that the state stays small."""
_SETTLE_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """One run; with `batch` above 1 an operation is a `propose_many` of so many commands, and `in_flight` counts batches."""

    in_flight: int = 1024
    payload_bytes: int = 100
    seconds: float = 5.0
    via: str = "embedded"
    app: str = "kv"
    batch: int = 1
    operation: str = "write"

    def __post_init__(self) -> None:
        check_range("in_flight", self.in_flight, 1, 1_000_000)
        check_range("payload", self.payload_bytes, 0, 64 * 1024 * 1024)
        check_range("seconds", self.seconds, 0.1, 86_400)
        check_range("batch", self.batch, 1, 100_000)
        check_choice("via", self.via, VIAS)
        check_choice("app", self.app, APPS)
        check_choice("op", self.operation, OPERATIONS)


# --- In the node's process, and in the client's -----------------------------------------------------------------------


def load_commands(options: BenchOptions) -> list[bytes]:
    """The commands of the load, made once: making them is not what is measured."""
    value = b"v" * options.payload_bytes
    if options.app == "counter":
        return [value]
    return [commands.encode_put(b"key%05d" % number, value) for number in range(KEYS)]


def load_of(options: BenchOptions, target: Node | ReplogClient) -> tuple[Operation, Iterator[Any]]:
    """What the workers call on `target`, and with what: writes, batches of writes, or linearizable reads of keys that the writes put."""
    if options.operation == "read":
        keys = [commands.encode_get(b"key%05d" % number) for number in range(KEYS)] if options.app == "kv" else [b""]
        return target.query, cycle(keys)
    made = load_commands(options)
    if options.batch > 1:
        rows = [[made[(start + step) % len(made)] for step in range(options.batch)] for start in range(0, len(made), options.batch)]
        return target.propose_many, cycle(rows)
    return target.propose, cycle(made)


async def run_in_node(node: Node, line: str) -> None:
    """What `bench-node` does with a line on its standard input: run that load here and print one JSON line with what it saw."""
    options = BenchOptions(**json.loads(line))
    if not node.is_leader:
        answer: dict[str, Any] = {"error": f"{node.config.node_id} is not the leader"}
    else:
        if options.operation == "read":
            await node.propose_many(load_commands(options))  # something to read
        operation, arguments = load_of(options, node)
        started, persists = time.process_time(), node.persists
        result = await closed_loop(operation, arguments, in_flight=options.in_flight, seconds=options.seconds)
        answer = row(options, result, seconds_used=time.process_time() - started)
        answer["entries_per_write"] = round(answer["operations_all"] / max(1, node.persists - persists), 1)
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def row(options: BenchOptions, result: LoadResult, *, seconds_used: float) -> dict[str, Any]:
    """One line of the report. `cpu_us_per_op` is that of the process that drives the load, over the warm-up too."""
    operations = result.operations * options.batch
    operations_all = operations + result.operations_before * options.batch
    return {
        "system": f"replog ({options.via}, {options.app}{', reads' if options.operation == 'read' else ''})",
        "durable": True,
        "in_flight": options.in_flight,
        "payload_bytes": options.payload_bytes,
        "ops_per_second": round(operations / result.seconds, 1),
        "p50_ms": round(result.p50_ms, 3),
        "p99_ms": round(result.p99_ms, 3),
        "max_ms": round(result.max_ms, 3),
        "batch": options.batch,
        "operations": operations,
        "seconds": round(result.seconds, 3),
        "operations_all": operations_all,
        "cpu_us_per_op": round(seconds_used / operations_all * 1e6, 2),
        "rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


# --- The coordinator --------------------------------------------------------------------------------------------------


async def run_bench(
    directory: str,
    runs: Sequence[BenchOptions],
    *,
    nodes: int = 3,
    cluster: dict[str, object] | None = None,
    node: dict[str, object] | None = None,
) -> AsyncIterator[dict[str, Any]]:
    """Start `nodes` nodes under `directory`, and give one row for each of `runs`, which share app and cluster. Stops the nodes at the end."""
    app = runs[0].app
    assert all(run.app == app for run in runs), "one cluster runs one state machine"
    local = LocalCluster.create(
        directory, nodes, cluster_id="bench", cluster=cluster, node=node, process={"app": app, "log_level": "warning"}
    )
    local.subcommand = "bench-node"
    with local:
        local.start_all()
        await local.wait_serving()
        for run in runs:
            leader = await local.wait_leader()
            await asyncio.sleep(_SETTLE_SECONDS)
            before = {name: cpu_seconds(local.process(name).pid) for name in local.nodes}
            found = await (embedded(local, leader, run) if run.via == "embedded" else _via_client(local, run))
            used = {name: cpu_seconds(local.process(name).pid) - before[name] for name in local.nodes}
            followers = [seconds for name, seconds in used.items() if name != leader]
            yield found | {
                "leader_cpu_us_per_op": round(used[leader] / found["operations_all"] * 1e6, 2),
                "follower_cpu_us_per_op": round(sum(followers) / max(1, len(followers)) / found["operations_all"] * 1e6, 2),
            }
        await asyncio.to_thread(local.stop_all)
        await local.disconnect()


async def embedded(local: LocalCluster, leader: NodeId, options: BenchOptions) -> dict[str, Any]:
    """Have `leader`, a `bench-node`, run the load; its row."""
    process = local.process(leader)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(asdict(options)).encode() + b"\n")
    process.stdin.flush()
    try:
        line = await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), options.seconds + 60)
    except TimeoutError:
        local.kill(leader)
        raise OperatorError(f"{leader} gave no result: {local.last_log_line(leader)}") from None
    answer: dict[str, Any] = json.loads(line) if line else {"error": f"{leader} ended: {local.last_log_line(leader)}"}
    if "error" in answer:
        raise OperatorError(answer["error"])
    return answer


async def _via_client(local: LocalCluster, options: BenchOptions) -> dict[str, Any]:
    async with local.client() as client:
        await client.propose_many(load_commands(options))  # finds the leader, and gives reads something to read
        operation, arguments = load_of(options, client)
        quieten_garbage_collection()
        started = time.process_time()
        result = await closed_loop(operation, arguments, in_flight=options.in_flight, seconds=options.seconds)
        return row(options, result, seconds_used=time.process_time() - started)
