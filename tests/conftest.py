"""What holds for all tests.

Tests with real sockets, processes and containers have deadlines, and a machine can be too busy to meet one: such a test is run once more, and the summary names it (`RERUN`).
All others are deterministic, and fail the first time.
"""

from __future__ import annotations

from pathlib import Path

import pytest

_REAL = tuple(str(Path(__file__).parent / name) for name in ("integration", "fault", "containers"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if str(item.path).startswith(_REAL):
            item.add_marker(pytest.mark.flaky(reruns=1))
