"""`ReplogClient`: finds the leader, follows it, and says of every command whether it is committed, is not, or may be.

Everything proposed in one iteration of the loop, and while a message is being written, leaves as one batch; each caller has its own future. A failed batch
is retried as `replog.client.retry` allows until its deadline; the pauses between are tenacity's. Commands of one caller that
waits for each answer stay in order; batches in flight together may overtake each other when the leader changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Final, Self

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from replog.client.admin import AdminClient
from replog.client.calls import CONSISTENCIES, BarrierCall, Call, Consistency, ProposeCall, QueryCall, Result
from replog.client.compass import Compass
from replog.client.link import REQUESTS_BYTES_TARGET, Link
from replog.client.retry import NotSent, Retry, decide, pause_seconds_max
from replog.config import MIB, check_address, check_choice
from replog.errors import ConfigError, NodeStopped, NotLeader, OutcomeUnknown, PeerRefused, ReplogError, Unavailable
from replog.types import Index

MESSAGE_BYTES_MAX: Final = 80 * MIB
"""gRPC's limit on a message to and from a node; the node's own limit is lower."""
_PAUSE_SECONDS_MIN: Final = 0.01

_BatchKey = tuple[float | None, bool]
_QueryKey = tuple[float | None, Consistency, float | None]
_PLAIN: _QueryKey = (None, "linearizable", None)


class ReplogClient:
    """Use it as ``async with ReplogClient([...]) as client:`` or `close` it. It connects with the first request. For one loop.

    A request's `timeout` (seconds) bounds all its attempts together. Errors: `CommandFailed` (committed, and `apply` raised), `ProposalTooLarge`, `Busy`, `Unavailable`,
    `DeadlineExceeded` (nothing was appended), `OutcomeUnknown` (it may be committed or not), `PeerRefused` (another cluster).
    """

    def __init__(self, addresses: Sequence[str], *, cluster_id: str = "", timeout: float = 10.0, follow_leader: bool = True) -> None:
        """`addresses` (``host:port``) of some nodes, best of all; the others are found by their hints. `cluster_id` empty: whichever answers.

        `timeout`: of requests that name none. `follow_leader` False: a welcome's word of the leader is not followed, so that stale reads are
        answered by the node asked, from its own state.
        """
        if not addresses:
            raise ConfigError("addresses", list(addresses), "at least one host:port")
        for address in addresses:
            check_address("addresses", address)
        if not timeout > 0:
            raise ConfigError("timeout", timeout, "more than 0 seconds")
        self.timeout = timeout
        self.retries = 0
        """Attempts beyond the first, of all requests."""
        self._cluster_id = cluster_id
        self._follow_leader = follow_leader
        self._compass = Compass(addresses)
        self._links: dict[str, Link] = {}
        self._opening: dict[str, asyncio.Task[Link]] = {}
        self._open_proposals: dict[_BatchKey, ProposeCall] = {}
        self._open_queries: dict[_QueryKey, QueryCall] = {}
        self._plain_query: QueryCall | None = None
        """The one of `_PLAIN`, to be found without making and hashing a key."""
        self._calls: set[asyncio.Task[None]] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False

    # -- requests --------------------------------------------------------------------------------------------------------

    async def propose(self, command: bytes, *, timeout: float | None = None, idempotent: bool = False) -> bytes:
        """Commit `command`; returns what the state machine's `apply` returned. `idempotent`: doing it twice does no harm, so it is retried
        also when an attempt's outcome is unknown."""
        key = (timeout, idempotent)
        call = self._open_proposals.get(key)
        if call is not None and call.open:
            return await call.add(command)
        call = ProposeCall(timeout=self.timeout if timeout is None else timeout, idempotent=idempotent, on_failure=self._on_failure)
        self._open_proposals[key] = call
        future = call.add(command)
        self._begin(call)
        return await future

    async def propose_many(self, commands: Sequence[bytes], *, timeout: float | None = None, idempotent: bool = False) -> list[Result]:
        """Commit `commands`, one behind the other, as one batch (up to 2 MiB; what is larger goes as several, one after another).

        Returns their results in order, a `CommandError` where `apply` raised.
        """
        seconds = self.timeout if timeout is None else timeout
        deadline = asyncio.get_running_loop().time() + seconds
        results: list[Result] = []
        for part in _parts(commands):
            left = deadline - asyncio.get_running_loop().time()
            call = ProposeCall(timeout=max(left, 0.0), idempotent=idempotent, on_failure=self._on_failure)
            future = call.add_whole(part)
            self._begin(call)
            try:
                results += await future
            except ReplogError as error:
                if results and not isinstance(error, OutcomeUnknown):
                    raise OutcomeUnknown(f"the first {len(results)} of {len(commands)} commands are committed, then: {error}") from error
                raise
        return results

    async def query(
        self, request: bytes, consistency: Consistency = "linearizable", max_age: float | None = None, timeout: float | None = None
    ) -> bytes:
        """Ask the state machine. `consistency`: "linearizable" (sees every write acknowledged before), "lease" (the same, on a bound of the clocks' drift), "stale"
        (any earlier state, at most `max_age` seconds old when given). Raises `QueryFailed` when the state machine refuses it."""
        if timeout is None and max_age is None and consistency == "linearizable":
            call = self._plain_query
            if call is not None and call.open:
                return await call.add(request)
        key = (timeout, consistency, max_age)
        call = self._open_queries.get(key)
        if call is not None and call.open:
            if key == _PLAIN:
                self._plain_query = call
            return await call.add(request)
        check_choice("consistency", consistency, CONSISTENCIES)
        call = QueryCall(timeout=self.timeout if timeout is None else timeout, idempotent=True, on_failure=self._on_failure)
        call.consistency = consistency
        call.staleness_max_ms = max(1, round(max_age * 1000)) if max_age is not None else 0
        self._open_queries[key] = call
        future = call.add(request)
        self._begin(call)
        return await future

    async def read_barrier(self, *, timeout: float | None = None) -> Index:
        """The index that a linearizable read beginning now has to see."""
        call = BarrierCall(timeout=self.timeout if timeout is None else timeout, on_failure=self._on_failure)
        self._begin(call)
        return await call.future

    async def status(self, address: str | None = None, *, timeout: float | None = None) -> dict[str, Any]:
        """What the node at `address` (None: the one this client believes to lead) tells of itself, as `NodeStatus.to_json` has it."""
        async with AdminClient(address or self._compass.current, timeout=self.timeout if timeout is None else timeout) as admin:
            return await admin.status()

    @property
    def leader_address(self) -> str:
        """Where this client believes the leader to be."""
        return self._compass.current

    async def close(self) -> None:
        """End all sessions; what is under way fails with `OutcomeUnknown` or `Unavailable`. May be called twice."""
        self._closed = True
        for task in [*self._opening.values(), *self._calls]:
            task.cancel()
        pending = [*self._opening.values(), *self._calls]
        if pending:
            await asyncio.wait(pending)
        for link in list(self._links.values()):
            await link.close()
        self._links.clear()
        while self._closing:
            await asyncio.wait(self._closing)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    # -- attempts --------------------------------------------------------------------------------------------------------

    def _begin(self, call: Call) -> None:
        """The first attempt: at once where the session is open."""
        if self._closed:
            call.end(NodeStopped("this client is closed"))
            return
        link = self._links.get(self._compass.current)
        if link is not None and not link.broken:
            link.submit(call)
        else:
            self._drive(call)

    def _on_failure(self, call: Call, error: ReplogError) -> None:
        """An attempt failed: tell the task that drives the call, or end it, or have it driven from now on."""
        if isinstance(error, OutcomeUnknown):
            call.maybe_appended = True
        call.last_error = error
        if isinstance(error, NotLeader):
            call.hinted = self._compass.hinted(error.leader, error.address, by=call.sent_to)
        else:
            call.hinted = False
            if decide(error, idempotent=True) is Retry.ELSEWHERE:
                self._compass.turn_from(call.sent_to)
        if call.attempt is not None:
            if not call.attempt.done():
                call.attempt.set_exception(error)
        elif self._closed or decide(error, idempotent=call.idempotent) is Retry.NO:
            call.end(error)
        else:
            self._drive(call)

    def _drive(self, call: Call) -> None:
        task = call.retrying = asyncio.get_running_loop().create_task(self._retry(call))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _retry(self, call: Call) -> None:
        """Attempt after attempt until the call is over; whatever ends it otherwise (its deadline, `close`) cancels this."""
        first = call.last_error

        async def attempt() -> None:
            nonlocal first
            if first is not None:
                failed, first = first, None
                raise failed
            try:
                link = await self._leader_link()
            except ReplogError as error:
                call.last_error = error
                raise
            self.retries += call.last_error is not None
            call.attempt = asyncio.get_running_loop().create_future()
            link.submit(call)
            await call.attempt

        try:
            await AsyncRetrying(
                wait=_Pause(call),
                retry=retry_if_exception(lambda error: decide(error, idempotent=call.idempotent) is not Retry.NO),
                reraise=True,
            )(attempt)
        except ReplogError as error:
            call.end(error)
        except asyncio.CancelledError:
            call.give_up("this client was closed", Unavailable)

    # -- sessions --------------------------------------------------------------------------------------------------------

    async def _leader_link(self) -> Link:
        """A session with the node that leads, as far as is known. Raises `NotSent`, `PeerRefused`."""
        address = self._compass.current
        link = await self._link(address)
        welcome = link.take_welcome()
        if self._follow_leader and welcome is not None and welcome.leader not in ("", welcome.node):
            self._compass.hinted(welcome.leader, welcome.leader_address, by=address)
            link = await self._link(self._compass.current)
        return link

    async def _link(self, address: str) -> Link:
        """The session with `address`, opened once for all who want it."""
        link = self._links.get(address)
        if link is not None and not link.broken:
            return link
        opening = self._opening.get(address)
        if opening is None:
            opening = self._opening[address] = asyncio.get_running_loop().create_task(self._open(address))
            opening.add_done_callback(_look_at)
        return await asyncio.shield(opening)

    async def _open(self, address: str) -> Link:
        link = Link(address, self._cluster_id, MESSAGE_BYTES_MAX, on_broken=self._on_broken)
        try:
            await link.open()
        except (NotSent, PeerRefused):
            self._compass.failed(address)
            raise
        finally:
            self._opening.pop(address, None)
        self._compass.met(link.node, address)
        self._links[address] = link
        return link

    def _on_broken(self, link: Link) -> None:
        """Its calls know already; let go of its connection."""
        if self._links.get(link.address) is link:
            del self._links[link.address]
        task = asyncio.get_running_loop().create_task(link.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _look_at(task: asyncio.Task[Link]) -> None:
    """An attempt that nobody waits for any more may fail in silence."""
    if not task.cancelled():
        task.exception()


class _Pause:
    """None where a hint was given, otherwise longer each time, with jitter."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def __call__(self, retry_state: RetryCallState) -> float:
        if self._call.hinted:
            self._call.hinted = False
            return 0.0
        longest = pause_seconds_max(self._call.last_error)
        return wait_random_exponential(multiplier=_PAUSE_SECONDS_MIN, min=_PAUSE_SECONDS_MIN, max=longest)(retry_state)


def _parts(commands: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """`commands`, cut where a request would become too large; one command is never cut."""
    start = size = 0
    for at, command in enumerate(commands):
        if at > start and size + len(command) > REQUESTS_BYTES_TARGET:
            yield commands[start:at]
            start, size = at, 0
        size += len(command)
    if start < len(commands):
        yield commands[start:]
