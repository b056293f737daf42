"""Opens the shipped storage over a virtual disk."""

from __future__ import annotations

from replog.node.replica import ReplicaConfig
from replog.storage.disk import DiskStorage
from replog.storage.interface import Storage
from replog.testing.disk import VirtualDisk


def open_virtual_storage(disk: VirtualDisk, config: ReplicaConfig) -> Storage:
    """What `replog.node` does at its start, with the disk put in; nothing runs in another thread, the incarnation comes from the disk's seed."""
    return DiskStorage.open(
        config.node.data_dir,
        config.cluster,
        config.node,
        disk,
        draw_incarnation=lambda: disk.random.randint(1, 2**63 - 1),
        prepare_segments=False,
    )
