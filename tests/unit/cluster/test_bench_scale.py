"""The measures of how cost grows: their parts that need no cluster."""

from __future__ import annotations

import asyncio
import os
from itertools import repeat
from pathlib import Path

import pytest

from cluster.bench_endurance import Sampler, write_log
from cluster.bench_scale import MEASURES, ScaleOptions, bare_rate, run_scale
from cluster.config import load
from cluster.launch import LocalCluster
from cluster.load import closed_loop
from cluster.processes import bytes_on_disk, cpu_seconds, rss_bytes
from replog.errors import ConfigError
from replog.storage.disk import DiskStorage


def test_a_log_that_is_made_is_one_that_a_node_recovers(tmp_path: Path) -> None:
    local = LocalCluster.create(str(tmp_path), 1, node={"segment_bytes_max": 65_536})
    write_log(local, "n1", 10_500)

    configuration = load(local.node("n1").config_path, {})
    storage = DiskStorage.open_for(configuration.cluster, configuration.node)
    try:
        assert (storage.first_index, storage.last_index) == (1, 10_500)
        assert storage.recovered.hard_state.term == 1
        assert storage.read_frames(10_500, 10_500, 1 << 20).payloads[0].startswith(b"\x01\x08\x00key00500")
    finally:
        storage.close()


def test_one_process_alone_writes_and_leaves_nothing_behind(tmp_path: Path) -> None:
    assert bare_rate(str(tmp_path), 4096, 0.05) > 0
    assert list(tmp_path.iterdir()) == []


def test_a_process_has_cpu_time_and_memory_and_a_dead_one_has_none() -> None:
    before = cpu_seconds(os.getpid())
    sum(range(200_000))

    assert cpu_seconds(os.getpid()) > before
    assert rss_bytes(os.getpid()) > 1_000_000
    assert (cpu_seconds(2**22 - 1), rss_bytes(2**22 - 1)) == (0.0, 0)


def test_the_sampler_gives_the_most_since_it_was_asked_last() -> None:
    sampler = Sampler({"n1": os.getpid()})
    first = sampler.take()["n1"]
    held = bytearray(64 << 20)
    sampler.look()
    held.clear()

    assert sampler.take()["n1"] > first + (32 << 20)
    assert sampler.take()["n1"] < first + (32 << 20)


def test_files_count_with_their_length(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_bytes(b"x" * 1000)
    (tmp_path / "file").write_bytes(b"x" * 24)

    assert bytes_on_disk(str(tmp_path)) == 1024


async def test_operations_of_the_warm_up_are_told_apart() -> None:
    async def operation(argument: object) -> None:
        await asyncio.sleep(0)

    result = await closed_loop(operation, repeat(None), in_flight=3, seconds=0.02, warmup_seconds=0.02)

    assert result.operations > 0
    assert result.operations_before > 0


async def test_a_measure_that_is_not_known_is_refused_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match=f"scale: found 'speed', allowed: one of {', '.join(MEASURES)}, all"):
        await run_scale(["speed"], ScaleOptions())
