"""Seeded schedules over whole clusters of cores: what must hold at every step (S1, S3 to S9, S11, S12), and progress once the faults end (L1)."""

from __future__ import annotations

from typing import Any

import pytest

from replog.testing.schedule import Schedule

KINDS: dict[str, dict[str, Any]] = {
    "three nodes": {"nodes": 3},
    "five nodes": {"nodes": 5},
    "without pre-vote": {"nodes": 3, "pre_vote": False},
    "without check-quorum": {"nodes": 3, "check_quorum": False},
    "neither": {"nodes": 3, "pre_vote": False, "check_quorum": False},
    "membership changes": {"nodes": 3, "changes": True},
    "changes and promotion": {"nodes": 3, "changes": True, "auto_promote": True},
    "one node": {"nodes": 1},
    "a minority loses tails": {"nodes": 3, "losses": True},
    "two of five lose tails": {"nodes": 5, "losses": True},
    "losses without pre-vote": {"nodes": 3, "losses": True, "pre_vote": False},
    "commits announced with ticks": {"nodes": 3, "announce_commit_at_once": False},
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", KINDS)
def test_no_schedule_breaks_a_rule_and_every_one_ends_in_progress(kind: str, seed: int) -> None:
    schedule = Schedule(seed, **KINDS[kind])

    schedule.run(400)
    schedule.settle()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_schedules(kind: str) -> None:
    counts: dict[str, int] = {}
    for seed in range(100, 120):
        schedule = Schedule(seed, **KINDS[kind])
        try:
            schedule.run(1200)
            schedule.settle()
        except AssertionError as error:
            raise AssertionError(f"{kind}, seed {seed}, step {schedule.step}: {error}") from error
        for what, count in schedule.counts.items():
            counts[what] = counts.get(what, 0) + count

    # A run that met nothing is no evidence.
    wanted = {"RoleChanged", "restart", "compaction", "read"}
    if KINDS[kind]["nodes"] > 1:
        wanted |= {"ConflictTruncated", "ProgressChanged", "Busy", "NotLeader", "SnapshotInstalled"}
    if KINDS[kind].get("losses"):
        wanted |= {"tail lost", "torn"}
    if KINDS[kind].get("changes"):
        wanted |= {"change", "MembershipCommitted", "RemovedFromMembership"}
    assert wanted <= set(counts), counts


def test_a_seed_gives_the_same_run_again() -> None:
    def trace() -> list[str]:
        schedule = Schedule(7, nodes=3, changes=True)
        schedule.run(300)
        return [str(node.core.status()) for node in schedule.cluster.nodes.values()]

    assert trace() == trace()
