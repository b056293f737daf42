"""The Raft paper's section 5.4, a test a sentence."""

from __future__ import annotations

import pytest

from replog.raft.messages import AppendEntries, VoteReply, VoteRequest
from replog.testing.cores import CoreCluster, DiskEntry
from replog.types import EntryKind, HardState
from tests.unit.raft.support import (
    accept,
    candidate,
    cluster_of,
    drain,
    leader,
    make,
    only,
    pre_vote_request,
    stabilize,
    tick_all,
    vote_request,
)


@pytest.mark.parametrize(
    ("own", "last", "granted"),
    [
        ([1], (1, 1), True),
        ([1], (2, 1), True),
        ([1, 1], (1, 1), False),
        ([1], (1, 2), True),
        ([1, 1], (1, 2), True),
        ([2], (1, 1), False),
        ([2], (9, 1), False),
        ([1, 2], (1, 2), False),
        ([], (0, 0), True),
    ],
)
def test_a_voter_denies_its_vote_to_a_log_less_up_to_date_than_its_own(own: list[int], last: tuple[int, int], granted: bool) -> None:
    """5.4.1: "the voter denies its vote if its own log is more up-to-date than that of the candidate [...] If the logs have last entries with different
    terms, then the log with the later term is more up-to-date. If the logs end with the same term, then whichever log is longer is more up-to-date."
    """
    for request in (vote_request("2", "1", 3, last), pre_vote_request("2", "1", 3, last)):
        core = make(log=own)

        core.receive(request)
        (reply,) = drain(core)

        assert reply.granted is granted  # type: ignore[union-attr]


def test_vote_requests_carry_the_end_of_the_log() -> None:
    """5.4.1: "the RPC includes information about the candidate's log"."""
    core = make(log=[1, 3, 3], term=4)

    requests = only(VoteRequest, candidate(core))

    assert {(request.last_index, request.last_term) for request in requests} == {(3, 3)}


def test_entries_of_former_terms_are_not_committed_by_counting() -> None:
    """5.4.2: "Raft never commits log entries from previous terms by counting replicas. Only log entries from the leader's current term are committed by
    counting replicas; once an entry from the current term has been committed in this way, then all prior entries are committed indirectly".
    """
    core = leader(make(log=[1, 2, 2], term=2))

    core.receive(accept(core, "2", 3))
    core.receive(accept(core, "3", 3))
    assert core.committed_index == 0

    core.receive(accept(core, "2", 4))
    assert core.committed_index == 4


def disk(cluster: CoreCluster, name: str, *entries: tuple[int, str], term: int, vote: str | None = None) -> None:
    node = cluster.nodes[name]
    node.disk.entries = [DiskEntry(entry_term, EntryKind.COMMAND, payload) for entry_term, payload in entries]
    node.disk.hard_state = HardState(term=term, vote=vote)
    node.restart()


def figure_8() -> CoreCluster:
    """Figure 8 (c): S1 leads term 4 and has its entry of term 2 on a majority; S5 has another one, of term 3, at the same index."""
    cluster = cluster_of("1", "2", "3", "4", "5", pre_vote=False)
    disk(cluster, "1", (1, "a"), (2, "b"), term=3)
    disk(cluster, "2", (1, "a"), (2, "b"), term=3)
    disk(cluster, "3", (1, "a"), term=3)
    disk(cluster, "4", (1, "a"), term=3)
    disk(cluster, "5", (1, "a"), (3, "c"), term=3)
    cluster.cut = {(a, "5") for a in "1234"} | {("5", a) for a in "1234"}
    cluster.nodes["1"].core.campaign()
    node = cluster.nodes["1"]
    node.take_ready()
    for voter in "23":
        cluster.deliver("1", voter)
        cluster.nodes[voter].take_ready()
        cluster.deliver(voter, "1")
    assert node.core.is_leader
    return cluster


def test_figure_8_an_old_entry_on_a_majority_is_not_committed_and_may_be_overwritten() -> None:
    """5.4.2, figure 8 (c), (d): "the log entry from term 2 has been replicated on a majority of the servers, but it is not committed. If S1 crashes as in
    (d), S5 could be elected leader (with votes from S2, S3, and S4) and overwrite the entry with its own entry from term 3."
    """
    cluster = figure_8()
    node = cluster.nodes["1"]
    # S3 gets the entry of term 2, but not that of term 4.
    node.core.receive(accept(node.core, "2", 2))
    disk(cluster, "3", (1, "a"), (2, "b"), term=4, vote="1")
    node.core.receive(accept(node.core, "3", 2))
    assert node.core.committed_index == 0

    node.crash()
    cluster.links.clear()
    cluster.cut.clear()
    cluster.nodes["5"].core.campaign()
    stabilize(cluster, "2", "3", "4", "5")
    cluster.nodes["5"].core.campaign()  # its first term was known to the others already
    stabilize(cluster, "2", "3", "4", "5")
    node.restart()
    tick_all(cluster, 5)

    assert cluster.nodes["5"].core.is_leader
    assert all(other.disk.entries[1] == DiskEntry(3, EntryKind.COMMAND, "c") for other in cluster.nodes.values())


def test_figure_8_an_entry_of_the_own_term_on_a_majority_keeps_the_old_ones() -> None:
    """5.4.2, figure 8 (e): "if S1 replicates an entry from its current term on a majority of the servers before crashing, then this entry is committed
    (S5 cannot win an election). At this point all preceding entries in the log are committed as well."
    """
    cluster = figure_8()
    node = cluster.nodes["1"]
    stabilize(cluster, "1", "2", "3")
    assert node.core.committed_index == 3

    node.crash()
    cluster.links.clear()
    cluster.cut.clear()
    for _ in range(3):
        cluster.nodes["5"].core.campaign()
        stabilize(cluster, "2", "3", "4", "5")
        assert not cluster.nodes["5"].core.is_leader
    tick_all(cluster, 60)

    assert all(other.disk.entries[1].payload == "b" for other in cluster.nodes.values() if other.alive)


def test_a_leader_has_every_committed_entry() -> None:
    """5.4.3, figure 3, Leader Completeness: the committed entry's majority and the voters' majority share a server, which denies a log without it."""
    cluster = cluster_of("1", "2", "3", pre_vote=False)
    cluster.nodes["1"].core.campaign()
    stabilize(cluster)
    cluster.nodes["3"].crash()
    cluster.nodes["1"].propose(["a"])
    stabilize(cluster)
    assert cluster.nodes["1"].core.committed_index == 2
    cluster.nodes["1"].crash()
    cluster.nodes["3"].restart()

    cluster.nodes["3"].core.campaign(force=True)
    delivered = stabilize(cluster, "2", "3")

    assert not cluster.nodes["3"].core.is_leader
    assert not any(reply.granted for reply in only(VoteReply, delivered))
    tick_all(cluster, 40)
    assert cluster.nodes["2"].core.is_leader
    assert cluster.nodes["3"].state == ["a"]


def test_no_appends_leave_a_candidate() -> None:
    """5.4.3: only the one leader of a term makes entries of that term."""
    core = make(log=[1])

    assert only(AppendEntries, candidate(core)) == []
