"""`replog wal bench`: every row is measured, judged and printed; nothing is left behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from replog.cli.wal_bench import ROWS, Figure, Row, print_figures
from tests.unit.cli.conftest import Replog


@pytest.mark.slow
def test_every_row_is_measured_and_nothing_is_left_behind(replog: Replog, tmp_path: Path) -> None:
    told = replog("wal", "bench", "--directory", tmp_path, "--rounds", 1, "--open-mib", 4, "--json")

    rows = [json.loads(line) for line in told.out.splitlines()]
    assert told.code == 0
    assert [row["work"] for row in rows] == [row.name for row in ROWS]
    assert all(row["value"] > 0 for row in rows if row["work"] != "memory while reading")
    assert all((row["met"] is None) == (row["target"] is None) for row in rows)
    assert all(row["ratio"] > 0 for row in rows if row["ratio_to"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("row", "value", "ratio", "met", "target"),
    [
        (Row("a", "us", "b", ratio_max=1.8), 1.0, 1.8, True, "<= 1.8 x"),
        (Row("a", "us", "b", ratio_max=1.8), 1.0, 1.81, False, "<= 1.8 x"),
        (Row("a", "MB/s", "b", ratio_min=0.6), 1.0, 0.59, False, ">= 0.6 x"),
        (Row("a", "/s", value_min=200_000), 200_000.0, None, True, ">= 200,000"),
        (Row("a", "MiB", value_max=16), 17.0, None, False, "<= 16"),
        (Row("a", "us", "b"), 1.0, 7.0, None, ""),
    ],
)
def test_a_target_is_met_or_missed(row: Row, value: float, ratio: float | None, met: bool | None, target: str) -> None:
    figure = Figure(row, value, ratio)

    assert (figure.met, figure.target) == (met, target)


def test_the_table_fits_80_columns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")

    print_figures([Figure(row, 123_456.0, 23.45) for row in ROWS], 5, "/data")

    lines = capsys.readouterr().out.splitlines()
    assert all(row.name in "\n".join(lines) for row in ROWS)
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines)
