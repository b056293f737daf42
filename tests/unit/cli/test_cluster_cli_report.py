"""What the tables say of clusters in every condition, without a cluster."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from typing import Any

from rich.console import Console

from replog.cli.cluster_calls import members
from replog.cli.cluster_report import print_members, print_status, report_of
from replog.node.status import NodeStatus
from replog.raft.ready import PeerStatus
from replog.types import Member, Membership

BIG = 1_234_567_890
MEMBERSHIP = Membership(
    voters=("n1", "n2", "n3"),
    members={f"n{number}": Member(address=f"10.0.0.{number}:7000", incarnation=2**62 + number) for number in (1, 2, 3)},
)


def status(node: str, **fields: Any) -> NodeStatus:
    given: dict[str, Any] = {
        "node_id": node,
        "cluster_id": "orders",
        "role": "follower",
        "term": 7,
        "leader": "n1",
        "leader_address": "10.0.0.1:7000",
        "committed_index": BIG,
        "applied_index": BIG,
        "persisted_index": BIG,
        "first_index": 1,
        "last_index": BIG,
        "snapshot_index": BIG - 1000,
        "log_bytes": 1,
        "incarnation": 2**62 + int(node[1:]),
        "membership": MEMBERSHIP,
        "membership_index": 5,
    }
    return NodeStatus(**{**given, **fields})


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


def answers(*statuses: NodeStatus) -> dict[str, Any]:
    return {f"10.0.0.{found.node_id[1:]}:7000": json.loads(found.to_json()) for found in statuses}


LEADER = status("n1", role="leader", peers=(peer("n2", BIG - 250), peer("n3", 0)))


def shown(found: dict[str, Any], show: Any = print_status) -> str:
    console = Console(file=StringIO(), width=80, highlight=False)
    show(console, report_of(found))
    assert isinstance(console.file, StringIO)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= 80, text
    return text


def test_a_long_name_is_broken_and_no_number_is() -> None:
    name = "a-node-with-a-long-name-in-the-eastern-part-of-the-continent.example.net"[:64]
    found = answers(LEADER, status("n2"), status("n3"))
    found["x:1"] = {**found["10.0.0.3:7000"], "node_id": name}

    assert shown(found).count("1234567890") >= 9


def test_the_lag_is_what_the_leader_knows_of_each() -> None:
    report = report_of(answers(LEADER, status("n2"), status("n3", last_index=0)))

    assert [row.lag for row in report.nodes] == [0, 250, BIG]
    assert report.notes == ()


def test_both_tables_fit_80_columns_with_large_numbers() -> None:
    found = answers(LEADER, status("n2", role="pre-candidate"), status("n3"))

    text = shown(found)
    assert text.count("1234567890") >= 9
    assert str(2**62 + 3) in shown(found, print_members)


def test_a_node_that_does_not_answer_has_a_row_and_a_reason() -> None:
    text = shown({**answers(LEADER, status("n2")), "10.0.0.3:7000": "Status at 10.0.0.3:7000: UNAVAILABLE: connection refused"})

    assert "n3   no answer" in text
    assert "! n3 at 10.0.0.3:7000: no answer: Status at 10.0.0.3:7000: UNAVAILABLE" in text


def test_a_silent_node_is_told_once_and_in_few_words() -> None:
    grpc = "UNAVAILABLE: failed to connect to all addresses; last error: UNKNOWN: ipv4:10.0.0.3:7000: Failed to connect to remote host: Connection refused"
    leader = replace(LEADER, peer_errors={"n3": f"n3 at 10.0.0.3:7000: {grpc}"})

    report = report_of({**answers(leader, status("n2")), "10.0.0.3:7000": f"Status at 10.0.0.3:7000: {grpc}"})

    assert report.notes == ("n3 at 10.0.0.3:7000: no answer: Connection refused",)


def test_what_a_fenced_node_and_its_peers_say_of_each_other_is_left_out() -> None:
    leader = replace(LEADER, peer_errors={"n2": "n2 at 10.0.0.2:7000 refused this node: epoch: found '1', expected '0'"})
    fenced = status("n2", fenced_by_epoch=1, peer_errors={"n1": "n1 at 10.0.0.1:7000 refused this node: epoch: found '0', expected '1'"})

    notes = report_of(answers(leader, fenced, status("n3"))).notes

    assert [note.partition(":")[0] for note in notes] == ["n2"]


def test_a_removed_node_that_cannot_be_told_is_no_broken_connection() -> None:
    leader = replace(LEADER, peer_errors={"n9": "n9 at 10.0.0.9:7000: UNAVAILABLE: Connection refused"})

    notes = report_of(answers(leader, status("n2"), status("n3"))).notes

    assert notes == (
        "n1: n9 was removed and is to be told so, but cannot be reached: n9 at 10.0.0.9:7000: UNAVAILABLE: Connection refused",
    )


def test_what_another_than_the_leader_does_not_reach_is_a_broken_connection() -> None:
    stranger = status("n2", peer_errors={"n9": "n9 at 10.0.0.9:7000: UNAVAILABLE: Connection refused"})

    notes = report_of(answers(LEADER, stranger, status("n3"))).notes

    assert notes == ("n2: not connected to n9: n9 at 10.0.0.9:7000: UNAVAILABLE: Connection refused",)


def test_nobody_answers() -> None:
    text = shown({"10.0.0.1:7000": "refused", "10.0.0.2:7000": "timed out"})

    assert text.startswith("no node answers")
    assert "10.0.0.2:7000  no answer" in text


def test_nobody_leads() -> None:
    report = report_of(answers(status("n2", leader=None, leader_address=None), status("n3", leader=None)))

    assert report.leader is None
    assert report.notes[0] == "no node that answers leads"
    assert [row.lag for row in report.nodes] == [None, None, None]


def test_an_old_leader_of_a_lower_term_does_not_count() -> None:
    old = status("n3", role="leader", term=6, leader="n3")

    assert report_of(answers(old, LEADER)).leader == "n1"


def test_a_joint_membership_is_told_with_both_halves() -> None:
    joint = replace(MEMBERSHIP, voters=("n1", "n2"), voters_outgoing=("n1", "n3"), learners_next=("n3",))
    report = report_of(answers(replace(LEADER, membership=joint)))

    assert report.joint
    assert [row.member for row in report.nodes] == ["voter", "voter", "outgoing"]
    assert "joint: voters n1 n2 and n1 n3" in shown(answers(replace(LEADER, membership=joint)))


def test_a_wiped_node_is_told_with_both_numbers_and_the_command_that_helps() -> None:
    leader = replace(LEADER, incarnations_seen={"n2": 77}, peer_errors={"n2": "refused n2: incarnation: found '77'"})
    text = shown(answers(leader, status("n2", incarnation=77, role="follower", leader=None))).replace("\n", " ")

    assert f"n2: its data directory (77) is not the recorded one ({2**62 + 2})" in text
    assert "`replog member readmit n2`" in text
    assert "n1: not connected to n2: refused n2: incarnation" in text


def test_a_fenced_node_and_one_that_waits_to_found_are_told() -> None:
    found = answers(LEADER, status("n2", fenced_by_epoch=1), status("n3", founding="this data directory is empty: waiting"))

    report = report_of(found)

    assert any(note.startswith("n2: fenced: the cluster was recovered as epoch 1 without it") for note in report.notes)
    assert "n3: this data directory is empty: waiting" in report.notes
    assert [line for line in shown(found).splitlines() if line.startswith("n2 ") and "fenced" in line]


def test_a_removed_node_and_a_stranger_are_told() -> None:
    without = replace(MEMBERSHIP, voters=("n1", "n2"), members={node: MEMBERSHIP.members[node] for node in ("n1", "n2")})
    leader = replace(LEADER, membership=without, peers=(peer("n2", BIG),))

    removed = report_of(answers(leader, status("n2", membership=without), status("n3", removed=True)))
    stranger = report_of(answers(leader, status("n2", membership=without), status("n4", membership=Membership(), role="follower")))

    assert any("n3: removed from the membership, serves no more" in note for note in removed.notes)
    assert any("n4: answers, but is no member" in note for note in stranger.notes)


def test_a_read_replica_is_called_one() -> None:
    learner = Member(address="10.0.0.3:7000", incarnation=1, stays_learner=True)
    membership = replace(MEMBERSHIP, voters=("n1", "n2"), learners=("n3",), members={**MEMBERSHIP.members, "n3": learner})

    text = shown(answers(replace(LEADER, membership=membership)), print_members)

    assert "read replica" in text
    assert "2 voters, 1 learner" in text


def test_a_recovered_cluster_counts_before_the_one_it_came_from() -> None:
    """By its epoch, whatever the term of the old members."""
    recovered = replace(MEMBERSHIP, voters=("n3",), members={"n3": MEMBERSHIP.members["n3"]}, epoch=1)
    found = answers(status("n1", role="leader", term=99), status("n3", role="leader", term=8, membership=recovered))

    report = report_of(found)

    assert (report.leader, report.epoch, report.voters) == ("n3", 1, ("n3",))
    assert members(found.values()) == [("n3", "10.0.0.3:7000")]


def test_a_failed_node_says_why() -> None:
    report = report_of(answers(LEADER, status("n2", failure="StorageFailed: fdatasync: Input/output error")))

    assert "n2: failed: StorageFailed: fdatasync: Input/output error" in report.notes


def test_the_report_is_json() -> None:
    found = json.loads(json.dumps(report_of(answers(LEADER)).as_json()))

    assert found["nodes"][0]["node"] == "n1"
