"""Any two memberships that can follow each other have no two quorums without a common voter (FAULTS S11)."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from replog.errors import MembershipRefused
from replog.raft.membership import AddLearner, AddVoter, MembershipChange, RemoveNode, enter_joint, leave_joint, simple, voters_changed
from replog.raft.quorum import VoteResult, committed_index, majority_index, vote_result
from replog.types import Membership, NodeId

NODES = [str(number) for number in range(1, 7)]
changes = st.lists(
    st.builds(lambda kind, node: kind(node=node), st.sampled_from([AddVoter, AddLearner, RemoveNode]), st.sampled_from(NODES)), max_size=5
)
voters = st.lists(st.sampled_from(NODES), unique=True, max_size=5).map(lambda names: tuple(sorted(names)))


def start(names: list[NodeId]) -> Membership:
    return simple_all(Membership(), names)


def simple_all(membership: Membership, names: list[NodeId]) -> Membership:
    for name in names:
        membership = simple(membership, [AddVoter(node=name)])
    return membership


def quorums(membership: Membership) -> list[frozenset[NodeId]]:
    """Every set of voters that wins a vote."""
    everyone = sorted(membership.all_voters)
    return [
        frozenset(chosen)
        for count in range(len(everyone) + 1)
        for chosen in combinations(everyone, count)
        if vote_result(dict.fromkeys(chosen, True), membership.voters, membership.voters_outgoing) is VoteResult.WON
    ]


def assert_neighbours(before: Membership, after: Membership) -> None:
    assert all(one & other for one in quorums(before) for other in quorums(after)), f"{before} and {after} can decide apart"


@given(st.lists(st.sampled_from(NODES), min_size=1, max_size=5, unique=True), changes)
def test_quorums_of_neighbouring_memberships_intersect(names: list[NodeId], wanted: list[MembershipChange]) -> None:
    before = start(names)

    try:
        one_step = simple(before, wanted)
    except MembershipRefused:
        pass
    else:
        assert_neighbours(before, one_step)
        assert voters_changed(before, wanted) <= 1
    try:
        joint = enter_joint(before, wanted, auto_leave=True)
    except MembershipRefused:
        return
    assert_neighbours(before, joint)
    assert_neighbours(joint, leave_joint(joint))


@given(st.lists(st.sampled_from(NODES), min_size=1, max_size=5, unique=True), changes)
def test_a_membership_is_well_formed_after_any_change(names: list[NodeId], wanted: list[MembershipChange]) -> None:
    try:
        joint = enter_joint(start(names), wanted, auto_leave=False)
    except MembershipRefused:
        return
    for membership in (joint, leave_joint(joint)):
        for nodes in (membership.voters, membership.voters_outgoing, membership.learners, membership.learners_next):
            assert list(nodes) == sorted(set(nodes))
        assert not membership.all_voters & set(membership.learners)
        assert set(membership.learners_next) <= set(membership.voters_outgoing)
        assert set(membership.members) == set(membership.nodes)


@given(st.lists(st.integers(0, 20), max_size=7))
def test_the_majority_index_is_the_largest_that_a_majority_reached(values: list[int]) -> None:
    found = majority_index(values)

    if values:
        needed = len(values) // 2 + 1
        assert sum(value >= found for value in values) >= needed
        assert sum(value > found for value in values) < needed


@given(voters, voters, st.dictionaries(st.sampled_from(NODES), st.integers(0, 9)))
def test_a_joint_commit_needs_both_halves(first: tuple[NodeId, ...], second: tuple[NodeId, ...], match: dict[NodeId, int]) -> None:
    assert committed_index(match, first, second) == min(committed_index(match, first), committed_index(match, second))
