"""Where a write is synced: on the loop while the disk is typically quick and little is written, otherwise in the thread."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from replog.config import ClusterConfig, NodeConfig
from replog.node.persister import Persister
from replog.storage.interface import Write
from replog.storage.memory import MemoryDisk, MemoryStorage


@pytest.fixture
async def persister() -> AsyncIterator[Persister]:
    made = Persister(
        MemoryStorage.open(MemoryDisk(), ClusterConfig(cluster_id="c"), NodeConfig(node_id="n1", data_dir="memory")), "adaptive"
    )
    yield made
    made.stop()


async def persisted_inline(persister: Persister) -> bool:
    before = persister.inline_persists
    await persister.persist(Write())
    return persister.inline_persists > before


async def test_a_quick_disk_is_synced_on_the_loop(persister: Persister) -> None:
    assert await persisted_inline(persister)


async def test_one_hiccup_does_not_send_a_lone_writer_to_the_thread(persister: Persister) -> None:
    persister.measured(0.5)

    assert await persisted_inline(persister)


async def test_a_disk_that_has_become_slow_is_synced_in_the_thread_within_twenty_writes(persister: Persister) -> None:
    for _ in range(20):
        persister.measured(0.005)

    assert not await persisted_inline(persister)


async def test_a_disk_that_has_become_quick_again_is_synced_on_the_loop(persister: Persister) -> None:
    for _ in range(100):
        persister.measured(0.02)
    for _ in range(60):
        persister.measured(0.0002)

    assert await persisted_inline(persister)
