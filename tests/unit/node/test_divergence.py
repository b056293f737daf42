"""Digests of applied state, compared between nodes."""

from __future__ import annotations

import zlib

from replog.errors import NotLeader, Unavailable
from replog.node.divergence import WINDOWS_KEPT, StateDigests, Verdict
from replog.node.effects import Observe
from replog.raft.events import StateDiverged
from replog.raft.messages import SnapshotFetch
from replog.statemachine import CommandError
from replog.types import Entry
from tests.unit.node.harness import LocalCluster, LocalNode, Register

VOTERS = ("a", "b", "c")


def digests(node: str = "a", applied_index: int = 0) -> StateDigests:
    return StateDigests(node, applied_index, window_entries=4)


def digest_of(results: list[list[bytes | CommandError]], state: bytes = b"") -> bytes | None:
    one = digests()
    for batch in results:
        one.add(batch)
    return one.close_window(4, state)


def test_the_digest_does_not_depend_on_how_the_window_was_batched() -> None:
    whole = digest_of([[b"1", b"2", b"3", b"4"]])

    assert whole is not None
    assert digest_of([[b"1"], [b"2", b"3"], [b"4"]]) == whole
    assert digest_of([[b"1", b"2", b"3", b"5"]]) != whole
    assert digest_of([[b"1", b"2", b"3", b"4"]], b"state") != whole


def test_an_error_is_a_result_like_any_other() -> None:
    error = CommandError("ValueError", "no")

    assert digest_of([[b"1", error, b"3", b"4"]]) == digest_of([[b"1"], [error], [b"3", b"4"]])
    assert digest_of([[b"1", error, b"3", b"4"]]) != digest_of([[b"1", CommandError("ValueError", "yes"), b"3", b"4"]])


def test_a_window_seen_in_part_has_no_digest_and_the_next_one_has() -> None:
    late = digests(applied_index=2)
    late.add([b"3", b"4"])

    assert late.room(3) == 2
    assert late.close_window(4, b"") is None
    late.add([b"5", b"6", b"7", b"8"])
    assert late.close_window(8, b"") == digest_of([[b"5", b"6", b"7", b"8"]])


def test_who_differs_from_a_majority_of_the_voters_is_wrong() -> None:
    one = digests()
    one.add([b"1", b"2", b"3", b"4"])
    mine = one.close_window(4, b"")
    assert mine is not None
    assert one.judge(4, VOTERS) == Verdict(index=4)

    one.hear("b", 4, b"other")
    assert one.judge(4, VOTERS) == Verdict(index=4)
    one.hear("c", 4, mine)
    assert one.judge(4, VOTERS) == Verdict(index=4, right=("a", "c"), wrong=("b",))


def test_a_node_finds_that_it_is_itself_the_one() -> None:
    one = digests()
    one.add([b"1", b"2", b"3", b"4"])
    one.close_window(4, b"")
    for node in ("b", "c"):
        one.hear(node, 4, b"theirs")

    assert one.judge(4, VOTERS) == Verdict(index=4, right=("b", "c"), wrong=("a",))


def test_a_learner_has_no_say_in_what_is_right() -> None:
    one = digests()
    one.add([b"1", b"2", b"3", b"4"])
    one.close_window(4, b"")
    one.hear("b", 4, b"theirs")
    one.hear("l1", 4, b"theirs")

    assert one.judge(4, ("a", "b")) == Verdict(index=4, wrong=("a", "b", "l1"))


def test_where_nobody_has_a_majority_it_is_told_once_and_nobody_is_right() -> None:
    one = digests()
    one.add([b"1", b"2", b"3", b"4"])
    one.close_window(4, b"")
    one.hear("b", 4, b"second")
    one.hear("c", 4, b"third")

    assert one.judge(4, VOTERS) == Verdict(index=4, wrong=("a", "b", "c"))
    assert one.judge(4, VOTERS) == Verdict(index=4)


