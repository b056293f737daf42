"""How a log comes to be, and how it is opened: no log to append to exists before everything in it has been read and verified."""

from __future__ import annotations

from typing import TYPE_CHECKING

from replog.errors import WalExists, WalLocked, WalMissing
from replog.filesystem import OS_FILE_SYSTEM, FileSystem, Lock, LockHeld, join
from replog.wal import recovery
from replog.wal.format import Header, codec_of
from replog.wal.log import Log
from replog.wal.options import ChecksumType, LengthEncoding, WalOptions
from replog.wal.segment import make_segment, parse_reset_name, parse_segment_name
from replog.wal.sync import GroupedSync, SyncPolicy
from replog.wal.writer import RolloverCallback, disk_error

if TYPE_CHECKING:
    from replog.wal.metrics import WalMetrics


def exists(directory: str, *, fs: FileSystem = OS_FILE_SYSTEM) -> bool:
    """Whether there is a log in the directory; False where there is no directory."""
    try:
        names = fs.list(directory)
    except FileNotFoundError:
        return False
    return any(parse_segment_name(name) is not None or parse_reset_name(name) is not None for name in names)


def create(directory: str, options: WalOptions | None = None, *, fs: FileSystem = OS_FILE_SYSTEM) -> None:
    """Make an empty log, and its directory where it is missing. Durable on return; after a crash it is there or not.

    Raises WalExists, WalLocked, DiskFull, WalFailed.
    """
    options = options or WalOptions()
    header = Header(options.length_encoding or LengthEncoding.UINT32, options.checksum_type or ChecksumType.CRC32, options.first_sequence)
    try:
        fs.make_dirs(directory)
        lock = _lock(fs, directory)
        try:
            if exists(directory, fs=fs):
                raise WalExists(directory)
            make_segment(fs, directory, header, options.preallocation).close()
        finally:
            lock.release()
    except OSError as error:
        raise disk_error(error, f"{directory}: creating the log") from error


def open_log(
    directory: str,
    options: WalOptions | None = None,
    *,
    sync: SyncPolicy | None = None,
    vouched_sequence: int | None = None,
    on_rollover: RolloverCallback | None = None,
    metrics: WalMetrics | None = None,
    fs: FileSystem = OS_FILE_SYSTEM,
) -> Log:
    """Lock the directory, read and verify everything, clear away what a crash has left, and give a log that can be appended to.

    `sync` is the policy of its appends (default: grouped). `vouched_sequence` is the sequence number behind the last entry of which the caller
    knows from elsewhere that it was durable: a log that ends before it is refused, untouched. What was done is in `Log.recovery`.

    Raises WalLocked, WalMissing, WalDamaged (nothing was changed then), DiskFull, WalFailed when the disk cannot be read or written.
    """
    options = options or WalOptions()
    policy: SyncPolicy = sync if sync is not None else GroupedSync()
    try:
        if not exists(directory, fs=fs):
            raise WalMissing(directory)
        lock = _lock(fs, directory)
        try:
            return _open(directory, options, policy, vouched_sequence, on_rollover, metrics, fs, lock)
        except BaseException:
            lock.release()
            raise
    except OSError as error:
        raise disk_error(error, f"{directory}: opening the log") from error


def _open(
    directory: str,
    options: WalOptions,
    policy: SyncPolicy,
    vouched_sequence: int | None,
    on_rollover: RolloverCallback | None,
    metrics: WalMetrics | None,
    fs: FileSystem,
    lock: Lock,
) -> Log:
    _forget_lost_writes(fs, directory)
    inspection = recovery.inspect(fs, directory, options)
    recovery.check(inspection, vouched_sequence)
    recovered = recovery.apply(fs, inspection, options)
    if recovered.reset_finished:
        inspection = recovery.inspect(fs, directory, options)
        recovery.check(inspection, vouched_sequence)
    segments = inspection.segments
    active = segments[-1]
    codec = codec_of(
        options.length_encoding or active.codec.length_encoding,
        options.checksum_type or active.codec.checksum_type,
        options.entry_bytes_max,
    )
    file = fs.open(active.path, writable=True)
    try:
        # What was read may be known to the system only: the process before this one may have died before it synced. It is durable from here on.
        file.sync()
        fs.sync_dir(directory)
        # Reading ahead has filled the system's memory with large pages, also of the zeros that are to be written. A small write into one of them takes
        # up to five times as long, as the system goes over all blocks of the page.
        file.drop_cache()
        return Log(fs, directory, options, codec, segments, file, lock, recovered, policy, on_rollover, metrics)
    except BaseException:
        file.close()
        raise


def _forget_lost_writes(fs: FileSystem, directory: str) -> None:
    """Read the last segment from the disk and not from the system's memory, which may show more than a failed sync has left there.

    The next sync would succeed without it, and a power cut would take it away from under entries that were acknowledged since.
    """
    names = fs.list(directory)
    segments = [name for name in names if parse_segment_name(name) is not None]
    resets = [name for name in names if parse_reset_name(name) is not None]
    for name in [*segments[-1:], *resets]:
        file = fs.open(join(directory, name))
        try:
            file.drop_cache()
        finally:
            file.close()


def _lock(fs: FileSystem, directory: str) -> Lock:
    try:
        return fs.lock(directory)
    except LockHeld as held:
        raise WalLocked(directory, held.pid) from None
