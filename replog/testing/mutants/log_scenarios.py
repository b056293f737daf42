"""Scenarios for bugs below the consensus that need one rare crash, or one rare instant: a torn write with entries whole behind it, an append beside a sync, a
sector that rots like one that never came."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Final

from replog import wal
from replog.errors import ReplogError, WalDamaged
from replog.filesystem import SECTOR_BYTES, Bytes, File, FileSystem
from replog.testing.disk import VirtualDisk
from replog.testing.enumerator import Image, Mark, enumerate_crashes
from replog.testing.faults import Weather
from replog.testing.memory_files import MemoryFileSystem
from replog.testing.simulated_clients import AdminRequest
from replog.testing.simulated_node import SimulatedNode
from replog.testing.simulator import Plan, Simulator
from replog.testing.storage_script import (
    DIRECTORY,
    installation_over_a_log_that_conflicts,
    installation_over_a_log_that_is_behind,
    observe,
    open_storage,
    states,
)
from replog.types import NodeId
from replog.wal.format import HEADER_BYTES

_LOG: Final = "log"
_FRAME_OVERHEAD_BYTES: Final = 8
_ENTRY_BYTES: Final = SECTOR_BYTES - _FRAME_OVERHEAD_BYTES
"""A frame, with a length of 4 bytes and a checksum of 4, is a sector."""


def crashes_leave_whole_entries_behind_a_torn_one() -> None:
    """Every crash inside a batch of entries of one size; behind the recovery one entry of that size is written, and the log is opened again.

    The new entry ends where the lost one ended. If what lay behind the cut was left there, that is the next entry now, and nobody has ever acknowledged it there.
    """
    options = wal.WalOptions(segment_bytes_max=8192, preallocate_bytes=4096, first_sequence=1, prepare_next=False)

    def work(files: FileSystem, mark: Mark) -> None:
        wal.create(_LOG, options, fs=files)
        mark("made")
        with wal.open(_LOG, options, sync=wal.ImmediateSync(), fs=files) as log:
            first = b"a" * (_ENTRY_BYTES - HEADER_BYTES)  # so that each entry behind it is a sector of its own
            log.append_many([first, *(bytes((98 + number,)) * _ENTRY_BYTES for number in range(5))])

    def check(image: Image, marks: Sequence[object]) -> bool:
        if not marks:
            return True
        files = image.open()
        try:
            log = wal.open(_LOG, options, sync=wal.ImmediateSync(), fs=files)
        except WalDamaged:
            return False
        with log:
            written = log.append(b"z" * _ENTRY_BYTES)
        with wal.open(_LOG, options, fs=files) as log:
            assert log.last_sequence == written, f"entry {written} was the last one, now {log.last_sequence} is"
        return True

    enumerate_crashes(work, check)


def crashes_come_inside_an_installation() -> None:
    """Every crash inside the installation of a snapshot over a log that conflicts with it: the directory is the old state or the new one, and opens."""

    def check(image: Image, marks: Sequence[object]) -> bool:
        try:
            storage = open_storage(image.open())
        except ReplogError:
            return False
        observe(storage, *states(marks))
        storage.close()
        return True

    for script in (installation_over_a_log_that_conflicts, installation_over_a_log_that_is_behind):
        enumerate_crashes(script, check, base=MemoryFileSystem(directories=[DIRECTORY]), images_max=600)


class _LateFile:
    """A file on which something happens between the disk's end of a sync and the caller's hearing of it."""

    def __init__(self, file: File, after_sync: Callable[[], None]) -> None:
        self._file, self._after_sync = file, after_sync
        self.path = file.path
        self.pread, self.truncate, self.allocate, self.size, self.close = file.pread, file.truncate, file.allocate, file.size, file.close
        self.drop_cache = file.drop_cache

    def pwrite(self, data: Bytes, offset: int, /) -> int:
        return self._file.pwrite(data, offset)

    def sync(self) -> None:
        self._file.sync()
        self._after_sync()


class _LateDisk(VirtualDisk):
    """Calls `after_sync` once, behind the next sync."""

    after_sync: Callable[[], None] | None = None

    def open(self, path: str, *, writable: bool = False) -> File:
        return _LateFile(super().open(path, writable=writable), self._told)

    def _told(self) -> None:
        told, self.after_sync = self.after_sync, None
        if told is not None:
            told()


def entry_is_appended_while_a_sync_ends() -> None:
    """The second entry is written behind the device's sync of the first one, and before that sync's end is told. Then the power goes."""
    disk = _LateDisk(Random(1))
    options = wal.WalOptions(segment_bytes_max=8192, first_sequence=1, prepare_next=False)
    wal.create(_LOG, options, fs=disk)
    log = wal.open(_LOG, options, sync=wal.NoSync(), fs=disk)
    log.append(b"first")
    disk.after_sync = partial(_append, log, b"second")
    log.sync()
    durable = log.durable_sequence
    disk.power_cut(0.0)
    with wal.open(_LOG, options, fs=disk) as found:
        assert found.next_sequence >= durable, (
            f"S14: everything before {durable} was said to be durable, the log ends before {found.next_sequence}"
        )


def _append(log: wal.Log, data: bytes) -> None:
    log.append(data)


def acknowledged_batch_loses_a_sector_like_a_torn_one() -> None:
    """Two of three nodes hold a committed batch. One of the two goes away; of the other's last batch a whole sector becomes zeros, as if it had never come, so
    its recovery cuts the batch. It must not help the third node, which has nothing of it, to lead (S4). With the first one back, all goes on.

    S14 is off: what this disk has lost, it had synced.
    """
    simulator = Simulator(Plan(seed=1, weather=Weather(nodes=3, clients=1), wire_share=0.0, without=("S14",)))
    for name in ("n1", "n2", "n3"):
        simulator.add_node(name)
        simulator.start_node(name)
    simulator.seconds(2)
    leader = simulator.leader
    assert leader is not None
    holder, third = (node for node in simulator.nodes.values() if node is not leader)
    simulator.network.part([[leader.node, holder.node], [third.node]])
    _commit_batch(simulator, leader)
    for node in (leader, holder):
        node.stop(power=False)
    _lose_sector(holder)
    simulator.network.heal()
    simulator.start_node(holder.node)
    simulator.seconds(10)
    simulator.start_node(leader.node)
    _settle(simulator, leader.node)


def _commit_batch(simulator: Simulator, leader: SimulatedNode) -> None:
    """One batch of entries, over many sectors, committed and synced by all who are reached."""
    payloads = [f"{number} put k{number % 5} v{number}{'.' * 60}".encode() for number in range(1, 41)]
    asked = AdminRequest("batch")
    before = simulator.ledger.committed_index
    leader.propose_group(payloads, asked)
    simulator.seconds(1)
    assert simulator.ledger.committed_index == before + len(payloads)


def _lose_sector(node: SimulatedNode) -> None:
    """Zero the third sector from the end of the last segment's entries."""
    disk = node.disk
    path = max(path for path in disk.paths() if path.endswith(".wal"))
    content = disk.files()[path]
    end = len(content.rstrip(b"\0"))
    start = (end // SECTOR_BYTES - 2) * SECTOR_BYTES
    for offset in range(start, start + SECTOR_BYTES):
        if content[offset]:
            disk.rot(path, offset, content[offset])
    node.damaged = node.record.rotten = True


def _settle(simulator: Simulator, wanted: NodeId) -> None:
    """The node that holds everything leads, and within some seconds all have what was committed."""
    committed = simulator.ledger.committed_index
    simulator.seconds(10)
    leader = simulator.leader
    assert leader is not None, "L1: nobody leads, though all are there"
    assert leader.node == wanted, f"L1: {leader.node} leads, {wanted} has the entries"
    for node in simulator.nodes.values():
        assert node.record.log.last_index >= committed, (
            f"L1: the log of {node.node} ends at {node.record.log.last_index}, {committed} is committed"
        )
