"""Short, dense schedules over nodes that lose acknowledged entries: partitions, campaigns, proposals, and losses on a fixed minority of the disks.

What was committed must be in every later leader's log (S4), there is one leader a term (S1), and in the end everybody has everything (L1). The rules of
`replog.raft.candidate` that matter are broken one at a time, to see that these schedules would notice.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from replog.errors import ReplogError
from replog.raft import CoreConfig, candidate
from replog.raft.messages import PreVoteRequest, VoteRequest
from replog.raft.state import State
from replog.testing.cores import CoreCluster, members
from tests.unit.raft.support import CONFIG, TIMEOUT, stabilize

STEPS = 40


class LossySchedule:
    """Whole exchanges as steps: what a random schedule of single messages needs thousands of steps for."""

    def __init__(self, seed: int, size: int) -> None:
        self.random = Random(seed)
        self.cluster = CoreCluster()
        self.names = [str(number) for number in range(1, size + 1)]
        for name in self.names:
            config = CoreConfig(node_id=name, **{**CONFIG, "check_quorum": False, "pre_vote": self.random.random() < 0.3})
            self.cluster.add(config, members(self.names), lambda: self.random.randint(TIMEOUT, 2 * TIMEOUT))
        self.lossy = self.random.sample(self.names, (size - 1) // 2)
        self.number = 0
        self.lost = 0

    def run(self) -> None:
        steps: list[Callable[[], None]] = [
            self.part,
            self.campaign,
            self.campaign,
            self.propose,
            self.propose,
            self.lose,
            self.tear,
            self.down,
        ]
        for _ in range(STEPS):
            self.random.choice(steps)()
            stabilize(self.cluster)

    def part(self) -> None:
        """Those who can talk to each other from now on: anybody, at random halves."""
        self.cluster.cut.clear()
        side = {name for name in self.names if self.random.random() < 0.6}
        self.cluster.cut |= {(a, b) for a in self.names for b in self.names if (a in side) != (b in side)}
        for node in self.cluster.nodes.values():
            if not node.alive and self.random.random() < 0.5:
                node.restart()

    def campaign(self) -> None:
        node = self.cluster.nodes[self.random.choice(self.names)]
        if node.alive:
            if self.random.random() < 0.3:
                node.core.step_down()
            node.core.campaign(force=self.random.random() < 0.7)

    def propose(self) -> None:
        for node in self.cluster.nodes.values():
            if node.alive and node.core.is_leader:
                self.number += 1
                try:
                    node.propose([f"{self.number}.{position}" for position in range(self.random.randint(1, 3))])
                except ReplogError:
                    continue

    def lose(self) -> None:
        """The recovery of a lossy node cuts entries that it had acknowledged."""
        node = self.cluster.nodes[self.random.choice(self.lossy)]
        count = self.random.randint(0, len(node.disk.entries))
        node.disk.maybe_promised = max(node.disk.maybe_promised, node.disk.last_index)
        del node.disk.entries[len(node.disk.entries) - count :]
        self.lost += count
        self.restart(node.node_id)

    def tear(self) -> None:
        """Any node's recovery cuts a batch that it had not acknowledged, and cannot tell."""
        node = self.cluster.nodes[self.random.choice(self.names)]
        node.disk.maybe_promised = max(node.disk.maybe_promised, node.disk.last_index + self.random.randint(1, 3))
        self.restart(node.node_id)

    def down(self) -> None:
        self.cluster.nodes[self.random.choice(self.names)].crash()

    def restart(self, name: str) -> None:
        self.cluster.nodes[name].restart()
        for node in self.cluster.nodes.values():
            if node.alive:
                node.core.peer_lost(name)

    def settle(self) -> None:
        """Everybody is there: a leader, and its log everywhere."""
        self.cluster.cut.clear()
        for node in self.cluster.nodes.values():
            if not node.alive:
                self.restart(node.node_id)
        for _ in range(80 * TIMEOUT):
            for node in self.cluster.nodes.values():
                node.core.tick()
            stabilize(self.cluster)
            indexes = {node.core.applied_index for node in self.cluster.nodes.values()}
            if any(node.core.is_leader for node in self.cluster.nodes.values()) and len(indexes) == 1:
                return
        raise AssertionError(f"L1: {[node.core.status() for node in self.cluster.nodes.values()]}")


def by_index_alone(state: State, message: VoteRequest | PreVoteRequest, *, may_vote: bool) -> tuple[bool, bool]:
    """A longer log of an older term passes for one that has what was promised."""
    fits = may_vote and state.log.is_up_to_date(message.last_index, message.last_term)
    lacks = message.last_index < state.promised[1]
    return fits and not lacks, fits and lacks


def without_promises(state: State, message: VoteRequest | PreVoteRequest, *, may_vote: bool) -> tuple[bool, bool]:
    return may_vote and state.log.is_up_to_date(message.last_index, message.last_term), False


def conditional_counts_as_full(state: State, message: VoteRequest | PreVoteRequest, *, may_vote: bool) -> tuple[bool, bool]:
    """A majority with conditional votes in it elects."""
    granted, conditional = HONEST(state, message, may_vote=may_vote)
    return granted or conditional, False


HONEST = candidate.judge


@pytest.mark.parametrize("size", [3, 4, 5])
@pytest.mark.parametrize("seed", range(25))
def test_no_committed_entry_is_lost_with_a_minority_of_the_disks(size: int, seed: int) -> None:
    schedule = LossySchedule(1000 * size + seed, size)

    schedule.run()
    schedule.settle()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("judge", "seeds"),
    [(by_index_alone, range(1590, 1740)), (without_promises, range(150)), (conditional_counts_as_full, range(150))],
    ids=["by index alone", "without promises", "conditional counts as full"],
)
def test_a_weaker_rule_is_noticed(judge: Any, seeds: range, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidate, "judge", judge)

    def loses(seed: int) -> bool:
        schedule = LossySchedule(seed, 3)
        try:
            schedule.run()
            schedule.settle()
        except AssertionError as error:
            return str(error).startswith(("S1", "S3", "S4", "S5"))
        return False

    assert any(loses(seed) for seed in seeds)
