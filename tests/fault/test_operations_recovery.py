"""A cluster that has lost its quorum for good goes on from one survivor, and who comes back from the dead is fenced."""

from __future__ import annotations

import pytest

from cluster.writers import Writers
from replog.errors import OperatorError
from tests.fault.conftest import FAST, MakeCluster
from tests.fault.operating import endpoints, log_of, ready, recorded, replog, report, until_status, voters_are, wipe
from tests.fault.test_kills import assert_nothing_is_lost, running, wait_applied_everywhere

ELECTION_SECONDS_MAX = FAST["election_timeout_ticks_max"] * FAST["tick_ms"] / 1000

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(120)]


async def test_one_survivor_becomes_the_cluster_and_the_old_members_are_fenced_until_they_are_wiped(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    async with running(cluster):
        await recorded(cluster)
        async with Writers(cluster.client) as writers:
            await writers.wait_acknowledged(500)
        await wait_applied_everywhere(cluster)
        cluster.kill(*cluster.nodes)
        directory = cluster.node("n3").data_dir

        plan = await replog("recover", directory)
        assert "becomes a cluster of its own, epoch 1" in plan.out
        assert "entries 1 to " in plan.out
        assert "may be lost: every entry behind index" in plan.out
        assert "nothing was changed; --yes does it" in plan.out
        planned = (await replog("recover", directory, "--json")).json
        assert (planned["executed"], planned["node_id"], planned["lost_nodes"]) == (False, "n3", ["n1", "n2"])
        assert planned["uncertain"] == [1, planned["last_index"]]
        done = (await replog("recover", directory, "--yes", "--json")).json
        assert (done["executed"], done["membership_index"]) == (True, planned["last_index"] + 1)

        cluster.start("n3")
        assert await cluster.wait_leader(among=["n3"]) == "n3"
        held = await replog("recover", directory, code=2)
        assert "locked by process" in held.err
        async with Writers(lambda: cluster.client_of("n3")) as alone:
            await alone.wait_acknowledged(200)

        # The old members come back from the dead, with their old directories, a majority among themselves: refused, and fenced for good.
        for node_id in ("n1", "n2"):
            cluster.start(node_id)
        await until_status(cluster, lambda found: all(status and status["fenced_by_epoch"] == 1 for status in (found["n1"], found["n2"])))
        found = await report(cluster)
        assert (found["leader"], found["voters"], found["epoch"]) == ("n3", ["n3"], 1)
        assert any(note.startswith("n1: fenced: the cluster was recovered as epoch 1 without it") for note in found["notes"])
        assert "recovered as epoch 1" in ready(cluster, "n1")[1]
        cluster.kill("n1", "n2", "n3")
        for node_id in ("n1", "n2"):
            cluster.start(node_id)
            await cluster.wait_serving(node_id)
        with pytest.raises(OperatorError, match="no leader within"):
            await cluster.wait_leader(among=["n1", "n2"], seconds=10 * ELECTION_SECONDS_MAX)
        assert log_of(cluster, "n1").count("fenced: this data directory is of epoch 0") == 2
        cluster.kill("n1", "n2")
        cluster.start("n3")
        assert await cluster.wait_leader(among=["n3"]) == "n3"

        # Wiped, both come back as new members: one still configured with the first members, one that knows nobody.
        for node_id in ("n1", "n2"):
            wipe(cluster, node_id)
        cluster.configure(cluster.node("n2"), FAST, {}, {"log_level": "info"})
        for node_id in ("n1", "n2"):
            cluster.start(node_id)
            await cluster.wait_serving(node_id)
            await replog("member", "add-learner", node_id, cluster.node(node_id).address, "-e", cluster.node("n3").address)
            await until_status(cluster, lambda found, node_id=node_id: node_id in found["n3"]["membership"]["voters"])  # type: ignore[misc]
        await until_status(cluster, voters_are("n1", "n2", "n3"))
        for key, value in alone.record.acknowledged.items():
            writers.record.acknowledged[key] = value
        writers.record.unknown.update(alone.record.unknown)
        await assert_nothing_is_lost(cluster, writers.record)
        assert (await replog("status", "-e", endpoints(cluster))).out.startswith("cluster local: ")


async def test_a_wiped_majority_does_not_found_a_new_cluster_beside_the_survivor_which_is_recovered(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    async with running(cluster):
        await recorded(cluster)
        async with Writers(cluster.client) as writers:
            await writers.wait_acknowledged(300)
        await wait_applied_everywhere(cluster)
        cluster.kill("n1", "n2")
        for node_id in ("n1", "n2"):
            wipe(cluster, node_id)
            cluster.start(node_id)
            await cluster.wait_serving(node_id)

        await until_status(cluster, lambda found: all("n3 of the same" in (found[name] or {}).get("founding", "") for name in ("n1", "n2")))
        with pytest.raises(OperatorError, match="no leader within"):
            await cluster.wait_leader(seconds=10 * ELECTION_SECONDS_MAX)
        told = await replog("status", "-e", endpoints(cluster), code=None)
        assert "n1: this data directory is empty, but n3 of the same cluster has a log" in told.out.replace("\n", " ")
        assert max(map(len, told.out.splitlines())) <= 80

        # Nothing is lost: the survivor has it all, and the others join it with the directories they have.
        cluster.kill("n3")
        await replog("recover", cluster.node("n3").data_dir, "--yes")
        cluster.start("n3")
        assert await cluster.wait_leader(among=["n3"]) == "n3"
        for node_id in ("n1", "n2"):
            await replog("member", "add-learner", node_id, cluster.node(node_id).address, "-e", cluster.node("n3").address)
            await until_status(cluster, lambda found, node_id=node_id: node_id in found["n3"]["membership"]["voters"])  # type: ignore[misc]
        await until_status(cluster, voters_are("n1", "n2", "n3"))
        await assert_nothing_is_lost(cluster, writers.record)
