"""Who a node says it is, and whom it believes: the judgements of the handshake, without any I/O.

A peer is refused when one of these differs: the protocol's version, the cluster's id, what all must agree on (`ClusterConfig.fingerprint`), the first membership
(where both have one), the name it reaches us by, its own name. And for the sake of what it once promised:

- its incarnation: another number than the membership records means another data directory. That node has forgotten its votes and its log;
- its epoch: a cluster that lost its quorum was recovered under a higher one, and who still lives in the older one is fenced. A node that has no log yet
  (`joining`) belongs to no epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from replog.config import check_address
from replog.errors import ConfigError, MalformedMessage, PeerRefused
from replog.rpc import raft_pb2 as pb
from replog.rpc.methods import PROTOCOL_VERSION
from replog.transport.convert import check_peer_name
from replog.types import NodeId


def _accept_any(_node: NodeId) -> int:
    return 0


def _forget(_node: NodeId, _incarnation: int) -> None:
    return


def _forget_log(_node: NodeId) -> None:
    return


def _has_log() -> bool:
    return False


@dataclass(slots=True, kw_only=True)
class Identity:
    """What the node tells of itself and knows of the others; the node keeps it up to date."""

    node_id: NodeId
    cluster_id: str
    fingerprint: str
    members_fingerprint: str = ""
    incarnation: int = 0
    epoch: int = 0
    address: str = ""
    """Advertised ``host:port``; empty until the server is bound, when none is configured."""
    joining: Callable[[], bool] = _has_log
    """Whether this node still has no log of its own."""
    expected_incarnation: Callable[[NodeId], int | None] = _accept_any
    """The recorded incarnation of a node; 0: not recorded, any is accepted; None: the node must not be talked to."""
    on_incarnation_seen: Callable[[NodeId, int], None] = _forget
    """Told the incarnation that a node of this cluster shows, before it is judged."""
    on_log_seen: Callable[[NodeId], None] = _forget_log
    """Told that a node of this cluster has a log."""
    on_epoch_seen: Callable[[NodeId, int], None] = _forget
    """Told a higher epoch of a node whose incarnation is the recorded one, if one is."""

    def hello(self, target: NodeId) -> pb.Hello:
        return pb.Hello(
            version=PROTOCOL_VERSION,
            cluster_id=self.cluster_id,
            fingerprint=self.fingerprint,
            members_fingerprint=self.members_fingerprint,
            source=self.node_id,
            target=target,
            incarnation=self.incarnation,
            epoch=self.epoch,
            address=self.address,
            joining=self.joining(),
        )

    def accepted(self) -> pb.Accepted:
        return pb.Accepted(
            version=PROTOCOL_VERSION,
            node=self.node_id,
            incarnation=self.incarnation,
            epoch=self.epoch,
            joining=self.joining(),
        )

    def judge(self, hello: pb.Hello) -> pb.Refused | None:
        """None when the sender of `hello` is welcome; otherwise the field that differs. Raises `MalformedMessage` for what no node says."""
        check_peer_name("hello.source", hello.source)
        if hello.address:
            try:
                check_address("hello.address", hello.address)
            except ConfigError as error:
                raise MalformedMessage(str(error)) from None
        for field, found, expected in (
            ("version", hello.version, PROTOCOL_VERSION),
            ("cluster_id", hello.cluster_id, self.cluster_id),
            ("target", hello.target, self.node_id),
            ("fingerprint", hello.fingerprint, self.fingerprint),
        ):
            if found != expected:
                return self._refused(field, found, expected)
        theirs, ours = hello.members_fingerprint, self.members_fingerprint
        if theirs and ours and theirs != ours:
            return self._refused("members_fingerprint", theirs, ours)
        if hello.source == self.node_id:
            return self._refused("source", hello.source, "another node than myself")
        return self._judge_life(hello.source, hello.incarnation, hello.epoch, joining=hello.joining)

    def judge_accepted(self, accepted: pb.Accepted, target: NodeId) -> None:
        """Raises `PeerRefused` when the node that accepted us is not the one we want to talk to."""
        refused: pb.Refused | None
        if accepted.node != target:
            refused = self._refused("node", accepted.node, target)
        else:
            refused = self._judge_life(target, accepted.incarnation, accepted.epoch, joining=accepted.joining)
        if refused is not None:
            raise PeerRefused(f"refused {target}: {describe(refused)}")

    def refused_by(self, node: NodeId, refused: pb.Refused) -> None:
        """What `node` tells of itself by refusing us."""
        if not refused.incarnation or refused.field in {"cluster_id", "target", "version"}:
            return
        self.on_incarnation_seen(node, refused.incarnation)
        if refused.field == "incarnation":
            self.on_log_seen(node)  # else it would expect none
        elif refused.field == "epoch" and self.expected_incarnation(node) in (0, refused.incarnation) and not self.joining():
            theirs = refused.expected
            if theirs.isdecimal() and len(theirs) < 20 and int(theirs) > self.epoch:
                self.on_epoch_seen(node, int(theirs))

    def _judge_life(self, node: NodeId, incarnation: int, epoch: int, *, joining: bool) -> pb.Refused | None:
        self.on_incarnation_seen(node, incarnation)
        if not joining:
            self.on_log_seen(node)
        expected = self.expected_incarnation(node)
        if expected is None:
            return self._refused("source", node, "a member of the cluster")
        if expected and incarnation != expected:
            return self._refused("incarnation", incarnation, expected)
        if epoch < self.epoch and not joining:
            return self._refused("epoch", epoch, self.epoch)
        if epoch > self.epoch and not self.joining():
            self.on_epoch_seen(node, epoch)
            return self._refused("epoch", epoch, self.epoch)
        return None

    def _refused(self, field: str, found: object, expected: object) -> pb.Refused:
        return pb.Refused(field=field, found=str(found)[:200], expected=str(expected)[:200], incarnation=self.incarnation)


def describe(refused: pb.Refused) -> str:
    """One line for people, both values named."""
    advice = {
        "incarnation": "; the node's data directory was made anew or restored: it must rejoin as a learner",
        "epoch": "; one of the two was fenced when the cluster was recovered: wipe the one with the lower epoch and let it rejoin",
    }.get(refused.field, "")
    return f"{refused.field}: found {refused.found!r}, expected {refused.expected!r}{advice}"
