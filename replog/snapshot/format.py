"""The bytes of a snapshot file: a header that says everything, and the state machine's bytes behind it.

::

    | magic "RSNP" | version u16 = 1 | zero u16 | index u64 | term u64 | body bytes u64 | body CRC-32 u32 |    40 bytes, little-endian
    | membership bytes u32 | membership (canonical JSON, `replog.codec`) ... | CRC-32 of all before it u32 |
    | body ... |                                                            ends where the file ends

The header is written last, over zeros: size and checksum of the body are known only then. A file that was left behind earlier has no magic. A file that
is still arriving from another node (``.part``) has its header from the start, because the sender knows both.
"""

from __future__ import annotations

import re
import struct
import zlib
from typing import Final, NamedTuple

from replog.codec import decode_membership, encode_membership
from replog.errors import MalformedMessage, SnapshotDamaged
from replog.types import INDEX_MAX, TERM_MAX, Index, SnapshotMeta, Term

MAGIC: Final = b"RSNP"
VERSION: Final = 1
MEMBERSHIP_BYTES_MAX: Final = 1 << 20
"""More is no membership of seven voters and their learners; a length over it is never believed."""

_FIXED: Final = struct.Struct("<4sHHQQQII")
_CHECK: Final = struct.Struct("<I")
HEADER_BYTES_MIN: Final = _FIXED.size + _CHECK.size
HEADER_BYTES_MAX: Final = HEADER_BYTES_MIN + MEMBERSHIP_BYTES_MAX

_NAME: Final = re.compile(r"([0-9]{20})-([0-9]{1,20})\.snap")
_PART: Final = re.compile(r"([0-9]{20})-([0-9]{1,20})\.part")
_TEMPORARY: Final = re.compile(r"[0-9]{20}-[0-9]{1,20}\.(?:snap|part)\.tmp")
DAMAGED_SUFFIX: Final = ".damaged"
"""Appended to the name of a snapshot that did not verify; it is kept for the operator and never read again."""


class SnapshotHeader(NamedTuple):
    """What stands in front of a body."""

    meta: SnapshotMeta
    body_checksum: int
    body_offset: int
    """Length of the header."""


def snapshot_name(index: Index, term: Term) -> str:
    """``<20 digits index>-<term>.snap``"""
    return f"{index:020d}-{term}.snap"


def part_name(index: Index, term: Term) -> str:
    """The name of a snapshot that is still arriving."""
    return f"{index:020d}-{term}.part"


def parse_snapshot_name(name: str) -> tuple[Index, Term] | None:
    """(index, term); None for any other name."""
    return _parse(_NAME, name)


def parse_part_name(name: str) -> tuple[Index, Term] | None:
    """(index, term); None for any other name."""
    return _parse(_PART, name)


def is_temporary_name(name: str) -> bool:
    """Whether this is a file of ours that was being made."""
    return _TEMPORARY.fullmatch(name) is not None


def _parse(pattern: re.Pattern[str], name: str) -> tuple[Index, Term] | None:
    match = pattern.fullmatch(name)
    if match is None:
        return None
    index, term = int(match[1]), int(match[2])
    return (index, term) if 1 <= index <= INDEX_MAX and term <= TERM_MAX else None


def header_bytes(meta: SnapshotMeta) -> int:
    """Length of the header of this snapshot, whatever its size."""
    return HEADER_BYTES_MIN + len(encode_membership(meta.membership))


def encode_header(meta: SnapshotMeta, body_checksum: int) -> bytes:
    """The header; `meta.size_bytes` is the body's length."""
    membership = encode_membership(meta.membership)
    fixed = _FIXED.pack(MAGIC, VERSION, 0, meta.index, meta.term, meta.size_bytes, body_checksum, len(membership))
    head = fixed + membership
    return head + _CHECK.pack(zlib.crc32(head))


def decode_header(data: bytes, path: str) -> SnapshotHeader:
    """The header that `data` (the file's first `HEADER_BYTES_MAX` bytes, or all) begins with. Raises `SnapshotDamaged` naming `path` and the field."""
    if len(data) < HEADER_BYTES_MIN:
        raise SnapshotDamaged(f"{path}: {len(data)} bytes where a header has at least {HEADER_BYTES_MIN}")
    magic, version, zero, index, term, size, body_checksum, membership_bytes = _FIXED.unpack_from(data)
    if magic != MAGIC:
        raise SnapshotDamaged(f"{path}: magic is {magic!r}, expected {MAGIC!r}")
    if version != VERSION:
        raise SnapshotDamaged(f"{path}: version is {version}, known: {VERSION}")
    end = _FIXED.size + membership_bytes
    if membership_bytes > MEMBERSHIP_BYTES_MAX or end + _CHECK.size > len(data):
        raise SnapshotDamaged(f"{path}: a membership of {membership_bytes} bytes does not fit")
    (stored,) = _CHECK.unpack_from(data, end)
    found = zlib.crc32(data[:end])
    if found != stored:
        raise SnapshotDamaged(f"{path}: checksum of the header is {found:#010x}, stored is {stored:#010x}")
    if zero or not 1 <= index <= INDEX_MAX or term > TERM_MAX:
        raise SnapshotDamaged(f"{path}: index {index}, term {term} or the reserved field {zero} is out of range")
    try:
        membership = decode_membership(data[_FIXED.size : end])
    except MalformedMessage as error:
        raise SnapshotDamaged(f"{path}: {error}") from None
    meta = SnapshotMeta(index=index, term=term, membership=membership, size_bytes=size)
    return SnapshotHeader(meta, body_checksum, end + _CHECK.size)
