"""Many are told at once, and none is told twice or left out because another one has gone."""

from __future__ import annotations

import asyncio

import pytest

from replog.client.futures import set_results


async def test_each_gets_its_own_result() -> None:
    futures = [asyncio.get_running_loop().create_future() for _ in range(5)]

    set_results(futures, range(5))

    assert await asyncio.gather(*futures) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("gone", [(0,), (4,), (1, 2), (0, 1, 2, 3, 4)])
async def test_those_who_went_away_keep_nobody_from_its_result(gone: tuple[int, ...]) -> None:
    futures = [asyncio.get_running_loop().create_future() for _ in range(5)]
    for position in gone:
        futures[position].cancel()

    set_results(futures, range(5))

    assert [future.cancelled() for future in futures] == [position in gone for position in range(5)]
    assert [future.result() for future in futures if not future.cancelled()] == [number for number in range(5) if number not in gone]


async def test_a_result_too_few_is_a_mistake() -> None:
    futures = [asyncio.get_running_loop().create_future() for _ in range(2)]

    with pytest.raises(ValueError, match="shorter"):
        set_results(futures, [1])
