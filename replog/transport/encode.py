"""From the core's messages to the bytes of an envelope; the way back is `replog.transport.convert`.

`source` and `target` are not on the wire: they are those of the stream's handshake. An `InstallSnapshot` never travels as one message: the edge
streams it as chunks, and the receiver's edge makes it anew once the body has verified.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, assert_never

from replog.codec import encode_membership
from replog.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
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
from replog.types import EntryFrames, SnapshotMeta

_MESSAGE_OVERHEAD_BYTES: Final = 64
_REFUSED_CHARACTERS_MAX: Final = 256


def size_of(message: Message) -> int:
    """Bytes that `message` will roughly take on the wire and takes in an outbox."""
    if type(message) is AppendEntries:
        return _MESSAGE_OVERHEAD_BYTES + (message.entries.size_bytes if message.entries is not None else 0)
    if type(message) is SnapshotChunk:
        return _MESSAGE_OVERHEAD_BYTES + len(message.data)
    return _MESSAGE_OVERHEAD_BYTES


def encode_envelope(messages: Iterable[Message]) -> bytes:
    """The bytes of one envelope. Frames are copied as they are, never looked into."""
    envelope = pb.Envelope()
    add = envelope.messages.add
    for message in messages:
        encode_message(message, add())
    return envelope.SerializeToString()


def encode_message(message: Message, into: pb.Message, *, with_frames: bool = True) -> None:
    """Fill the empty `into`; the frames of an append may be left to the caller."""
    into.term = message.term
    match message:
        case AppendEntries():
            append = into.append_entries
            append.prev_index = message.prev_index
            append.prev_term = message.prev_term
            append.committed_index = message.committed_index
            if message.entries is not None and with_frames:
                frames = message.frames
                assert isinstance(frames, EntryFrames), "the frames of an AppendEntries are attached before it is sent"
                assert frames.first_index == message.prev_index + 1
                append.frames = frames.buffer
        case AppendEntriesReply():
            reply = into.append_entries_reply
            reply.match_index = message.match_index
            if message.rejected_prev_index is not None:
                reply.rejected_prev_index = message.rejected_prev_index
                reply.hint_index = message.hint_index
                reply.hint_term = message.hint_term
            reply.last_index = message.last_index
        case Heartbeat():
            into.heartbeat.SetInParent()
            into.heartbeat.committed_index = message.committed_index
            into.heartbeat.round = message.round
        case HeartbeatReply():
            into.heartbeat_reply.SetInParent()
            into.heartbeat_reply.round = message.round
        case PreVoteRequest():
            into.pre_vote_request.SetInParent()
            into.pre_vote_request.last_index = message.last_index
            into.pre_vote_request.last_term = message.last_term
        case PreVoteReply():
            into.pre_vote_reply.SetInParent()
            into.pre_vote_reply.granted = message.granted
            into.pre_vote_reply.conditional = message.conditional
        case VoteRequest():
            into.vote_request.SetInParent()
            into.vote_request.last_index = message.last_index
            into.vote_request.last_term = message.last_term
            into.vote_request.transfer = message.transfer
        case VoteReply():
            into.vote_reply.SetInParent()
            into.vote_reply.granted = message.granted
            into.vote_reply.conditional = message.conditional
        case InstallSnapshot():
            raise AssertionError("a snapshot leaves as chunks")
        case TimeoutNow():
            into.timeout_now.SetInParent()
        case ReadIndexRequest():
            into.read_index_request.SetInParent()
            into.read_index_request.context = message.context
        case ReadIndexReply():
            into.read_index_reply.SetInParent()
            into.read_index_reply.context = message.context
            if message.read_index is not None:
                into.read_index_reply.read_index = message.read_index
        case SnapshotChunk():
            chunk = into.snapshot_chunk
            _encode_meta(message.meta, chunk.meta)
            chunk.offset = message.offset
            chunk.data = message.data
            chunk.checksum = message.checksum
            chunk.body_checksum = message.body_checksum
            chunk.done = message.done
            chunk.leader = message.leader
        case SnapshotChunkReply():
            answer = into.snapshot_chunk_reply
            answer.snapshot_index = message.snapshot_index
            answer.snapshot_term = message.snapshot_term
            answer.next_offset = message.next_offset
            answer.refused = message.refused[:_REFUSED_CHARACTERS_MAX]
        case SnapshotFetch():
            into.snapshot_fetch.receiver = message.receiver
            into.snapshot_fetch.snapshot_index = message.snapshot_index
            into.snapshot_fetch.snapshot_term = message.snapshot_term
            into.snapshot_fetch.stop = message.stop
            into.snapshot_fetch.fresh = message.fresh
        case StateDigest():
            into.state_digest.index = message.index
            into.state_digest.digest = message.digest
        case SnapshotFetchReply():
            report = into.snapshot_fetch_reply
            report.receiver = message.receiver
            report.snapshot_index = message.snapshot_index
            report.snapshot_term = message.snapshot_term
            report.received_bytes = message.received_bytes
            report.done = message.done
            report.refused = message.refused[:_REFUSED_CHARACTERS_MAX]
        case _:
            assert_never(message)


def _encode_meta(meta: SnapshotMeta, into: pb.SnapshotMeta) -> None:
    into.index = meta.index
    into.term = meta.term
    into.membership = encode_membership(meta.membership)
    into.size_bytes = meta.size_bytes
