"""The scripts in tests/scripts, whole traces; and the runner itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from replog.testing.script import ScriptError, main, run_script

SCRIPTS = sorted((Path(__file__).parents[2] / "scripts").glob("*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_the_trace_is_as_written(path: Path) -> None:
    """After a wanted change: ``python -m replog.testing.script --rewrite tests/scripts/*.txt``, and review the diff."""
    text = path.read_text(encoding="utf-8")

    assert run_script(text) == text


def test_the_scripts_are_there() -> None:
    assert len(SCRIPTS) >= 35


def test_a_wrong_trace_is_told_and_rewritten_on_demand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "one.txt"
    path.write_text("# A comment.\nnodes 1\n----\nwrong\n\ncampaign 1\nstatus\n----\n")

    assert main([str(path)]) == 1
    assert main(["--rewrite", str(path)]) == 0
    assert main([str(path)]) == 0

    assert "differs" in capsys.readouterr().out
    assert path.read_text().splitlines()[3] == "voters=(1)"
    assert "1: leader, term 1" in path.read_text()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("explode", "unknown command"),
        ("campaign 9", "unknown node"),
        ("deliver 1", "no link"),
        ("change 1 x2", "no change"),
        ("message Nonsense 1->2", "no message"),
        ("message VoteRequest 1->2 colour=3", "no field"),
    ],
)
def test_a_line_that_is_none_is_refused_by_name(line: str, reason: str) -> None:
    with pytest.raises(ScriptError, match=reason):
        run_script(f"nodes 1 2\ncampaign 1\nsilently stabilize\n----\n\n{line}\n----\n")


def test_commands_without_an_end_are_refused() -> None:
    with pytest.raises(ScriptError, match="without ----"):
        run_script("nodes 1\n")
