"""Cores for tests: made with a given log, drained of what they want done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from replog.raft import CoreConfig, PeerStatus, RaftCore, Ready
from replog.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    CoreMessage,
    EntryRange,
    Heartbeat,
    HeartbeatReply,
    PreVoteReply,
    PreVoteRequest,
    VoteReply,
    VoteRequest,
)
from replog.testing.cores import CoreCluster, CoreNode, members
from replog.types import HardState, Index, Membership, NodeId, Role, SnapshotMeta, Term

M = TypeVar("M")
TIMEOUT = 10
"""Least election timeout of these cores, ticks; `draw_timeout` returns it, unless told otherwise."""
CONFIG: dict[str, Any] = {"heartbeat_ticks": 2, "election_timeout_ticks_min": TIMEOUT, "election_timeout_ticks_max": 2 * TIMEOUT}


def runs(terms: Sequence[Term], first_index: Index = 1) -> list[tuple[Index, Term]]:
    """Runs of equal term of a log whose entries have `terms`."""
    return [(first_index + i, term) for i, term in enumerate(terms) if i == 0 or term != terms[i - 1]]


def make(
    node: NodeId = "1",
    voters: Sequence[NodeId] = ("1", "2", "3"),
    *,
    log: Sequence[Term] = (),
    term: Term | None = None,
    vote: NodeId | None = None,
    membership: Membership | None = None,
    snapshot: SnapshotMeta | None = None,
    applied: Index = 0,
    timeout: int = TIMEOUT,
    maybe_promised: Index = 0,
    is_founder: bool = False,
    memberships: Sequence[tuple[Index, Membership]] = (),
    **config: Any,
) -> RaftCore:
    """A core that restarted with a log of these terms."""
    first = snapshot.index + 1 if snapshot is not None else 1
    return RaftCore(
        CoreConfig(node_id=node, **{**CONFIG, **config}),
        draw_timeout=lambda: timeout,
        hard_state=HardState(term=term if term is not None else max(log, default=0), vote=vote),
        membership=membership or (snapshot.membership if snapshot is not None else members(voters)),
        snapshot=snapshot,
        first_index=first,
        last_index=first + len(log) - 1,
        terms=runs(log, first),
        memberships=memberships,
        log_bytes=10 * len(log),
        applied_index=applied,
        maybe_promised=maybe_promised,
        is_founder=is_founder,
    )


def turn(core: RaftCore) -> Ready:
    """Take one Ready and do what it says, the disk being fast."""
    core.check()
    ready = core.ready()
    if ready.must_sync:
        core.persisted(core.last_index)
    if ready.committed is not None:
        core.applied(ready.committed[1])
    core.check()
    return ready


def drain(core: RaftCore) -> list[CoreMessage]:
    """Turns until there is nothing to do; the messages, in order."""
    messages: list[CoreMessage] = []
    while core.has_ready():
        ready = turn(core)
        messages.extend(ready.messages_before_sync)
        messages.extend(ready.snapshots_to_send)
        messages.extend(ready.messages_after_sync)
    return messages


def only(kind: type[M], messages: Iterable[object]) -> list[M]:
    return [message for message in messages if isinstance(message, kind)]


def one(kind: type[M], messages: Iterable[object]) -> M:
    found = only(kind, messages)
    assert len(found) == 1, found
    return found[0]


def tick(core: RaftCore, count: int = 1) -> None:
    for _ in range(count):
        core.tick()
        core.check()


def candidate(core: RaftCore) -> list[CoreMessage]:
    """Make the core a candidate of the next term; what it sends for it."""
    core.campaign(force=True)
    messages = drain(core)
    assert core.role is Role.CANDIDATE or core.is_leader
    return messages


def leader(core: RaftCore, *, commit: bool = False) -> RaftCore:
    """Make the core leader of the next term by everybody's votes; `commit`: and let everybody acknowledge its log."""
    candidate(core)
    for node in core.membership.all_voters - {core.status().node}:
        if not core.is_leader:
            core.receive(VoteReply(source=node, target=core.status().node, term=core.term, granted=True))
    assert core.is_leader
    drain(core)
    if commit:
        for node in core.membership.nodes:
            if node != core.status().node:
                core.receive(accept(core, node, core.last_index))
        drain(core)
        assert core.committed_index == core.last_index
    return core


def accept(core: RaftCore, source: NodeId, match: Index) -> AppendEntriesReply:
    """`source` has acknowledged everything up to `match`."""
    return AppendEntriesReply(source=source, target=core.status().node, term=core.term, match_index=match, last_index=match)


