"""The bytes of version 1: a segment's header and the frames behind it, encoded and verified a batch at a time.

All numbers are little-endian::

    header   | magic "WAL\\0" 4 | version u16 = 1 | length encoding u8 | checksum type u8 | first sequence u64 |     16 bytes
    frame    | length 1..10 | data | checksum 4 or 8 |               checksum over the encoded length and the data

An entry's sequence number is nowhere: it is the first sequence of its segment + its position. Zeros are no frame, because the checksum of
a zero length is not zero; so a preallocated tail of zeros needs no mark.

Why it is fast. Nothing is done per entry that the C loops of `map`, `join` and slicing can do per batch. Encoding: the encoded length and
its checksum are looked up by length; the rest is ``join(head, data, check, ...)``, or less where all lengths are the same. Verifying: a frame is right if the checksum over all
of it, its own checksum included, is the residue; runs of frames of one length are found by comparing the bytes of their lengths in strides, and are
then sliced and checked by list functions. The module is plain and typed, so that a compiler of typed Python could take it as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from functools import lru_cache
from itertools import accumulate, repeat
from operator import itemgetter
from struct import Struct
from typing import Final, NamedTuple

from replog.errors import WalEntryTooLarge
from replog.wal import checksum
from replog.wal.options import ChecksumType, LengthEncoding

Bytes = bytes | bytearray | memoryview

MAGIC: Final = b"WAL\0"
VERSION: Final = 1
HEADER_BYTES: Final = 16
FRAME_OVERHEAD_BYTES_MAX: Final = 10 + 8
"""The most that a frame is longer than its data."""

_HEADER: Final = Struct("<4sHBBQ")
_LENGTH_STRUCTS: Final = {LengthEncoding.UINT16: Struct("<H"), LengthEncoding.UINT32: Struct("<I"), LengthEncoding.UINT64: Struct("<Q")}
_CHECK_STRUCTS: Final = {ChecksumType.CRC32: Struct("<I"), ChecksumType.CRC64: Struct("<Q")}
_HEADS_KEPT_MAX: Final = 4096
_PACKED_BYTES_MAX: Final = 4096
_UNSIGNED: Final = {1: "B", 2: "H", 4: "I", 8: "Q"}
_UVARINT_BYTES_MAX: Final = 10
_RUN_FRAMES_MIN: Final = 32
_RUN_FRAMES_MAX: Final = 8192
_MIXED_FRAMES_MIN: Final = 16
_MIXED_FRAMES_MAX: Final = 256


class Header(NamedTuple):
    """The first 16 bytes of a segment, well formed by construction."""

    length_encoding: LengthEncoding
    checksum_type: ChecksumType
    first_sequence: int


class HeaderFault(IntEnum):
    """What can be wrong with a header; each is its own row in the recovery table."""

    MISSING = 1
    """Shorter than a header, or all zeros."""
    MAGIC = 2
    VERSION = 3
    LENGTH_ENCODING = 4
    CHECKSUM_TYPE = 5


def encode_header(header: Header) -> bytes:
    """The 16 bytes in front of a segment."""
    return _HEADER.pack(MAGIC, VERSION, header.length_encoding, header.checksum_type, header.first_sequence)


def decode_header(data: bytes) -> Header | tuple[HeaderFault, str]:
    """The header that `data` begins with, or what is wrong with it and how that reads."""
    if len(data) < HEADER_BYTES:
        return HeaderFault.MISSING, f"{len(data)} bytes where a header has {HEADER_BYTES}"
    magic, version, encoding, checksum_type, first_sequence = _HEADER.unpack_from(data)
    if not any(data[:HEADER_BYTES]):
        return HeaderFault.MISSING, "zeros where the header should be"
    if magic != MAGIC:
        return HeaderFault.MAGIC, f"magic is {magic!r}, expected {MAGIC!r}"
    if version != VERSION:
        return HeaderFault.VERSION, f"version is {version}, known: {VERSION}"
    if encoding not in LengthEncoding._value2member_map_:
        return HeaderFault.LENGTH_ENCODING, f"length encoding is {encoding}, known: {_known(LengthEncoding)}"
    if checksum_type not in ChecksumType._value2member_map_:
        return HeaderFault.CHECKSUM_TYPE, f"checksum type is {checksum_type}, known: {_known(ChecksumType)}"
    return Header(LengthEncoding(encoding), ChecksumType(checksum_type), first_sequence)


def _known(kind: type[IntEnum]) -> str:
    return ", ".join(f"{member.value} ({member.name.lower()})" for member in kind)


class Stop(IntEnum):
    """Why `Codec.scan` came to its end."""

    END = 0
    """Every byte belongs to a good frame."""
    SHORT = 1
    """The bytes end inside the frame at the position."""
    CHECKSUM = 2
    """The frame at the position does not match its checksum."""
    LENGTH = 3
    """The length at the position is over the limit, or is no number of 64 bits."""


class Scan(NamedTuple):
    """What `Codec.scan` found behind the frames it appended."""

    stop: Stop
    position: int
    """First byte that is not in a good frame."""
    needed: int
    """SHORT: bytes from `position` that the frame has, as far as is known; else 0."""


class _Heads(dict[int, tuple[bytes, int, int]]):
    """By length of the data: the encoded length, its checksum, and the size of the whole frame. Filled as lengths are met, bounded."""

    __slots__ = ("_codec",)

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self._codec = codec

    def __missing__(self, length: int) -> tuple[bytes, int, int]:
        codec = self._codec
        if length > codec.data_bytes_max:
            raise WalEntryTooLarge(length, codec.data_bytes_max)
        head = codec.encode_length(length)
        value = (head, codec.crc(head), len(head) + length + codec.check_bytes)
        if len(self) >= _HEADS_KEPT_MAX:
            self.clear()
        self[length] = value
        return value


Packer = tuple[Callable[[int, Bytes, int], bytes], int, int, int]
"""What makes the frames of one length of data: ``pack, number, seed, size``, and then ``pack(number, data, crc(data, seed))``."""


class Codec:
    """Encodes and verifies frames of one length encoding and checksum type. Has no state but caches; any thread may use it."""

    __slots__ = (
        "_heads",
        "_pack_check",
        "_unpack_length",
        "check_bytes",
        "checksum_type",
        "crc",
        "data_bytes_max",
        "head_bytes",
        "length_encoding",
        "packers",
        "residue",
    )

    def __init__(self, length_encoding: LengthEncoding, checksum_type: ChecksumType, entry_bytes_max: int) -> None:
        self.length_encoding = length_encoding
        self.checksum_type = checksum_type
        self.crc: Callable[..., int] = checksum.function_of(checksum_type)
        check = _CHECK_STRUCTS[checksum_type]
        self.check_bytes = check.size
        self._pack_check: Callable[..., bytes] = check.pack
        self.residue: int = self.crc(bytes(4) + check.pack(self.crc(bytes(4))))
        """The checksum of every good frame, its own checksum included."""
        length = _LENGTH_STRUCTS.get(length_encoding)
        self.head_bytes = length.size if length else 0
        """Bytes of an encoded length; 0 where it varies (uvarint)."""
        self._unpack_length = length.unpack_from if length else None
        limit = 2 ** (8 * self.head_bytes) - 1 if length else 2**64 - 1
        self.data_bytes_max = min(limit, entry_bytes_max)
        """Longest data that is encoded or believed: the encoding's limit or the configured one."""
        self._heads = _Heads(self)
        self.packers: dict[int, Packer] = {}
        """By length of the data, as far as they have been met; `packer` gives any."""

    def head(self, length: int) -> tuple[bytes, int, int]:
        """(encoded length, its checksum, bytes of the whole frame) for this length of data. Raises WalEntryTooLarge."""
        return self._heads[length]

    def packer(self, length: int) -> Packer:
        """The packer for this length: a compiled `Struct` for short data, where the calls count; for long ones joining costs no more.

        Raises WalEntryTooLarge.
        """
        head, seed, size = self.head(length)
        if length > _PACKED_BYTES_MAX:
            return (self.join, length, seed, size)
        layout = f"<{_UNSIGNED[len(head)]}{length}s{_UNSIGNED[self.check_bytes]}"
        packer = self.packers[length] = (Struct(layout).pack, int.from_bytes(head, "little"), seed, size)
        return packer

    def join(self, length: int, data: Bytes, check: int) -> bytes:
        """The frame of one entry, of which the checksum is known."""
        return b"".join((self._heads[length][0], data, self._pack_check(check)))

    def encode_length(self, length: int) -> bytes:
        """The length as it stands in front of the data."""
        if self.length_encoding is not LengthEncoding.UVARINT:
            return length.to_bytes(self.head_bytes, "little")
        encoded = bytearray()
        while length > 0x7F:
            encoded.append(length & 0x7F | 0x80)
            length >>= 7
        encoded.append(length)
        return bytes(encoded)

    def frame_size(self, length: int) -> int:
        """Bytes of the frame around `length` bytes of data. Raises WalEntryTooLarge."""
        return self._heads[length][2]

    def encode_frame(self, data: Bytes) -> bytes:
        """The frame of one entry. Raises WalEntryTooLarge."""
        return self.join(len(data), data, self.crc(data, self._heads[len(data)][1]))

    def encode_frames(self, datas: Sequence[Bytes]) -> tuple[bytes, Sequence[int]]:
        """As `encode_batch`, in bytes that can be kept."""
        buffer, ends = self.encode_batch(datas)
        return bytes(buffer), ends

    def encode_batch(self, datas: Sequence[Bytes]) -> tuple[Bytes, Sequence[int]]:
        """All entries as one buffer, and where each frame ends in it: frame i is ``buffer[ends[i-1]:ends[i]]``, ends[-1] counting as 0.

        Raises WalEntryTooLarge, then nothing is encoded.
        """
        count = len(datas)
        if not count:
            return b"", ()
        lengths = list(map(len, datas))
        if count >= _RUN_FRAMES_MIN and lengths.count(lengths[0]) == count:
            return self._encode_run(datas, lengths[0])
        rows = list(map(self._heads.__getitem__, lengths))
        parts: list[Bytes] = [b""] * (3 * count)
        parts[0::3] = list(map(itemgetter(0), rows))
        parts[1::3] = datas
        parts[2::3] = list(map(self._pack_check, map(self.crc, datas, map(itemgetter(1), rows))))
        return b"".join(parts), list(accumulate(map(itemgetter(2), rows)))

    def _encode_run(self, datas: Sequence[Bytes], length: int) -> tuple[bytearray, range]:
        """The frames of entries of one length. What stands between two of them, room for a checksum and the next length, is the separator of a join;
        the checksums, packed by one call, are put into their places by copying their bytes in strides."""
        head, seed, size = self._heads[length]
        count, check_bytes = len(datas), self.check_bytes
        room = bytes(check_bytes)
        pieces = list(datas)
        pieces[0] = head + pieces[0]
        pieces[-1] = b"".join((pieces[-1], room))
        buffer = bytearray(room + head).join(pieces)
        checks = Struct(f"<{count}{_UNSIGNED[check_bytes]}").pack(*map(self.crc, datas, repeat(seed)))
        for offset in range(check_bytes):
            buffer[len(head) + length + offset :: size] = checks[offset::check_bytes]
        return buffer, range(size, size * count + 1, size)

    def decode_length(self, buffer: Bytes, position: int, stop: int) -> tuple[int, int] | None:
        """(length, bytes of its encoding) at `position`; (-1, bytes) if it is no number of 64 bits; None if `stop` comes first."""
        if self.head_bytes:
            head_end = position + self.head_bytes
            return None if head_end > stop else (int.from_bytes(buffer[position:head_end], "little"), self.head_bytes)
        length = 0
        for width in range(min(_UVARINT_BYTES_MAX, stop - position)):
            byte = buffer[position + width]
            length |= (byte & 0x7F) << (7 * width)
            if byte < 0x80:
                return (length, width + 1) if length < 2**64 else (-1, width + 1)
        return None if stop - position < _UVARINT_BYTES_MAX else (-1, _UVARINT_BYTES_MAX)

    def scan(self, buffer: bytes, position: int, stop: int, ends: list[int], datas: list[bytes] | None = None) -> Scan:
        """Verify the frames of ``buffer[position:stop]`` and append the end of each good one to `ends`, up to the first that is not good.

        With `datas`, the data of each is appended to it; that costs less than `split` afterwards.
        """
        check_bytes, limit = self.check_bytes, self.data_bytes_max
        window, mixed = _RUN_FRAMES_MIN, _MIXED_FRAMES_MIN
        while position < stop:
            decoded = self.decode_length(buffer, position, stop)
            if decoded is None:
                return Scan(Stop.SHORT, position, self.head_bytes + check_bytes if self.head_bytes else stop - position + 1)
            length, width = decoded
            if not 0 <= length <= limit:
                return Scan(Stop.LENGTH, position, 0)
            size = width + length + check_bytes
            if position + size > stop:
                return Scan(Stop.SHORT, position, size)
            count = _run_length(buffer, position, stop, size, width, window)
            good = self._scan_run(buffer, position, width, length, count, datas)
            ends.extend(range(position + size, position + good * size + 1, size))
            position += good * size
            if good < count:
                return Scan(Stop.CHECKSUM, position, 0)
            if count >= _RUN_FRAMES_MIN:
                window, mixed = min(2 * window, _RUN_FRAMES_MAX), _MIXED_FRAMES_MIN
            else:
                window = _RUN_FRAMES_MIN
                position = self._scan_mixed(buffer, position, stop, ends, datas, mixed)
                mixed = min(2 * mixed, _MIXED_FRAMES_MAX)
        return Scan(Stop.END, position, 0)

    def _scan_mixed(self, buffer: bytes, position: int, stop: int, ends: list[int], datas: list[bytes] | None, count: int) -> int:
        """Go over up to `count` frames of any lengths, one by one. Returns the position behind the good ones; why it stopped, `scan` finds out."""
        crc, residue, check_bytes, limit, unpack = self.crc, self.residue, self.check_bytes, self.data_bytes_max, self._unpack_length
        head_bytes = self.head_bytes
        if stop - position < count * FRAME_OVERHEAD_BYTES_MAX:
            count = (stop - position) // FRAME_OVERHEAD_BYTES_MAX  # so that a length can be read without asking whether it is there
        for _ in range(count):
            if unpack is not None:
                length: int = unpack(buffer, position)[0]
                data_start = position + head_bytes
            else:
                length, data_start = buffer[position], position + 1
                if length >= 0x80:
                    decoded = self.decode_length(buffer, position, stop)
                    if decoded is None or decoded[0] < 0:
                        return position
                    length, data_start = decoded[0], position + decoded[1]
            end = data_start + length + check_bytes
            if length > limit or end > stop - FRAME_OVERHEAD_BYTES_MAX or crc(buffer[position:end]) != residue:
                return position
            ends.append(end)
            if datas is not None:
                datas.append(buffer[data_start : end - check_bytes])
            position = end
        return position

    def _scan_run(self, buffer: bytes, position: int, width: int, length: int, count: int, datas: list[bytes] | None) -> int:
        """How many of `count` frames with the same encoded length are good before the first that is not; their data into `datas`.

        The data of all are sliced and checksummed by list functions. The checksums that stand in the buffer are put side by side by copying
        their bytes in strides, and compared all at once.
        """
        check_bytes = self.check_bytes
        size = width + length + check_bytes
        data_start, stop = position + width, position + count * size
        if count == 1:
            if self.crc(buffer[position:stop]) != self.residue:
                return 0
            if datas is not None:
                datas.append(buffer[data_start : stop - check_bytes])
            return 1
        seed = self.crc(buffer[position:data_start])
        found = [buffer[start : start + length] for start in range(data_start, stop, size)]
        stored = bytearray(count * check_bytes)
        for offset in range(check_bytes):
            stored[offset::check_bytes] = buffer[data_start + length + offset : stop : size]
        right = Struct(f"<{count}{_UNSIGNED[check_bytes]}").pack(*map(self.crc, found, repeat(seed)))
        if stored != right:
            count = next(
                at
                for at in range(count)
                if stored[at * check_bytes : (at + 1) * check_bytes] != right[at * check_bytes : (at + 1) * check_bytes]
            )
            del found[count:]
        if datas is not None:
            datas += found
        return count

    def split(self, buffer: bytes, start: int, ends: Sequence[int]) -> list[bytes]:
        """The data of the good frames that begin at `start` and end at `ends`."""
        if not ends:
            return []
        starts = [start, *ends[:-1]]
        check_bytes, head_bytes = self.check_bytes, self.head_bytes
        if head_bytes:
            return [buffer[first + head_bytes : end - check_bytes] for first, end in zip(starts, ends, strict=True)]
        datas = []
        for first, end in zip(starts, ends, strict=True):
            data_start = first + 1
            while buffer[data_start - 1] >= 0x80:
                data_start += 1
            datas.append(buffer[data_start : end - check_bytes])
        return datas

    def skip(self, buffer: bytes, position: int, wanted: int) -> tuple[int, int]:
        """Step over frames by their lengths alone, from entry number `position` at the buffer's beginning to entry number `wanted`.

        Only for bytes that were verified. Returns (entry number, its offset in the buffer), short of `wanted` when the buffer ends before.
        """
        at, stop = 0, len(buffer)
        check_bytes, unpack, head_bytes = self.check_bytes, self._unpack_length, self.head_bytes
        while position < wanted:
            if unpack is not None:
                if at + head_bytes > stop:
                    break
                end = at + head_bytes + unpack(buffer, at)[0] + check_bytes
            else:
                decoded = self.decode_length(buffer, at, stop)
                if decoded is None or decoded[0] < 0:
                    break
                end = at + decoded[0] + decoded[1] + check_bytes
            if end > stop:
                break
            at = end
            position += 1
        return position, at


def _run_length(buffer: bytes, position: int, stop: int, size: int, head_bytes: int, window: int) -> int:
    """How many frames from `position` on have the same encoded length, at most `window`: their heads are compared in strides of `size`."""
    count = min((stop - position) // size, window)
    end = position + count * size
    for offset in range(head_bytes):
        column = buffer[position + offset : end : size]
        same = len(column) - len(column.lstrip(column[:1]))
        if same < count:
            count = same
            end = position + count * size
    return count


@lru_cache(maxsize=64)
def codec_of(length_encoding: LengthEncoding, checksum_type: ChecksumType, entry_bytes_max: int) -> Codec:
    """The codec for these settings; the same one for the same settings."""
    return Codec(length_encoding, checksum_type, entry_bytes_max)
