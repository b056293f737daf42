"""replog beside the systems that a user would pick instead, in turn, on the same machine and disk.

A figure of one run on one machine says little: another process, a warm disk or the hour change it by half. So every round runs every system once, one behind the
other; what is told is the median of the rounds, the lowest and highest, and the ratio to the best durable peer at the same number in flight.

The peers are measured by a script of its own (`--peers`), which prints a JSON line for each run with the keys of `cluster.bench`, and tells on stderr what it skips.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

from cluster.bench import BenchOptions, run_bench
from replog.errors import ReplogError

DEFAULT_PEERS = Path(__file__).resolve().parents[2] / "shared" / "bench" / "peers.py"
PEERS = ("hashicorp", "etcd", "pysyncobj")
WIDTHS = (1, 64, 1024, 4096)
_PEERS_SECONDS_MAX = 600

Row = dict[str, Any]
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One kind of run of ours, and what it is held against: `factors` by number in flight (0: that of the peers' best at their largest)."""

    name: str
    via: str = "embedded"
    app: str = "counter"
    batch: int = 1
    operation: str = "write"
    widths: tuple[int, ...] = WIDTHS
    factors: tuple[float, ...] = ()
    against: str = ""
    """Part of a peer's name; empty: the best durable one."""


SERIES = (
    Series(name="embedded, counter", factors=(1.1, 3, 3.5, 3)),
    Series(name="embedded, counter, batches of 100", batch=100, widths=(64,), factors=(5,)),
    Series(name="embedded, kv", app="kv", factors=(1.0, 2.5, 2.5, 2.5)),
    Series(name="embedded, kv, batches of 100", app="kv", batch=100, widths=(64,), factors=(3,)),
    Series(name="client, kv", via="client", app="kv", factors=(0, 1, 2, 2), against="etcd"),
    Series(name="embedded, kv, reads", app="kv", operation="read", widths=(1024,)),
    Series(name="client, kv, reads", via="client", app="kv", operation="read", widths=(1024,)),
)


@dataclass(slots=True)
class Comparison:
    """What all rounds gave: rows by (system, in flight), in the order in which they first came."""

    rows: dict[tuple[str, int], list[Row]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, row: Row) -> None:
        batch = row.get("batch", 1)
        name = row["system"] + (f" x {batch}" if batch > 1 else "")
        self.rows.setdefault((name, row["in_flight"]), []).append(row)

    def rates(self, system: str, in_flight: int) -> list[float]:
        return [row["ops_per_second"] for row in self.rows.get((system, in_flight), [])]

    def best_peer(self, in_flight: int, part: str = "") -> float | None:
        """The highest median of a durable peer whose name has `part`; None when there is none."""
        medians = [
            median(row["ops_per_second"] for row in rows)
            for (system, width), rows in self.rows.items()
            if width == in_flight and not is_ours(system) and part in system and rows[0]["durable"]
        ]
        return max(medians, default=None)

    def best_peer_p99(self, in_flight: int) -> float | None:
        found = [
            median(row["p99_ms"] for row in rows)
            for (system, width), rows in self.rows.items()
            if width == in_flight and not is_ours(system) and rows[0]["durable"] and all("p99_ms" in row for row in rows)
        ]
        return min(found, default=None)


def is_ours(system: str) -> bool:
    return system.startswith("replog")


async def compare(
    *, rounds: int, seconds: float, peers: Path | None, say: Say, series: Sequence[Series] = SERIES, directory: str | None = None
) -> Comparison:
    """Run all of `series` and all peers `rounds` times, in turn. What fails is told in the result and left out."""
    found = Comparison()
    script = peers or DEFAULT_PEERS
    if not script.exists():
        found.notes.append(f"no script for the peers at {script}: replog is measured alone")
    for number in range(rounds):
        for kind in series:
            say(f"round {number + 1} of {rounds}: replog, {kind.name}")
            await _ours(found, kind, seconds, directory)
        if script.exists():
            for name in PEERS:
                say(f"round {number + 1} of {rounds}: {name}")
                await asyncio.to_thread(_peer, found, script, name, seconds)
    return found


async def _ours(found: Comparison, kind: Series, seconds: float, directory: str | None) -> None:
    runs = [
        BenchOptions(in_flight=width, seconds=seconds, via=kind.via, app=kind.app, batch=kind.batch, operation=kind.operation)
        for width in kind.widths
    ]
    with tempfile.TemporaryDirectory(prefix="replog-compare-", dir=directory) as where:
        try:
            async for row in run_bench(where, runs):
                found.add(row)
        except (ReplogError, OSError) as error:
            found.failures.append(f"replog, {kind.name}: {error}")


def _peer(found: Comparison, script: Path, name: str, seconds: float) -> None:
    seconds = max(1.0, seconds)  # one of their load generators counts in whole seconds
    command = [sys.executable, str(script), "--only", name, "--seconds", f"{seconds:g}", "--in-flight", *map(str, WIDTHS)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PEERS_SECONDS_MAX, check=False)
    except subprocess.TimeoutExpired:
        found.failures.append(f"{name}: no end within {_PEERS_SECONDS_MAX} s")
        return
    for line in done.stdout.splitlines():
        try:
            found.add(json.loads(line))
        except (ValueError, KeyError):
            found.failures.append(f"{name}: not a result: {line[:200]}")
    if done.returncode or done.stderr.strip():
        told = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        found.failures.append(f"{name}: {told[-1][:300]}")


