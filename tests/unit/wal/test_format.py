"""Headers and frames: the bytes of version 1."""

from __future__ import annotations

import random
import zlib
from itertools import product

import pytest

from replog.errors import WalEntryTooLarge
from replog.wal import ChecksumType, Header, LengthEncoding, codec_of
from replog.wal.checksum import crc32, crc64, crc64_go_iso
from replog.wal.format import HeaderFault, Stop, decode_header, encode_header
from tests.unit.wal.support import codec, flipped

SETTINGS = list(product(LengthEncoding, ChecksumType))
SIZES = [0, 1, 100, 100, 100, 127, 128, 129, 4095, 4096, 4097, 16383, 16384, 65535, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3]
DATAS = [bytes([at % 251]) * size for at, size in enumerate(SIZES)]


def test_a_header_is_these_sixteen_bytes() -> None:
    header = Header(LengthEncoding.UINT64, ChecksumType.CRC64, 0x0102030405060708)

    encoded = encode_header(header)

    assert encoded == b"WAL\0" + b"\x01\x00" + b"\x03" + b"\x02" + b"\x08\x07\x06\x05\x04\x03\x02\x01"
    assert decode_header(encoded) == header


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", HeaderFault.MISSING),
        (b"WAL\0\1\0\2\1\0\0\0\0\0\0\0", HeaderFault.MISSING),
        (bytes(16), HeaderFault.MISSING),
        (b"LAW\0\1\0\2\1" + bytes(8), HeaderFault.MAGIC),
        (b"WAL\0\2\0\2\1" + bytes(8), HeaderFault.VERSION),
        (b"WAL\0\1\0\0\1" + bytes(8), HeaderFault.LENGTH_ENCODING),
        (b"WAL\0\1\0\5\1" + bytes(8), HeaderFault.LENGTH_ENCODING),
        (b"WAL\0\1\0\2\3" + bytes(8), HeaderFault.CHECKSUM_TYPE),
    ],
)
def test_what_is_wrong_with_a_header_has_its_name(content: bytes, fault: HeaderFault) -> None:
    decoded = decode_header(content)

    assert not isinstance(decoded, Header)
    assert decoded[0] is fault


@pytest.mark.parametrize(
    ("encoding", "encoded"),
    [
        (LengthEncoding.UINT16, b"\x2c\x01"),
        (LengthEncoding.UINT32, b"\x2c\x01\0\0"),
        (LengthEncoding.UINT64, b"\x2c\x01\0\0\0\0\0\0"),
        (LengthEncoding.UVARINT, b"\xac\x02"),
    ],
)
def test_a_frame_is_length_data_and_checksum_over_both(encoding: LengthEncoding, encoded: bytes) -> None:
    data = b"x" * 300

    frame = codec(encoding).encode_frame(data)

    assert frame == encoded + data + zlib.crc32(encoded + data).to_bytes(4, "little")


@pytest.mark.parametrize(("encoding", "checksum"), SETTINGS)
def test_a_batch_is_the_frames_one_after_the_other(encoding: LengthEncoding, checksum: ChecksumType) -> None:
    of = codec(encoding, checksum)
    frames = [of.encode_frame(data) for data in DATAS]

    buffer, ends = of.encode_frames(DATAS)

    assert buffer == b"".join(frames)
    assert [0, *ends][1:] == [sum(map(len, frames[: at + 1])) for at in range(len(frames))]
    assert [of.frame_size(len(data)) for data in DATAS] == [len(frame) for frame in frames]


@pytest.mark.parametrize("length", [0, 1, 300])
@pytest.mark.parametrize("count", [1, 2, 31, 32, 33, 100])
@pytest.mark.parametrize(("encoding", "checksum"), SETTINGS)
def test_a_batch_of_one_length_is_the_same_frames(encoding: LengthEncoding, checksum: ChecksumType, count: int, length: int) -> None:
    of = codec(encoding, checksum)
    datas = [random.Random(number).randbytes(length) for number in range(count)]
    kinds = [(bytes, bytearray, memoryview)[number % 3](data) for number, data in enumerate(datas)]

    buffer, ends = of.encode_frames(kinds)

    assert buffer == b"".join(map(of.encode_frame, datas))
    assert list(ends) == [of.frame_size(length) * number for number in range(1, count + 1)]


@pytest.mark.parametrize(("encoding", "checksum"), SETTINGS)
def test_the_packer_of_single_entries_makes_the_same_frames(encoding: LengthEncoding, checksum: ChecksumType) -> None:
    of = codec(encoding, checksum)

    for data in DATAS:
        pack, number, seed, size = of.packer(len(data))
        frame = pack(number, data, of.crc(data, seed))
        assert frame == of.encode_frame(data)
        assert len(frame) == size


