"""The key-value store as its users see it: keys and values instead of bytes of commands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Self

from cluster import commands
from cluster.commands import CasResult, CompareAndSet, Item, Page, Scan
from replog.client.calls import Consistency
from replog.client.client import ReplogClient


class KeyValueClient:
    """Commands and queries on a `ReplogClient`, whose errors come through: `OutcomeUnknown`, `Unavailable`, `Busy`, `CommandFailed`, ...

    Reads are linearizable unless another consistency is named.
    """

    def __init__(self, client: ReplogClient) -> None:
        """Takes the client over: closing this closes it."""
        self.client = client

    async def put(self, key: bytes, value: bytes, *, timeout: float | None = None) -> int:
        """Returns the new revision."""
        return commands.decode_revision(await self.client.propose(commands.encode_put(key, value), timeout=timeout))

    async def put_many(self, items: Sequence[tuple[bytes, bytes]], *, timeout: float | None = None) -> list[int]:
        """Put all items in one batch; returns their revisions in order."""
        results = await self.client.propose_many([commands.encode_put(key, value) for key, value in items], timeout=timeout)
        revisions: list[int] = []
        for result in results:
            assert isinstance(result, bytes), "a well-formed put does not fail"
            revisions.append(commands.decode_revision(result))
        return revisions

    async def delete(self, key: bytes, *, timeout: float | None = None) -> int:
        """Returns the revision that was removed, 0 when there was nothing."""
        return commands.decode_revision(await self.client.propose(commands.encode_delete(key), timeout=timeout))

    async def compare_and_set(self, command: CompareAndSet, *, timeout: float | None = None) -> CasResult:
        return commands.decode_cas_result(await self.client.propose(commands.encode_cas(command), timeout=timeout))

    async def get(self, key: bytes, *, consistency: Consistency = "linearizable", timeout: float | None = None) -> Item | None:
        """None: the key is absent."""
        answer = await self.client.query(commands.encode_get(key), consistency=consistency, timeout=timeout)
        return commands.decode_found(answer, key)

    async def scan_page(self, scan: Scan, *, consistency: Consistency = "linearizable", timeout: float | None = None) -> Page:
        answer = await self.client.query(commands.encode_scan(scan), consistency=consistency, timeout=timeout)
        return commands.decode_page(answer)

    async def scan(self, prefix: bytes = b"", *, consistency: Consistency = "linearizable") -> AsyncIterator[Item]:
        """Every key that begins with `prefix`, in the order of bytes. Each page is consistent in itself; writes may come between two pages."""
        after = b""
        while True:
            page = await self.scan_page(Scan(prefix, after), consistency=consistency)
            for item in page.items:
                yield item
            if not page.more:
                return
            after = page.items[-1].key

    async def close(self) -> None:
        await self.client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()
