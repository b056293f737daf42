"""A disk with switches: full, slow or failing for as long as a file beside the data directory says so.

The node's process reads the switches at each call to its disk, so that whoever runs the process can turn them while it runs (`python -m cluster chaos` does).
The data lies on the real disk and is really synced; only the refusals are made here. Imported by a node only where ``REPLOG_TEST_DISK`` is set.

``full``          nothing may grow: create an entry, allocate or write behind the end of a file, and it is ENOSPC. What was allocated can be written.
``sync_seconds``  every data sync takes so much longer (in the thread, or on the loop, wherever the node makes it).
``failing``       every data sync fails with EIO.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from replog.config import ClusterConfig, NodeConfig
from replog.filesystem import FileSystem, OsFileSystem
from replog.storage.disk import DiskStorage
from replog.storage.interface import Storage
from replog.testing.faulty_files import Fault, FaultyFileSystem

SWITCHES_FILE: Final = "disk.json"
_FAILING: Final = Fault(kind="sync", number=0, error=errno.EIO, sticky=True)
_SYNCS: Final = ("sync", "sync_dir")


def switches_path(data_dir: str) -> str:
    """Where the switches of the node with this data directory lie: beside it, so that they are no part of what the node looks after."""
    return str(Path(data_dir).resolve().parent / SWITCHES_FILE)


def turn(data_dir: str, switches: Mapping[str, object]) -> None:
    """Turn the disk's switches; none: the disk is well again. Takes effect with the next call of the node."""
    path = switches_path(data_dir)
    if not switches:
        Path(path).unlink(missing_ok=True)
        return
    Path(path + ".tmp").write_text(json.dumps(dict(switches)), encoding="utf-8")
    os.replace(path + ".tmp", path)


def open_switched_storage(cluster: ClusterConfig, node: NodeConfig) -> Storage:
    """The node's storage on a disk with switches; for `replog.Node`'s `open_storage`."""
    return DiskStorage.open_for(cluster, node, filesystem=SwitchedFileSystem(OsFileSystem(), switches_path(node.data_dir)))


class SwitchedFileSystem(FaultyFileSystem):
    """`inner`, as the switches in the file `switches` have it at the moment."""

    def __init__(self, inner: FileSystem, switches: str) -> None:
        super().__init__(inner)
        self._switches = switches
        self._seen: tuple[int, int] | None = None
        """Inode and time of the file that was read last; None: there was none."""
        self._sync_seconds = 0.0

    def fails(self, kind: str) -> Fault | None:
        """Asked before every call: look at the switches, take the time that a slow sync takes, say which fault the call meets."""
        self._look()
        if self._sync_seconds and kind in _SYNCS:
            time.sleep(self._sync_seconds)
        return super().fails(kind)

    def _look(self) -> None:
        try:
            status = os.stat(self._switches)
        except FileNotFoundError:
            if self._seen is not None:
                self._seen = None
                self._set({})
            return
        seen = (status.st_ino, status.st_mtime_ns)
        if seen == self._seen:
            return
        try:
            found = json.loads(Path(self._switches).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return  # turned off this moment: the next call sees it
        self._seen = seen
        self._set(found)

    def _set(self, switches: Mapping[str, object]) -> None:
        self.room_bytes = 0 if switches.get("full") else None
        self.fault = _FAILING if switches.get("failing") else None
        seconds = switches.get("sync_seconds", 0.0)
        self._sync_seconds = float(seconds) if isinstance(seconds, int | float) else 0.0
