"""One request and those who wait for it: a batch of commands or queries, or a barrier.

A call is open until a stream takes it: meanwhile more may be added. It is taken once an attempt; what an attempt led to comes back by `answered` or `failed`. Its
callers are told once: by its results, by its last error, or by its deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeVar

from replog.client.futures import set_results
from replog.client.retry import final_error
from replog.config import MIB
from replog.errors import CommandFailed, DeadlineExceeded, OutcomeUnknown, ReplogError, Unavailable
from replog.rpc import client_pb2 as pb
from replog.rpc.failures import error_of
from replog.types import CommandError, Index

BATCH_ITEMS_MAX: Final = 4_096
BATCH_BYTES_MAX: Final = MIB
"""A batch is closed when it has so many items or bytes; the next one is begun."""

_T = TypeVar("_T")
Result = bytes | CommandError
OnFailure = Callable[["Call", ReplogError], None]
Consistency = Literal["linearizable", "lease", "stale"]
_CONSISTENCY = {"linearizable": pb.LINEARIZABLE, "lease": pb.LEASE, "stale": pb.STALE}
CONSISTENCIES: Final = tuple(_CONSISTENCY)


class Call:
    """What all kinds have in common. `on_failure` decides what follows a failed attempt."""

    what = "request"

    def __init__(self, *, timeout: float, idempotent: bool, on_failure: OnFailure) -> None:
        loop = self._loop = asyncio.get_running_loop()
        self.timeout = timeout
        self.idempotent = idempotent
        self.open = True
        """More may be added."""
        self.in_flight = False
        """Sent, and neither answered nor known to be lost."""
        self.maybe_appended = False
        """An attempt was sent whose outcome nobody knows."""
        self.over = False
        """The callers have been told."""
        self.last_error: ReplogError | None = None
        self.sent_to = ""
        """Address of the node that had it last."""
        self.hinted = False
        """The last answer named another leader."""
        self.retrying: asyncio.Task[None] | None = None
        """Makes the attempts after the first."""
        self.attempt: asyncio.Future[None] | None = None
        """What `retrying` waits for."""
        self.size_bytes = 0
        self.deadline = loop.time() + timeout
        self._timer = loop.call_at(self.deadline, self._on_deadline)
        self._on_failure = on_failure

    # -- for the stream --------------------------------------------------------------------------------------------------

    def take(self, request: pb.Request) -> None:
        """Fill `request`: from now on the node may act on it."""
        self.open = False
        self.in_flight = True
        self.fill(request)

    def answered(self, reply: pb.Reply) -> None:
        self.in_flight = False
        if self.over:
            return
        if reply.WhichOneof("content") == "failure":
            self._on_failure(self, error_of(reply.failure))
        else:
            try:
                self.resolve(reply)
            except ReplogError as error:
                self.end(error)
            except ValueError as error:
                self.end(OutcomeUnknown(f"{self.what}: the answer is not one to this request: {error}"))
            else:
                self._finish()

    def failed(self, error: ReplogError) -> None:
        """The attempt came to no answer. What was in flight has an unknown outcome."""
        self.open = False
        if self.in_flight:
            self.in_flight = False
            error = OutcomeUnknown(f"{self.what}: {error}; it was sent, and may be done or not")
        if not self.over:
            self._on_failure(self, error)

    # -- for the client --------------------------------------------------------------------------------------------------

    def end(self, error: BaseException) -> None:
        """Tell the callers of the last error."""
        if self.over:
            return
        if self.idempotent_read and isinstance(error, OutcomeUnknown):
            error = Unavailable(str(error))
        self.reject(final_error(error, maybe_appended=self.maybe_appended and not self.idempotent_read, what=self.what))
        self._finish()

    @property
    def idempotent_read(self) -> bool:
        """A read changes nothing, so its outcome is never in doubt."""
        return False

    def _finish(self) -> None:
        self.over = True
        self.open = False
        self._timer.cancel()
        if self.retrying is not None and self.retrying is not asyncio.current_task():
            self.retrying.cancel()

    def _on_deadline(self) -> None:
        self.give_up(f"no answer within {self.timeout:.3f} s", DeadlineExceeded)

    def give_up(self, reason: str, error: type[DeadlineExceeded | Unavailable]) -> None:
        """End it now, whatever it waits for: what is in flight has an unknown outcome, for the rest `error` or what was answered last."""
        self.open = False
        if self.in_flight and not self.idempotent_read:
            self.end(OutcomeUnknown(f"{self.what}: {reason}; it was sent, and may be done or not"))
        else:
            self.end(self.last_error or error(f"{self.what}: {reason}"))

    # -- for each kind ---------------------------------------------------------------------------------------------------

    def fill(self, request: pb.Request) -> None:
        raise NotImplementedError

    def resolve(self, reply: pb.Reply) -> None:
        """Tell the callers; raises `ValueError` for an answer of the wrong shape."""
        raise NotImplementedError

    def reject(self, error: BaseException) -> None:
        raise NotImplementedError


class BatchCall(Call):
    """Many items, each with its own future, or (`whole`) one future for all of them.

    Of many callers one half is told first, the other in the next iteration of the loop: who was told first asks again, and the node works on that while the other
    half does. Otherwise a closed loop's callers move in step, and node and client wait for each other (measured with 4,096 of them: 690,000 reads/s instead of
    420,000/s, 220,000 writes/s instead of 168,000/s).
    """

    told_at_once_min = 1_024
    """So many callers and fewer are told in one iteration: a message and a sync more cost more than they hide."""

    def __init__(self, *, timeout: float, idempotent: bool, on_failure: OnFailure) -> None:
        super().__init__(timeout=timeout, idempotent=idempotent, on_failure=on_failure)
        self.items: list[bytes] = []
        self.futures: list[asyncio.Future[bytes]] = []
        self.whole: asyncio.Future[list[Result]] | None = None
        self._create_future = self._loop.create_future  # asking which loop runs is a system call (Python 3.11)

    def add(self, item: bytes) -> asyncio.Future[bytes]:
        """Only while `open`."""
        items = self.items
        items.append(item)
        size_bytes = self.size_bytes = self.size_bytes + len(item)
        if size_bytes >= BATCH_BYTES_MAX or len(items) >= BATCH_ITEMS_MAX:
            self.open = False
        future: asyncio.Future[bytes] = self._create_future()
        self.futures.append(future)
        return future

    def add_whole(self, items: Sequence[bytes]) -> asyncio.Future[list[Result]]:
        """All of the batch at once, with one future."""
        assert not self.items
        self.items = list(items)
        self.size_bytes = sum(map(len, items))
        self.open = False
        self.whole = self._create_future()
        return self.whole

    def resolve(self, reply: pb.Reply) -> None:
        if reply.WhichOneof("content") != "results":
            raise ValueError("no results")
        answer = reply.results
        results: list[bytes] = list(answer.results)
        if len(results) != len(self.items):
            raise ValueError(f"{len(results)} results for {len(self.items)} items")
        errors = {error.position: error_of(error.failure) for error in answer.errors} if answer.errors else None
        if self.whole is not None:
            _set_result(self.whole, self._mixed(results, errors or {}))
            return
        if errors is None:
            half = max(self.told_at_once_min, (len(results) + 1) // 2)
            set_results(self.futures[:half], results[:half])
            if half < len(results):
                self._loop.call_soon(set_results, self.futures[half:], results[half:])  # behind those who were woken here
            return
        for position, future in enumerate(self.futures):
            if position in errors:
                _set_error(future, errors[position])
            else:
                _set_result(future, results[position])

    def _mixed(self, results: list[bytes], errors: dict[int, ReplogError]) -> list[Result]:
        """Errors of the state machine stand in the list; any other (an answer that was lost) is raised for the whole."""
        mixed: list[Result] = [*results]
        for position, error in errors.items():
            if not isinstance(error, CommandFailed):
                raise error
            if position >= len(mixed):
                raise ValueError(f"an error at {position} of {len(mixed)} items")
            mixed[position] = CommandError(error.kind, error.detail)
        return mixed

    def reject(self, error: BaseException) -> None:
        if self.whole is not None:
            _set_error(self.whole, error)
        for future in self.futures:
            _set_error(future, error)


class ProposeCall(BatchCall):
    what = "propose"

    def fill(self, request: pb.Request) -> None:
        request.propose.commands.extend(self.items)
        request.propose.together = self.whole is not None


class QueryCall(BatchCall):
    what = "query"
    told_at_once_min = 512
    consistency: Consistency = "linearizable"
    staleness_max_ms = 0

    @property
    def idempotent_read(self) -> bool:
        return True

    def fill(self, request: pb.Request) -> None:
        query = request.query
        query.requests.extend(self.items)
        query.consistency = _CONSISTENCY[self.consistency]
        query.staleness_max_ms = self.staleness_max_ms
        query.timeout_ms = _left_ms(self.deadline)


class BarrierCall(Call):
    what = "read barrier"

    def __init__(self, *, timeout: float, on_failure: OnFailure) -> None:
        super().__init__(timeout=timeout, idempotent=True, on_failure=on_failure)
        self.open = False
        self.future: asyncio.Future[Index] = asyncio.get_running_loop().create_future()

    @property
    def idempotent_read(self) -> bool:
        return True

    def fill(self, request: pb.Request) -> None:
        request.barrier.timeout_ms = _left_ms(self.deadline)

    def resolve(self, reply: pb.Reply) -> None:
        if reply.WhichOneof("content") != "barrier":
            raise ValueError("no index")
        _set_result(self.future, reply.barrier.index)

    def reject(self, error: BaseException) -> None:
        _set_error(self.future, error)


def _left_ms(deadline: float) -> int:
    return max(1, int((deadline - asyncio.get_running_loop().time()) * 1000))


def _set_result(future: asyncio.Future[_T], result: _T) -> None:
    if not future.done():
        future.set_result(result)


def _set_error(future: asyncio.Future[_T], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
