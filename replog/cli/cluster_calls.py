"""Asking the nodes of a cluster: every one for its status, and the leader, wherever it is, for what only a leader can do.

The addresses given need not be all nodes: whoever answers tells the membership, and so where the others are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from replog.client.admin import AdminClient, Unreachable
from replog.config import check_address
from replog.errors import ConfigError, NodeStopped, NotLeader, OutcomeUnknown, ReplogError, Unavailable

_T = TypeVar("_T")
Status = dict[str, Any]
"""Fields of `replog.node.status.NodeStatus`."""

STATUS_SECONDS_MAX: Final = 2.0
"""A node that has not answered for so long counts as not reachable."""
_POLL_SECONDS: Final = 0.1


def parse_endpoints(text: str) -> list[str]:
    """Addresses from ``host:port,host:port``. Raises `ConfigError`."""
    addresses = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not addresses:
        raise ConfigError("--endpoints", text, "host:port of at least one node, separated by commas")
    for address in addresses:
        check_address("--endpoints", address)
    return addresses


class ClusterCalls:
    """Connections to the nodes of one cluster; all calls together may take `timeout` seconds. Use it as ``async with``."""

    def __init__(self, endpoints: Sequence[str], timeout: float) -> None:
        self._endpoints = list(endpoints)
        self._deadline = asyncio.get_running_loop().time() + timeout
        self._clients: dict[str, AdminClient] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for client in self._clients.values():
            await client.close()

    def _client(self, address: str, timeout: float) -> AdminClient:
        client = self._clients.get(address)
        if client is None:
            client = self._clients[address] = AdminClient(address)
        client.timeout = timeout
        return client

    def _remaining(self) -> float:
        return self._deadline - asyncio.get_running_loop().time()

    # -- every node ------------------------------------------------------------------------------------------------------

    async def statuses(self) -> dict[str, Status | str]:
        """The status of each node by its address, of all members that become known too; a string: why there is none."""
        found: dict[str, Status | str] = {}
        waiting = list(self._endpoints)
        while waiting:
            answers = await asyncio.gather(*(self._status(address) for address in waiting))
            found.update(zip(waiting, answers, strict=True))
            known = {status["node_id"] for status in found.values() if isinstance(status, dict)}
            waiting = [address for node, address in members(found.values()) if node not in known and address and address not in found]
        return found

    async def _status(self, address: str) -> Status | str:
        try:
            return await self._client(address, max(0.05, min(STATUS_SECONDS_MAX, self._remaining()))).status()
        except ReplogError as error:
            return str(error)

    # -- the leader ------------------------------------------------------------------------------------------------------

    async def at_leader(self, call: Callable[[AdminClient], Awaitable[_T]], *, repeatable: bool = False) -> _T:
        """The answer of the leader to `call`, whoever leads when it gets there. `repeatable`: a lost answer is no harm, the call is made again.

        Raises what the leader raises (its own `Unavailable` too: it has tried), `Unavailable` when there is no leader before the deadline.
        """
        untried = list(self._endpoints)
        why = "no node was asked yet"
        while self._remaining() > 0:
            address = untried.pop(0)
            try:
                return await call(self._client(address, self._remaining()))
            except NotLeader as elsewhere:
                why = f"{address} is {elsewhere}"
                if elsewhere.address and elsewhere.address != address:
                    untried.insert(0, elsewhere.address)
            except (Unreachable, NodeStopped) as error:  # a node that is stopping, was removed or fenced: another one may lead
                why = str(error)
            except OutcomeUnknown as error:
                if not repeatable:
                    raise
                why = str(error)
            if not untried:
                untried = list(self._endpoints)
                await asyncio.sleep(max(0.0, min(_POLL_SECONDS, self._remaining())))
        raise Unavailable(f"no leader did it in time: {why}")

    # -- one node --------------------------------------------------------------------------------------------------------

    async def at_each(self, call: Callable[[AdminClient], Awaitable[_T]]) -> dict[str, _T | ReplogError]:
        """The answer of every endpoint, or its error."""

        async def asked(address: str) -> _T | ReplogError:
            try:
                return await call(self._client(address, max(0.05, self._remaining())))
            except ReplogError as error:
                return error

        answers = await asyncio.gather(*(asked(address) for address in self._endpoints))
        return dict(zip(self._endpoints, answers, strict=True))


def newest(statuses: Iterable[Status | str]) -> Status | None:
    """Whose word on the cluster counts: the leader of the highest term, else who knows the newest membership; None when nobody answers."""
    answering = [status for status in statuses if isinstance(status, dict)]
    return max(
        answering,
        key=lambda status: (status["membership"]["epoch"], status["role"] == "leader", status["term"], status["membership_index"]),
        default=None,
    )


def members(statuses: Iterable[Status | str]) -> list[tuple[str, str]]:
    """(node, address) of the newest membership that is known, sorted."""
    best = newest(statuses)
    return sorted((node, member["address"]) for node, member in best["membership"]["members"].items()) if best is not None else []
