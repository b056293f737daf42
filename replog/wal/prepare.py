"""The next segment's file, made before it is needed.

Allocating blocks and syncing a new file takes milliseconds. So when a segment is half full, its successor is made in the background as
``prepared.wal.tmp``, with its blocks and without a header; a rollover then only writes the header, syncs, and renames it. A crash leaves
a temporary file, which the next open removes. When it cannot be made (no room), nothing is said: the rollover tries by itself, and its error counts.
"""

from __future__ import annotations

from threading import Thread

from replog.filesystem import File, FileSystem, join
from replog.wal.segment import PREPARED_NAME, make_blank


class SegmentPreparer:
    """Makes one blank file at a time. Called only under the log's append lock."""

    __slots__ = ("_directory", "_file", "_fs", "_preallocation", "_thread")

    def __init__(self, fs: FileSystem, directory: str, preallocation: int) -> None:
        self._fs = fs
        self._directory = directory
        self._preallocation = preallocation
        self._file: File | None = None
        self._thread: Thread | None = None

    def start(self) -> None:
        """Begin to make one, unless one is there or being made."""
        if self._thread is None and self._file is None:
            self._thread = Thread(target=self._make, name="replog-wal-prepare", daemon=True)
            self._thread.start()

    def take(self) -> File | None:
        """The blank file, now the caller's; None when there is none. Waits for one that is being made."""
        self._join()
        file, self._file = self._file, None
        return file

    def discard(self) -> None:
        """Remove what was made."""
        file = self.take()
        if file is not None:
            file.close()
            try:
                self._fs.remove(file.path)
            except OSError:
                return  # removed at the next open

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _make(self) -> None:
        try:
            self._file = make_blank(self._fs, join(self._directory, PREPARED_NAME), self._preallocation)
        except OSError:
            return  # see the module's docstring
