"""Rules of the properties that no run shows often enough to rely on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from replog.node.replica import Replica
from replog.raft.messages import AppendEntriesReply
from replog.raft.progress import Progress
from replog.testing.ledger import Ledger, LogMirror, NodeRecord, PropertyBroken
from replog.testing.properties.s07_synced_quorum import SyncedQuorum
from replog.testing.properties.s09_match_index import MatchIndex
from replog.testing.properties.s15_equal_states import EqualStates
from replog.types import Index, Member, Membership, SnapshotMeta


def reply(*, match_index: Index = 0, rejected: Index | None = None, last_index: Index = 20) -> AppendEntriesReply:
    return AppendEntriesReply(
        source="n2", target="n1", term=1, match_index=match_index, rejected_prev_index=rejected, last_index=last_index
    )


class LeaderSeen:
    """Node n1, a leader whose one follower n2 has synced 20 entries; `says` is an answer of n2, after which n1 has this match index."""

    def __init__(self) -> None:
        ledger = Ledger()
        self.record, peer = NodeRecord("n1"), NodeRecord("n2")
        peer.log = LogMirror()
        peer.log.durable_last = 20
        ledger.records = {"n1": self.record, "n2": peer}
        self.rule = MatchIndex(ledger)
        self.progress = Progress("n2", 1, 0)
        core = SimpleNamespace(_s=SimpleNamespace(peers={"n2": self.progress}), membership=SimpleNamespace(members={"n2": None}))
        self.replica = cast("Replica", SimpleNamespace(core=core))

    def says(self, answer: AppendEntriesReply, match_index: Index) -> None:
        self.progress.match_index, self.progress.next_index = match_index, match_index + 1
        self.rule.on_acknowledged(self.record, self.replica, answer)


def test_a_match_index_that_goes_back_is_broken() -> None:
    seen = LeaderSeen()
    seen.says(reply(match_index=12), 12)

    with pytest.raises(PropertyBroken, match="back from 12 to 11"):
        seen.says(reply(match_index=11), 11)


def test_a_follower_that_rejects_what_it_has_acknowledged_is_started_over_with() -> None:
    seen = LeaderSeen()
    seen.says(reply(match_index=12), 12)

    seen.says(reply(rejected=12, last_index=5), 0)
    seen.says(reply(match_index=7), 7)

    with pytest.raises(PropertyBroken, match="back from 7 to 3"):
        seen.says(reply(match_index=3), 3)


@pytest.mark.parametrize(("rejected", "last_index"), [(12, 12), (11, 5)])
def test_no_other_rejection_takes_a_match_index_back(rejected: Index, last_index: Index) -> None:
    seen = LeaderSeen()
    seen.says(reply(match_index=12), 12)

    with pytest.raises(PropertyBroken, match="back from 12 to 0"):
        seen.says(reply(rejected=rejected, last_index=last_index), 0)


def test_a_match_index_above_what_the_follower_has_synced_is_broken() -> None:
    with pytest.raises(PropertyBroken, match="synced only up to 20"):
        LeaderSeen().says(reply(match_index=21), 21)


def membership(*names: str) -> Membership:
    members: dict[str, Any] = {name: Member(address=name) for name in names}
    return Membership(voters=names, members=members)


def test_a_snapshot_carries_the_membership_committed_at_its_index_or_before() -> None:
    ledger = Ledger()
    first, second = membership("n1", "n2"), membership("n1", "n2", "n3")
    ledger.memberships = [(0, first), (30, second)]
    rule, record = EqualStates(ledger), NodeRecord("n1")

    for index, right in ((1, first), (29, first), (30, second), (31, second)):
        rule.on_snapshot(record, SnapshotMeta(index=index, term=1, membership=right))
    for index, wrong in ((29, second), (30, first), (31, first)):
        with pytest.raises(PropertyBroken, match="S15"):
            rule.on_snapshot(record, SnapshotMeta(index=index, term=1, membership=wrong))


def commits(index: Index, *, at_index: Membership, later: Membership | None, synced: tuple[str, ...]) -> None:
    """S7 when leader n1 commits `index`, with the membership there and one that was appended behind it; `synced` nodes hold it."""
    ledger = Ledger()
    for name in ("n1", "n2", "n3", "n4"):
        record = ledger.records[name] = NodeRecord(name)
        record.log.terms, record.log.chains = [1] * index, list(range(index))
        record.log.durable_last = index if name in synced else 0
    record = ledger.records["n1"]
    if later is not None:
        record.log.memberships = [(index + 1, later)]
    core = SimpleNamespace(is_leader=True, membership_at=lambda _: at_index)
    SyncedQuorum(ledger).on_commit(record, cast("Replica", SimpleNamespace(core=core)), index - 1, index)


def test_a_commit_needs_a_quorum_of_the_membership_that_counted() -> None:
    three, four = membership("n1", "n2", "n3"), membership("n1", "n2", "n3", "n4")

    commits(5, at_index=three, later=None, synced=("n1", "n3"))
    commits(5, at_index=three, later=four, synced=("n2", "n3"))  # the fourth voter came in the same turn, behind the commit
    commits(5, at_index=four, later=three, synced=("n1", "n2"))  # and here the fourth one went before it

    for at_index, later, synced in ((three, None, ("n1",)), (four, None, ("n1", "n2")), (three, four, ("n4", "n1"))):
        with pytest.raises(PropertyBroken, match="S7"):
            commits(5, at_index=at_index, later=later, synced=synced)
