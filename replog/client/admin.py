"""Operating a cluster from outside: one node's admin service, one method a call."""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from replog.config import MIB
from replog.errors import MalformedMessage, OutcomeUnknown, ReplogError, Unavailable
from replog.rpc import admin_pb2 as pb
from replog.rpc import methods
from replog.rpc.channel import open_channel
from replog.rpc.failures import error_of
from replog.types import NodeId


class Unreachable(Unavailable):
    """Nothing answers at the address, so nothing was done there. Ask another node, or again."""


_MESSAGE_BYTES_MAX: Final = 16 * MIB

Kind = pb.MemberChange.Kind


class AdminClient:
    """Calls go to the node at `address` and nowhere else: what only the leader can do raises `NotLeader` with its address elsewhere.

    Errors are those of `Node`'s methods, and `Unreachable` when nothing answers (nothing was done).
    """

    def __init__(self, address: str, *, timeout: float = 10.0) -> None:
        self.address = address
        self.timeout = timeout
        self._channel = open_channel(address, _MESSAGE_BYTES_MAX)

    async def status(self) -> dict[str, Any]:
        """The node's `NodeStatus` as its `to_json` has it."""
        reply = pb.StatusReply()
        await self._ask(methods.STATUS, pb.StatusRequest(), reply, harmless=True)
        if reply.HasField("failure"):
            raise error_of(reply.failure)
        status: dict[str, Any] = json.loads(reply.json)
        return status

    async def health(self) -> tuple[bool, bool, str]:
        """(live, ready, why not)."""
        reply = pb.HealthReply()
        await self._ask(methods.HEALTH, pb.HealthRequest(), reply, harmless=True)
        return reply.live, reply.ready, reply.reason

    async def change_membership(self, changes: Sequence[pb.MemberChange], *, force: bool = False) -> str:
        """Make all of `changes` (`add_learner` and the others below) as one; returns what was done, for people."""
        return await self._do(methods.CHANGE_MEMBERSHIP, pb.ChangeMembershipRequest(changes=changes, force=force))

    async def replace(self, outgoing: NodeId, incoming: NodeId, address: str, *, force: bool = False) -> str:
        """Put `incoming` (running at `address`, joining) in the place of `outgoing`: learner, catch-up, joint change. May be repeated when it was interrupted."""
        request = pb.ReplaceMemberRequest(outgoing=outgoing, incoming=incoming, address=address, force=force)
        return await self._do(methods.REPLACE_MEMBER, request)

    async def readmit(self, node: NodeId, address: str = "", *, force: bool = False) -> str:
        """Take back a member whose data directory was wiped or restored, running again (at `address`, if that is new): learner, catch-up, promotion."""
        return await self.replace(node, node, address, force=force)

    async def transfer_leadership(self, target: NodeId | None = None) -> str:
        """Hand leadership to `target` (None: the follower closest to the leader's log)."""
        return await self._do(methods.TRANSFER_LEADERSHIP, pb.TransferLeadershipRequest(target=target or ""))

    async def take_snapshot(self) -> str:
        """Have the node write a snapshot now."""
        return await self._do(methods.SNAPSHOT_TAKE, pb.SnapshotTakeRequest())

    async def close(self) -> None:
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def _do(self, method: str, request: Message) -> str:
        reply = pb.AdminReply()
        await self._ask(method, request, reply, harmless=False)
        if reply.HasField("failure"):
            raise error_of(reply.failure)
        return reply.message

    async def _ask(self, method: str, request: Message, reply: Message, *, harmless: bool) -> None:
        """Fill `reply`. `harmless`: the call changes nothing, so a lost answer leaves nothing unknown."""
        try:
            data = await self._channel.unary_unary(methods.admin_method(method))(request.SerializeToString(), timeout=self.timeout)
            reply.ParseFromString(data)
        except DecodeError:
            raise Unavailable(f"{self.address} answered {method} with what is no reply of replog") from None
        except grpc.aio.AioRpcError as error:
            raise self._error(method, error, harmless=harmless) from None

    def _error(self, method: str, error: grpc.aio.AioRpcError, *, harmless: bool) -> ReplogError:
        code, details = error.code(), error.details()
        text = f"{method} at {self.address}: {code.name}: {details}"
        if code == grpc.StatusCode.INVALID_ARGUMENT:
            return MalformedMessage(text)
        if harmless or (code == grpc.StatusCode.UNAVAILABLE and "failed to connect" in (details or "")):
            return Unreachable(text)
        return OutcomeUnknown(f"{text}; it may be done or not, look at the status")


def add_learner(node: NodeId, address: str, *, stays: bool = False) -> pb.MemberChange:
    """A new node gets the log and does not vote. Unless it `stays` a learner, it is promoted when it has caught up (where that happens by itself)."""
    return pb.MemberChange(kind=pb.MemberChange.ADD_LEARNER, node=node, address=address, stays_learner=stays)


def add_voter(node: NodeId, address: str) -> pb.MemberChange:
    """A new node votes at once. Better: `add_learner`, then `promote` when it has caught up."""
    return pb.MemberChange(kind=pb.MemberChange.ADD_VOTER, node=node, address=address)


def promote(node: NodeId) -> pb.MemberChange:
    """A learner becomes a voter."""
    return pb.MemberChange(kind=pb.MemberChange.PROMOTE, node=node)


def demote(node: NodeId) -> pb.MemberChange:
    """A voter becomes a learner, and stays one until it is promoted."""
    return pb.MemberChange(kind=pb.MemberChange.DEMOTE, node=node, stays_learner=True)


def remove(node: NodeId) -> pb.MemberChange:
    """The node leaves the cluster: it learns of it and serves no more."""
    return pb.MemberChange(kind=pb.MemberChange.REMOVE, node=node)


def update_address(node: NodeId, address: str) -> pb.MemberChange:
    """The node is reached at another address from now on."""
    return pb.MemberChange(kind=pb.MemberChange.UPDATE_ADDRESS, node=node, address=address)
