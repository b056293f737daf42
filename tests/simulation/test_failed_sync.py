"""A sync that failed, a restart, and a power cut later: what was acknowledged in between must be there.

Found by seed 95 of the profile `disk`: after the failed sync the system still shows what was written, but will never write it (fsyncgate). The log that was
opened again counted those entries as its own, appended behind them, and lost all of it with the next power cut.
"""

from __future__ import annotations

from random import Random

import pytest

from replog import wal
from replog.errors import WalError
from replog.testing.disk import VirtualDisk


@pytest.mark.parametrize("seed", range(10))
def test_a_log_reopened_after_a_failed_sync_survives_the_next_power_cut(seed: int) -> None:
    disk = VirtualDisk(Random(seed))
    options = wal.WalOptions(segment_bytes_max=8192, prepare_next=False, first_sequence=1)
    wal.create("/log", options, fs=disk)
    with wal.open("/log", options, sync=wal.ImmediateSync(), fs=disk) as log:
        log.append(b"first" * 200)
        disk.fail_syncs = 1
        with pytest.raises(WalError):
            log.append(b"second" * 200)
    disk.process_exit()
    with wal.open("/log", options, sync=wal.ImmediateSync(), fs=disk) as log:
        shown = log.last_sequence
        acknowledged = log.append(b"third" * 200)
        assert shown is not None
    disk.power_cut(0.0)

    with wal.open("/log", options, fs=disk) as log:
        assert log.last_sequence == acknowledged == shown + 1
