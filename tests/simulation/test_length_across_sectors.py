"""An entry whose length lies across two sectors, of which the first one was lost with the power: that is a torn write and no damage.

Found by seed 8 of the profile `quick-restarts`: the node refused to start from a disk that had only lost what was not synced.
"""

from __future__ import annotations

from random import Random

import pytest

from replog import wal
from replog.testing.disk import PowerCut, VirtualDisk
from replog.wal.options import LengthEncoding


@pytest.mark.parametrize("encoding", [LengthEncoding.UINT16, LengthEncoding.UINT32, LengthEncoding.UINT64, LengthEncoding.UVARINT])
@pytest.mark.parametrize("fits", range(1, 10))
@pytest.mark.parametrize("seed", range(1, 20, 3))
def test_a_torn_write_is_recovered_wherever_its_length_lies(encoding: LengthEncoding, fits: int, seed: int) -> None:
    disk = VirtualDisk(Random(seed))
    options = wal.WalOptions(segment_bytes_max=8192, prepare_next=False, first_sequence=1, length_encoding=encoding)
    wal.create("/log", options, fs=disk)
    overhead = {LengthEncoding.UINT16: 2, LengthEncoding.UINT32: 4, LengthEncoding.UINT64: 8, LengthEncoding.UVARINT: 2}[encoding] + 4
    writer = wal.open("/log", options, sync=wal.ImmediateSync(), fs=disk)
    writer.append(b"s" * (1024 - 16 - overhead - fits))
    disk.fuse = 1
    with pytest.raises(PowerCut):
        writer.append(b"t" * 200)
    disk.power_cut(0.5)

    with wal.open("/log", options, fs=disk) as log:
        assert log.last_sequence in (1, 2)
