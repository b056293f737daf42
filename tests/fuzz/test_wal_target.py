"""The fuzzer's target holds for what it would begin with; and under Atheris for some seconds, where that is installed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from replog.wal import ChecksumType, LengthEncoding, codec_of
from tests.fuzz.wal_target import target


@pytest.mark.slow
def test_the_target_holds_for_good_frames_and_for_rubbish() -> None:
    chance = Random(7)
    for number in range(1500):
        encoding, checksum = LengthEncoding(number % 4 + 1), ChecksumType(number // 4 % 2 + 1)
        codec = codec_of(encoding, checksum, 1 << 20)
        frames = b"".join(codec.encode_frame(chance.randbytes(chance.choice([0, 3, 90]))) for _ in range(chance.randint(0, 5)))
        data = bytearray(bytes((chance.randrange(256), encoding - 1, checksum - 1)) + frames + chance.randbytes(chance.randint(0, 12)))
        for _ in range(chance.randint(0, 2)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        target(bytes(data))


@pytest.mark.hunt
@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
def test_atheris_finds_nothing(tmp_path: Path) -> None:
    program = [
        sys.executable,
        str(Path(__file__).with_name("wal_target.py")),
        "-max_total_time=20",
        "-timeout=10",
        "-rss_limit_mb=1024",
        str(tmp_path),
    ]

    done = subprocess.run(program, capture_output=True, text=True, check=False, cwd=tmp_path)

    assert done.returncode == 0, done.stderr[-3000:]
