"""What waits for one peer: bounded in bytes, oldest append dropped first.

An append can be made again from the log, so it is what gives way; votes, acknowledgements and heartbeats are small and stay. Only where nothing but them is
left does the oldest of all go. Whoever queues learns that something was dropped and reports the peer as lost: its progress is probed again.
"""

from __future__ import annotations

from collections import deque

from replog.raft.messages import AppendEntries, Message
from replog.transport.encode import size_of


class Outbox:
    """Messages for one peer, in order. Invariant: `size_bytes` is the sum of their sizes and at most the limit, one message alone apart."""

    __slots__ = ("_messages", "dropped", "size_bytes")

    def __init__(self) -> None:
        self._messages: deque[tuple[Message, int]] = deque()
        self.size_bytes = 0
        self.dropped = 0
        """Messages dropped since the start."""

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, message: Message) -> None:
        """Queue `message`; `bound` holds the queue to its limits."""
        size = size_of(message)
        self._messages.append((message, size))
        self.size_bytes += size

    def bound(self, bytes_max: int, messages_max: int | None = None) -> bool:
        """Drop until both limits hold, the newest message always staying. True when something was dropped."""
        messages = self._messages
        dropped = False
        while len(messages) > 1 and (self.size_bytes > bytes_max or (messages_max is not None and len(messages) > messages_max)):
            self._drop_one()
            dropped = True
        return dropped

    def _drop_one(self) -> None:
        messages = self._messages
        position = 0
        for at, (message, _) in enumerate(messages):
            if at == len(messages) - 1:
                break
            if type(message) is AppendEntries and message.entries is not None:
                position = at
                break
        self.size_bytes -= messages[position][1]
        del messages[position]
        self.dropped += 1

    def take(self, bytes_target: int) -> list[Message]:
        """The oldest messages, at least one if there is any, until they reach `bytes_target`."""
        messages = self._messages
        if self.size_bytes < bytes_target:
            taken = [message for message, _ in messages]
            messages.clear()
            self.size_bytes = 0
            return taken
        taken, total = [], 0
        while messages and total < bytes_target:
            message, size = messages.popleft()
            taken.append(message)
            total += size
        self.size_bytes -= total
        return taken

    def clear(self) -> int:
        """Drop everything; returns how many messages that were."""
        count = len(self._messages)
        self._messages.clear()
        self.size_bytes = 0
        self.dropped += count
        return count
