"""The product's own state machines keep the rules that `replog.testing.check_state_machine` tries on a user's."""

import pytest

from cluster import commands
from cluster.commands import CompareAndSet, Expectation, Scan
from cluster.counter import CommandCounter
from cluster.kv import KeyValueStore
from replog.testing import check_state_machine

pytestmark = pytest.mark.slow

COMMANDS = [
    commands.encode_put(b"a", b"1"),
    commands.encode_put(b"b", b"2"),
    commands.encode_cas(CompareAndSet(b"a", b"3", Expectation.VALUE, expected=b"1")),
    commands.encode_delete(b"b"),
    commands.encode_cas(CompareAndSet(b"b", b"4", Expectation.ABSENT)),
    commands.encode_cas(CompareAndSet(b"b", b"5", Expectation.REVISION, revision=1)),
    commands.encode_put(b"a" * 300, b"v" * 3000),
    commands.encode_delete(b"nobody"),
    commands.encode_put(b"a", b""),
]
QUERIES = [commands.encode_get(b"a"), commands.encode_get(b"nobody"), commands.encode_scan(Scan(b"")), b"", b"\xff"]


def test_the_key_value_store_keeps_the_rules() -> None:
    """Its snapshots are in no particular order, so its digest is what is compared."""
    report = check_state_machine(KeyValueStore, COMMANDS, queries=QUERIES, seeds=4, compare_snapshots=False)

    assert report.notes == []
    assert report.coverage.counts["states restored"] > 5


def test_the_counter_keeps_the_rules() -> None:
    report = check_state_machine(CommandCounter, [b"", b"x", b"y"], queries=[b""], seeds=2)

    assert report.seeds == 2
