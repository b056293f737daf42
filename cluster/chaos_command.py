"""What `python -m cluster chaos` does around a run: where it takes place, how it is stopped, what is left of it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cluster import chaos_network
from cluster.chaos_schedule import KINDS, NETWORK_KINDS
from replog.errors import ConfigError

EXIT_INTERRUPTED = 130


def choose_kinds(text: str) -> tuple[str, ...]:
    """Kinds from ``--faults``: names separated by commas; empty: all. Raises `ConfigError`."""
    named = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip())) or KINDS
    for name in named:
        if name not in KINDS:
            raise ConfigError("--faults", name, "one or more of " + ", ".join(KINDS))
    return named


def run_chaos(
    *,
    seconds: float,
    seed: int,
    nodes: int,
    clients: int,
    rate: float,
    kinds: Sequence[str],
    directory: str | None,
    as_json: bool,
    report_path: str | None,
    loopback: bool = False,
) -> int:
    """The whole run, without namespaces if `loopback` or none can be made; returns the exit code: 0 it held, 1 it did not, 130 interrupted."""
    from cluster.node import loop_factory

    def say(line: str) -> None:
        print(line, file=sys.stderr if as_json else sys.stdout, flush=True)

    missing = "asked for with --loopback" if loopback else chaos_network.missing()
    left_out = {kind: missing for kind in kinds if kind in NETWORK_KINDS} if missing else {}
    say(f"seed {seed}, {seconds:.0f} s, {nodes} nodes, {clients} clients" + (f"; on the loopback: {missing}" if missing else ""))
    where = directory or tempfile.mkdtemp(prefix="replog-chaos-")
    with contextlib.ExitStack() as stack:
        # Entered before anything connects: threads and processes that are started later inherit the namespace.
        network = stack.enter_context(chaos_network.Network()) if not missing else None
        from cluster.chaos import Chaos, ChaosOptions

        options = ChaosOptions(seconds=seconds, seed=seed, nodes=nodes, clients=clients, rate=rate, kinds=tuple(kinds), left_out=left_out)

        async def until_done_or_told() -> object:
            loop = asyncio.get_running_loop()
            task = loop.create_task(Chaos(options, where, network, say).run())
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, task.cancel)
            try:
                return await task
            except asyncio.CancelledError:
                return None

        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            report = runner.run(until_done_or_told())
    from cluster.chaos_report import ChaosReport, print_report

    if not isinstance(report, ChaosReport):
        say("interrupted; every node was stopped and every namespace removed")
        _tidy(where, keep=directory is not None)
        return EXIT_INTERRUPTED
    keep = directory is not None or not report.ok
    _tidy(where, keep=keep)
    report = dataclasses.replace(report, directory=where if keep else "")
    if report_path is not None:
        temporary = Path(report_path + ".tmp")
        temporary.write_text(report.to_json() + "\n", encoding="utf-8")
        os.replace(temporary, report_path)
    if as_json:
        print(report.to_json())
    else:
        print_report(report)
    return 0 if report.ok else 1


def _tidy(directory: str, *, keep: bool) -> None:
    if not keep:
        shutil.rmtree(directory, ignore_errors=True)
