"""Operators at work on real processes under load: leadership, replacement, promotion, lost disks, removal, faults of disk and network."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cluster.launch import LocalCluster
from cluster.writers import Writers
from tests.fault.conftest import MakeCluster
from tests.fault.operating import (
    add_node,
    begin,
    endpoints,
    log_of,
    plant,
    ready,
    recorded,
    replog,
    report,
    row,
    until_status,
    voters_are,
    wipe,
)
from tests.fault.test_kills import assert_nothing_is_lost, running, wait_applied_everywhere

pytestmark = [pytest.mark.fault, pytest.mark.slow]


def others_than(cluster: LocalCluster, node_id: str) -> list[str]:
    return [other for other in cluster.nodes if other != node_id]


async def test_leadership_is_handed_over_by_command_under_load_and_nothing_is_lost(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    async with running(cluster) as leader:
        async with Writers(cluster.client) as writers:
            await writers.wait_acknowledged(200)
            for _ in range(3):
                target = others_than(cluster, leader)[0]
                done = await replog("transfer-leader", target, "-e", endpoints(cluster))
                assert f"the leader is {target}" in done.out
                leader = await cluster.wait_leader()
                assert leader == target
                await writers.wait_acknowledged(200)
            done = await replog("transfer-leader", "-e", endpoints(cluster), "--json")
            assert done.json["done"].startswith("leadership was handed over")
            assert await cluster.wait_leader() != leader
            await writers.wait_acknowledged(200)

        refused = await replog("transfer-leader", "n9", "-e", endpoints(cluster), code=2)
        assert refused.err == "replog: unknown node 'n9'; the members are n1, n2, n3\n"
        await assert_nothing_is_lost(cluster, writers.record)


async def test_the_leader_is_replaced_by_a_tool_that_is_killed_again_and_again(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    async with running(cluster) as leader:
        local = add_node(cluster, "n4")
        cluster.start("n4")
        await cluster.wait_serving("n4")
        old, kills = leader, 0
        async with Writers(cluster.client) as writers:
            await writers.wait_acknowledged(1000)
            arguments = ("member", "replace", old, "n4", local.address, "-e", endpoints(cluster))
            for patience in (0.35, 0.4, 0.45, 0.5, 0.6, 0.8):
                tool = await begin(*arguments)
                try:
                    await asyncio.wait_for(tool.wait(), patience)
                except TimeoutError:
                    tool.kill()
                    await tool.wait()
                    kills += 1
            done = await replog(*arguments)
            assert f"n4 has replaced {old}" in done.out
            again = await replog(*arguments)
            assert again.out == f"n4 has replaced {old} already\n"
            await writers.wait_acknowledged(500)

            await until_status(cluster, voters_are(*others_than(cluster, old)))
            await until_status(cluster, lambda found: bool(found[old] and found[old]["removed"]))
        assert kills >= 1
        assert await cluster.wait_leader() != old
        assert cluster.stop(old) == {old: 0}
        del cluster.nodes[old]
        await assert_nothing_is_lost(cluster, writers.record)


async def test_a_learner_is_promoted_by_itself_under_load(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    async with running(cluster):
        local = add_node(cluster, "n4")
        cluster.start("n4")
        await cluster.wait_serving("n4")
        assert ready(cluster, "n4")[0] == 503
        async with Writers(cluster.client) as writers:
            await writers.wait_acknowledged(2000)
            added = await replog("member", "add-learner", "n4", local.address, "-e", endpoints(cluster))
            assert added.out == "n4 is a learner\n"

            await until_status(cluster, voters_are("n1", "n2", "n3", "n4"))
            await writers.wait_acknowledged(500)
        await assert_nothing_is_lost(cluster, writers.record)
        assert ready(cluster, "n4")[0] == 200
        listed = await replog("member", "list", "-e", cluster.nodes["n1"].address)
        assert listed.out.count(" voter ") == 4
        assert max(map(len, listed.out.splitlines())) <= 80


async def test_a_read_replica_follows_and_is_not_promoted_until_it_is_asked_for(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    async with running(cluster):
        local = add_node(cluster, "n4")
        cluster.start("n4")
        await cluster.wait_serving("n4")
        await replog("member", "add-learner", "n4", local.address, "--read-replica", "-e", endpoints(cluster))
        async with Writers(cluster.client) as writers:
            await writers.wait_acknowledged(500)
        await assert_nothing_is_lost(cluster, writers.record)

        found = await report(cluster)
        assert (found["voters"], found["learners"]) == (["n1", "n2", "n3"], ["n4"])
        assert row(found, "n4")["stays_learner"] is True
        await replog("member", "promote", "n4", "-e", endpoints(cluster))
        await replog("member", "change", "demote=n1", "demote=n2", "-e", endpoints(cluster))
        await until_status(cluster, voters_are("n3", "n4"))
        await replog("member", "change", "promote=n1", "promote=n2", "remove=n4", "-e", endpoints(cluster))
        await until_status(cluster, voters_are("n1", "n2", "n3"))


async def test_a_wiped_disk_is_recognised_and_the_node_comes_back_by_one_command(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    async with running(cluster) as leader:
        await recorded(cluster)
        lost = others_than(cluster, leader)[0]
        async with Writers(cluster.client) as writers:
            await writers.wait_acknowledged(500)
            cluster.kill(lost)
            wipe(cluster, lost)
            cluster.start(lost)
            await cluster.wait_serving(lost)
            await writers.wait_acknowledged(200)
            await until_status(cluster, lambda found: "incarnation" in found[leader]["peer_errors"].get(lost, ""))

            told = await replog("status", "-e", endpoints(cluster))
            assert f"`replog member readmit {lost}`" in told.out.replace("\n", " ")
            assert max(map(len, told.out.splitlines())) <= 80
            found = row(await report(cluster), lost)
            assert found["incarnation"] != found["incarnation_shown"]
            assert "incarnation" in log_of(cluster, lost)
            assert str(found["incarnation"]) in log_of(cluster, lost)
            assert str(found["incarnation_shown"]) in log_of(cluster, lost)
            code, why = ready(cluster, lost)
            assert code == 503
            assert "incarnation" in why

            done = await replog("member", "readmit", lost, "-e", endpoints(cluster))
            assert done.out == f"{lost} is a voter, with the data directory it has now\n"
            await writers.wait_acknowledged(200)
        await until_status(cluster, voters_are("n1", "n2", "n3"))
        await assert_nothing_is_lost(cluster, writers.record)


async def test_a_removed_node_says_so_and_clients_go_elsewhere(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    async with running(cluster) as leader:
        async with Writers(cluster.client) as writers:
            await writers.wait_acknowledged(200)
            removed = await replog("member", "remove", leader, "-e", endpoints(cluster))
            assert removed.out == f"{leader} is removed\n"
            await until_status(cluster, lambda found: bool(found[leader] and found[leader]["removed"]))
            await writers.wait_acknowledged(200)

        assert ready(cluster, leader) == (503, ready(cluster, leader)[1])
        assert "removed from the membership" in ready(cluster, leader)[1]
        lines = [line for line in log_of(cluster, leader).splitlines() if "removed from the membership" in line]
        assert len(lines) == 1
        assert "it serves no more; stop it, or add it again" in lines[0]
        told = await replog("status", "-e", endpoints(cluster))
        assert f"! {leader}: removed from the membership" in told.out
        assert cluster.stop(leader) == {leader: 0}
        del cluster.nodes[leader]
        await assert_nothing_is_lost(cluster, writers.record)


async def test_changes_that_would_lose_the_quorum_are_refused_with_what_is_missing(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    async with running(cluster) as leader:
        await recorded(cluster)
        first, second = others_than(cluster, leader)
        cluster.kill(first)
        await until_status(
            cluster, lambda found: not next(peer for peer in found[leader]["peers"] if peer["node"] == first)["recently_active"]
        )

        refused = await replog("member", "remove", second, "-e", endpoints(cluster), code=2)
        assert f"{first} were not heard of lately" in refused.err
        assert refused.err.count("\n") == 1
        told = await replog("status", "-e", endpoints(cluster))
        assert f"! {first} at {cluster.node(first).address}: no answer: Connection refused" in told.out
        cluster.start(first)
        await cluster.wait_serving(first)
        await wait_applied_everywhere(cluster)


async def test_a_leader_whose_disk_stalls_hands_over_and_follows_when_it_is_well(make_cluster: MakeCluster, tmp_path: Path) -> None:
    cluster = make_cluster(node={"sync_mode": "thread"})
    for node_id in cluster.nodes:
        plant(cluster, node_id, "--stall-while", str(tmp_path / f"{node_id}.stalls"))
    async with running(cluster) as leader:
        stall = tmp_path / f"{leader}.stalls"
        async with Writers(cluster.client) as writers:
            await writers.wait_acknowledged(300)
            stall.touch()
            try:
                successor = await cluster.wait_leader(among=others_than(cluster, leader))
                await writers.wait_acknowledged(300)
            finally:
                stall.unlink()
            await wait_applied_everywhere(cluster)
            await writers.wait_acknowledged(300)

        assert successor != leader
        assert "the disk stalls" in log_of(cluster, leader)
        await assert_nothing_is_lost(cluster, writers.record)


async def test_a_node_that_hears_a_follower_but_not_the_leader_disturbs_nobody(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    async with running(cluster) as leader:
        half = others_than(cluster, leader)[0]
        async with Writers(cluster.client) as writers:
            await writers.wait_acknowledged(200)
            cluster.kill(half)
            plant(cluster, half, "--deaf-to", leader)
            cluster.start(half)
            await cluster.wait_serving(half)
            before = (await cluster.statuses([leader]))[leader]
            assert before is not None
            await until_status(cluster, lambda found: bool(found[half] and found[half]["role"] == "pre-candidate"))

            await writers.wait_acknowledged(2000)
            await until_status(cluster, lambda found: log_of(cluster, half).count("pre-candidate") >= 3)

            after = (await cluster.statuses([leader]))[leader]
            assert after is not None
            assert (after["role"], after["term"]) == ("leader", before["term"])
        cluster.kill(half)
        del cluster.command_prefixes[half]
        cluster.start(half)
        await cluster.wait_serving(half)
        await assert_nothing_is_lost(cluster, writers.record)
