"""A seeded schedule over `CoreCluster`: every step draws what happens next, among everything that may.

Loss, repetition, reordering, cuts, crashes at any point, slow disks, proposals, reads, transfers, membership changes, snapshots. `CoreCluster.check`
runs after each step, and here: what never goes back (S6, S9), reads not older than what was acknowledged before (S12). `settle` then heals everything
and demands progress (L1). The same seed gives the same run.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from replog.errors import ReplogError
from replog.raft import AddLearner, AddVoter, CoreConfig, MembershipChange, RemoveNode
from replog.raft.messages import InstallSnapshot
from replog.testing.cores import CoreCluster, CoreNode, members
from replog.types import Index, Membership, NodeId, Term

SMALL: dict[str, Any] = {
    "heartbeat_ticks": 2,
    "election_timeout_ticks_min": 8,
    "election_timeout_ticks_max": 16,
    "append_entries_max": 3,
    "append_bytes_max": 40,
    "in_flight_messages_max": 3,
    "in_flight_bytes_max": 100,
    "uncommitted_bytes_max": 400,
    "promote_lag_entries": 2,
    "reads_waiting_max": 20,
}


class Schedule:
    def __init__(self, seed: int, *, nodes: int = 3, changes: bool = False, losses: bool = False, **config: Any) -> None:
        """`losses`: the recovery of less than half of the nodes may cut acknowledged entries, and that of any node a batch nobody acknowledged."""
        self.random = Random(seed)
        self.cluster = CoreCluster()
        self.config = {**SMALL, **config}
        self.changes = changes
        self.losses = losses
        self._harmed: set[NodeId] = set()
        """Nodes whose disk may lose what it promised."""
        self.step = 0
        self.counts: dict[str, int] = {}
        self._number = 0
        self._reads: dict[tuple[NodeId, int], Index] = {}
        """Reads without an answer, and the highest index that was applied anywhere when each began."""
        self._reads_seen: dict[NodeId, int] = {}
        self._lives: dict[NodeId, tuple[Term, Index, Index]] = {}
        self._matches: dict[tuple[NodeId, Term, NodeId], Index] = {}
        self.names = [str(number) for number in range(1, nodes + 1)]
        for name in self.names:
            self._add(name, members(self.names))
        if changes:
            for number in range(nodes + 1, nodes + 3):
                self.names.append(str(number))
                self._add(str(number), Membership())

    def _add(self, name: NodeId, membership: Membership) -> CoreNode:
        config = CoreConfig(node_id=name, **self.config)
        low, high = config.election_timeout_ticks_min, config.election_timeout_ticks_max
        return self.cluster.add(config, membership, lambda: self.random.randint(low, high))

    # -- running ------------------------------------------------------------------------------------------------------

    def run(self, steps: int) -> None:
        # How often each happens is drawn once a run, so that runs differ in kind.
        draw = self.random.random
        weights: list[tuple[float, Callable[[], None]]] = [
            (20, self._ready),
            (30, self._deliver),
            (1 + 5 * draw(), self._tick),
            (4, self._propose),
            (2 * draw(), self._drop),
            (2 * draw(), self._duplicate),
            (4 * draw(), self._deliver_out_of_order),
            (0.3 * draw(), self._crash),
            (1.5, self._restart),
            (0.4 * draw(), self._cut),
            (1.5, self._heal),
            (1.0 * draw(), self._hold_disk),
            (2.0, self._finish_write),
            (1.0 * draw(), self._read),
            (0.2 * draw(), self._transfer),
            (0.1 * draw(), self._campaign),
            (1.0 * draw(), self._compact),
            (0.3 * draw(), self._peer_lost),
            (0.5, self._snapshot_news),
        ]
        if self.changes:
            weights.append((0.5, self._change))
        if self.losses:
            self._harmed = set(self.random.sample(self.names, (len(self.names) - 1) // 2))
            weights += [(0.5, self._lose_tail), (0.3 * draw(), self._tear)]
        actions = [action for _, action in weights]
        chances = [weight for weight, _ in weights]
        for action in self.random.choices(actions, chances, k=steps):
            self.step += 1
            action()
            self.check()

    def settle(self) -> CoreNode:
        """Heal everything and let time pass: one leader must appear, commit a new entry, and bring every member's log to its own (L1)."""
        cluster = self.cluster
        cluster.cut.clear()
        for node in cluster.nodes.values():
            node.disk_held = False
            node.finish_write()
            if not node.alive:
                self._restart_node(node)
        wanted = ""
        for _ in range(400):
            for node in cluster.nodes.values():
                node.core.tick()
            self._exchange()
            leader = self._leader()
            if leader is None:
                continue
            if not wanted:
                try:
                    wanted = f"last of {self.step}"
                    leader.propose([wanted])
                except ReplogError:
                    wanted = ""
                continue
            if wanted not in leader.state and not any(entry.payload == wanted for entry in leader.disk.entries):
                wanted = ""  # lost with a leadership that ended
                continue
            nodes = [cluster.nodes[name] for name in leader.core.membership.nodes]
            if all(node.core.applied_index == leader.core.last_index for node in nodes) and not leader.core.membership.is_joint:
                assert all(node.state == leader.state for node in nodes), "S15: states differ"
                return leader
        raise AssertionError(f"L1: no progress: {[node.core.status() for node in cluster.nodes.values()]}")

    def _exchange(self) -> None:
        for _ in range(3):
            for node in self.cluster.nodes.values():
                self._take(node)
            for link in sorted(self.cluster.links):
                for _ in range(len(self.cluster.links[link])):
                    self._receive(*link)
            self._snapshot_news(chance=1.0)
            self.check()

    def check(self) -> None:
        self.cluster.check()
        for name, node in self.cluster.nodes.items():
            if not node.alive:
                continue
            core = node.core
            life = (core.term, core.committed_index, core.applied_index)
            before = self._lives.get(name, (0, 0, 0))
            assert all(old <= new for old, new in zip(before, life, strict=True)), f"S6: {name} goes back from {before} to {life}"
            self._lives[name] = life
            if core.is_leader:
                peers = core.status().peers
                known = set(core.membership.nodes)
                for peer in (one for one in peers if one.node in known - self._harmed):
                    key = (name, core.term, peer.node)
                    assert peer.match_index >= self._matches.get(key, 0), f"S9: {name}'s match of {peer.node} goes back"
                    self._matches[key] = peer.match_index
                for key in [key for key in self._matches if key[0] == name and key[2] not in known]:
                    del self._matches[key]  # removed: it begins anew if it comes back
            for context, index in node.reads[self._reads_seen.get(name, 0) :]:
                began = self._reads.pop((name, context))
                assert index is None or index >= began, f"S12: read {context} of {name} at {index}, but {began} was acknowledged before"
                self._count("read" if index is not None else "read refused")
            self._reads_seen[name] = len(node.reads)

    # -- choices ------------------------------------------------------------------------------------------------------

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def _node(self) -> CoreNode:
        return self.cluster.nodes[self.random.choice(self.names)]

    def _leader(self) -> CoreNode | None:
        leaders = [node for node in self.cluster.nodes.values() if node.alive and node.core.is_leader]
        return max(leaders, key=lambda node: node.core.term, default=None)

    def _link(self) -> tuple[NodeId, NodeId] | None:
        links = [link for link in sorted(self.cluster.links) if self.cluster.links[link]]
        return self.random.choice(links) if links else None

    def _receive(self, source: NodeId, target: NodeId, position: int = 0) -> None:
        self.cluster.deliver(source, target, position)

    def _ready(self) -> None:
        self._take(self._node())

    def _take(self, node: CoreNode) -> None:
        ready = node.take_ready()
        for event in ready.events if ready is not None else ():
            self._count(type(event).__name__)

    def _deliver(self) -> None:
        link = self._link()
        if link is not None:
            self._receive(*link)

    def _deliver_out_of_order(self) -> None:
        link = self._link()
        if link is not None:
            self._receive(*link, position=self.random.randrange(len(self.cluster.links[link])))

    def _drop(self) -> None:
        link = self._link()
        if link is not None:
            self.cluster.links[link].popleft()

    def _duplicate(self) -> None:
        link = self._link()
        if link is not None:
            queue = self.cluster.links[link]
            if len(queue) < 50:
                queue.append(self.random.choice(queue))

    def _tick(self) -> None:
        node = self._node()
        if node.alive:
            for _ in range(self.random.choice((1, 1, 1, 2, 7))):
                node.core.tick()

    def _propose(self) -> None:
        node = self._leader() if self.random.random() < 0.8 else self._node()
        if node is None or not node.alive:
            return
        count = self.random.randint(1, 5)
        self._number += count
        try:
            node.propose([f"{self._number - i}" for i in range(count)])
        except ReplogError as error:
            self._count(type(error).__name__)

    def _crash(self) -> None:
        self._crash_node(self._node())

    def _crash_node(self, node: CoreNode) -> None:
        node.crash()
        self._lives.pop(node.node_id, None)
        for key in [key for key in self._reads if key[0] == node.node_id]:
            del self._reads[key]

    def _lose_tail(self) -> None:
        """A node crashes, and its recovery cuts entries that it had acknowledged, as far as nobody knows that they were applied by its own snapshot."""
        node = self.cluster.nodes[self.random.choice(sorted(self._harmed))]
        disk = node.disk
        base = disk.snapshot.index if disk.snapshot is not None else 0
        kept = self.random.randint(max(base, disk.first_index - 1), max(base, disk.last_index))
        if kept < disk.last_index:
            self._crash_node(node)
            disk.maybe_promised = max(disk.maybe_promised, disk.last_index)
            del disk.entries[kept + 1 - disk.first_index :]
            self._count("tail lost")

    def _tear(self) -> None:
        """A node loses power in the middle of a write that nobody acknowledged; its recovery cannot tell that from a loss."""
        node = self._node()
        self._crash_node(node)
        node.disk.maybe_promised = max(node.disk.maybe_promised, node.disk.last_index + self.random.randint(1, 3))
        self._count("torn")

    def _restart(self) -> None:
        node = self._node()
        if not node.alive:
            self._restart_node(node)

    def _restart_node(self, node: CoreNode) -> None:
        self._count("restart")
        node.restart()
        for source in self.cluster.nodes.values():
            if source.alive:
                source.core.peer_lost(node.node_id)

    def _cut(self) -> None:
        node = self._node().node_id
        others = [name for name in self.names if name != node]
        if others and self.random.random() < 0.5:
            others = [self.random.choice(others)]
        for other in others:
            way = self.random.randrange(3)
            if way != 0:
                self.cluster.cut.add((node, other))
            if way != 1:
                self.cluster.cut.add((other, node))

    def _heal(self) -> None:
        self.cluster.cut.clear()

    def _hold_disk(self) -> None:
        self._node().disk_held = True

    def _finish_write(self) -> None:
        node = self._node()
        node.disk_held = False
        node.finish_write()

    def _read(self) -> None:
        node = self._node()
        if not node.alive:
            return
        self._number += 1
        context = self._number
        self._reads[node.node_id, context] = max(self.cluster.committed, default=0)
        try:
            node.core.read_index(context)
        except ReplogError as error:
            del self._reads[node.node_id, context]
            self._count(type(error).__name__)

    def _transfer(self) -> None:
        leader = self._leader()
        if leader is not None:
            try:
                leader.core.transfer_leadership(self.random.choice([None, *self.names]))
            except ReplogError as error:
                self._count(type(error).__name__)

    def _campaign(self) -> None:
        node = self._node()
        if node.alive:
            node.core.campaign(force=self.random.random() < 0.5)

    def _compact(self) -> None:
        node = self._node()
        core = node.core
        base = node.disk.snapshot.index if node.disk.snapshot is not None else 0
        if not node.alive or node.unfinished is not None or core.applied_index <= base or core.applied_index > node.disk.last_index:
            return
        index = self.random.randint(base + 1, core.applied_index)
        if index < node.disk.first_index:
            return
        tail = 0 if self.random.random() < 0.5 else self.random.randint(0, index + 1 - node.disk.first_index)
        first = min(index + 1 - tail, core.retain_index)
        node.compact(index, max(first, node.disk.first_index))
        self._count("compaction")

    def _peer_lost(self) -> None:
        node = self._node()
        if node.alive:
            node.core.peer_lost(self.random.choice(self.names))

    def _snapshot_news(self, chance: float = 0.5) -> None:
        """Tell leaders how their snapshots fared: one that is on no link any more has arrived or is lost, nobody knows which."""
        for node in self.cluster.nodes.values():
            if not node.alive or not node.core.is_leader:
                continue
            for peer in node.core.status().peers:
                if peer.state != "snapshot" or self.random.random() > chance:
                    continue
                queue = self.cluster.links.get((node.node_id, peer.node), ())
                if not any(isinstance(message, InstallSnapshot) for message in queue):
                    if self.random.random() < 0.5:
                        node.core.snapshot_failed(peer.node)
                    else:
                        node.core.snapshot_sent(peer.node, peer.next_index - 1)

    def _change(self) -> None:
        leader = self._leader()
        if leader is None:
            return
        kinds: list[Callable[..., MembershipChange]] = [AddVoter, AddVoter, AddLearner, RemoveNode]
        changes = [self.random.choice(kinds)(node=self.random.choice(self.names)) for _ in range(self.random.randint(1, 3))]
        try:
            leader.core.change_membership(changes, force=self.random.random() < 0.3)
            self._count("change")
        except ReplogError as error:
            self._count(type(error).__name__)
