"""A disk that fills up: the error says so, and a node that has no room for a snapshot goes on being a voter.

Found by the fault `full_disks` of the simulator, once it was strong enough to strike more than once in a while: a full disk takes a part of a write, and the
same part again when it is repeated, so the log called it a failed device; and a follower ended when a snapshot did not fit.
"""

from __future__ import annotations

from random import Random

import pytest

from replog import wal
from replog.errors import DiskFull
from replog.testing.disk import VirtualDisk
from replog.testing.faults import Weather
from replog.testing.simulated_clients import AdminRequest
from replog.testing.simulator import Plan, Simulator


@pytest.mark.parametrize("room_bytes", [0, 1, 100, 199])
@pytest.mark.parametrize("datas", [[b"x" * 192], [b"x" * 100, b"y" * 92]], ids=["one entry", "a batch"])
def test_an_append_that_fits_only_in_part_says_that_the_disk_is_full(room_bytes: int, datas: list[bytes]) -> None:
    disk = VirtualDisk(Random(1))
    options = wal.WalOptions(segment_bytes_max=8192, preallocate_bytes=0, prepare_next=False, first_sequence=1)
    wal.create("/log", options, fs=disk)
    with wal.open("/log", options, sync=wal.ImmediateSync(), fs=disk) as log:
        log.append(b"before")
        disk.room_bytes = room_bytes

        with pytest.raises(DiskFull):
            log.append(datas[0]) if len(datas) == 1 else log.append_many(datas)

    disk.room_bytes = None
    with wal.open("/log", options, fs=disk) as log:
        assert log.last_sequence <= 2
        assert log.read(1) == b"before"


def test_a_node_without_room_for_a_snapshot_stays_and_takes_it_when_there_is_room() -> None:
    simulator = Simulator(Plan(seed=1, weather=Weather(nodes=3, clients=1), wire_share=0.0))
    for name in ("n1", "n2", "n3"):
        simulator.add_node(name)
        simulator.start_node(name)
    simulator.seconds(2)
    leader = simulator.leader
    assert leader is not None
    behind = next(node for node in simulator.nodes.values() if node is not leader)
    behind.stop(power=False)
    for number in range(1, 401):
        leader.propose(f"{number} put k v{number:0200}".encode(), AdminRequest("put"))
        simulator.seconds(0.005)
        if number % 100 == 0:
            leader.take_snapshot(AdminRequest("snapshot"))
            simulator.seconds(0.2)
    assert leader.replica is not None
    assert leader.replica.core.first_index > behind.record.log.last_index + 1, "it needs a snapshot"

    behind.disk.room_bytes = 0
    assert simulator.start_node(behind.node)
    simulator.seconds(2)

    assert behind.up
    assert behind.replica is not None
    assert behind.replica.core.leader == leader.node
    assert behind.replica.applied_index < leader.replica.applied_index

    behind.disk.room_bytes = None
    simulator.seconds(5)

    assert behind.up
    assert simulator.coverage.counts["snapshots installed"] == 1
    assert behind.replica.applied_index == leader.replica.applied_index
