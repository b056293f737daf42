"""Clients that draw operations, send them to the node they believe to lead, and record what they were told and when.

A refusal (`NotLeader`, `Busy`, `Unavailable`: nothing was done) is followed up at another node with a new operation. An operation without an answer in time is of
unknown outcome; its client goes on, so the history keeps its interval open.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from replog.errors import CallerError, NotLeader, TryElsewhere, TryLater
from replog.statemachine import CommandError
from replog.testing.clock import MILLISECOND, SECOND
from replog.testing.history import NEVER, Operation, Outcome
from replog.testing.kv_workload import Step
from replog.types import Index, NodeId

if TYPE_CHECKING:
    from replog.testing.simulated_node import SimulatedNode
    from replog.testing.simulator import Simulator

_REQUEST_US_MAX = 800
ANSWER_US_MAX = 3 * SECOND


class Request:
    """One operation under way. `index` is where its command was applied, or the read index."""

    __slots__ = ("acknowledged_before", "client", "done", "index", "number", "start_us", "step")

    def __init__(self, client: int, number: int, step: Step, start_us: int, acknowledged_before: Index) -> None:
        self.client, self.number, self.step, self.start_us = client, number, step, start_us
        self.acknowledged_before = acknowledged_before
        self.index: Index | None = None
        self.done = False


class AdminRequest:
    """A membership change, transfer or snapshot asked for; `outcome` is what came of it ("" while it is under way)."""

    __slots__ = ("name", "on_end", "outcome", "value")

    def __init__(self, name: str, on_end: Any = None) -> None:
        self.name, self.on_end = name, on_end
        self.outcome = ""
        self.value: Any = None

    def end(self, outcome: str, value: Any = None) -> None:
        if not self.outcome:
            self.outcome, self.value = outcome, value
            if self.on_end is not None:
                self.on_end(self)


class SimulatedClients:
    """All clients of a run. `history` is what they recorded, in the order of the answers; open operations are added by `close`."""

    def __init__(self, simulator: Simulator, random: Random, count: int) -> None:
        self._simulator, self._random = simulator, random
        self._count = count
        self._number = 0
        self._target: dict[int, NodeId] = {}
        self._open: dict[int, Request] = {}
        self.history: list[Operation] = []
        self.completed = 0
        """Operations that were answered with ok."""
        self.running = False
        self.operations_max: int | None = None

    def begin(self) -> None:
        self.running = True
        for client in range(self._count):
            self._simulator.clock.after(int(self._random.random() * 50 * MILLISECOND), self._next, client)

    # -- asking ---------------------------------------------------------------------------------------------------------

    def _next(self, client: int) -> None:
        """Draw and send one operation, if clients are running."""
        if not self.running or (self.operations_max is not None and self._number >= self.operations_max):
            return
        self.ask(client, self._choose(client))

    def _choose(self, client: int) -> NodeId:
        known = self._target.get(client)
        if known is not None:
            return known
        nodes = self._simulator.serving_names()
        return nodes[int(self._random.random() * len(nodes))]

    def ask(self, client: int, node: NodeId) -> Request:
        """Send a new operation of `client` to `node`."""
        simulator = self._simulator
        self._number = number = self._number + 1
        step = simulator.workload.draw(self._random, number)
        request = Request(client, number, step, simulator.clock.now_us, simulator.ledger.acknowledged_index)
        self._open[number] = request
        self._target[client] = node
        simulator.clock.after(100 + int(self._random.random() * _REQUEST_US_MAX), self._arrive, (request, node))
        simulator.clock.after(ANSWER_US_MAX, self._give_up, request)
        return request

    def _arrive(self, argument: tuple[Request, NodeId]) -> None:
        request, name = argument
        node = self._simulator.nodes.get(name)
        if node is None or not node.up:
            self._end(request, "refused", None, elsewhere=True)
        elif request.step.payload is None:
            node.read(request)
        elif self._random.random() < 0.1:
            node.propose_group([request.step.payload], request)
        else:
            node.propose(request.step.payload, request)

    def _give_up(self, request: Request) -> None:
        if not request.done:
            self._simulator.coverage.add("operations of unknown outcome")
            self._end(request, "unknown", None, elsewhere=True)

    # -- being told -----------------------------------------------------------------------------------------------------

    def answered(self, ticket: Any, result: bytes | CommandError) -> None:
        """The command is committed and applied. The answer still has to reach the client."""
        if isinstance(ticket, Request) and not ticket.done:
            index = self._simulator.ledger.operation_index.get(ticket.number)
            self._answer(ticket, self._simulator.workload.result(ticket.step, result), index)

    def answered_group(self, ticket: Any, results: Sequence[bytes | CommandError]) -> None:
        self.answered(ticket, results[0])

    def told(self, node: SimulatedNode, ticket: Any, value: Any) -> None:
        """A read is released at its index: the state is read now. Or an admin request has its value."""
        if isinstance(ticket, AdminRequest):
            ticket.end("ok", value)
        elif isinstance(ticket, Request) and not ticket.done:
            self._simulator.properties.read(node.node, value, ticket.acknowledged_before)
            assert node.machine is not None
            answer = node.machine.query(ticket.step.query)
            self._answer(ticket, self._simulator.workload.result(ticket.step, answer), value)

    def _answer(self, request: Request, result: Any, index: Index | None) -> None:
        simulator = self._simulator
        request.index = index
        if index is not None and index > simulator.ledger.acknowledged_index and request.step.payload is not None:
            simulator.ledger.acknowledged_index = index
        delay_us = 50 + int(self._random.random() * _REQUEST_US_MAX)
        simulator.clock.after(delay_us, self._answer_arrives, (request, result))

    def _answer_arrives(self, argument: tuple[Request, Any]) -> None:
        request, result = argument
        if not request.done:
            self.completed += 1
            self._end(request, "ok", result, elsewhere=False)

    def failed(self, tickets: Sequence[Any], error: Exception) -> None:
        for ticket in tickets:
            if isinstance(ticket, AdminRequest):
                ticket.end("unknown" if not isinstance(error, (TryElsewhere, TryLater, CallerError)) else "refused", error)
            elif isinstance(ticket, Request) and not ticket.done:
                if isinstance(error, NotLeader) and error.leader is not None:
                    self._target[ticket.client] = error.leader
                    self._end(ticket, "refused", None, elsewhere=False)
                elif isinstance(error, (TryElsewhere, TryLater)) or ticket.step.payload is None:
                    self._end(ticket, "refused", None, elsewhere=True)
                else:
                    self._simulator.coverage.add("operations of unknown outcome")
                    self._end(ticket, "unknown", None, elsewhere=True)

    def _end(self, request: Request, outcome: Outcome, result: Any, *, elsewhere: bool) -> None:
        request.done = True
        self._open.pop(request.number, None)
        clock, weather = self._simulator.clock, self._simulator.weather
        if outcome != "refused":
            self.history.append(self._operation(request, outcome, result))
        if elsewhere:
            self._target.pop(request.client, None)
        if request.client < self._count and self.running:
            mean_us = self._count * SECOND / weather.operations_per_second
            wait_us = (
                int(self._random.random() * 2 * mean_us) if outcome != "refused" else int((0.2 + self._random.random()) * 20 * MILLISECOND)
            )
            clock.after(wait_us, self._next, request.client)

    def _operation(self, request: Request, outcome: Outcome, result: Any) -> Operation:
        step = request.step
        return Operation(
            client=str(request.client),
            key=step.key,
            kind=step.kind,
            args=step.args,
            result=result,
            start=request.start_us,
            end=self._simulator.clock.now_us if outcome == "ok" else NEVER,
            outcome=outcome,
            index=request.index if outcome == "ok" else None,
        )

    def close(self) -> list[Operation]:
        """The history, with what is still open as unknown."""
        for request in list(self._open.values()):
            self.history.append(self._operation(request, "unknown", None))
        self._open.clear()
        return self.history
