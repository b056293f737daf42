"""Proposals that wait for their result, in log order.

The owner appends runs as it proposes them and takes them from the front as entries are applied; so one deque is enough and no entry needs a
table of its own. All pending runs are of the present leader's term: losing leadership fails them all with `OutcomeUnknown`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from replog.node.effects import Reply, ReplyGroup, Result, Ticket
from replog.types import Index


@dataclass(slots=True)
class _Run:
    first_index: Index
    last_index: Index
    tickets: list[Ticket] | None
    """One ticket an entry; None for a group."""
    group: Ticket
    results: list[Result]
    """What a group has so far."""


class Pending:
    """Invariant: runs ascend and do not overlap; every run ends behind the applied index."""

    def __init__(self) -> None:
        self._runs: deque[_Run] = deque()

    def __bool__(self) -> bool:
        return bool(self._runs)

    def __len__(self) -> int:
        """Entries waited for."""
        return sum(run.last_index - run.first_index + 1 for run in self._runs)

    def add(self, first_index: Index, tickets: list[Ticket]) -> None:
        """`tickets` wait for the entries from `first_index` on, one each."""
        self._runs.append(_Run(first_index, first_index + len(tickets) - 1, tickets, None, []))

    def add_group(self, first_index: Index, count: int, ticket: Ticket) -> None:
        """`ticket` waits for all of the `count` entries from `first_index` on."""
        self._runs.append(_Run(first_index, first_index + count - 1, None, ticket, []))

    def applied(self, first_index: Index, results: Sequence[Result]) -> Iterator[Reply | ReplyGroup]:
        """Entries from `first_index` on gave `results`: the replies that are now complete."""
        last_index = first_index + len(results) - 1
        runs = self._runs
        while runs and runs[0].first_index <= last_index:
            run = runs[0]
            start = run.first_index - first_index
            assert start >= 0
            end = min(run.last_index, last_index) - first_index + 1
            part = results if start == 0 and end == len(results) else results[start:end]
            whole = run.last_index <= last_index
            if whole:
                runs.popleft()
            if run.tickets is not None:
                if whole:
                    yield Reply(run.tickets, part)
                else:
                    yield Reply(run.tickets[: len(part)], part)
                    del run.tickets[: len(part)]
            else:
                run.results += part
                if whole:
                    yield ReplyGroup(run.group, run.results)
            run.first_index += len(part)

    def drop_from(self, index: Index) -> list[Ticket]:
        """Forget everything that waits for `index` or later; returns its tickets (a group that reaches there goes whole)."""
        dropped: list[Ticket] = []
        while self._runs and self._runs[-1].last_index >= index:
            run = self._runs.pop()
            if run.tickets is None:
                dropped.append(run.group)
            elif run.first_index >= index:
                dropped += run.tickets
            else:
                keep = index - run.first_index
                dropped += run.tickets[keep:]
                del run.tickets[keep:]
                run.last_index = index - 1
                self._runs.append(run)
                break
        return dropped
