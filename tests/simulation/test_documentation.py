"""docs/testing.md says what the code says: its tables of properties, mutants, profiles and regressions are those of the code."""

from __future__ import annotations

from pathlib import Path

from replog.testing.faults import ALL_PROFILES
from replog.testing.mutants import ALL
from replog.testing.properties import SAFETY

TEXT = (Path(__file__).parents[2] / "docs" / "testing.md").read_text(encoding="utf-8")


def test_every_property_stands_in_the_table_with_its_source() -> None:
    rows = [f"| {one.name} | {one.title} | {one.source} |" for one in SAFETY]

    missing = [row for row in rows if row not in TEXT]
    assert not missing, "\n".join(rows)


def test_every_mutant_stands_in_the_table_with_what_finds_it() -> None:
    rows = []
    for mutant in ALL:
        kill = mutant.kills[0]
        how = kill.describe().replace("--profile ", "").replace("--seed ", "").replace(" --storm-seconds 3", "")
        rows.append(f"| {mutant.name} | {mutant.breaks} | {how} | {', '.join(kill.breaks)} |")

    missing = [row for row in rows if row not in TEXT]
    assert not missing, "\n".join(rows)
    assert f"{len(ALL)} mutants" in TEXT


def test_every_profile_is_told() -> None:
    assert all(f"`{profile}`" in TEXT for profile in ALL_PROFILES)
