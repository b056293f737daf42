"""A write-ahead log for itself: durable, ordered entries in segment files that other programs of the same format can read.

::

    from replog import wal

    wal.create("/var/lib/app/wal")
    with wal.open("/var/lib/app/wal") as log:           # locked, recovered, every entry verified
        sequence = log.append(b"an entry")              # durable on return (policy `grouped`)
        first = log.append_many([b"one", b"two"])
        assert log.read(sequence) == b"an entry"

    for sequence, data in wal.Reader("/var/lib/app/wal"):
        ...

`replog.wal.options` has the settings, `replog.wal.sync` the promises of an append, `replog.wal.recovery` what is done with what a crash
leaves, `replog.wal.format` the bytes.
"""

from replog.errors import (
    DiskFull,
    WalClosed,
    WalDamaged,
    WalDiscarded,
    WalEntryTooLarge,
    WalError,
    WalExists,
    WalFailed,
    WalLocked,
    WalMissing,
    WalSequenceUnknown,
)
from replog.wal.format import Codec, Header, codec_of
from replog.wal.log import Log, SegmentInfo
from replog.wal.opening import create, exists
from replog.wal.opening import open_log as open  # noqa: A004 - `wal.open` is the name that is looked for
from replog.wal.options import ChecksumType, LengthEncoding, WalOptions
from replog.wal.reader import Reader
from replog.wal.recovery import Inspection, Recovery, inspect
from replog.wal.segments import Frames
from replog.wal.sync import GroupedSync, ImmediateSync, NoSync, PeriodicSync, SyncPolicy
from replog.wal.writer import RolloverCallback

__all__ = [
    "ChecksumType",
    "Codec",
    "DiskFull",
    "Frames",
    "GroupedSync",
    "Header",
    "ImmediateSync",
    "Inspection",
    "LengthEncoding",
    "Log",
    "NoSync",
    "PeriodicSync",
    "Reader",
    "Recovery",
    "RolloverCallback",
    "SegmentInfo",
    "SyncPolicy",
    "WalClosed",
    "WalDamaged",
    "WalDiscarded",
    "WalEntryTooLarge",
    "WalError",
    "WalExists",
    "WalFailed",
    "WalLocked",
    "WalMissing",
    "WalOptions",
    "WalSequenceUnknown",
    "codec_of",
    "create",
    "exists",
    "inspect",
    "open",
]