def test_what_is_kept_is_bounded() -> None:
    one = digests()
    for window in range(1, 100):
        one.hear("b", window * 4, b"x")
    one.hear("b", 3, b"not the end of a window")
    one.hear("stranger", 400, b"x")

    one.keep_only(VOTERS)

    assert one.judge(4 * (99 - WINDOWS_KEPT), VOTERS) == Verdict(index=4 * (99 - WINDOWS_KEPT))
    assert sorted(one._known) == ["a", "b"]
    assert len(one._known["b"]) == WINDOWS_KEPT


class Forgetful(Register):
    """Loses every command that it is told to lose: a state machine with bad memory."""

    loses: frozenset[bytes] = frozenset()

    def apply(self, entry: Entry) -> bytes:
        if entry.payload in self.loses:
            return b"%d:" % entry.index + entry.payload
        return super().apply(entry)

    def state_digest(self) -> bytes:
        return zlib.crc32(b"\n".join(self.commands)).to_bytes(4, "little")


def forgetful_cluster(loser: str) -> LocalCluster:
    cluster = LocalCluster(digest_entries=8, snapshot_entries=1000, machine=Forgetful)
    machine = cluster[loser].machine
    assert isinstance(machine, Forgetful)
    machine.loses = frozenset({b"c5"})
    return cluster


def serves(node: LocalNode) -> bool:
    return node.replica.healing.wrong_since is None


def states(cluster: LocalCluster) -> list[list[bytes]]:
    return [node.machine.commands for node in cluster.nodes.values()]


def test_a_follower_that_forgot_a_command_stops_serving_and_takes_a_right_state() -> None:
    cluster = forgetful_cluster("n3")
    cluster.elect()
    commands = [b"c%d" % number for number in range(8)]
    cluster.passes = lambda message: not isinstance(message, SnapshotFetch)
    for command in commands:
        cluster.propose("n1", command)
    cluster.tick(2)
    loser = cluster["n3"]
    assert not serves(loser)
    assert isinstance(loser.replica.refusal(), Unavailable)
    loser.inputs.reads.append("read")
    cluster.stabilize()
    assert isinstance(loser.failures["read"], Unavailable)
    cluster.passes = lambda _: True
    cluster.tick(60)

    assert serves(loser)
    assert states(cluster) == [commands] * 3
    cluster.propose("n1", *[b"d%d" % number for number in range(20)])
    cluster.tick(2)
    assert states(cluster)[0] == states(cluster)[2]
    assert serves(loser)
    assert loser.replica.healing.healed == 1
    loser.start()
    cluster.tick(5)
    assert states(cluster)[0] == states(cluster)[2]


def test_a_leader_that_forgot_a_command_leads_no_more() -> None:
    cluster = forgetful_cluster("n1")
    cluster.elect()
    commands = [b"c%d" % number for number in range(8)]
    for command in commands:
        cluster.propose("n1", command)
    cluster.tick(2)

    (ticket,) = cluster.propose("n1", b"too late")
    cluster.tick(100)

    assert isinstance(cluster["n1"].failures[ticket], Unavailable | NotLeader)
    assert not cluster["n1"].replica.core.is_leader
    assert states(cluster) == [commands] * 3


def test_two_nodes_that_differ_cannot_tell_who_is_right_and_both_go_on() -> None:
    cluster = LocalCluster(2, digest_entries=8, machine=Forgetful)
    machine = cluster["n2"].machine
    assert isinstance(machine, Forgetful)
    machine.loses = frozenset({b"c5"})
    cluster.elect()

    for number in range(8):
        cluster.propose("n1", b"c%d" % number)
    cluster.tick(2)

    assert [node.replica.healing.wrong_since for node in cluster.nodes.values()] == [None, None]
    told = [
        event
        for node in cluster.nodes.values()
        for effect in node.effects
        if isinstance(effect, Observe)
        for event in effect.events
        if isinstance(event, StateDiverged)
    ]
    assert {(event.index, event.right, event.wrong) for event in told} == {(8, (), ("n1", "n2"))}
