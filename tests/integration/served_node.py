"""A node without Raft behind the real services: what a test wants it to answer, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from replog.client import ReplogClient
from replog.config import ClusterConfig, NodeConfig
from replog.errors import NotLeader, ReplogError
from replog.node.client_service import ClientService
from replog.node.server import NodeServer
from replog.transport import WireLimits
from replog.types import CommandError, Index

ENTRY_BYTES_MAX = 1024 * 1024


class EchoState:
    """A query gives back its request."""

    def query_batch(self, requests: Sequence[bytes]) -> list[bytes | Exception]:
        answers: list[bytes | Exception] = []
        for request in requests:
            try:
                answers.append(self.query(request))
            except ValueError as error:
                answers.append(error)
        return answers

    def query(self, request: bytes) -> bytes:
        if request == b"raise":
            raise ValueError("no such thing")
        if request.startswith(b"size "):
            return bytes(int(request[5:]))
        return b"state of " + request


class ServedNode:
    """Answers proposals as `answer` says: results, or an error; by default every command's result is ``did <command>``."""

    def __init__(self, name: str, *, leader: bool = True) -> None:
        self.name = name
        self.leads = leader
        self.hint: tuple[str | None, str | None] = (None, None)
        self.state_machine = EchoState()
        self.appended: list[bytes] = []
        self.batches = 0
        self.barriers = 0
        self.staleness = 0.0
        self.answer: Callable[[Sequence[bytes]], list[bytes | CommandError]] = lambda commands: [b"did " + command for command in commands]
        self.hold: asyncio.Event | None = None
        """While it is there and not set, proposals are appended and not answered."""
        self.server: NodeServer | None = None
        self.cluster = ClusterConfig(cluster_id="test", entry_bytes_max=ENTRY_BYTES_MAX)
        self.config = NodeConfig(node_id=name, data_dir="unused")
        self.service = ClientService(self)

    # -- ServedForClients --------------------------------------------------------------------------------------------------

    def propose_local(self, commands: Sequence[bytes]) -> asyncio.Future[list[bytes | CommandError]]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[bytes | CommandError]] = loop.create_future()
        try:
            self._check_leads()
            results = self.answer(commands)
        except ReplogError as error:
            future.set_exception(error)
            return future
        self.appended += commands
        self.batches += 1
        if self.hold is not None and not self.hold.is_set():
            task = loop.create_task(self._answer_later(self.hold, future, results))
            future.add_done_callback(lambda _, task=task: None)  # type: ignore[misc]  # keeps the task alive
        else:
            future.set_result(results)
        return future

    async def read_barrier(self, *, timeout: float | None = None) -> Index:
        self._check_leads()
        self.barriers += 1
        return len(self.appended)

    async def lease_read(self, *, timeout: float | None = None) -> Index:
        self._check_leads()
        return len(self.appended)

    def staleness_seconds(self) -> float:
        return self.staleness

    async def until_restored(self) -> None:
        return

    def leader_hint(self) -> tuple[str | None, str | None]:
        return (self.name, self.address) if self.leads else self.hint

    # -- life --------------------------------------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        assert self.server is not None
        return self.server.bound_address

    async def start(self, bind_address: str = "127.0.0.1:0") -> None:
        self.server = NodeServer(bind_address, [self.service.handler], message_bytes_max=WireLimits.of(self.cluster).envelope_bytes_max)
        self.server.bind()
        await self.server.start()

    async def kill(self) -> None:
        """End every stream without a word."""
        assert self.server is not None
        await self.server.stop(0.0)

    def _check_leads(self) -> None:
        if not self.leads:
            raise NotLeader(*self.hint)

    @staticmethod
    async def _answer_later(
        hold: asyncio.Event, future: asyncio.Future[list[bytes | CommandError]], results: list[bytes | CommandError]
    ) -> None:
        await hold.wait()
        if not future.done():
            future.set_result(results)


@asynccontextmanager
async def served(*nodes: ServedNode) -> AsyncIterator[ReplogClient]:
    """Start `nodes`; a client that knows all their addresses."""
    try:
        for node in nodes:
            await node.start()
        async with ReplogClient([node.address for node in nodes], cluster_id="test", timeout=5.0) as client:
            yield client
    finally:
        for node in nodes:
            if node.server is not None:
                await node.kill()


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait for `condition`; TimeoutError when it does not come about."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)
