"""What the README says works as written: its commands, its program, its links."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_first_two_commands_start_from_nothing_and_stand_on_a_line_of_their_own() -> None:
    first, second = blocks("sh")[:2]

    for command in (first, second):
        assert command.count("\n") == 1
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")
    assert first.strip().endswith("python -m cluster demo")
    assert "-m pytest" in second


def test_continuous_integration_finds_the_test_command_in_the_readme() -> None:
    pattern = re.search(r"grep -m1 -E '([^']+)' README.md", (ROOT / ".ci" / "run").read_text(encoding="utf-8"))
    assert pattern is not None

    found = [line for line in README.splitlines() if re.match(pattern[1].replace("^", ""), line)]

    assert found == [blocks("sh")[1].strip()]


@pytest.mark.slow
def test_the_program_runs_and_prints_what_its_comments_say(tmp_path: Path) -> None:
    (program,) = blocks("python")
    path = tmp_path / "program.py"
    path.write_text(program)

    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=50)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["b'3'", "[b'4', b'6']", "6"]


def test_every_link_to_a_file_leads_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)

    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.slow
def test_every_command_it_names_exists() -> None:
    done = subprocess.run([sys.executable, "-m", "cluster", "--help"], cwd=ROOT, capture_output=True, text=True, timeout=50)
    known = set(re.findall(r"^ {2}([a-z-]+) ", done.stdout, re.MULTILINE))

    named = set(re.findall(r"-m cluster ([a-z]+)", README))

    assert named <= known, named - known
