"""The bytes of the key-value store: commands (into the log), their results, queries and their answers.

Little-endian. A command is a proposal's payload; its revision is the index of its entry in the log, so revisions grow, and say which of two writes came
first. Whoever sends a command knows its kind, so a result repeats nothing::

    command
      put     | 1 u8 | key length u16 | key | value ...                                  to the end
      delete  | 2 u8 | key length u16 | key |
      cas     | 3 u8 | key length u16 | key | expectation u8 | revision u64 | length u32 | expected value | value ...
              expectation: 0 the key is absent, 1 it has `revision`, 2 it has `expected value`

    result
      put     | revision u64 |                                 the new one
      delete  | revision u64 |                                 of what was removed; 0: there was nothing
      cas     | swapped u8 | revision u64 |                    the new one if swapped, else the one found (0: absent)

    query
      get     | 1 u8 | key ...
      scan    | 2 u8 | limit u32 | bytes u32 | prefix length u16 | prefix | after ...    keys > after, in the order of their bytes

    answer
      get     | revision u64 | value ...                       revision 0: absent
      scan    | applied u64 | more u8 | item, item, ...        item: | key length u16 | value length u32 | revision u64 | key | value |

Everything is bounded: a key by `KEY_BYTES_MAX`, a value by the cluster's `entry_bytes_max`, an answer to a scan by its limits.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, NamedTuple

from replog.errors import CallerError

KEY_BYTES_MAX: Final = 4096
SCAN_ITEMS_MAX: Final = 10_000
SCAN_BYTES_MAX: Final = 1024 * 1024
"""Keys and values in one answer, bytes; well under a gRPC message. One item larger than this is answered alone."""

PUT: Final = 1
DELETE: Final = 2
CAS: Final = 3
GET: Final = 1
SCAN: Final = 2

_HEAD = struct.Struct("<BH")
_CAS = struct.Struct("<BQI")
_CAS_RESULT = struct.Struct("<BQ")
_SCAN = struct.Struct("<BIIH")
_SCAN_ANSWER = struct.Struct("<QB")
_ITEM = struct.Struct("<HIQ")
HEAD_BYTES: Final = _HEAD.size
ITEM_HEAD_BYTES: Final = _ITEM.size


class InvalidCommand(CallerError):
    """The bytes are no command or query of the key-value store, or break a limit. Correct the request."""


class Expectation(IntEnum):
    """What a compare-and-set compares."""

    ABSENT = 0
    REVISION = 1
    VALUE = 2


class Put(NamedTuple):
    key: bytes
    value: bytes


class Delete(NamedTuple):
    key: bytes


class CompareAndSet(NamedTuple):
    """Set `key` to `value` if it is as expected; `revision` and `expected` count only where `expectation` asks for them."""

    key: bytes
    value: bytes
    expectation: Expectation
    revision: int = 0
    expected: bytes = b""


Command = Put | Delete | CompareAndSet


class CasResult(NamedTuple):
    swapped: bool
    revision: int


class Get(NamedTuple):
    key: bytes


class Scan(NamedTuple):
    """Up to `limit` keys that begin with `prefix` and lie behind `after`, up to `bytes_max` bytes of keys and values."""

    prefix: bytes
    after: bytes = b""
    limit: int = 1000
    bytes_max: int = SCAN_BYTES_MAX


Query = Get | Scan


class Item(NamedTuple):
    key: bytes
    revision: int
    value: bytes


class Page(NamedTuple):
    """Answer to a scan: `applied` is the log index of the state that answered; `more`: go on behind the last key."""

    applied: int
    more: bool
    items: list[Item]


def check_key(key: bytes) -> bytes:
    """Raise `InvalidCommand` unless `key` may be one."""
    if not 1 <= len(key) <= KEY_BYTES_MAX:
        raise InvalidCommand(f"key of {len(key)} bytes; allowed are 1 to {KEY_BYTES_MAX}")
    return key


# --- Commands ---------------------------------------------------------------------------------------------------------


def encode_put(key: bytes, value: bytes) -> bytes:
    return b"%b%b%b" % (_HEAD.pack(PUT, len(check_key(key))), key, value)


def encode_put_head(key: bytes) -> bytes:
    """The bytes of a put in front of its value, of a key that the store holds."""
    return _HEAD.pack(PUT, len(key)) + key


def encode_delete(key: bytes) -> bytes:
    return _HEAD.pack(DELETE, len(check_key(key))) + key


def encode_cas(command: CompareAndSet) -> bytes:
    if not 0 <= command.revision < 2**64:
        raise InvalidCommand(f"revision {command.revision}; allowed are 0 to 2^64 - 1")
    head = _HEAD.pack(CAS, len(check_key(command.key)))
    tail = _CAS.pack(command.expectation, command.revision, len(command.expected))
    return b"".join((head, command.key, tail, command.expected, command.value))


def decode_command(payload: bytes) -> Command:
    """The command in an entry's payload; raises `InvalidCommand`."""
    if len(payload) < HEAD_BYTES:
        raise InvalidCommand(f"command of {len(payload)} bytes; at least {HEAD_BYTES} are needed")
    kind, key_bytes = _HEAD.unpack_from(payload)
    key_end = HEAD_BYTES + key_bytes
    if key_end > len(payload):
        raise InvalidCommand(f"key of {key_bytes} bytes in a command of {len(payload)} bytes")
    key = check_key(payload[HEAD_BYTES:key_end])
    if kind == PUT:
        return Put(key, payload[key_end:])
    if kind == DELETE:
        if key_end != len(payload):
            raise InvalidCommand(f"delete with {len(payload) - key_end} bytes behind its key")
        return Delete(key)
    if kind != CAS:
        raise InvalidCommand(f"command of kind {kind}; known are {PUT} put, {DELETE} delete, {CAS} cas")
    if key_end + _CAS.size > len(payload):
        raise InvalidCommand(f"cas of {len(payload)} bytes is cut short")
    expectation, revision, expected_bytes = _CAS.unpack_from(payload, key_end)
    if expectation > Expectation.VALUE:
        raise InvalidCommand(f"cas expects {expectation}; known are 0 absent, 1 revision, 2 value")
    expected_start = key_end + _CAS.size
    expected_end = expected_start + expected_bytes
    if expected_end > len(payload):
        raise InvalidCommand(f"cas expects a value of {expected_bytes} bytes in a command of {len(payload)} bytes")
    return CompareAndSet(key, payload[expected_end:], Expectation(expectation), revision, payload[expected_start:expected_end])


