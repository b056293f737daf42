from replog.rpc import client_pb2 as _client_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatusReply(_message.Message):
    __slots__ = ("json", "failure")
    JSON_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    json: str
    failure: _client_pb2.Failure
    def __init__(self, json: _Optional[str] = ..., failure: _Optional[_Union[_client_pb2.Failure, _Mapping]] = ...) -> None: ...

class HealthRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class HealthReply(_message.Message):
    __slots__ = ("live", "ready", "reason")
    LIVE_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    live: bool
    ready: bool
    reason: str
    def __init__(self, live: bool = ..., ready: bool = ..., reason: _Optional[str] = ...) -> None: ...

class MemberChange(_message.Message):
    __slots__ = ("kind", "node", "address", "stays_learner")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        UNSPECIFIED: _ClassVar[MemberChange.Kind]
        ADD_LEARNER: _ClassVar[MemberChange.Kind]
        ADD_VOTER: _ClassVar[MemberChange.Kind]
        PROMOTE: _ClassVar[MemberChange.Kind]
        DEMOTE: _ClassVar[MemberChange.Kind]
        REMOVE: _ClassVar[MemberChange.Kind]
        UPDATE_ADDRESS: _ClassVar[MemberChange.Kind]
    UNSPECIFIED: MemberChange.Kind
    ADD_LEARNER: MemberChange.Kind
    ADD_VOTER: MemberChange.Kind
    PROMOTE: MemberChange.Kind
    DEMOTE: MemberChange.Kind
    REMOVE: MemberChange.Kind
    UPDATE_ADDRESS: MemberChange.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    STAYS_LEARNER_FIELD_NUMBER: _ClassVar[int]
    kind: MemberChange.Kind
    node: str
    address: str
    stays_learner: bool
    def __init__(self, kind: _Optional[_Union[MemberChange.Kind, str]] = ..., node: _Optional[str] = ..., address: _Optional[str] = ..., stays_learner: bool = ...) -> None: ...

class ChangeMembershipRequest(_message.Message):
    __slots__ = ("changes", "force")
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedCompositeFieldContainer[MemberChange]
    force: bool
    def __init__(self, changes: _Optional[_Iterable[_Union[MemberChange, _Mapping]]] = ..., force: bool = ...) -> None: ...

class ReplaceMemberRequest(_message.Message):
    __slots__ = ("outgoing", "incoming", "address", "force")
    OUTGOING_FIELD_NUMBER: _ClassVar[int]
    INCOMING_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    outgoing: str
    incoming: str
    address: str
    force: bool
    def __init__(self, outgoing: _Optional[str] = ..., incoming: _Optional[str] = ..., address: _Optional[str] = ..., force: bool = ...) -> None: ...

class TransferLeadershipRequest(_message.Message):
    __slots__ = ("target",)
    TARGET_FIELD_NUMBER: _ClassVar[int]
    target: str
    def __init__(self, target: _Optional[str] = ...) -> None: ...

class SnapshotTakeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AdminReply(_message.Message):
    __slots__ = ("failure", "message", "index")
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    failure: _client_pb2.Failure
    message: str
    index: int
    def __init__(self, failure: _Optional[_Union[_client_pb2.Failure, _Mapping]] = ..., message: _Optional[str] = ..., index: _Optional[int] = ...) -> None: ...
