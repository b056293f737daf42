"""A tour that proves the promise with real processes: what was acknowledged is never lost.

Clients write all the while. The leader is killed, a new one takes over, the old one comes back and catches up; then all nodes are killed at once and started
again; then every acknowledged write is read back from every node, from its own state, with its revision. It holds only if every one of them is there.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from cluster.commands import Item
from cluster.launch import LocalCluster
from cluster.writers import Record, Verdict, Writers, judge, read_everything
from replog.errors import OperatorError
from replog.types import NodeId

WRITE_SECONDS = 3.0
AGAIN_SECONDS = 1.5
CATCH_UP_SECONDS_MAX = 30.0
_POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoReport:
    """What was done and seen; `ok` only if all of it held."""

    ok: bool = False
    failures: tuple[str, ...] = ()
    nodes: int = 3
    clients: int = 0
    acknowledged: int = 0
    lost: int | None = None
    """Acknowledged writes that some node does not hold as promised; None: the tour ended before they were read back."""
    unknown: int = 0
    """Writes whose outcome no client knows, because the connection or the leader was gone: allowed to be there or not."""
    refused: int = 0
    differing_nodes: tuple[NodeId, ...] = ()
    """Nodes whose state is not that of the first, at the same applied index."""
    read_back: dict[NodeId, int] = field(default_factory=dict)
    ops_per_second: float = 0.0
    old_leader: NodeId = ""
    new_leader: NodeId = ""
    failover_seconds: float = 0.0
    """From the SIGKILL of the leader to the next acknowledged write."""
    catch_up_seconds: float = 0.0
    """From the start of the killed node to the point where it had applied all that was committed."""
    restart_all_seconds: float = 0.0
    """From the start of all nodes after they were killed together to the next acknowledged write."""
    seconds: float = 0.0

    def to_json(self) -> str:
        return json.dumps(asdict(self))


class Demo:
    """One run of the tour over `cluster`, whose nodes are not started yet. `say` gets a line for each thing that happens."""

    def __init__(self, cluster: LocalCluster, say: Callable[[str], None], *, clients: int = 4) -> None:
        self._cluster = cluster
        self._say = say
        self._clients = clients
        self._failures: list[str] = []
        self._report = DemoReport(nodes=len(cluster.nodes), clients=clients)

    async def run(self) -> DemoReport:
        """Never raises for what the nodes do wrong: it is in the report's `failures`."""
        started = time.monotonic()
        writers = Writers(self._cluster.client, clients=self._clients)
        try:
            await self._tour(writers)
        except (OperatorError, TimeoutError) as error:
            self._fail(str(error))
        finally:
            await writers.stop()
        record = writers.record
        if not self._failures:
            await self._read_back(record)
        await self._cluster.disconnect()
        return replace(
            self._report,
            ok=not self._failures,
            failures=tuple(self._failures),
            acknowledged=len(record.acknowledged),
            unknown=len(record.unknown),
            refused=record.refused,
            seconds=round(time.monotonic() - started, 3),
        )

    def _fail(self, reason: str) -> None:
        self._failures.append(reason)
        self._say(f"FAILED: {reason}")

    def _note(self, **fields: Any) -> None:
        self._report = replace(self._report, **fields)

    # -- the stations ---------------------------------------------------------------------------------------------------

    async def _tour(self, writers: Writers) -> None:
        cluster = self._cluster
        cluster.start_all()
        await cluster.wait_serving()
        leader = await cluster.wait_leader()
        self._say(f"{len(cluster.nodes)} nodes run as processes; {leader} leads")

        writers.start()
        await writers.wait_acknowledged(100)
        before, began = len(writers.record.acknowledged), time.monotonic()
        await asyncio.sleep(WRITE_SECONDS)
        rate = (len(writers.record.acknowledged) - before) / (time.monotonic() - began)
        self._note(ops_per_second=round(rate, 1))
        self._say(f"{self._clients} clients write {rate:,.0f} acknowledged commands/s, each synced to disk on a majority")

        await self._kill_leader(leader, writers)
        await asyncio.sleep(AGAIN_SECONDS)
        await self._bring_back(leader)
        await asyncio.sleep(AGAIN_SECONDS)
        await self._kill_everyone(writers)
        await asyncio.sleep(AGAIN_SECONDS)

    async def _kill_leader(self, leader: NodeId, writers: Writers) -> None:
        self._say(f"killing the leader {leader} with SIGKILL, under load")
        killed = time.monotonic()
        self._cluster.kill(leader)
        survivors = [node_id for node_id in self._cluster.nodes if node_id != leader]
        resumed = await self._next_promise(writers, killed)
        successor = await self._cluster.wait_leader(among=survivors)
        self._note(old_leader=leader, new_leader=successor, failover_seconds=round(resumed - killed, 3))
        self._say(f"{successor} leads now; writes paused for {resumed - killed:.2f} s")

    async def _next_promise(self, writers: Writers, since: float) -> float:
        """The time of the first acknowledgement that can only be the new leader's: one that comes when what was under way to the old one has drained."""
        await asyncio.sleep(max(0.0, since + 0.05 - time.monotonic()))
        return await writers.wait_acknowledged()

    async def _bring_back(self, node_id: NodeId) -> None:
        began = time.monotonic()
        self._cluster.start(node_id)
        await self._cluster.wait_serving(node_id)
        await self._wait_applied([node_id], await self._committed())
        seconds = time.monotonic() - began
        self._note(catch_up_seconds=round(seconds, 3))
        self._say(f"{node_id} is back and has caught up after {seconds:.2f} s, while the writes went on")

    async def _kill_everyone(self, writers: Writers) -> None:
        cluster = self._cluster
        self._say(f"killing all {len(cluster.nodes)} nodes at once with SIGKILL, under load")
        cluster.kill(*cluster.nodes)
        began = time.monotonic()
        cluster.start_all()
        await cluster.wait_serving()
        resumed = await writers.wait_acknowledged()
        self._note(restart_all_seconds=round(resumed - began, 3))
        self._say(f"all nodes run again; writes went on after {resumed - began:.2f} s")

    # -- the reckoning -------------------------------------------------------------------------------------------------

    async def _read_back(self, record: Record) -> None:
        """Every acknowledged write, from every node's own state; and all the states equal."""
        cluster = self._cluster
        self._say(f"the clients stop; reading back {len(record.acknowledged):,} acknowledged writes from every node")
        try:
            await self._wait_applied(list(cluster.nodes), await self._committed())
        except (OperatorError, TimeoutError) as error:
            self._fail(str(error))
            return
        await self._ask_for_divergences()
        states: dict[NodeId, dict[bytes, Item]] = {}
        for node_id in cluster.nodes:
            states[node_id] = await read_everything(cluster.client_of(node_id))
        verdicts = {node_id: judge(record, held) for node_id, held in states.items()}
        for node_id, verdict in verdicts.items():
            self._judge_node(node_id, verdict)
        first = next(iter(states.values()))
        differing = tuple(node_id for node_id, held in states.items() if held != first)
        if differing:
            self._fail(f"the states of {', '.join(differing)} are not that of {next(iter(states))}")
        lost = max(verdict.lost + verdict.changed for verdict in verdicts.values())
        self._note(lost=lost, differing_nodes=differing, read_back={node_id: verdict.items for node_id, verdict in verdicts.items()})
        await asyncio.to_thread(cluster.stop_all)

    async def _ask_for_divergences(self) -> None:
        """A node whose state went wrong heals itself, maybe before it is read; that it went wrong at all is a failure."""
        statuses = await self._cluster.statuses(list(self._cluster.nodes))
        found = {node_id: status["divergences"] for node_id, status in statuses.items() if status is not None and status["divergences"]}
        if found:
            times = ", ".join(f"{node_id} {count} times" for node_id, count in found.items())
            self._fail(f"the nodes' states differed since they started: found by {times}")

    def _judge_node(self, node_id: NodeId, verdict: Verdict) -> None:
        if not verdict.holds:
            self._fail(f"{node_id}: {verdict.lost} lost, {verdict.changed} changed, {verdict.invented} invented ({verdict.example})")

    async def _committed(self) -> int:
        """The leader's commit index now, confirmed by a majority (a leader that does not know yet that it is deposed has none)."""
        async with self._cluster.client() as client:
            return await client.read_barrier(timeout=CATCH_UP_SECONDS_MAX)

    async def _wait_applied(self, node_ids: list[NodeId], index: int) -> None:
        deadline = time.monotonic() + CATCH_UP_SECONDS_MAX
        while True:
            statuses = await self._cluster.statuses(node_ids)
            behind = [node_id for node_id, status in statuses.items() if status is None or status["applied_index"] < index]
            if not behind:
                return
            for node_id in behind:
                if not self._cluster.is_running(node_id):
                    raise OperatorError(f"{node_id} ended by itself: {self._cluster.last_log_line(node_id)}")
            if time.monotonic() > deadline:
                raise OperatorError(f"{', '.join(behind)} did not reach index {index} within {CATCH_UP_SECONDS_MAX:.0f} s")
            await asyncio.sleep(_POLL_SECONDS)
