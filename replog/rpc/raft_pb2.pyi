from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Envelope(_message.Message):
    __slots__ = ("hello", "messages", "goes_direct")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    GOES_DIRECT_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    messages: _containers.RepeatedCompositeFieldContainer[Message]
    goes_direct: bool
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., messages: _Optional[_Iterable[_Union[Message, _Mapping]]] = ..., goes_direct: bool = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("version", "cluster_id", "fingerprint", "members_fingerprint", "source", "target", "incarnation", "epoch", "address", "joining")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    JOINING_FIELD_NUMBER: _ClassVar[int]
    version: int
    cluster_id: str
    fingerprint: str
    members_fingerprint: str
    source: str
    target: str
    incarnation: int
    epoch: int
    address: str
    joining: bool
    def __init__(self, version: _Optional[int] = ..., cluster_id: _Optional[str] = ..., fingerprint: _Optional[str] = ..., members_fingerprint: _Optional[str] = ..., source: _Optional[str] = ..., target: _Optional[str] = ..., incarnation: _Optional[int] = ..., epoch: _Optional[int] = ..., address: _Optional[str] = ..., joining: bool = ...) -> None: ...

class Notice(_message.Message):
    __slots__ = ("accepted", "refused")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    accepted: Accepted
    refused: Refused
    def __init__(self, accepted: _Optional[_Union[Accepted, _Mapping]] = ..., refused: _Optional[_Union[Refused, _Mapping]] = ...) -> None: ...

class Accepted(_message.Message):
    __slots__ = ("version", "node", "incarnation", "epoch", "joining", "direct_port", "direct_token")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    JOINING_FIELD_NUMBER: _ClassVar[int]
    DIRECT_PORT_FIELD_NUMBER: _ClassVar[int]
    DIRECT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    version: int
    node: str
    incarnation: int
    epoch: int
    joining: bool
    direct_port: int
    direct_token: bytes
    def __init__(self, version: _Optional[int] = ..., node: _Optional[str] = ..., incarnation: _Optional[int] = ..., epoch: _Optional[int] = ..., joining: bool = ..., direct_port: _Optional[int] = ..., direct_token: _Optional[bytes] = ...) -> None: ...

class Refused(_message.Message):
    __slots__ = ("field", "found", "expected", "incarnation")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    field: str
    found: str
    expected: str
    incarnation: int
    def __init__(self, field: _Optional[str] = ..., found: _Optional[str] = ..., expected: _Optional[str] = ..., incarnation: _Optional[int] = ...) -> None: ...

