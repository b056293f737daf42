"""What an operator sees of a log, in Prometheus' terms. Nothing is registered unless a `WalMetrics` is made.

The first eight names are those of the Go library of this format, so that its dashboards go on working. Counters are moved once a batch; the
gauges cost nothing until they are scraped: they ask the log.
"""

from __future__ import annotations

from time import perf_counter
from typing import Final, Protocol

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from replog.wal.recovery import Recovery

_BUCKETS: Final = tuple(0.0001 * 2**power for power in range(16))


class Observed(Protocol):
    """What the gauges ask of a log."""

    @property
    def first_sequence(self) -> int: ...
    @property
    def next_sequence(self) -> int: ...
    @property
    def durable_sequence(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def segment_count(self) -> int: ...


class WalMetrics:
    """The metrics of one log (or of all logs of a process, whose counters then add up) on the registry given."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._append_entries = Counter("wal_append_entry_total", "Total number of entries appended.", registry=registry)
        self._append_bytes = Counter(
            "wal_append_entry_bytes_total", "Total number of bytes appended (excluding metadata).", registry=registry
        )
        self._read_entries = Counter("wal_read_entry_total", "Total number of entries read.", registry=registry)
        self._read_bytes = Counter("wal_read_entry_bytes_total", "Total number of bytes read (excluding metadata).", registry=registry)
        self._syncs = Counter("wal_sync_total", "Total number of syncs executed.", registry=registry)
        self._sync_seconds = Histogram("wal_sync_duration_seconds", "Duration of syncs in seconds.", buckets=_BUCKETS, registry=registry)
        self._rollovers = Counter("wal_rollover_total", "Total number of rollovers executed.", registry=registry)
        self._rollover_seconds = Histogram(
            "wal_rollover_duration_seconds", "Duration of rollovers in seconds.", buckets=_BUCKETS, registry=registry
        )
        self._recoveries = Counter("wal_recovery_total", "Total number of opens that found traces of a crash.", registry=registry)
        self._bytes_cut = Counter("wal_recovery_cut_bytes_total", "Total number of bytes cut off by recoveries.", registry=registry)
        self._failures = Counter(
            "wal_failure_total", "Total number of logs that failed for good (write, sync, disk full).", registry=registry
        )
        self._segments = Gauge("wal_segments", "Number of segments.", registry=registry)
        self._bytes = Gauge("wal_size_bytes", "Bytes of all segments, preallocation excluded.", registry=registry)
        self._first = Gauge("wal_first_sequence", "Sequence number of the oldest entry.", registry=registry)
        self._last = Gauge("wal_last_sequence", "Sequence number of the newest entry.", registry=registry)
        self._durable = Gauge("wal_durable_sequence", "Sequence number of the newest entry that is data-synced.", registry=registry)

    @staticmethod
    def now() -> float:
        """The clock of the durations, in seconds."""
        return perf_counter()

    def observe(self, log: Observed, recovery: Recovery) -> None:
        """Called by the log when it opens: the gauges show it from now on."""
        self._segments.set_function(lambda: log.segment_count)
        self._bytes.set_function(lambda: log.size_bytes)
        self._first.set_function(lambda: log.first_sequence)
        self._last.set_function(lambda: log.next_sequence - 1)
        self._durable.set_function(lambda: log.durable_sequence - 1)
        if not recovery.is_clean:
            self._recoveries.inc()
            self._bytes_cut.inc(recovery.bytes_cut)

    def appended(self, entries: int, data_bytes: int) -> None:
        self._append_entries.inc(entries)
        self._append_bytes.inc(data_bytes)

    def read(self, entries: int, data_bytes: int) -> None:
        self._read_entries.inc(entries)
        self._read_bytes.inc(data_bytes)

    def synced(self, started: float) -> None:
        """A sync that began at `started` (of `now`) is done."""
        self._syncs.inc()
        self._sync_seconds.observe(perf_counter() - started)

    def rolled_over(self, started: float) -> None:
        self._rollovers.inc()
        self._rollover_seconds.observe(perf_counter() - started)

    def failed(self) -> None:
        self._failures.inc()
