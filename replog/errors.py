"""Every error of replog, grouped by who must act (each docstring ends with what to do).

::

    ReplogError
      TryElsewhere      NotLeader
      TryLater          Busy, Unavailable, DeadlineExceeded
      OutcomeUnknown
      CallerError       ConfigError, ProposalTooLarge, MembershipRefused, UnknownNode, CommandFailed, ...
      PeerError         MalformedMessage, PeerRefused
      OperatorError     StorageError: WalError (WalDamaged ...), DiskFull, DirectoryLocked, IdentityMismatch, ...
      Stopped           NodeStopped

Layers add their own leaves here, so that one file shows what can go wrong. A message names the file, field, value and limit.
"""

from __future__ import annotations


class ReplogError(Exception):
    """Root of all errors that replog raises on purpose."""


# --- Go elsewhere, wait, or find out ----------------------------------------------------------------------------------


class TryElsewhere(ReplogError):
    """Another node can do it. Nothing was done here; send it there."""


class NotLeader(TryElsewhere):
    """The node is not the leader and the proposal was never appended. Send it to `leader` (None: not known now)."""

    def __init__(self, leader: str | None = None, address: str | None = None) -> None:
        self.leader = leader
        self.address = address
        where = f"; the leader is {leader} at {address}" if leader else "; no leader is known now"
        super().__init__(f"not the leader{where}")


class TryLater(ReplogError):
    """Nothing was done. The same call may succeed later; wait before it is tried again."""


class Busy(TryLater):
    """A limit on work in progress is reached, nothing was appended. Wait, or send less at once."""

    def __init__(self, what: str, value: int, limit: int) -> None:
        self.what, self.value, self.limit = what, value, limit
        super().__init__(f"busy: {what} is {value}, the limit is {limit}; nothing was appended, try again later")


class Unavailable(TryLater):
    """No leader could be reached in time and nothing was appended. Try again, or look at the cluster's health."""


class DeadlineExceeded(TryLater):
    """The deadline passed before anything was sent or appended. Safe to try again."""


class OutcomeUnknown(ReplogError):
    """The command may or may not be committed (leadership or connection lost after it was sent).

    Retry only what is idempotent, or with a session; otherwise read to find out.
    """


# --- The caller's fault -----------------------------------------------------------------------------------------------


class CallerError(ReplogError):
    """The request can never succeed as it is. Correct it."""


class ConfigError(CallerError):
    """A configuration field has a value that is not allowed. Correct the field named in the message."""

    def __init__(self, field: str, value: object, allowed: str) -> None:
        self.field, self.value, self.allowed = field, value, allowed
        super().__init__(f"{field}: found {value!r}, allowed: {allowed}")


class ProposalTooLarge(CallerError):
    """The proposal is over `max_entry_bytes`; refused before it was framed. Split it, or raise the limit on all nodes."""

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        self.size_bytes, self.limit_bytes = size_bytes, limit_bytes
        super().__init__(f"proposal of {size_bytes} bytes; the limit is {limit_bytes} bytes (max_entry_bytes)")


class WalEntryTooLarge(CallerError):
    """The entry is over `entry_bytes_max` or what the log's length encoding can say; nothing was written. Split it, or use another encoding."""

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        self.size_bytes, self.limit_bytes = size_bytes, limit_bytes
        super().__init__(f"entry of {size_bytes} bytes; the limit of this log is {limit_bytes} bytes")


class MembershipRefused(CallerError):
    """The change of membership is not allowed now (the message says why and what would be). Change it, or wait."""


class MembershipChangePending(MembershipRefused):
    """Another change is not committed yet, or the leader is new. Wait a moment: the same call will be taken."""


class UnknownNode(CallerError):
    """The node named is not in the membership. Use one of those named in the message."""

    def __init__(self, node: str, known: tuple[str, ...]) -> None:
        self.node, self.known = node, known
        super().__init__(f"unknown node {node!r}; the members are {', '.join(known) or '(none)'}")


class CommandFailed(CallerError):
    """The state machine raised while it applied this command; it is committed, on every node with this result.

    The log went on. Correct the command.
    """

    def __init__(self, kind: str, message: str) -> None:
        self.kind, self.detail = kind, message
        super().__init__(f"{kind}: {message}")


class QueryFailed(CallerError):
    """The state machine raised while it answered this query (nothing was changed). Correct the query."""

    def __init__(self, kind: str, message: str) -> None:
        self.kind, self.detail = kind, message
        super().__init__(f"{kind}: {message}")


# --- A peer's fault ---------------------------------------------------------------------------------------------------


class PeerError(ReplogError):
    """A peer sent what it must not. Drop its connection; look at that peer."""


class MalformedMessage(PeerError):
    """A message from the network breaks a rule of its type. Drop the peer's connection and count it."""


class PeerRefused(PeerError):
    """The handshake failed: other cluster, configuration, name or incarnation, both values named. Correct one side's config."""


# --- The operator must act --------------------------------------------------------------------------------------------


class OperatorError(ReplogError):
    """The machine, disk or installation needs a person. The message says where."""


class PortTaken(OperatorError):
    """The address cannot be bound because another process listens there. Stop it, or configure another address."""

    def __init__(self, address: str, reason: str) -> None:
        self.address = address
        super().__init__(f"cannot listen on {address}: {reason}; stop what listens there or configure another address")


class StorageError(OperatorError):
    """The data directory or its disk cannot be used."""


class DirectoryLocked(StorageError):
    """Another process has the directory open. Stop it, or use another directory."""

    def __init__(self, path: str, pid: int | None) -> None:
        self.path, self.pid = path, pid
        holder = f"process {pid}" if pid is not None else "another process"
        super().__init__(f"{path}: locked by {holder}")


