"""Planted faults, so that a test can see that the demo and the checks would notice one. Imported only when REPLOG_TEST_FAULT asks for it.

``ack-before-sync``   The disk says "synced" while the data is still in memory, and writes it at a sync a second later. A killed process loses what it had acknowledged
                      (the kernel's cache would hide that: it outlives the process; this one does not).
``drop-entry``        The state machine answers one command in 97 without applying it.

``drop-once``         The same, once in the life of the process: what a bit that flips does, or a race in the state machine.

``@NODE`` behind a name plants it in that node alone: ``drop-entry@n3``.
"""

from __future__ import annotations

import io
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import BinaryIO, Final

from cluster.chaos_disk import open_switched_storage
from cluster.config import Configuration
from replog.config import ClusterConfig, NodeConfig
from replog.errors import ConfigError
from replog.filesystem import Bytes, File, FileSystem, Lock, OsFileSystem
from replog.node.node import Node
from replog.statemachine import CommandError, SnapshotWriter, StateMachine
from replog.storage.disk import DiskStorage
from replog.storage.interface import Storage
from replog.types import Entry, Index, Term

logger = logging.getLogger("replog.cluster.faults")

FAULTS: Final = ("ack-before-sync", "drop-entry", "drop-once")
HOLD_BACK_SECONDS: Final = 1.0
DROP_EACH: Final = 97


def assemble(fault: str, configuration: Configuration, state_machine: StateMachine) -> Node:
    """The node with `fault` built in, or as it should be when the fault is another node's. Raises `ConfigError`."""
    name, _, node_id = fault.partition("@")
    if name not in FAULTS:
        raise ConfigError("REPLOG_TEST_FAULT", fault, "one of " + ", ".join(FAULTS) + ", with @NODE behind it or not")
    open_storage: Callable[[ClusterConfig, NodeConfig], Storage] | None = None
    if os.environ.get("REPLOG_TEST_DISK"):
        open_storage = open_switched_storage
    if not node_id or node_id == configuration.node.node_id:
        logger.warning("%s: FAULT PLANTED: %s; this node loses data on purpose", configuration.node.node_id, name)
        if name in ("drop-entry", "drop-once"):
            state_machine = ForgetfulStateMachine(state_machine, times_max=1 if name == "drop-once" else None)
        else:
            open_storage = _open_lying_storage
    return Node(configuration.cluster, configuration.node, state_machine, open_storage=open_storage)


def _open_lying_storage(cluster: ClusterConfig, node: NodeConfig) -> Storage:
    return DiskStorage.open_for(cluster, node, filesystem=LyingFileSystem(HOLD_BACK_SECONDS))


class ForgetfulStateMachine(StateMachine):
    """Passes everything on but one command in `DROP_EACH`, whose result is that of a put; `times_max` of them, None: without end."""

    def __init__(self, inner: StateMachine, times_max: int | None = None) -> None:
        self._inner = inner
        self._times_left = times_max

    def _drops(self, index: Index) -> bool:
        if index % DROP_EACH or self._times_left == 0:
            return False
        if self._times_left is not None:
            self._times_left -= 1
        return True

    def apply(self, entry: Entry) -> bytes:
        return entry.index.to_bytes(8, "little") if self._drops(entry.index) else self._inner.apply(entry)

    def apply_batch(self, first_index: Index, term: Term, payloads: Sequence[bytes]) -> list[bytes | CommandError]:
        results: list[bytes | CommandError] = []
        for index, payload in enumerate(payloads, first_index):
            results += [index.to_bytes(8, "little")] if self._drops(index) else self._inner.apply_batch(index, term, [payload])
        return results

    def snapshot(self) -> SnapshotWriter:
        return self._inner.snapshot()

    def restore(self, source: BinaryIO) -> None:
        self._inner.restore(source)

    def query(self, request: bytes) -> bytes:
        return self._inner.query(request)

    def state_digest(self) -> bytes:
        return self._inner.state_digest()


