"""What the node asks of a transport: send without blocking, and deliver what comes in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from replog.raft.messages import Message
from replog.types import EntryFrames, Index, NodeId

Receive = Callable[[Sequence[Message]], None]
"""Called on the loop with the messages of one batch, in the order the peer sent them; must not block."""
PeerLost = Callable[[NodeId], None]
"""Called when the stream to a peer broke or messages to it were dropped: its progress must be probed again."""
DecodeFrames = Callable[[bytes, Index], EntryFrames]
"""Verify the frames of a batch that starts at an index; raises `MalformedMessage`. Injected: the wire knows no log format."""


class Transport(Protocol):
    """One-way messages between nodes: they may be lost, delayed or repeated; per peer and connection they keep their order."""

    def send(self, messages: Sequence[Message]) -> None:
        """Queue each message for its `target`. Never blocks; drops the oldest append when a peer's outbox is full."""
        ...

    def set_peers(self, addresses: Mapping[NodeId, str]) -> None:
        """The peers (own id excluded) and their advertised addresses from now on; connections to others are closed."""
        ...

    async def start(self, receive: Receive, peer_lost: PeerLost) -> None: ...

    async def stop(self) -> None: ...
