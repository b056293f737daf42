"""The comparison tells medians, spread and ratios of what was measured, draws all of it, and says what is missing."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from cluster.bench_compare import Comparison, compare, machine, report
from cluster.bench_picture import apart, picture


def a_row(system: str, in_flight: int, rate: float, *, durable: bool = True, p99: float = 2.0, batch: int = 1) -> dict[str, object]:
    return {
        "system": system, "in_flight": in_flight, "ops_per_second": rate, "durable": durable, "p50_ms": 1.0, "p99_ms": p99, "batch": batch
    }  # fmt: skip


@pytest.fixture
def found() -> Comparison:
    made = Comparison()
    for rate in (900, 1000, 3000):
        made.add(a_row("replog (embedded, counter)", 1, rate))
    made.add(a_row("replog (embedded, counter)", 1024, 90_000, p99=9.0))
    made.add(a_row("replog (embedded, counter)", 64, 500_000, batch=100))
    for width, rate in ((1, 500), (1024, 30_000), (4096, 50_000)):
        made.add(a_row("some/raft", width, rate))
        made.add(a_row("loose", width, 10 * rate, durable=False))
    return made


def test_the_page_has_medians_spread_and_ratios_to_the_best_durable_peer(found: Comparison) -> None:
    page = report(found, {"kernel": "K"})

    assert "- kernel: K" in page
    assert "| replog (embedded, counter) | 1 | 1,000 | 900 - 3,000 | 1.00 | 2.00 | 2.00 |" in page
    assert "| loose (not durable) | 1 |" in page
    assert "failures: none" in page


def test_targets_are_judged_by_what_was_found(found: Comparison) -> None:
    page = report(found, {})

    assert "| embedded, counter, 1 in flight, times the best durable peer | 2.00 | 1.1 | yes |" in page
    assert "| embedded, counter, 1,024 in flight, times the best durable peer | 3.00 | 3.5 | NO |" in page
    assert "| embedded, counter, batches of 100, 64 in flight, times the best durable peer at 4,096 | 10.00 | 5 | yes |" in page
    assert "| p99 at 1,024 in flight, ms | 9.0 | at most 2.0 | NO |" in page


def test_the_picture_is_well_formed_and_names_every_system_with_more_than_one_point(found: Comparison) -> None:
    drawn = picture(found, "a < b & c")

    text = " ".join(ElementTree.fromstring(drawn).itertext())
    assert "a < b & c" in text
    assert "replog (embedded, counter)" in text
    assert "loose, not durable" in text
    assert "x 100" not in text


def test_names_are_moved_apart_in_their_order() -> None:
    assert apart([10.0, 30.0, 11.0], 15.0) == [10.0, 40.0, 25.0]


async def test_a_script_that_is_not_there_or_talks_rubbish_is_told(tmp_path: Path) -> None:
    script = tmp_path / "peers.py"
    script.write_text("import sys; print('rubbish'); print('no luck', file=sys.stderr); sys.exit(3)")

    absent = await compare(rounds=1, seconds=0.1, peers=tmp_path / "none.py", say=lambda _: None, series=())
    broken = await compare(rounds=1, seconds=0.1, peers=script, say=lambda _: None, series=())

    assert "measured alone" in absent.notes[0]
    assert any("rubbish" in failure for failure in broken.failures)
    assert any("no luck" in failure for failure in broken.failures)
    assert "failures: none" not in report(broken, {})


async def test_the_peers_are_given_a_second_at_least(tmp_path: Path) -> None:
    script = tmp_path / "peers.py"
    script.write_text("import sys; print(*sys.argv)")

    short = await compare(rounds=1, seconds=0.2, peers=script, say=lambda _: None, series=())
    long = await compare(rounds=1, seconds=2.5, peers=script, say=lambda _: None, series=())

    assert all("--seconds 1 " in failure for failure in short.failures)
    assert all("--seconds 2.5 " in failure for failure in long.failures)


def test_the_machine_is_described(tmp_path: Path) -> None:
    told = machine(str(tmp_path))

    assert {"processor", "kernel", "disk", "Python", "data sync"} <= set(told)
    assert all(told[name] for name in ("processor", "kernel", "disk", "Python"))
