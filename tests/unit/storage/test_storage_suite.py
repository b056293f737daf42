"""One suite for every storage."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from replog.config import ClusterConfig, NodeConfig
from replog.errors import DiskFull
from replog.storage.disk import DiskStorage
from replog.storage.interface import Storage, Write
from replog.storage.memory import MemoryDisk, MemoryStorage, PersistFault
from replog.testing.memory_files import MemoryFileSystem
from replog.testing.storage_suite import CLUSTER, NODE, StoragePlace, StorageSuite, expected, frames_of, read_all
from replog.types import HardState


class DiskPlace:
    """A directory on the real disk."""

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def open(self, cluster: ClusterConfig, node: NodeConfig) -> Storage:
        return DiskStorage.open(self.directory, cluster, node)

    def abandon(self, storage: Storage) -> None:
        """The same bytes elsewhere, as a new process finds them; what is open stays open."""
        copy = self.directory + "+"
        shutil.copytree(self.directory, copy)
        self.directory = copy


class TestDiskStorage(StorageSuite):
    @pytest.fixture(autouse=True)
    def _directory(self, tmp_path: Path) -> None:
        self.directory = tmp_path
        self.places = 0

    def place(self) -> StoragePlace:
        self.places += 1
        return DiskPlace(str(self.directory / f"data{self.places}"))


class MemoryFilesPlace:
    """A directory on a filesystem in memory."""

    def __init__(self) -> None:
        self.files = MemoryFileSystem()

    def open(self, cluster: ClusterConfig, node: NodeConfig) -> Storage:
        return DiskStorage.open("data", cluster, node, self.files, prepare_segments=False)

    def abandon(self, storage: Storage) -> None:
        self.files = MemoryFileSystem(self.files.files(), self.files.directories)


class TestDiskStorageOverMemoryFiles(StorageSuite):
    def place(self) -> StoragePlace:
        return MemoryFilesPlace()


class MemoryPlace:
    def __init__(self) -> None:
        self.disk = MemoryDisk(incarnation=99)

    def open(self, cluster: ClusterConfig, node: NodeConfig) -> Storage:
        return MemoryStorage.open(self.disk, cluster, node)

    def abandon(self, storage: Storage) -> None:
        self.disk.is_open = False


class TestMemoryStorage(StorageSuite):
    def place(self) -> StoragePlace:
        return MemoryPlace()

    def test_a_failing_persist_is_final_and_keeps_what_reached_the_disk(self) -> None:
        place = MemoryPlace()
        storage = MemoryStorage.open(place.disk, CLUSTER, NODE)
        storage.persist(Write(frames=(frames_of(1, 3),)))
        storage.fail_next(PersistFault(error=DiskFull("no space left"), keeps_entries=2))

        with pytest.raises(DiskFull):
            storage.persist(Write(hard_state=HardState(term=5), frames=(frames_of(4, 5),)))
        with pytest.raises(DiskFull):
            storage.persist(Write())

        place.abandon(storage)
        storage = MemoryStorage.open(place.disk, CLUSTER, NODE)
        assert storage.recovered.hard_state.term == 5
        assert read_all(storage) == expected(1, 5)
