"""A node that was added knows no membership until its log brings one; a snapshot of what comes before must not be taken.

Found by seed 54 of the profile `changing-members`: the node's first entries were applied one by one, a snapshot was asked for in between, and it said that the
cluster has no members. Restored from it, or sent to another node, it would have been a cluster of nobody.
"""

from __future__ import annotations

from replog.raft.membership import AddLearner
from replog.testing.faults import Weather
from replog.testing.simulated_clients import AdminRequest
from replog.testing.simulated_node import SimulatedNode
from replog.testing.simulator import Plan, Simulator
from replog.types import SnapshotMeta


def joined_before_its_first_membership(seed: int) -> Simulator | None:
    """n1 adds n2, which has applied something and no membership yet; None where the limits of this seed bring it all at once."""
    simulator = Simulator(Plan(seed=seed, weather=Weather(nodes=1, clients=1), wire_share=0.0))
    first = simulator.add_node("n1")
    simulator.start_node("n1")
    simulator.seconds(1)
    joining = simulator.add_node("n2", joins=True)
    simulator.start_node("n2")
    leader = first.replica
    assert leader is not None
    first.change(lambda: leader.core.change_membership([AddLearner(node="n2", address="n2:1")]), AdminRequest("change"))
    for _ in range(4000):
        simulator.seconds(0.00005)
        assert joining.replica is not None
        if joining.replica.applied_index:
            return simulator if not joining.replica.core.membership_at(joining.replica.applied_index).voters else None
    raise AssertionError("n2 was sent nothing")


def newest_snapshot(node: SimulatedNode) -> SnapshotMeta | None:
    assert node.replica is not None
    return node.replica.snapshot_meta


def test_no_snapshot_is_taken_before_a_membership_is_known() -> None:
    simulator = next(found for seed in range(1, 30) if (found := joined_before_its_first_membership(seed)) is not None)
    joining = simulator.nodes["n2"]
    assert joining.replica is not None
    asked = AdminRequest("snapshot")

    joining.take_snapshot(asked)
    simulator.seconds(1)

    assert asked.outcome == "ok", "it is answered, with what there is: nothing"
    assert newest_snapshot(joining) is None
    assert "n2" in joining.replica.core.membership.nodes

    joining.take_snapshot(AdminRequest("snapshot"))
    simulator.seconds(1)

    taken = newest_snapshot(joining)
    assert taken is not None
    assert "n2" in taken.membership.nodes
