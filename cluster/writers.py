"""Clients that write all the while and remember what they were promised: the witnesses of the demo and of the fault tests.

Every write goes to a key of its own, so what a client was told about a write can be compared with what is there in the end:

* acknowledged   it must be there, with this revision, on every node;
* unknown        it may be there;
* refused        it was never appended: it is tried again under the same key until it is one of the other two.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Self

from cluster.commands import Item
from cluster.kv_client import KeyValueClient
from replog.client.client import ReplogClient
from replog.errors import OutcomeUnknown, TryElsewhere, TryLater

WRITE_SECONDS_MAX = 10.0
_REFUSED_PAUSE_SECONDS = 0.02


@dataclass(slots=True)
class Record:
    """What the clients were told."""

    acknowledged: dict[bytes, tuple[int, bytes]] = field(default_factory=dict)
    """Key to (revision, value)."""
    unknown: dict[bytes, bytes] = field(default_factory=dict)
    """Key to the value that may have been written."""
    acknowledged_at: list[float] = field(default_factory=list)
    """`time.monotonic` of each acknowledgement, ascending."""
    refused: int = 0


class Writers:
    """`clients` clients with `in_flight` writes each, from `start` until `stop`."""

    def __init__(self, make_client: Callable[[], ReplogClient], *, clients: int = 4, in_flight: int = 16, value_bytes: int = 32) -> None:
        self.record = Record()
        self._make_client = make_client
        self._clients_count = clients
        self._in_flight = in_flight
        self._padding = b"." * value_bytes
        self._clients: list[KeyValueClient] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    def start(self) -> None:
        for number in range(self._clients_count):
            client = KeyValueClient(self._make_client())
            self._clients.append(client)
            self._tasks += [asyncio.create_task(self._write(client, b"c%d.%02d/" % (number, lane))) for lane in range(self._in_flight)]

    async def stop(self) -> None:
        """Let every write that is under way come to its end. An error that no writer expects is raised here."""
        self._stopping = True
        try:
            await asyncio.gather(*self._tasks)
        finally:
            for task in self._tasks:
                task.cancel()
            for client in self._clients:
                await client.close()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _write(self, client: KeyValueClient, prefix: bytes) -> None:
        number = 0
        while not self._stopping:
            key = b"%b%07d" % (prefix, number)
            if await self._put(client, key, b"%b=%d%b" % (key, number, self._padding)):
                number += 1

    async def _put(self, client: KeyValueClient, key: bytes, value: bytes) -> bool:
        """Whether the key is used up: its write was acknowledged, or may have been done."""
        record = self.record
        try:
            revision = await client.put(key, value, timeout=WRITE_SECONDS_MAX)
        except OutcomeUnknown:
            record.unknown[key] = value
            return True
        except (TryLater, TryElsewhere):
            record.refused += 1
            await asyncio.sleep(_REFUSED_PAUSE_SECONDS)
            return False
        record.acknowledged[key] = (revision, value)
        record.acknowledged_at.append(time.monotonic())
        return True

    async def wait_acknowledged(self, more: int = 1, seconds: float = 30.0) -> float:
        """Until `more` further writes are acknowledged; returns the `time.monotonic` of the first of them. Raises TimeoutError."""
        before = len(self.record.acknowledged_at)
        deadline = time.monotonic() + seconds
        while len(self.record.acknowledged_at) < before + more:
            for task in self._tasks:
                if task.done():
                    task.result()
            if time.monotonic() > deadline:
                raise TimeoutError(f"no {more} writes were acknowledged within {seconds:.0f} s")
            await asyncio.sleep(0.002)
        return self.record.acknowledged_at[before]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one node holds, beside what was promised."""

    items: int
    lost: int
    """Acknowledged writes that are not there."""
    changed: int
    """Acknowledged writes that are there with another revision or value."""
    invented: int
    """What is there although no client wrote it, or with a value that nobody wrote."""
    example: str = ""
    """One of them, for people; empty when there is none."""

    @property
    def holds(self) -> bool:
        return not (self.lost or self.changed or self.invented)


def judge(record: Record, held: Mapping[bytes, Item]) -> Verdict:
    """Compare what a node holds with what the clients were told."""
    lost = [key for key in record.acknowledged if key not in held]
    changed = [
        key
        for key, (revision, value) in record.acknowledged.items()
        if (item := held.get(key)) is not None and (item.revision, item.value) != (revision, value)
    ]
    invented = [key for key, item in held.items() if key not in record.acknowledged and record.unknown.get(key) != item.value]
    example = ""
    for word, keys in (("lost", lost), ("changed", changed), ("invented", invented)):
        if keys and not example:
            example = f"{word}: {keys[0].decode(errors='replace')}"
    return Verdict(len(held), len(lost), len(changed), len(invented), example)


async def read_everything(of_one_node: ReplogClient) -> dict[bytes, Item]:
    """The whole state of the one node that the client is for, as it holds it itself (stale reads). Closes the client."""
    async with KeyValueClient(of_one_node) as client:
        return {item.key: item async for item in client.scan(consistency="stale")}
