"""One durable thing out of log, hard state and snapshots: `interface` is what a replica asks, `disk` and `memory` answer, `frames` has the bytes."""

from replog.storage.disk import DiskStorage
from replog.storage.frames import EntryFrameCodec
from replog.storage.interface import FrameCodec, Recovered, Storage, Write
from replog.storage.memory import MemoryDisk, MemoryStorage

__all__ = ["DiskStorage", "EntryFrameCodec", "FrameCodec", "MemoryDisk", "MemoryStorage", "Recovered", "Storage", "Write"]
