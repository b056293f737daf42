"""``up``: a cluster of local processes, and a table that shows what they do."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from cluster.launch import CLUSTER_FILE, LocalCluster
from cluster.table import status_table
from replog.errors import ConfigError
from replog.types import NodeId

REFRESH_SECONDS = 0.5


async def run_up(directory: str, count: int, port: int) -> int:
    """Start the cluster of `directory` (made where there is none) and show it until SIGINT or SIGTERM; returns the exit code.

    Raises `ConfigError` when the directory has another cluster than the one asked for, `NodeNotStarted` when a node does not come up.
    """
    if (Path(directory) / CLUSTER_FILE).exists():
        cluster = LocalCluster.open(directory)
        if len(cluster.nodes) != count:
            raise ConfigError("--nodes", count, f"{len(cluster.nodes)}, as in {directory}/{CLUSTER_FILE}; or another --dir")
    else:
        cluster = LocalCluster.create(directory, count, port=port)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    with cluster:
        cluster.start_all()
        await cluster.wait_serving()
        await cluster.wait_leader()
        _say_how_to_talk_to_it(cluster, directory)
        await _show(cluster, stop)
        print("stopping ...", flush=True)
        codes = await asyncio.to_thread(cluster.stop_all)
        await cluster.disconnect()
    unclean = {node_id: code for node_id, code in codes.items() if code}
    print("all nodes stopped" if not unclean else f"ended with {unclean}; logs are under {cluster.directory}", flush=True)
    return 1 if unclean else 0


def _say_how_to_talk_to_it(cluster: LocalCluster, directory: str) -> None:
    where = "" if directory == "data" else f" --dir {directory}"
    first = next(iter(cluster.nodes.values()))
    print(f"{len(cluster.nodes)} nodes run as processes, with their logs and data under {cluster.directory}")
    print(f"  {Path(sys.executable).name} -m cluster put greeting hello{where}")
    print(f"  {Path(sys.executable).name} -m cluster get greeting{where}")
    print(f"  curl http://{first.http_address}/metrics")
    print("ctrl-C stops them all.", flush=True)


async def _show(cluster: LocalCluster, stop: asyncio.Event) -> None:
    """The live table on a terminal; elsewhere one line for each change of a role."""
    rates = _Rates()
    console = Console()
    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            while not stop.is_set():
                statuses = await cluster.statuses()
                live.update(status_table(statuses, rates=rates.of(statuses), title="ctrl-C stops all"), refresh=True)
                await _pause(stop)
        return
    shown = ""
    while not stop.is_set():
        statuses = await cluster.statuses()
        line = ", ".join(
            f"{name}: " + (f"{found['role']} in term {found['term']}" if found else "no answer") for name, found in statuses.items()
        )
        if line != shown:
            shown = line
            print(line, flush=True)
        await _pause(stop)


async def _pause(stop: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), REFRESH_SECONDS)


class _Rates:
    """Applied entries per second, from one look to the next."""

    def __init__(self) -> None:
        self._last: dict[NodeId, tuple[float, int]] = {}

    def of(self, statuses: dict[NodeId, dict[str, Any] | None]) -> dict[NodeId, float]:
        now = time.monotonic()
        rates: dict[NodeId, float] = {}
        for node_id, found in statuses.items():
            if found is None:
                continue
            applied = found["applied_index"]
            then, before = self._last.get(node_id, (now - REFRESH_SECONDS, applied))
            rates[node_id] = max(0.0, (applied - before) / max(now - then, 1e-6))
            self._last[node_id] = (now, applied)
        return rates
