"""The faults of a run, as they come: each kind of fault that the weather has on strikes at random times, drawn from the faults' own stream.

What a fault may do is bounded so that a run means something: rot and wiped disks strike so few nodes that a majority keeps its promises (a cluster that has
lost a majority's disks has lost data, and no protocol helps), and the cluster's own work (membership changes) is asked of the leader like a person would.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from replog.raft.membership import AddLearner, AddVoter, MembershipChange, RemoveNode
from replog.testing.clock import MILLISECOND, SECOND
from replog.testing.simulated_clients import AdminRequest
from replog.types import NodeId

if TYPE_CHECKING:
    from replog.testing.simulated_node import SimulatedNode
    from replog.testing.simulator import Simulator

_VOTERS_MAX = 7


class Storm:
    """Schedules the faults of one run until `end_us`."""

    def __init__(self, simulator: Simulator, end_us: int) -> None:
        self._simulator = simulator
        self._random = simulator.stream("faults")
        limit = simulator.plan.faults_until_us
        self._end_us = min(end_us, limit) if limit is not None else end_us
        self._next_name = simulator.weather.nodes + 1
        self._replacing: NodeId | None = None

    def begin(self) -> None:
        weather = self._simulator.weather
        kinds: list[tuple[str, float, Callable[[], None]]] = [
            ("partitions", weather.partitions, self._partition),
            ("crashes", weather.crashes, self._crash),
            ("blackouts", weather.blackouts, self._blackout),
            ("pauses", weather.pauses, self._pause),
            ("slow_disks", weather.slow_disks, self._slow_disk),
            ("sync_failures", weather.sync_failures, self._sync_failure),
            ("full_disks", weather.full_disks, self._full_disk),
            ("rot", weather.rot, self._rot),
            ("transfers", weather.transfers, self._transfer),
            ("changes", weather.changes, self._change),
            ("replacements", weather.replacements, self._replace),
            ("snapshots", weather.snapshots, self._snapshot),
            ("slow_applies", weather.slow_applies, self._slow_apply),
        ]
        self._simulator.set_link_faults()
        for _, rate, strike in kinds:
            # One stream for all kinds in a fixed order; a kind that is off draws as well, so that turning it off moves no other.
            seed = self._random.random()
            if rate:
                self._again(rate, strike, seed)

    def _again(self, rate: float, strike: Callable[[], None], first: float | None = None) -> None:
        drawn = first if first is not None else self._random.random()
        wait_us = int(drawn * 2 * SECOND / rate)
        self._simulator.clock.after(wait_us, self._strike, (rate, strike))

    def _strike(self, argument: tuple[float, Callable[[], None]]) -> None:
        rate, strike = argument
        if self._simulator.clock.now_us < self._end_us:
            strike()
            self._again(rate, strike)

    def _later(self, low_us: int, high_us: int, action: Callable[[Any], None], argument: Any = None) -> None:
        self._simulator.clock.after(self._random.randint(low_us, max(low_us, high_us)), action, argument)

    def _pick(self, nodes: list[SimulatedNode]) -> SimulatedNode | None:
        return nodes[int(self._random.random() * len(nodes))] if nodes else None

    def _running(self) -> list[SimulatedNode]:
        return [node for node in self._simulator.nodes.values() if node.up]

    # -- network ----------------------------------------------------------------------------------------------------------

    def _partition(self) -> None:
        simulator, random = self._simulator, self._random
        names = [name for name, node in simulator.nodes.items() if not node.retired]
        if len(names) < 2:
            return
        random.shuffle(names)
        kind = random.choice(("halves", "leader", "bridge", "one way"))
        leader = simulator.leader
        middle = random.randint(1, len(names) - 1)
        if kind == "leader" and leader is not None:
            others = [name for name in names if name != leader.node]
            simulator.network.part([[leader.node], others], one_way=random.random() < 0.3)
        elif kind == "bridge" and len(names) > 2:
            simulator.network.part([names[:1] + names[1 : middle + 1], names[:1] + names[middle + 1 :]])
        else:
            simulator.network.part([names[:middle], names[middle:]], one_way=kind == "one way")
        simulator.coverage.add("partitions")
        simulator.trace(f"partition ({kind}): {', '.join(f'{a}->{b}' for a, b in sorted(simulator.network.cuts))}")
        self._later(50 * MILLISECOND, 1500 * MILLISECOND, self._mend)

    def _mend(self, _: Any) -> None:
        if self._simulator.network.cuts:
            self._simulator.network.cuts.clear()
            self._simulator.trace("the network is whole again")

    # -- processes ----------------------------------------------------------------------------------------------------------

    def _crash(self) -> None:
        node = self._pick(self._running())
        if node is None:
            return
        if self._random.random() < 0.5:
            node.doomed = self._crash_node
        else:
            self._crash_node(node)

    def _crash_node(self, node: SimulatedNode) -> None:
        self._take_down(node, power=self._random.random() < 0.7)
        self._later(self._simulator.weather.restart_us_min, self._simulator.weather.restart_us_max, self._bring_back, node.node)

    def _take_down(self, node: SimulatedNode, *, power: bool) -> None:
        self._simulator.coverage.add("crashes")
        self._simulator.trace(f"{node.node} {'loses power' if power else 'is killed'}{' in the middle of a write' if node.busy else ''}")
        node.stop(power=power)

    def _bring_back(self, name: NodeId) -> None:
        simulator = self._simulator
        node = simulator.nodes[name]
        if node.up or node.retired:
            return
        if simulator.stormy and self._random.random() < 0.1:
            node.disk.fuse = self._random.randint(0, 20)
        if not simulator.start_node(name) and not node.retired:
            self._later(1 * MILLISECOND, 50 * MILLISECOND, self._bring_back, name)
        node.disk.fuse = None

    def _blackout(self) -> None:
        self._simulator.coverage.add("blackouts")
        self._simulator.trace("all nodes go down")
        for node in self._running():
            self._take_down(node, power=True)
            self._later(self._simulator.weather.restart_us_min, self._simulator.weather.restart_us_max, self._bring_back, node.node)

    def _pause(self) -> None:
        node = self._pick(self._running())
        if node is not None:
            duration_us = self._random.randint(10 * MILLISECOND, 2 * SECOND)
            self._simulator.coverage.add("pauses")
            self._simulator.trace(f"{node.node} pauses for {duration_us / SECOND:.3f} s")
            node.pause(duration_us)

    def _slow_apply(self) -> None:
        node = self._pick(self._running())
        if node is not None:
            node.apply_us = self._random.choice((1, 5, 30)) * MILLISECOND
            self._simulator.coverage.add("slow applies")
            self._later(100 * MILLISECOND, SECOND, self._quick_apply, node)

    def _quick_apply(self, node: SimulatedNode) -> None:
        node.apply_us = 0

    # -- disks --------------------------------------------------------------------------------------------------------------

    def _slow_disk(self) -> None:
        node = self._pick(self._running())
        if node is not None:
            node.sync_us_max = self._random.choice((20, 200, 2000)) * MILLISECOND
            self._simulator.coverage.add("slow disks")
            self._simulator.trace(f"the disk of {node.node} takes up to {node.sync_us_max / SECOND:.3f} s a sync")
            self._later(200 * MILLISECOND, 2 * SECOND, self._quick_disk, node)

    def _quick_disk(self, node: SimulatedNode) -> None:
        node.sync_us_max = self._simulator.weather.sync_us_max

    def _sync_failure(self) -> None:
        node = self._pick(self._running())
        if node is None:
            return
        if self._random.random() < 0.7:
            node.disk.fail_syncs = 1
            self._simulator.coverage.add("sync failures set")
        else:
            node.disk.fail_writes = 1
            self._simulator.coverage.add("write failures set")
        self._simulator.trace(f"the disk of {node.node} will fail")

    def _full_disk(self) -> None:
        node = self._pick(self._running())
        if node is not None:
            node.disk.room_bytes = self._random.choice((0, 100, 5000))
            self._simulator.coverage.add("disks filled")
            self._simulator.trace(f"the disk of {node.node} has {node.disk.room_bytes} bytes left")
            self._later(100 * MILLISECOND, 2 * SECOND, self._empty_disk, node)

    def _empty_disk(self, node: SimulatedNode) -> None:
        node.disk.room_bytes = None

    def _rot(self) -> None:
        """Flip bits on the disk of a node that is down, or take one down for it; at most a minority of the voters, ever."""
        simulator = self._simulator
        if self._harmed() + 1 > (simulator.weather.nodes - 1) // 2:
            return
        node = self._pick([node for node in self._running() if not node.damaged])
        if node is None:
            return
        self._take_down(node, power=False)
        paths = [path for path in node.disk.paths() if node.disk.size(path)]
        for _ in range(self._random.randint(1, 3)):
            if paths:
                path = self._random.choice(paths)
                node.disk.rot(path, self._random.randrange(node.disk.size(path)), 1 << self._random.randrange(8))
                simulator.trace(f"a bit of {path} rots")
        node.damaged = node.record.rotten = True
        simulator.coverage.add("rot")
        self._later(simulator.weather.restart_us_min, simulator.weather.restart_us_max, self._bring_back, node.node)

    def _harmed(self) -> int:
        """Nodes whose disk may no longer hold what it promised."""
        return sum(1 for node in self._simulator.nodes.values() if node.damaged or node.retired)

    # -- the cluster's own work -------------------------------------------------------------------------------------------------

    def _transfer(self) -> None:
        leader = self._simulator.leader
        if leader is None or leader.replica is None:
            return
        core = leader.replica.core
        others = [name for name in core.membership.voters if name != leader.node]
        if others:
            target = self._random.choice(others)
            self._simulator.coverage.add("transfers")
            self._simulator.trace(f"{leader.node} is asked to hand over to {target}")
            leader.request(lambda: core.transfer_leadership(target), AdminRequest("transfer"))

    def _snapshot(self) -> None:
        node = self._pick(self._running())
        if node is not None:
            node.take_snapshot(AdminRequest("snapshot"))

    def _change(self) -> None:
        """Ask the leader for a change of the membership, a possible one or not."""
        leader = self._simulator.leader
        if leader is None or leader.replica is None:
            return
        membership = leader.replica.core.membership
        voters, learners = list(membership.voters), list(membership.learners)
        drawn = self._random.random()
        changes: list[MembershipChange]
        if drawn < 0.35 and len(membership.nodes) < _VOTERS_MAX:
            changes = [AddLearner(node=(name := self._new_node()), address=f"{name}:1")]
        elif drawn < 0.7 and learners:
            changes = [AddVoter(node=self._random.choice(learners))]
        elif drawn < 0.85 and len(voters) > 1:
            changes = [AddLearner(node=self._random.choice(voters))]
        elif len(voters) > 2:
            changes = [RemoveNode(node=self._random.choice(voters))]
            if learners and self._random.random() < 0.5:
                changes.append(AddVoter(node=self._random.choice(learners)))
        else:
            return
        self._ask(leader, changes)

    def _ask(self, leader: SimulatedNode, changes: list[MembershipChange], on_end: Any = None) -> None:
        assert leader.replica is not None
        core = leader.replica.core
        self._simulator.coverage.add("membership changes asked")
        self._simulator.trace(f"{leader.node} is asked for {changes}")
        leader.change(lambda: core.change_membership(changes), AdminRequest("change", on_end))

    def _new_node(self) -> NodeId:
        """A machine that waits to be added, never used before."""
        name = f"n{self._next_name}"
        self._next_name += 1
        self._simulator.add_node(name, joins=True)
        self._simulator.start_node(name)
        return name

    def _replace(self) -> None:
        """Wipe a node; a new one, of a new name, is added as a learner, and the old name removed."""
        simulator = self._simulator
        leader = simulator.leader
        if leader is None or leader.replica is None or self._harmed() + 1 > (simulator.weather.nodes - 1) // 2:
            return
        voters = [simulator.nodes[name] for name in leader.replica.core.membership.voters if name != leader.node]
        node = self._pick([node for node in voters if not node.retired])
        if node is None:
            return
        if node.up:
            self._take_down(node, power=True)
        node.disk.wipe()
        node.retired = True
        simulator.coverage.add("nodes wiped and replaced")
        simulator.trace(f"the disk of {node.node} is wiped")
        name = self._new_node()
        self._ask(leader, [AddLearner(node=name, address=f"{name}:1"), RemoveNode(node=node.node)])
