"""The commands around the simulator: ``run`` a seed, ``hunt`` over many, judge the ``mutants``."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import nullcontext
from typing import Any, Final, TextIO

from replog.testing.faults import ALL_PROFILES
from replog.testing.history import Operation, dump
from replog.testing.hunting import Hunt, Outcome, Totals, hunt
from replog.testing.mutants import ALL, Mutant, judge, planted
from replog.testing.run import run
from replog.testing.shrink import shrink
from replog.testing.simulator import Plan

EXIT_UNUSABLE: Final = 2
_TOLD_RUNS: Final = 200
"""A hunt says how far it is after so many runs."""


def add_commands(commands: Any) -> None:
    """Add the three to the subparsers of ``python -m replog.testing``."""
    _add_run(commands.add_parser("run", help="simulate one seed, or several, and check every property"))
    _add_hunt(commands.add_parser("hunt", help="simulate many seeds over all profiles, in several processes, and print what they met"))
    listing = commands.add_parser("mutants", help="list the mutants and what finds them; --judge plays it")
    listing.add_argument("names", nargs="*", help="only these (default: all)")
    listing.add_argument("--judge", action="store_true", help="plant each one and see that it is found; exit code 1 if one lives")
    listing.set_defaults(run=_mutants)


def _add_run(once: argparse.ArgumentParser) -> None:
    once.add_argument("--seed", type=int, required=True)
    once.add_argument("--seeds", type=int, default=1, help="so many seeds, from --seed on (default 1)")
    once.add_argument("--profile", choices=sorted(ALL_PROFILES), default="swarm")
    once.add_argument("--storm-seconds", type=float, default=8.0, help="virtual seconds of faults (default %(default)s)")
    once.add_argument("--trace", action="store_true", help="print what happens as it happens")
    once.add_argument("--mutant", help="plant this mutant first (see the command mutants)")
    once.add_argument("--shrink", action="store_true", help="make a failure short")
    once.add_argument("--history", metavar="OUT", help="write the history of the (last) run as JSON lines")
    once.set_defaults(run=_run)


def _add_hunt(many: argparse.ArgumentParser) -> None:
    many.add_argument("--first-seed", type=int, default=1)
    many.add_argument("--seeds", type=int, help="seeds of each profile (default: no limit)")
    many.add_argument("--minutes", type=float, help="of real time (default: no limit)")
    many.add_argument("--profile", action="append", choices=sorted(ALL_PROFILES), help="this one; may be repeated (default: all)")
    many.add_argument("--storm-seconds", type=float, default=6.0, help="virtual seconds of faults (default %(default)s)")
    many.add_argument("--processes", type=int, default=1)
    many.add_argument("--mutant", help="plant this mutant first: the hunt is for seeds that find it")
    many.add_argument("--json", metavar="OUT", help="write the totals to this file, too, now and then and at the end")
    many.set_defaults(run=_hunt)


def _mutant(name: str | None) -> Mutant | None:
    """Raises KeyError for a name that is none's."""
    if name is None:
        return None
    found = next((one for one in ALL if one.name == name), None)
    if found is None:
        raise KeyError(name)
    return found


def _unusable(chosen: argparse.Namespace, text: str) -> int:
    print(f"replog.testing {chosen.command}: {text}", file=sys.stderr)  # noqa: T201 - a command line prints
    return EXIT_UNUSABLE


def _run(chosen: argparse.Namespace, out: TextIO) -> int:
    try:
        mutant = _mutant(chosen.mutant)
    except KeyError:
        return _unusable(chosen, f"no mutant {chosen.mutant!r}; see replog.testing mutants")
    failed = 0
    with planted(mutant) if mutant is not None else nullcontext():
        for seed in range(chosen.seed, chosen.seed + chosen.seeds):
            history: list[Operation] = []
            plan = Plan(seed=seed, profile=chosen.profile, storm_seconds=chosen.storm_seconds)
            report = run(plan, on_trace=(lambda line: print(line, file=out)) if chosen.trace else None, history=history)
            if chosen.shrink and report.broken is not None:
                shrunk = shrink(report, run)
                report = shrunk.report
                out.write(f"shrunk in {shrunk.runs} runs: {', '.join(shrunk.steps) or 'nothing could be taken away'}\n")
            out.write(report.describe() + "\n")
            if chosen.seeds == 1:
                out.writelines(line + "\n" for line in report.coverage.lines())
            failed += report.broken is not None
            if chosen.history:
                with open(chosen.history, "w", encoding="utf-8") as target:
                    target.writelines(dump(history))
    return 1 if failed else 0


def _hunt(chosen: argparse.Namespace, out: TextIO) -> int:
    if chosen.seeds is None and chosen.minutes is None:
        return _unusable(chosen, "say how long: --seeds or --minutes")
    try:
        _mutant(chosen.mutant)
    except KeyError:
        return _unusable(chosen, f"no mutant {chosen.mutant!r}; see replog.testing mutants")
    plan = Hunt(
        profiles=tuple(chosen.profile or ALL_PROFILES),
        first_seed=chosen.first_seed,
        storm_seconds=chosen.storm_seconds,
        seeds_max=chosen.seeds,
        seconds_max=chosen.minutes * 60 if chosen.minutes is not None else None,
        processes=chosen.processes,
        mutant=chosen.mutant,
    )

    def told(outcome: Outcome, totals: Totals) -> None:
        if outcome.broken:
            out.write(outcome.text + "\n")
        if totals.runs % _TOLD_RUNS == 0:
            out.write(totals.lines()[0] + "\n")
            out.flush()
            _write_json(chosen.json, totals)

    totals = hunt(plan, on_outcome=told)
    _write_json(chosen.json, totals)
    out.writelines(line + "\n" for line in totals.lines())
    out.writelines(f"FAILED {one.profile} {one.seed} {chosen.storm_seconds:g} {one.broken}\n" for one in totals.failures)
    return 1 if totals.failures else 0


def _write_json(path: str | None, totals: Totals) -> None:
    if path is not None:
        with open(path, "w", encoding="utf-8") as target:
            json.dump(totals.as_json(), target, indent=1)
            target.write("\n")


def _mutants(chosen: argparse.Namespace, out: TextIO) -> int:
    try:
        mutants = [one for name in chosen.names if (one := _mutant(name)) is not None] or list(ALL)
    except KeyError as unknown:
        return _unusable(chosen, f"no mutant {unknown}; see replog.testing mutants")
    living = 0
    for mutant in mutants:
        if chosen.judge:
            verdict = judge(mutant)
            living += not verdict.is_killed
            out.write(verdict.describe() + "\n")
        else:
            runs = "; ".join(f"{kill.describe()}: {' or '.join(kill.breaks)}" for kill in mutant.kills)
            out.write(f"{mutant.name}: {mutant.breaks} [{runs}]\n")
    if chosen.judge:
        out.write(f"{len(mutants) - living} of {len(mutants)} mutants found\n")
    return 1 if living else 0
