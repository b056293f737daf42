"""Raft's messages between nodes: over gRPC (`grpc_transport`) and plain TCP beside it (`direct`), or inside one process
(`inproc`); checked where they come in (`convert`)."""

from replog.transport.grpc_transport import GrpcTransport
from replog.transport.identity import Identity
from replog.transport.inproc import InprocNetwork, InprocTransport
from replog.transport.interface import DecodeFrames, PeerLost, Receive, Transport
from replog.transport.limits import WireLimits

__all__ = [
    "DecodeFrames",
    "GrpcTransport",
    "Identity",
    "InprocNetwork",
    "InprocTransport",
    "PeerLost",
    "Receive",
    "Transport",
    "WireLimits",
]