@pytest.mark.parametrize(("encoding", "checksum"), SETTINGS)
def test_a_scan_finds_every_frame_and_splits_its_data(encoding: LengthEncoding, checksum: ChecksumType) -> None:
    of = codec(encoding, checksum)
    batch = DATAS + [b"run" * 11] * 500 + DATAS
    buffer, right = of.encode_frames(batch)
    ends: list[int] = []
    datas: list[bytes] = []

    scan = of.scan(b"front" + buffer, 5, 5 + len(buffer), ends, datas)

    assert scan == (Stop.END, 5 + len(buffer), 0)
    assert [end - 5 for end in ends] == list(right)
    assert datas == batch
    assert of.split(b"front" + buffer, 5, ends) == batch


@pytest.mark.parametrize(("encoding", "checksum"), SETTINGS)
@pytest.mark.parametrize("bad", [0, 1, 31, 32, 33, 64, 65, 199])
def test_a_scan_stops_exactly_at_the_first_bad_frame_of_a_run(encoding: LengthEncoding, checksum: ChecksumType, bad: int) -> None:
    of = codec(encoding, checksum)
    size = of.frame_size(9)
    buffer = of.encode_frames([b"123456789"] * 200)[0]

    for offset in range(size):
        broken = flipped(buffer, bad * size + offset, 0x10)
        ends: list[int] = []
        datas: list[bytes] = []
        scan = of.scan(broken, 0, len(broken), ends, datas)
        assert scan.stop is not Stop.END
        assert scan.position == bad * size
        assert len(ends) == len(datas) == bad


@pytest.mark.parametrize(("encoding", "checksum"), SETTINGS)
def test_a_scan_of_a_cut_buffer_says_how_much_is_missing(encoding: LengthEncoding, checksum: ChecksumType) -> None:
    of = codec(encoding, checksum)
    buffer = of.encode_frames([b"a" * 300])[0]

    for cut in range(1, len(buffer)):
        scan = of.scan(buffer, 0, cut, [])
        assert scan.stop is Stop.SHORT
        assert cut < scan.needed <= len(buffer)


def test_a_length_over_the_limit_or_over_64_bits_is_not_believed() -> None:
    for encoding, head in [
        (LengthEncoding.UINT32, b"\xff\xff\xff\xff"),
        (LengthEncoding.UINT64, b"\xff" * 8),
        (LengthEncoding.UVARINT, b"\xff" * 9 + b"\x01"),
        (LengthEncoding.UVARINT, b"\xff" * 9 + b"\x02"),
        (LengthEncoding.UVARINT, b"\x80" * 10),
        (LengthEncoding.UVARINT, b"\x80" * 11),
    ]:
        assert codec(encoding).scan(head + b"data", 0, len(head) + 4, []).stop is Stop.LENGTH


def test_a_length_that_is_not_in_its_shortest_form_is_read() -> None:
    body = b"\x83\x80\x00abc"
    frame = body + zlib.crc32(body).to_bytes(4, "little")
    of = codec(LengthEncoding.UVARINT)
    ends: list[int] = []
    datas: list[bytes] = []

    assert of.scan(frame * 40, 0, len(frame) * 40, ends, datas).stop is Stop.END

    assert datas == of.split(frame * 40, 0, ends) == [b"abc"] * 40


@pytest.mark.parametrize(("encoding", "checksum"), SETTINGS)
def test_zeros_are_no_frame(encoding: LengthEncoding, checksum: ChecksumType) -> None:
    scan = codec(encoding, checksum).scan(bytes(64), 0, 64, [])

    assert scan.stop is Stop.CHECKSUM
    assert scan.position == 0


def test_an_entry_over_the_limit_is_refused_before_it_is_encoded() -> None:
    of = codec_of(LengthEncoding.UINT16, ChecksumType.CRC32, 1 << 17)

    with pytest.raises(WalEntryTooLarge, match=r"65536 bytes.*65535"):
        of.encode_frames([b"fits", bytes(65536)])
    with pytest.raises(WalEntryTooLarge):
        codec_of(LengthEncoding.UINT32, ChecksumType.CRC32, 10).encode_frame(bytes(11))


def test_the_checksums_are_the_ones_of_the_format_whatever_library_computes_them() -> None:
    assert crc32(b"123456789") == 0xCBF43926
    assert crc64(b"123456789") == crc64_go_iso(b"123456789") == 0xB90956C775A41001
    assert crc64_go_iso(b"456789", crc64_go_iso(b"123")) == crc64(b"456789", crc64(b"123")) == 0xB90956C775A41001


def test_a_codec_keeps_only_so_many_lengths() -> None:
    of = codec_of(LengthEncoding.UVARINT, ChecksumType.CRC64, 1 << 16)

    for length in range(10_000):
        of.packer(length)

    assert len(of.packers) <= 4097
    assert of.encode_frame(b"x" * 9_999) == of.encode_frames([b"x" * 9_999])[0]
