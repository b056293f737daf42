"""Entries as frames: encoded once by whoever proposes, verified once by each follower, written and sent as they are.

::

    | length 1..10 | term u64 | index u64 | kind u8 | payload ... | checksum 4 or 8 |
      `replog.wal.format`   `replog.codec`, 17 bytes               `replog.wal.format`, over all before it

This is the hot path of the whole system, so nothing is done per entry that C can do per batch:

* A batch whose payloads are all of one length has a fixed stride. Its buffer is one ``gap.join(payloads)``, where the gap is the checksum and
  head between two payloads; the bytes of indexes and checksums are then filled in by column, with strided slice assignment.
* The checksum of a head needs no call per entry. CRC is affine: two heads that differ in the index's lowest byte alone have checksums that differ by a
  value which depends on that byte alone (`_low_byte_table`). One call per 256 indexes and a xor each are left, and the chained checksum of the payload.
* A frame is verified by one checksum call over all of it (its residue, see `replog.wal.checksum`). Index, term and kind of a batch are compared by
  column, with strided slices.

Batches of mixed lengths and small batches take a plain loop; both ways give the same bytes (a test holds them together).
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Sequence
from itertools import groupby
from struct import Struct
from typing import Final

from replog.codec import ENTRY_HEAD, ENTRY_HEAD_BYTES
from replog.config import MIB, ClusterConfig
from replog.errors import MalformedMessage
from replog.types import INDEX_MAX, TERM_MAX, EntryFrames, EntryKind, Index, Term
from replog.wal.format import Codec, Stop, codec_of
from replog.wal.options import ChecksumType, LengthEncoding
from replog.wal.segments import Frames

DATA_BYTES_MAX: Final = 64 * MIB + ENTRY_HEAD_BYTES
"""Longest data of an entry that is framed or believed: the largest `entry_bytes_max` that can be configured, and the head."""

_COLUMNS_ENTRIES_MIN: Final = 12
_COLUMNS_DECODED_MIN: Final = 128
"""Below these counts the plain loops are faster than the columns."""
_COLUMNS_PAYLOAD_BYTES_MAX: Final = 512
"""Above it the two copies of the buffer that the columns need cost more than they save."""
_ENTRY_KINDS: Final = bytes(EntryKind)
_SWAP: Final = sys.byteorder == "big"
_HEADS: Final = {
    LengthEncoding.UINT16: Struct("<HQQB"),
    LengthEncoding.UINT32: Struct("<IQQB"),
    LengthEncoding.UINT64: Struct("<QQQB"),
}
"""Length and entry head in one call, where the length has a fixed size."""
_CHECK_TYPECODES: Final = {4: "I", 8: "Q"}
_TERM_OFFSET, _INDEX_OFFSET, _KIND_OFFSET = 0, 8, 16


def _little_endian(values: array[int]) -> bytes:
    if _SWAP:
        values.byteswap()
    return values.tobytes()


def _low_byte_table(crc: Callable[..., int]) -> tuple[int, ...]:
    """By lowest byte of the index: how the checksum of a head differs from that of the same head with 0 there."""
    zero = crc(bytes(ENTRY_HEAD_BYTES))
    return tuple(crc(ENTRY_HEAD.pack(0, low, 0)) ^ zero for low in range(256))


class EntryFrameCodec:
    """Implements `replog.storage.interface.FrameCodec` for one length encoding and checksum type. Stateless; any thread may use it."""

    __slots__ = ("_check_typecode", "_low_bytes", "_pack_check", "_pack_head", "_unpack_head", "codec")

    def __init__(self, length_encoding: str | LengthEncoding, checksum_type: str | ChecksumType) -> None:
        """The names are those of `ClusterConfig`: uint16, uint32, uint64, uvarint; crc32, crc64."""
        encoding = LengthEncoding[length_encoding.upper()] if isinstance(length_encoding, str) else length_encoding
        checksum = ChecksumType[checksum_type.upper()] if isinstance(checksum_type, str) else checksum_type
        self.codec: Codec = codec_of(encoding, checksum, DATA_BYTES_MAX)
        head = _HEADS.get(encoding)
        self._pack_head: Callable[[int, Term, Index, int], bytes] = head.pack if head else self._pack_varint_head
        self._unpack_head = head.unpack_from if head else None
        self._check_typecode = _CHECK_TYPECODES[self.codec.check_bytes]
        self._pack_check: Callable[[int], bytes] = Struct("<" + self._check_typecode).pack
        self._low_bytes = _low_byte_table(self.codec.crc)

    @classmethod
    def of(cls, cluster: ClusterConfig) -> EntryFrameCodec:
        """The codec that the cluster's nodes agreed on."""
        return cls(cluster.length_encoding, cluster.checksum_type)

    def _pack_varint_head(self, length: int, term: Term, index: Index, kind: int) -> bytes:
        return self.codec.encode_length(length) + ENTRY_HEAD.pack(term, index, kind)

    # -- encoding ---------------------------------------------------------------------------------------------------

    def encode(self, first_index: Index, term: Term, kind: EntryKind, payloads: Sequence[bytes]) -> EntryFrames:
        """Frame and checksum a batch of one kind and term.

        `payloads` is kept as it is when it is a list (the caller no longer changes it). Raises `WalEntryTooLarge` for a payload that the length
        encoding cannot say; then nothing is encoded.
        """
        count = len(payloads)
        assert 1 <= first_index <= INDEX_MAX - count
        assert 0 <= term <= TERM_MAX
        kept = payloads if isinstance(payloads, list) else list(payloads)
        if not count:
            return EntryFrames(first_index, (), b"", b"", (), kept)
        lengths = list(map(len, kept))
        self.codec.frame_size(max(lengths) + ENTRY_HEAD_BYTES)
        buffer: bytes
        ends: Sequence[int]
        length = lengths[0]
        if count >= _COLUMNS_ENTRIES_MIN and length <= _COLUMNS_PAYLOAD_BYTES_MAX and lengths.count(length) == count:
            buffer, ends = self._encode_columns(first_index, term, kind, kept, length)
        else:
            buffer, ends = self._encode_each(first_index, term, kind, kept)
        return EntryFrames(first_index, ((first_index, term),), kind.to_bytes(1, "little") * count, buffer, ends, kept)

    def _encode_each(self, first_index: Index, term: Term, kind: int, payloads: list[bytes]) -> tuple[bytes, Sequence[int]]:
        pack_head, pack_check, crc = self._pack_head, self._pack_check, self.codec.crc
        entry_head_bytes, check_bytes = ENTRY_HEAD_BYTES, self.codec.check_bytes
        parts: list[bytes] = []
        ends: list[int] = []
        position = 0
        for index, payload in enumerate(payloads, first_index):
            length = len(payload)
            head = pack_head(length + entry_head_bytes, term, index, kind)
            parts += (head, payload, pack_check(crc(payload, crc(head))))
            position += len(head) + length + check_bytes
            ends.append(position)
        return b"".join(parts), ends

    def _encode_columns(self, first_index: Index, term: Term, kind: int, payloads: list[bytes], length: int) -> tuple[bytes, Sequence[int]]:
        count = len(payloads)
        head = self._pack_head(length + ENTRY_HEAD_BYTES, term, first_index, kind)
        no_check = bytes(self.codec.check_bytes)
        buffer = bytearray(b"".join((head, (no_check + head).join(payloads), no_check)))
        size = len(buffer)
        stride = size // count
        _fill_indexes(buffer, len(head) - ENTRY_HEAD_BYTES + _INDEX_OFFSET, stride, first_index, count)
        seeds = self._head_checksums(first_index, count, head)
        checks = _little_endian(array(self._check_typecode, map(self.codec.crc, payloads, seeds)))
        width = len(no_check)
        for column in range(width):
            buffer[stride - width + column :: stride] = checks[column::width]
        return bytes(buffer), range(stride, size + 1, stride)

    def _head_checksums(self, first_index: Index, count: int, head: bytes) -> list[int]:
        """The checksum of each entry's length and head (`head` is the first one's)."""
        crc, low_bytes = self.codec.crc, self._low_bytes
        before, kind = head[: -(ENTRY_HEAD_BYTES - _INDEX_OFFSET)], head[-1:]
        seed = crc(before)
        checksums: list[int] = []
        index, stop = first_index, first_index + count
        while index < stop:
            block = index & ~0xFF
            block_end = min(stop, block + 256)
            base = crc(block.to_bytes(8, "little") + kind, seed)
            checksums += [base ^ low for low in low_bytes[index - block : block_end - block]]
            index = block_end
        return checksums

    # -- decoding ---------------------------------------------------------------------------------------------------

    def decode(self, buffer: bytes, first_index: Index) -> EntryFrames:
        """Verify every frame of `buffer` (length, checksum, index consecutive from `first_index`, terms not descending, kind known).

        Raises `MalformedMessage` naming the entry and what is wrong with it.
        """
        if self._unpack_head is not None and not self._is_long_run(buffer):
            frames = self._decode_each(buffer, first_index)
            if frames is not None:
                return frames
        ends: list[int] = []
        scan = self.codec.scan(buffer, 0, len(buffer), ends)
        if scan.stop is not Stop.END:
            reason = _STOPS[scan.stop]
            raise MalformedMessage(f"entry {first_index + len(ends)} at byte {scan.position} of {len(buffer)}: {reason}")
        return self._extract(buffer, first_index, ends)

    def _is_long_run(self, buffer: bytes) -> bool:
        """Whether the first frame's length, repeated, fills the buffer often enough for columns to pay."""
        decoded = self.codec.decode_length(buffer, 0, len(buffer))
        if decoded is None:
            return False
        length, head_bytes = decoded
        count, rest = divmod(len(buffer), head_bytes + length + self.codec.check_bytes)
        return not rest and count >= _COLUMNS_DECODED_MIN and _equal_columns(buffer, head_bytes, len(buffer) // count, count)

    def _decode_each(self, buffer: bytes, first_index: Index) -> EntryFrames | None:
        """The plain loop, for small and mixed batches; None when anything is wrong (`decode` then finds out what)."""
        unpack, crc, residue = self._unpack_head, self.codec.crc, self.codec.residue
        assert unpack is not None
        entry_head_bytes, check_bytes = ENTRY_HEAD_BYTES, self.codec.check_bytes
        payload_offset = self.codec.head_bytes + entry_head_bytes
        overhead = self.codec.head_bytes + check_bytes
        ends: list[int] = []
        payloads: list[bytes] = []
        kinds = bytearray()
        runs: list[tuple[Index, Term]] = []
        position, last_term, expected, size = 0, -1, first_index, len(buffer)
        while position < size:
            if size - position < payload_offset:
                return None
            length, term, index, kind = unpack(buffer, position)
            position_next = position + length + overhead
            frame = buffer[position:position_next]
            if crc(frame) != residue or index != expected or length < entry_head_bytes:
                return None
            if term != last_term:
                if term < last_term:
                    return None
                runs.append((index, term))
                last_term = term
            payloads.append(frame[payload_offset:-check_bytes])
            kinds.append(kind)
            ends.append(position_next)
            position = position_next
            expected += 1
        if position != size or kinds.translate(None, _ENTRY_KINDS) or last_term > TERM_MAX or first_index < 1 or expected > INDEX_MAX:
            return None
        return EntryFrames(first_index, tuple(runs), bytes(kinds), buffer, ends, payloads)

    def from_wal(self, frames: Frames) -> EntryFrames:
        """Frames that were read back (and verified) from the log; encoded anew where its segment has another encoding than this codec.

        Raises `MalformedMessage` when they are no entries of Raft in their places.
        """
        codec = frames.codec
        if (codec.length_encoding, codec.checksum_type) == (self.codec.length_encoding, self.codec.checksum_type):
            return self._extract(frames.buffer, frames.first_sequence, frames.ends)
        buffer, ends = self.codec.encode_frames(codec.split(frames.buffer, 0, frames.ends))
        return self._extract(buffer, frames.first_sequence, ends)

    def _extract(self, buffer: bytes, first_index: Index, ends: Sequence[int]) -> EntryFrames:
        """The entries in frames whose lengths and checksums are right."""
        count = len(ends)
        if not count:
            return EntryFrames(first_index, (), b"", buffer, (), [])
        if first_index < 1 or first_index > INDEX_MAX - count:
            raise MalformedMessage(f"entries {first_index} to {first_index + count - 1}; indexes are from 1 to {INDEX_MAX}")
        heads, offset, stride, payloads, ends = self._split(buffer, ends)
        kinds = heads[offset + _KIND_OFFSET :: stride]
        _check_indexes(heads, offset + _INDEX_OFFSET, stride, first_index, count)
        unknown = kinds.translate(None, _ENTRY_KINDS)
        if unknown:
            index = first_index + kinds.index(unknown[0])
            raise MalformedMessage(f"entry {index} has kind {unknown[0]}; known are 1 to {max(EntryKind)}")
        terms = _term_runs(heads, offset + _TERM_OFFSET, stride, first_index, count)
        return EntryFrames(first_index, terms, kinds, buffer, ends, payloads)

    def _split(self, buffer: bytes, ends: Sequence[int]) -> tuple[bytes, int, int, list[bytes], Sequence[int]]:
        """Where the entry heads are (bytes, offset of the first, stride), the payloads, and the ends (as a range where they are one)."""
        check_bytes, count, stride = self.codec.check_bytes, len(ends), ends[0]
        decoded = self.codec.decode_length(buffer, 0, len(buffer))
        assert decoded is not None
        head_bytes = decoded[1]
        least = head_bytes + ENTRY_HEAD_BYTES + check_bytes
        if stride * count == len(buffer) and stride >= least and _equal_columns(buffer, head_bytes, stride, count):
            payload_struct = Struct(f"{head_bytes + ENTRY_HEAD_BYTES}x{stride - least}s{check_bytes}x")
            payloads = [payload for (payload,) in payload_struct.iter_unpack(buffer)]
            return buffer, head_bytes, stride, payloads, range(stride, len(buffer) + 1, stride)
        if self.codec.head_bytes:
            starts = [head_bytes, *[end + head_bytes for end in ends[:-1]]]
            stops = [end - check_bytes for end in ends]
            heads = b"".join([buffer[start : start + ENTRY_HEAD_BYTES] for start in starts])
            payloads = [buffer[start + ENTRY_HEAD_BYTES : stop] for start, stop in zip(starts, stops, strict=True)]
            shortest = min(map(int.__sub__, stops, starts))
        else:
            datas = self.codec.split(buffer, 0, ends)
            heads = b"".join([data[:ENTRY_HEAD_BYTES] for data in datas])
            payloads = [data[ENTRY_HEAD_BYTES:] for data in datas]
            shortest = min(map(len, datas))
        if shortest < ENTRY_HEAD_BYTES:
            raise MalformedMessage(f"entry data of {shortest} bytes; at least {ENTRY_HEAD_BYTES} are needed")
        return heads, 0, ENTRY_HEAD_BYTES, payloads, ends


_STOPS: Final = {
    Stop.SHORT: "the bytes end inside it",
    Stop.CHECKSUM: "it does not match its checksum",
    Stop.LENGTH: f"its length is over the limit of {DATA_BYTES_MAX} bytes or is no number of 64 bits",
}


def join(batches: Sequence[EntryFrames]) -> EntryFrames:
    """Contiguous batches as one. They are of one codec; at least one."""
    assert batches
    if len(batches) == 1:
        return batches[0]
    first_index = expected = batches[0].first_index
    terms: list[tuple[Index, Term]] = []
    payloads: list[bytes] = []
    for batch in batches:
        assert batch.first_index == expected
        expected += batch.count
        terms += batch.terms[1:] if terms and batch.terms and batch.terms[0][1] == terms[-1][1] else batch.terms
        payloads += batch.payloads
    return EntryFrames(
        first_index, tuple(terms), b"".join([b.kinds for b in batches]), b"".join([b.buffer for b in batches]), join_ends(batches), payloads
    )


def join_ends(batches: Sequence[EntryFrames]) -> Sequence[int]:
    """Where each frame ends in the concatenated buffers of `batches`."""
    steps = {batch.ends.step if isinstance(batch.ends, range) else 0 for batch in batches}
    size = sum(len(batch.buffer) for batch in batches)
    step = steps.pop()
    if step and not steps:
        return range(step, size + 1, step)
    ends: list[int] = []
    base = 0
    for batch in batches:
        ends += [end + base for end in batch.ends] if base else batch.ends
        base += len(batch.buffer)
    return ends


# -- columns: byte `offset` of every entry is ``data[offset::stride]`` ----------------------------------------------------


def _index_bytes(first_index: Index, count: int) -> tuple[bytes, int]:
    """The indexes, 8 bytes each, and how many of their low bytes are not the same in all."""
    varying = ((first_index ^ (first_index + count - 1)).bit_length() + 7) // 8
    return _little_endian(array("Q", range(first_index, first_index + count))), varying


def _fill_indexes(buffer: bytearray, offset: int, stride: int, first_index: Index, count: int) -> None:
    """Write the indexes into frames that all have the first one's."""
    indexes, varying = _index_bytes(first_index, count)
    for column in range(varying):
        buffer[offset + column :: stride] = indexes[column::8]


def _check_indexes(data: bytes, offset: int, stride: int, first_index: Index, count: int) -> None:
    indexes, varying = _index_bytes(first_index, count)
    if data[offset : offset + 8] == indexes[:8]:
        same = range(varying, 8)
        if all(data[offset + column :: stride] == indexes[column::8] for column in range(varying)) and all(
            data[offset + column :: stride] == indexes[column : column + 1] * count for column in same
        ):
            return
    for position in range(count):
        start = offset + position * stride
        found = int.from_bytes(data[start : start + 8], "little")
        if found != first_index + position:
            raise MalformedMessage(f"entry {found} where entry {first_index + position} belongs")


def _equal_columns(data: bytes, width: int, stride: int, count: int) -> bool:
    """Whether the first `width` bytes of every stride are those of the first."""
    return all(data[column::stride] == data[column : column + 1] * count for column in range(width))


def _term_runs(data: bytes, offset: int, stride: int, first_index: Index, count: int) -> tuple[tuple[Index, Term], ...]:
    """Runs of equal term; raises `MalformedMessage` where one descends or is no term."""
    columns = [data[offset + column :: stride] for column in range(8)]
    if all(column == column[:1] * count for column in columns):
        term = int.from_bytes(data[offset : offset + 8], "little")
        runs = [(first_index, term)]
    else:
        interleaved = bytearray(8 * count)
        for position, column in enumerate(columns):
            interleaved[position::8] = column
        terms = array("Q", bytes(interleaved))
        if _SWAP:
            terms.byteswap()
        runs = []
        index = first_index
        for term, group in groupby(terms):
            if runs and term < runs[-1][1]:
                raise MalformedMessage(f"entry {index} has term {term}, the one before it term {runs[-1][1]}")
            runs.append((index, term))
            index += sum(1 for _ in group)
    if runs[-1][1] > TERM_MAX:
        raise MalformedMessage(f"entry {runs[-1][0]} has term {runs[-1][1]}; the limit is {TERM_MAX}")
    return tuple(runs)
