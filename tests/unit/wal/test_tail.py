"""A torn write told apart from damage."""

from __future__ import annotations

import random
from itertools import product

import pytest

from replog.testing.memory_files import MemoryFileSystem
from replog.wal import ChecksumType, Codec, LengthEncoding
from replog.wal.recovery import classify_tail
from replog.wal.tail import Tail
from tests.unit.wal.support import codec

SETTINGS = list(product(LengthEncoding, ChecksumType))
TORN = {Tail.MISSING_SECTOR, Tail.FILE_ENDS, Tail.PREFIX}
CLEAN = {Tail.END, Tail.ZEROS}


def judge(of: Codec, content: bytes, start: int) -> Tail:
    """The verdict on what stands at `start` of a file, and behind the good entries there."""
    file = MemoryFileSystem({"f": content}).open("f")
    scan = of.scan(content, start, len(content), [])
    return classify_tail(file, of, scan.stop, scan.position, len(content))[0]


def filler(start: int) -> bytes:
    return bytes([0xEE]) * start


@pytest.mark.slow
@pytest.mark.parametrize(("encoding", "checksum"), SETTINGS)
def test_a_write_that_ended_at_any_byte_is_torn(encoding: LengthEncoding, checksum: ChecksumType) -> None:
    of = codec(encoding, checksum)
    batch = of.encode_frames([b"first" * 9, b"", b"second" * 90])[0]

    for start, cut in product((16, 500), range(len(batch))):
        for behind in (b"", bytes(len(batch) - cut), bytes(2000)):
            assert judge(of, filler(start) + batch[:cut] + behind, start) in TORN | CLEAN


@pytest.mark.parametrize(("encoding", "checksum"), SETTINGS)
def test_any_missing_sectors_of_a_batch_are_torn(encoding: LengthEncoding, checksum: ChecksumType) -> None:
    of = codec(encoding, checksum)
    chance = random.Random(7)
    batch = of.encode_frames([chance.randbytes(size) for size in (300, 0, 20, 900, 700, 1)])[0]
    start = 300
    whole = filler(start) + batch + bytes(600)
    sectors = range(start // 512, (start + len(batch)) // 512 + 1)

    for missing in range(1, 1 << len(sectors)):
        content = bytearray(whole)
        for bit, sector in enumerate(sectors):
            if missing >> bit & 1:
                content[max(start, sector * 512) : (sector + 1) * 512] = bytes(512 - max(0, start - sector * 512))
        assert judge(of, bytes(content), start) in TORN | CLEAN


@pytest.mark.parametrize(("encoding", "checksum"), SETTINGS)
def test_any_changed_byte_is_damage_and_not_torn(encoding: LengthEncoding, checksum: ChecksumType) -> None:
    of = codec(encoding, checksum)
    batch = of.encode_frames([b"first" * 9, b"", b"third" * 90])[0]

    for start, behind in product((16, 500), (b"", bytes(3000))):
        whole = filler(start) + batch + behind
        for at, value in product(range(start, start + len(batch)), (0x01, 0x80, 0xFF)):
            changed = whole[:at] + bytes([whole[at] ^ value]) + whole[at + 1 :]
            assert judge(of, changed, start) not in TORN | CLEAN, at


def test_a_changed_byte_in_an_entry_full_of_zeros_is_damage() -> None:
    of = codec()
    batch = of.encode_frame(bytes(40) + b"data" * 110 + bytes(60)) + of.encode_frame(b"the next one")
    whole = filler(16) + batch + bytes(2000)

    for at in range(16, 16 + len(batch)):
        changed = whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :]
        assert judge(of, changed, 16) not in TORN | CLEAN, at


@pytest.mark.parametrize("length", [0x7F, 0x80, 0x3FFF, 0x4000])
def test_a_changed_byte_of_a_length_that_varies_in_its_own_length_is_damage(length: int) -> None:
    of = codec(LengthEncoding.UVARINT)
    batch = of.encode_frame(b"v" * length)
    whole = filler(16) + batch + bytes(40_000)

    for at, value in product(range(16, 16 + len(of.encode_length(length))), range(1, 256)):
        changed = whole[:at] + bytes([whole[at] ^ value]) + whole[at + 1 :]
        assert judge(of, changed, 16) not in TORN | CLEAN, (at, value)


def test_random_torn_batches_are_hardly_ever_called_damage() -> None:
    chance = random.Random(3)
    of = codec()
    wrong = 0
    for _ in range(300):
        batch = of.encode_frames([chance.randbytes(chance.randrange(900)) for _ in range(5)])[0]
        content = bytearray(filler(16) + batch + bytes(600))
        for sector in range(len(content) // 512):
            if chance.random() < 0.4:
                content[max(16, sector * 512) : (sector + 1) * 512] = bytes((sector + 1) * 512 - max(16, sector * 512))
        wrong += judge(of, bytes(content), 16) not in TORN | CLEAN
    assert wrong == 0


@pytest.mark.parametrize(("encoding", "checksum"), [pair for pair in SETTINGS if pair[0] is not LengthEncoding.UVARINT])
def test_a_changed_byte_is_damage_though_the_length_begins_with_a_zero_at_the_end_of_a_sector(
    encoding: LengthEncoding, checksum: ChecksumType
) -> None:
    of = codec(encoding, checksum)
    batch = of.encode_frames([b"x" * 256, b"the next one"])[0]
    whole = filler(511) + batch + bytes(600)
    assert whole[511] == 0

    for at in range(512, 511 + of.frame_size(256)):
        changed = whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :]
        assert judge(of, changed, 511) not in TORN | CLEAN, at
