"""The synchronous owner, driven without a clock, a task or a socket."""

from __future__ import annotations

import pytest

from replog.errors import DiskFull, NotLeader, OutcomeUnknown
from replog.node.effects import Persist, Reply, Send, TakeSnapshot
from replog.node.snapshots import RETRY_TICKS
from replog.raft.messages import AppendEntries, AppendEntriesReply
from replog.statemachine import CommandError
from tests.unit.node.harness import LocalCluster


def test_an_acknowledged_command_is_applied_on_every_node() -> None:
    cluster = LocalCluster()
    leader = cluster.elect()

    tickets = cluster.propose("n1", b"a", b"b", b"c")
    cluster.tick()

    assert [leader.answers[ticket] for ticket in tickets] == [b"2:a", b"3:b", b"4:c"]
    assert [node.machine.commands for node in cluster.nodes.values()] == [[b"a", b"b", b"c"]] * 3


def test_commands_of_one_turn_are_written_once_and_sent_before_the_leaders_own_sync() -> None:
    cluster = LocalCluster()
    leader = cluster.elect()
    leader.effects.clear()

    leader.inputs.payloads += [b"a", b"b", b"c"]
    leader.inputs.tickets += [1, 2, 3]
    leader.turn()

    kinds = [type(effect) for effect in leader.effects]
    assert kinds.count(Persist) == 1
    assert kinds.index(Send) < kinds.index(Persist)
    send = leader.effects[kinds.index(Send)]
    assert isinstance(send, Send)
    appends = [message for message in send.messages if isinstance(message, AppendEntries)]
    assert len(appends) == 2
    assert appends[0].frames is appends[1].frames


def test_nothing_is_acknowledged_before_a_majority_has_it() -> None:
    cluster = LocalCluster()
    leader = cluster.elect()
    cluster.passes = lambda message: not isinstance(message, AppendEntriesReply)

    (ticket,) = cluster.propose("n1", b"a")

    assert ticket not in leader.answers
    assert leader.machine.commands == []


def test_a_followers_acknowledgement_leaves_behind_its_persist() -> None:
    cluster = LocalCluster()
    cluster.elect()
    follower = cluster["n2"]
    follower.effects.clear()

    cluster.propose("n1", b"a")

    kinds = [type(effect) for effect in follower.effects]
    acknowledgements = [
        position
        for position, effect in enumerate(follower.effects)
        if isinstance(effect, Send) and any(isinstance(message, AppendEntriesReply) and message.match_index for message in effect.messages)
    ]
    assert kinds.index(Persist) < acknowledgements[0]


def test_a_group_gets_its_results_together_and_in_order() -> None:
    cluster = LocalCluster()
    leader = cluster.elect()
    first = leader.replica.core.last_index + 1

    leader.inputs.groups.append(([b"x", b"y"], "group"))
    cluster.stabilize()

    assert leader.answers["group"] == [b"%d:x" % first, b"%d:y" % (first + 1)]


def test_a_command_that_raises_has_the_same_error_everywhere_and_the_log_goes_on() -> None:
    cluster = LocalCluster()
    leader = cluster.elect()

    bad, good = cluster.propose("n1", b"fail", b"next")
    cluster.tick()

    error = leader.answers[bad]
    assert isinstance(error, CommandError)
    assert (error.kind, error.message) == ("ValueError", "told to fail")
    assert isinstance(leader.answers[good], bytes)
    assert all(node.machine.commands == [b"next"] for node in cluster.nodes.values())


def test_a_follower_refuses_and_names_the_leader() -> None:
    cluster = LocalCluster()
    cluster.elect()

    (ticket,) = cluster.propose("n2", b"a")

    error = cluster["n2"].failures[ticket]
    assert isinstance(error, NotLeader)
    assert (error.leader, error.address) == ("n1", "127.0.0.1:7000")


def test_what_was_pending_when_leadership_was_lost_has_an_unknown_outcome() -> None:
    cluster = LocalCluster()
    leader = cluster.elect()
    cluster.passes = lambda message: "n1" not in (message.source, message.target)
    (ticket,) = cluster.propose("n1", b"a")

    cluster.tick(40)

    assert isinstance(leader.failures[ticket], OutcomeUnknown)
    assert not leader.replica.core.is_leader


