"""`replog wal rewrite`: the same entries under the same sequence numbers, in another encoding, checksum or segment size.

Never in place: the new log is made beside its target, read back and compared entry by entry (by a digest over sequence numbers, lengths and data), and only
then gets its name. The source is locked meanwhile, so that nobody appends what would be missing in the copy, and is not changed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from replog import wal
from replog.cli.output import Json
from replog.cli.wal_entries import Walk
from replog.cli.wal_repair import lock_directory
from replog.errors import CallerError
from replog.filesystem import FileSystem, join
from replog.wal import recovery
from replog.wal.options import WalOptions
from replog.wal.recovery import Action, Found

_DIGEST_BYTES: Final = 16


class RewriteRefused(CallerError):
    """The source cannot be rewritten as it is, or the target is taken. Nothing was changed; do what the message says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewritten:
    """What was done."""

    source: str
    target: str
    entries: int
    first_sequence: int
    next_sequence: int
    segments_before: int
    segments_after: int
    size_bytes_before: int
    size_bytes_after: int

    def as_json(self) -> Json:
        """For programs."""
        return {name: getattr(self, name) for name in self.__slots__}


def check_target(fs: FileSystem, target: str) -> None:
    """Raise RewriteRefused unless nothing, or an empty directory, is at the target."""
    try:
        names = fs.list(target)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise RewriteRefused(f"{target}: a file is there; name a directory that does not exist") from None
    if names:
        raise RewriteRefused(f"{target}: not empty ({len(names)} files); name a directory that does not exist, or an empty one")


def rewrite(
    fs: FileSystem, source: str, target: str, options: WalOptions, read_limit: int, on_bytes: Callable[[int], None] | None = None
) -> Rewritten:
    """Write `source` again as `target`. Raises RewriteRefused, WalDamaged, WalLocked, WalEntryTooLarge, StorageError, OSError; the target is then as before."""
    source_real, target_real = os.path.realpath(source), os.path.realpath(target)
    if source_real == target_real or target_real.startswith(source_real + os.sep) or source_real.startswith(target_real + os.sep):
        raise RewriteRefused(f"{target}: is, or is inside, or is around the source; a log is never rewritten in place")
    check_target(fs, target)
    lock = lock_directory(fs, source)
    try:
        inspection = recovery.inspect(fs, source, WalOptions(entry_bytes_max=read_limit))
        recovery.check(inspection, None)
        for finding in inspection.findings:
            if finding.row.action is not Action.OPEN and finding.row.found is not Found.TEMPORARY:
                raise RewriteRefused(
                    f"{finding.path}: left by a crash ({finding.row.meaning}); open the log once, or `replog wal repair`, then try again"
                )
        walk = Walk(fs, source, read_limit)
        parent, name = os.path.split(target_real)
        temporary = join(parent, f".{name}.{os.getpid()}.tmp")
        fs.make_dirs(parent)
        _remove_log(fs, temporary)
        try:
            _write(fs, walk, temporary, options, on_bytes)
            count = _compare(fs, source, temporary, read_limit, on_bytes)
            fs.rename(temporary, target_real)
        except BaseException:
            _remove_log(fs, temporary)
            raise
        fs.sync_dir(parent)
    finally:
        lock.release()
    after = [fs.size(join(target_real, item)) for item in fs.list(target_real)]
    return Rewritten(
        source=source,
        target=target,
        entries=count,
        first_sequence=walk.firsts[0],
        next_sequence=walk.next_sequence,
        segments_before=len(inspection.scans),
        segments_after=len(after),
        size_bytes_before=sum(scan.size_bytes for scan in inspection.scans),
        size_bytes_after=sum(after),
    )


def _write(fs: FileSystem, walk: Walk, directory: str, options: WalOptions, on_bytes: Callable[[int], None] | None) -> None:
    wal.create(directory, options, fs=fs)
    with wal.open(directory, options, sync=wal.NoSync(), fs=fs) as log:
        for batch in walk.batches():
            first = log.append_many(batch.datas)
            assert first == batch.first_sequence
            if on_bytes is not None:
                on_bytes(sum(map(len, batch.datas)))
    assert walk.is_whole  # it was inspected, and is locked


def _compare(fs: FileSystem, source: str, target: str, read_limit: int, on_bytes: Callable[[int], None] | None) -> int:
    """How many entries both logs have; raises RewriteRefused if they are not the same."""
    digests, counts = [], []
    for directory in (source, target):
        digest, count = hashlib.blake2b(digest_size=_DIGEST_BYTES), 0
        walk = Walk(fs, directory, read_limit)
        digest.update(b"%d;" % walk.firsts[0])
        for batch in walk.batches():
            count += len(batch.datas)
            for data in batch.datas:
                digest.update(b"%d;" % len(data))
                digest.update(data)
            if on_bytes is not None and directory is target:
                on_bytes(sum(map(len, batch.datas)))
        if not walk.is_whole:
            raise RewriteRefused(f"{directory}: could not be read back whole; nothing was changed")
        digests.append(digest.digest())
        counts.append(count)
    if digests[0] != digests[1]:
        raise RewriteRefused(f"{source}: the copy reads differently; nothing was changed")
    return counts[0]


def _remove_log(fs: FileSystem, directory: str) -> None:
    """Remove a log that never got its name."""
    try:
        names = fs.list(directory)
    except FileNotFoundError:
        return
    for name in names:
        fs.remove(join(directory, name))
    os.rmdir(directory)
