"""A follower sends its snapshot in the leader's stead: when all goes well, and when it refuses, stalls, dies or is cut off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from replog.config import ClusterConfig, NodeConfig
from replog.node.snapshot_delegation import LEASE_TICKS, RENEW_TICKS, SILENCE_TICKS
from replog.node.snapshot_streams import SnapshotStreams
from replog.raft.messages import InstallSnapshot, Message, SnapshotChunk, SnapshotChunkReply, SnapshotFetch, SnapshotFetchReply
from replog.statemachine import BytesSnapshot
from replog.storage.memory import MemoryDisk, MemoryStorage
from replog.types import Membership, SnapshotMeta
from tests.unit.node.harness import LocalCluster

SETTINGS: dict[str, Any] = {
    "snapshot_entries": 20,
    "log_tail_entries": 5,
    "snapshot_chunk_bytes": 64,
    "snapshot_chunks_in_flight": 2,
    "segment_bytes_max": 4096,
}
COMMANDS = [b"command-%03d" % number for number in range(100)]


class Wire:
    """Counts the chunks by who sent them, and drops what a test wants dropped."""

    def __init__(self) -> None:
        self.chunks: Counter[str] = Counter()
        self.replies: list[SnapshotFetchReply] = []
        self.fetches: list[SnapshotFetch] = []
        self.drops: Callable[[Any], bool] = lambda _: False

    def passes(self, message: Message) -> bool:
        if isinstance(message, SnapshotChunk):
            self.chunks[message.source] += 1
        elif isinstance(message, SnapshotFetchReply):
            self.replies.append(message)
        elif isinstance(message, SnapshotFetch):
            self.fetches.append(message)
        return not self.drops(message)


def with_a_far_follower(**settings: Any) -> tuple[LocalCluster, Wire]:
    """n1 leads, n2 is in step, n3 needs a snapshot and is reachable again."""
    cluster = LocalCluster(**{**SETTINGS, **settings})
    leader = cluster.elect()
    cluster.passes = lambda message: "n3" not in (message.source, message.target)
    for start in range(0, 100, 10):
        cluster.propose("n1", *COMMANDS[start : start + 10])
    assert leader.replica.core.first_index > 50
    wire = Wire()
    cluster.passes = wire.passes
    leader.inputs.peers_lost.append("n3")
    return cluster, wire


def test_the_follower_sends_all_of_it_and_the_receiver_follows_the_leader() -> None:
    cluster, wire = with_a_far_follower()

    cluster.tick(20)

    assert cluster["n3"].machine.commands == COMMANDS
    assert set(wire.chunks) == {"n2"}
    assert cluster["n3"].replica.core.leader == "n1", "the sender is not taken for the leader"
    assert wire.replies[0].source == "n2"
    assert wire.replies[-1].done
    peer = next(peer for peer in cluster["n1"].replica.core.status().peers if peer.node == "n3")
    assert (peer.state, peer.match_index) == ("replicate", cluster["n1"].replica.core.last_index)


def test_without_the_setting_the_leader_sends() -> None:
    cluster, wire = with_a_far_follower(snapshot_from_follower=False)

    cluster.tick(20)

    assert cluster["n3"].machine.commands == COMMANDS
    assert set(wire.chunks) == {"n1"}
    assert wire.fetches == []


def test_a_follower_that_has_nothing_new_enough_refuses_and_the_leader_sends_at_once() -> None:
    cluster = LocalCluster(**SETTINGS)
    cluster["n2"].config = NodeConfig(node_id="n2", data_dir="memory")  # takes no snapshots
    cluster["n2"].start()
    leader = cluster.elect()
    cluster.passes = lambda message: "n3" not in (message.source, message.target)
    for start in range(0, 100, 10):
        cluster.propose("n1", *COMMANDS[start : start + 10])
    wire = Wire()
    cluster.passes = wire.passes
    leader.inputs.peers_lost.append("n3")

    cluster.tick(20)

    assert cluster["n3"].machine.commands == COMMANDS
    assert wire.chunks["n1"] > 0
    assert wire.chunks["n2"] == 0
    assert "the newest snapshot here ends at 0" in wire.replies[0].refused
    assert leader.replica.snapshots.delegations.fallen_back == 1


@pytest.mark.parametrize("fault", ["dies", "is cut off from the receiver", "is cut off from the leader"])
def test_a_follower_that_gets_nowhere_is_replaced_by_the_leader(fault: str) -> None:
    cluster, wire = with_a_far_follower()
    budget = [3]

    def drops(message: Any) -> bool:
        if isinstance(message, SnapshotChunk) and message.source == "n2":
            budget[0] -= 1
        if budget[0] > 0:
            return False
        pair = {message.source, message.target}
        if fault == "dies":
            return "n2" in pair
        return pair == ({"n2", "n3"} if fault == "is cut off from the receiver" else {"n1", "n2"})

    wire.drops = drops

    cluster.tick(SILENCE_TICKS + 150)

    assert cluster["n3"].machine.commands[: len(COMMANDS)] == COMMANDS
    assert wire.chunks["n1"] > 0
    assert cluster["n1"].replica.snapshots.delegations.fallen_back == 1


def test_a_follower_that_is_not_asked_any_more_stops() -> None:
    cluster, wire = with_a_far_follower()
    wire.drops = lambda message: isinstance(message, SnapshotChunkReply) or (isinstance(message, SnapshotFetch) and len(wire.fetches) > 1)
    cluster.tick(LEASE_TICKS - 20)
    assert cluster["n2"].replica.snapshots.streams._sending, "it waits for answers"

    cluster.tick(40)

    assert not cluster["n2"].replica.snapshots.streams._sending


def test_the_leader_asks_again_all_the_while() -> None:
    cluster, wire = with_a_far_follower()
    wire.drops = lambda message: isinstance(message, SnapshotChunkReply)

    cluster.tick(4 * RENEW_TICKS)

    assert 3 <= len(wire.fetches) <= 5


def test_the_log_is_kept_from_where_the_followers_snapshot_ends() -> None:
    cluster, wire = with_a_far_follower()
    held = [True]
    wire.drops = lambda message: held[0] and isinstance(message, SnapshotChunkReply)
    cluster.tick(5)
    (delegated_from,) = [one.from_index for one in cluster["n1"].replica.snapshots.delegations._delegated.values()]

    for start in range(0, 200, 20):
        cluster.propose("n1", *[b"more-%d" % number for number in range(start, start + 20)])
    assert cluster["n1"].replica.core.first_index <= delegated_from + 1, "new snapshots were taken, the log was not purged"
    held[0] = False
    cluster.tick(120)

    assert len(cluster["n3"].machine.commands) == 300


def test_a_leader_that_steps_down_forgets_what_it_asked_for() -> None:
    cluster, wire = with_a_far_follower()
    wire.drops = lambda message: isinstance(message, SnapshotChunkReply)
    cluster.tick(5)
    assert cluster["n1"].replica.snapshots.delegations

    wire.drops = lambda message: "n1" in (message.source, message.target) or isinstance(message, SnapshotChunkReply)
    cluster.tick(40)

    assert not cluster["n1"].replica.core.is_leader
    assert not cluster["n1"].replica.snapshots.delegations
    wire.drops = lambda _: False
    cluster.tick(300)
    assert cluster["n3"].machine.commands[: len(COMMANDS)] == COMMANDS


def throttled(limit: int) -> tuple[SnapshotStreams, SnapshotMeta]:
    """A sender of 64,000 bytes in chunks of 1,000, with a window that is no limit."""
    config = NodeConfig(
        node_id="n1", data_dir="memory", snapshot_chunk_bytes=1000, snapshot_chunks_in_flight=1000, snapshot_bytes_per_second=limit
    )
    storage = MemoryStorage.open(MemoryDisk(), ClusterConfig(initial_members={"n1": "h:1"}), config)
    membership = Membership(voters=("n1",))
    meta = storage.write_snapshot(SnapshotMeta(index=5, term=1, membership=membership), BytesSnapshot(bytes(64_000)))
    return SnapshotStreams(config, storage), meta


def sent_in(streams: SnapshotStreams, meta: SnapshotMeta, ticks: int) -> list[int]:
    """Bytes sent by each tick so far, the receiver answering nothing."""
    install = InstallSnapshot(source="n1", target="n2", term=1, meta=meta)
    first = streams.begin(install, meta)
    total = sum(len(message.data) for message in first if isinstance(message, SnapshotChunk))
    sums = [total]
    for _ in range(ticks):
        streams.now_ticks += 1
        outcome = streams.tick(leads=True, term=1)
        total += sum(len(message.data) for message in outcome.messages if isinstance(message, SnapshotChunk))
        sums.append(total)
    return sums


def test_a_throttle_holds_to_its_bytes_a_second() -> None:
    streams, meta = throttled(10_000)
    streams.tick_seconds = 0.02

    sums = sent_in(streams, meta, 45)  # 0.9 s, before anything is sent again

    assert sums[-1] <= 10_000
    assert sums[-1] >= 8_000
    for earlier, later in zip(sums, sums[5:], strict=False):
        assert later - earlier <= 0.1 * 10_000 + 1000, "no more than the rate in a tenth of a second, and a chunk"


def test_without_a_throttle_the_window_is_the_only_limit() -> None:
    streams, meta = throttled(0)

    assert sent_in(streams, meta, 1)[0] == 64_000
