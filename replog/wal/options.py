"""What can be chosen about a log: the settings that are written into its segments, and those that may differ at each open."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from replog.errors import ConfigError


class LengthEncoding(IntEnum):
    """How the length in front of an entry is written; the byte 6 of a segment's header."""

    UINT16 = 1
    UINT32 = 2
    UINT64 = 3
    UVARINT = 4

    @property
    def label(self) -> str:
        """The name that command lines and JSON use: ``uint16``, ``uint32``, ``uint64``, ``uvarint``."""
        return self.name.lower()


class ChecksumType(IntEnum):
    """Which checksum stands behind an entry; the byte 7 of a segment's header."""

    CRC32 = 1
    """IEEE 802.3, 4 bytes."""
    CRC64 = 2
    """CRC-64/GO-ISO, 8 bytes."""

    @property
    def label(self) -> str:
        """The name that command lines and JSON use: ``crc32``, ``crc64``."""
        return self.name.lower()


MEBIBYTE: Final = 1 << 20
ENTRY_BYTES_MAX_DEFAULT: Final = 64 * MEBIBYTE
SEQUENCE_MAX: Final = 2**64 - 1
"""Sequence numbers are 64 bits, unsigned; the last one is never given to an entry, so that the one behind it can be said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WalOptions:
    """Settings of a log, checked when they are made (`ConfigError`).

    The first two are written into every segment. `create` writes them; at `open`, None means "as the newest segment has them", and another
    value counts from the next rollover on (segments of one log may differ).
    """

    length_encoding: LengthEncoding | None = None
    """None: UINT32 for a new log."""
    checksum_type: ChecksumType | None = None
    """None: CRC32 for a new log."""
    segment_bytes_max: int = 64 * MEBIBYTE
    """An append to a segment that has reached this size goes to the next one (so a segment ends at most one entry behind it); at least 1."""
    preallocate_bytes: int | None = None
    """Real blocks that a new segment is given at once; None: `segment_bytes_max`, 0: none. A segment may outgrow them."""
    entry_bytes_max: int = ENTRY_BYTES_MAX_DEFAULT
    """Longest data of an entry: a longer append is refused, a longer length in a file is damage. Lower than the encoding's own limit or not."""
    first_sequence: int = 0
    """Sequence number of the first entry of a new log; only `create` looks at it."""
    prepare_next: bool = True
    """Make the next segment's file in a background thread, so that a rollover finds it ready. False: at the rollover (deterministic; no thread)."""

    def __post_init__(self) -> None:
        _check_range("segment_bytes_max", self.segment_bytes_max, 1, 2**62)
        if self.preallocate_bytes is not None:
            _check_range("preallocate_bytes", self.preallocate_bytes, 0, 2**62)
        _check_range("entry_bytes_max", self.entry_bytes_max, 0, 2**40)
        _check_range("first_sequence", self.first_sequence, 0, SEQUENCE_MAX - 1)

    @property
    def preallocation(self) -> int:
        """Bytes a new segment is given, 0 for none."""
        return self.segment_bytes_max if self.preallocate_bytes is None else self.preallocate_bytes


def _check_range(field: str, value: int, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise ConfigError(field, value, f"{low} to {high}")
