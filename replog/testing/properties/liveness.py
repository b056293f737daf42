"""L1 and L2: what must happen once the faults have ended.

L1: one leader, equal logs and states, then ten writes and ten reads succeed. L2: no election while a majority is connected and quiet (paper 5.6, 9.3; thesis 9.6:
pre-vote is what keeps a returning node from disturbing).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from replog.raft.state import NOTHING
from replog.testing.ledger import PropertyBroken
from replog.testing.simulated_clients import Request

if TYPE_CHECKING:
    from replog.testing.simulated_node import SimulatedNode
    from replog.testing.simulator import Simulator

SETTLE_SECONDS = 60.0
QUIET_SECONDS = 3.0
_OPERATIONS = 10


def demand_progress(simulator: Simulator) -> None:
    """Heal has happened: wait for L1, then hold L2. Raises `PropertyBroken`."""
    if not has_quorum(simulator):
        simulator.coverage.add("ended without a quorum of sound disks")
        return
    settle(simulator)
    demand_operations(simulator)
    settle(simulator)
    hold_quiet(simulator)


def has_quorum(simulator: Simulator) -> bool:
    """Whether enough nodes may start at all: by the newest membership that any of them has in its log, and by every committed one that may still count.

    The vote of a node that lacks what it may have promised counts only with everybody's (`replog.raft.candidate`), so it is counted only where all are there.
    """
    cores = {name: node.replica.core for name, node in simulator.nodes.items() if node.replica is not None}
    whole = {name for name, core in cores.items() if core._s.promised == NOTHING}
    for core in cores.values():
        membership = core.membership
        counted = cores.keys() if all(name in cores for name in membership.nodes) else whole
        for half in (membership.voters, membership.voters_outgoing):
            if half and 2 * sum(1 for voter in half if voter in counted) <= len(half):
                return False
    return bool(cores)


def settle(simulator: Simulator) -> None:
    """One leader, and all its members equal to it, within `SETTLE_SECONDS`."""
    waited = 0.0
    while waited < SETTLE_SECONDS:
        simulator.seconds(0.5)
        if simulator.cut_short:
            return
        waited += 0.5
        why = unsettled(simulator)
        if not why:
            simulator.coverage.add("settled")
            return
    raise PropertyBroken("L1", f"{SETTLE_SECONDS:.0f} s after the faults ended: {unsettled(simulator)}")


def unsettled(simulator: Simulator) -> str:
    """What is still missing for L1; empty when nothing is."""
    leader = simulator.leader
    if leader is None or leader.replica is None:
        return f"no leader; {_roles(simulator)}"
    core = leader.replica.core
    if core.committed_index < core.last_index or core.membership.is_joint:
        return f"{leader.node} has committed {core.committed_index} of {core.last_index}; {_roles(simulator)}"
    for name in core.membership.nodes:
        node = simulator.nodes[name]
        if node.replica is None:
            if node.retired:
                continue
            return f"{name} is down"
        replica = node.replica
        if replica.core.term != core.term or (replica.core.leader != leader.node):
            return f"{name} does not follow {leader.node} in term {core.term}; {_roles(simulator)}"
        if replica.applied_index != core.committed_index or leader.replica.applied_index != core.committed_index:
            return f"{name} has applied {replica.applied_index} of {core.committed_index}; {_roles(simulator)}"
        if node.record.log.chain_at(core.last_index) != leader.record.log.chain_at(core.last_index):
            return f"{name} has another log than {leader.node} at {core.last_index}"
        assert node.machine is not None
        assert leader.machine is not None
        if node.machine.snapshot_bytes() != leader.machine.snapshot_bytes():
            raise PropertyBroken("S15", f"{name} and {leader.node} have applied {core.committed_index}, and their states differ")
    return ""


def _roles(simulator: Simulator) -> str:
    parts = []
    for name, node in simulator.nodes.items():
        if node.replica is not None:
            core = node.replica.core
            parts.append(
                f"{name} {core.role.value} term {core.term} log {core.last_index} committed {core.committed_index} applied {node.replica.applied_index}"
            )
        else:
            parts.append(f"{name} {'retired' if node.retired else 'down'}")
    return "; ".join(parts)


def demand_operations(simulator: Simulator) -> None:
    """Ten writes and ten reads, each answered with success, at the leader."""
    done = {"read": 0, "write": 0}
    attempts = 0
    while min(done.values()) < _OPERATIONS and attempts < 40 * _OPERATIONS and not simulator.cut_short:
        attempts += 1
        leader = simulator.leader
        if leader is None:
            simulator.seconds(0.1)
            continue
        request = simulator.clients.ask(1_000_000 + attempts, leader.node)
        _wait(simulator, request)
        if request.done and simulator.clients.history and simulator.clients.history[-1].client == str(request.client):
            done["read" if request.step.payload is None else "write"] += simulator.clients.history[-1].outcome == "ok"
    if min(done.values()) < _OPERATIONS and not simulator.cut_short:
        raise PropertyBroken("L1", f"after healing only {done['write']} writes and {done['read']} reads of {attempts} operations succeeded")


def _wait(simulator: Simulator, request: Request) -> None:
    for _ in range(400):
        if request.done or simulator.cut_short:
            return
        simulator.seconds(0.01)


def hold_quiet(simulator: Simulator) -> None:
    """No term rises, no leader changes while all is quiet."""
    if simulator.cut_short:
        return
    leader = simulator.leader
    before = _terms(simulator)
    simulator.seconds(QUIET_SECONDS)
    if _ended(simulator):
        return
    after = _terms(simulator)
    if before != after or simulator.leader is not leader:
        raise PropertyBroken("L2", f"an election in {QUIET_SECONDS:.0f} quiet seconds: terms were {before}, and are {after}")


def _ended(simulator: Simulator) -> bool:
    """Whether the run was cut short by now (asked again after time has passed)."""
    return simulator.cut_short


def _terms(simulator: Simulator) -> dict[str, int]:
    """Terms of the members; one that is no member may campaign in vain."""
    leader: SimulatedNode | None = simulator.leader
    if leader is None or leader.replica is None:
        return {}
    return {name: simulator.nodes[name].record.term for name in leader.replica.core.membership.nodes if simulator.nodes[name].up}
