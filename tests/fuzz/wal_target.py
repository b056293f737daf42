"""The Atheris target: any bytes as the last one, and as a sealed one, of a log's segments.

    pip install atheris
    python tests/fuzz/wal_target.py -max_total_time=60 tests/fuzz/corpus

Only errors of the log may come out, nothing large may be allocated, nothing may hang (Atheris' own limits: -timeout, -rss_limit_mb).
"""

from __future__ import annotations

import importlib
import sys
from types import FunctionType

from replog import wal
from replog.errors import WalError
from replog.testing.log_workloads import read_all
from replog.testing.memory_files import MemoryFileSystem
from replog.wal import ChecksumType, LengthEncoding, WalOptions
from replog.wal.format import Header, encode_header

OPTIONS = WalOptions(entry_bytes_max=1 << 20, segment_bytes_max=4096, prepare_next=False)


def segment(first: int, data: bytes) -> bytes:
    """The bytes as they are, or behind a good header that the first two choose."""
    if len(data) < 2 or data[0] >= 0x80:
        return data[1:]
    encoding, checksum = LengthEncoding(data[0] % 4 + 1), ChecksumType(data[1] % 2 + 1)
    return encode_header(Header(encoding, checksum, first)) + data[2:]


def target(data: bytes) -> None:
    """One input: two segments, cut at the byte that the first one says."""
    if not data:
        return
    cut = 1 + data[0] * (len(data) - 1) // 255
    files = {f"log/{0:020d}.wal": segment(0, data[1:cut])}
    if data[0] % 3:
        files[f"log/{data[0]:020d}.wal"] = segment(data[0], data[cut:])
    system = MemoryFileSystem(files)
    try:
        with wal.open("log", OPTIONS, sync=wal.NoSync(), fs=system) as log:
            found = read_all(log)
            log.append(b"appended")
    except WalError:
        pass
    else:
        assert [entry for _, entry in wal.Reader("log", fs=system)] == [*found, b"appended"]
    try:
        for _ in wal.Reader("log", fs=MemoryFileSystem(files), entry_bytes_max=OPTIONS.entry_bytes_max):
            pass
    except WalError:
        return


def main() -> None:
    """Let Atheris drive, with the log's modules instrumented."""
    atheris = importlib.import_module("atheris")
    for name in ("format", "tail", "recovery", "segment", "segments", "reader"):
        module = importlib.import_module(f"replog.wal.{name}")
        owners = [module, *(item for item in vars(module).values() if isinstance(item, type) and item.__module__ == module.__name__)]
        for owner in owners:
            for item in vars(owner).values():
                if isinstance(item, FunctionType) and item.__module__ == module.__name__:
                    atheris.instrument_func(item)
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
