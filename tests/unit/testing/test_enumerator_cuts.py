"""Every cut and every single-byte flip of the last batch, for every encoding and checksum; and of everything else.

A cut is what a crash leaves: it recovers to exactly the entries in front of it. A flip is what a crash does not leave: it is refused, by name, with the
entry's place and sequence number, and nothing is changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import pytest

from replog import wal
from replog.errors import WalDamaged, WalEntryDamaged, WalFormatUnknown, WalHeaderDamaged, WalLengthDamaged
from replog.testing.log_workloads import payload, read_all, small_options
from replog.testing.memory_files import MemoryFileSystem
from replog.wal import ChecksumType, LengthEncoding, WalOptions

SETTINGS = list(product(LengthEncoding, ChecksumType))
NAME = "log/00000000000000000000.wal"
FIRST = [payload(0, 40), b"", payload(2, 60)]
BATCH = [payload(3, 90), b"", payload(5, 560), payload(6, 1), payload(7, 40)]


class Written:
    """A log with acknowledged entries and one last batch, and where the frames of all of them end."""

    def __init__(self, encoding: LengthEncoding, checksum: ChecksumType, preallocate: int, batch: Sequence[bytes] = BATCH) -> None:
        self.options = WalOptions(
            length_encoding=encoding,
            checksum_type=checksum,
            segment_bytes_max=8192,
            preallocate_bytes=preallocate,
            prepare_next=False,
            entry_bytes_max=4096,
        )
        files = MemoryFileSystem()
        wal.create("log", self.options, fs=files)
        self.datas = [*(FIRST if batch is BATCH else ()), *batch]
        self.ends = []
        with wal.open("log", self.options, sync=wal.NoSync(), fs=files) as log:
            log.append_many(self.datas[: -len(batch)])
            self.batch_start = log.segments()[-1].end_offset
            log.append_many(batch)
            offset = 16
            for data in self.datas:
                offset += log.codec.frame_size(len(data))
                self.ends.append(offset)
        self.content = files.files()[NAME]
        self.end = self.ends[-1]

    def entry_at(self, offset: int) -> int:
        return next(sequence for sequence, end in enumerate(self.ends) if offset < end)

    def entry_start(self, sequence: int) -> int:
        return self.ends[sequence - 1] if sequence else 16

    def open_or_refuse(self, content: bytes) -> list[bytes] | WalDamaged:
        """`open`, with its refusal as a value."""
        try:
            return self.open(content)
        except WalDamaged as damage:
            return damage

    def open(self, content: bytes) -> list[bytes]:
        """What a log with this content recovers to; appends to it, and reads it again. On a refusal, that nothing was changed."""
        files = MemoryFileSystem({NAME: content})
        try:
            log = wal.open("log", self.options, sync=wal.NoSync(), fs=files)
        except WalDamaged:
            assert files.files() == {NAME: content}
            raise
        with log:
            found = read_all(log)
            following = self.datas[len(found)] if len(found) < len(self.datas) else b"more"
            log.append(b"n" * len(following))
        again = [data for _, data in wal.Reader("log", fs=files)]
        assert again == [*found, b"n" * len(following)]
        return found


@pytest.mark.slow
@pytest.mark.parametrize("preallocate", [0, 4096])
@pytest.mark.parametrize(("encoding", "checksum"), SETTINGS)
def test_a_file_that_ends_at_any_byte_of_the_last_batch_recovers_to_the_entries_before_it(
    encoding: LengthEncoding, checksum: ChecksumType, preallocate: int
) -> None:
    written = Written(encoding, checksum, preallocate)

    for cut in range(written.batch_start, written.end + 1):
        whole = sum(end <= cut for end in written.ends)
        assert written.open(written.content[:cut]) == written.datas[:whole]


@pytest.mark.slow
@pytest.mark.parametrize(("encoding", "checksum"), SETTINGS)
def test_zeros_from_any_byte_of_the_last_batch_on_recover_to_the_entries_before_it(
    encoding: LengthEncoding, checksum: ChecksumType
) -> None:
    written = Written(encoding, checksum, 4096)

    for cut in range(written.batch_start, written.end + 1):
        content = written.content[:cut] + bytes(4096 - cut)
        whole = sum(content[:end] == written.content[:end] for end in written.ends)  # the end of an entry may be zeros by itself
        found = written.open_or_refuse(content)
        if isinstance(found, WalDamaged):
            # Not a lost sector, and one byte away from a good entry: that is what rot looks like, and is not cut in silence.
            assert cut % 512, f"zeros from {cut} on"
            assert found.sequence == whole
        else:
            assert found == written.datas[:whole]


@pytest.mark.slow
@pytest.mark.parametrize(("encoding", "checksum"), SETTINGS)
def test_any_sectors_of_the_last_batch_may_be_missing(encoding: LengthEncoding, checksum: ChecksumType) -> None:
    written = Written(encoding, checksum, 4096)
    first, last = written.batch_start // 512, (written.end - 1) // 512

    for missing in range(1, 2 ** (last - first + 1)):
        content = bytearray(written.content)
        for sector in range(first, last + 1):
            if missing >> (sector - first) & 1:
                start, stop = max(sector * 512, written.batch_start), min(sector * 512 + 512, written.end)
                content[start:stop] = bytes(stop - start)
        whole = next(at for at, end in enumerate([*written.ends, 0]) if content[:end] != written.content[:end] or not end)
        assert written.open(bytes(content)) == written.datas[:whole]


@pytest.mark.slow
@pytest.mark.parametrize("preallocate", [0, 4096])
@pytest.mark.parametrize(("encoding", "checksum"), SETTINGS)
def test_one_flipped_byte_anywhere_is_refused_with_its_entry_and_nothing_is_changed(
    encoding: LengthEncoding, checksum: ChecksumType, preallocate: int
) -> None:
    written = Written(encoding, checksum, preallocate)

    for offset in range(16, written.end):
        sequence = written.entry_at(offset)
        for mask in {0x01, 0x80, 0xFF, written.content[offset]} - {0}:
            content = bytearray(written.content)
            content[offset] ^= mask
            if offset == written.end - 1 and not content[offset]:
                continue  # the last byte of all, turned into a zero: as if the write had ended before it
            with pytest.raises((WalEntryDamaged, WalLengthDamaged)) as caught:
                written.open(bytes(content))
            assert (caught.value.segment, caught.value.sequence) == (NAME, sequence), f"{offset} ^ {mask}: {caught.value}"
            assert caught.value.offset == written.entry_start(sequence)


@pytest.mark.slow
@pytest.mark.parametrize(("encoding", "checksum"), SETTINGS)
def test_a_flip_in_an_empty_entry_over_a_sectors_end_is_no_lost_sector(encoding: LengthEncoding, checksum: ChecksumType) -> None:
    """The high bytes of its length are zeros by themselves, and may be all of the entry that is in one of its sectors."""
    for filler in range(480, 500, 2):
        written = Written(encoding, checksum, 4096, [payload(0, filler), b"", payload(2, 20)])
        for offset in range(written.entry_start(1), written.ends[1]):
            content = bytearray(written.content)
            content[offset] ^= 0x21
            with pytest.raises((WalEntryDamaged, WalLengthDamaged)) as caught:
                written.open(bytes(content))
            assert caught.value.sequence == 1


@pytest.mark.parametrize(("encoding", "checksum"), SETTINGS)
def test_one_flipped_byte_of_a_header_is_refused(encoding: LengthEncoding, checksum: ChecksumType) -> None:
    written = Written(encoding, checksum, 0)

    for offset in range(16):
        for mask in (0x01, 0x40, 0x80, 0xFF):
            content = bytearray(written.content)
            content[offset] ^= mask
            if content[6] in (1, 2, 3, 4) and content[7] in (1, 2) and offset in (6, 7):
                continue  # another encoding or checksum: tested below
            with pytest.raises((WalHeaderDamaged, WalFormatUnknown)) as caught:
                written.open(bytes(content))
            assert caught.value.segment == NAME


@pytest.mark.parametrize(("encoding", "checksum"), SETTINGS)
def test_a_header_that_names_another_known_encoding_or_checksum_does_not_open_as_an_empty_log(
    encoding: LengthEncoding, checksum: ChecksumType
) -> None:
    written = Written(encoding, checksum, 4096)

    for other, sums in SETTINGS:
        if (other, sums) == (encoding, checksum):
            continue
        content = bytearray(written.content)
        content[6:8] = bytes((other, sums))
        found = written.open_or_refuse(bytes(content))
        assert isinstance(found, WalDamaged), (
            f"{encoding.label}/{checksum.label} opened as {other.label}/{sums.label} with {len(found)} entries"
        )
        assert found.sequence == 0


@pytest.mark.slow
@pytest.mark.parametrize(("encoding", "checksum"), SETTINGS)
def test_a_flip_or_a_cut_in_a_sealed_segment_is_damage(encoding: LengthEncoding, checksum: ChecksumType) -> None:
    options = small_options(encoding, checksum)
    files = MemoryFileSystem()
    wal.create("log", options, fs=files)
    with wal.open("log", options, sync=wal.NoSync(), fs=files) as log:
        for sequence in range(20):
            log.append(payload(sequence, (sequence * 67) % 300))
        sealed = log.segments()[0]
    content = files.files()[sealed.path]

    for offset in range(16, len(content)):
        flipped = bytearray(content)
        flipped[offset] ^= 0x10
        for damaged in (bytes(flipped), content[:offset]):
            copy = MemoryFileSystem({**files.files(), sealed.path: damaged})
            with pytest.raises(WalDamaged) as caught:
                wal.open("log", options, fs=copy)
            assert caught.value.sequence is not None
            assert caught.value.sequence < sealed.next_sequence
            assert copy.files()[sealed.path] == damaged
