"""Which of gRPC's ways to wait for sockets a process of the product uses."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from cluster.grpc_engine import VARIABLE, WITHOUT_ENGINE, choose


@pytest.mark.parametrize("grpc_version", ["1.73.0", "1.85.1", "1.80"])
def test_a_version_that_was_measured_waits_without_the_event_engine(grpc_version: str) -> None:
    environment: dict[str, str] = {}
    choose(environment, grpc_version)

    assert environment == {VARIABLE: WITHOUT_ENGINE}


@pytest.mark.parametrize("grpc_version", ["1.72.2", "1.86.0", "2.0.0", "1", "dev"])
def test_any_other_version_is_left_as_it_is(grpc_version: str) -> None:
    environment: dict[str, str] = {}
    choose(environment, grpc_version)

    assert environment == {}


def test_what_the_user_has_set_stays() -> None:
    environment = {VARIABLE: ""}
    choose(environment, "1.85.1")

    assert environment == {VARIABLE: ""}


def test_the_installed_version_knows_the_experiments_that_are_set() -> None:
    """gRPC prints an error line for one that it does not know."""
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    choose(environment)
    program = "import grpc; grpc.server(__import__('concurrent.futures', fromlist=['x']).ThreadPoolExecutor()).stop(None)"
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=30, check=True)

    assert "Unknown experiment" not in done.stderr
