"""Clusters of real processes for the tests that kill them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cluster.launch import LocalCluster

FAST = {"tick_ms": 10, "heartbeat_ticks": 5, "election_timeout_ticks_min": 40, "election_timeout_ticks_max": 80}
"""Elections within 0.4 to 0.8 s: a test does not wait for the defaults' 1 to 2 s, and a busy machine still keeps its leader."""

MakeCluster = Callable[..., LocalCluster]


@pytest.fixture
def make_cluster(tmp_path: Path) -> Iterator[MakeCluster]:
    """Makes clusters (keyword arguments of `LocalCluster.create`) whose processes are gone after the test."""
    with ExitStack() as stack:

        def make(**arguments: Any) -> LocalCluster:
            options = {"cluster": FAST, "process": {"log_level": "info"}, **arguments}
            return stack.enter_context(LocalCluster.create(str(tmp_path / "cluster"), **options))

        yield make
