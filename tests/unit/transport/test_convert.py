"""The gateway: what is sent comes back equal, and every rule that a peer can break is named."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replog.codec import encode_membership
from replog.config import ClusterConfig
from replog.errors import MalformedMessage
from replog.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    EntryRange,
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
from replog.storage.frames import EntryFrameCodec
from replog.transport.convert import Gateway
from replog.transport.encode import encode_envelope, encode_message, size_of
from replog.transport.limits import WireLimits
from replog.types import INDEX_MAX, TERM_MAX, EntryFrames, EntryKind, Index, Member, Membership, SnapshotMeta, Term

CLUSTER = ClusterConfig(cluster_id="test")
CODEC = EntryFrameCodec.of(CLUSTER)
LIMITS = WireLimits.of(CLUSTER)
GATEWAY = Gateway("a", "b", LIMITS, CODEC.decode)
MEMBERSHIP = Membership(voters=("a", "b"), members={"a": Member(address="h:1"), "b": Member(address="h:2", incarnation=7)})
META = SnapshotMeta(index=10, term=2, membership=MEMBERSHIP, size_bytes=100)
HEAD: dict[str, Any] = {"source": "a", "target": "b", "term": 5}


def append(first_index: Index, payloads: list[bytes], *, prev_term: Term, entry_term: Term = 5, term: Term = 5) -> AppendEntries:
    frames = CODEC.encode(first_index, entry_term, EntryKind.COMMAND, payloads)
    entries = EntryRange(first_index=first_index, last_index=frames.last_index, terms=frames.terms, size_bytes=frames.size_bytes)
    return AppendEntries(
        source="a",
        target="b",
        term=term,
        prev_index=first_index - 1,
        prev_term=prev_term,
        committed_index=0,
        entries=entries,
        frames=frames,
    )


MESSAGES: list[Message] = [
    AppendEntries(**HEAD, prev_index=9, prev_term=4, committed_index=8),
    AppendEntries(**HEAD, prev_index=0, prev_term=0, committed_index=0),
    AppendEntriesReply(**HEAD, match_index=12, last_index=12),
    AppendEntriesReply(**HEAD, rejected_prev_index=9, hint_index=7, hint_term=3, last_index=20),
    AppendEntriesReply(**HEAD, rejected_prev_index=0),
    Heartbeat(**HEAD, committed_index=8, round=3),
    Heartbeat(**HEAD, committed_index=0),
    HeartbeatReply(**HEAD, round=3),
    HeartbeatReply(**HEAD),
    PreVoteRequest(**HEAD, last_index=9, last_term=4),
    PreVoteRequest(**HEAD, last_index=0, last_term=0),
    PreVoteReply(**HEAD, granted=True),
    PreVoteReply(source="a", target="b", term=0, granted=False),
    VoteRequest(**HEAD, last_index=9, last_term=4, transfer=True),
    VoteReply(**HEAD, granted=False),
    TimeoutNow(**HEAD),
    ReadIndexRequest(**HEAD, context=77),
    ReadIndexReply(**HEAD, context=77, read_index=0),
    ReadIndexReply(**HEAD, context=77, read_index=None),
    SnapshotChunk(**HEAD, meta=META, offset=0, data=b"x" * 60, checksum=2**32 - 1, body_checksum=1, done=False),
    SnapshotChunk(**HEAD, meta=META, offset=60, data=b"x" * 40, checksum=5, body_checksum=1, done=True),
    SnapshotChunkReply(**HEAD, snapshot_index=10, snapshot_term=2, next_offset=60),
    SnapshotChunkReply(**HEAD, snapshot_index=10, snapshot_term=2, next_offset=0, refused="old"),
    SnapshotChunk(**HEAD, meta=META, offset=0, data=b"x" * 100, checksum=5, body_checksum=1, done=True, leader="c"),
    SnapshotFetch(**HEAD, receiver="c", snapshot_index=10, snapshot_term=2),
    SnapshotFetch(**HEAD, receiver="c", snapshot_index=10, snapshot_term=2, stop=True),
    SnapshotFetchReply(**HEAD, receiver="c", snapshot_index=10, snapshot_term=2, received_bytes=60),
    SnapshotFetchReply(**HEAD, receiver="c", snapshot_index=10, snapshot_term=2, received_bytes=100, done=True),
    SnapshotFetchReply(**HEAD, receiver="c", refused="none here"),
    SnapshotFetch(**HEAD, receiver="a", snapshot_index=10, snapshot_term=2, fresh=True),
    StateDigest(**HEAD, index=4096, digest=b"12345678"),
    VoteReply(**HEAD, granted=False, conditional=True),
    PreVoteReply(**HEAD, granted=False, conditional=True),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_comes_back_equal(message: Message) -> None:
    assert GATEWAY.decode(encode_envelope([message])) == [message]


def test_an_envelope_keeps_the_order_of_its_messages() -> None:
    assert GATEWAY.decode(encode_envelope(MESSAGES)) == MESSAGES


def test_entries_come_back_with_the_very_same_bytes() -> None:
    sent = append(10, [b"one", b"", b"three"], prev_term=4)

    [received] = GATEWAY.decode(encode_envelope([sent]))

    assert isinstance(received, AppendEntries)
    assert received.entries == sent.entries
    assert isinstance(received.frames, EntryFrames)
    assert received.frames.buffer == sent.frames.buffer
    assert received.frames.payloads == [b"one", b"", b"three"]
    assert (received.frames.first_index, received.frames.last_index) == (10, 12)


def test_membership_entries_are_found_among_the_others() -> None:
    before = CODEC.encode(3, 2, EntryKind.COMMAND, [b"x", b"y"])
    change = CODEC.encode(5, 3, EntryKind.MEMBERSHIP, [encode_membership(MEMBERSHIP)])
    after = CODEC.encode(6, 3, EntryKind.NO_OP, [b""])
    message = pb.Envelope(
        messages=[
            pb.Message(
                term=5, append_entries=pb.AppendEntries(prev_index=2, prev_term=1, frames=before.buffer + change.buffer + after.buffer)
            )
        ]
    )

    [received] = GATEWAY.decode(message.SerializeToString())

    assert isinstance(received, AppendEntries)
    assert received.entries is not None
    assert received.entries.memberships == ((5, MEMBERSHIP),)
    assert received.entries.terms == ((3, 2), (5, 3))


def wire(**content: Any) -> bytes:
    return pb.Envelope(messages=[pb.Message(**content)]).SerializeToString()


def frames(first_index: Index, term: Term, count: int = 1) -> bytes:
    return CODEC.encode(first_index, term, EntryKind.COMMAND, [b"x"] * count).buffer


def chunk(**fields: Any) -> pb.SnapshotChunk:
    meta = pb.SnapshotMeta(index=10, term=2, membership=encode_membership(MEMBERSHIP), size_bytes=100)
    value = pb.SnapshotChunk(meta=meta, offset=0, data=b"x" * 100, checksum=1, body_checksum=1, done=True)
    for name, field in fields.items():
        owner, _, leaf = name.rpartition("__")
        setattr(getattr(value, owner) if owner else value, leaf, field)
    return value


TOO_LARGE = 2**64 - 1
BROKEN: dict[str, tuple[bytes, str]] = {
    "term 2^64-1": (wire(term=TOO_LARGE, heartbeat=pb.Heartbeat()), f"term: found {TOO_LARGE}.*at most {TERM_MAX}"),
    "term 0 in a heartbeat": (wire(term=0, heartbeat=pb.Heartbeat()), "heartbeat: term: found 0"),
    "term 0 in a vote request": (wire(term=0, vote_request=pb.Campaign()), "vote_request: term: found 0"),
    "term 0 in an acknowledgement": (wire(term=0, append_entries_reply=pb.AppendEntriesReply()), "term: found 0"),
    "commit 2^63": (wire(term=1, heartbeat=pb.Heartbeat(committed_index=2**63)), f"committed_index: found {2**63}"),
    "round 2^63": (wire(term=1, heartbeat_reply=pb.HeartbeatReply(round=2**63)), "round: found"),
    "prev 2^63": (wire(term=1, append_entries=pb.AppendEntries(prev_index=2**63, prev_term=1)), "prev_index: found"),
    "prev without term": (wire(term=1, append_entries=pb.AppendEntries(prev_index=3)), "prev_term: found 0.*prev_index.*3"),
    "term without prev": (wire(term=1, append_entries=pb.AppendEntries(prev_term=1)), "prev_term: found 1"),
    "prev term above the message's": (
        wire(term=1, append_entries=pb.AppendEntries(prev_index=1, prev_term=2)),
        "prev_term: found 2.*at most the message's term, 1",
    ),
    "append's commit 2^63": (
        wire(term=1, append_entries=pb.AppendEntries(committed_index=2**63)),
        f"committed_index: found {2**63}.*at most {INDEX_MAX}",
    ),
    "entry term above the message's": (
        wire(term=1, append_entries=pb.AppendEntries(frames=frames(1, 2))),
        "entry 1 of term 2.*at most the message's term, 1",
    ),
    "entry term below prev's": (
        wire(term=3, append_entries=pb.AppendEntries(prev_index=1, prev_term=3, frames=frames(2, 2))),
        "entry 2 of term 2.*prev_term, 3",
    ),
    "entry of term 0": (wire(term=3, append_entries=pb.AppendEntries(frames=frames(1, 0))), "."),
    "entries that do not follow prev": (wire(term=3, append_entries=pb.AppendEntries(prev_index=4, prev_term=1, frames=frames(6, 2))), "."),
    "entries with a gap": (wire(term=3, append_entries=pb.AppendEntries(frames=frames(1, 2) + frames(3, 2))), "."),
    "entries of falling term": (wire(term=3, append_entries=pb.AppendEntries(frames=frames(1, 2) + frames(2, 1))), "."),
    "frames cut off": (wire(term=3, append_entries=pb.AppendEntries(frames=frames(1, 2, 3)[:-1])), "."),
    "frames with a flipped bit": (
        wire(term=3, append_entries=pb.AppendEntries(frames=frames(1, 2)[:-1] + bytes([frames(1, 2)[-1] ^ 1]))),
        ".",
    ),
    "frames of rubbish": (wire(term=3, append_entries=pb.AppendEntries(frames=b"rubbish" * 9)), "."),
    "entries behind the last index": (
        wire(term=3, append_entries=pb.AppendEntries(prev_index=INDEX_MAX, prev_term=1, frames=b"x")),
        f"prev_index: found {INDEX_MAX}",
    ),
    "frames over the limit": (
        wire(term=3, append_entries=pb.AppendEntries(frames=bytes(LIMITS.frames_bytes_max + 1))),
        f"frames: found {LIMITS.frames_bytes_max + 1} bytes, allowed: at most {LIMITS.frames_bytes_max}",
    ),
    "a membership that is none": (
        wire(term=3, append_entries=pb.AppendEntries(frames=CODEC.encode(1, 1, EntryKind.MEMBERSHIP, [b"{}"]).buffer)),
        "membership",
    ),
    "a membership with a voter that nobody knows": (
        wire(term=2, snapshot_chunk=chunk(meta__membership=encode_membership(Membership(voters=("z",))))),
        "nothing of 'z'",
    ),
    "a membership with a name that is none": (
        wire(term=2, snapshot_chunk=chunk(meta__membership=encode_membership(Membership(members={"../z": Member(address="h:1")})))),
        "found '../z'",
    ),
    "a membership with a voter that learns": (
        wire(
            term=2,
            snapshot_chunk=chunk(
                meta__membership=encode_membership(Membership(voters=("z",), learners=("z",), members={"z": Member(address="h:1")}))
            ),
        ),
        "'z', a voter",
    ),
    "match 2^63": (wire(term=1, append_entries_reply=pb.AppendEntriesReply(match_index=2**63)), "match_index: found"),
    "hint behind what was rejected": (
        wire(term=1, append_entries_reply=pb.AppendEntriesReply(rejected_prev_index=3, hint_index=4)),
        "hint_index: found 4.*rejected_prev_index, 3",
    ),
    "campaign with a term and no entry": (wire(term=2, vote_request=pb.Campaign(last_term=1)), "last_term: found 1"),
    "campaign with entries of a later term": (wire(term=2, pre_vote_request=pb.Campaign(last_index=1, last_term=3)), "last_term: found 3"),
    "read context 2^63": (wire(term=1, read_index_request=pb.ReadIndexRequest(context=2**63)), "context: found"),
    "read index 2^63": (wire(term=1, read_index_reply=pb.ReadIndexReply(context=1, read_index=2**63)), "read_index: found"),
    "empty chunk in the middle": (wire(term=2, snapshot_chunk=chunk(data=b"", done=False)), "data: found 0 bytes"),
    "chunk beyond the body": (wire(term=2, snapshot_chunk=chunk(offset=50)), "within the size, 100"),
    "chunk with an offset of 2^64-1": (wire(term=2, snapshot_chunk=chunk(offset=TOO_LARGE)), "within the size, 100"),
    "last chunk that does not say so": (wire(term=2, snapshot_chunk=chunk(done=False)), "done: found False at 100"),
    "last chunk too early": (wire(term=2, snapshot_chunk=chunk(data=b"x")), "done: found True at 1"),
    "snapshot of index 0": (wire(term=2, snapshot_chunk=chunk(meta__index=0)), "meta.index: found 0"),
    "snapshot of index 2^63": (wire(term=2, snapshot_chunk=chunk(meta__index=2**63)), "meta.index: found"),
    "snapshot of a later term": (wire(term=2, snapshot_chunk=chunk(meta__term=3)), "meta_term: found 3"),
    "snapshot with a membership of rubbish": (wire(term=2, snapshot_chunk=chunk(meta__membership=b"[")), "membership"),
    "snapshot with a huge membership": (wire(term=2, snapshot_chunk=chunk(meta__membership=bytes(70_000))), "meta.membership: found 70000"),
    "snapshot of no size known": (wire(term=2, snapshot_chunk=chunk(meta__size_bytes=2**63)), "meta.size_bytes: found"),
    "chunk over the limit": (
        wire(term=2, snapshot_chunk=chunk(meta__size_bytes=2**40, data=bytes(LIMITS.chunk_bytes_max + 1), done=False)),
        "data: found",
    ),
    "long reason": (wire(term=2, snapshot_chunk_reply=pb.SnapshotChunkReply(refused="x" * 2_000)), "refused: found 2000"),
    "offset 2^63": (wire(term=2, snapshot_chunk_reply=pb.SnapshotChunkReply(next_offset=2**63)), "next_offset: found"),
    "short digest": (wire(term=2, state_digest=pb.StateDigest(index=1, digest=b"x")), "digest: found 1 bytes, allowed: 8 bytes"),
    "fetch for nobody": (wire(term=2, snapshot_fetch=pb.SnapshotFetch()), "receiver: found ''"),
    "fetch for a path": (wire(term=2, snapshot_fetch=pb.SnapshotFetch(receiver="../x")), "receiver: found '../x'"),
    "report for a path": (wire(term=2, snapshot_fetch_reply=pb.SnapshotFetchReply(receiver="../x")), "receiver: found '../x'"),
    "leader that is a path": (wire(term=2, snapshot_chunk=chunk(leader="../x")), "leader: found '../x'"),
    "fetch for the one asked": (wire(term=2, snapshot_fetch=pb.SnapshotFetch(receiver="b")), "receiver: found b"),
    "no content": (wire(term=1), "without a content"),
    "a second hello": (pb.Envelope(hello=pb.Hello(source="a")).SerializeToString(), "hello from a after"),
    "bytes that are no protobuf": (b"\xff" * 40, "does not parse"),
    "protobuf cut off": (encode_envelope(MESSAGES)[:-3], "does not parse"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_rule_is_named(name: str) -> None:
    data, pattern = BROKEN[name]
    with pytest.raises(MalformedMessage, match=pattern):
        GATEWAY.decode(data)


def test_a_snapshot_never_travels_as_one_message() -> None:
    with pytest.raises(AssertionError):
        encode_message(InstallSnapshot(**HEAD, meta=META), pb.Message())


def test_entries_without_their_frames_are_our_own_mistake() -> None:
    message = AppendEntries(
        **HEAD, prev_index=0, prev_term=0, committed_index=0, entries=EntryRange(first_index=1, last_index=1, terms=((1, 5),))
    )
    with pytest.raises(AssertionError):
        encode_envelope([message])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_messages_or_malformed(data: bytes) -> None:
    try:
        messages = GATEWAY.decode(data)
    except MalformedMessage:
        return
    assert all(message.source == "a" and message.target == "b" for message in messages)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_flipped_byte_gives_messages_in_range_or_malformed(data: st.DataObject) -> None:
    whole = bytearray(encode_envelope([append(10, [b"one", b"two"], prev_term=4), *MESSAGES]))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    try:
        messages = GATEWAY.decode(bytes(whole))
    except MalformedMessage:
        return
    assert all(0 <= message.term <= TERM_MAX for message in messages)


def test_the_size_of_a_message_counts_what_is_large() -> None:
    assert size_of(append(1, [b"x" * 1000], prev_term=0)) > 1000
    assert size_of(SnapshotChunk(**HEAD, meta=META, offset=0, data=b"x" * 60, checksum=0, body_checksum=1, done=False)) > 60
    assert size_of(TimeoutNow(**HEAD)) < 1000
