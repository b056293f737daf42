"""The committed code says what the `.proto` files say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
def test_generated_code_is_up_to_date() -> None:
    pytest.importorskip("grpc_tools", reason="grpcio-tools is not installed; it belongs to the extra `dev`")
    done = subprocess.run([sys.executable, str(ROOT / "replog/rpc/generate.py"), "--check"], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
