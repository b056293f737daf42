"""What a chaos run has to say: one frozen value, as JSON and as a table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from rich.console import Console
from rich.table import Table

from cluster.chaos_schedule import MEANING
from replog.types import NodeId

_PIPE_WIDTH = 140


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosReport:
    """`ok` only if all of it held: no failure, and every check was made."""

    ok: bool
    failures: tuple[str, ...]
    seed: int
    nodes: int
    clients: int
    seconds: float
    """Of the faults, without start, healing and checks."""
    kinds: tuple[str, ...]
    injected: Mapping[str, int]
    """Faults that were put in, by kind."""
    skipped: Mapping[str, int]
    left_out: Mapping[str, str]
    """Kinds that could not be injected here, and why."""
    notes: Mapping[str, int]
    """Refusals that are allowed, and how often."""
    kills: int
    """Running processes that were killed."""
    starts: int
    """Processes that were started."""
    crashes: int
    """Processes that ended by themselves, without a broken disk."""
    disk_ends: Mapping[str, int]
    """Processes that ended as they must when their disk broke."""
    members_joined: int
    operations: Mapping[str, int]
    """By outcome: ok, refused (certainly not done), unknown."""
    operations_by_kind: Mapping[str, int]
    elections: int
    """Terms that had a leader."""
    term_max: int
    longest_pause_seconds: float
    """Without an answer to any client, while faults were put in."""
    pauses: tuple[tuple[float, float], ...]
    """The longest of them: (seconds, when it ended)."""
    recoveries: int
    """Times that all faults were healed and clients were served again before the next one."""
    recovery_seconds_max: float
    """From the last healing to 30 answers."""
    recovery_seconds_median: float
    histories: int
    history_keys: int
    history_operations: int
    """... that were checked for linearizability."""
    acknowledged_writes: int
    """Writes to keys of their own, looked for on every node."""
    items: Mapping[NodeId, int]
    """What each node held in the end."""
    digest: str
    """Of the state at the end, where it was the same everywhere."""
    progress_seconds: float | None
    """From the healing of the last fault to 50 answers and every node in step; None: it did not come to that."""
    quiet_elections: int
    """Elections while all was healed and connected (the machine's load may cause one; none is expected)."""
    directory: str = ""
    """Where the nodes' directories and logs and the histories that failed are; empty: removed."""
    schedule: tuple[str, ...] = field(default=())

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def print_report(report: ChaosReport) -> None:
    """What was put in, what was seen, and the verdict."""
    console = Console()
    console = console if console.is_terminal else Console(width=_PIPE_WIDTH)
    faults = Table(
        title=f"What was injected (seed {report.seed}, {report.nodes} nodes, {report.clients} clients, {report.seconds:.0f} s)",
        title_justify="left",
    )
    faults.add_column("fault")
    faults.add_column("times", justify="right")
    faults.add_column("what it is")
    for kind, meaning in MEANING.items():
        if kind in report.kinds and kind not in report.left_out:
            skipped = report.skipped.get(kind, 0)
            faults.add_row(kind, str(report.injected.get(kind, 0)), meaning + (f" ({skipped} more found nobody to hit)" if skipped else ""))
    console.print(faults)
    for reason in sorted(set(report.left_out.values())):
        kinds = ", ".join(kind for kind, why in report.left_out.items() if why == reason)
        console.print(f"Left out ({reason}): {kinds}", markup=False, highlight=False)
    seen = Table(title="What was seen", title_justify="left", show_header=False)
    seen.add_column("what")
    seen.add_column("found", justify="right")
    for what, found in _rows(report).items():
        seen.add_row(what, found)
    console.print(seen)
    for note, times in report.notes.items():
        console.print(f"Noted {times} times, and no fault: {note}", markup=False, highlight=False)
    if report.ok:
        console.print("[bold green]It held:[/bold green]")
        for line in _held(report):
            console.print(f"  {line}", markup=False, highlight=False)
    else:
        console.print("[bold red]It did not hold:[/bold red]")
        for failure in report.failures:
            console.print(f"  {failure}", markup=False, soft_wrap=True)
        if report.directory:
            console.print(f"Logs, data directories and histories: {report.directory}", markup=False, soft_wrap=True)


def _held(report: ChaosReport) -> list[str]:
    """What was found to hold, in sentences."""
    return [
        f"{report.history_operations:,} operations on {report.history_keys} keys, in {report.histories} histories, are linearizable, and their log indexes agree.",
        f"Each of {report.acknowledged_writes:,} acknowledged writes is on every node, with its revision, and nothing that nobody wrote.",
        f"All {len(report.items)} nodes hold the same at the same applied index (SHA-256 {report.digest[:16]}...).",
        "No process ended by itself or logged an error that no fault explains, and no term had two leaders.",
        f"{report.progress_seconds or 0.0:.2f} s after the last healing every node was in step and clients were served; then ten writes and ten reads succeeded.",
    ]


def _rows(report: ChaosReport) -> dict[str, str]:
    operations = report.operations
    rows = {
        "operations answered": f"{operations.get('ok', 0):,}",
        "... refused (certainly not done)": f"{operations.get('refused', 0):,}",
        "... of unknown outcome": f"{operations.get('unknown', 0):,}",
        "faults put in": f"{sum(report.injected.values()):,}",
        "processes killed / started": f"{report.kills} / {report.starts}",
        "processes ended by a broken disk": str(sum(report.disk_ends.values())),
        "processes ended by themselves": str(report.crashes),
        "nodes that joined": str(report.members_joined),
        "terms with a leader / last term": f"{report.elections} / {report.term_max}",
        "elections after healing": str(report.quiet_elections),
        "longest pause under faults": f"{report.longest_pause_seconds:.2f} s",
        "served again between faults: times, median, longest": (
            f"{report.recoveries}, {report.recovery_seconds_median:.2f} s, {report.recovery_seconds_max:.2f} s"
        ),
        "in step and serving after healing": "never" if report.progress_seconds is None else f"{report.progress_seconds:.2f} s",
        "histories / keys / operations checked": f"{report.histories} / {report.history_keys:,} / {report.history_operations:,}",
        "acknowledged writes looked for on every node": f"{report.acknowledged_writes:,}",
    }
    rows |= {f"items on {node_id}": f"{items:,}" for node_id, items in report.items.items()}
    return rows
