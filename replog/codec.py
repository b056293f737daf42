"""The one byte format of what Raft keeps: the data of an entry, and memberships.

::

    data of a WAL entry that Raft writes (little-endian)
    | term u64 | index u64 | kind u8 | payload ... |                 17 bytes before the payload

The index stands in the entry, although its place in the log implies it, so that an entry found at the wrong place is recognised. Around the data
goes the log's own frame (`replog.wal.format`).

A membership (payload of a MEMBERSHIP entry; also in snapshot headers and on the wire) is canonical JSON: readable in a hex dump, extensible, and rare
enough that its size does not matter.
"""

from __future__ import annotations

import json
import struct
from typing import Any, Final

from replog.errors import MalformedMessage
from replog.types import Entry, EntryKind, Member, Membership

ENTRY_HEAD: Final = struct.Struct("<QQB")
ENTRY_HEAD_BYTES: Final = ENTRY_HEAD.size


def decode_entry(data: bytes) -> Entry:
    """The entry in the data of one WAL entry; raises `MalformedMessage` when it is too short or of an unknown kind."""
    if len(data) < ENTRY_HEAD_BYTES:
        raise MalformedMessage(f"entry data of {len(data)} bytes; at least {ENTRY_HEAD_BYTES} are needed")
    term, index, kind = ENTRY_HEAD.unpack_from(data)
    try:
        return Entry(index, term, EntryKind(kind), bytes(data[ENTRY_HEAD_BYTES:]))
    except ValueError:
        raise MalformedMessage(f"entry {index} of term {term} has kind {kind}; known are 1 to {max(EntryKind)}") from None


def encode_membership(membership: Membership) -> bytes:
    """Canonical JSON: the same membership gives the same bytes on every node."""
    value = {
        "voters": list(membership.voters),
        "voters_outgoing": list(membership.voters_outgoing),
        "learners": list(membership.learners),
        "learners_next": list(membership.learners_next),
        "auto_leave": membership.auto_leave,
        "members": {
            node: [member.address, member.incarnation, *([True] if member.stays_learner else [])]
            for node, member in membership.members.items()
        },
        "epoch": membership.epoch,
    }
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def decode_membership(payload: bytes) -> Membership:
    """Raises `MalformedMessage` naming the field that has the wrong shape."""
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        raise MalformedMessage(f"membership of {len(payload)} bytes is not JSON") from None
    if not isinstance(value, dict):
        raise MalformedMessage("membership is not a JSON object")
    members_value = value.get("members")
    if not isinstance(members_value, dict):
        raise MalformedMessage("membership: members is not an object")
    members: dict[str, Member] = {}
    for node in sorted(members_value):
        pair = members_value[node]
        if not (
            isinstance(pair, list) and len(pair) >= 2 and isinstance(pair[0], str) and type(pair[1]) is int and pair[2:] in ([], [True])
        ):
            raise MalformedMessage(f"membership: members.{node} is not [address, incarnation] or [address, incarnation, true]")
        members[node] = Member(address=pair[0], incarnation=pair[1], stays_learner=len(pair) == 3)
    auto_leave, epoch = value.get("auto_leave"), value.get("epoch")
    if not isinstance(auto_leave, bool) or type(epoch) is not int:
        raise MalformedMessage("membership: auto_leave is not a boolean or epoch is not an integer")
    return Membership(
        voters=_names(value, "voters"),
        voters_outgoing=_names(value, "voters_outgoing"),
        learners=_names(value, "learners"),
        learners_next=_names(value, "learners_next"),
        auto_leave=auto_leave,
        members=members,
        epoch=epoch,
    )


def _names(value: dict[str, Any], name: str) -> tuple[str, ...]:
    names = value.get(name)
    if not isinstance(names, list) or not all(isinstance(item, str) and item for item in names):
        raise MalformedMessage(f"membership: {name} is not a list of node ids")
    if sorted(set(names)) != names:
        raise MalformedMessage(f"membership: {name} is not sorted without repetition")
    return tuple(names)
