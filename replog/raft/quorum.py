"""What a majority has agreed on: pure functions of numbers and votes (paper sections 5.2, 5.3, 6).

An empty majority agrees to everything, so that a membership that is not joint is the joint one with an empty second half.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import Enum

from replog.types import INDEX_MAX, Index, NodeId


class VoteResult(Enum):
    WON = "won"
    PENDING = "pending"
    LOST = "lost"


def majority_index(values: Sequence[Index]) -> Index:
    """The largest number that a majority of `values` has reached; INDEX_MAX when there are none.

    ::

        sorted  3 5 8 9      a majority of 4 is 3, so the third largest: 5
                  ^
    """
    count = len(values)
    if count == 3:  # the usual cluster: the middle one, without sorting
        a, b, c = values
        if a > b:
            a, b = b, a
        return a if c < a else min(b, c)
    if count == 0:
        return INDEX_MAX
    return sorted(values)[(count - 1) // 2]


def committed_index(match: Mapping[NodeId, Index], voters: Collection[NodeId], outgoing: Collection[NodeId] = ()) -> Index:
    """The largest index that a majority of `voters` and a majority of `outgoing` hold; a node that is not in `match` holds nothing."""
    return min(
        majority_index([match.get(voter, 0) for voter in voters]),
        majority_index([match.get(voter, 0) for voter in outgoing]),
    )


def majority_result(votes: Mapping[NodeId, bool], voters: Collection[NodeId]) -> VoteResult:
    if not voters:
        return VoteResult.WON
    needed = len(voters) // 2 + 1
    yes = sum(1 for voter in voters if votes.get(voter) is True)
    missing = sum(1 for voter in voters if voter not in votes)
    if yes >= needed:
        return VoteResult.WON
    if yes + missing >= needed:
        return VoteResult.PENDING
    return VoteResult.LOST


def vote_result(votes: Mapping[NodeId, bool], voters: Collection[NodeId], outgoing: Collection[NodeId] = ()) -> VoteResult:
    """Won when both halves are won, lost as soon as one is lost. Votes of others than the voters do not count."""
    first, second = majority_result(votes, voters), majority_result(votes, outgoing)
    if VoteResult.LOST in (first, second):
        return VoteResult.LOST
    if VoteResult.PENDING in (first, second):
        return VoteResult.PENDING
    return VoteResult.WON
