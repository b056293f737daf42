"""The handshake's judgement: who is refused, and that both values are named."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from replog.errors import MalformedMessage, PeerRefused
from replog.rpc import raft_pb2 as pb
from replog.transport.identity import Identity, describe


def identity(node_id: str, **fields: Any) -> Identity:
    defaults: dict[str, Any] = {"cluster_id": "test", "fingerprint": "f00d", "incarnation": 11, "address": "host:1"}
    return Identity(node_id=node_id, **{**defaults, **fields})


def test_a_peer_of_the_same_cluster_is_welcome() -> None:
    assert identity("b").judge(identity("a").hello("b")) is None


@pytest.mark.parametrize(
    ("theirs", "target", "field", "found", "expected"),
    [
        (identity("a", cluster_id="other"), "b", "cluster_id", "other", "test"),
        (identity("a", fingerprint="beef"), "b", "fingerprint", "beef", "f00d"),
        (identity("a", members_fingerprint="1"), "b", "members_fingerprint", "1", "2"),
        (identity("a"), "c", "target", "c", "b"),
        (identity("b"), "b", "source", "b", "another node than myself"),
        (identity("stranger"), "b", "source", "stranger", "a member of the cluster"),
        (identity("a", incarnation=12), "b", "incarnation", "12", "11"),
        (identity("a", epoch=4), "b", "epoch", "4", "5"),
        (identity("a", epoch=6), "b", "epoch", "6", "5"),
    ],
)
def test_a_difference_is_refused_with_both_values(theirs: Identity, target: str, field: str, found: str, expected: str) -> None:
    ours = identity("b", members_fingerprint="2", epoch=5, expected_incarnation=lambda node: None if node == "stranger" else 11)
    if not field.endswith("epoch") and theirs.epoch == 0:
        theirs.epoch = 5

    refused = ours.judge(theirs.hello(target))

    assert refused is not None
    assert (refused.field, refused.found, refused.expected) == (field, found, expected)
    assert repr(found) in describe(refused)
    assert repr(expected) in describe(refused)


def test_another_version_is_refused() -> None:
    hello = identity("a").hello("b")
    hello.version = 99

    refused = identity("b").judge(hello)

    assert refused is not None
    assert (refused.field, refused.found, refused.expected) == ("version", "99", "1")


def test_a_node_without_a_first_membership_may_join_those_that_have_one() -> None:
    assert identity("b", members_fingerprint="2").judge(identity("a").hello("b")) is None


@pytest.mark.parametrize(("joining", "other"), [(True, False), (False, True)])
def test_a_joining_node_belongs_to_no_epoch(joining: bool, other: bool) -> None:
    """On either side of the handshake: it calls the cluster, and the cluster calls it."""
    low = identity("a", epoch=0 if joining else 3, joining=lambda: joining)
    high = identity("b", epoch=3 if joining else 0, joining=lambda: other)

    assert high.judge(low.hello("b")) is None
    low.judge_accepted(high.accepted(), "b")


def test_an_unrecorded_incarnation_is_accepted_and_told() -> None:
    seen: list[tuple[str, int]] = []
    ours = identity("b", on_incarnation_seen=lambda node, incarnation: seen.append((node, incarnation)))

    assert ours.judge(identity("a", incarnation=42).hello("b")) is None
    assert seen == [("a", 42)]


def test_a_refused_incarnation_is_told_too() -> None:
    seen: list[tuple[str, int]] = []
    ours = identity("b", expected_incarnation=lambda _: 11, on_incarnation_seen=lambda node, incarnation: seen.append((node, incarnation)))

    assert ours.judge(identity("a", incarnation=42).hello("b")) is not None
    assert seen == [("a", 42)]


@pytest.mark.parametrize("joining", [True, False])
def test_a_log_is_told_of_whoever_calls_and_whoever_answers(joining: bool) -> None:
    seen: list[str] = []
    ours = identity("b", on_log_seen=seen.append)
    theirs = identity("a", joining=lambda: joining)

    assert ours.judge(theirs.hello("b")) is None
    ours.judge_accepted(theirs.accepted(), "a")

    assert seen == ([] if joining else ["a", "a"])


def test_a_refusal_for_the_incarnation_tells_that_the_other_has_a_log() -> None:
    seen: list[str] = []
    ours = identity("b", incarnation=12, on_log_seen=seen.append, joining=lambda: True)
    refused = identity("a", incarnation=1, expected_incarnation=lambda _: 11).judge(ours.hello("a"))
    assert refused is not None

    ours.refused_by("a", refused)

    assert seen == ["a"]


@pytest.mark.parametrize(
    ("incarnation", "recorded", "joining", "told"),
    [(7, 7, False, True), (7, 0, False, True), (8, 7, False, False), (7, 7, True, False)],
    ids=["the recorded directory", "none recorded", "another directory", "we have no log"],
)
def test_a_higher_epoch_is_told_where_the_directory_is_the_recorded_one(incarnation: int, recorded: int, joining: bool, told: bool) -> None:
    seen: list[tuple[str, int]] = []

    def ours() -> Identity:
        return identity(
            "b",
            expected_incarnation=lambda _: recorded,
            on_epoch_seen=lambda node, epoch: seen.append((node, epoch)),
            joining=lambda: joining,
        )

    recovered = identity("a", incarnation=incarnation, epoch=3)
    refused = recovered.judge(identity("b").hello("a"))
    assert refused is not None

    ours().judge(recovered.hello("b"))
    with suppress(PeerRefused):
        ours().judge_accepted(recovered.accepted(), "a")
    ours().refused_by("a", refused)

    assert seen == ([("a", 3)] * 3 if told else [])


def test_a_refusal_that_makes_no_sense_tells_nothing() -> None:
    seen: list[tuple[str, int]] = []
    ours = identity("b", epoch=3, on_epoch_seen=lambda node, epoch: seen.append((node, epoch)))

    for expected in ("", "x", "-1", "2", "9" * 30):
        ours.refused_by("a", pb.Refused(field="epoch", expected=expected, incarnation=1))

    assert seen == []


def test_a_foreign_cluster_tells_nothing_of_incarnations() -> None:
    seen: list[tuple[str, int]] = []
    ours = identity("b", on_incarnation_seen=lambda node, incarnation: seen.append((node, incarnation)))

    ours.judge(identity("a", cluster_id="other").hello("b"))

    assert seen == []


@pytest.mark.parametrize("source", ["", "../a", "a b", "x" * 65])
def test_a_name_that_is_none_is_malformed(source: str) -> None:
    with pytest.raises(MalformedMessage, match=r"hello\.source"):
        identity("b").judge(pb.Hello(source=source))


@pytest.mark.parametrize("address", ["host", "host:", ":1", "host:99999", "host:x"])
def test_an_address_that_is_none_is_malformed(address: str) -> None:
    with pytest.raises(MalformedMessage, match=r"hello\.address"):
        identity("b").judge(pb.Hello(source="a", address=address))


def test_a_node_that_answers_for_another_is_refused() -> None:
    with pytest.raises(PeerRefused, match=r"node: found 'c', expected 'b'"):
        identity("a").judge_accepted(identity("c").accepted(), "b")


def test_a_peer_with_a_new_directory_is_refused_by_the_sender_too() -> None:
    with pytest.raises(PeerRefused, match=r"incarnation: found '12', expected '11'.*rejoin"):
        identity("a", expected_incarnation=lambda _: 11).judge_accepted(identity("b", incarnation=12).accepted(), "b")


def test_very_long_values_are_cut_in_the_refusal() -> None:
    refused = identity("b").judge(pb.Hello(version=1, source="a", cluster_id="x" * 10_000))

    assert refused is not None
    assert len(refused.found) == 200
