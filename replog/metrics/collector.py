"""Puts a node's numbers on a Prometheus registry."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from replog.metrics.definitions import METRICS, Counts
from replog.node.status import NodeStatus

_SYNC_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class NodeCollector(Collector):
    """Reads the node when scraped; `close` takes it off the registry again."""

    def __init__(self, registry: CollectorRegistry, read: Callable[[], tuple[NodeStatus, Counts]]) -> None:
        self._registry = registry
        self._read = read
        self._persist = Histogram(
            "replog_persist_duration_seconds",
            "Time of one persist (write and data sync of a batch)",
            buckets=_SYNC_BUCKETS,
            registry=registry,
        )
        registry.register(self)

    def observe_persist(self, seconds: float) -> None:
        """Once a batch."""
        self._persist.observe(seconds)

    def close(self) -> None:
        self._registry.unregister(self)
        self._registry.unregister(self._persist)

    def describe(self) -> Iterator[Metric]:
        """Nothing: the names are known only with a node behind them."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        status, counts = self._read()
        info = GaugeMetricFamily("replog_node_info", "Who this is; always 1", labels=["node_id", "cluster_id", "role"])
        info.add_metric([status.node_id, status.cluster_id, status.role], 1)
        yield info
        for row in METRICS:
            family = GaugeMetricFamily if row.kind == "gauge" else CounterMetricFamily
            yield family(row.name, row.help, value=float(row.value(status, counts)))
        lag = GaugeMetricFamily(
            "replog_peer_lag_entries", "Entries that a follower is behind the leader's last index", labels=["peer", "state"]
        )
        for peer in status.peers:
            lag.add_metric([peer.node, peer.state], float(status.last_index - peer.match_index))
        yield lag
        acknowledgement = GaugeMetricFamily(
            "replog_peer_acknowledgement_seconds", "Mean time of late from sending an append to its acknowledgement", labels=["peer"]
        )
        for node, seconds in status.acknowledgement_seconds.items():
            acknowledgement.add_metric([node], seconds)
        yield acknowledgement
        window = GaugeMetricFamily(
            "replog_peer_window_bytes", "Bytes of entries that may be on their way to a follower, as measured", labels=["peer"]
        )
        for peer in status.peers:
            window.add_metric([peer.node], float(peer.window_bytes))
        yield window
