"""Which of gRPC's two ways to wait for sockets a process of this product uses; must be said before gRPC is imported.

Since 1.73 or so gRPC's Python library waits in its *event engine*: a thread of it finds the socket readable, hands over to the completion queue's thread, and that one wakes
asyncio. With the engine off the completion queue's thread waits for the socket itself: one hop between threads less for each message. Measured with 1.85, two processes and
one stream, a message and its answer: 150 us and 180 us of CPU with it, 85 us and 85 us without; a lone writer on three nodes on two cores: 890 to 910 commands/s with it, 990 to 1,260 without.

Experiments of gRPC come and go with its versions, and one that it does not know is an error line on every start; so it is done for the versions it was measured with, and for no other.
Whoever has set GRPC_EXPERIMENTS keeps his setting. A process that embeds replog decides for itself: ``GRPC_EXPERIMENTS=-event_engine_client,-event_engine_listener``.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from importlib.metadata import PackageNotFoundError, version
from typing import Final

VARIABLE: Final = "GRPC_EXPERIMENTS"
WITHOUT_ENGINE: Final = "-event_engine_client,-event_engine_listener"
_KNOWN_MIN: Final = (1, 73)
_KNOWN_MAX: Final = (1, 85)


def choose(environment: MutableMapping[str, str], grpc_version: str | None = None) -> None:
    """Set `VARIABLE` in `environment`, unless it is set or this version of gRPC (default: the installed one) was not measured."""
    if VARIABLE in environment:
        return
    if grpc_version is None:
        try:
            grpc_version = version("grpcio")
        except PackageNotFoundError:
            return
    major, minor = (*grpc_version.split("."), "", "")[:2]
    if major.isdecimal() and minor.isdecimal() and _KNOWN_MIN <= (int(major), int(minor)) <= _KNOWN_MAX:
        environment[VARIABLE] = WITHOUT_ENGINE
