"""`replog status`, `member`, `transfer-leader`, `snapshot take` against nodes that run in another thread; what they print, and how they refuse."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from replog.rpc import admin_pb2 as pb
from tests.integration.cluster_of_nodes import NodeCluster, free_ports, until
from tests.integration.test_membership import join

Replog = Callable[..., Any]
pytestmark = pytest.mark.slow


class Live:
    """Three nodes on a loop in a thread of their own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="nodes")
        self.thread.start()
        self.cluster = NodeCluster(3)
        for name in self.cluster.names:
            self.run(self.cluster.start(name))
        self.run(self.cluster.leader())

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    @property
    def endpoints(self) -> str:
        return ",".join(f"127.0.0.1:{port}" for port in self.cluster.ports)

    @property
    def leader(self) -> str:
        return str(self.run(self.cluster.leader()).config.node_id)

    def close(self) -> None:
        self.run(self.cluster.stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    running = Live()
    yield running
    running.close()


def test_status_shows_every_node_although_only_one_was_named(live: Live, replog: Replog) -> None:
    done = replog("status", "-e", live.endpoints.split(",")[0])

    assert done.code == 0
    first, header, *rows = done.out.splitlines()
    assert first.startswith(f"cluster replog: {live.leader} leads, term ")
    assert first.endswith(", 3 voters")
    assert header.split() == ["node", "role", "term", "commit", "applied", "last", "snapshot", "lag"]
    assert [row.split()[0] for row in rows] == ["n1", "n2", "n3"]
    assert sum("leader" in row for row in rows) == 1


def test_status_for_programs_is_one_object(live: Live, replog: Replog) -> None:
    found = json.loads(replog("status", "-e", live.endpoints, "--json").out)

    assert found["leader"] == live.leader
    assert (found["voters"], found["learners"], found["joint"], found["epoch"]) == (["n1", "n2", "n3"], [], False, 0)
    assert [node["answers"] for node in found["nodes"]] == [True, True, True]
    assert all(node["incarnation_shown"] for node in found["nodes"])


def test_members_are_listed_with_address_and_directory(live: Live, replog: Replog) -> None:
    done = replog("member", "list", "-e", live.endpoints)

    assert done.code == 0
    for port in live.cluster.ports:
        assert f"127.0.0.1:{port}" in done.out
    assert done.out.count("voter ") == 3


def test_leadership_goes_where_it_is_told_to_go(live: Live, replog: Replog) -> None:
    target = next(name for name in ("n1", "n2", "n3") if name != live.leader)

    done = replog("transfer-leader", target, "-e", live.endpoints)

    assert (done.code, done.out) == (0, f"leadership was handed over; the leader is {target}\n")
    assert live.leader == target
    assert replog("transfer-leader", target, "-e", live.endpoints).code == 0, "it leads already: nothing to do"


def test_a_member_comes_and_goes(live: Live, replog: Replog) -> None:
    new = live.run(join(live.cluster, "n4"))
    others = ",".join(live.endpoints.split(",")[:3])

    assert (
        replog("member", "add-learner", "n4", new.bound_address, "--read-replica", "-e", others).out
        == "n4 is a learner, until it is promoted\n"
    )
    assert "read replica" in replog("member", "list", "-e", others).out
    assert json.loads(replog("member", "promote", "n4", "-e", others, "--json").out) == {"done": "n4 is a voter"}
    assert "4 voters" in replog("status", "-e", others).out
    assert replog("member", "demote", "n4", "-e", others).out == "n4 is a learner, until it is promoted\n"
    assert replog("member", "update", "n4", new.bound_address, "-e", others).code == 0
    assert replog("member", "remove", "n4", "-e", others).out == "n4 is removed\n"
    live.run(until(lambda: new.status().removed))
    assert replog("transfer-leader", live.leader, "-e", f"{new.bound_address},{others}").code == 0, "it serves no more, so others are asked"
    live.run(new.stop())
    del live.cluster.nodes["n4"]
    assert "3 voters" in replog("status", "-e", others).out


def test_a_snapshot_is_taken_by_every_node_named(live: Live, replog: Replog) -> None:
    done = replog("snapshot", "take", "-e", ",".join(live.endpoints.split(",")[:3]), "--json")

    assert done.code == 0
    assert len([json.loads(line) for line in done.out.splitlines()]) == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("status",), "Missing option '--endpoints'"),
        (("status", "-e", "nowhere"), "--endpoints: found 'nowhere', allowed: host:port"),
        (("status", "-e", " , "), "allowed: host:port of at least one node"),
        (("member", "add-learner", "n/4", "x:1", "-e", "x:1"), "NODE: found 'n/4'"),
        (("member", "add-learner", "n4", "x", "-e", "x:1"), "ADDRESS: found 'x', allowed: host:port"),
        (("member", "add-learner", "n4", "-e", "x:1"), "Missing argument 'ADDRESS'"),
        (("member", "change", "-e", "x:1", "remove"), "'remove' is no change"),
        (("member", "change", "-e", "x:1", "remove=n1@x:1"), "is no change"),
        (("member", "change", "-e", "x:1", "vanish=n1"), "'vanish' is no change; there are add-learner"),
        (("member", "change", "-e", "x:1"), "Missing argument"),
        (("member", "vanish", "-e", "x:1"), "No such command 'vanish'"),
        (("transfer-leader", "../n1", "-e", "x:1"), "NODE: found '../n1'"),
        (("snapshot", "list", "/nowhere"), "DIR: found '/nowhere', allowed: the data directory of a node"),
        (("recover", "/nowhere"), "DIR: found '/nowhere'"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(replog: Replog, arguments: tuple[str, ...], words: str) -> None:
    done = replog(*arguments)

    assert done.code == 2
    assert words in done.err
    assert done.err.count("\n") == 1
    assert done.out == ""


def test_what_the_cluster_refuses_is_exit_code_2_and_says_why(live: Live, replog: Replog) -> None:
    for arguments, words in (
        (("transfer-leader", "n9"), "unknown node 'n9'; the members are n1, n2, n3"),
        (("member", "replace", "n9", "n8"), "unknown node 'n9'"),
        (("member", "readmit", "n9"), "unknown node 'n9'"),
        (("member", "change", "remove=n1", "remove=n2", "remove=n3"), "would leave no voters"),
    ):
        done = replog(*arguments, "-e", live.endpoints)
        assert done.code == 2, done
        assert words in done.err
        assert done.err.count("\n") == 1


def test_nobody_there_is_exit_code_1(replog: Replog) -> None:
    nobody = f"127.0.0.1:{free_ports(1)[0]}"

    status = replog("status", "-e", nobody, "--timeout", "1")
    assert status.code == 1
    assert status.out.startswith("no node answers\n")
    assert json.loads(replog("status", "-e", nobody, "--json").out)["leader"] is None
    for arguments in (("transfer-leader", "n1"), ("member", "remove", "n1"), ("member", "replace", "n1", "n2", "x:1")):
        done = replog(*arguments, "-e", nobody, "--timeout", "0.3")
        assert done.code == 1, done
        assert done.err.startswith("replog: ")
        assert done.err.count("\n") == 1
        assert "Unavailable" in done.err
    taken = replog("snapshot", "take", "-e", nobody, "--timeout", "0.3")
    assert taken.code == 1


def test_the_verbs_of_a_change_are_those_of_the_service() -> None:
    from replog.cli.cluster import parse_change

    made = [
        parse_change(text) for text in ("add-learner=n4@h:1", "add-voter=n5@h:2", "promote=n4", "demote=n2", "remove=n1", "update=n3@h:3")
    ]

    assert [change.kind for change in made] == [kind for kind in pb.MemberChange.Kind.values() if kind]
    assert made[0].address == "h:1"
