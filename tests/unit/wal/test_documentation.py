"""The page about the log says what is so: its example bytes, and a row for every meaning of the recovery table."""

from __future__ import annotations

import re
from pathlib import Path

from replog import errors
from replog.wal.recovery import RECOVERY_TABLE
from tests.unit.wal.support import codec, segment

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "wal.md").read_text(encoding="utf-8")


def test_the_bytes_of_the_example_are_the_bytes_of_a_log() -> None:
    lines = re.findall(r"^((?:[0-9a-f]{2} ? ?)+)  +\S", PAGE, re.MULTILINE)

    assert b"".join(bytes.fromhex(line) for line in lines) == segment(0, [b"abc"])
    assert codec().encode_frame(b"")[-4:].hex(" ") in PAGE


def test_every_error_that_recovery_raises_is_named_and_no_other() -> None:
    raised = {row.error.__name__ for row in RECOVERY_TABLE if row.error is not None}

    assert raised <= set(re.findall(r"`(Wal\w+)`", PAGE))
    assert all(hasattr(errors, name) for name in re.findall(r"`(Wal\w+)`", PAGE))
