"""What a message goes through between two nodes: nothing but what the receiving gateway adds, or the whole way through the bytes.

Most runs hand messages over as values, which is quick; some send each through the encoder and the checking gateway of the transport, so that those
are under the same weather, and a message that a correct node sends and the gateway refuses is a finding.
"""

from __future__ import annotations

from dataclasses import replace

from replog.codec import decode_membership
from replog.config import ClusterConfig
from replog.errors import MalformedMessage
from replog.raft.messages import AppendEntries, Message
from replog.storage.frames import EntryFrameCodec
from replog.testing.ledger import PropertyBroken
from replog.transport.convert import Gateway
from replog.transport.encode import encode_envelope
from replog.transport.limits import WireLimits
from replog.types import EntryKind

_MEMBERSHIP = int(EntryKind.MEMBERSHIP)


def received_by_value(message: Message) -> Message:
    """The message with what the gateway reads out of its frames."""
    if type(message) is not AppendEntries or message.entries is None or _MEMBERSHIP not in message.frames.kinds:
        return message
    frames = message.frames
    memberships = tuple(
        (frames.first_index + position, decode_membership(frames.payloads[position]))
        for position, kind in enumerate(frames.kinds)
        if kind == _MEMBERSHIP
    )
    return replace(message, entries=replace(message.entries, memberships=memberships))


class Wire:
    """The way through the bytes, for one cluster."""

    def __init__(self, cluster: ClusterConfig) -> None:
        self._limits = WireLimits.of(cluster)
        self._codec = EntryFrameCodec.of(cluster)

    def received(self, message: Message) -> Message:
        """The message as the other side decodes it."""
        gateway = Gateway(message.source, message.target, self._limits, self._codec.decode)
        try:
            (decoded,) = gateway.decode(encode_envelope([message]))
        except MalformedMessage as error:
            raise PropertyBroken("gateway", f"a message of {message.source} is refused by {message.target}: {error}") from error
        return decoded
