"""What is remembered of where entries are is forgotten when they are cut off."""

from __future__ import annotations

import pytest

from replog import wal
from replog.testing.log_workloads import payload
from replog.testing.memory_files import MemoryFileSystem
from replog.wal import WalOptions
from replog.wal.segment import SparseIndex


@pytest.mark.parametrize("keep", [0, 10, 39, 59])
@pytest.mark.parametrize("length", [7, 1000, 3000])
def test_every_entry_is_found_after_longer_or_shorter_ones_took_the_place_of_others(keep: int, length: int) -> None:
    files = MemoryFileSystem()
    options = WalOptions(preallocate_bytes=0, prepare_next=False)
    wal.create("log", options, fs=files)
    with wal.open("log", options, sync=wal.NoSync(), fs=files) as log:
        datas = [payload(sequence, 1000) for sequence in range(80)]
        log.append_many(datas)

        log.truncate_behind(keep)
        datas[keep + 1 :] = [payload(sequence, length, 1) for sequence in range(keep + 1, 160)]
        for data in datas[keep + 1 :]:
            log.append(data)

        assert [log.read(sequence) for sequence in reversed(range(160))] == datas[::-1]
        for sequence in range(0, 160, 7):
            assert log.read_range(sequence, 159, 10_000)[0] == datas[sequence]


@pytest.mark.parametrize("size", [8, 1000, 16_384, 20_000])
def test_the_index_of_frames_of_one_size_is_the_same_whether_counted_or_looked_for(size: int) -> None:
    counted, looked_for = SparseIndex(), SparseIndex()
    position, base = 0, 16

    for count in (1, 3, 200, 7, 5000, 1, 40):
        ends = range(size, size * count + 1, size)
        counted.add(position, base, ends)
        looked_for.add(position, base, list(ends))
        position, base = position + count, base + ends[-1]

        assert counted.next_point == looked_for.next_point
        assert [counted.find(wanted) for wanted in range(position)] == [looked_for.find(wanted) for wanted in range(position)]