async def run_comparison(*, rounds: int, seconds: float, peers: str | None, svg: str | None, as_json: bool) -> None:
    """`bench --compare`: progress on stderr, the page (or with `as_json` every row) on stdout, the picture into `svg`."""
    from cluster.bench_picture import picture

    environment = machine(tempfile.gettempdir())
    found = await compare(
        rounds=rounds, seconds=seconds, peers=Path(peers) if peers else None, say=lambda line: print(line, file=sys.stderr, flush=True)
    )
    environment["load after"] = " ".join(f"{load:.1f}" for load in os.getloadavg())
    environment["runs"] = f"{rounds} rounds, {seconds:g} s each, payload 100 bytes"
    if as_json:
        print(
            json.dumps({"machine": environment, "rows": [row for rows in found.rows.values() for row in rows], "failures": found.failures})
        )
    else:
        print(report(found, environment))
    if svg:
        drawn = picture(found, "Three durable nodes on one machine, 100-byte commands")
        await asyncio.to_thread(Path(svg).write_text, drawn, encoding="utf-8")


# --- What the machine is ------------------------------------------------------------------------------------------------------


def machine(directory: str) -> dict[str, str]:
    """What a figure depends on, for people."""
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "load before": " ".join(f"{load:.1f}" for load in os.getloadavg()),
        "kernel": f"{platform.system()} {platform.release()}",
        "disk": _disk(directory),
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "libraries": ", ".join(f"{name} {version}" for name in ("grpcio", "uvloop", "zlib-ng", "protobuf") if (version := _version(name))),
        "peers": ", ".join(filter(None, (_first_line("etcd", "--version"), _first_line("go", "version")))) or "none found",
        "data sync": "on, at every node, before a write is acknowledged",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _disk(directory: str) -> str:
    """Device and file system that hold `directory`: the longest mount point above it."""
    where = os.path.realpath(directory)
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return "unknown"
    above = [mount for mount in mounts if where == mount[1] or where.startswith(mount[1].rstrip("/") + "/")]
    device, _, kind, options, *_ = max(above, key=lambda mount: len(mount[1]), default=["unknown", "", "unknown", ""])
    return f"{device}, {kind} ({options})"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _first_line(program: str, argument: str) -> str:
    path = shutil.which(program)
    if path is None:
        return ""
    done = subprocess.run([path, argument], capture_output=True, text=True, check=False)
    return next(iter(done.stdout.splitlines()), "")


# --- As text ------------------------------------------------------------------------------------------------------------------


def report(found: Comparison, environment: dict[str, str]) -> str:
    """The comparison as a page of Markdown."""
    lines = [f"- {name}: {value}" for name, value in environment.items()]
    lines += ["", *_table(found), "", *_verdicts(found)]
    lines += ["", *(f"- note: {note}" for note in found.notes), *(f"- failed: {failure}" for failure in found.failures)]
    if not found.failures:
        lines.append("- failures: none")
    return "\n".join(lines)


def _table(found: Comparison) -> Iterable[str]:
    yield "| system | in flight | ops/s, median | lowest - highest | p50 ms | p99 ms | to the best durable peer |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for (system, width), rows in found.rows.items():
        rates = [row["ops_per_second"] for row in rows]
        best = found.best_peer(width)
        ratio = f"{median(rates) / best:.2f}" if best and " x " not in system else ""
        durable = "" if rows[0]["durable"] else " (not durable)"
        yield (
            f"| {system}{durable} | {width:,} | {median(rates):,.0f} | {min(rates):,.0f} - {max(rates):,.0f} "
            f"| {_middle(rows, 'p50_ms', 'mean_ms')} | {_middle(rows, 'p99_ms')} | {ratio} |"
        )


def _middle(rows: Sequence[Row], key: str, otherwise: str = "") -> str:
    for name, mark in ((key, ""), (otherwise, " (mean)")):
        if name and all(name in row for row in rows):
            return f"{median(row[name] for row in rows):.2f}{mark}"
    return ""


def _verdicts(found: Comparison) -> Iterable[str]:
    """Each target of the project with what was found."""
    yield "| what | found | wanted | holds |"
    yield "|---|---:|---:|---|"
    for kind in SERIES:
        system = system_of(kind)
        for width, factor in zip(kind.widths, kind.factors, strict=False):
            rates = found.rates(system, width)
            best = found.best_peer(WIDTHS[-1] if kind.batch > 1 else width, kind.against)
            if factor and rates and best:
                of = f"{kind.against or 'the best durable peer'}{' at 4,096' if kind.batch > 1 else ''}"
                yield _verdict(f"{kind.name}, {width:,} in flight, times {of}", median(rates) / best, factor)
    for width in WIDTHS[2:]:
        ours = found.rows.get((system_of(SERIES[0]), width), [])
        theirs = found.best_peer_p99(width)
        if ours and theirs:
            worst = median(row["p99_ms"] for row in ours)
            yield f"| p99 at {width:,} in flight, ms | {worst:.1f} | at most {theirs:.1f} | {'yes' if worst <= theirs else 'NO'} |"
    for via in ("embedded", "client"):
        reads, writes = found.rates(f"replog ({via}, kv, reads)", 1024), found.rates(f"replog ({via}, kv)", 1024)
        if reads and writes:
            yield _verdict(f"{via}: linearizable reads, 1,024 in flight, times the writes", median(reads) / median(writes), 3)


def _verdict(what: str, ratio: float, wanted: float) -> str:
    return f"| {what} | {ratio:.2f} | {wanted:g} | {'yes' if ratio >= wanted else 'NO'} |"


def system_of(kind: Series) -> str:
    """The name that the rows of `kind` have."""
    reads = ", reads" if kind.operation == "read" else ""
    return f"replog ({kind.via}, {kind.app}{reads})" + (f" x {kind.batch}" if kind.batch > 1 else "")
