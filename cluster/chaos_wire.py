"""A wire that delays and loses packets, for kernels without ``tc netem``: ``python -m cluster.chaos_wire NEAR FAR DELAY_MS JITTER_MS LOSS_PERCENT``.

It makes two devices (TUN) where it runs. What comes out of NEAR goes into FAR, each packet after `DELAY_MS` give or take `JITTER_MS` (so they overtake each
other, as with netem), or not at all. The run then moves NEAR into a node's namespace. The devices end with the process, which ends with its parent.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import os
import select
import struct
import sys
import time
from random import Random
from typing import Final

_TUNSETIFF: Final = 0x400454CA
_IFF_TUN: Final = 0x0001
_IFF_NO_PI: Final = 0x1000
_PACKET_BYTES_MAX: Final = 65_536
_HELD_MAX: Final = 20_000
"""Packets on their way; one more is lost, as in any queue that is full."""
_PARENT_LOOK_SECONDS: Final = 1.0


def open_device(name: str) -> int:
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
    return descriptor


def carry(near: int, far: int, delay_seconds: float, jitter_seconds: float, loss: float, chance: Random) -> None:
    """Until the parent is gone."""
    parent = os.getppid()
    held: list[tuple[float, int, bytes]] = []
    number = 0
    poll = select.poll()
    poll.register(near, select.POLLIN)
    while os.getppid() == parent:
        now = time.monotonic()
        while held and held[0][0] <= now:
            _, _, packet = heapq.heappop(held)
            with contextlib.suppress(OSError):  # the far end's queue is full, or it is not up yet: lost
                os.write(far, packet)
        wait = max(0.0, held[0][0] - now) if held else _PARENT_LOOK_SECONDS
        if not poll.poll(min(wait, _PARENT_LOOK_SECONDS) * 1000):
            continue
        try:
            packet = os.read(near, _PACKET_BYTES_MAX)
        except OSError:
            time.sleep(0.001)  # the device is being moved
            continue
        if len(held) < _HELD_MAX and chance.random() >= loss:
            number += 1
            heapq.heappush(held, (now + delay_seconds + chance.uniform(-jitter_seconds, jitter_seconds), number, packet))


def main(arguments: list[str]) -> None:
    near, far, delay_ms, jitter_ms, loss_percent = arguments
    devices = open_device(near), open_device(far)
    print("ready", flush=True)
    carry(*devices, int(delay_ms) / 1000, int(jitter_ms) / 1000, float(loss_percent) / 100, Random(near))


if __name__ == "__main__":
    main(sys.argv[1:])