# --- Results ----------------------------------------------------------------------------------------------------------


def encode_revision(revision: int) -> bytes:
    return revision.to_bytes(8, "little")


def decode_revision(result: bytes) -> int:
    """Result of a put or delete."""
    if len(result) != 8:
        raise InvalidCommand(f"result of {len(result)} bytes; a revision has 8")
    return int.from_bytes(result, "little")


def encode_cas_result(swapped: bool, revision: int) -> bytes:
    return _CAS_RESULT.pack(swapped, revision)


def decode_cas_result(result: bytes) -> CasResult:
    if len(result) != _CAS_RESULT.size:
        raise InvalidCommand(f"result of {len(result)} bytes; that of a cas has {_CAS_RESULT.size}")
    swapped, revision = _CAS_RESULT.unpack(result)
    return CasResult(bool(swapped), revision)


# --- Queries ----------------------------------------------------------------------------------------------------------


def encode_get(key: bytes) -> bytes:
    return bytes((GET,)) + check_key(key)


def encode_scan(scan: Scan) -> bytes:
    """Raises `InvalidCommand` when a limit is out of its range."""
    if not 1 <= scan.limit <= SCAN_ITEMS_MAX:
        raise InvalidCommand(f"scan limit {scan.limit}; allowed are 1 to {SCAN_ITEMS_MAX}")
    if not 1 <= scan.bytes_max <= SCAN_BYTES_MAX:
        raise InvalidCommand(f"scan of {scan.bytes_max} bytes; allowed are 1 to {SCAN_BYTES_MAX}")
    for key in (scan.prefix, scan.after):
        if len(key) > KEY_BYTES_MAX:
            raise InvalidCommand(f"scan bound of {len(key)} bytes; a key has at most {KEY_BYTES_MAX}")
    return b"".join((_SCAN.pack(SCAN, scan.limit, scan.bytes_max, len(scan.prefix)), scan.prefix, scan.after))


def decode_query(request: bytes) -> Query:
    """The query in a client's request; raises `InvalidCommand`."""
    kind = request[0] if request else 0
    if kind == GET:
        return Get(check_key(request[1:]))
    if kind != SCAN:
        raise InvalidCommand(f"query of kind {kind}; known are {GET} get, {SCAN} scan")
    if len(request) < _SCAN.size:
        raise InvalidCommand(f"scan of {len(request)} bytes is cut short; at least {_SCAN.size} are needed")
    _, limit, bytes_max, prefix_bytes = _SCAN.unpack_from(request)
    prefix_end = _SCAN.size + prefix_bytes
    if prefix_end > len(request):
        raise InvalidCommand(f"scan with a prefix of {prefix_bytes} bytes in a query of {len(request)} bytes")
    scan = Scan(request[_SCAN.size : prefix_end], request[prefix_end:], limit, bytes_max)
    encode_scan(scan)  # the same limits hold for whoever sends and whoever answers
    return scan


def encode_item(item: Item) -> bytes:
    return b"".join((_ITEM.pack(len(item.key), len(item.value), item.revision), item.key, item.value))


def encode_found(revision: int, value: bytes) -> bytes:
    """Answer to a get."""
    return encode_revision(revision) + value


def decode_found(answer: bytes, key: bytes) -> Item | None:
    """The item that a get found; None: the key is absent."""
    if len(answer) < 8:
        raise InvalidCommand(f"answer of {len(answer)} bytes; that of a get has at least 8")
    revision = int.from_bytes(answer[:8], "little")
    return Item(key, revision, answer[8:]) if revision else None


def encode_page(page: Page) -> bytes:
    return b"".join((_SCAN_ANSWER.pack(page.applied, page.more), *map(encode_item, page.items)))


def decode_page(answer: bytes) -> Page:
    """Raises `InvalidCommand` when the answer is cut short."""
    if len(answer) < _SCAN_ANSWER.size:
        raise InvalidCommand(f"answer of {len(answer)} bytes; that of a scan has at least {_SCAN_ANSWER.size}")
    applied, more = _SCAN_ANSWER.unpack_from(answer)
    items: list[Item] = []
    at = _SCAN_ANSWER.size
    while at < len(answer):
        item, at = decode_item(answer, at)
        items.append(item)
    return Page(applied, bool(more), items)


def decode_item(buffer: bytes, at: int) -> tuple[Item, int]:
    """The item at offset `at`, and the offset behind it; raises `InvalidCommand` when it is not there whole."""
    if at + ITEM_HEAD_BYTES > len(buffer):
        raise InvalidCommand(f"item at offset {at} of {len(buffer)} bytes is cut short")
    key_bytes, value_bytes, revision = _ITEM.unpack_from(buffer, at)
    key_start = at + ITEM_HEAD_BYTES
    value_start = key_start + key_bytes
    end = value_start + value_bytes
    if end > len(buffer):
        raise InvalidCommand(f"item at offset {at} of {len(buffer)} bytes is cut short")
    return Item(buffer[key_start:value_start], revision, buffer[value_start:end]), end
