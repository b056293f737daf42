"""SIGKILL of a real process that appends to a real directory, over and over; and two processes that want one directory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import IO

import pytest

from replog import wal
from replog.errors import WalLocked
from replog.testing.log_workloads import payload
from replog.wal import WalOptions

pytestmark = [pytest.mark.fault, pytest.mark.slow]

APPENDER = """
import sys
from replog import wal
from replog.testing.log_workloads import payload
from replog.wal import WalOptions

directory, policy, segment_bytes = sys.argv[1], sys.argv[2], int(sys.argv[3])
policies = {"none": wal.NoSync, "immediate": wal.ImmediateSync, "grouped": wal.GroupedSync, "periodic": lambda: wal.PeriodicSync(50, 0.005)}
options = WalOptions(segment_bytes_max=segment_bytes)
if not wal.exists(directory):
    wal.create(directory, options)
log = wal.open(directory, options, sync=policies[policy]())
out = sys.stdout
while True:
    sequence = log.next_sequence
    if sequence % 5:
        log.append(payload(sequence, sequence * 37 % 900))
        out.write(f"{sequence}\\n")
    else:
        log.append_many([payload(number, number * 37 % 900) for number in range(sequence, sequence + 7)])
        out.write(f"{sequence + 6}\\n")
    if sequence % 400 == 5:
        log.truncate_before(sequence - 200)
    out.flush()
"""

HOLDER = """
import sys
from replog import wal
log = wal.open(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""


def start(program: str, *arguments: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(Path(wal.__file__).parents[2])}
    return subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, stdin=subprocess.PIPE, env=environment)


def last_number(output: bytes) -> int:
    """Of the last whole line."""
    whole = output[: output.rfind(b"\n") + 1].split()
    return int(whole[-1]) if whole else -1


def read_until_killed(process: subprocess.Popen[bytes], lines: int) -> bytes:
    """Kill the process once it has acknowledged so many appends; all that it ever said."""
    stdout: IO[bytes] | None = process.stdout
    assert stdout is not None
    said = b"".join(stdout.readline() for _ in range(lines))
    process.send_signal(signal.SIGKILL)
    said += stdout.read()
    process.wait()
    stdout.close()
    assert process.stdin is not None
    process.stdin.close()
    assert process.returncode == -signal.SIGKILL, "the process ended by itself"
    return said


@pytest.mark.parametrize("policy", ["none", "immediate", "grouped", "periodic"])
@pytest.mark.parametrize("segment_bytes", [3000, 40_000])
def test_nothing_that_a_killed_process_acknowledged_is_missing(tmp_path: Path, policy: str, segment_bytes: int) -> None:
    directory = str(tmp_path / "log")
    chance = Random(f"{policy} {segment_bytes}")
    acknowledged = -1
    rounds = int(os.environ.get("REPLOG_KILL_ROUNDS", "4"))

    for _ in range(rounds):
        said = read_until_killed(start(APPENDER, directory, policy, str(segment_bytes)), chance.randint(1, 120))
        acknowledged = max(acknowledged, last_number(said))

        with wal.open(directory, WalOptions(segment_bytes_max=segment_bytes), sync=wal.NoSync()) as log:
            assert log.last_sequence >= acknowledged, "an acknowledged entry is missing"
            found = list(wal.Reader(directory))

            assert [sequence for sequence, _ in found] == list(range(log.first_sequence, log.next_sequence))
        for sequence, data in found:
            assert data == payload(sequence, sequence * 37 % 900)


def test_a_second_process_is_refused_with_the_pid_of_the_first_and_gets_in_when_it_is_killed(tmp_path: Path) -> None:
    directory = str(tmp_path / "log")
    wal.create(directory)
    holder = start(HOLDER, directory)
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == b"open\n"

    try:
        with pytest.raises(WalLocked) as caught:
            wal.open(directory)
        assert caught.value.pid == holder.pid
        assert str(holder.pid) in str(caught.value)
        with wal.Reader(directory) as reader:
            assert list(reader) == []
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
        holder.stdin.close()

    with wal.open(directory) as log:
        assert log.append(b"x") == 0
