"""Operating a node over gRPC: every call, its refusals, and the replacement of a member in steps."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from replog.client import AdminClient
from replog.client.admin import add_learner, add_voter, demote, promote, remove, update_address
from replog.config import ClusterConfig, NodeConfig
from replog.errors import MalformedMessage, MembershipRefused, NotLeader, Unavailable, UnknownNode
from replog.node.admin_service import AdminService
from replog.node.server import NodeServer
from replog.node.status import NodeStatus
from replog.raft.membership import AddLearner, AddVoter, MembershipChange, RemoveNode, UpdateMember
from replog.raft.ready import PeerStatus
from replog.rpc import admin_pb2 as pb
from replog.rpc import methods
from replog.rpc.channel import open_channel
from replog.types import EntryId, Member, Membership, NodeId, SnapshotMeta


def peer(node: str, match_index: int) -> PeerStatus:
    return PeerStatus(
        node=node,
        state="replicate",
        match_index=match_index,
        next_index=match_index + 1,
        in_flight_messages=0,
        in_flight_bytes=0,
        recently_active=True,
        is_learner=False,
    )


class OperatedNode:
    """Does at once what it is asked, and remembers it."""

    def __init__(self) -> None:
        self.cluster = ClusterConfig(cluster_id="test")
        self.config = NodeConfig(node_id="a", data_dir="unused")
        self.failure: Exception | None = None
        self.why_not = ""
        self.refuses: Exception | None = None
        self.changes: list[tuple[list[MembershipChange], bool]] = []
        self.transfers: list[str | None] = []
        self.snapshot: SnapshotMeta | None = None
        members = {name: Member(address=f"{name}:1") for name in "abc"}
        self.now = NodeStatus(
            node_id="a",
            cluster_id="test",
            role="leader",
            term=3,
            leader="a",
            leader_address="a:1",
            committed_index=10,
            applied_index=10,
            persisted_index=10,
            first_index=1,
            last_index=5000,
            snapshot_index=0,
            log_bytes=1,
            incarnation=1,
            membership=Membership(voters=("a", "b", "c"), members=members),
            membership_index=7,
            peers=(peer("b", 10), peer("c", 10)),
        )

    def status(self) -> NodeStatus:
        return self.now

    def not_ready_reason(self) -> str:
        return self.why_not

    async def change_membership(self, changes: Sequence[MembershipChange], *, force: bool = False, timeout: float | None = None) -> EntryId:
        if self.refuses is not None:
            raise self.refuses
        self.changes.append((list(changes), force))
        for change in changes:
            membership = self.now.membership
            match change:
                case AddLearner():
                    known = membership.members.get(change.node, Member(address=""))
                    member = Member(address=change.address or known.address, incarnation=change.incarnation)
                    membership = replace(
                        membership,
                        voters=tuple(sorted({*membership.voters} - {change.node})),
                        learners=tuple(sorted({*membership.learners, change.node})),
                        members={**membership.members, change.node: member},
                    )
                    others = [one for one in self.now.peers if one.node != change.node]
                    self.now = replace(self.now, peers=(*others, peer(change.node, self.now.last_index)))
                case AddVoter():
                    membership = replace(membership, voters=tuple(sorted({*membership.voters, change.node})), learners=())
                case RemoveNode():
                    membership = replace(membership, voters=tuple(sorted({*membership.voters} - {change.node})))
                case UpdateMember():
                    pass
            self.now = replace(self.now, membership=membership)
        return EntryId(3, 42)

    async def transfer_leadership(self, target: NodeId | None = None, *, timeout: float | None = None) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.transfers.append(target)
        self.now = replace(self.now, role="follower", leader=target or "b", leader_address=f"{target or 'b'}:1")

    async def take_snapshot(self, *, timeout: float | None = None) -> SnapshotMeta | None:
        return self.snapshot


@asynccontextmanager
async def operated(node: OperatedNode) -> AsyncIterator[AdminClient]:
    server = NodeServer("127.0.0.1:0", [AdminService(node).handler], message_bytes_max=1 << 20)
    server.bind()
    await server.start()
    try:
        async with AdminClient(server.bound_address, timeout=5.0) as admin:
            yield admin
    finally:
        await server.stop(0.0)


async def test_status_is_the_nodes_status() -> None:
    node = OperatedNode()
    async with operated(node) as admin:
        assert await admin.status() == json.loads(node.now.to_json())


async def test_health_says_why_not() -> None:
    node = OperatedNode()
    async with operated(node) as admin:
        assert await admin.health() == (True, True, "")
        node.why_not = "no leader is known"
        assert await admin.health() == (True, False, "no leader is known")
        node.failure = OSError("disk")
        assert await admin.health() == (False, False, "failed: disk")


async def test_every_change_of_membership_reaches_the_node_as_one() -> None:
    node = OperatedNode()
    changes = [add_learner("d", "d:1"), add_voter("e", "e:1"), promote("d"), demote("b"), remove("c"), update_address("b", "b:2")]
    async with operated(node) as admin:
        done = await admin.change_membership(changes, force=True)

    assert node.changes == [
        (
            [
                AddLearner(node="d", address="d:1"),
                AddVoter(node="e", address="e:1"),
                AddVoter(node="d"),
                AddLearner(node="b", stays=True),
                RemoveNode(node="c"),
                UpdateMember(node="b", address="b:2"),
            ],
            True,
        )
    ]
    assert done.startswith("d is a learner, e is a voter")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (add_learner("", "d:1"), "node: found ''"),
        (add_learner("../d", "d:1"), "node: found '../d'"),
        (add_learner("d", ""), "address: found ''"),
        (add_voter("d", "d"), "address: found 'd'"),
        (update_address("d", "d:99999"), "address: found 'd:99999'"),
        (pb.MemberChange(node="d"), "kind: found 0, allowed: 1 to 6"),
    ],
)
async def test_a_change_that_is_none_is_named(change: pb.MemberChange, words: str) -> None:
    node = OperatedNode()
    async with operated(node) as admin:
        with pytest.raises(MalformedMessage, match=words):
            await admin.change_membership([change])

    assert node.changes == []


@pytest.mark.parametrize("count", [0, 33])
async def test_the_number_of_changes_is_bounded(count: int) -> None:
    async with operated(OperatedNode()) as admin:
        with pytest.raises(MalformedMessage, match=f"changes: found {count}, allowed: 1 to 32"):
            await admin.change_membership([remove("b")] * count)


@pytest.mark.parametrize("error", [NotLeader("b", "b:1"), MembershipRefused("a joint membership is in force")])
async def test_the_nodes_refusal_comes_back_as_itself(error: Exception) -> None:
    node = OperatedNode()
    node.refuses = error
    async with operated(node) as admin:
        with pytest.raises(type(error), match=str(error)):
            await admin.change_membership([remove("b")])
        with pytest.raises(type(error), match=str(error)):
            await admin.transfer_leadership("b")


async def test_leadership_goes_to_the_one_named_or_the_best() -> None:
    node = OperatedNode()
    async with operated(node) as admin:
        assert "the leader is c" in await admin.transfer_leadership("c")
        await admin.transfer_leadership()

    assert node.transfers == ["c", None]


async def test_a_snapshot_is_told_with_its_index() -> None:
    node = OperatedNode()
    async with operated(node) as admin:
        assert "nothing" in await admin.take_snapshot()
        node.snapshot = SnapshotMeta(index=9, term=2, membership=node.now.membership, size_bytes=77)
        assert await admin.take_snapshot() == "snapshot of index 9, 77 bytes"


async def test_a_member_is_replaced_by_learner_catch_up_and_one_joint_change() -> None:
    node = OperatedNode()
    async with operated(node) as admin:
        assert await admin.replace("c", "d", "d:1") == "d has replaced c"

    assert [changes for changes, _ in node.changes] == [
        [AddLearner(node="d", address="d:1")],
        [AddVoter(node="d"), RemoveNode(node="c")],
    ]
    assert node.now.membership.voters == ("a", "b", "d")


async def test_an_interrupted_replacement_goes_on_where_it_stopped() -> None:
    node = OperatedNode()
    async with operated(node) as admin:
        await admin.change_membership([add_learner("d", "d:1")])
        await admin.replace("c", "d", "d:1")
        assert len(node.changes) == 2
        assert await admin.replace("c", "d", "d:1") == "d has replaced c already"

    assert len(node.changes) == 2


async def test_a_replacement_waits_for_the_new_node_to_catch_up() -> None:
    node = OperatedNode()
    async with operated(node) as admin:
        await admin.change_membership([add_learner("d", "d:1")])
        node.now = replace(node.now, peers=(peer("b", 10), peer("c", 10), peer("d", 100)))
        admin.timeout = 0.3
        with pytest.raises(Unavailable, match=r"d has not caught up: it has 100 of 5,000 entries; .* the same call goes on from there"):
            await admin.replace("c", "d", "d:1")

    assert node.now.membership.voters == ("a", "b", "c")


async def test_a_leader_that_is_replaced_hands_over_first() -> None:
    node = OperatedNode()
    async with operated(node) as admin:
        with pytest.raises(NotLeader) as raised:
            await admin.replace("a", "d", "d:1")

    assert node.transfers == [None]
    assert (raised.value.leader, raised.value.address) == ("b", "b:1")


async def test_who_is_unknown_cannot_be_replaced() -> None:
    async with operated(OperatedNode()) as admin:
        with pytest.raises(UnknownNode, match="unknown node 'z'; the members are a, b, c"):
            await admin.replace("z", "d", "d:1")
        with pytest.raises(UnknownNode, match="unknown node 'z'"):
            await admin.readmit("z")


async def test_a_node_that_is_not_a_member_yet_needs_an_address() -> None:
    async with operated(OperatedNode()) as admin:
        with pytest.raises(MalformedMessage, match="address: found '', allowed: host:port, because d is no member yet"):
            await admin.replace("c", "d", "")


async def test_a_replacement_does_not_guess_between_two_addresses() -> None:
    node = OperatedNode()
    async with operated(node) as admin:
        await admin.change_membership([add_learner("d", "d:1")])
        with pytest.raises(MembershipRefused, match="d is a member at d:1, not at d:2"):
            await admin.replace("c", "d", "d:2")

    assert len(node.changes) == 1


async def test_a_wiped_member_comes_back_as_a_learner_with_the_directory_it_shows_now() -> None:
    node = OperatedNode()
    members = {**node.now.membership.members, "c": Member(address="c:1", incarnation=5)}
    node.now = replace(node.now, membership=replace(node.now.membership, members=members), incarnations_seen={"c": 9})
    node.config = replace(node.config, auto_promote=False)
    async with operated(node) as admin:
        assert await admin.readmit("c") == "c is a learner, with the data directory it has now"
        assert await admin.readmit("c") == "c is a learner, with the data directory it has now"

    assert node.changes == [([AddLearner(node="c", incarnation=9)], False)]


async def test_a_member_that_has_its_directory_is_not_made_a_learner() -> None:
    node = OperatedNode()
    members = {**node.now.membership.members, "c": Member(address="c:1", incarnation=5)}
    node.now = replace(node.now, membership=replace(node.now.membership, members=members), incarnations_seen={"c": 5})
    async with operated(node) as admin:
        assert await admin.readmit("c") == "c is a voter, with the data directory it has now"
        with pytest.raises(MembershipRefused, match="a leads"):
            await admin.readmit("a")

    assert node.changes == []


async def test_a_member_that_nobody_has_heard_of_is_not_readmitted() -> None:
    node = OperatedNode()
    node.now = replace(node.now, peer_errors={"c": "c at c:1: UNAVAILABLE: connection refused"})
    async with operated(node) as admin:
        admin.timeout = 0.3
        with pytest.raises(Unavailable, match="c was not heard of yet: c at c:1: UNAVAILABLE"):
            await admin.readmit("c")


@pytest.mark.parametrize(
    "method",
    [methods.CHANGE_MEMBERSHIP, methods.REPLACE_MEMBER, methods.TRANSFER_LEADERSHIP, methods.SNAPSHOT_TAKE, methods.STATUS, methods.HEALTH],
)
async def test_rubbish_is_an_invalid_argument_and_the_service_goes_on(method: str) -> None:
    node = OperatedNode()
    async with operated(node) as admin:
        channel = open_channel(admin.address, 1 << 20)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await channel.unary_unary(methods.admin_method(method))(b"\xff" * 30)
        await channel.close()

        assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "MalformedMessage: 30 bytes do not parse" in (raised.value.details() or "")
        assert await admin.health() == (True, True, "")


async def test_nobody_at_the_address_is_unavailable() -> None:
    async with AdminClient("127.0.0.1:1", timeout=2.0) as admin:
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"):
            await admin.status()
        with pytest.raises(Unavailable):
            await admin.transfer_leadership()


async def test_grpc_health_follows_the_node() -> None:
    server = NodeServer("127.0.0.1:0", [], message_bytes_max=1 << 20)
    server.bind()
    await server.start()
    channel = open_channel(server.bound_address, 1 << 20)
    stub = health_pb2_grpc.HealthStub(channel)
    statuses = []
    for serving in (False, True, False):
        await server.set_serving(serving=serving)
        statuses += [(await stub.Check(health_pb2.HealthCheckRequest(service=name))).status for name in ("", methods.CLIENT_SERVICE)]
    await channel.close()
    await server.stop(0.0)

    not_serving, yes = health_pb2.HealthCheckResponse.NOT_SERVING, health_pb2.HealthCheckResponse.SERVING
    assert statuses == [not_serving] * 2 + [yes] * 2 + [not_serving] * 2
