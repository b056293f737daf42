"""Configuration, split by who must agree: `ClusterConfig` is the same on every node, `NodeConfig` may differ.

Both are frozen and validated once, at construction; a wrong value raises `ConfigError` naming field, value and what is allowed. Every field
says its unit, default and reason. `TEST_MIN` makes rare paths common.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from replog.errors import ConfigError
from replog.types import NodeId

KIB: Final = 1024
MIB: Final = 1024 * KIB

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NAME_ALLOWED = "1 to 64 characters of A-Z a-z 0-9 . _ -"
_LENGTH_ENCODINGS = ("uint16", "uint32", "uint64", "uvarint")
_CHECKSUM_TYPES = ("crc32", "crc64")
_SYNC_MODES = ("adaptive", "inline", "thread")
VOTERS_MAX: Final = 7


def check_name(field_name: str, value: str) -> None:
    """Raise `ConfigError` unless `value` may name a node or a cluster."""
    if not _NAME.fullmatch(value):
        raise ConfigError(field_name, value, _NAME_ALLOWED)


def check_address(field_name: str, value: str) -> None:
    """Raise `ConfigError` unless `value` is ``host:port`` (``[v6]:port`` for IPv6), port 0 to 65535 (0: any free one)."""
    host, separator, port = value.rpartition(":")
    if not separator or not host or not port.isdigit() or int(port) > 65535:
        raise ConfigError(field_name, value, "host:port with a port from 0 to 65535")


def check_range(field_name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(field_name, value, f"a number from {low} to {high}")


def check_choice(field_name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(field_name, value, "one of " + ", ".join(choices))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """What all nodes of a cluster must agree on; its `fingerprint` travels in the transport's handshake."""

    cluster_id: str = "replog"
    """Name of the cluster; a node or client of another cluster is refused."""
    initial_members: Mapping[NodeId, str] = field(default_factory=dict)
    """Advertised ``host:port`` by node, of the first membership; the same on each of these nodes. Empty on a node that joins later."""
    length_encoding: str = "uint32"
    """How the log writes an entry's length: uint16, uint32, uint64 or uvarint."""
    checksum_type: str = "crc32"
    """Checksum of a log entry: crc32 (IEEE) or crc64 (GO-ISO)."""
    entry_bytes_max: int = 8 * MIB
    """Largest payload of one proposal, bytes. 8 MiB: a larger one would hold up every heartbeat behind it."""
    tick_ms: int = 20
    """Length of a tick, ms. All times of the protocol are counted in ticks."""
    heartbeat_ticks: int = 5
    """Ticks between heartbeats (100 ms): well below the election timeout, above the noise of a busy machine."""
    election_timeout_ticks_min: int = 50
    """Least election timeout, ticks (1 s). A follower that heard its leader less than this ago refuses to vote (leader stickiness)."""
    election_timeout_ticks_max: int = 100
    """Largest election timeout, ticks (2 s); the draw between both parts the candidates (paper 5.2)."""
    lease_drift_percent: int = 10
    """Bound on how much faster one node's clock may run than another's, percent; a lease is shortened by it."""

    state_digest_entries: int = 4096
    """Entries between two comparisons of the nodes' applied states; a node whose state differs from the majority's heals itself. 0: never."""

    def __post_init__(self) -> None:
        check_name("cluster_id", self.cluster_id)
        for node, address in self.initial_members.items():
            check_name("initial_members", node)
            check_address(f"initial_members.{node}", address)
        if len(self.initial_members) > VOTERS_MAX:
            raise ConfigError("initial_members", len(self.initial_members), f"at most {VOTERS_MAX} voters")
        if len(set(self.initial_members.values())) != len(self.initial_members):
            raise ConfigError("initial_members", dict(self.initial_members), "a different address for each node")
        check_choice("length_encoding", self.length_encoding, _LENGTH_ENCODINGS)
        check_choice("checksum_type", self.checksum_type, _CHECKSUM_TYPES)
        entry_limit = 32 * KIB if self.length_encoding == "uint16" else 64 * MIB
        check_range("entry_bytes_max", self.entry_bytes_max, 1, entry_limit)
        check_range("tick_ms", self.tick_ms, 1, 10_000)
        check_range("heartbeat_ticks", self.heartbeat_ticks, 1, 1_000)
        check_range("election_timeout_ticks_min", self.election_timeout_ticks_min, 2 * self.heartbeat_ticks, 100_000)
        check_range("election_timeout_ticks_max", self.election_timeout_ticks_max, self.election_timeout_ticks_min + 1, 200_000)
        check_range("lease_drift_percent", self.lease_drift_percent, 0, 90)
        check_range("state_digest_entries", self.state_digest_entries, 0, 2**31)

    def fingerprint(self) -> str:
        """16 hexadecimal digits over all that must agree, `initial_members` apart (a node that joins later has none)."""
        agreed = [
            self.cluster_id,
            self.length_encoding,
            self.checksum_type,
            self.entry_bytes_max,
            self.tick_ms,
            self.heartbeat_ticks,
            self.election_timeout_ticks_min,
            self.election_timeout_ticks_max,
            self.lease_drift_percent,
            self.state_digest_entries,
        ]
        return hashlib.sha256(repr(agreed).encode()).hexdigest()[:16]

    def members_fingerprint(self) -> str:
        """16 hexadecimal digits over `initial_members`; empty for a node that joins. Two non-empty ones must be equal."""
        if not self.initial_members:
            return ""
        return hashlib.sha256(repr(sorted(self.initial_members.items())).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """What belongs to one node."""

    node_id: NodeId
    data_dir: str
    """Directory of this node alone; made if it is not there."""
    bind_address: str = "127.0.0.1:0"
    """``host:port`` the gRPC server listens on; port 0 takes a free one."""
    advertise_address: str = ""
    """``host:port`` at which others reach it; empty: the bind address. Resolved by the others at each connect."""
    direct_port: int = 0
    """Port, beside that of `bind_address`, on which peers stream to this node over plain TCP once gRPC has introduced them (`replog.transport.direct`): a lone
    command is acknowledged in two thirds of the time. 0: any free one, told to the peers; -1: none. Peers that cannot reach it go on over gRPC."""
    http_address: str = ""
    """``host:port`` for /metrics, /livez and /readyz; empty: no HTTP."""
    segment_bytes_max: int = 64 * MIB
    """The log rolls over to a new segment at this size, bytes."""
    preallocate: bool = True
    """Reserve a segment's blocks when it is made, so that a sync commits no allocation and the disk cannot fill up in the middle."""
    sync_mode: str = "adaptive"
    """Where the data sync runs: inline on the loop, in a thread, or adaptive (by its measured time and the load)."""
    snapshot_entries: int = 1_000_000
    """A snapshot is taken after so many entries applied since the last one; 0: never by count."""
    snapshot_bytes: int = 256 * MIB
    """... or after so many bytes of log since the last one; 0: never by bytes."""
    snapshots_retained: int = 2
    """Snapshots kept; the second is the way back if the newest does not verify."""
    log_tail_entries: int = 100_000
    """Entries kept behind a snapshot for slow followers, so that they need no snapshot."""
    cache_bytes: int = 64 * MIB
    """Newest entries kept in memory for sending and applying; older ones are read from the segments."""
    append_bytes_max: int = MIB
    """Most bytes of entries in one AppendEntries; less where the measured way and disk take no more (`replog.node.send_window`)."""
    append_entries_max: int = 32_768
    """Most entries in one AppendEntries."""
    in_flight_messages_max: int = 64
    """Appends to one follower without an answer."""
    in_flight_bytes_max: int = 32 * MIB
    """... and their bytes; less, as measured."""
    uncommitted_bytes_max: int = 64 * MIB
    """Proposed but not committed bytes above which a proposal raises `Busy`."""
    unapplied_entries_max: int = 1_000_000
    """Committed but not applied entries above which a proposal raises `Busy`."""
    inbox_proposals_max: int = 65_536
    """Proposals waiting for the owner; above it a caller waits."""
    turn_bytes_max: int = 8 * MIB
    """Most bytes of proposals taken into one turn; less where the measured sync is slow (`replog.node.turn_size`)."""
    reads_waiting_max: int = 65_536
    """Reads waiting for their index; above it `Busy`."""
    outbox_bytes_max: int = 64 * MIB
    """Bytes queued for one peer; above it the oldest append is dropped (the peer is probed again)."""
    snapshot_chunk_bytes: int = 512 * KIB
    """Size of a snapshot chunk on the wire."""
    snapshot_chunks_in_flight: int = 8
    """Chunks sent to one receiver without an answer: bounds the sender's memory."""
    snapshot_bytes_per_second: int = 0
    """Throttle of snapshot sending, bytes/s; 0: none."""
    promote_lag_entries: int = 1_000
    """A learner this close to the leader's end counts as caught up and may be promoted by itself."""
    auto_promote: bool = True
    """As the leader: make a learner that has caught up a voter, unless it was added (or demoted) to stay a learner. False: learners wait for `promote`."""
    snapshot_from_follower: bool = True
    """As the leader: have a follower that is in step send its snapshot to a node that needs one, so that the leader's disk and network stay free.
    The leader sends its own when no follower can, or when that one stops getting anywhere."""

    def __post_init__(self) -> None:
        check_name("node_id", self.node_id)
        if not self.data_dir:
            raise ConfigError("data_dir", self.data_dir, "a path")
        check_address("bind_address", self.bind_address)
        if self.advertise_address:
            check_address("advertise_address", self.advertise_address)
        if self.http_address:
            check_address("http_address", self.http_address)
        check_range("direct_port", self.direct_port, -1, 65535)
        check_choice("sync_mode", self.sync_mode, _SYNC_MODES)
        check_range("segment_bytes_max", self.segment_bytes_max, 4 * KIB, 16 * 1024 * MIB)
        check_range("snapshots_retained", self.snapshots_retained, 1, 100)
        for name in ("snapshot_entries", "snapshot_bytes", "log_tail_entries", "promote_lag_entries", "snapshot_bytes_per_second"):
            check_range(name, getattr(self, name), 0, 2**53)
        for name in (
            "cache_bytes",
            "append_bytes_max",
            "append_entries_max",
            "in_flight_messages_max",
            "in_flight_bytes_max",
            "uncommitted_bytes_max",
            "unapplied_entries_max",
            "inbox_proposals_max",
            "turn_bytes_max",
            "reads_waiting_max",
            "outbox_bytes_max",
            "snapshot_chunk_bytes",
            "snapshot_chunks_in_flight",
        ):
            check_range(name, getattr(self, name), 1, 2**40)

    @property
    def advertised(self) -> str:
        return self.advertise_address or self.bind_address


TEST_MIN: Final[Mapping[str, int]] = {
    "segment_bytes_max": 4 * KIB,
    "snapshot_entries": 50,
    "snapshot_bytes": 0,
    "log_tail_entries": 10,
    "cache_bytes": 2 * KIB,
    "append_bytes_max": KIB,
    "append_entries_max": 8,
    "in_flight_messages_max": 3,
    "in_flight_bytes_max": 4 * KIB,
    "turn_bytes_max": 2 * KIB,
    "snapshot_chunk_bytes": 64,
    "snapshot_chunks_in_flight": 2,
    "promote_lag_entries": 5,
}
"""Values for `NodeConfig` (``NodeConfig(..., **TEST_MIN)``) that reach rollover, compaction, snapshots and every window within a few dozen entries."""
