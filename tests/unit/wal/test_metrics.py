"""The metrics of a log, by the names of the Go library."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from replog import wal
from replog.testing.memory_files import MemoryFileSystem
from replog.wal.metrics import WalMetrics
from tests.unit.wal.support import SMALL, codec, path, segment


def test_a_log_counts_on_the_registry_it_is_given() -> None:
    registry = CollectorRegistry()
    system = MemoryFileSystem({path(0): segment(0, [b"old"], codec().encode_frame(b"torn" * 9)[:-3])})
    metrics = WalMetrics(registry)

    log = wal.open("log", SMALL, sync=wal.ImmediateSync(), metrics=metrics, fs=system)
    log.append(b"12345")
    log.append_many([bytes(300)] * 6)
    log.append_frames(*log.codec.encode_frames([b"123"]))
    log.read(1)
    log.read_range(0, 1, 1000)
    list(wal.Reader("log", metrics=metrics, fs=system))

    def value(name: str) -> float | None:
        return registry.get_sample_value(name)

    assert value("wal_append_entry_total") == 8
    assert value("wal_append_entry_bytes_total") == 5 + 1800 + 3
    assert value("wal_read_entry_total") == 1 + 2 + 9
    assert value("wal_read_entry_bytes_total") == 5 + (3 + 5) + (3 + 5 + 1800 + 3)
    assert value("wal_rollover_total") == value("wal_rollover_duration_seconds_count") == 1
    assert value("wal_sync_total") == value("wal_sync_duration_seconds_count") == 3
    assert value("wal_segments") == 2
    assert value("wal_size_bytes") == log.size_bytes
    assert (value("wal_first_sequence"), value("wal_last_sequence"), value("wal_durable_sequence")) == (0, 8, 8)
    assert value("wal_recovery_total") == 1
    assert value("wal_recovery_cut_bytes_total") == 41
    assert value("wal_failure_total") == 0


def test_nothing_is_registered_unless_it_is_asked_for() -> None:
    from prometheus_client import REGISTRY

    system = MemoryFileSystem({path(0): segment(0, [b"old"])})
    wal.open("log", SMALL, fs=system).close()

    assert not [name for name in REGISTRY._names_to_collectors if name.startswith("wal_")]