def reject(core: RaftCore, source: NodeId, prev: Index, *, hint: tuple[Index, Term], last: Index) -> AppendEntriesReply:
    return AppendEntriesReply(
        source=source,
        target=core.status().node,
        term=core.term,
        rejected_prev_index=prev,
        hint_index=hint[0],
        hint_term=hint[1],
        last_index=last,
    )


def append(
    source: NodeId, target: NodeId, term: Term, prev: tuple[Index, Term], terms: Sequence[Term] = (), *, commit: Index = 0
) -> AppendEntries:
    """An append of entries with `terms` behind the position `prev`."""
    entries = None
    if terms:
        first = prev[0] + 1
        entries = EntryRange(
            first_index=first, last_index=prev[0] + len(terms), terms=tuple(runs(terms, first)), size_bytes=10 * len(terms)
        )
    return AppendEntries(
        source=source,
        target=target,
        term=term,
        prev_index=prev[0],
        prev_term=prev[1],
        committed_index=commit,
        entries=entries,
        frames="frames" if terms else None,
    )


def vote_request(source: NodeId, target: NodeId, term: Term, last: tuple[Index, Term], *, transfer: bool = False) -> VoteRequest:
    return VoteRequest(source=source, target=target, term=term, last_index=last[0], last_term=last[1], transfer=transfer)


def pre_vote_request(source: NodeId, target: NodeId, term: Term, last: tuple[Index, Term]) -> PreVoteRequest:
    return PreVoteRequest(source=source, target=target, term=term, last_index=last[0], last_term=last[1])


def granted(source: NodeId, core: RaftCore, *, yes: bool = True) -> VoteReply:
    return VoteReply(source=source, target=core.status().node, term=core.term, granted=yes)


def pre_granted(source: NodeId, core: RaftCore, *, yes: bool = True) -> PreVoteReply:
    return PreVoteReply(source=source, target=core.status().node, term=core.term + 1 if yes else core.term, granted=yes)


def heartbeat(source: NodeId, target: NodeId, term: Term, *, commit: Index = 0, round: int = 0) -> Heartbeat:  # noqa: A002
    return Heartbeat(source=source, target=target, term=term, committed_index=commit, round=round)


def answer(beat: Heartbeat) -> HeartbeatReply:
    return HeartbeatReply(source=beat.target, target=beat.source, term=beat.term, round=beat.round)


def log_terms(core: RaftCore) -> list[Term | None]:
    return [core.term_at(index) for index in range(core.first_index, core.last_index + 1)]


# -- whole clusters -------------------------------------------------------------------------------------------------------


def cluster_of(*voters: NodeId, learners: Sequence[NodeId] = (), **config: Any) -> CoreCluster:
    cluster = CoreCluster()
    for name in (*voters, *learners):
        add(cluster, name, members(voters, learners), **config)
    return cluster


def add(cluster: CoreCluster, name: NodeId, membership: Membership, **config: Any) -> CoreNode:
    timeout = TIMEOUT + len(cluster.nodes)
    return cluster.add(CoreConfig(node_id=name, **{**CONFIG, **config}), membership, lambda: timeout)


def stabilize(cluster: CoreCluster, *names: NodeId) -> list[CoreMessage]:
    """Readys and deliveries among `names` (all) until nothing moves; the messages delivered."""
    chosen = names or tuple(cluster.nodes)
    delivered: list[CoreMessage] = []
    for _ in range(1000):
        moved = [cluster.nodes[name].take_ready() for name in chosen]
        links = [link for link in sorted(cluster.links) if cluster.links[link] and link[0] in chosen and link[1] in chosen]
        for link in links:
            for _ in range(len(cluster.links[link])):
                message = cluster.deliver(*link)
                assert message is not None
                delivered.append(message)
        cluster.check()
        if not links and not any(moved):
            return delivered
    raise AssertionError("never quiet")


def elected(cluster: CoreCluster, name: NodeId = "1") -> CoreNode:
    cluster.nodes[name].core.campaign()
    stabilize(cluster)
    assert cluster.nodes[name].core.is_leader
    return cluster.nodes[name]


def tick_all(cluster: CoreCluster, count: int = 1) -> None:
    for _ in range(count):
        for node in cluster.nodes.values():
            if node.alive:
                node.core.tick()
        stabilize(cluster)


def peer(core: RaftCore, node: str) -> PeerStatus:
    """What `core`, which leads, knows of `node`."""
    return next(status for status in core.status().peers if status.node == node)


def sent_to(node: str, messages: Any) -> list[AppendEntries]:
    """The appends among `messages` that go to `node`."""
    return [message for message in only(AppendEntries, messages) if message.target == node]


def spans(messages: list[AppendEntries]) -> list[tuple[int, int] | None]:
    """First and last index of each append; None for one without entries."""
    return [(one.entries.first_index, one.entries.last_index) if one.entries is not None else None for one in messages]
