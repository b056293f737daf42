"""Asks nodes how they are, over one kept connection to each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Self

from replog.client.admin import AdminClient
from replog.errors import ReplogError

ANSWER_SECONDS_MAX = 1.0


class Watch:
    """The statuses of nodes by address (fields as in `replog.node.status.NodeStatus`). Close it on the loop on which it was used."""

    def __init__(self) -> None:
        self._clients: dict[str, AdminClient] = {}

    async def status(self, address: str) -> dict[str, Any] | None:
        """What the node at `address` says of itself; None when it does not answer within a second."""
        client = self._clients.get(address)
        if client is None:
            client = self._clients[address] = AdminClient(address, timeout=ANSWER_SECONDS_MAX)
        try:
            return await client.status()
        except ReplogError:
            return None

    async def statuses(self, addresses: Iterable[str]) -> list[dict[str, Any] | None]:
        """All at once, in the order of `addresses`."""
        return list(await asyncio.gather(*map(self.status, addresses)))

    async def close(self) -> None:
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
