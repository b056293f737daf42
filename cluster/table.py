"""What people see: tables of nodes, of the demo's result and of the benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from cluster.demo import DemoReport
from replog.cli.cluster_calls import members
from replog.cli.cluster_report import print_membership, report_of

_PIPE_WIDTH = 140
"""Columns of a table that is not shown on a terminal: nothing is cut."""
_ROLE_STYLES = {"leader": "bold green", "follower": "", "learner": "cyan", "candidate": "yellow", "pre-candidate": "yellow"}


def status_table(
    statuses: Mapping[str, Mapping[str, Any] | None], *, rates: Mapping[str, float] | None = None, title: str | None = None
) -> Table:
    """One row a node, by the key of `statuses`; None: it does not answer. `rates`: applied entries per second."""
    table = Table(title=title, title_justify="left")
    for name in ("node", "role", "term", "leader", "commit", "applied", "log", "log size"):
        left = name in ("node", "role", "leader", "log")
        table.add_column(name, justify="left" if left else "right", no_wrap=True, min_width=len(name))
    if rates is not None:
        table.add_column("applied/s", justify="right")
    for name, found in statuses.items():
        if found is None:
            table.add_row(name, "[red]no answer[/red]")
            continue
        style = _ROLE_STYLES.get(found["role"], "")
        cells = [
            name if name == found["node_id"] else f"{found['node_id']} at {name}",
            f"[{style}]{found['role']}[/{style}]" if style else found["role"],
            str(found["term"]),
            found["leader"] or "-",
            f"{found['committed_index']:,}",
            f"{found['applied_index']:,}",
            f"{found['first_index']:,} .. {found['last_index']:,}",
            size_text(found["log_bytes"]),
        ]
        table.add_row(*cells, *([f"{rates.get(name, 0.0):,.0f}"] if rates is not None else []))
    return table


def size_text(size_bytes: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size_bytes < 1024 or unit == "GiB":
            break
        size_bytes /= 1024
    return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"


def print_statuses(statuses: Mapping[str, dict[str, Any] | str]) -> None:
    """The nodes by name, the membership in one line, and what somebody should look at. `statuses` by address; a string: why there is none."""
    console = Console()
    console = console if console.is_terminal else Console(width=_PIPE_WIDTH)
    names = {address: node for node, address in members(statuses.values())}
    by_name: dict[str, dict[str, Any] | None] = {}
    for address, found in statuses.items():
        if isinstance(found, dict):
            by_name[found["node_id"]] = found
        else:
            by_name[names.get(address, address)] = None
    console.print(status_table(dict(sorted(by_name.items()))))
    print_membership(console, report_of(statuses))


def print_demo(report: DemoReport) -> None:
    """The tour's result as a table, then the verdict in one line."""
    table = Table(title="What happened", title_justify="left", show_header=False)
    table.add_column("what")
    table.add_column("found", justify="right")
    rows = {
        "writes acknowledged": f"{report.acknowledged:,}",
        "acknowledged writes lost": "not read back" if report.lost is None else f"{report.lost:,}",
        "writes with unknown outcome": f"{report.unknown:,}",
        "throughput, 4 clients over gRPC": f"{report.ops_per_second:,.0f}/s",
        f"failover {report.old_leader} -> {report.new_leader}": f"{report.failover_seconds:.2f} s",
        "killed node caught up after": f"{report.catch_up_seconds:.2f} s",
        "all killed: writes again after": f"{report.restart_all_seconds:.2f} s",
        **{f"items read back from {node_id}": f"{items:,}" for node_id, items in report.read_back.items()},
        "whole tour": f"{report.seconds:.1f} s",
    }
    rows = {what.replace("4 clients", f"{report.clients} clients"): found for what, found in rows.items()}
    for what, found in rows.items():
        table.add_row(what, found)
    console = Console()
    console.print(table)
    if report.ok:
        console.print("[bold green]It held:[/bold green] every acknowledged write is on every node.")
    else:
        console.print("[bold red]It did not hold:[/bold red] " + "; ".join(report.failures), soft_wrap=True)


def print_bench_row(found: Mapping[str, Any]) -> None:
    batch = f" x {found['batch']}" if found["batch"] > 1 else ""
    print(
        f"{found['system']:<28} {found['in_flight']:>6}{batch:<6} in flight {found['payload_bytes']:>8} B"
        f" {found['ops_per_second']:>12,.0f} /s   p50 {found['p50_ms']:>8.2f} ms   p99 {found['p99_ms']:>8.2f} ms   {found['cpu_us_per_op']:>6.1f} us CPU/op",
        flush=True,
    )
