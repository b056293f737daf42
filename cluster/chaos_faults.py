"""The faults themselves: each is put in, held for its time, and healed, whatever happens meanwhile.

Episodes may overlap. What cannot be had together (two faults of the network: a second cut of the same pair would be healed by the first) waits, and is given up
when its time is over. A fault that finds nobody to hit (no leader is known) is skipped, and counted as skipped.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from random import Random
from typing import Final

from cluster.chaos_nodes import ChaosNodes
from cluster.chaos_schedule import NETWORK_KINDS, Episode
from replog.client import admin
from replog.client.admin import AdminClient
from replog.errors import ReplogError, UnknownNode
from replog.types import NodeId

ADMIN_SECONDS_MAX: Final = 5.0
_CHANGE_SECONDS_MAX: Final = 25.0
"""A change of the membership is tried again, at whoever leads, for so long."""
_WAIT_SECONDS_MAX: Final = 3.0


class Skipped(Exception):
    """The fault found nobody to hit, or its time was over before its turn came."""


class Injector:
    """Puts faults into the nodes. `injected` and `skipped` count them by kind."""

    def __init__(self, nodes: ChaosNodes) -> None:
        self.nodes = nodes
        self.injected: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()
        """What was refused on the way, and is no finding."""
        self.kills = 0
        """SIGKILLs that hit a running process."""
        self.running: dict[int, str] = {}
        """What is put in at the moment."""
        self.wiped: set[NodeId] = set()
        """Nodes that have lost their data and were not readmitted yet. At most one: a second loss might be one too many."""
        self._network_lock = asyncio.Lock()
        self._membership_lock = asyncio.Lock()
        self._numbers = itertools.count()
        self._kinds: dict[str, Callable[[Episode, Random], Awaitable[None]]] = {
            "kill": self._kill,
            "kill-two": self._kill_two,
            "kill-all": self._kill_all,
            "freeze": self._freeze,
            "stop": self._stop,
            "cut": self._cut,
            "cut-one-way": self._cut_one_way,
            "isolate-leader": self._around_leader,
            "deafen-leader": self._around_leader,
            "mute-leader": self._around_leader,
            "delay": self._disturb,
            "loss": self._disturb,
            "disk-full": self._disk,
            "disk-slow": self._disk,
            "disk-failing": self._disk,
            "transfer": self._transfer,
            "membership": self._membership,
            "wipe": self._wipe,
        }

    async def inject(self, episode: Episode) -> None:
        """The whole of one episode. Raises only what is a mistake of the harness."""
        chance = Random(episode.draw)
        try:
            if episode.kind in NETWORK_KINDS:
                async with self._alone(self._network_lock):
                    await self._kinds[episode.kind](episode, chance)
            else:
                await self._kinds[episode.kind](episode, chance)
        except Skipped as reason:
            self.skipped[episode.kind] += 1
            self.nodes.say(f"{episode.kind}: skipped, {reason}")

    @contextlib.asynccontextmanager
    async def _alone(self, lock: asyncio.Lock) -> AsyncIterator[None]:
        try:
            await asyncio.wait_for(lock.acquire(), _WAIT_SECONDS_MAX)
        except TimeoutError:
            raise Skipped("another fault of this sort lasts") from None
        try:
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def _told(self, episode: Episode, what: str) -> Iterator[None]:
        """Count the fault, and say when it begins and ends."""
        number = next(self._numbers)
        self.injected[episode.kind] += 1
        self.running[number] = f"{episode.kind} {what}"
        self.nodes.say(f"{episode.kind}: {what}")
        try:
            yield
        finally:
            del self.running[number]
            self.nodes.say(f"{episode.kind}: healed")

    # -- whom -----------------------------------------------------------------------------------------------------------

    def _running(self) -> list[NodeId]:
        found = [node_id for node_id in self.nodes.ids if self.nodes.is_watched_running(node_id)]
        if not found:
            raise Skipped("no node runs")
        return found

    async def _leader(self) -> NodeId:
        try:
            return await self.nodes.wait_leader(_WAIT_SECONDS_MAX)
        except TimeoutError:
            raise Skipped("no leader is known") from None

    async def _somebody(self, chance: Random) -> NodeId:
        """The leader half of the time, as far as one is known."""
        leader = self.nodes.leader()
        if leader is not None and chance.random() < 0.5:
            return leader
        return chance.choice(self._running())

    # -- processes -------------------------------------------------------------------------------------------------------

    async def _kill(self, episode: Episode, chance: Random) -> None:
        await self._kill_these(episode, [await self._somebody(chance)])

    async def _kill_two(self, episode: Episode, chance: Random) -> None:
        running = self._running()
        await self._kill_these(episode, chance.sample(running, min(2, len(running))))

    async def _kill_all(self, episode: Episode, _chance: Random) -> None:
        await self._kill_these(episode, self._running())

    async def _kill_these(self, episode: Episode, victims: list[NodeId]) -> None:
        # Half of the dead come back at once: an election that the old leader is back for is another test than one without it.
        gone_seconds = episode.seconds if episode.draw % 2 else 0.0
        with self._told(
            episode, f"{', '.join(map(self._name, victims))}, back {f'after {gone_seconds:.1f} s' if gone_seconds else 'at once'}"
        ):
            try:
                self.kills += sum(self.nodes.is_watched_running(node_id) for node_id in victims)
                self.nodes.kill(*victims)
                await asyncio.sleep(gone_seconds)
            finally:
                await asyncio.gather(*(self.nodes.revive(node_id) for node_id in victims if self.nodes.may_start(node_id)))

    async def _freeze(self, episode: Episode, chance: Random) -> None:
        victim = await self._somebody(chance)
        if not self.nodes.is_watched_running(victim):
            raise Skipped(f"{victim} does not run")
        with self._told(episode, f"{self._name(victim)} for {episode.seconds:.1f} s"), self.nodes.frozen(victim):
            await asyncio.sleep(episode.seconds)

    async def _stop(self, episode: Episode, chance: Random) -> None:
        victim = await self._somebody(chance)
        with self._told(episode, self._name(victim)):
            try:
                await self.nodes.stop(victim)
                await asyncio.sleep(episode.seconds / 2)
            finally:
                if self.nodes.may_start(victim):
                    await self.nodes.revive(victim)

    # -- the network -----------------------------------------------------------------------------------------------------

    async def _cut(self, episode: Episode, chance: Random) -> None:
        everybody = self.nodes.ids
        if len(everybody) < 2:
            raise Skipped("a single node has no halves")
        chance.shuffle(everybody)
        split = chance.randint(1, len(everybody) - 1)
        here, there = everybody[:split], everybody[split:]
        pairs = [*itertools.product(here, there), *itertools.product(there, here)]
        await self._hold_cut(episode, pairs, f"{', '.join(map(self._name, here))} | {', '.join(map(self._name, there))}")

    async def _cut_one_way(self, episode: Episode, chance: Random) -> None:
        everybody = self.nodes.ids
        if len(everybody) < 2:
            raise Skipped("a single node sends nothing")
        source, target = chance.sample(everybody, 2)
        await self._hold_cut(episode, [(source, target)], f"{self._name(source)} -/-> {self._name(target)}")

    async def _around_leader(self, episode: Episode, _chance: Random) -> None:
        leader = await self._leader()
        others = [node_id for node_id in self.nodes.ids if node_id != leader]
        outward = [(leader, other) for other in others]
        inward = [(other, leader) for other in others]
        pairs = {"isolate-leader": outward + inward, "deafen-leader": inward, "mute-leader": outward}[episode.kind]
        await self._hold_cut(episode, pairs, self._name(leader))

    async def _hold_cut(self, episode: Episode, pairs: list[tuple[NodeId, NodeId]], what: str) -> None:
        network = self.nodes.network
        assert network is not None, "without namespaces no cut is scheduled"
        with self._told(episode, f"{what} for {episode.seconds:.1f} s"):
            try:
                await asyncio.to_thread(network.cut_all, pairs)
                await asyncio.sleep(episode.seconds)
            finally:
                await asyncio.to_thread(network.mend_all, pairs)

    async def _disturb(self, episode: Episode, chance: Random) -> None:
        network = self.nodes.network
        assert network is not None, "without namespaces no disturbance is scheduled"
        victim = await self._somebody(chance)
        delay_ms, loss_percent = 0, 0.0
        if episode.kind == "delay":
            delay_ms = chance.choice((10, 40, 150, 400))
        else:
            loss_percent = chance.choice((2.0, 10.0, 30.0))
        what = f"{delay_ms} ms" if delay_ms else f"{loss_percent:.0f} %"
        with self._told(episode, f"{what} on what {self._name(victim)} sends for {episode.seconds:.1f} s"):
            try:
                await asyncio.to_thread(network.disturb, victim, delay_ms=delay_ms, jitter_ms=delay_ms // 2, loss_percent=loss_percent)
                await asyncio.sleep(episode.seconds)
            finally:
                await asyncio.to_thread(network.calm, victim)

    # -- disks -------------------------------------------------------------------------------------------------------------

    async def _disk(self, episode: Episode, chance: Random) -> None:
        victim = await self._somebody(chance)
        if not self.nodes.is_watched_running(victim) or not self.nodes.may_start(victim):
            raise Skipped(f"{victim} does not run, or its disk is broken already")
        sync_seconds = chance.choice((0.02, 0.2, 1.5))
        switches_of: dict[str, dict[str, object]] = {
            "disk-full": {"full": True},
            "disk-failing": {"failing": True},
            "disk-slow": {"sync_seconds": sync_seconds},
        }
        may_end = episode.kind != "disk-slow"
        what = f"{self._name(victim)} for {episode.seconds:.1f} s" + ("" if may_end else f", {sync_seconds:.2f} s a sync")
        with self._told(episode, what):
            try:
                with self.nodes.broken_disk(victim, episode.kind, switches_of[episode.kind], may_end=may_end):
                    await asyncio.sleep(episode.seconds)
            finally:
                await self.nodes.revive(victim)

    # -- operators ---------------------------------------------------------------------------------------------------------

    async def _transfer(self, episode: Episode, chance: Random) -> None:
        leader = await self._leader()
        others = [node_id for node_id in self.nodes.ids if node_id != leader]
        if not others:
            raise Skipped("there is nobody to hand over to")
        target = chance.choice([None, *others])
        with self._told(episode, f"from {leader} to {target or 'the best'}"):
            try:
                async with AdminClient(self.nodes.cluster.node(leader).address, timeout=ADMIN_SECONDS_MAX) as client:
                    await client.transfer_leadership(target)
            except ReplogError as error:
                self.notes[f"transfer: {type(error).__name__}"] += 1

    async def _membership(self, episode: Episode, chance: Random) -> None:
        async with self._alone(self._membership_lock):
            if len(self.nodes.ids) > self.nodes.count + 1:
                raise Skipped("there are members that could not be removed yet")
            local = self.nodes.add_spare()
            newcomer = local.node_id
            with self._told(episode, f"{newcomer} joins"):
                added = False
                try:
                    await self.nodes.revive(newcomer)
                    added = await self._change(lambda client: client.change_membership([admin.add_learner(newcomer, local.address)]))
                    added = added and await self._until_voter(newcomer)
                    await asyncio.sleep(episode.seconds / 2)
                finally:
                    leaving = newcomer if not added else self._who_leaves(newcomer, chance)
                    await self.remove(leaving)

    def _who_leaves(self, newcomer: NodeId, chance: Random) -> NodeId:
        draw = chance.random()
        others = [node_id for node_id in self.nodes.ids if node_id != newcomer]
        if draw < 0.4:
            return newcomer
        return self.nodes.leader() or newcomer if draw < 0.7 else chance.choice(others)

    async def _wipe(self, episode: Episode, chance: Random) -> None:
        async with self._alone(self._membership_lock):
            victim = await self._somebody(chance)
            if self.wiped or not self.nodes.may_start(victim):
                raise Skipped("a wiped node is not readmitted yet, or the disk is broken")
            # Until the leader has recorded which directory is a node's, nobody can tell that it has lost it: an operator's mistake, not a fault.
            member = self.nodes.membership_of(await self._leader())["members"].get(victim)
            if not member or not member["incarnation"]:
                raise Skipped(f"the membership does not record the directory of {victim} yet")
            with self._told(episode, self._name(victim)):
                self.kills += self.nodes.is_watched_running(victim)
                self.nodes.wipe(victim)
                self.wiped.add(victim)
                try:
                    await asyncio.sleep(episode.seconds / 2)
                finally:
                    await self.readmit()

    async def readmit(self) -> None:
        """Start the wiped node, if there is one, and have it taken back. It stays wiped when that is not granted in time (and is noted)."""
        for node_id in list(self.wiped):
            await self.nodes.revive(node_id)
            if await self._change(lambda client, node_id=node_id: client.readmit(node_id)):  # type: ignore[misc]  # bound for this round
                self.wiped.discard(node_id)
                self.nodes.say(f"wipe: {node_id} has caught up and votes again")
            else:
                self.notes["wipe: a readmission took too long"] += 1

    async def remove(self, node_id: NodeId) -> None:
        """Take a node out of the membership, then stop it. It stays when that is not granted in time (and is noted)."""
        self.nodes.say(f"membership: {self._name(node_id)} is to leave")
        if await self._change(lambda client: client.change_membership([admin.remove(node_id)]), gone=node_id):
            await self.nodes.forget(node_id)
        else:
            self.notes["membership: a removal was given up"] += 1

    async def _until_voter(self, node_id: NodeId) -> bool:
        """The newcomer holds the log and votes. False: not in time."""
        deadline = asyncio.get_running_loop().time() + _CHANGE_SECONDS_MAX
        while asyncio.get_running_loop().time() < deadline:
            leader = self.nodes.leader()
            if leader is not None and node_id in self.nodes.membership_of(leader)["voters"]:
                self.nodes.say(f"membership: {node_id} has caught up and votes")
                return True
            await asyncio.sleep(0.1)
        self.notes["membership: a newcomer was not promoted in time"] += 1
        return False

    async def _change(self, ask: Callable[[AdminClient], Awaitable[str]], *, gone: NodeId | None = None) -> bool:
        """Ask whoever leads until it is done. `gone`: the change is the removal of this node, which is done as well when it is no member."""
        deadline = asyncio.get_running_loop().time() + _CHANGE_SECONDS_MAX
        while asyncio.get_running_loop().time() < deadline:
            leader = self.nodes.leader()
            if leader is None:
                await asyncio.sleep(0.1)
                continue
            try:
                async with AdminClient(self.nodes.cluster.node(leader).address, timeout=ADMIN_SECONDS_MAX) as client:
                    await ask(client)
            except UnknownNode:
                return gone is not None
            except ReplogError as error:
                self.notes[f"membership: {type(error).__name__}"] += 1
                await asyncio.sleep(0.2)
            else:
                return True
        return False

    def _name(self, node_id: NodeId) -> str:
        return f"{node_id} (leader)" if node_id == self.nodes.leader() else node_id
