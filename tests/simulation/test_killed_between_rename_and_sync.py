"""A process that is killed between renaming its hard state and syncing the directory, a restart, and a power cut: the term must not go back.

Found by seed 3 of the profile `crash-loop`: the restarted node read the new hard state, which only the system knew of, promised by it, and came back from the
power cut with the old one.
"""

from __future__ import annotations

from contextlib import suppress
from random import Random

import pytest

from replog.config import ClusterConfig, NodeConfig
from replog.storage.disk import DiskStorage
from replog.storage.interface import Write
from replog.testing.disk import PowerCut, VirtualDisk
from replog.types import HardState


def open_storage(disk: VirtualDisk) -> DiskStorage:
    cluster = ClusterConfig(initial_members={"n1": "n1:1"})
    return DiskStorage.open(
        "/n1", cluster, NodeConfig(node_id="n1", data_dir="/n1"), disk, draw_incarnation=lambda: 1, prepare_segments=False
    )


@pytest.mark.parametrize("operations", range(8))
def test_a_hard_state_that_a_restart_has_read_survives_the_next_power_cut(operations: int) -> None:
    disk = VirtualDisk(Random(operations))
    storage = open_storage(disk)
    disk.fuse = operations
    with suppress(PowerCut):
        storage.persist(Write(hard_state=HardState(term=5, vote="n1")))
    disk.process_exit()
    seen = open_storage(disk).recovered.hard_state
    disk.power_cut(0.0)

    assert open_storage(disk).recovered.hard_state == seen
