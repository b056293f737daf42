"""The gateway from the wire to the core: every field that comes in is checked here, so that the inside may trust its values.

A rule broken raises `MalformedMessage` with the message's type, the field, what was found and what is allowed; the connection it came on is dropped.
The rules are those that no correct node can break whatever the network does: values in range, terms that fit each other, sizes within the limits.
What depends on the receiver's state (stale terms, unknown senders, gaps to its log) is the core's business.

`source` and `target` are not on the wire: they are those of the stream's handshake.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from google.protobuf.message import DecodeError

from replog.codec import decode_membership
from replog.config import check_name
from replog.errors import ConfigError, MalformedMessage
from replog.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    EntryRange,
    Heartbeat,
    HeartbeatReply,
    Message,
    PreVoteReply,
    PreVoteRequest,
    ReadIndexReply,
    ReadIndexRequest,
    SnapshotChunk,
    SnapshotChunkReply,
    SnapshotFetch,
    SnapshotFetchReply,
    StateDigest,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from replog.rpc import raft_pb2 as pb
from replog.transport.interface import DecodeFrames
from replog.transport.limits import WireLimits
from replog.types import INDEX_MAX, TERM_MAX, EntryFrames, EntryKind, Index, Membership, NodeId, SnapshotMeta, Term

STATE_DIGEST_BYTES: Final = 8
_MEMBERSHIP_KIND: Final = bytes((EntryKind.MEMBERSHIP,))


def parse_envelope(data: bytes) -> pb.Envelope:
    """Raises `MalformedMessage` for bytes that are no envelope."""
    try:
        return pb.Envelope.FromString(data)
    except DecodeError:
        raise MalformedMessage(f"envelope of {len(data)} bytes does not parse as protobuf") from None


def check_peer_name(field: str, value: str) -> NodeId:
    """`value` if it may name a node; raises `MalformedMessage`."""
    try:
        check_name(field, value)
    except ConfigError as error:
        raise MalformedMessage(str(error)) from None
    return value


class Gateway:
    """Turns the messages of one stream into the core's, checking all of them. `source` and `target` are the stream's."""

    def __init__(self, source: NodeId, target: NodeId, limits: WireLimits, decode_frames: DecodeFrames) -> None:
        self.source = source
        self.target = target
        self._limits = limits
        self._decode_frames = decode_frames
        self._decoders: dict[str | None, Callable[[pb.Message, Term], Message]] = {
            "append_entries": self._append_entries,
            "append_entries_reply": self._append_entries_reply,
            "heartbeat": self._heartbeat,
            "heartbeat_reply": self._heartbeat_reply,
            "pre_vote_request": self._pre_vote_request,
            "pre_vote_reply": self._pre_vote_reply,
            "vote_request": self._vote_request,
            "vote_reply": self._vote_reply,
            "timeout_now": self._timeout_now,
            "read_index_request": self._read_index_request,
            "read_index_reply": self._read_index_reply,
            "snapshot_chunk": self._snapshot_chunk,
            "snapshot_chunk_reply": self._snapshot_chunk_reply,
            "snapshot_fetch": self._snapshot_fetch,
            "snapshot_fetch_reply": self._snapshot_fetch_reply,
            "state_digest": self._state_digest,
        }

    def decode(self, data: bytes) -> list[Message]:
        """The messages of one envelope, in order; raises `MalformedMessage` if any of them breaks a rule (then none counts)."""
        envelope = parse_envelope(data)
        if envelope.HasField("hello"):
            raise MalformedMessage(f"hello from {self.source} after the first envelope of its stream")
        if envelope.goes_direct:
            raise MalformedMessage(f"goes_direct from {self.source} beside other content, or where it is direct already")
        decoders = self._decoders
        decoded: list[Message] = []
        for message in envelope.messages:
            kind = message.WhichOneof("content")
            decoder = decoders.get(kind)
            if decoder is None:
                raise MalformedMessage(f"message from {self.source} without a content that is known here")
            term = message.term
            if term > TERM_MAX:
                raise _bad(kind, "term", term, f"at most {TERM_MAX}")
            decoded.append(decoder(message, term))
        return decoded

    # -- one method a type, in the order of the proto file -----------------------------------------------------------------

    def _append_entries(self, message: pb.Message, term: Term) -> AppendEntries:
        kind, append = "append_entries", message.append_entries
        _check_sent_by_leader(kind, term)
        prev_index = _index(kind, "prev_index", append.prev_index)
        prev_term = append.prev_term
        _check_position(kind, "prev", prev_index, prev_term, term)
        committed_index = _index(kind, "committed_index", append.committed_index)
        buffer = append.frames
        entries: EntryRange | None = None
        frames: EntryFrames | None = None
        if buffer:
            if len(buffer) > self._limits.frames_bytes_max:
                raise _bad(kind, "frames", f"{len(buffer)} bytes", f"at most {self._limits.frames_bytes_max}")
            if prev_index == INDEX_MAX:
                raise _bad(kind, "prev_index", prev_index, f"less than {INDEX_MAX} when entries follow")
            frames = self._decode_frames(buffer, prev_index + 1)
            entries = _check_entries(frames, prev_index, prev_term, term)
        return AppendEntries(
            source=self.source,
            target=self.target,
            term=term,
            prev_index=prev_index,
            prev_term=prev_term,
            committed_index=committed_index,
            entries=entries,
            frames=frames,
        )

    def _append_entries_reply(self, message: pb.Message, term: Term) -> AppendEntriesReply:
        kind, reply = "append_entries_reply", message.append_entries_reply
        _check_term(kind, term)
        rejected: Index | None = None
        if reply.HasField("rejected_prev_index"):
            rejected = _index(kind, "rejected_prev_index", reply.rejected_prev_index)
            if reply.hint_index > rejected:
                raise _bad(kind, "hint_index", reply.hint_index, f"at most rejected_prev_index, {rejected}")
        return AppendEntriesReply(
            source=self.source,
            target=self.target,
            term=term,
            match_index=_index(kind, "match_index", reply.match_index),
            rejected_prev_index=rejected,
            hint_index=_index(kind, "hint_index", reply.hint_index),
            hint_term=_term(kind, "hint_term", reply.hint_term),
            last_index=_index(kind, "last_index", reply.last_index),
        )

    def _heartbeat(self, message: pb.Message, term: Term) -> Heartbeat:
        kind, heartbeat = "heartbeat", message.heartbeat
        _check_sent_by_leader(kind, term)
        return Heartbeat(
            source=self.source,
            target=self.target,
            term=term,
            committed_index=_index(kind, "committed_index", heartbeat.committed_index),
            round=_index(kind, "round", heartbeat.round),
        )

    def _heartbeat_reply(self, message: pb.Message, term: Term) -> HeartbeatReply:
        _check_term("heartbeat_reply", term)
        round_ = _index("heartbeat_reply", "round", message.heartbeat_reply.round)
        return HeartbeatReply(source=self.source, target=self.target, term=term, round=round_)

    def _pre_vote_request(self, message: pb.Message, term: Term) -> PreVoteRequest:
        last_index, last_term = _campaign("pre_vote_request", message.pre_vote_request, term)
        return PreVoteRequest(source=self.source, target=self.target, term=term, last_index=last_index, last_term=last_term)

    def _pre_vote_reply(self, message: pb.Message, term: Term) -> PreVoteReply:
        granted, conditional = message.pre_vote_reply.granted, message.pre_vote_reply.conditional
        return PreVoteReply(source=self.source, target=self.target, term=term, granted=granted, conditional=conditional)

    def _vote_request(self, message: pb.Message, term: Term) -> VoteRequest:
        last_index, last_term = _campaign("vote_request", message.vote_request, term)
        transfer = message.vote_request.transfer
        return VoteRequest(source=self.source, target=self.target, term=term, last_index=last_index, last_term=last_term, transfer=transfer)

    def _vote_reply(self, message: pb.Message, term: Term) -> VoteReply:
        _check_term("vote_reply", term)
        granted, conditional = message.vote_reply.granted, message.vote_reply.conditional
        return VoteReply(source=self.source, target=self.target, term=term, granted=granted, conditional=conditional)

    def _timeout_now(self, _message: pb.Message, term: Term) -> TimeoutNow:
        _check_sent_by_leader("timeout_now", term)
        return TimeoutNow(source=self.source, target=self.target, term=term)

    def _read_index_request(self, message: pb.Message, term: Term) -> ReadIndexRequest:
        context = _index("read_index_request", "context", message.read_index_request.context)
        return ReadIndexRequest(source=self.source, target=self.target, term=term, context=context)

    def _read_index_reply(self, message: pb.Message, term: Term) -> ReadIndexReply:
        kind, reply = "read_index_reply", message.read_index_reply
        read_index = _index(kind, "read_index", reply.read_index) if reply.HasField("read_index") else None
        context = _index(kind, "context", reply.context)
        return ReadIndexReply(source=self.source, target=self.target, term=term, context=context, read_index=read_index)

    def _snapshot_chunk(self, message: pb.Message, term: Term) -> SnapshotChunk:
        kind, chunk = "snapshot_chunk", message.snapshot_chunk
        _check_term(kind, term)
        meta = self._meta(kind, chunk.meta, term)
        data, offset, done = chunk.data, chunk.offset, chunk.done
        if len(data) > self._limits.chunk_bytes_max:
            raise _bad(kind, "data", f"{len(data)} bytes", f"at most {self._limits.chunk_bytes_max}")
        end = offset + len(data)
        if end > meta.size_bytes:
            raise _bad(kind, "offset", f"{offset} and {len(data)} bytes", f"an end within the size, {meta.size_bytes}")
        if done != (end == meta.size_bytes):
            raise _bad(kind, "done", f"{done} at {end}", f"true where the body ends, at {meta.size_bytes}, and only there")
        if not data and not done:
            raise _bad(kind, "data", "0 bytes", "at least 1 in every chunk but the last")
        return SnapshotChunk(
            source=self.source,
            target=self.target,
            term=term,
            meta=meta,
            offset=offset,
            data=data,
            checksum=chunk.checksum,
            body_checksum=chunk.body_checksum,
            done=done,
            leader=check_peer_name(f"{kind}.leader", chunk.leader) if chunk.leader else "",
        )

    def _snapshot_chunk_reply(self, message: pb.Message, term: Term) -> SnapshotChunkReply:
        kind, reply = "snapshot_chunk_reply", message.snapshot_chunk_reply
        if len(reply.refused) > self._limits.text_bytes_max:
            raise _bad(kind, "refused", f"{len(reply.refused)} characters", f"at most {self._limits.text_bytes_max}")
        return SnapshotChunkReply(
            source=self.source,
            target=self.target,
            term=term,
            snapshot_index=_index(kind, "snapshot_index", reply.snapshot_index),
            snapshot_term=_term(kind, "snapshot_term", reply.snapshot_term),
            next_offset=_index(kind, "next_offset", reply.next_offset),
            refused=reply.refused,
        )

    def _snapshot_fetch(self, message: pb.Message, term: Term) -> SnapshotFetch:
        kind, fetch = "snapshot_fetch", message.snapshot_fetch
        _check_sent_by_leader(kind, term)
        receiver = check_peer_name(f"{kind}.receiver", fetch.receiver)
        if receiver == self.target:
            raise _bad(kind, "receiver", receiver, "another node than the one that is asked")
        return SnapshotFetch(
            source=self.source,
            target=self.target,
            term=term,
            receiver=receiver,
            snapshot_index=_index(kind, "snapshot_index", fetch.snapshot_index),
            snapshot_term=_term(kind, "snapshot_term", fetch.snapshot_term),
            stop=fetch.stop,
            fresh=fetch.fresh,
        )

    def _state_digest(self, message: pb.Message, term: Term) -> StateDigest:
        kind, told = "state_digest", message.state_digest
        if len(told.digest) != STATE_DIGEST_BYTES:
            raise _bad(kind, "digest", f"{len(told.digest)} bytes", f"{STATE_DIGEST_BYTES} bytes")
        return StateDigest(source=self.source, target=self.target, term=term, index=_index(kind, "index", told.index), digest=told.digest)

    def _snapshot_fetch_reply(self, message: pb.Message, term: Term) -> SnapshotFetchReply:
        kind, reply = "snapshot_fetch_reply", message.snapshot_fetch_reply
        if len(reply.refused) > self._limits.text_bytes_max:
            raise _bad(kind, "refused", f"{len(reply.refused)} characters", f"at most {self._limits.text_bytes_max}")
        return SnapshotFetchReply(
            source=self.source,
            target=self.target,
            term=term,
            receiver=check_peer_name(f"{kind}.receiver", reply.receiver),
            snapshot_index=_index(kind, "snapshot_index", reply.snapshot_index),
            snapshot_term=_term(kind, "snapshot_term", reply.snapshot_term),
            received_bytes=_index(kind, "received_bytes", reply.received_bytes),
            done=reply.done,
            refused=reply.refused,
        )

    def _meta(self, kind: str, meta: pb.SnapshotMeta, term: Term) -> SnapshotMeta:
        index = _index(kind, "meta.index", meta.index)
        if not index:
            raise _bad(kind, "meta.index", index, "at least 1")
        _check_position(kind, "meta", index, meta.term, term)
        if len(meta.membership) > self._limits.membership_bytes_max:
            raise _bad(kind, "meta.membership", f"{len(meta.membership)} bytes", f"at most {self._limits.membership_bytes_max}")
        size_bytes = _index(kind, "meta.size_bytes", meta.size_bytes)
        return SnapshotMeta(index=index, term=meta.term, membership=_membership(kind, meta.membership), size_bytes=size_bytes)


# --- Rules --------------------------------------------------------------------------------------------------------------


def _bad(kind: str | None, field: str, found: object, allowed: str) -> MalformedMessage:
    return MalformedMessage(f"{kind}: {field}: found {found}, allowed: {allowed}")


def _index(kind: str, field: str, value: int) -> Index:
    if value > INDEX_MAX:
        raise _bad(kind, field, value, f"at most {INDEX_MAX}")
    return value


def _term(kind: str, field: str, value: int) -> Term:
    if value > TERM_MAX:
        raise _bad(kind, field, value, f"at most {TERM_MAX}")
    return value


def _check_term(kind: str, term: Term) -> None:
    """What is sent in or after an election has a term; only what a node says before its first one may have 0."""
    if not term:
        raise _bad(kind, "term", term, "at least 1")


_check_sent_by_leader = _check_term


def _check_position(kind: str, name: str, index: Index, position_term: Term, term: Term) -> None:
    """A position of a log: index and term are both 0 or both not, and no entry is newer than the message that tells of it."""
    if (index == 0) != (position_term == 0):
        raise _bad(kind, f"{name}_term", position_term, f"0 just where {name}_index is 0; it is {index}")
    if position_term > term:
        raise _bad(kind, f"{name}_term", position_term, f"at most the message's term, {term}")


def _campaign(kind: str, campaign: pb.Campaign, term: Term) -> tuple[Index, Term]:
    _check_term(kind, term)
    last_index = _index(kind, "last_index", campaign.last_index)
    _check_position(kind, "last", last_index, campaign.last_term, term)
    return last_index, campaign.last_term


def _check_entries(frames: EntryFrames, prev_index: Index, prev_term: Term, term: Term) -> EntryRange:
    """Verified frames against the message around them. Between the entries, `decode_frames` has checked index and term already."""
    kind, terms = "append_entries", frames.terms
    if not frames.kinds:
        raise _bad(kind, "frames", "no entry", "at least one")
    assert frames.first_index == prev_index + 1
    if frames.last_index > INDEX_MAX:
        raise _bad(kind, "frames", f"an entry {frames.last_index}", f"at most {INDEX_MAX}")
    if terms[0][1] < max(prev_term, 1):
        raise _bad(kind, "frames", f"entry {terms[0][0]} of term {terms[0][1]}", f"at least prev_term, {prev_term}, and 1")
    if terms[-1][1] > term:
        raise _bad(kind, "frames", f"entry {terms[-1][0]} of term {terms[-1][1]}", f"at most the message's term, {term}")
    return EntryRange(
        first_index=frames.first_index,
        last_index=frames.last_index,
        terms=terms,
        size_bytes=len(frames.buffer),
        memberships=_memberships(frames.kinds, frames.payloads, frames.first_index),
    )


def _memberships(kinds: bytes, payloads: Sequence[bytes], first_index: Index) -> tuple[tuple[Index, Membership], ...]:
    """The membership entries of a batch; nearly always none, found by one scan."""
    position = kinds.find(_MEMBERSHIP_KIND)
    if position < 0:
        return ()
    found = []
    while position >= 0:
        found.append((first_index + position, _membership("append_entries", payloads[position])))
        position = kinds.find(_MEMBERSHIP_KIND, position + 1)
    return tuple(found)


def _membership(kind: str, payload: bytes) -> Membership:
    """A membership that holds together: every node has a name, an address and one role."""
    membership = decode_membership(payload)
    for node, member in membership.members.items():
        check_peer_name(f"{kind}: membership.members", node)
        if not 0 <= member.incarnation < 2**64:
            raise _bad(kind, f"membership.members.{node}", f"incarnation {member.incarnation}", "0 to 2^64 - 1")
    if missing := [node for node in membership.nodes if node not in membership.members]:
        raise _bad(kind, "membership.members", f"nothing of {missing[0]!r}", "every voter and learner")
    if both := membership.all_voters.intersection(membership.learners):
        raise _bad(kind, "membership.learners", f"{min(both)!r}, a voter", "nodes that do not vote")
    return membership