class LyingFile:
    """A file whose writes stay in this process for `hold_back_seconds`, whatever `sync` says."""

    def __init__(self, inner: File, hold_back_seconds: float) -> None:
        self._inner = inner
        self._hold_back_seconds = hold_back_seconds
        self._held: list[tuple[float, int, bytes]] = []
        """(time of the write, offset, data), in the order of the writes."""
        self._mutex = threading.Lock()
        self.is_closed = False

    @property
    def path(self) -> str:
        return self._inner.path

    def pwrite(self, data: Bytes, offset: int, /) -> int:
        with self._mutex:
            self._held.append((time.monotonic(), offset, bytes(data)))
        return len(data)

    def pread(self, length: int, offset: int, /) -> bytes:
        with self._mutex:
            content = bytearray(self._inner.pread(length, offset))
            for _, start, data in self._held:
                low, high = max(start, offset), min(start + len(data), offset + length)
                if low < high:
                    if len(content) < high - offset:
                        content.extend(bytes(high - offset - len(content)))
                    content[low - offset : high - offset] = data[low - start : high - start]
        return bytes(content)

    def sync(self) -> None:
        """The lie: only what is old enough goes down."""
        self._write_down(time.monotonic() - self._hold_back_seconds)

    def truncate(self, size: int) -> None:
        self._write_down()
        self._inner.truncate(size)

    def allocate(self, size: int) -> None:
        self._inner.allocate(size)

    def drop_cache(self) -> None:
        self._inner.drop_cache()

    def size(self) -> int:
        with self._mutex:
            return max([self._inner.size(), *(offset + len(data) for _, offset, data in self._held)])

    def close(self) -> None:
        if not self.is_closed:
            self._write_down()
            self.is_closed = True
            self._inner.close()

    def _write_down(self, until: float | None = None) -> None:
        with self._mutex:
            while self._held and (until is None or self._held[0][0] <= until):
                _, offset, data = self._held.pop(0)
                self._inner.pwrite(data, offset)
            self._inner.sync()


class BorrowedFile:
    """A second handle on a lying file, for reading: it sees what is held back, as a second descriptor of a real file would."""

    def __init__(self, lender: LyingFile) -> None:
        self.path = lender.path
        self.pread = lender.pread
        self.size = lender.size

    def pwrite(self, data: Bytes, offset: int, /) -> int:
        raise io.UnsupportedOperation(f"{self.path}: write of {len(data)} bytes at {offset} to a file opened for reading")

    def sync(self) -> None:
        """Nothing was written through this handle."""

    def truncate(self, size: int) -> None:
        raise io.UnsupportedOperation(f"{self.path}: truncate to {size} of a file opened for reading")

    def allocate(self, size: int) -> None:
        raise io.UnsupportedOperation(f"{self.path}: allocate {size} in a file opened for reading")

    def drop_cache(self) -> None:
        """What this process holds back is in its own memory."""

    def close(self) -> None:
        """The lender stays open."""


class LyingFileSystem:
    """The operating system's files, those of the log lying."""

    def __init__(self, hold_back_seconds: float) -> None:
        self._inner: FileSystem = OsFileSystem()
        self._hold_back_seconds = hold_back_seconds
        self._lying: dict[str, LyingFile] = {}

    def create(self, path: str) -> File:
        return self._lie(self._inner.create(path))

    def open(self, path: str, *, writable: bool = False) -> File:
        if writable:
            return self._lie(self._inner.open(path, writable=True))
        lender = self._lying.get(path)
        return BorrowedFile(lender) if lender is not None and not lender.is_closed else self._inner.open(path)

    def _lie(self, file: File) -> File:
        if ".wal" not in file.path:
            return file
        self._lying[file.path] = lying = LyingFile(file, self._hold_back_seconds)
        return lying

    def list(self, directory: str) -> list[str]:
        return self._inner.list(directory)

    def exists(self, path: str) -> bool:
        return self._inner.exists(path)

    def size(self, path: str) -> int:
        return self._inner.size(path)

    def make_dirs(self, path: str) -> None:
        self._inner.make_dirs(path)

    def sync_dir(self, path: str) -> None:
        self._inner.sync_dir(path)

    def rename(self, source: str, target: str) -> None:
        self._inner.rename(source, target)
        if source in self._lying:
            self._lying[target] = self._lying.pop(source)

    def remove(self, path: str) -> None:
        self._inner.remove(path)

    def exposure(self, directory: str) -> str:
        return self._inner.exposure(directory)

    def lock(self, path: str) -> Lock:
        return self._inner.lock(path)