class DirectoryExposed(StorageError):
    """Another user could change what this node has promised. Give the directory to the node's user alone: ``chown``, ``chmod go-w``."""

    def __init__(self, path: str, exposure: str) -> None:
        self.path, self.exposure = path, exposure
        super().__init__(f"{path}: {exposure}; a data directory must be writable for the node's own user alone (chown, chmod go-w)")


class IdentityMismatch(StorageError):
    """The directory belongs to another node or cluster, both values named. Point the node at its own directory."""

    def __init__(self, path: str, field: str, found: object, expected: object) -> None:
        self.path, self.field, self.found, self.expected = path, field, found, expected
        super().__init__(f"{path}: {field} is {found!r} in this directory, but the configuration says {expected!r}")


class HardStateDamaged(StorageError):
    """The file with term and vote is missing, does not verify, or is older than the log. Wipe the directory and let the node rejoin as a learner."""


class CommittedEntriesLost(StorageError):
    """The log ends before what the node has vouched for. Restore the directory, or wipe it and let the node rejoin as a learner."""


class DiskFull(StorageError):
    """No room for the write; nothing was acknowledged and what was written before stays readable. Make room, then reopen."""


class StorageFailed(StorageError):
    """A write or sync failed. Final for the open log: nothing is retried on that file. Look at the disk, then restart the node."""


class SnapshotDamaged(StorageError):
    """A snapshot file does not verify. An older one is used if there is one; else restore it, or let the node rejoin."""


class WalError(StorageError):
    """Root of the log's own errors."""


class WalLocked(WalError, DirectoryLocked):
    """Another process has the log open for writing. Stop it; a `Reader` needs no lock."""


class WalClosed(WalError):
    """The log was closed, or a failed write or sync closed it for good. Open it again: that reads the disk afresh."""


class WalFailed(WalError, StorageFailed):
    """A write or sync of the log failed; every waiter and later call gets this. Look at the disk, then open the log again."""


class WalDamaged(WalError):
    """The log has bytes that no interrupted write explains. `replog wal verify` shows them; restore, or `replog wal repair`.

    `segment` is the file's path, `offset` the byte in it, `sequence` the first sequence number that cannot be read (None: not known).
    """

    def __init__(self, segment: str, offset: int, sequence: int | None, reason: str) -> None:
        self.segment, self.offset, self.sequence, self.reason = segment, offset, sequence, reason
        super().__init__(f"{segment}: offset {offset}, sequence {sequence}: {reason}")


class WalEntryDamaged(WalDamaged):
    """An entry does not match its checksum, and no lost sector explains it. Restore, or `replog wal repair`."""


class WalLengthDamaged(WalDamaged):
    """The length of an entry is over the limit or no number, or only it is wrong. Raise `entry_bytes_max` if it is right; else restore."""


class WalSegmentShort(WalDamaged):
    """A segment that is not the last one ends inside an entry. Restore, or `replog wal repair`."""


class WalTrailingBytes(WalDamaged):
    """A segment that is not the last one has bytes behind its last entry. Restore, or `replog wal repair`."""


class WalSegmentGap(WalDamaged):
    """Sequence numbers are missing between two segments. Restore the missing segment, or `replog wal repair`."""


class WalSegmentOverlap(WalDamaged):
    """A segment begins before the one in front of it ends. Remove the one that does not belong, or `replog wal repair`."""


class WalHeaderDamaged(WalDamaged):
    """The header of a segment is missing, has another magic, or another first sequence than the file's name. Restore."""


class WalFormatUnknown(WalDamaged):
    """The header names a version, length encoding or checksum type that this program does not know. Use a newer program, or restore."""


class WalEntriesLost(WalDamaged):
    """The log ends (or begins) before what the caller vouched for; nothing was changed. Restore the directory."""


class WalMissing(WalError):
    """There is no log in the directory. Create one, or correct the path."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        super().__init__(f"{directory}: no log here")


class WalExists(WalError):
    """There is a log in the directory already; nothing was changed. Open it, or use another directory."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        super().__init__(f"{directory}: there is a log here already")


class WalSequenceUnknown(WalError):
    """The sequence number asked for is not in the log: not yet, or no longer. Ask for one between the two named (or wait)."""

    def __init__(self, sequence: int, first: int, next_sequence: int) -> None:
        self.sequence, self.first, self.next_sequence = sequence, first, next_sequence
        held = (
            f"the log holds {first} to {next_sequence - 1}" if next_sequence > first else f"the log is empty, its next is {next_sequence}"
        )
        super().__init__(f"sequence {sequence}: {held}")


class WalDiscarded(WalError):
    """Entries that this reader has returned were cut off by the writer since. Make a new reader at a sequence that is still there."""

    def __init__(self, segment: str, sequence: int) -> None:
        self.segment, self.sequence = segment, sequence
        super().__init__(f"{segment}: sequence {sequence} was read and is no longer there")


class WalAppendDiscarded(WalError):
    """The entry was written and then cut off (`truncate_behind`, `reset`) while its append waited for a sync. Append it again if that was not meant."""

    def __init__(self, sequence: int, next_sequence: int) -> None:
        self.sequence, self.next_sequence = sequence, next_sequence
        super().__init__(f"sequence {sequence} was cut off before it was synced; the log now ends before {next_sequence}")


# --- The node is going or gone ----------------------------------------------------------------------------------------


class NodeStopped(ReplogError):
    """The node is stopping or has failed (the cause is chained). Use another node, or start it again."""
