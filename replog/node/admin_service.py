"""The service that operators talk to: status, health, membership, leadership, snapshots.

Each call is one request and one answer. What only the leader can do is answered elsewhere with its name and address. What takes several steps of the
protocol is a plan (`replog.node.membership_plans`): interrupted, the same call goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from replog.config import check_address, check_name
from replog.errors import ConfigError, MalformedMessage, ReplogError
from replog.node.membership_plans import MembershipPlan
from replog.node.served import ServedForOperators
from replog.raft.membership import AddLearner, AddVoter, MembershipChange, RemoveNode, UpdateMember
from replog.rpc import admin_pb2 as pb
from replog.rpc import methods
from replog.rpc.failures import failure_of

logger = logging.getLogger("replog.admin_service")

_Request = TypeVar("_Request", bound=Message)
CHANGES_MAX: Final = 32
_ANSWER_SHARE: Final = 0.95
"""Of the time that a caller waits; the rest is for the answer's way back."""


class AdminService:
    """Register `handler` with the node's server."""

    def __init__(self, node: ServedForOperators) -> None:
        self._node = node

    @property
    def handler(self) -> grpc.GenericRpcHandler[bytes, bytes]:
        handlers = {
            methods.STATUS: self._unary(pb.StatusRequest, self._status, pb.StatusReply),
            methods.HEALTH: self._unary(pb.HealthRequest, self._health, pb.HealthReply),
            methods.CHANGE_MEMBERSHIP: self._unary(pb.ChangeMembershipRequest, self._change_membership, pb.AdminReply),
            methods.REPLACE_MEMBER: self._unary(pb.ReplaceMemberRequest, self._replace_member, pb.AdminReply),
            methods.TRANSFER_LEADERSHIP: self._unary(pb.TransferLeadershipRequest, self._transfer_leadership, pb.AdminReply),
            methods.SNAPSHOT_TAKE: self._unary(pb.SnapshotTakeRequest, self._snapshot_take, pb.AdminReply),
        }
        return grpc.method_handlers_generic_handler(methods.ADMIN_SERVICE, handlers)

    def _unary(
        self, request_type: type[_Request], answer: Callable[[_Request, float | None], Awaitable[Message]], reply_type: type[Message]
    ) -> grpc.RpcMethodHandler[bytes, bytes]:
        """Bytes in, bytes out; an error of ours is an answer, rubbish a status."""

        async def serve(data: bytes, context: Any) -> bytes:
            try:
                request = request_type.FromString(data)
            except DecodeError:
                await context.abort(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    f"MalformedMessage: {len(data)} bytes do not parse as {request_type.DESCRIPTOR.name}",
                )
                raise AssertionError("abort raises") from None
            try:
                reply = await answer(request, _seconds_to_answer(context.time_remaining()))
            except ReplogError as error:
                reply = reply_type(failure=failure_of(error))
            return reply.SerializeToString()

        return grpc.unary_unary_rpc_method_handler(serve)

    # -- one method a call -------------------------------------------------------------------------------------------------

    async def _status(self, _request: pb.StatusRequest, _timeout: float | None) -> Message:
        return pb.StatusReply(json=self._node.status().to_json())

    async def _health(self, _request: pb.HealthRequest, _timeout: float | None) -> Message:
        failure = self._node.failure
        reason = f"failed: {failure}" if failure is not None else self._node.not_ready_reason()
        return pb.HealthReply(live=failure is None, ready=not reason, reason=reason)

    async def _change_membership(self, request: pb.ChangeMembershipRequest, timeout: float | None) -> Message:
        if not 1 <= len(request.changes) <= CHANGES_MAX:
            raise MalformedMessage(f"changes: found {len(request.changes)}, allowed: 1 to {CHANGES_MAX}")
        changes = [change_of(change) for change in request.changes]
        index = await MembershipPlan(self._node, timeout).change(changes, force=request.force)
        done = ", ".join(describe(change) for change in changes)
        logger.info("%s: membership changed: %s", self._node.config.node_id, done)
        return pb.AdminReply(message=done, index=index)

    async def _replace_member(self, request: pb.ReplaceMemberRequest, timeout: float | None) -> Message:
        outgoing, incoming = _checked_name("outgoing", request.outgoing), _checked_name("incoming", request.incoming)
        address = _checked_address("address", request.address) if request.address else ""
        plan = MembershipPlan(self._node, timeout)
        if outgoing == incoming:
            done = await plan.readmit(outgoing, address, force=request.force)
        else:
            done = await plan.replace(outgoing, incoming, address, force=request.force)
        logger.info("%s: %s", self._node.config.node_id, done.message)
        return pb.AdminReply(message=done.message, index=done.index)

    async def _transfer_leadership(self, request: pb.TransferLeadershipRequest, timeout: float | None) -> Message:
        if request.target:
            _checked_name("target", request.target)
        await self._node.transfer_leadership(request.target or None, timeout=timeout)
        leader = self._node.status().leader
        return pb.AdminReply(message=f"leadership was handed over{f'; the leader is {leader}' if leader else ''}")

    async def _snapshot_take(self, _request: pb.SnapshotTakeRequest, timeout: float | None) -> Message:
        meta = await self._node.take_snapshot(timeout=timeout)
        if meta is None:
            return pb.AdminReply(message="nothing is applied yet, so there is nothing to snapshot")
        return pb.AdminReply(message=f"snapshot of index {meta.index}, {meta.size_bytes} bytes", index=meta.index)


def _seconds_to_answer(remaining: float | None) -> float | None:
    """How long the work may take. gRPC tells a caller without a deadline as None, or as a time beyond all years."""
    return remaining * _ANSWER_SHARE if remaining is not None and remaining < 1e6 else None


def change_of(change: pb.MemberChange) -> MembershipChange:
    """The core's change; raises `MalformedMessage` naming the field that is wrong."""
    node = _checked_name("node", change.node)
    match change.kind:
        case pb.MemberChange.ADD_LEARNER:
            return AddLearner(node=node, address=_checked_address("address", change.address), stays=change.stays_learner)
        case pb.MemberChange.ADD_VOTER:
            return AddVoter(node=node, address=_checked_address("address", change.address))
        case pb.MemberChange.PROMOTE:
            return AddVoter(node=node)
        case pb.MemberChange.DEMOTE:
            return AddLearner(node=node, stays=change.stays_learner)
        case pb.MemberChange.REMOVE:
            return RemoveNode(node=node)
        case pb.MemberChange.UPDATE_ADDRESS:
            return UpdateMember(node=node, address=_checked_address("address", change.address))
    raise MalformedMessage(f"kind: found {change.kind}, allowed: 1 to {max(pb.MemberChange.Kind.values())}")


def describe(change: MembershipChange) -> str:
    """For people."""
    match change:
        case AddVoter():
            return f"{change.node} is a voter"
        case AddLearner():
            return f"{change.node} is a learner{', until it is promoted' if change.stays else ''}"
        case RemoveNode():
            return f"{change.node} is removed"
        case UpdateMember():
            return f"{change.node} is at {change.address}"


def _checked_name(field: str, value: str) -> str:
    try:
        check_name(field, value)
    except ConfigError as error:
        raise MalformedMessage(str(error)) from None
    return value


def _checked_address(field: str, value: str) -> str:
    try:
        check_address(field, value)
    except ConfigError as error:
        raise MalformedMessage(str(error)) from None
    return value
