"""A state machine that is durable itself: what is replayed to it after a crash, and why state and index must be written together."""

from __future__ import annotations

import pytest

from replog.errors import CommittedEntriesLost
from replog.types import Entry, Index
from tests.unit.node.harness import LocalCluster, Register


class Disk:
    """What the state machine finds again."""

    def __init__(self) -> None:
        self.commands: list[bytes] = []
        self.index: Index = 0
        self.crash_between = False
        """The power goes after the state is written and before the index is."""


def durable_machine(disk: Disk, *, together: bool = True) -> type[Register]:
    """State machines over `disk`; not `together`: state and index are two writes."""

    class Durable(Register):
        def __init__(self) -> None:
            super().__init__()
            self.commands = list(disk.commands)

        def apply(self, entry: Entry) -> bytes:
            result = super().apply(entry)
            disk.commands = list(self.commands)
            if together or not disk.crash_between:
                disk.index = entry.index
            return result

        def durable_index(self) -> Index:
            return disk.index

    return Durable


def test_what_a_durable_state_machine_holds_is_not_applied_again_after_a_crash() -> None:
    disk = Disk()
    cluster = LocalCluster(1, machine=durable_machine(disk))
    cluster.elect()
    cluster.propose("n1", b"a", b"b")

    for _ in range(3):
        cluster["n1"].start()
        cluster.elect()
        cluster.propose("n1", b"c")

    assert cluster["n1"].machine.commands == [b"a", b"b", b"c", b"c", b"c"]
    assert disk.index == cluster["n1"].replica.core.committed_index


def test_what_it_had_not_made_durable_is_replayed_and_nothing_else() -> None:
    disk = Disk()
    cluster = LocalCluster(1, machine=durable_machine(disk))
    cluster.elect()
    cluster.propose("n1", b"a", b"b", b"c")
    disk.commands, disk.index = [b"a"], disk.index - 2

    cluster["n1"].start()
    cluster.elect()

    assert cluster["n1"].machine.commands == [b"a", b"b", b"c"]


def test_an_index_that_is_written_apart_from_the_state_applies_a_command_twice() -> None:
    """The bug of others, shown: why `durable_index` asks for both in one transaction."""
    disk = Disk()
    cluster = LocalCluster(1, machine=durable_machine(disk, together=False))
    cluster.elect()
    cluster.propose("n1", b"a")
    disk.crash_between = True
    cluster.propose("n1", b"b")

    cluster["n1"].start()
    cluster.elect()

    assert cluster["n1"].machine.commands == [b"a", b"b", b"b"]


def test_a_state_machine_that_holds_more_than_the_log_is_refused_by_name() -> None:
    """Recovery cut entries that were committed and applied: to go on would give their indexes to other commands."""
    disk = Disk()
    cluster = LocalCluster(1, machine=durable_machine(disk))
    cluster.elect()
    cluster.propose("n1", b"a", b"b")
    cluster["n1"].disk.cut(3)

    with pytest.raises(CommittedEntriesLost, match="holds everything up to index 3, but the log ends at 2"):
        cluster["n1"].start()
