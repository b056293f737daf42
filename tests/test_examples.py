"""Each example runs as a program, ends well and says what it promises."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"

SAYS = {
    "check_your_machine.py": ["Tickets: all rules hold", "3 simulated clusters", "CarelessTickets breaks a rule: determinism: command "],
    "counter.py": ["add 3 -> 3", "would be negative", "1000 times add 1 -> 1003", "after a restart: 1003"],
    "hello_log.py": ["three -> line 3", "after a restart: one, two, three"],
    "three_nodes.py": ["over 'first'", "read: 'second'"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SAYS))
def test_an_example_runs_and_says_what_it_should(name: str) -> None:
    done = subprocess.run([sys.executable, str(EXAMPLES / name)], capture_output=True, text=True, timeout=50)

    assert done.returncode == 0, done.stderr
    for words in SAYS[name]:
        assert words in done.stdout
    assert "Traceback" not in done.stderr


def test_every_example_is_short_and_has_a_test() -> None:
    here = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in EXAMPLES.glob("*.py")}

    assert all(lines < 80 for lines in here.values()), here
    others = set(here) - set(SAYS)
    tested_elsewhere = {"wal_only.py"}
    assert others <= tested_elsewhere, f"examples without a test: {others - tested_elsewhere}"
