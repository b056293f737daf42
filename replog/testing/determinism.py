"""Is a state machine deterministic? Its commands are applied in two processes with different hash seeds, and everything it shows is compared.

What gives a state machine away most often is the order of a set or of a dict made from one, `hash`, a clock, or a random number: each differs between two
processes. (A difference proves a fault; equality proves nothing about commands that were not tried.)
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence

from replog.statemachine import CommandError, StateMachine

_HASH_SEEDS = ("1", "2")
_TIMEOUT_SECONDS = 300


class NotAStateMachine(ValueError):
    """``module:Class`` does not name a state machine that can be made without arguments. Correct the name."""


def load_machine(name: str) -> StateMachine:
    """A new machine of ``module:Class``. Raises NotAStateMachine."""
    module_name, _, class_name = name.partition(":")
    try:
        machine = getattr(importlib.import_module(module_name), class_name)()
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise NotAStateMachine(f"{name}: {error}; a module:Class that can be made without arguments is needed") from error
    if not isinstance(machine, StateMachine):
        raise NotAStateMachine(f"{name} is a {type(machine).__name__}, not a replog.StateMachine")
    return machine


def observe(machine: StateMachine, commands: Sequence[bytes]) -> list[str]:
    """What a machine shows: a digest of each command's result, and last of its snapshot."""
    shown = []
    for index, command in enumerate(commands, 1):
        (result,) = machine.apply_batch(index, 1, [command])
        text = repr(result).encode() if isinstance(result, CommandError) else result
        shown.append(hashlib.sha256(text).hexdigest())
    sink = io.BytesIO()
    machine.snapshot().write(sink)
    shown.append(hashlib.sha256(sink.getvalue()).hexdigest())
    return shown


def compare_in_two_processes(name: str, commands: Sequence[bytes]) -> str:
    """Empty when both processes show the same, else what differs first. Raises NotAStateMachine."""
    load_machine(name)
    shown = [_observe_in_process(name, commands, hash_seed) for hash_seed in _HASH_SEEDS]
    for position, (one, other) in enumerate(zip(*shown, strict=True)):
        if one != other:
            if position == len(commands):
                return "all results are equal, but the snapshots of two processes differ"
            return f"command {position + 1} ({commands[position]!r}) has different results in two processes"
    return ""


def _observe_in_process(name: str, commands: Sequence[bytes], hash_seed: str) -> list[str]:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(  # noqa: S603 - this interpreter, this module
        [sys.executable, "-m", "replog.testing.determinism", name],
        input=json.dumps([command.hex() for command in commands]),
        env=environment,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        check=False,
    )
    if done.returncode:
        raise NotAStateMachine(f"{name}: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'the process failed'}")
    shown = json.loads(done.stdout)
    assert isinstance(shown, list)
    return shown


if __name__ == "__main__":
    machine = load_machine(sys.argv[1])
    sys.stdout.write(json.dumps(observe(machine, [bytes.fromhex(command) for command in json.load(sys.stdin)])))