def test_a_read_is_released_at_an_index_that_is_applied() -> None:
    cluster = LocalCluster()
    leader = cluster.elect()
    cluster.propose("n1", b"a")
    committed = leader.replica.core.committed_index

    for name in ("n1", "n2"):
        cluster[name].inputs.reads.append("read")
    cluster.stabilize()
    cluster.tick()

    for name in ("n1", "n2"):
        index = cluster[name].answers["read"]
        assert isinstance(index, int)
        assert committed <= index <= cluster[name].replica.applied_index


def test_all_nodes_at_once_may_be_killed_and_nothing_acknowledged_is_missing() -> None:
    cluster = LocalCluster()
    cluster.elect()
    cluster.propose("n1", b"a", b"b")

    for node in cluster.nodes.values():
        node.start()
    cluster.elect()
    cluster.tick()

    assert all(node.machine.commands == [b"a", b"b"] for node in cluster.nodes.values())


def test_the_log_is_compacted_behind_a_snapshot_and_a_far_follower_gets_it() -> None:
    cluster = LocalCluster(
        snapshot_entries=20, log_tail_entries=5, snapshot_chunk_bytes=64, snapshot_chunks_in_flight=2, segment_bytes_max=4096
    )
    leader = cluster.elect()
    cluster.passes = lambda message: "n3" not in (message.source, message.target)
    commands = [b"command-%d" % number for number in range(100)]
    for start in range(0, 100, 10):
        cluster.propose("n1", *commands[start : start + 10])
    assert leader.replica.snapshot_meta is not None
    assert leader.replica.core.first_index > 50

    cluster.passes = lambda _: True
    leader.inputs.peers_lost.append("n3")
    cluster.tick(100)

    assert cluster["n3"].machine.commands == commands
    assert cluster["n3"].replica.snapshot_meta is not None
    cluster["n3"].start()
    cluster.tick(30)
    assert cluster["n3"].machine.commands == commands


def test_a_snapshot_that_fails_is_tried_again_after_a_pause_and_not_with_each_turn() -> None:
    cluster = LocalCluster(size=1, snapshot_entries=20)
    node = cluster.elect()
    node.snapshot_error = DiskFull("no space left")
    for number in range(50):
        cluster.propose("n1", b"command-%d" % number)

    def attempts() -> int:
        return sum(isinstance(effect, TakeSnapshot) for effect in node.effects)

    assert attempts() == 1
    node.now_ticks += RETRY_TICKS
    cluster.propose("n1", b"after the pause")
    assert attempts() == 2

    node.snapshot_error = None
    node.now_ticks += RETRY_TICKS
    cluster.propose("n1", b"with room again")
    assert node.replica.snapshot_meta is not None


def test_a_snapshot_goes_on_where_the_connection_broke() -> None:
    cluster = LocalCluster(
        snapshot_entries=20, log_tail_entries=5, snapshot_chunk_bytes=64, snapshot_chunks_in_flight=2, segment_bytes_max=4096
    )
    leader = cluster.elect()
    cluster.passes = lambda message: "n3" not in (message.source, message.target)
    commands = [b"command-%03d" % number for number in range(60)]
    for start in range(0, 60, 10):
        cluster.propose("n1", *commands[start : start + 10])
    offsets: list[int] = []
    budget = [5]

    def passes(message: object) -> bool:
        if type(message).__name__ == "SnapshotChunk":
            offsets.append(message.offset)  # type: ignore[attr-defined]
            budget[0] -= 1
            return budget[0] >= 0
        return True

    cluster.passes = passes
    cluster.tick(60)
    assert cluster["n3"].machine.commands == []
    sent_before_break = max(offset for offset in offsets)
    offsets.clear()
    budget[0] = 1000
    leader.inputs.peers_lost.append("n3")
    cluster.tick(60)

    assert cluster["n3"].machine.commands == commands
    assert 0 < min(offsets) <= sent_before_break


def test_replies_come_in_log_order() -> None:
    cluster = LocalCluster()
    leader = cluster.elect()
    leader.effects.clear()

    cluster.propose("n1", *[b"%d" % number for number in range(50)])

    replied = [ticket for effect in leader.effects if isinstance(effect, Reply) for ticket in effect.tickets]
    assert replied == sorted(replied, key=lambda ticket: int(ticket.rsplit("-", 1)[1]))
    assert len(replied) == 50


@pytest.mark.parametrize("size", [1, 2, 5, 7])
def test_clusters_of_other_sizes_commit(size: int) -> None:
    cluster = LocalCluster(size)
    leader = cluster.elect()

    (ticket,) = cluster.propose("n1", b"a")
    cluster.tick()

    assert ticket in leader.answers
    assert all(node.machine.commands == [b"a"] for node in cluster.nodes.values())
