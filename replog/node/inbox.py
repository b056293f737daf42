"""What waits for the owner: filled by the transport, the services and the application, drained whole once a turn.

While the owner syncs, the inbox fills; the next turn writes all of that with one sync. That is the group commit: no timer needed.
All calls are on the loop, so there is nothing to lock.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from replog.errors import Busy
from replog.node.effects import Inputs, Ticket


class Inbox:
    """Bounded in proposals: above `proposals_max` a caller waits in `room`; a turn takes at most `turn_bytes_max` bytes of them."""

    def __init__(self, *, proposals_max: int, turn_bytes_max: int) -> None:
        self.inputs = Inputs()
        """What the next turn takes. Adding to its lists is followed by `wake`."""
        self._proposals_max = proposals_max
        self.turn_bytes_max = turn_bytes_max
        """The owner may lower it where the disk is slow."""
        self._grouped = 0
        self._waiter: asyncio.Future[None] | None = None
        self._room: deque[asyncio.Future[None]] = deque()

    # -- for those who fill it ----------------------------------------------------------------------------------------

    @property
    def is_full(self) -> bool:
        return len(self.inputs.payloads) + self._grouped >= self._proposals_max

    def check_room(self) -> None:
        """Raises `Busy` when the inbox is full, for those who cannot wait."""
        if self.is_full:
            raise Busy("proposals waiting for the owner", len(self.inputs.payloads) + self._grouped, self._proposals_max)

    async def room(self) -> None:
        """Wait until the owner has taken some proposals."""
        while self.is_full:
            waiter = asyncio.get_running_loop().create_future()
            self._room.append(waiter)
            await waiter

    def add_group(self, payloads: Sequence[bytes], ticket: Ticket) -> None:
        self.inputs.groups.append((payloads, ticket))
        self._grouped += len(payloads)
        self.wake()

    def wake(self) -> None:
        """The owner has something to do."""
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    # -- for the owner -------------------------------------------------------------------------------------------------

    async def wait(self) -> None:
        """Until something is there."""
        if not self.inputs:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def drain(self) -> Inputs:
        """Everything that is there, but of proposals only as many as fit a turn; the rest stays, in order."""
        taken = self.inputs
        rest = Inputs()
        if taken.payloads and sum(map(len, taken.payloads)) > self.turn_bytes_max:
            count = _fitting([len(payload) for payload in taken.payloads], self.turn_bytes_max)
            rest.payloads, rest.tickets = taken.payloads[count:], taken.tickets[count:]
            del taken.payloads[count:], taken.tickets[count:]
        if len(taken.groups) > 1:
            count = _fitting([sum(map(len, payloads)) for payloads, _ in taken.groups], self.turn_bytes_max)
            rest.groups = taken.groups[count:]
            del taken.groups[count:]
        self.inputs = rest
        self._grouped = sum(len(payloads) for payloads, _ in rest.groups)
        while self._room and not self.is_full:
            # Everybody who waits looks again: whoever finds it full once more waits behind the others.
            waiters, self._room = self._room, deque()
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)
        return taken

    def take_requests(self) -> Inputs:
        """Everything that has a ticket; its tickets must be failed. Messages and ticks stay. Those who wait for room go on."""
        taken = self.close()
        stays = self.inputs
        stays.messages, stays.peers_lost, stays.snapshots_done = taken.messages, taken.peers_lost, taken.snapshots_done
        stays.ticks, stays.now_ticks = taken.ticks, taken.now_ticks
        return taken

    def close(self) -> Inputs:
        """What was never taken; its tickets must be failed. Those who wait for room go on (and find the node stopped)."""
        taken, self.inputs = self.inputs, Inputs()
        self._grouped = 0
        for waiter in self._room:
            if not waiter.done():
                waiter.set_result(None)
        self._room.clear()
        return taken


def _fitting(sizes: list[int], bytes_max: int) -> int:
    """How many of `sizes`, from the front, sum up to at most `bytes_max`; at least one."""
    total = 0
    for count, size in enumerate(sizes):
        total += size
        if total > bytes_max and count:
            return count
    return len(sizes)
