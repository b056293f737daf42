"""The decision table of recovery: what can be found where in a log's directory, what it means, and what is done about it.

Each row is tested by a directory that shows it. A thing found where the table has no row for it is a mistake of ours.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from replog.errors import (
    WalDamaged,
    WalEntryDamaged,
    WalFormatUnknown,
    WalHeaderDamaged,
    WalLengthDamaged,
    WalSegmentGap,
    WalSegmentOverlap,
    WalSegmentShort,
    WalTrailingBytes,
)
from replog.wal.format import HeaderFault
from replog.wal.tail import Tail


class Place(Enum):
    """Where a thing was found."""

    LAST = "last segment"
    SEALED = "sealed segment"
    ONLY = "only segment"
    BETWEEN = "between two segments"
    DIRECTORY = "directory"


class Found(Enum):
    """What was found."""

    CLEAN_END = "end of file behind the last good entry"
    ZEROS = "zeros behind the last good entry"
    MISSING_SECTOR = "a bad entry; a sector's share of it is all zeros"
    FILE_ENDS = "a bad entry; the file ends inside it"
    PREFIX = "a bad entry; its end was never written"
    BAD_ENTRY = "a bad entry with no missing sector"
    BAD_LENGTH = "a length over the limit, or no number"
    LENGTH_CHANGED = "an entry that is good but for its length"
    TRAILING_BYTES = "bytes behind the last entry"
    GAP = "sequence numbers missing between segments"
    OVERLAP = "sequence numbers in two segments"
    NAME_MISMATCH = "header and file name disagree"
    HEADER_MISSING = "shorter than a header, or all zeros"
    MAGIC_UNKNOWN = "bad magic"
    VERSION_UNKNOWN = "unknown version"
    ENCODING_UNKNOWN = "unknown length encoding"
    CHECKSUM_UNKNOWN = "unknown checksum type"
    TEMPORARY = "a temporary file of ours"
    RESET = "a reset that was not finished"


class Action(Enum):
    """What is done."""

    OPEN = "nothing"
    CUT = "cut there, zero what follows, sync, count it"
    REMOVE = "remove, count it"
    FINISH = "finish it"
    REFUSE = "refuse, change nothing"


class Row(NamedTuple):
    """One row of the table."""

    found: Found
    place: Place
    meaning: str
    action: Action
    error: type[WalDamaged] | None = None


_D = Action.REFUSE
RECOVERY_TABLE: Final[tuple[Row, ...]] = (
    Row(Found.CLEAN_END, Place.LAST, "clean end", Action.OPEN),
    Row(Found.ZEROS, Place.LAST, "clean end of a preallocated segment", Action.OPEN),
    Row(Found.MISSING_SECTOR, Place.LAST, "torn write", Action.CUT),
    Row(Found.FILE_ENDS, Place.LAST, "torn write", Action.CUT),
    Row(Found.PREFIX, Place.LAST, "torn write", Action.CUT),
    Row(Found.BAD_ENTRY, Place.LAST, "damaged entry", _D, WalEntryDamaged),
    Row(Found.BAD_LENGTH, Place.LAST, "damaged length", _D, WalLengthDamaged),
    Row(Found.LENGTH_CHANGED, Place.LAST, "damaged length", _D, WalLengthDamaged),
    Row(Found.HEADER_MISSING, Place.LAST, "crash while it was created", Action.REMOVE),
    Row(Found.CLEAN_END, Place.SEALED, "sealed", Action.OPEN),
    Row(Found.ZEROS, Place.SEALED, "trailing zeros in a sealed segment", _D, WalTrailingBytes),
    Row(Found.TRAILING_BYTES, Place.SEALED, "trailing bytes in a sealed segment", _D, WalTrailingBytes),
    Row(Found.FILE_ENDS, Place.SEALED, "short sealed segment", _D, WalSegmentShort),
    Row(Found.MISSING_SECTOR, Place.SEALED, "damaged entry", _D, WalEntryDamaged),
    Row(Found.PREFIX, Place.SEALED, "damaged entry", _D, WalEntryDamaged),
    Row(Found.BAD_ENTRY, Place.SEALED, "damaged entry", _D, WalEntryDamaged),
    Row(Found.BAD_LENGTH, Place.SEALED, "damaged length", _D, WalLengthDamaged),
    Row(Found.LENGTH_CHANGED, Place.SEALED, "damaged length", _D, WalLengthDamaged),
    Row(Found.HEADER_MISSING, Place.SEALED, "header missing", _D, WalHeaderDamaged),
    Row(Found.HEADER_MISSING, Place.ONLY, "header missing", _D, WalHeaderDamaged),
    Row(Found.GAP, Place.BETWEEN, "missing entries", _D, WalSegmentGap),
    Row(Found.OVERLAP, Place.BETWEEN, "entries twice", _D, WalSegmentOverlap),
    *(
        Row(found, place, meaning, _D, error)
        for found, meaning, error in (
            (Found.NAME_MISMATCH, "renamed segment", WalHeaderDamaged),
            (Found.MAGIC_UNKNOWN, "not a segment", WalHeaderDamaged),
            (Found.VERSION_UNKNOWN, "another version", WalFormatUnknown),
            (Found.ENCODING_UNKNOWN, "another length encoding", WalFormatUnknown),
            (Found.CHECKSUM_UNKNOWN, "another checksum type", WalFormatUnknown),
        )
        for place in (Place.LAST, Place.SEALED, Place.ONLY)
    ),
    Row(Found.TEMPORARY, Place.DIRECTORY, "crash before rename", Action.REMOVE),
    Row(Found.RESET, Place.DIRECTORY, "crash during a reset", Action.FINISH),
)
ROWS: Final = {(row.found, row.place): row for row in RECOVERY_TABLE}

TAILS: Final = {
    Tail.END: Found.CLEAN_END,
    Tail.ZEROS: Found.ZEROS,
    Tail.MISSING_SECTOR: Found.MISSING_SECTOR,
    Tail.FILE_ENDS: Found.FILE_ENDS,
    Tail.PREFIX: Found.PREFIX,
    Tail.WHOLE: Found.BAD_ENTRY,
    Tail.BYTE_CHANGED: Found.BAD_ENTRY,
    Tail.LENGTH_LIMIT: Found.BAD_LENGTH,
    Tail.LENGTH_CHANGED: Found.LENGTH_CHANGED,
}
HEADER_FAULTS: Final = {
    HeaderFault.MISSING: Found.HEADER_MISSING,
    HeaderFault.MAGIC: Found.MAGIC_UNKNOWN,
    HeaderFault.VERSION: Found.VERSION_UNKNOWN,
    HeaderFault.LENGTH_ENCODING: Found.ENCODING_UNKNOWN,
    HeaderFault.CHECKSUM_TYPE: Found.CHECKSUM_UNKNOWN,
}


def tail_row(tail: Tail, place: Place) -> Row:
    """The row for this tail."""
    return ROWS[TAILS[tail], place]
