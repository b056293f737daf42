"""Membership changes as pure functions (paper section 6; thesis chapter 4).

A *simple* change moves at most one node into or out of the voters, so that any majority of the old and any majority of the new voters share a
node. Any other change goes through a *joint* membership, in which every decision needs a majority of both halves::

    voters            --enter_joint-->  voters && voters_outgoing  --leave_joint-->  voters
    (1 2 3)                             (3 4 5) && (1 2 3)                           (3 4 5)

A voter that is to become a learner stays a voter of the outgoing half until the joint membership is left; it waits in `learners_next`. A
membership is in force as soon as its entry is in the log, committed or not (thesis 4.1), and is rolled back with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from replog.errors import MembershipRefused
from replog.types import Member, Membership, NodeId


@dataclass(frozen=True, slots=True, kw_only=True)
class AddVoter:
    """Make `node` a voter: a new one, or a learner that is promoted (its address and incarnation are kept unless given)."""

    node: NodeId
    address: str = ""
    incarnation: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AddLearner:
    """Make `node` a learner: a new one, or a voter that is demoted (its address and incarnation are kept unless given)."""

    node: NodeId
    address: str = ""
    incarnation: int = 0
    stays: bool = False
    """It is not promoted by itself when it has caught up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveNode:
    node: NodeId


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateMember:
    """Change what is recorded of a member; None keeps the field. A voter's incarnation is recorded once (0 to a value)."""

    node: NodeId
    address: str | None = None
    incarnation: int | None = None


MembershipChange = AddVoter | AddLearner | RemoveNode | UpdateMember


def simple(current: Membership, changes: Sequence[MembershipChange]) -> Membership:
    """`current` with `changes`, in one step. Raises `MembershipRefused` when joint, without voters, or when more than one voter changes."""
    if current.is_joint:
        raise MembershipRefused("a joint membership is in force; it must be left before another change")
    changed = _apply(current, changes)
    moved = frozenset(current.voters) ^ frozenset(changed.voters)
    if len(moved) > 1:
        raise MembershipRefused(
            f"{len(moved)} voters change in one step ({', '.join(sorted(moved))}); more than one needs a joint membership"
        )
    return changed


def enter_joint(current: Membership, changes: Sequence[MembershipChange], *, auto_leave: bool) -> Membership:
    """The joint membership of `current` and of `current` with `changes`. Raises `MembershipRefused` when joint already or without voters."""
    if current.is_joint:
        raise MembershipRefused("a joint membership is in force already")
    if not current.voters:
        raise MembershipRefused("a membership without voters cannot become joint")
    both = Membership(
        voters=current.voters,
        voters_outgoing=current.voters,
        learners=current.learners,
        auto_leave=auto_leave,
        members=current.members,
        epoch=current.epoch,
    )
    return _apply(both, changes)


def leave_joint(current: Membership) -> Membership:
    """The incoming half alone. Raises `MembershipRefused` when not joint."""
    if not current.is_joint:
        raise MembershipRefused("no joint membership is in force, so none can be left")
    learners = tuple(sorted({*current.learners, *current.learners_next}))
    return _with_members(
        current, frozenset(current.voters), frozenset(), frozenset(learners), frozenset(), dict(current.members), auto_leave=False
    )


def voters_changed(current: Membership, changes: Sequence[MembershipChange]) -> int:
    """How many nodes become or stop being a voter: more than one needs a joint membership."""
    return len(frozenset(current.voters) ^ frozenset(_apply(current, changes).voters))


def _apply(current: Membership, changes: Sequence[MembershipChange]) -> Membership:
    """`current` after `changes`, one after another; what is already so is no error (removing an absent node is nothing)."""
    voters, learners, learners_next = set(current.voters), set(current.learners), set(current.learners_next)
    outgoing = frozenset(current.voters_outgoing)
    members = dict(current.members)
    for change in changes:
        node = change.node
        if not node:
            continue
        match change:
            case AddVoter():
                learners.discard(node)
                learners_next.discard(node)
                voters.add(node)
                members[node] = _merged(members.get(node), change.address, change.incarnation)
            case AddLearner():
                voters.discard(node)
                learners_next.discard(node)
                learners.discard(node)
                (learners_next if node in outgoing else learners).add(node)
                members[node] = _merged(members.get(node), change.address, change.incarnation, stays=change.stays)
            case RemoveNode():
                voters.discard(node)
                learners.discard(node)
                learners_next.discard(node)
            case UpdateMember():
                known = members.get(node)
                if known is not None:
                    members[node] = Member(
                        address=known.address if change.address is None else change.address,
                        incarnation=known.incarnation if change.incarnation is None else change.incarnation,
                        stays_learner=known.stays_learner,
                    )
    if not voters:
        raise MembershipRefused("the change would leave no voters")
    return _with_members(current, voters, outgoing, learners, learners_next, members, auto_leave=current.auto_leave)


def _merged(known: Member | None, address: str, incarnation: int, *, stays: bool = False) -> Member:
    if known is None:
        return Member(address=address, incarnation=incarnation, stays_learner=stays)
    return Member(address=address or known.address, incarnation=incarnation or known.incarnation, stays_learner=stays)


def _with_members(
    current: Membership,
    voters: set[NodeId] | frozenset[NodeId],
    outgoing: frozenset[NodeId],
    learners: set[NodeId] | frozenset[NodeId],
    learners_next: set[NodeId] | frozenset[NodeId],
    members: dict[NodeId, Member],
    *,
    auto_leave: bool,
) -> Membership:
    """A membership with sorted tuples and exactly the members they name."""
    named = sorted({*voters, *outgoing, *learners, *learners_next})
    return Membership(
        voters=tuple(sorted(voters)),
        voters_outgoing=tuple(sorted(outgoing)),
        learners=tuple(sorted(learners)),
        learners_next=tuple(sorted(learners_next)),
        auto_leave=auto_leave,
        members={node: members.get(node) or Member(address="") for node in named},
        epoch=current.epoch,
    )