class Message(_message.Message):
    __slots__ = ("term", "append_entries", "append_entries_reply", "heartbeat", "heartbeat_reply", "pre_vote_request", "pre_vote_reply", "vote_request", "vote_reply", "timeout_now", "read_index_request", "read_index_reply", "snapshot_chunk", "snapshot_chunk_reply", "snapshot_fetch", "snapshot_fetch_reply", "state_digest")
    TERM_FIELD_NUMBER: _ClassVar[int]
    APPEND_ENTRIES_FIELD_NUMBER: _ClassVar[int]
    APPEND_ENTRIES_REPLY_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_REPLY_FIELD_NUMBER: _ClassVar[int]
    PRE_VOTE_REQUEST_FIELD_NUMBER: _ClassVar[int]
    PRE_VOTE_REPLY_FIELD_NUMBER: _ClassVar[int]
    VOTE_REQUEST_FIELD_NUMBER: _ClassVar[int]
    VOTE_REPLY_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_NOW_FIELD_NUMBER: _ClassVar[int]
    READ_INDEX_REQUEST_FIELD_NUMBER: _ClassVar[int]
    READ_INDEX_REPLY_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_CHUNK_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_CHUNK_REPLY_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FETCH_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FETCH_REPLY_FIELD_NUMBER: _ClassVar[int]
    STATE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    term: int
    append_entries: AppendEntries
    append_entries_reply: AppendEntriesReply
    heartbeat: Heartbeat
    heartbeat_reply: HeartbeatReply
    pre_vote_request: Campaign
    pre_vote_reply: Vote
    vote_request: Campaign
    vote_reply: Vote
    timeout_now: TimeoutNow
    read_index_request: ReadIndexRequest
    read_index_reply: ReadIndexReply
    snapshot_chunk: SnapshotChunk
    snapshot_chunk_reply: SnapshotChunkReply
    snapshot_fetch: SnapshotFetch
    snapshot_fetch_reply: SnapshotFetchReply
    state_digest: StateDigest
    def __init__(self, term: _Optional[int] = ..., append_entries: _Optional[_Union[AppendEntries, _Mapping]] = ..., append_entries_reply: _Optional[_Union[AppendEntriesReply, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., heartbeat_reply: _Optional[_Union[HeartbeatReply, _Mapping]] = ..., pre_vote_request: _Optional[_Union[Campaign, _Mapping]] = ..., pre_vote_reply: _Optional[_Union[Vote, _Mapping]] = ..., vote_request: _Optional[_Union[Campaign, _Mapping]] = ..., vote_reply: _Optional[_Union[Vote, _Mapping]] = ..., timeout_now: _Optional[_Union[TimeoutNow, _Mapping]] = ..., read_index_request: _Optional[_Union[ReadIndexRequest, _Mapping]] = ..., read_index_reply: _Optional[_Union[ReadIndexReply, _Mapping]] = ..., snapshot_chunk: _Optional[_Union[SnapshotChunk, _Mapping]] = ..., snapshot_chunk_reply: _Optional[_Union[SnapshotChunkReply, _Mapping]] = ..., snapshot_fetch: _Optional[_Union[SnapshotFetch, _Mapping]] = ..., snapshot_fetch_reply: _Optional[_Union[SnapshotFetchReply, _Mapping]] = ..., state_digest: _Optional[_Union[StateDigest, _Mapping]] = ...) -> None: ...

class AppendEntries(_message.Message):
    __slots__ = ("prev_index", "prev_term", "committed_index", "frames")
    PREV_INDEX_FIELD_NUMBER: _ClassVar[int]
    PREV_TERM_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_INDEX_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    prev_index: int
    prev_term: int
    committed_index: int
    frames: bytes
    def __init__(self, prev_index: _Optional[int] = ..., prev_term: _Optional[int] = ..., committed_index: _Optional[int] = ..., frames: _Optional[bytes] = ...) -> None: ...

class AppendEntriesReply(_message.Message):
    __slots__ = ("match_index", "rejected_prev_index", "hint_index", "hint_term", "last_index")
    MATCH_INDEX_FIELD_NUMBER: _ClassVar[int]
    REJECTED_PREV_INDEX_FIELD_NUMBER: _ClassVar[int]
    HINT_INDEX_FIELD_NUMBER: _ClassVar[int]
    HINT_TERM_FIELD_NUMBER: _ClassVar[int]
    LAST_INDEX_FIELD_NUMBER: _ClassVar[int]
    match_index: int
    rejected_prev_index: int
    hint_index: int
    hint_term: int
    last_index: int
    def __init__(self, match_index: _Optional[int] = ..., rejected_prev_index: _Optional[int] = ..., hint_index: _Optional[int] = ..., hint_term: _Optional[int] = ..., last_index: _Optional[int] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("committed_index", "round")
    COMMITTED_INDEX_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    committed_index: int
    round: int
    def __init__(self, committed_index: _Optional[int] = ..., round: _Optional[int] = ...) -> None: ...

class HeartbeatReply(_message.Message):
    __slots__ = ("round",)
    ROUND_FIELD_NUMBER: _ClassVar[int]
    round: int
    def __init__(self, round: _Optional[int] = ...) -> None: ...

class Campaign(_message.Message):
    __slots__ = ("last_index", "last_term", "transfer")
    LAST_INDEX_FIELD_NUMBER: _ClassVar[int]
    LAST_TERM_FIELD_NUMBER: _ClassVar[int]
    TRANSFER_FIELD_NUMBER: _ClassVar[int]
    last_index: int
    last_term: int
    transfer: bool
    def __init__(self, last_index: _Optional[int] = ..., last_term: _Optional[int] = ..., transfer: bool = ...) -> None: ...

class Vote(_message.Message):
    __slots__ = ("granted", "conditional")
    GRANTED_FIELD_NUMBER: _ClassVar[int]
    CONDITIONAL_FIELD_NUMBER: _ClassVar[int]
    granted: bool
    conditional: bool
    def __init__(self, granted: bool = ..., conditional: bool = ...) -> None: ...

class SnapshotMeta(_message.Message):
    __slots__ = ("index", "term", "membership", "size_bytes")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    MEMBERSHIP_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    index: int
    term: int
    membership: bytes
    size_bytes: int
    def __init__(self, index: _Optional[int] = ..., term: _Optional[int] = ..., membership: _Optional[bytes] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class TimeoutNow(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReadIndexRequest(_message.Message):
    __slots__ = ("context",)
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    context: int
    def __init__(self, context: _Optional[int] = ...) -> None: ...

class ReadIndexReply(_message.Message):
    __slots__ = ("context", "read_index")
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    READ_INDEX_FIELD_NUMBER: _ClassVar[int]
    context: int
    read_index: int
    def __init__(self, context: _Optional[int] = ..., read_index: _Optional[int] = ...) -> None: ...

class SnapshotChunk(_message.Message):
    __slots__ = ("meta", "offset", "data", "checksum", "body_checksum", "done", "leader")
    META_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    BODY_CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    meta: SnapshotMeta
    offset: int
    data: bytes
    checksum: int
    body_checksum: int
    done: bool
    leader: str
    def __init__(self, meta: _Optional[_Union[SnapshotMeta, _Mapping]] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ..., checksum: _Optional[int] = ..., body_checksum: _Optional[int] = ..., done: bool = ..., leader: _Optional[str] = ...) -> None: ...

class SnapshotChunkReply(_message.Message):
    __slots__ = ("snapshot_index", "snapshot_term", "next_offset", "refused")
    SNAPSHOT_INDEX_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_TERM_FIELD_NUMBER: _ClassVar[int]
    NEXT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    snapshot_index: int
    snapshot_term: int
    next_offset: int
    refused: str
    def __init__(self, snapshot_index: _Optional[int] = ..., snapshot_term: _Optional[int] = ..., next_offset: _Optional[int] = ..., refused: _Optional[str] = ...) -> None: ...

class SnapshotFetch(_message.Message):
    __slots__ = ("receiver", "snapshot_index", "snapshot_term", "stop", "fresh")
    RECEIVER_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_INDEX_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_TERM_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    FRESH_FIELD_NUMBER: _ClassVar[int]
    receiver: str
    snapshot_index: int
    snapshot_term: int
    stop: bool
    fresh: bool
    def __init__(self, receiver: _Optional[str] = ..., snapshot_index: _Optional[int] = ..., snapshot_term: _Optional[int] = ..., stop: bool = ..., fresh: bool = ...) -> None: ...

class StateDigest(_message.Message):
    __slots__ = ("index", "digest")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    index: int
    digest: bytes
    def __init__(self, index: _Optional[int] = ..., digest: _Optional[bytes] = ...) -> None: ...

class SnapshotFetchReply(_message.Message):
    __slots__ = ("receiver", "snapshot_index", "snapshot_term", "received_bytes", "done", "refused")
    RECEIVER_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_INDEX_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_TERM_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    receiver: str
    snapshot_index: int
    snapshot_term: int
    received_bytes: int
    done: bool
    refused: str
    def __init__(self, receiver: _Optional[str] = ..., snapshot_index: _Optional[int] = ..., snapshot_term: _Optional[int] = ..., received_bytes: _Optional[int] = ..., done: bool = ..., refused: _Optional[str] = ...) -> None: ...
