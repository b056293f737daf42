"""How large a thing on the wire may be: the same on all nodes, because it follows from `ClusterConfig` alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from replog.config import KIB, MIB, ClusterConfig, NodeConfig, check_range

ENVELOPE_BYTES_TARGET: Final = 2 * MIB
"""Messages are put together until they reach this: enough to pay for a gRPC message, little enough for the heartbeat behind it."""
STREAMS_INBOUND_MAX: Final = 64
"""Peers' streams open at a time; more are refused, so that strangers cannot pile them up."""
OUTBOX_UNCONNECTED_BYTES_MAX: Final = MIB
OUTBOX_UNCONNECTED_MESSAGES_MAX: Final = 64
"""What waits for a peer that is not connected: a vote request, not a backlog."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WireLimits:
    """Made by `of`; what comes in is held to it, and what goes out fits by configuration."""

    frames_bytes_max: int
    """Frames of one AppendEntries, bytes."""
    chunk_bytes_max: int
    """Body bytes of one SnapshotChunk."""
    membership_bytes_max: int = 64 * KIB
    text_bytes_max: int = KIB

    @classmethod
    def of(cls, cluster: ClusterConfig) -> Self:
        most = max(16 * MIB, cluster.entry_bytes_max + 4 * KIB)
        return cls(frames_bytes_max=most, chunk_bytes_max=most)

    @property
    def envelope_bytes_max(self) -> int:
        """gRPC's limit on one message: a full envelope and the message that overshot it."""
        return ENVELOPE_BYTES_TARGET + max(self.frames_bytes_max, self.chunk_bytes_max) + 128 * KIB

    def check(self, node: NodeConfig) -> None:
        """Raise `ConfigError` when this node would send what the others refuse."""
        check_range("append_bytes_max", node.append_bytes_max, 1, self.frames_bytes_max)
        check_range("snapshot_chunk_bytes", node.snapshot_chunk_bytes, 1, self.chunk_bytes_max)
