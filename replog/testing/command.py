"""The command line of the testing package (argparse: it must run where only the library is installed).

Exit codes: 0 all is well; 1 a property or the history failed; 2 the arguments or the file cannot be used; 3 the verdict is unknown.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, Final, TextIO

from replog.testing.determinism import ZONES, NotAStateMachine, compare_processes, load
from replog.testing.draw import to_html
from replog.testing.history import HistoryMalformed, Operation
from replog.testing.history_formats import parse
from replog.testing.linearizability import CONFIGURATIONS_MAX, Verdict, check
from replog.testing.machine_checks import StateMachineFault
from replog.testing.machine_suite import COMMANDS_DRAWN, Commands, check_state_machine
from replog.testing.models import MODELS, Model, RegisterModel
from replog.testing.simulation_command import add_commands

EXIT: Final = {Verdict.LINEARIZABLE: 0, Verdict.NOT_LINEARIZABLE: 1, Verdict.UNKNOWN: 3}
EXIT_UNUSABLE: Final = 2


def main(arguments: Sequence[str], out: TextIO | None = None) -> int:
    """Run one command; returns the exit code."""
    out = out if out is not None else sys.stdout
    chosen = _parser().parse_args(arguments)
    try:
        code = chosen.run(chosen, out)
    except (HistoryMalformed, NotAStateMachine, OSError) as error:
        print(f"replog.testing {chosen.command}: {error}", file=sys.stderr)  # noqa: T201 - a command line prints
        return EXIT_UNUSABLE
    assert isinstance(code, int)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m replog.testing", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    judge = commands.add_parser("check", help="is the history in FILE linearizable?")
    judge.add_argument(
        "file", help="JSON lines (see replog.testing.history), Jepsen's EDN or JSON events, jepsen.util lines; - for standard input"
    )
    judge.add_argument("--html", metavar="OUT", help="draw the history (the keys that failed) into this HTML file")
    judge.add_argument(
        "--model", choices=["auto", *MODELS], default="auto", help="auto: register, or register-empty where gets answer '' and never null"
    )
    judge.add_argument("--initial", metavar="VALUE", help="what each key holds before the history begins, as JSON (default: nothing)")
    judge.add_argument(
        "--configurations-max", type=int, default=CONFIGURATIONS_MAX, help="budget per key; used up means unknown (default %(default)s)"
    )
    judge.set_defaults(run=_check)
    add_commands(commands)
    machine = commands.add_parser("machine", help="is a state machine of yours what replog needs? (docs/state-machines.md)")
    _takes_machine(machine)
    machine.add_argument("--queries", metavar="FILE", help="file with one query a line, for StateMachine.query")
    machine.add_argument("--seeds", type=int, default=10, help="simulated clusters (default %(default)s)")
    machine.add_argument("--seed", type=int, default=1, help="of all that is drawn (default %(default)s)")
    machine.add_argument("--no-rubbish", action="store_true", help="do not try commands that nobody meant")
    machine.add_argument("--any-snapshot-bytes", action="store_true", help="equal states may have snapshots with different bytes")
    machine.set_defaults(run=_machine)
    alone = commands.add_parser(
        "determinism", help="that part alone: apply the commands in processes with different hash seeds, and compare"
    )
    _takes_machine(alone)
    alone.set_defaults(run=_determinism)
    return parser


def _takes_machine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("machine", help="module:Class (or path/to/file.py:Class) of a StateMachine that can be made without arguments")
    parser.add_argument(
        "commands", help="file with one command a line, or module:function of a function that draws a command from a random.Random"
    )
    parser.add_argument("--hex", action="store_true", help="lines of the files are hexadecimal")


def _check(chosen: argparse.Namespace, out: TextIO) -> int:
    text = sys.stdin.read() if chosen.file == "-" else _read(chosen.file)
    history = parse(text)
    model = _model(chosen.model, history) if chosen.initial is None else RegisterModel(missing=_json(chosen.initial), name="register")
    result = check(history, model, configurations_max=chosen.configurations_max)
    if chosen.html:
        with open(chosen.html, "w", encoding="utf-8") as target:
            target.write(to_html(result, chosen.file))
    out.writelines(
        f"{key.explain()}\n" if key.blocked is not None else f"key {key.key!r}: unknown after {key.configurations} configurations\n"
        for key in result.failed
    )
    if chosen.initial is None and any(key.states == (model.show(model.initial()),) for key in result.failed):
        out.write("if a key holds something before the history begins, say so with --initial\n")
    out.write(f"{chosen.file}: {result.verdict.value} ({len(history)} operations, {len(result.keys)} keys, model {model.name})\n")
    if chosen.html:
        out.write(f"picture: {chosen.html}\n")
    return EXIT[result.verdict]


def _machine(chosen: argparse.Namespace, out: TextIO) -> int:
    try:
        report = check_state_machine(
            chosen.machine,
            _commands(chosen),
            queries=_lines(chosen.queries, as_hex=chosen.hex) if chosen.queries else (),
            seeds=chosen.seeds,
            seed=chosen.seed,
            rubbish=not chosen.no_rubbish,
            compare_snapshots=not chosen.any_snapshot_bytes,
        )
    except StateMachineFault as fault:
        out.write(f"{chosen.machine} breaks a rule: {fault}\n")
        return 1
    out.write(report.describe() + "\n")
    return 0


def _determinism(chosen: argparse.Namespace, out: TextIO) -> int:
    commands = _commands(chosen)
    drawn = [commands(Random(number)) for number in range(COMMANDS_DRAWN)] if callable(commands) else commands
    difference = compare_processes(chosen.machine, drawn)
    same = f"equal results, digests and snapshots in {len(ZONES)} processes after {len(drawn)} commands"
    out.write(f"{chosen.machine}: {difference.text if difference is not None else same}\n")
    return 1 if difference is not None else 0


def _commands(chosen: argparse.Namespace) -> Commands:
    """From a file, or a function that draws them where the name is one."""
    name: str = chosen.commands
    if ":" in name and not Path(name).exists():
        draw = load(name)
        if not callable(draw):
            raise NotAStateMachine(f"{name} is a {type(draw).__name__}, not a function that draws a command")
        made: Commands = draw
        return made
    return _lines(name, as_hex=chosen.hex)


def _lines(path: str, *, as_hex: bool) -> list[bytes]:
    """Each line is a command or query, as UTF-8 or in hexadecimal; empty lines are left out."""
    found: list[bytes] = []
    for number, line in enumerate(_read(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            found.append(bytes.fromhex(line) if as_hex else line.encode())
        except ValueError:
            raise NotAStateMachine(f"{path}, line {number}: {line[:60]!r} is not hexadecimal") from None
    return found


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise HistoryMalformed(f"--initial: {text!r} is not JSON (text needs quotes of its own)") from None


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as source:
            return source.read()
    except UnicodeDecodeError as error:
        raise HistoryMalformed(f"{path}: not UTF-8 text ({error})") from None


def _model(name: str, history: Sequence[Operation]) -> Model:
    if name != "auto":
        return MODELS[name]
    answers = [operation.result for operation in history if operation.kind == "get" and operation.outcome == "ok"]
    return MODELS["register-empty" if "" in answers and None not in answers else "register"]
