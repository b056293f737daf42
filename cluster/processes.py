"""What a process uses, as Linux tells it: CPU time and memory. Elsewhere the figures are 0."""

from __future__ import annotations

import os
import time
from contextlib import suppress


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads that the process has or had."""
    with suppress(OSError):
        return time.clock_gettime((~pid << 3) | 2)  # what clock_getcpuclockid(3) makes of a process on Linux
    return 0.0


def rss_bytes(pid: int) -> int:
    """Memory in use now."""
    with suppress(OSError), open(f"/proc/{pid}/status", encoding="utf-8") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name == "VmRSS":
                return int(value.split()[0]) * 1024
    return 0


def bytes_on_disk(directory: str) -> int:
    """Sizes of all files below `directory`, as they are named, not as blocks are reserved."""
    found = 0
    for where, _, names in os.walk(directory):
        for name in names:
            with suppress(OSError):  # removed meanwhile
                found += os.path.getsize(os.path.join(where, name))
    return found
