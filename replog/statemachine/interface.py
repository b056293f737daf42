"""What an application writes: a deterministic state machine (paper section 2).

The owner of the node calls it, never two calls at once, always in log order. Equal logs must give equal states: no clock, no randomness, no
dependence on hash order or on anything but the entries.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import BinaryIO

from replog.types import CommandError, Entry, EntryKind, Index, SnapshotWriter, Term


class BytesSnapshot:
    """A `SnapshotWriter` for a state that is small enough to be frozen as bytes at once."""

    __slots__ = ("_body",)

    def __init__(self, body: bytes) -> None:
        self._body = body

    def write(self, sink: BinaryIO) -> None:
        sink.write(self._body)


class StateMachine(ABC):
    """Subclass this. `apply`, `snapshot` and `restore` are required; the rest is optional.

    An exception in `apply` becomes that command's result on every node and never stops the log; the state must then be unchanged (raise before
    you change anything).
    """

    @abstractmethod
    def apply(self, entry: Entry) -> bytes:
        """Apply one committed command and return its result (bytes, given to the proposer). Called once per index, in order."""

    @abstractmethod
    def snapshot(self) -> SnapshotWriter:
        """A cheap frozen view of the state as it is now; must not change when later entries are applied."""

    @abstractmethod
    def restore(self, source: BinaryIO) -> None:
        """Replace the state by a snapshot's body, read from `source` to its end."""

    def apply_batch(self, first_index: Index, term: Term, payloads: Sequence[bytes]) -> list[bytes | CommandError]:
        """Apply consecutive commands `first_index`, `first_index` + 1, ... of one term; return one result each.

        Override it where one call for many is cheaper than many calls; it must do exactly what `apply` one after another does.
        """
        results: list[bytes | CommandError] = []
        apply = self.apply
        for index, payload in enumerate(payloads, first_index):
            try:
                results.append(apply(Entry(index, term, EntryKind.COMMAND, payload)))
            except Exception as error:  # noqa: BLE001 - whatever a command raises is its result, and the log goes on
                results.append(CommandError(type(error).__name__, str(error)))
        return results

    def query(self, request: bytes) -> bytes:
        """Answer a read-only request of a client from the present state; must change nothing. Default: refuses."""
        raise NotImplementedError(f"{type(self).__name__} answers no queries: it does not override StateMachine.query")

    def query_batch(self, requests: Sequence[bytes]) -> Sequence[bytes | Exception]:
        """Answer many requests from one state: for each its answer, or the exception that `query` would raise.

        Override it where one call for many is cheaper than many calls; it must answer exactly as `query` one after another does.
        """
        answers: list[bytes | Exception] = []
        query = self.query
        for request in requests:
            try:
                answers.append(query(request))
            except Exception as error:  # noqa: BLE001 - whatever a query raises is its answer
                answers.append(error)
        return answers

    def state_digest(self) -> bytes:
        """A short digest of the whole state, equal on all nodes whose states are; kept up to date as commands are applied, as it is asked for often.

        It is compared between nodes at equal index (`ClusterConfig.state_digest_entries`), beside the results of the commands. Default: nothing.
        """
        return b""

    def durable_index(self) -> Index:
        """Index up to which this state machine is itself durable (0: it lives in memory); replay starts behind it.

        State and index must become durable together, in one transaction: a crash between the two would apply a command twice, or leave it out.
        """
        return 0

    def close(self) -> None:  # noqa: B027 - optional on purpose
        """Called once when the node stops."""
