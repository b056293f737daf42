"""What the transport counts, for the metrics."""

from __future__ import annotations


class Counters:
    """What the transport counts, all peers together, since its start."""

    __slots__ = (
        "bytes_received",
        "bytes_sent",
        "connects",
        "direct_connects",
        "envelopes_received",
        "envelopes_sent",
        "malformed",
        "messages_dropped",
        "messages_received",
        "messages_sent",
        "refused",
    )

    def __init__(self) -> None:
        self.bytes_received = 0
        self.bytes_sent = 0
        self.connects = 0
        self.direct_connects = 0
        self.envelopes_received = 0
        self.envelopes_sent = 0
        self.malformed = 0
        self.messages_dropped = 0
        self.messages_received = 0
        self.messages_sent = 0
        self.refused = 0
