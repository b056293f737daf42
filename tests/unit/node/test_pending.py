"""Proposals that wait for their result."""

from __future__ import annotations

from replog.node.effects import Reply, ReplyGroup
from replog.node.pending import Pending


def test_results_go_to_the_tickets_of_their_index() -> None:
    pending = Pending()
    pending.add(5, ["a", "b", "c"])

    replies = list(pending.applied(5, [b"5", b"6", b"7"]))

    assert replies == [Reply(["a", "b", "c"], [b"5", b"6", b"7"])]
    assert not pending


def test_a_run_may_be_applied_in_parts() -> None:
    pending = Pending()
    pending.add(1, ["a", "b", "c"])

    first = list(pending.applied(1, [b"1"]))
    rest = list(pending.applied(2, [b"2", b"3"]))

    assert first == [Reply(["a"], [b"1"])]
    assert rest == [Reply(["b", "c"], [b"2", b"3"])]


def test_a_group_is_answered_once_and_whole() -> None:
    pending = Pending()
    pending.add_group(1, 3, "group")

    assert list(pending.applied(1, [b"1", b"2"])) == []
    assert list(pending.applied(3, [b"3"])) == [ReplyGroup("group", [b"1", b"2", b"3"])]


def test_one_batch_of_results_serves_many_runs_and_skips_what_nobody_waits_for() -> None:
    pending = Pending()
    pending.add(2, ["b"])
    pending.add_group(4, 2, "group")

    replies = list(pending.applied(1, [b"1", b"2", b"3", b"4", b"5", b"6"]))

    assert replies == [Reply(["b"], [b"2"]), ReplyGroup("group", [b"4", b"5"])]


def test_what_is_dropped_is_named_and_the_rest_goes_on() -> None:
    pending = Pending()
    pending.add(1, ["a", "b", "c"])
    pending.add_group(4, 2, "group")

    dropped = pending.drop_from(3)

    assert dropped == ["group", "c"]
    assert len(pending) == 2
    assert list(pending.applied(1, [b"1", b"2", b"3"])) == [Reply(["a", "b"], [b"1", b"2"])]
