from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Consistency(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONSISTENCY_UNSPECIFIED: _ClassVar[Consistency]
    LINEARIZABLE: _ClassVar[Consistency]
    LEASE: _ClassVar[Consistency]
    STALE: _ClassVar[Consistency]
CONSISTENCY_UNSPECIFIED: Consistency
LINEARIZABLE: Consistency
LEASE: Consistency
STALE: Consistency

class Requests(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[Request]
    def __init__(self, requests: _Optional[_Iterable[_Union[Request, _Mapping]]] = ...) -> None: ...

class Replies(_message.Message):
    __slots__ = ("replies",)
    REPLIES_FIELD_NUMBER: _ClassVar[int]
    replies: _containers.RepeatedCompositeFieldContainer[Reply]
    def __init__(self, replies: _Optional[_Iterable[_Union[Reply, _Mapping]]] = ...) -> None: ...

class Request(_message.Message):
    __slots__ = ("id", "hello", "propose", "query", "barrier")
    ID_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    PROPOSE_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    BARRIER_FIELD_NUMBER: _ClassVar[int]
    id: int
    hello: Hello
    propose: Propose
    query: Query
    barrier: Barrier
    def __init__(self, id: _Optional[int] = ..., hello: _Optional[_Union[Hello, _Mapping]] = ..., propose: _Optional[_Union[Propose, _Mapping]] = ..., query: _Optional[_Union[Query, _Mapping]] = ..., barrier: _Optional[_Union[Barrier, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("version", "cluster_id")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    version: int
    cluster_id: str
    def __init__(self, version: _Optional[int] = ..., cluster_id: _Optional[str] = ...) -> None: ...

class Propose(_message.Message):
    __slots__ = ("commands", "together")
    COMMANDS_FIELD_NUMBER: _ClassVar[int]
    TOGETHER_FIELD_NUMBER: _ClassVar[int]
    commands: _containers.RepeatedScalarFieldContainer[bytes]
    together: bool
    def __init__(self, commands: _Optional[_Iterable[bytes]] = ..., together: bool = ...) -> None: ...

class Query(_message.Message):
    __slots__ = ("requests", "consistency", "staleness_max_ms", "timeout_ms")
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    STALENESS_MAX_MS_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedScalarFieldContainer[bytes]
    consistency: Consistency
    staleness_max_ms: int
    timeout_ms: int
    def __init__(self, requests: _Optional[_Iterable[bytes]] = ..., consistency: _Optional[_Union[Consistency, str]] = ..., staleness_max_ms: _Optional[int] = ..., timeout_ms: _Optional[int] = ...) -> None: ...

class Barrier(_message.Message):
    __slots__ = ("timeout_ms",)
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    timeout_ms: int
    def __init__(self, timeout_ms: _Optional[int] = ...) -> None: ...

class Reply(_message.Message):
    __slots__ = ("id", "welcome", "results", "barrier", "failure")
    ID_FIELD_NUMBER: _ClassVar[int]
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    BARRIER_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    id: int
    welcome: Welcome
    results: Results
    barrier: BarrierReached
    failure: Failure
    def __init__(self, id: _Optional[int] = ..., welcome: _Optional[_Union[Welcome, _Mapping]] = ..., results: _Optional[_Union[Results, _Mapping]] = ..., barrier: _Optional[_Union[BarrierReached, _Mapping]] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("version", "cluster_id", "node", "leader", "leader_address", "entry_bytes_max")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    LEADER_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    ENTRY_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    version: int
    cluster_id: str
    node: str
    leader: str
    leader_address: str
    entry_bytes_max: int
    def __init__(self, version: _Optional[int] = ..., cluster_id: _Optional[str] = ..., node: _Optional[str] = ..., leader: _Optional[str] = ..., leader_address: _Optional[str] = ..., entry_bytes_max: _Optional[int] = ...) -> None: ...

class Results(_message.Message):
    __slots__ = ("results", "errors")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedScalarFieldContainer[bytes]
    errors: _containers.RepeatedCompositeFieldContainer[ItemError]
    def __init__(self, results: _Optional[_Iterable[bytes]] = ..., errors: _Optional[_Iterable[_Union[ItemError, _Mapping]]] = ...) -> None: ...

class ItemError(_message.Message):
    __slots__ = ("position", "failure")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    position: int
    failure: Failure
    def __init__(self, position: _Optional[int] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ...) -> None: ...

class BarrierReached(_message.Message):
    __slots__ = ("index",)
    INDEX_FIELD_NUMBER: _ClassVar[int]
    index: int
    def __init__(self, index: _Optional[int] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("code", "message", "node", "address", "kind", "value", "limit", "known")
    class Code(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        UNSPECIFIED: _ClassVar[Failure.Code]
        NOT_LEADER: _ClassVar[Failure.Code]
        BUSY: _ClassVar[Failure.Code]
        UNAVAILABLE: _ClassVar[Failure.Code]
        DEADLINE_EXCEEDED: _ClassVar[Failure.Code]
        TOO_LARGE: _ClassVar[Failure.Code]
        MALFORMED: _ClassVar[Failure.Code]
        STOPPED: _ClassVar[Failure.Code]
        REFUSED: _ClassVar[Failure.Code]
        UNKNOWN_NODE: _ClassVar[Failure.Code]
        OUTCOME_UNKNOWN: _ClassVar[Failure.Code]
        COMMAND_FAILED: _ClassVar[Failure.Code]
        QUERY_FAILED: _ClassVar[Failure.Code]
        INTERNAL: _ClassVar[Failure.Code]
    UNSPECIFIED: Failure.Code
    NOT_LEADER: Failure.Code
    BUSY: Failure.Code
    UNAVAILABLE: Failure.Code
    DEADLINE_EXCEEDED: Failure.Code
    TOO_LARGE: Failure.Code
    MALFORMED: Failure.Code
    STOPPED: Failure.Code
    REFUSED: Failure.Code
    UNKNOWN_NODE: Failure.Code
    OUTCOME_UNKNOWN: Failure.Code
    COMMAND_FAILED: Failure.Code
    QUERY_FAILED: Failure.Code
    INTERNAL: Failure.Code
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    code: Failure.Code
    message: str
    node: str
    address: str
    kind: str
    value: int
    limit: int
    known: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, code: _Optional[_Union[Failure.Code, str]] = ..., message: _Optional[str] = ..., node: _Optional[str] = ..., address: _Optional[str] = ..., kind: _Optional[str] = ..., value: _Optional[int] = ..., limit: _Optional[int] = ..., known: _Optional[_Iterable[str]] = ...) -> None: ...
