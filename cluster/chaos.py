"""``python -m cluster chaos``: real processes under fire, and the proof that the promises held.

The run: start the nodes; clients read and write all the while; faults come and go as the seed has drawn them; then everything is healed, progress is demanded
within a bound, the clients stop, and the states of the nodes and the histories of the clients are judged. It held only if

1. every history is linearizable, and no write's log index contradicts real time;
2. every node has every acknowledged write, nothing that nobody wrote, and the same state as the others at the same applied index;
3. no process ended by itself, failed to start, or logged an error that no fault explains, and no term had two leaders;
4. after the healing every node was in step and clients were served, within `PROGRESS_SECONDS_MAX`.

Without root or iproute2 the nodes run on the loopback and the faults of the network are left out, by name.
"""

from __future__ import annotations

import asyncio
import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from cluster.chaos_clients import Workload
from cluster.chaos_faults import Injector
from cluster.chaos_judge import Historian, State, judge_states, read_state
from cluster.chaos_network import Network
from cluster.chaos_nodes import ChaosNodes
from cluster.chaos_report import ChaosReport
from cluster.chaos_schedule import KINDS, Episode, draw_schedule
from cluster.kv_client import KeyValueClient
from replog.errors import OperatorError, ReplogError
from replog.types import NodeId

PROGRESS_SECONDS_MAX: Final = 30.0
PROGRESS_ANSWERS: Final = 50
QUIET_SECONDS: Final = 2.0
"""After the healing: nobody should campaign."""
BREATH_ANSWERS: Final = 30
BREATH_SECONDS_MAX: Final = 15.0
"""Before an episode that overlaps no other, so many answers are waited for, at most so long: a machine that starts its processes slowly would otherwise meet the
next fault before it has got over the last one, and a cluster that never serves shows nothing."""
_FINAL_OPERATIONS: Final = 10
_NEWS_SECONDS: Final = 5.0
_ALARMS: Final = re.compile(r"Traceback \(most recent call last\)| CRITICAL | ERROR |AssertionError|[Dd]iverge")
"""What no node should ever log, whatever happens around it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosOptions:
    seconds: float
    seed: int
    nodes: int = 3
    clients: int = 5
    rate: float = 60.0
    """Operations per second of each client, at most."""
    kinds: tuple[str, ...] = KINDS
    left_out: dict[str, str] = field(default_factory=dict)
    """Kinds that cannot be injected here, and why."""


class Chaos:
    """One run in `directory` (new, kept by the caller if it failed). `say` gets a line for each thing that happens."""

    def __init__(self, options: ChaosOptions, directory: str, network: Network | None, say: Callable[[str], None]) -> None:
        self._options = options
        self._started = time.monotonic()
        self._say_to = say
        self._histories = Path(directory) / "histories"
        self._histories.mkdir(parents=True)
        self._directory = directory
        self.nodes = ChaosNodes(directory, options.nodes, network, self._say)
        self._injector = Injector(self.nodes)
        self._historian = Historian()
        self._workload = Workload(
            lambda: self.nodes.addresses,
            self.nodes.cluster.cluster_id,
            clients=options.clients,
            rate=options.rate,
            chance=Random(f"clients {options.seed}"),
            directory=self._histories,
            on_chapter=self._historian.take,
        )
        self._episodes = draw_schedule(options.seed, options.seconds, [kind for kind in options.kinds if kind not in options.left_out])
        self._states: dict[NodeId, State] = {}
        self._progress_seconds: float | None = None
        self._quiet_elections = 0
        self._recoveries: list[float] = []
        """Seconds from an episode's end to `BREATH_ANSWERS` answers."""
        self._fault_seconds = 0.0

    async def run(self) -> ChaosReport:
        """Never raises for what the nodes do wrong: it is in the report's `failures`. Cancelled, it kills every node."""
        complete = False
        try:
            self._historian.start()
            await self.nodes.start_all()
            self._say(f"{len(self.nodes.ids)} nodes run, {self.nodes.leader()} leads; {len(self._episodes)} faults to come")
            self._workload.start()
            await self._under_fire()
            await self._heal()
            await self._demand_progress()
            await self._watch_quiet()
            await self._workload.stop()
            await self._read_states()
            self._say("checking what is left of the histories")
            await self._historian.finish()
            complete = True
        except (ReplogError, TimeoutError, OSError) as error:
            self.nodes.fail(f"{type(error).__name__}: {error}")
        finally:
            await self._historian.abandon()
            await self.nodes.close()
        if complete:
            self._read_logs()
        return self._report()

    def _say(self, line: str) -> None:
        self._say_to(f"{time.monotonic() - self._started:7.2f} s  {line}")

    # -- the stations ----------------------------------------------------------------------------------------------------

    async def _under_fire(self) -> None:
        began = time.monotonic()
        news = asyncio.create_task(self._tell_news())
        tasks: list[asyncio.Task[None]] = []
        late = 0.0
        """How far the schedule is behind, seconds, because nobody was served."""
        try:
            for episode in self._episodes:
                await asyncio.sleep(max(0.0, began + late + episode.at - time.monotonic()))
                tasks = _still_running(tasks)
                if not episode.overlaps:
                    late += await self._breath(tasks)
                    tasks = []
                if time.monotonic() + episode.seconds > began + self._options.seconds:
                    break
                tasks.append(asyncio.create_task(self._injector.inject(episode)))
            await asyncio.sleep(max(0.0, began + self._options.seconds - time.monotonic()))
            await asyncio.gather(*tasks)
        finally:
            news.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(news, *tasks, return_exceptions=True)
            self._fault_seconds = time.monotonic() - began

    async def _breath(self, tasks: Sequence[asyncio.Task[None]]) -> float:
        """Until all faults are healed (killed nodes serve) and clients are served again; returns the seconds that took."""
        began = time.monotonic()
        await asyncio.gather(*tasks)
        try:
            self._recoveries.append(await self._workload.wait_answered(BREATH_ANSWERS, BREATH_SECONDS_MAX))
        except TimeoutError:
            self._injector.notes[f"clients were not served within {BREATH_SECONDS_MAX:.0f} s between two faults"] += 1
        return time.monotonic() - began

    async def _tell_news(self) -> None:
        while True:
            await asyncio.sleep(_NEWS_SECONDS)
            found = self._workload.outcomes()
            self._say(
                f"{found['ok']:,} operations answered, {found['refused']:,} refused, {found['unknown']:,} unknown; "
                f"{self.nodes.leader() or 'nobody'} leads, term {self.nodes.term_max}; {self._historian.chapters} histories checked"
            )

    async def _heal(self) -> None:
        """Every episode has healed its fault; this makes sure of it, and starts who is down."""
        if self.nodes.network is not None:
            self.nodes.network.heal()
        await asyncio.gather(*(self.nodes.revive(node_id) for node_id in self.nodes.ids))
        await self._injector.readmit()
        if self._injector.wiped:
            self.nodes.fail(f"{', '.join(self._injector.wiped)}, wiped, could not be readmitted although all else was healed")
        self._say("all faults are healed")

    async def _demand_progress(self) -> None:
        began = time.monotonic()
        try:
            await self._workload.wait_answered(PROGRESS_ANSWERS, PROGRESS_SECONDS_MAX)
            await self.nodes.wait_leader(PROGRESS_SECONDS_MAX)
            await self._wait_in_step(await self._barrier(), PROGRESS_SECONDS_MAX)
        except (TimeoutError, ReplogError) as error:
            raise OperatorError(f"no progress within {PROGRESS_SECONDS_MAX:.0f} s after all faults were healed: {error}") from None
        self._progress_seconds = time.monotonic() - began
        self._say(f"clients are served and every node is in step {self._progress_seconds:.2f} s after the healing")

    async def _watch_quiet(self) -> None:
        before = self.nodes.term_max
        await asyncio.sleep(QUIET_SECONDS)
        self._quiet_elections = self.nodes.term_max - before

    async def _read_states(self) -> None:
        """Ten writes and ten reads by one client; then what each node holds, when all have applied all."""
        async with KeyValueClient(self.nodes.cluster.client()) as client:
            for number in range(_FINAL_OPERATIONS):
                await client.put(b"final/%d" % number, b"%d" % number, timeout=PROGRESS_SECONDS_MAX)
                item = await client.get(b"final/%d" % number, timeout=PROGRESS_SECONDS_MAX)
                if item is None or item.value != b"%d" % number:
                    self.nodes.fail(f"final/{number} was written and read back as {item}")
        await self._wait_in_step(await self._barrier(), PROGRESS_SECONDS_MAX)
        for node_id in self.nodes.ids:
            self._states[node_id] = await read_state(self.nodes.cluster.client_of(node_id))
        self._say(f"read the states of {len(self._states)} nodes")
        for finding in judge_states(self._states, self._workload):
            self.nodes.fail(finding)

    async def _barrier(self) -> int:
        async with self.nodes.cluster.client() as client:
            return await client.read_barrier(timeout=PROGRESS_SECONDS_MAX)

    async def _wait_in_step(self, index: int, seconds: float) -> None:
        behind: Sequence[NodeId] = ()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            statuses = await self.nodes.cluster.statuses()
            behind = [node_id for node_id, status in statuses.items() if status is None or status["applied_index"] < index]
            if not behind:
                return
            await asyncio.sleep(0.05)
        raise OperatorError(f"{', '.join(behind)} did not apply up to index {index} within {seconds:.0f} s")

    # -- the reckoning ---------------------------------------------------------------------------------------------------

    def _read_logs(self) -> None:
        """What the nodes logged, also those that have left."""
        for path in sorted(Path(self._directory).glob("*/node.log")):
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            found = [line for line in lines if _ALARMS.search(line)]
            if found:
                self.nodes.fail(f"{path.parent.name} logged {len(found)} alarms, the first: {found[0]}")

    def _report(self) -> ChaosReport:
        workload, nodes, injector, historian = self._workload, self.nodes, self._injector, self._historian
        surprises = [f"a client met {error} ({count} times)" for error, count in workload.surprises.most_common(5)]
        failures = (*nodes.failures, *historian.failures, *surprises)
        pauses = sorted(workload.pauses, reverse=True)[:5]
        digests = {state.digest() for state in self._states.values()}
        return ChaosReport(
            ok=not failures,
            failures=failures,
            seed=self._options.seed,
            nodes=self._options.nodes,
            clients=self._options.clients,
            seconds=round(self._fault_seconds, 2),
            kinds=self._options.kinds,
            injected=dict(injector.injected),
            skipped=dict(injector.skipped),
            left_out=dict(self._options.left_out),
            notes=dict(injector.notes),
            kills=injector.kills,
            starts=nodes.starts,
            crashes=nodes.crashes,
            disk_ends=dict(nodes.disk_ends),
            members_joined=nodes.spares,
            operations=workload.outcomes(),
            operations_by_kind={f"{kind} {outcome}": count for (kind, outcome), count in sorted(workload.counts.items())},
            elections=len(nodes.leaders),
            term_max=nodes.term_max,
            longest_pause_seconds=round(max((seconds for seconds, _ in pauses), default=0.0), 3),
            recoveries=len(self._recoveries),
            recovery_seconds_max=round(max(self._recoveries, default=0.0), 3),
            recovery_seconds_median=round(statistics.median(self._recoveries), 3) if self._recoveries else 0.0,
            pauses=tuple((round(seconds, 3), round(ended, 3)) for seconds, ended in pauses),
            histories=historian.chapters,
            history_keys=historian.keys,
            history_operations=historian.operations,
            acknowledged_writes=len(workload.record.acknowledged),
            items={node_id: len(state.items) for node_id, state in self._states.items()},
            digest=digests.pop() if len(digests) == 1 else "",
            progress_seconds=None if self._progress_seconds is None else round(self._progress_seconds, 3),
            quiet_elections=self._quiet_elections,
            directory=self._directory,
            schedule=tuple(describe(episode) for episode in self._episodes),
        )


def _still_running(tasks: list[asyncio.Task[None]]) -> list[asyncio.Task[None]]:
    """Those that have not ended; a mistake of the harness in one that has is raised here."""
    for task in tasks:
        if task.done():
            task.result()
    return [task for task in tasks if not task.done()]


def describe(episode: Episode) -> str:
    return f"{episode.at:.3f} s: {episode.kind} for {episode.seconds:.3f} s"
