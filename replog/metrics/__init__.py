"""Prometheus metrics of a node: one table, read when scraped."""

from replog.metrics.collector import NodeCollector

__all__ = ["NodeCollector"]
