"""gRPC's settings on both ends of a connection, in one place because they must fit each other.

Keepalive: a connection whose other end is gone without a word (a cable, a paused machine) is noticed after `KEEPALIVE_SECONDS` + `KEEPALIVE_TIMEOUT_SECONDS`, also when nothing
is sent. A server takes pings that often and no more: a flood of them ends the connection (gRPC's ping strikes). `ping_timeout_ms` is what ends the
connection in newer versions of gRPC, and is a minute by default: without it a client stays with a frozen leader.
"""

from __future__ import annotations

from typing import Any, Final

import grpc.aio

_aio: Any = grpc.aio
"""gRPC's asyncio API without its type stubs, which lag behind it; what is taken from it is typed here."""
KEEPALIVE_SECONDS: Final = 2.0
KEEPALIVE_TIMEOUT_SECONDS: Final = 2.0
_PING_INTERVAL_MS_MIN: Final = 500
_WINDOW_BYTES: Final = 4 * 1024 * 1024
"""Of HTTP/2's flow control. Measured: an envelope of 1 MB and its answer take 1.0 ms with it, 1.8 ms with gRPC's own choice; below 150 kB it makes no difference."""
_METADATA_BYTES_MAX: Final = 8 * 1024

Option = tuple[str, int]


EOF: Final[object] = _aio.EOF
"""What `read` of a stream returns at its end."""


def open_channel(address: str, message_bytes_max: int) -> Any:
    """A channel of its own connection to `address`; its calls take and give bytes."""
    return _aio.insecure_channel(address, options=channel_options(message_bytes_max))


def channel_options(message_bytes_max: int) -> list[Option]:
    """For a client's channel. Each channel has its own connection, name resolution and back-off (no shared subchannels)."""
    return [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_send_message_length", message_bytes_max),
        ("grpc.max_receive_message_length", message_bytes_max),
        ("grpc.keepalive_time_ms", int(KEEPALIVE_SECONDS * 1000)),
        ("grpc.keepalive_timeout_ms", int(KEEPALIVE_TIMEOUT_SECONDS * 1000)),
        ("grpc.http2.ping_timeout_ms", int(KEEPALIVE_TIMEOUT_SECONDS * 1000)),
        ("grpc.keepalive_permit_without_calls", 0),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.lookahead_bytes", _WINDOW_BYTES),
        ("grpc.enable_http_proxy", 0),
        ("grpc.enable_retries", 0),
    ]


def server_options(message_bytes_max: int, *, streams_per_connection_max: int = 256) -> list[Option]:
    """For the node's server. `so_reuseport` 0: otherwise a second server binds the same port and takes half of the connections, silently."""
    return [
        ("grpc.so_reuseport", 0),
        ("grpc.max_send_message_length", message_bytes_max),
        ("grpc.max_receive_message_length", message_bytes_max),
        ("grpc.max_concurrent_streams", streams_per_connection_max),
        ("grpc.max_metadata_size", _METADATA_BYTES_MAX),
        ("grpc.keepalive_time_ms", int(KEEPALIVE_SECONDS * 1000)),
        ("grpc.keepalive_timeout_ms", int(KEEPALIVE_TIMEOUT_SECONDS * 1000)),
        ("grpc.http2.ping_timeout_ms", int(KEEPALIVE_TIMEOUT_SECONDS * 1000)),
        ("grpc.http2.min_ping_interval_without_data_ms", _PING_INTERVAL_MS_MIN),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", _PING_INTERVAL_MS_MIN),
        ("grpc.http2.max_ping_strikes", 3),
        ("grpc.http2.lookahead_bytes", _WINDOW_BYTES),
    ]
