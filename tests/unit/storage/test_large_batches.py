"""A large value is not copied on its way to the file."""

from __future__ import annotations

import pytest

from replog.config import ClusterConfig, NodeConfig
from replog.filesystem import Bytes
from replog.storage.disk import DiskStorage
from replog.storage.frames import EntryFrameCodec
from replog.storage.interface import Write
from replog.testing.memory_files import MemoryFile, MemoryFileSystem
from replog.types import EntryFrames, EntryKind

CLUSTER = ClusterConfig()
CONFIG = NodeConfig(node_id="n1", data_dir="data", preallocate=False)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Bytes]:
    """What is written to files, as the objects that are handed over."""
    seen: list[Bytes] = []
    pwrite = MemoryFile.pwrite

    def noted(self: MemoryFile, data: Bytes, offset: int, /) -> int:
        seen.append(data)
        return pwrite(self, data, offset)

    monkeypatch.setattr(MemoryFile, "pwrite", noted)
    return seen


def batches(*sizes: int) -> list[EntryFrames]:
    codec = EntryFrameCodec.of(CLUSTER)
    return [codec.encode(index, 1, EntryKind.COMMAND, [b"v" * size]) for index, size in enumerate(sizes, 1)]


def test_large_batches_are_written_as_they_are_and_small_ones_joined(written: list[Bytes]) -> None:
    frames = batches(10, 20, 1_000_000, 2_000_000, 30, 40, 50)
    storage = DiskStorage.open_for(CLUSTER, CONFIG, filesystem=MemoryFileSystem())
    written.clear()

    storage.persist(Write(frames=frames))

    assert [len(data) for data in written] == [
        sum(one.size_bytes for one in part) for part in (frames[:2], frames[2:3], frames[3:4], frames[4:])
    ]
    assert written[1] is frames[2].buffer
    assert written[2] is frames[3].buffer
    found = [payload for index in range(1, 8) for payload in storage.read_frames(index, index, 1 << 22).payloads]
    assert found == [payload for batch in frames for payload in batch.payloads]
    storage.close()
