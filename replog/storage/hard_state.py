"""The file `hard_state`: what this node has promised, whose directory this is, and what its log must still hold.

::

    | magic "RPHS" | version u16 = 1 | zero u16 |                                       8 bytes, little-endian
    | term u64 | incarnation u64 | epoch u64 | vouched u64 | maybe promised u64 |       40
    | installing index u64 | installing term u64 |                                      16
    | vote: length u8, text | cluster id: length u8, text | node id: length u8, text |
    | CRC-32 of all before it u32 |                                                     and the file ends here

It is replaced as a whole (``hard_state.tmp``, sync, rename, directory sync), so term and vote are never seen apart. A file that does not verify has
rotted: a node that forgot its vote could vote twice in a term, so it is refused and not replaced by a guess.

`vouched` is what makes a lost end of the log visible, which the log cannot know of itself: it is raised after a sync now and then (a rollover, a
compaction, a clean close), and lowered before anything is discarded on purpose. So at every moment the log, or a snapshot, reaches that far.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from typing import Final

from replog.errors import HardStateDamaged
from replog.filesystem import FileSystem, join
from replog.snapshot.files import storage_error, write_all
from replog.types import INDEX_MAX, TERM_MAX, HardState, Index, NodeId, Term

FILE_NAME: Final = "hard_state"
TEMPORARY_NAME: Final = "hard_state.tmp"
MAGIC: Final = b"RPHS"
VERSION: Final = 1

_FIXED: Final = struct.Struct("<4sHHQQQQQQQ")
_CHECK: Final = struct.Struct("<I")
_FILE_BYTES_MAX: Final = _FIXED.size + 3 * 256 + _CHECK.size


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredHardState:
    """All that the file holds."""

    cluster_id: str
    node_id: NodeId
    incarnation: int
    """Never 0."""
    hard_state: HardState = field(default_factory=HardState)
    epoch: int = 0
    """Cluster epoch of the newest membership that was seen when this was written."""
    vouched_index: Index = 0
    """The log or a snapshot reached at least this far, durably."""
    maybe_promised: Index = 0
    """Above the log's end only where recovery cut it: up to here it may have acknowledged entries."""
    installing: tuple[Index, Term] | None = None
    """A received snapshot that is being made the state: until this is None again the log may still be the one it replaces."""


def encode(state: StoredHardState) -> bytes:
    """The bytes of the file."""
    assert state.incarnation
    installing = state.installing or (0, 0)
    fixed = _FIXED.pack(
        MAGIC,
        VERSION,
        0,
        state.hard_state.term,
        state.incarnation,
        state.epoch,
        state.vouched_index,
        state.maybe_promised,
        *installing,
    )
    texts = [text.encode() for text in (state.hard_state.vote or "", state.cluster_id, state.node_id)]
    head = fixed + b"".join(bytes((len(text),)) + text for text in texts)
    return head + _CHECK.pack(zlib.crc32(head))


def decode(data: bytes, path: str) -> StoredHardState:
    """What the file's bytes say. Raises `HardStateDamaged` naming `path` and what is wrong."""
    if len(data) < _FIXED.size + 3 + _CHECK.size:
        raise HardStateDamaged(f"{path}: {len(data)} bytes are too few")
    if len(data) > _FILE_BYTES_MAX:
        raise HardStateDamaged(f"{path}: more than {_FILE_BYTES_MAX} bytes")
    magic, version, zero, term, incarnation, epoch, vouched, promised, index, index_term = _FIXED.unpack_from(data)
    if magic != MAGIC:
        raise HardStateDamaged(f"{path}: magic is {magic!r}, expected {MAGIC!r}")
    if version != VERSION:
        raise HardStateDamaged(f"{path}: version is {version}, known: {VERSION}")
    (stored,) = _CHECK.unpack_from(data, len(data) - _CHECK.size)
    found = zlib.crc32(data[: -_CHECK.size])
    if found != stored:
        raise HardStateDamaged(f"{path}: checksum is {found:#010x}, stored is {stored:#010x}")
    texts, position = [], _FIXED.size
    for _ in range(3):
        end = position + 1 + data[position]
        if end > len(data) - _CHECK.size:
            raise HardStateDamaged(f"{path}: a name ends behind the file")
        texts.append(data[position + 1 : end].decode("utf-8", "replace"))
        position = end
    if (
        position != len(data) - _CHECK.size
        or zero
        or not incarnation
        or max(term, index_term) > TERM_MAX
        or max(vouched, promised, index) > INDEX_MAX
    ):
        raise HardStateDamaged(f"{path}: a field is out of range")
    return StoredHardState(
        cluster_id=texts[1],
        node_id=texts[2],
        incarnation=incarnation,
        hard_state=HardState(term=term, vote=texts[0] or None),
        epoch=epoch,
        vouched_index=vouched,
        maybe_promised=promised,
        installing=(index, index_term) if index else None,
    )


def exists(fs: FileSystem, directory: str) -> bool:
    return fs.exists(join(directory, FILE_NAME))


def load(fs: FileSystem, directory: str) -> StoredHardState:
    """Read and verify the file. Raises `HardStateDamaged`, also when there is none; StorageFailed."""
    path = join(directory, FILE_NAME)
    try:
        file = fs.open(path)
        try:
            return decode(file.pread(_FILE_BYTES_MAX + 1, 0), path)
        finally:
            file.close()
    except FileNotFoundError:
        raise HardStateDamaged(f"{path}: missing") from None
    except OSError as error:
        raise storage_error(error, f"{path}: reading") from error


def store(fs: FileSystem, directory: str, state: StoredHardState) -> None:
    """Replace the file; durable on return, and after a crash either the old or the new one is there. Raises DiskFull, StorageFailed."""
    path, temporary = join(directory, FILE_NAME), join(directory, TEMPORARY_NAME)
    try:
        if fs.exists(temporary):
            fs.remove(temporary)
        file = fs.create(temporary)
        try:
            write_all(file, encode(state), 0)
            file.sync()
        finally:
            file.close()
        fs.rename(temporary, path)
        fs.sync_dir(directory)
    except OSError as error:
        raise storage_error(error, f"{path}: writing") from error
