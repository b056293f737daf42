"""S16: the history of all clients is linearizable, by the search per key and by the indexes."""

from __future__ import annotations

from replog.testing.history import Operation
from replog.testing.index_check import check_indexes
from replog.testing.ledger import Ledger
from replog.testing.linearizability import Verdict, check
from replog.testing.models import Model
from replog.testing.properties.base import Property


class Linearizable(Property):
    name = "S16"
    title = "the history is linearizable"
    source = "paper 8; Herlihy and Wing 1990"

    def __init__(self, ledger: Ledger, model: Model | None = None) -> None:
        super().__init__(ledger)
        self.model = model

    def at_end(self, history: list[Operation]) -> None:
        findings = check_indexes(history)
        if findings:
            self.broken(str(findings[0]))
        if self.model is None:
            return
        result = check(history, self.model)
        if result.verdict is Verdict.NOT_LINEARIZABLE:
            self.broken(result.failed[0].explain())
        if result.verdict is Verdict.UNKNOWN:
            self.broken(f"key {result.failed[0].key!r}: the search's budget is used up; unknown is no pass")
