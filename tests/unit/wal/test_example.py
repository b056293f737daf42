"""The example of the log alone runs as a program, and shows what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "wal_only.py"


@pytest.mark.slow
def test_the_example_runs_and_survives_what_it_does_to_its_log(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(EXAMPLE), str(tmp_path / "wal")], capture_output=True, text=True, timeout=50)

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for words in (
        "everything before 1001 survives",
        "wrote 1001 to 2000 together",
        "9 bytes of a torn write",
        "refused, and nothing changed: WalEntryDamaged at offset 486, sequence 17",
        "(2000, b'from task 999')",
        "2 of them still needed",
    ):
        assert words in done.stdout
